from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.curate.balance import count_copies, divide, read_hardness
from components.curate.planning import Outcome
from components.curate.reading import SourceImage
from components.shared.errors import UserError
from components.shared.formats.examples import CopyOrder
from components.shared.formats.predictions import write_predictions
from tests.rows import make_prediction

CLASSES = ["i", "v"]


def images(split: str, name: str, count: int, aspect_ratio: float = 1.0) -> list[SourceImage]:
    return [
        SourceImage(
            f"{split}/{name}/{aspect_ratio}-{number}.png",
            f"{number:064x}",
            split,
            name,
            ".png",
            CopyOrder(0, False, 0),
            aspect_ratio=aspect_ratio,
            ink_fraction=0.1,
            contrast=0.3,
        )
        for number in range(count)
    ]


def write_mistakes(folder: Path, val: list[SourceImage], wrong: int, split: str = "val") -> str:
    """Predictions of these images, the first `wrong` of which are mistakes."""
    rows = [
        make_prediction(
            split=split,
            filename=image.filename,
            sha256=image.sha256,
            label=image.label,
            prediction=CLASSES[1 - CLASSES.index(image.label)] if number < wrong else image.label,
            aspect_ratio=image.aspect_ratio,
            ink_fraction=image.ink_fraction,
            contrast=image.contrast,
        )
        for number, image in enumerate(val)
    ]
    path = folder / "predictions"
    write_predictions(pd.DataFrame(rows), path)
    return str(path)


def stay(val: list[SourceImage]) -> list[Outcome]:
    return [Outcome(image, image.split, image.label) for image in val]


def test_classes_become_equal_where_val_has_no_mistakes(tmp_path: Path) -> None:
    val = [*images("val", "i", 10), *images("val", "v", 10)]
    train = [Outcome(image, "train", image.label) for image in [*images("train", "i", 7), *images("train", "v", 20)]]
    hardness = read_hardness(write_mistakes(tmp_path, val, 0), stay(val), CLASSES)
    found = count_copies(train, 61, hardness=hardness, hard_weight=1.0)
    counts = Counter(outcome.label for outcome in train)
    counts.update({name: sum(found[o.image.filename] for o in train if o.label == name) for name in CLASSES})
    assert sorted(counts.values()) == [30, 31]
    assert {found[outcome.image.filename] for outcome in train if outcome.label == "i"} <= {3, 4}


def test_a_class_that_val_gets_wrong_becomes_larger(tmp_path: Path) -> None:
    val = [*images("val", "v", 100), *images("val", "i", 100)]
    train = [Outcome(image, "train", image.label) for image in [*images("train", "i", 50), *images("train", "v", 50)]]
    hardness = read_hardness(write_mistakes(tmp_path, val, 50), stay(val), CLASSES)
    assert hardness.classes == pytest.approx({"v": 52.5 / 110, "i": 2.5 / 110})
    for weight in (0.0, 1.0, 3.0):
        found = count_copies(train, 1000, hardness=hardness, hard_weight=weight)
        v, i = (50 + sum(found[o.image.filename] for o in train if o.label == name) for name in ("v", "i"))
        assert v + i == 1000
        assert v / i == pytest.approx((1 + weight * 52.5 / 110) / (1 + weight * 2.5 / 110), abs=0.01)


def test_a_wrong_label_in_val_is_no_mistake_of_the_model(tmp_path: Path) -> None:
    val = [*images("val", "v", 3), *images("val", "i", 3)]
    path = write_mistakes(tmp_path, val, 2)  # of which one gets the label that the model sees, and one goes
    outcomes = [Outcome(val[0], "val", "i", "person"), Outcome(val[1], "", "v", "person"), *stay(val[2:])]
    assert read_hardness(path, outcomes, CLASSES).classes == {"i": 0.0, "v": 0.0}


def test_all_images_are_alike_where_none_of_val_stays(tmp_path: Path) -> None:
    val = images("val", "v", 3)
    path = write_mistakes(tmp_path, val, 2)
    hardness = read_hardness(path, [Outcome(image, "", "v", "person") for image in val], CLASSES)
    assert hardness.classes == {"i": 0.0, "v": 0.0}
    assert hardness.estimate_error(images("train", "i", 1)[0]) == 0.0


def test_images_of_a_slice_that_val_gets_wrong_are_augmented_more(tmp_path: Path) -> None:
    val = [*images("val", "i", 100, aspect_ratio=3.0), *images("val", "i", 100, aspect_ratio=1.0)]
    train = [*images("train", "i", 10, aspect_ratio=2.9), *images("train", "i", 10, aspect_ratio=0.9)]
    outcomes = [Outcome(image, "train", "i") for image in train]
    hardness = read_hardness(write_mistakes(tmp_path, val, 100), stay(val), CLASSES)
    wide, narrow = hardness.estimate_error(train[0]), hardness.estimate_error(train[-1])
    assert wide - narrow > 0.25  # one of three scalars, and nearly all of its errors
    found = count_copies(outcomes, 1000, hardness=hardness, hard_weight=1.0)
    ratio = (10 + sum(found[image.filename] for image in train[:10])) / (
        10 + sum(found[image.filename] for image in train[10:])
    )
    assert ratio == pytest.approx((1 + wide) / (1 + narrow), abs=0.01)
    assert set(count_copies(outcomes, 1000, hardness=hardness, hard_weight=0.0).values()) == {49}


def test_order_of_the_images_changes_nothing(tmp_path: Path) -> None:
    val = images("val", "i", 10)
    train = [Outcome(image, "train", "i") for image in images("train", "i", 7)]
    hardness = read_hardness(write_mistakes(tmp_path, val, 3), stay(val), CLASSES)
    assert count_copies(train, 24, hardness=hardness, hard_weight=1.0) == count_copies(
        train[::-1], 24, hardness=hardness, hard_weight=1.0
    )


def test_predictions_of_other_images_are_refused(tmp_path: Path) -> None:
    val = images("val", "i", 10)
    changed = [*val[:9], val[9]._replace(sha256="f" * 64)]
    for rows, split in ((val[:9], "val"), (changed, "val"), (val, "train")):
        path = write_mistakes(tmp_path, rows, 0, split)
        with pytest.raises(UserError, match="not predictions of the val images of these examples"):
            read_hardness(path, stay(val), CLASSES)


@pytest.mark.parametrize("content", [None, "", "split,filename\nval,x\n", "\0\1"])
def test_predictions_that_are_none_are_refused(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "predictions"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match="cannot be read") as caught:
        read_hardness(str(path), stay(images("val", "i", 1)), CLASSES)
    assert str(path) in str(caught.value)


@given(st.lists(st.tuples(st.floats(0.1, 100), st.integers(1, 30)), min_size=1, max_size=12), st.integers(0, 1000))
def test_shares_add_up_and_none_is_below_its_least(parts: list[tuple[float, int]], total: int) -> None:
    weights, least = [list(column) for column in zip(*parts, strict=True)]
    found = divide(total, weights, least)
    assert sum(found) == max(total, sum(least))
    assert all(number >= low for number, low in zip(found, least, strict=True))
    raised = [(number, weight) for number, weight, low in zip(found, weights, least, strict=True) if number > low]
    for number, weight in raised:
        for other, other_weight in raised:
            assert abs(number / weight - other / other_weight) <= 1 / weight + 1 / other_weight
