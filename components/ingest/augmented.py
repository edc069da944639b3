"""Which images of a data set curate made from others.

Audit and curate leave these out, so no image of a person may pose as one. Names such as x.augmented-3.png prove
nothing: those images are the ones that manifest.csv of the data set lists.
"""

import hashlib
import unicodedata
from typing import NamedTuple

from components.ingest.sources import BadImage, File, Source
from components.shared.errors import UserError
from components.shared.formats.examples import is_augmented
from components.shared.formats.manifest import FILE as MANIFEST
from components.shared.formats.manifest import read_manifest


class AugmentedImages(NamedTuple):
    """What the manifest says of them."""

    hashes: dict[str, set[str]]  # sha256 by file name, whose Unicode is composed: two spellings may lie side by side
    advice: str  # what to do with an image that is not among them

    def find_problem(self, file: File) -> str:
        """What is wrong with a file that has the name of such an image, before it is read; empty if nothing is."""
        if not file.is_image or not is_augmented(file.filename) or _compose(file.filename) in self.hashes:
            return ""
        if not file.split:
            return (
                f"{file.shown}: has the name of an image that curate made, and those are not divided into splits; put"
                " back the splits of the curated folder, or rename it."
            )
        return (
            f"{file.shown}: has the name of an image that curate made, which audit and curate leave out; {self.advice}."
        )

    def check(self, file: File, data: bytes) -> None:
        """Checks that a file with the name of such an image is that image.

        Args:
            file: An image in which find_problem finds nothing.
            data: Its content.

        Raises:
            BadImage: It has another content.
        """
        if not is_augmented(file.filename):
            return
        if hashlib.sha256(data).hexdigest() not in self.hashes[_compose(file.filename)]:
            raise BadImage(
                f"not the image that curate made under this name, by the sha256 in {MANIFEST}, and audit and curate"
                " would leave it out; rename it"
            )


def read_augmented(data: Source, *, has_manifest: bool) -> AugmentedImages:
    """Reads the manifest of a data set.

    Args:
        data: The data set.
        has_manifest: Whether it has a file of that name; that may be somebody's own.

    Returns:
        The images; none if there is no manifest, or it cannot be read as one.
    """
    if not has_manifest:
        return AugmentedImages({}, f"rename it, or put back the {MANIFEST} of the curated folder")
    try:
        with data.open_copy(MANIFEST) as path:
            images = read_manifest(path.parent, data.join_address())
    except UserError as error:
        reason = str(error).rstrip(".")
        return AugmentedImages({}, f"rename it, or repair the manifest, which is broken ({reason})")
    hashes: dict[str, set[str]] = {}
    for image in images:
        if image.seed is not None:
            hashes.setdefault(_compose(image.filename), set()).add(image.sha256)
    return AugmentedImages(hashes, f"rename it, since {data.join_address(MANIFEST)} does not list it as one")


def _compose(name: str) -> str:
    """The name as all systems agree on: some take letters with accents apart."""
    return unicodedata.normalize("NFC", name)
