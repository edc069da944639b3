"""The images of train and val as judges compare and see them, read shard by shard on Beam."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from components.audit.pictures import make_views
from components.shared.beam import (
    call_for_each,
    choose_address,
    exists,
    open_local_copy,
    open_local_target,
    read_parcel,
    write_parcel,
)
from components.shared.duplicates import Fingerprint, choose_content, fingerprint
from components.shared.errors import UserError
from components.shared.formats.examples import CURATED_SPLITS, ExampleSet, ImageExample, Shard, is_augmented
from components.shared.ink import convert_to_gray, find_ink
from components.shared.pictures import decode_rgb

# In the work folder: what is known of the images of a shard.
FINGERPRINTS, LOOKS, VIEWS = ".fingerprints", ".looks", ".npy"


# What else to take of an image: from its split, itself, its picture, and its ink, if the images are ink on paper.
Look = Callable[[str, ImageExample, NDArray[np.uint8], NDArray[np.bool_] | None], Any]


class JudgedImages(NamedTuple):
    """All images to judge; each field but the last has an entry per image, in the same order."""

    looks: list[Any]  # what Look took of each; None without one
    labels: NDArray[np.int64]  # [images], 0-based position in the classes
    views: Path  # a file of NumPy, uint8 [images, views, side, side, channels]
    fingerprints: list[Fingerprint]
    ink: bool  # whether they are ink on paper


def read_images(
    examples: ExampleSet,
    content: str,
    look: Look | None = None,
    *,
    beam_options: list[str],
    examples_uri: str,
    work: str,
    views: Path,
) -> JudgedImages:
    """Reads the images of train and val. Views of them, 5 to 7 KiB each, go to a file; about 3 KiB each are in memory.

    They are read twice, since what a judge should see of them depends on what most of them are. Images that curate made
    of others are left out: curate makes them again when those have changed. Test is never judged, since it only
    measures.

    Args:
        examples: The images.
        content: What they are: ink, pictures, or auto if they are to tell.
        look: Takes what else is to be known of each; a function of a module, since workers call it.
        beam_options: Options of Apache Beam, each as --name=value.
        examples_uri: Where workers on other machines find the examples.
        work: The address of a folder that all workers can write to.
        views: The file to write.

    Raises:
        UserError: There is none, or one cannot be decoded.
    """
    shards = examples.manifest.list_shards(CURATED_SPLITS)
    source = choose_address(examples.folder, examples_uri, beam_options)
    take_fingerprints = partial(_take_fingerprints, examples=examples, source=source, work=work)
    call_for_each(shards, take_fingerprints, options=beam_options, work=work)
    fingerprints = [each for _, shard in shards for each in read_parcel(f"{work}/{shard.name}{FINGERPRINTS}")]
    if not fingerprints:
        raise UserError(
            f"{examples.folder}: no image in train or val to audit; rerun ingest on a folder with train/ or val/."
        )
    is_ink = choose_content(content, fingerprints)
    look_at = partial(_look_at_images, examples=examples, source=source, is_ink=is_ink, look=look, work=work)
    call_for_each(shards, look_at, options=beam_options, work=work)
    taken = [each for _, shard in shards for each in read_parcel(f"{work}/{shard.name}{LOOKS}")]
    _join_views([f"{work}/{shard.name}{VIEWS}" for _, shard in shards], images=len(taken), target=views)
    labels = np.array([label for label, _ in taken])
    return JudgedImages([look for _, look in taken], labels, views, fingerprints, is_ink)


def _take_fingerprints(element: tuple[str, Shard], *, examples: ExampleSet, source: str, work: str) -> None:
    prints = [fingerprint(picture) for _, picture in _decode_pictures(element, examples, source)]
    write_parcel(f"{work}/{element[1].name}{FINGERPRINTS}", prints)


def _look_at_images(
    element: tuple[str, Shard], *, examples: ExampleSet, source: str, is_ink: bool, look: Look | None, work: str
) -> None:
    """Writes the label of each image of a shard with what Look takes of it, and the views of all."""
    split, shard = element
    taken, views = [], []
    for example, picture in _decode_pictures(element, examples, source):
        ink = find_ink(convert_to_gray(picture)) if is_ink else None
        taken.append((example.label, look(split, example, picture, ink) if look else None))
        views.append(make_views(picture, ink))
    write_parcel(f"{work}/{shard.name}{LOOKS}", taken)
    if views:
        with open_local_target(f"{work}/{shard.name}{VIEWS}") as path:
            np.save(path, np.stack(views))


def _decode_pictures(
    element: tuple[str, Shard], examples: ExampleSet, source: str
) -> Iterator[tuple[ImageExample, NDArray[np.uint8]]]:
    """Yields each image of a shard to audit with its picture."""
    split, shard = element
    with open_local_copy(f"{source}/{shard.name}") as path:
        for example in examples.read_shard(split, shard, path):
            if not is_augmented(example.filename):
                yield example, decode_rgb(example.encoded, example.filename)


def _join_views(parts: list[str], *, images: int, target: Path) -> None:
    """Writes the views of all shards, of which those without images have none, to one file."""
    joined, written = None, 0
    for part in parts:
        if not exists(part):
            continue
        with open_local_copy(part) as path:
            views = np.load(path)
        if joined is None:
            joined = open_memmap(target, "w+", views.dtype, (images, *views.shape[1:]))  # type: ignore[no-untyped-call]
        joined[written : written + len(views)] = views
        written += len(views)
