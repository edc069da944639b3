import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.metrics import SLICES, bound_share, slice_accuracy
from tests.rows import make_prediction

ROWS = st.lists(
    st.builds(
        lambda width, height, ink, right: make_prediction(
            width=width, height=height, ink_fraction=ink, aspect_ratio=width / height, prediction="i" if right else "v"
        ),
        st.integers(1, 4),
        st.integers(1, 4),
        st.sampled_from([0.0, 0.1, 0.2, 0.5]) | st.floats(0, 1),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


@given(ROWS, st.integers(1, 6))
@settings(deadline=None, max_examples=50)
def test_every_image_is_in_one_slice_of_each_scalar(rows: list[dict[str, float]], bins: int) -> None:
    table = pd.DataFrame(rows)
    table["pixels"] = table["width"] * table["height"]
    slices = slice_accuracy(table.drop(columns="pixels"), bins)
    assert [entry["accuracy"] for entry in slices] == sorted(entry["accuracy"] for entry in slices)
    for scalar in SLICES:
        parts = [entry for entry in slices if entry["scalar"] == scalar]
        assert 1 <= len(parts) <= bins
        assert sum(part["images"] for part in parts) == len(table)
        for part in parts:
            values = table[scalar]
            is_inside = (values <= part["to"]) & ((values > part["from"]) | (part["from"] == values.min()))
            is_right = table["label"][is_inside] == table["prediction"][is_inside]
            assert (part["images"], part["accuracy"]) == (is_inside.sum(), is_right.mean())
            assert part["accuracy_interval"] == bound_share(int(is_right.sum()), int(is_inside.sum()))


@given(st.integers(1, 5000), st.floats(0, 1))
@settings(deadline=None)
def test_bounds_are_those_of_wilson(images: int, share: float) -> None:
    right = round(images * share)
    z, p = 1.959963984540054, right / images
    middle = (p + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * math.sqrt(p * (1 - p) / images + z**2 / (4 * images**2))
    assert bound_share(right, images) == pytest.approx([middle - half, middle + half], abs=1e-9)
