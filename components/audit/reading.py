"""The images of train and val as the audit compares and judges them, read shard by shard on Beam."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from components.audit.pictures import is_plain, make_views
from components.audit.ranking import AuditedImage
from components.audit.state import NO_INK, measure_state
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
from components.shared.ink import SPECKS, convert_to_gray, crop_ink, find_ink
from components.shared.pictures import decode_rgb

# In the work folder: what is known of the images of a shard.
FINGERPRINTS, IMAGES, VIEWS = ".fingerprints", ".images", ".npy"


class AuditInput(NamedTuple):
    """All images to audit; each field has an entry per image, in the same order."""

    images: list[AuditedImage]
    views: Path  # a file of NumPy, uint8 [images, views, side, side, channels]
    fingerprints: list[Fingerprint]
    ink: bool  # whether they are ink on paper


def read_images(
    examples: ExampleSet, content: str, *, beam_options: list[str], examples_uri: str, work: str, views: Path
) -> AuditInput:
    """Reads the images of train and val. Views of them, 5 to 7 KiB each, go to a file; about 3 KiB each are in memory.

    They are read twice, since what a judge should see of them depends on what most of them are. Images that curate made
    of others are left out: curate makes them again when those have changed. Test is never audited, since it only
    measures.

    Args:
        examples: The images.
        content: What they are: ink, pictures, or auto if they are to tell.
        beam_options: Options of Apache Beam, each as --name=value.
        examples_uri: Where workers on other machines find the examples.
        work: The address of a folder that all workers can write to.
        views: The file to write.

    Raises:
        UserError: There is none, or one cannot be decoded.
    """
    shards = examples.manifest.list_shards(CURATED_SPLITS)
    source = choose_address(examples.folder, examples_uri, beam_options)
    print("audit: looking at the images", flush=True)
    take_fingerprints = partial(_take_fingerprints, examples=examples, source=source, work=work)
    call_for_each(shards, take_fingerprints, options=beam_options, work=work)
    fingerprints = [each for _, shard in shards for each in read_parcel(f"{work}/{shard.name}{FINGERPRINTS}")]
    if not fingerprints:
        raise UserError(
            f"{examples.folder}: no image in train or val to audit; rerun ingest on a folder with train/ or val/."
        )
    is_ink = choose_content(content, fingerprints)
    describe = partial(_describe_images, examples=examples, source=source, is_ink=is_ink, work=work)
    call_for_each(shards, describe, options=beam_options, work=work)
    images = [each for _, shard in shards for each in read_parcel(f"{work}/{shard.name}{IMAGES}")]
    _join_views([f"{work}/{shard.name}{VIEWS}" for _, shard in shards], images=len(images), target=views)
    return AuditInput(images, views, fingerprints, is_ink)


def _take_fingerprints(element: tuple[str, Shard], *, examples: ExampleSet, source: str, work: str) -> None:
    prints = [fingerprint(picture) for _, picture in _decode_audited(element, examples, source)]
    write_parcel(f"{work}/{element[1].name}{FINGERPRINTS}", prints)


def _describe_images(element: tuple[str, Shard], *, examples: ExampleSet, source: str, is_ink: bool, work: str) -> None:
    """Writes what is known of the images of a shard, and their views."""
    split, shard = element
    images, views = [], []
    for example, picture in _decode_audited(element, examples, source):
        blank, ink, state = is_plain(picture), None, NO_INK
        if is_ink:
            gray = convert_to_gray(picture)
            ink = find_ink(gray)
            blank, state = not crop_ink(ink, SPECKS).size, measure_state(gray, ink)
        images.append(
            AuditedImage(example.sha256, example.filename, split, example.label, blank, state, example.copy_order)
        )
        views.append(make_views(picture, ink))
    write_parcel(f"{work}/{shard.name}{IMAGES}", images)
    if views:
        with open_local_target(f"{work}/{shard.name}{VIEWS}") as path:
            np.save(path, np.stack(views))


def _decode_audited(
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
