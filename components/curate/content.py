"""What the pictures of a data version are, and how they may be flipped: the images tell, where no setting says it."""

import numpy as np
from numpy.typing import NDArray

from components.curate.augmentation import Augmentation
from components.curate.reading import SourceImage
from components.shared.duplicates import (
    HUE_SIDE,
    SIDE,
    WEIGHTS,
    Fingerprint,
    choose_content,
    fingerprint,
)
from components.shared.formats.examples import ExampleSet
from components.shared.formats.names import NUMERALS
from components.shared.pictures import decode_rgb

# Roman numerals that a flip leaves what they are, in the directions of the flip.
NUMERAL_FLIPS = {name: ["horizontal"] for name in ("i", "ii", "iii", "v")} | {"x": ["horizontal", "vertical"]}
LOOKED_AT = 1_000  # images of train, those with the smallest hashes
LEAST_IMAGES = 5  # of a class, to say anything about it
WORSE = 0.1  # share of a class by which fewer flipped pictures than unflipped may look like their class


def look_at_images(examples: ExampleSet, images: list[SourceImage], augmentation: Augmentation) -> Augmentation:
    """Fills in what the settings of augmentation leave to the images.

    Args:
        examples: The data version.
        images: Its images, without those that an earlier curation made from others.
        augmentation: The settings.

    Returns:
        The settings with ink or pictures as `content`, and `flips` for the classes that it does not name: those of
        Roman numerals, and of pictures horizontal where a class's flipped pictures look like it.

    Raises:
        UserError: An image cannot be decoded.
    """
    chosen = sorted((image for image in images if image.split == "train"), key=lambda image: image.sha256)[:LOOKED_AT]
    prints = _take_fingerprints(examples, {image.filename for image in chosen})
    ink = choose_content(augmentation.content, prints.values())
    labels = np.array([image.label for image in chosen])
    if ink:
        flips = flip_numerals({image.label for image in images})
    else:
        flips = find_flips([prints[image.filename] for image in chosen], labels)
    return augmentation._replace(content="ink" if ink else "pictures", flips={**flips, **augmentation.flips})


def _take_fingerprints(examples: ExampleSet, wanted: set[str]) -> dict[str, Fingerprint]:
    found = {}
    for example in examples.read("train"):
        if example.filename in wanted:
            found[example.filename] = fingerprint(decode_rgb(example.encoded, example.filename))
    return found


def flip_numerals(classes: set[str]) -> dict[str, list[str]]:
    """The directions of the classes that stay what they are when flipped; none, unless all are Roman numerals."""
    if not {name.lower() for name in classes} <= set(NUMERALS):
        return {}
    return {name: NUMERAL_FLIPS[name.lower()] for name in sorted(classes) if name.lower() in NUMERAL_FLIPS}


def find_flips(fingerprints: list[Fingerprint], labels: NDArray[np.str_]) -> dict[str, list[str]]:
    """Finds the classes whose pictures stay what they are when left and right change places.

    Args:
        fingerprints: Those of some pictures.
        labels: Their classes.

    Returns:
        The directions of each such class: horizontal. The picture nearest to a flipped picture of it, itself left out,
        is about as often of its class as the one nearest to the picture itself.
    """
    tones = np.array([np.frombuffer(image.pixels, np.uint8) for image in fingerprints]) * WEIGHTS
    is_right = _is_nearest_alike(tones, tones, labels)
    is_flipped_right = _is_nearest_alike(_mirror(tones), tones, labels)
    found = {}
    for name in sorted(set(labels)):
        own = labels == name
        if own.sum() >= LEAST_IMAGES and is_flipped_right[own].mean() >= is_right[own].mean() - WORSE:
            found[str(name)] = ["horizontal"]
    return found


def _is_nearest_alike(
    tones: NDArray[np.float64], others: NDArray[np.float64], labels: NDArray[np.str_]
) -> NDArray[np.bool_]:
    """Returns whether the picture nearest to each, but for the one of the same number, has its label."""
    distances = (others**2).sum(axis=1) - 2 * tones @ others.T
    np.fill_diagonal(distances, np.inf)
    return np.asarray(labels[distances.argmin(axis=1)] == labels)


def _mirror(tones: NDArray[np.float64]) -> NDArray[np.float64]:
    channels = np.split(tones, [SIDE**2, SIDE**2 + HUE_SIDE**2], axis=1)
    sides = (SIDE, HUE_SIDE, HUE_SIDE)
    squares = (part.reshape(len(tones), side, side) for part, side in zip(channels, sides, strict=True))
    return np.hstack([square[..., ::-1].reshape(len(tones), -1) for square in squares])
