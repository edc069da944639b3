"""One image file as the features of a tf.train.Example."""

import hashlib
import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from components.ingest.chunks import PNG_SIGNATURE, count_scans, has_all_rows, take_apart
from components.ingest.sources import BadImage
from components.shared.formats.examples import ImageExample

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
JPEGS = ("JPEG", "MPO")  # Pillow calls a JPEG with a second picture MPO
PLAIN = ("L", "RGB")  # Pillow's modes for 8 bit gray and color
LONGEST_SIDE = 1_000_000  # pixels, of a PNG that TensorFlow decodes
MOST_PIXELS = 2**29 // 3  # likewise, of a picture of three channels
USUAL_SCANS = 20  # a progressive JPEG has about ten; a small one may have more
BITS_PER_SAMPLE = 258  # a tag of TIFF
PHOTOMETRIC = 262  # in a TIFF: 0 if the smallest value is white
ORIENTATION = 0x0112  # in the EXIF data: 2 .. 8 are mirrored or turned
TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _Loaded(NamedTuple):
    picture: Image.Image  # 8 bit gray or RGB, as a person sees it
    kept: str  # the format of the file, if later stages see the same in its bytes; else empty


def read_image(filename: str, data: bytes, *, label: int, max_pixels: int) -> ImageExample:
    """Reads a PNG, JPEG, BMP, GIF, WebP or TIFF (the first of several pictures).

    The bytes are kept where TensorFlow, OpenCV and Pillow decode them to what a person sees; otherwise (transparency,
    palettes, 16 bit gray, 1 bit, CMYK, a rotation in the EXIF data, BMP, GIF, WebP, TIFF, an animation, metadata that
    one of them stumbles over) the picture is written again as PNG.

    Args:
        filename: Relative to the data set: split/class/file.
        data: The bytes of the file.
        label: The 0-based position of its class.
        max_pixels: The most pixels, width times height, that the image may have.

    Returns:
        The picture, 8 bit gray or RGB, with the scalars that describe it.

    Raises:
        BadImage: The bytes are no such image, are damaged, or hold more than `max_pixels` pixels.
    """
    picture, kept = _load(data, max_pixels)
    mean_intensity, contrast, ink_fraction = _measure_ink(picture)
    return ImageExample(
        encoded=data if kept else _encode_png(picture),
        format="jpeg" if kept in JPEGS else "png",
        height=picture.height,
        width=picture.width,
        channels=len(picture.getbands()),
        filename=filename,
        sha256=hashlib.sha256(data).hexdigest(),
        label=label,
        class_name=filename.split("/")[1],
        mean_intensity=mean_intensity,
        contrast=contrast,
        ink_fraction=ink_fraction,
        aspect_ratio=picture.width / picture.height,
        bytes=len(data),
    )


def load_picture(data: bytes, max_pixels: int) -> Image.Image:
    """Reads the picture of a file alone, 8 bit gray or RGB.

    Raises:
        BadImage: As read_image.
    """
    return _load(data, max_pixels).picture


def _load(data: bytes, max_pixels: int) -> _Loaded:
    if not data:
        raise BadImage("the file is empty")
    try:
        if data.startswith(PNG_SIGNATURE):
            return _load_png(data, max_pixels)
        return _load_other(data, max_pixels)
    except (BadImage, ImportError):  # a TensorFlow that cannot be imported is no fault of the file
        raise
    except UnidentifiedImageError:
        raise BadImage("not a PNG, JPEG, BMP, GIF, WebP or TIFF image") from None
    except Image.DecompressionBombError:
        raise BadImage(f"a decompression bomb; max_pixels allows {max_pixels:,}") from None
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise BadImage(f"damaged ({error})") from None


def _load_png(data: bytes, max_pixels: int) -> _Loaded:
    png = take_apart(data)
    image = Image.open(io.BytesIO(png.picture), formats=["PNG"])
    _check_size(image, data, max_pixels)
    if not has_all_rows(png.picture):
        _check_with_tensorflow(png.picture)
    image.load()
    picture = _render(image)
    is_kept = picture is image and png.is_plain and (png.picture == data or _reads_metadata(png.reordered))
    return _Loaded(picture, "PNG" if is_kept else "")


def _reads_metadata(data: bytes) -> bool:
    """Whether Pillow is not misled by what else a PNG holds."""
    try:
        return not Image.open(io.BytesIO(data), formats=["PNG"]).has_transparency_data
    except Exception:  # it raises many kinds of error for texts and profiles
        return False


def _load_other(data: bytes, max_pixels: int) -> _Loaded:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    _check_size(image, data, max_pixels)
    _check_depth(image)
    image.load()
    picture = _render(image)
    if picture is not image or image.format not in JPEGS:
        return _Loaded(picture, "")
    _check_with_tensorflow(data)
    return _Loaded(picture, image.format)


def _check_with_tensorflow(data: bytes) -> None:
    """Refuses damage that Pillow overlooks, since it would stop the stages that decode with TensorFlow."""
    import tensorflow as tf  # here, since its import takes longer than a thousand of the usual PNGs, which need none

    try:
        if data.startswith(PNG_SIGNATURE):
            tf.io.decode_png(data)
        else:
            tf.io.decode_jpeg(data, ratio=8)  # the quickest that reads all of it
    except tf.errors.InvalidArgumentError:
        raise BadImage("damaged (TensorFlow cannot decode it)") from None


def _check_size(image: Image.Image, data: bytes, max_pixels: int) -> None:
    """Refuses what would take too much memory or time, before any of it is decoded."""
    size, pixels = f"{image.width} x {image.height} pixels", image.width * image.height
    if pixels > max_pixels:
        raise BadImage(f"{size}; max_pixels allows {max_pixels:,}")
    if max(image.size) > LONGEST_SIDE or pixels > MOST_PIXELS:
        raise BadImage(f"{size}; TensorFlow decodes at most {LONGEST_SIDE:,} on a side and {MOST_PIXELS:,} in all")
    if image.format in JPEGS and (scans := count_scans(data)) * pixels > USUAL_SCANS * max_pixels:
        raise BadImage(f"{size} in {scans:,} scans, which take too long to decode; save it again")


def _check_depth(image: Image.Image) -> None:
    """Refuses the kinds of TIFF of which nobody knows what of them is black and what is white."""
    if image.format != "TIFF":
        return
    is_negative = image.mode.startswith("I") and image.getexif().get(PHOTOMETRIC) == 0
    bits = image.tag_v2.get(BITS_PER_SAMPLE, (8,))  # type: ignore[attr-defined]
    if image.mode.startswith("I;16") and bits[0] not in (8, 16):
        raise BadImage(f"a TIFF of {bits[0]} bits, which would come out too dark; save it with 8 or 16 bits")
    if image.mode in ("F", "I", "LAB") or is_negative:
        raise BadImage(f"a TIFF of the mode {image.mode}, which no screen shows; save it with 8 bits")


def _render(image: Image.Image) -> Image.Image:
    """The same object if it is plain 8 bit gray or RGB, else an L or RGB image that looks the same on white."""
    turn = _find_turn(image)
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I"):
        return _convert_to_eight_bit(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if image.mode in PLAIN:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _find_turn(image: Image.Image) -> Image.Transpose | None:
    """How the EXIF data asks a viewer to turn the picture."""
    if image.format == "PNG" and "exif" not in image.info:
        return None  # Pillow would decode the picture to look for it behind the pixels
    try:
        return TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # EXIF data that is none can make Pillow raise anything; viewers then show the picture unturned
        return None


def _convert_to_eight_bit(image: Image.Image) -> Image.Image:
    """16 bit gray, where 0 .. 65535 is black .. white and one value may be transparent."""
    values = np.asarray(image)
    gray = np.round(values / 257).astype(np.uint8)
    gray[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(gray)


def _encode_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _measure_ink(picture: Image.Image) -> tuple[float, float, float]:
    """Computes mean intensity, contrast and ink fraction, as ImageExample defines them."""
    gray = picture if picture.mode == "L" else picture.convert("L")
    shares = _count_tones(gray) / (gray.width * gray.height)
    levels = np.arange(256) / 255
    mean = float(shares @ levels)
    return mean, float(np.sqrt(shares @ (levels - mean) ** 2)), float(shares[:128].sum())


def _count_tones(gray: Image.Image) -> NDArray[np.int64]:
    """How many pixels have each tone; those of the paper, which are most, are found faster than a histogram would."""
    pixels = np.asarray(gray).ravel()
    others = pixels[pixels != pixels[0]]
    counts = np.bincount(others, minlength=256)
    counts[pixels[0]] = pixels.size - others.size
    return counts
