"""Which images of a data set without splits are for training, and which measure.

The content of an image alone decides, so that it never changes sides when others are added or removed, unless its class
would have no image in a split.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from components.shared.duplicates import MOST_NEAR, Fingerprint, choose_content, group
from components.shared.errors import UserError
from components.shared.formats.examples import SPLITS, Quarantined

MEASURING = ("test", "val")  # in this order they take the images with the smallest draws


class Shares(NamedTuple):
    """How images without a split are divided."""

    val: float = 0.2  # share of the images, 0 .. 1
    test: float = 0.0
    seed: int = 0


USUAL_SHARES = Shares()


class Inspected(NamedTuple):
    """What is known of an image that is to be divided."""

    name: str  # its path in the data set
    class_name: str
    sha256: str  # of the file, in hex
    fingerprint: Fingerprint


@dataclass(frozen=True)
class Division:
    """How the images were divided."""

    splits: dict[str, str] = field(default_factory=dict)  # of each image by its path; empty if it is left out
    duplicates: list[Quarantined] = field(default_factory=list)  # left out
    filled: list[str] = field(default_factory=list)  # split/class for which chance alone would have left no image

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Division":
        """Reverses dataclasses.asdict."""
        return cls(**{**content, "duplicates": [Quarantined(**entry) for entry in content["duplicates"]]})


def check_shares(shares: Shares) -> None:
    """Checks that something is left for train.

    Raises:
        UserError: It is not, or a share is no share.
    """
    if not 0 < shares.val < 1:
        raise UserError(f"val_share is {shares.val:g}; it must be above 0 and below 1.")
    if not 0 <= shares.test < 1:
        raise UserError(f"test_share is {shares.test:g}; it must be 0 or more and below 1.")
    if shares.val + shares.test >= 1:
        raise UserError(f"val_share and test_share are {shares.val + shares.test:g} together; leave a share for train.")


def draw(sha256: str, seed: int) -> float:
    """A number from 0 to 1 by the content of an image."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{sha256}".encode()).digest()[:6], "big") / 2**48


def divide(images: Sequence[Inspected], shares: Shares, content: str) -> Division:
    """Divides images into train, val and perhaps test.

    Each class gets about its shares. An image of train that is the same picture as one of val or test is left out, as
    is one of val that is the same as one of test; so none is moved for another's sake. Only if a class would have no
    image in a split, the one whose draw comes nearest is taken. And a picture with several labels, of which nobody
    knows yet which is right, goes to train with all of them rather than be left out with one, perhaps the right one:
    there the audit shows it, and no model is measured on it.

    Args:
        images: The images.
        shares: The shares of val and test, and the seed.
        content: What the images are, one of CONTENTS, by which the same picture is known.

    Returns:
        The split of each.

    Raises:
        UserError: A class has too few different images, or nobody has said what the images are and near duplicates
            are found at a rate that no collection has, since then the measure is wrong for them.
    """
    images = sorted(images, key=lambda image: (image.sha256, image.name))
    draws = {image.sha256: draw(image.sha256, shares.seed) for image in images}
    of_class = defaultdict(set)
    for image in images:
        of_class[image.class_name].add(image.sha256)
    chosen: dict[tuple[str, str], str] = {}  # the split by class and content
    filled = []
    for name in sorted(of_class):
        splits, missing = _divide_class(name, {sha256: draws[sha256] for sha256 in of_class[name]}, shares)
        chosen |= {(name, sha256): split for sha256, split in splits.items()}
        filled += [f"{split}/{name}" for split in missing]
    placed = {image.name: chosen[image.class_name, image.sha256] for image in images}
    fingerprints = [image.fingerprint for image in images]
    ink = choose_content(content, fingerprints)
    groups = _list_groups(images, group(fingerprints, ink))
    if content == "auto":
        _check_likeness(groups, len(images), ink=ink)
    placed |= {image.name: "train" for twins in groups if _is_contested(twins, placed) for image in twins}
    duplicates = _leave_out_duplicates(groups, placed)
    return Division(placed | {entry.path: "" for entry in duplicates}, duplicates, filled)


def _divide_class(name: str, draws: dict[str, float], shares: Shares) -> tuple[dict[str, str], list[str]]:
    """The split of each content of a class, and the splits that had none by the draws alone."""
    wanted = [split for split in SPLITS if split != "test" or shares.test]
    if len(draws) < len(wanted):
        count = "1 different image" if len(draws) == 1 else f"{len(draws)} different images"
        raise UserError(
            f"the class {name} has {count}, but {', '.join(wanted[:-1])} and {wanted[-1]} need one each; add images of "
            "it, or remove the class."
        )
    splits = {sha256: _choose_split(number, shares) for sha256, number in draws.items()}
    filled: list[str] = []
    for split in ("test", "val", "train"):
        if split in wanted and split not in splits.values():
            donor = max(wanted, key=lambda other: list(splits.values()).count(other))
            candidates = [sha256 for sha256 in sorted(draws, key=draws.__getitem__) if splits[sha256] == donor]
            splits[candidates[-1 if split == "train" else 0]] = split
            filled.append(split)
    return splits, filled


def _choose_split(number: float, shares: Shares) -> str:
    if number < shares.test:
        return "test"
    return "val" if number < shares.test + shares.val else "train"


def _list_groups(images: Sequence[Inspected], numbers: Sequence[int]) -> list[list[Inspected]]:
    """The images that show one picture, for each picture; `numbers` are those of their groups."""
    groups = defaultdict(list)
    for image, number in zip(images, numbers, strict=True):
        groups[number].append(image)
    return list(groups.values())


def _check_likeness(groups: list[list[Inspected]], images: int, *, ink: bool) -> None:
    """Refuses near duplicates at a rate that no collection has, of which many would be left out."""
    near = [twins for twins in groups if len({image.sha256 for image in twins}) > 1]
    count = sum(map(len, near))
    if count <= MOST_NEAR * images:
        return
    names = sorted({image.sha256: image.name for image in min(near, key=len)}.values())
    if ink:
        advice = "set content to pictures if they are different pictures, or to ink if they are the same"
    else:
        advice = (
            "if they are different pictures, divide them yourself into train/ and val/ or by a column split; if they"
            " are the same, set content to pictures"
        )
    raise UserError(
        f"{count:,} of {images:,} images look like another one saved again or moved, such as {names[0]} and {names[1]},"
        " more than collections have, and those of train that look like one of val would be left out; look at them,"
        f" and {advice}."
    )


def _is_contested(twins: list[Inspected], placed: dict[str, str]) -> bool:
    """Whether images of one picture have several labels, and would be in several splits."""
    return len({image.class_name for image in twins}) > 1 and len({placed[image.name] for image in twins}) > 1


def _leave_out_duplicates(groups: list[list[Inspected]], placed: dict[str, str]) -> list[Quarantined]:
    """The images that show the same picture as one of val or test."""
    left_out = []
    for twins in groups:
        names = [image.name for image in twins]
        splits = {placed[name] for name in names}
        kept = next((split for split in MEASURING if split in splits), "train")
        one = min(name for name in names if placed[name] == kept)
        left_out += [
            Quarantined(name, f"left out of {placed[name]}: the same picture is in {kept}, as {one}")
            for name in names
            if placed[name] != kept
        ]
    return sorted(left_out, key=lambda entry: entry.path)
