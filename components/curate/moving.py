"""Which images of val move to train, where the user allows it.

Pictures lie on a circle, each where its bytes put it. Val keeps those on an arc, and the seed says where the arc
begins: consecutive seeds have arcs side by side, so that 1 / (1 - share) of them keep each image once. So an image's
choice depends on no other image, unless it has near duplicates or its class would have too few left.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable

from components.curate.reading import SourceImage
from components.shared.formats.examples import CURATED_SPLITS

LEAST_OF_CLASS = 10  # images of each class that the move leaves in val, or all; of fewer, one is over 0.1 of the recall


def choose_moving(
    images: Iterable[SourceImage],
    *,
    share: float,
    seed: int,
    group: Callable[[SourceImage], str],
    disputed: Collection[str],
) -> set[str]:
    """Chooses the images of val that move to train, all copies of a file together.

    Images stay that have a copy or a near duplicate in train, or a copy in test, since then these would be the same on
    both sides; copies with several labels, of which a person is to choose; and what people disagree about. Near
    duplicates stay in val as well: if a later version dropped one of them, a comparison, which knows by the bytes what
    a model learned from, would measure on a picture that the model knows.

    Args:
        images: All images of the data version.
        share: About which share of the images of val is to move, 0 to below 1.
        seed: Which part of val stays.
        group: Names the group of duplicates of an image of train or val.
        disputed: The sha256 of the images about which people disagree.

    Returns:
        The file names of the images.
    """
    images = list(images)
    fixed = {image.sha256 for image in images if image.split == "test"}.union(disputed)
    groups = defaultdict(list)
    for image in images:
        if image.split in CURATED_SPLITS:
            groups[group(image)].append(image)
    candidates = []  # with their distance from the beginning of the arc
    for twins in groups.values():
        distance = (_place(twins[0]) - seed * (1 - share)) % 1
        if distance >= 1 - share and _may_move(twins, fixed):
            candidates.append((distance, twins))
    left = Counter(image.label for image in images if image.split == "val")
    moving: set[str] = set()
    for _, twins in sorted(candidates, reverse=True):  # if some must stay, those next to the end of the arc
        label = twins[0].label
        if left[label] - len(twins) >= LEAST_OF_CLASS:
            left[label] -= len(twins)
            moving.update(twin.filename for twin in twins)
    return moving


def _may_move(twins: list[SourceImage], fixed: Collection[str]) -> bool:
    is_alike = len({(twin.split, twin.label, twin.sha256) for twin in twins}) == 1
    return is_alike and twins[0].split == "val" and twins[0].sha256 not in fixed


def _place(image: SourceImage) -> float:
    """Returns the place of a picture on the circle, 0 to 1, by its content; other divisions by content are others."""
    return int.from_bytes(hashlib.sha256(f"val_to_train:{image.sha256}".encode()).digest()[:6], "big") / 2**48
