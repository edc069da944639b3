import hashlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.curate.moving import LEAST_OF_CLASS, choose_moving
from components.curate.reading import SourceImage
from components.shared.formats.examples import CopyOrder

CLASSES = ["i", "v"]


def image(filename: str, content: str = "") -> SourceImage:
    split, label, _ = filename.split("/")
    sha256 = hashlib.sha256((content or filename).encode()).hexdigest()
    return SourceImage(
        filename, sha256, split, label, ".png", CopyOrder(0, False, 0), aspect_ratio=1, ink_fraction=0, contrast=0
    )


def moving(
    images: list[SourceImage], share: float = 0.5, seed: int = 1, groups: dict[str, str] | None = None
) -> set[str]:
    def group(image: SourceImage) -> str:
        return (groups or {}).get(image.filename, image.sha256)

    return choose_moving(images, share=share, seed=seed, group=group, disputed=())


VAL = [image(f"val/{name}/{number}.png") for name in CLASSES for number in range(200)]
TRAIN = [image(f"train/{name}/{number}.png") for name in CLASSES for number in range(20)]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_about_the_share_of_each_class_moves(share: float, seed: int) -> None:
    moved = Counter(name.split("/")[1] for name in moving([*VAL, *TRAIN], share, seed))
    deviation = (200 * share * (1 - share)) ** 0.5
    assert all(abs(moved[name] - 200 * share) < 3 * deviation for name in CLASSES)
    assert moved.total() == len(moving(VAL, share, seed))


@pytest.mark.parametrize(("share", "parts"), [(0.5, 2), (2 / 3, 3), (0.8, 5), (0.9, 10)])
@pytest.mark.parametrize("first", [0, 1, 4])
def test_consecutive_seeds_keep_each_image_once(share: float, parts: int, first: int) -> None:
    everything = {each.filename for each in VAL}
    kept = Counter(name for seed in range(first, first + parts) for name in everything - moving(VAL, share, seed))
    assert kept == Counter(everything)


def test_nothing_moves_without_a_share() -> None:
    assert moving(VAL, 0.0) == set()


def test_others_do_not_change_an_images_choice() -> None:
    some = [each for number, each in enumerate(VAL) if number % 3]
    assert moving(some) == moving(VAL) & {each.filename for each in some}


@pytest.mark.parametrize("of_class", [1, LEAST_OF_CLASS, LEAST_OF_CLASS + 1, 60])
def test_a_class_keeps_at_least_what_measures_it(of_class: int) -> None:
    few = [image(f"val/x/{number}.png") for number in range(of_class)]
    left = {each.filename for each in few} - moving([*few, *VAL], 0.99)
    assert len(left) == min(LEAST_OF_CLASS, of_class)


def test_duplicates_of_train_and_of_test_and_of_two_labels_stay() -> None:
    """Otherwise a picture would be on both sides, or one that a person is to look at would be learned."""
    chosen = sorted(moving(VAL))[:4]
    same = {each.filename: each for each in VAL}
    by_bytes = TRAIN[0]._replace(sha256=same[chosen[0]].sha256)
    of_test = image("test/i/0.png")._replace(sha256=same[chosen[1]].sha256)
    groups = {chosen[2]: "near train", TRAIN[1].filename: "near train"}
    groups |= {chosen[3]: "two labels", image("val/v/same.png").filename: "two labels"}
    images = [*VAL, *TRAIN[1:], by_bytes, of_test, image("val/v/same.png")]
    assert moving(images, groups=groups) == moving(VAL) - set(chosen)


def test_what_people_disagree_about_stays() -> None:
    first = min(moving(VAL))
    sha256 = next(each.sha256 for each in VAL if each.filename == first)
    found = choose_moving(VAL, share=0.5, seed=1, group=lambda each: each.sha256, disputed={sha256})
    assert found == moving(VAL) - {first}


@st.composite
def versions(draw: st.DrawFn) -> tuple[list[SourceImage], dict[str, str]]:
    """Images of which many are alike: of the same bytes, or of one group."""
    places = st.tuples(st.sampled_from(["train", "val", "val", "val", "test"]), st.sampled_from(CLASSES))
    rows = draw(st.lists(st.tuples(places, st.integers(0, 30)), max_size=80))
    images = [image(f"{split}/{label}/{n}.png", str(content)) for n, ((split, label), content) in enumerate(rows)]
    near = draw(st.lists(st.integers(0, 12), min_size=31, max_size=31))  # the group of each content
    return images, {each.filename: f"{near[content]}" for each, (_, content) in zip(images, rows, strict=True)}


@given(versions(), st.floats(0, 1, exclude_max=True), st.integers(0, 5), st.randoms())
def test_duplicates_are_on_one_side_and_enough_of_each_class_stays(
    version: tuple[list[SourceImage], dict[str, str]], share: float, seed: int, lottery: Any
) -> None:
    images, groups = version
    moved = moving(images, share, seed, groups)
    assert moved == moving(lottery.sample(images, len(images)), share, seed, groups)
    assert all(name.startswith("val/") for name in moved)

    def find(split: str) -> set[str]:
        """What is in a split of the new version: groups and bytes; of train only if something moves there."""
        inside = [each for each in images if ("train" if each.filename in moved else each.split) == split]
        return {groups[each.filename] for each in inside} | {each.sha256 for each in inside}

    for name in moved:
        assert groups[name] not in find("val")
        assert next(each.sha256 for each in images if each.filename == name) not in find("test")
    for label in CLASSES:
        val = [each for each in images if (each.split, each.label) == ("val", label)]
        left = [each for each in val if each.filename not in moved]
        assert len(left) >= min(len(val), LEAST_OF_CLASS)
