from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from components.compare.data_difference import compare_data
from components.shared.formats.comparison import DIFFERENCES

CLASSES = ["i", "v", "x"]
ANY = settings(deadline=None, max_examples=25)
Image = tuple[str, str, str, str]  # sha256, split, label, file


def table(images: Sequence[Image]) -> pd.DataFrame:
    rows = [(f"{split}/{label}/{file}", sha256, split, label) for sha256, split, label, file in images]
    return pd.DataFrame(rows, columns=["filename", "sha256", "split", "label"])


def totals(before: Sequence[Image], after: Sequence[Image]) -> dict[str, int]:
    found = compare_data(table(before), table(after), CLASSES)
    return {name: found[name] for name in DIFFERENCES if found[name]}


A = ("a", "train", "i", "a.png")
B = ("b", "train", "v", "b.png")
C = ("c", "val", "x", "c.png")


def test_same_images_are_no_difference() -> None:
    assert totals([A, B, C], [C, A, B]) == {}


def test_each_change_is_counted() -> None:
    assert totals([A, B, C], [A, B]) == {"dropped": 1}
    assert totals([A, B], [A, B, C]) == {"added": 1}
    assert totals([A, B], [A, ("b", "train", "x", "b.png")]) == {"relabelled": 1}
    assert totals([A, B], [A, ("b", "val", "v", "b.png")]) == {"moved": 1}
    assert totals([A, B], [A, ("b", "val", "x", "b.png")]) == {"relabelled": 1, "moved": 1}
    assert totals([A, B], [A, ("other", "train", "v", "b.png")]) == {"altered": 1}
    assert totals([B], [("other", "train", "v", "b.jpg")]) == {"altered": 1}
    assert totals([A], [B, C]) == {"dropped": 1, "added": 2}


def test_another_name_is_no_difference() -> None:
    assert totals([A, B], [A, ("b", "train", "v", "renamed.png")]) == {}


def test_duplicates_are_matched_one_to_one() -> None:
    twice = [A, ("a", "train", "i", "a2.png")]
    assert totals(twice, [A]) == {"dropped": 1}
    assert totals([A], twice) == {"added": 1}
    assert totals(twice, [A, ("a", "train", "v", "a2.png")]) == {"relabelled": 1}
    conflicting = [A, ("a", "train", "v", "a2.png")]
    assert totals(conflicting, [A]) == {"dropped": 1}
    assert totals(conflicting, twice) == {"relabelled": 1}
    assert totals(conflicting, [("a", "val", "v", "a2.png")]) == {"dropped": 1, "moved": 1}
    assert totals(conflicting, [("a", "train", "x", "a2.png")]) == {"dropped": 1, "relabelled": 1}


def test_augmented_images_are_counted_apart() -> None:
    drawn = [("p", "train", "i", "a.augmented-0.png"), ("q", "train", "i", "a.augmented-1.png")]
    assert totals([A], [A, *drawn]) == {"augmented": 2}
    assert totals([A], [A, ("t", "test", "i", "a.augmented-1.png")]) == {"added": 1}  # curate makes none for test
    assert totals([A, *drawn], [A]) == {}
    assert totals([A, *drawn], [A, ("r", "train", "i", "a.augmented-0.png")]) == {"augmented": 1}
    images = compare_data(table([A, drawn[0]]), table([A, B, *drawn]), CLASSES)["images"]
    assert images == {
        "train": {
            "i": {"before": 1, "after": 1, "augmented_before": 1, "augmented_after": 2},
            "v": {"before": 0, "after": 1, "augmented_before": 0, "augmented_after": 0},
            "x": dict.fromkeys(("before", "after", "augmented_before", "augmented_after"), 0),
        }
    }


def test_relabels_come_by_frequency() -> None:
    before = [(f"{n}", "train", "i", f"{n}.png") for n in range(5)]
    after = [(f"{n}", "train", label, f"{n}.png") for n, label in enumerate("xvixi")]
    found = compare_data(table(before), table(after), CLASSES)
    assert found["relabels"] == [{"from": "i", "to": "x", "images": 2}, {"from": "i", "to": "v", "images": 1}]
    assert found["relabelled"] == 3


def test_a_relabelled_image_is_found_by_its_name_though_a_copy_had_the_label() -> None:
    """Curate relabels x.png, and drops the copy y.png; or it must add the hash to the name, as x.png is taken."""
    sha256 = "0123456789abcdef"
    before = [(sha256, "train", "i", "x.png"), (sha256, "train", "v", "y.png"), ("b", "train", "v", "x.png")]
    assert totals(before[:2], [(sha256, "train", "v", "x.png")]) == {"relabelled": 1, "dropped": 1}
    for name in ("x.01234567.png", "x.01234567-2.png"):
        assert totals(before, [(sha256, "train", "v", name), before[2]]) == {"relabelled": 1, "dropped": 1}
    assert totals(before[:2], before[1:2]) == {"dropped": 1}


def test_what_curate_adds_to_a_name_does_not_hide_the_image() -> None:
    """Curate crops two images of one name, the second as x.<start of its sha256 before>.png."""
    before = [("a", "train", "i", "x.jpg"), ("b", "train", "i", "x.png")]
    after = [("c", "train", "i", "x.png"), ("d", "train", "i", "x.0123abcd.png")]
    assert totals(before, after) == {"altered": 2}


def versions(name: str) -> st.SearchStrategy[list[Image]]:
    """Images with few different bytes, so that many occur several times."""
    kinds = st.tuples(st.sampled_from("ab"), st.sampled_from(["train", "val", "test"]), st.sampled_from(CLASSES))
    return st.lists(kinds, max_size=9).map(lambda rows: [(*row, f"{name}{n}.png") for n, row in enumerate(rows)])


def fewest_relabels(before: list[Image], after: list[Image]) -> int:
    """By trying every way to match equal bytes one to one."""
    found = 0
    for sha256 in "ab":
        labels = [np.array([image[2] for image in images if image[0] == sha256]) for images in (before, after)]
        cost = labels[0][:, None] != labels[1][None, :]
        found += int(cost[linear_sum_assignment(cost)].sum())
    return found


@ANY
@given(versions("old"), versions("new"))
def test_any_versions(before: list[Image], after: list[Image]) -> None:
    found = compare_data(table(before), table(after), CLASSES)
    back = compare_data(table(after), table(before), CLASSES)
    assert (back["dropped"], back["added"], back["relabelled"]) == (
        found["added"],
        found["dropped"],
        found["relabelled"],
    )
    counts = [Counter(image[0] for image in images) for images in (before, after)]
    assert found["dropped"] == (counts[0] - counts[1]).total()
    assert found["added"] == (counts[1] - counts[0]).total()
    assert found["relabelled"] == fewest_relabels(before, after) == sum(each["images"] for each in found["relabels"])
    assert found["altered"] == found["augmented"] == 0
    for when, images in (("before", before), ("after", after)):
        expected: Any = Counter((image[1], image[2]) for image in images)
        listed = {
            (split, label): each[when] for split, labels in found["images"].items() for label, each in labels.items()
        }
        assert +Counter(listed) == expected
