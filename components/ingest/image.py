"""One image file as the features of a tf.train.Example."""

import io
import warnings
from typing import Any

from PIL import Image, ImageOps, ImageStat

from components import examples

FORMATS = ("PNG", "JPEG", "BMP", "GIF")


class BadImage(Exception):
    """Why a file is not an image that can be learned from."""


def image_features(data: bytes, max_pixels: int) -> dict[str, Any]:
    """The picture and its scalars, from the bytes of a PNG, JPEG, BMP or GIF (first frame).

    The bytes are kept where TensorFlow decodes them to what a person sees; otherwise (transparency, palettes,
    16 bit gray, 1 bit, CMYK, a rotation in the EXIF data, BMP, GIF) the picture is written again as PNG.

    Raises:
        BadImage: the bytes are no such image, are damaged, or hold more than `max_pixels` pixels.
    """
    image = _load(data, max_pixels)
    picture = _as_seen(image)
    kept = picture is image and image.format in ("PNG", "JPEG", "MPO")
    return {
        examples.ENCODED: data if kept else _png(picture),
        examples.FORMAT: b"jpeg" if kept and image.format != "PNG" else b"png",
        examples.HEIGHT: picture.height,
        examples.WIDTH: picture.width,
        examples.CHANNELS: len(picture.getbands()),
        examples.ASPECT_RATIO: picture.width / picture.height,
        examples.BYTES: len(data),
        **_ink(picture),
    }


def _load(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise BadImage("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, softer warnings; max_pixels decides here
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > max_pixels:
                raise BadImage(f"{image.width} x {image.height} pixels; max_pixels allows {max_pixels:,}")
            image.load()
    except BadImage:
        raise
    except Image.UnidentifiedImageError:
        raise BadImage(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from None
    except Image.DecompressionBombError:
        raise BadImage(f"a decompression bomb; max_pixels allows {max_pixels:,}") from None
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise BadImage(f"damaged ({error})") from None
    return image


def _as_seen(image: Image.Image) -> Image.Image:
    """The same object if it is plain 8 bit gray or RGB, else an L or RGB image that looks the same on white."""
    if image.getexif().get(0x0112, 1) != 1:  # orientation
        return _as_seen(ImageOps.exif_transpose(image))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if image.mode in ("L", "RGB"):
        return image
    if image.mode.startswith("I"):  # 16 bit gray: 0..65535 is black..white
        return image.convert("I").point(lambda value: value / 257).convert("L")
    return image.convert("L" if image.mode == "1" else "RGB")


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _ink(picture: Image.Image) -> dict[str, float]:
    gray = picture.convert("L")
    histogram = gray.histogram()
    stat = ImageStat.Stat(histogram)
    return {
        examples.MEAN_INTENSITY: stat.mean[0] / 255,
        examples.CONTRAST: stat.stddev[0] / 255,
        examples.INK_FRACTION: sum(histogram[:128]) / (gray.width * gray.height),
    }
