"""One image file as the features of a tf.train.Example."""

import hashlib
import io

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError

from components.ingest.sources import BadImage
from components.shared.formats.examples import ImageExample

FORMATS = ("PNG", "JPEG", "BMP", "GIF")
KEPT = ("PNG", "JPEG", "MPO")  # TensorFlow decodes these; Pillow calls a JPEG with a second picture MPO
PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
ORIENTATION = 0x0112  # in the EXIF data: 2 .. 8 are mirrored or turned


def read_image(filename: str, data: bytes, *, label: int, max_pixels: int) -> ImageExample:
    """Reads a PNG, JPEG, BMP or GIF (its first frame).

    The bytes are kept where TensorFlow decodes them to what a person sees; otherwise (transparency, palettes,
    16 bit gray, 1 bit, CMYK, a rotation in the EXIF data, BMP, GIF) the picture is written again as PNG.

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
    image, picture = _load(data, max_pixels)
    kept = picture is image and image.format in KEPT
    mean_intensity, contrast, ink_fraction = _measure_ink(picture)
    return ImageExample(
        encoded=data if kept else _encode_png(picture),
        format="jpeg" if kept and image.format != "PNG" else "png",
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


def _load(data: bytes, max_pixels: int) -> tuple[Image.Image, Image.Image]:
    """The image as it is stored and as a person sees it; the same object if nothing differs."""
    if not data:
        raise BadImage("the file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > max_pixels:
            raise BadImage(f"{image.width} x {image.height} pixels; max_pixels allows {max_pixels:,}")
        image.load()
        picture = _render(image)
        if picture is image and image.format in KEPT:
            _check_for_tensorflow(data, image.format)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from None
    except Image.DecompressionBombError:
        raise BadImage(f"a decompression bomb; max_pixels allows {max_pixels:,}") from None
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise BadImage(f"damaged ({error})") from None
    return image, picture


def _check_for_tensorflow(data: bytes, file_format: str) -> None:
    """TensorFlow refuses damage that Pillow overlooks, and would stop the stages that decode."""
    if file_format == "PNG":
        Image.open(io.BytesIO(data), formats=["PNG"]).verify()  # the checksums, except the last
        if PNG_END not in data:
            raise BadImage("damaged (the end is missing)")
        return
    try:
        tf.io.decode_jpeg(data, ratio=8)  # the quickest that reads all of it
    except tf.errors.InvalidArgumentError:
        raise BadImage("damaged (TensorFlow cannot decode it)") from None


def _render(image: Image.Image) -> Image.Image:
    """The same object if it is plain 8 bit gray or RGB, else an L or RGB image that looks the same on white."""
    if image.getexif().get(ORIENTATION) in range(2, 9):
        return _render(ImageOps.exif_transpose(image))
    if image.mode.startswith("I"):
        return _convert_to_eight_bit(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


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
    shares = np.array(gray.histogram()) / (gray.width * gray.height)
    levels = np.arange(256) / 255
    mean = float(shares @ levels)
    return mean, float(np.sqrt(shares @ (levels - mean) ** 2)), float(shares[:128].sum())
