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

    hashes: dict[str, str]  # sha256 by file name, whose Unicode is composed
    missing: str  # what a message says of an image that is not among them

    def is_posing(self, file: File) -> bool:
        """Whether an image has the name of such an image, but is none."""
        return file.is_image and is_augmented(file.name) and _compose(file.filename) not in self.hashes

    def check(self, file: File, data: bytes) -> None:
        """Checks that a file with the name of such an image is that image.

        Args:
            file: Any image.
            data: Its content.

        Raises:
            BadImage: It has another content.
        """
        if is_augmented(file.name) and hashlib.sha256(data).hexdigest() != self.hashes[_compose(file.filename)]:
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
        return AugmentedImages({}, f"the data have no {MANIFEST}, or put back that of the curated folder")
    try:
        with data.open_copy(MANIFEST) as path:
            images = read_manifest(path.parent, data.join_address())
    except UserError as error:
        reason = str(error).rstrip(".")
        return AugmentedImages({}, f"{MANIFEST} cannot be read ({reason}), or put back that of the curated folder")
    hashes = {_compose(image.filename): image.sha256 for image in images if image.seed is not None}
    return AugmentedImages(hashes, f"{data.join_address(MANIFEST)} does not list it as one")


def _compose(name: str) -> str:
    """The name as all systems agree on: some take letters with accents apart."""
    return unicodedata.normalize("NFC", name)
