"""The pictures of examples, decoded with OpenCV."""

import cv2
import numpy as np
from numpy.typing import NDArray

from components.shared.errors import UserError

Picture = NDArray[np.uint8]


def decode(encoded: bytes, filename: str) -> Picture:
    """Decodes the image of an example, a PNG or JPEG file.

    Args:
        encoded: The file.
        filename: Its name, for the message.

    Returns:
        uint8 [height, width] of a gray picture, [height, width, 3] of a coloured one, blue first as OpenCV has it.

    Raises:
        UserError: It is damaged, or has more pixels than OpenCV takes.
    """
    # Ingest has turned what EXIF data asks to turn, and OpenCV must not find another orientation in what is left of it.
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:
        picture = None
    if picture is None:
        raise UserError(f"{filename}: cannot be decoded; rerun ingest on the data.")
    return np.asarray(picture, np.uint8)


def decode_rgb(encoded: bytes, filename: str) -> Picture:
    """Decodes as `decode` does, but with red first."""
    picture = decode(encoded, filename)
    return picture if picture.ndim == 2 else np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
