"""Small pictures of images as data: addresses, which a page or a document holds without another file."""

import base64
import io

import numpy as np
from PIL import Image

from components.shared.errors import UserError
from components.shared.formats.examples import ExampleSet

THUMBNAIL = (140, 105)  # pixels
TINT = 40  # of 255: how far the channels of a grey pixel may be apart
COLOURED = 0.01  # share of the pixels: more that are not grey make a picture one in colour


def draw_thumbnail(encoded: bytes, size: tuple[int, int] = THUMBNAIL, *, compact: bool = False) -> str:
    """Makes a small picture, of at most this width and height, of an encoded one; returns it as a data: address.

    A PNG of 16 tones shows what is grey, such as ink on paper; what has colours is a JPEG. A compact picture is a WebP
    with fewer bytes and details.
    """
    picture = Image.open(io.BytesIO(encoded)).convert("RGB")
    picture.thumbnail(size)
    buffer = io.BytesIO()
    if compact:
        kind = "webp"
        picture.save(buffer, "WEBP", quality=60)
    elif _has_colours(picture):
        kind = "jpeg"
        picture.save(buffer, "JPEG", quality=85)
    else:
        kind = "png"
        picture.quantize(16).save(buffer, "PNG", optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _has_colours(picture: Image.Image) -> bool:
    """Whether its colours are more than the tint of a scanned page; the picture is in RGB."""
    tinted = np.ptp(np.asarray(picture), axis=2) > TINT
    return bool(tinted.mean() > COLOURED)


def draw_thumbnails(
    examples: ExampleSet, filenames: set[str], size: tuple[int, int] = THUMBNAIL, *, compact: bool = False
) -> dict[str, str]:
    """Makes the thumbnails of these images, by file name, in one pass over the shards of their splits.

    Raises:
        UserError: One cannot be decoded.
    """
    found = {}
    for split in examples.manifest.splits:
        wanted = {name for name in filenames if name.startswith(f"{split}/")}
        if wanted:
            for example in examples.read(split):
                if example.filename in wanted:
                    try:
                        found[example.filename] = draw_thumbnail(example.encoded, size, compact=compact)
                    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
                        raise UserError(f"{example.filename}: cannot be decoded; rerun ingest on the data.") from None
    return found
