"""What ingest stores of an image, as TensorFlow decodes it, against arrays that numpy alone has built."""

import contextlib
import io
import os
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.ingest.chunks import count_scans
from components.ingest.image import read_image
from components.ingest.sources import BadImage
from components.shared.formats.examples import ImageExample

MAX_PIXELS = 1_000_000
RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (11, 7), np.uint8)
COLOR = RNG.integers(0, 256, (11, 7, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (11, 7), np.uint8)
INDEX = RNG.integers(0, 4, (11, 7), np.uint8)
PALETTE = np.array([[250, 0, 10], [0, 240, 20], [30, 0, 230], [7, 77, 177]], np.uint8)
INK = np.where(RNG.random((11, 7)) < 0.5, 0, 255).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (11, 7), np.uint16)
JPEG_LOSS = 8  # levels; JPEG keeps slow waves almost exactly
WAVE = np.round(127 + 100 * np.sin(np.arange(40)[:, None] / 12 + np.arange(24) / 9)).astype(np.uint8)
WAVES = np.stack([WAVE, 255 - WAVE, np.full_like(WAVE, 90)], axis=-1)

# What each EXIF orientation asks a viewer to do with the stored pixels.
ORIENTATIONS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}


class Case(NamedTuple):
    data: bytes
    seen: np.ndarray  # [height, width] or [height, width, 3]
    tolerance: int = 0
    kept: bool = False


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def indexed() -> Image.Image:
    image = Image.fromarray(INDEX, "P")
    image.putpalette(PALETTE.tobytes())
    return image


def on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.round(pixels.reshape(*alpha.shape, -1) * share + 255 * (1 - share)).astype(np.uint8).squeeze()


def oriented(image: Image.Image, orientation: Any) -> Image.Exif:
    exif = image.getexif()
    exif[0x0112] = orientation
    return exif


def big_endian(deep: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in deep.astype(">u2")]


SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(name: bytes, data: bytes, spoilt: bool = False) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) ^ spoilt)


def png(
    depth: int, color: int, rows: list[bytes], *extra: bytes, width: int, height: int = 0, spoilt: bool = False
) -> bytes:
    """A PNG written by hand, with the chunks `extra`; `spoilt` is the checksum of the pixels."""
    header = struct.pack(">IIBBBBB", width, height or len(rows), depth, color, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)), spoilt)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra) + pixels + chunk(b"IEND", b"")


def cases() -> dict[str, Case]:
    gray, color, palette = Image.fromarray(GRAY), Image.fromarray(COLOR), indexed()
    gray_alpha = Image.merge("LA", (gray, Image.fromarray(ALPHA)))
    color_alpha = Image.fromarray(np.dstack([COLOR, ALPHA]))
    ink, deep = Image.fromarray(INK).convert("1"), Image.fromarray(DEEP)
    wave, waves = Image.fromarray(WAVE), Image.fromarray(WAVES)
    second = Image.fromarray(255 - INDEX * 50)
    cmyk = Image.frombytes("CMYK", WAVE.shape[::-1], np.dstack([WAVES, np.full_like(WAVE, 40)]).tobytes())
    printed = np.round((255.0 - WAVES) * (255 - 40) / 255)
    best = {"quality": 90, "subsampling": 0}
    found = {
        "PNG 1": Case(saved(ink, "PNG"), INK),
        "PNG L": Case(saved(gray, "PNG"), GRAY, kept=True),
        "PNG L of 2 bit": Case(png(2, 0, [b"\x1b"], width=4), np.array([[0, 85, 170, 255]]), kept=True),
        "PNG L, one gray transparent": Case(
            saved(gray, "PNG", transparency=int(GRAY[0, 0])), np.where(GRAY[0, 0] == GRAY, 255, GRAY)
        ),
        "PNG LA": Case(saved(gray_alpha, "PNG"), on_white(GRAY, ALPHA), 1),
        "PNG P": Case(saved(palette, "PNG"), PALETTE[INDEX]),
        "PNG P, one entry transparent": Case(
            saved(palette, "PNG", transparency=2), np.where((INDEX == 2)[..., None], 255, PALETTE[INDEX])
        ),
        "PNG P, entries half transparent": Case(
            saved(palette, "PNG", transparency=bytes([255, 128, 60, 0])),
            on_white(PALETTE[INDEX], np.array([255, 128, 60, 0])[INDEX]),
            1,
        ),
        "PNG RGB": Case(saved(color, "PNG"), COLOR, kept=True),
        "PNG RGB, one color transparent": Case(
            saved(color, "PNG", transparency=tuple(map(int, COLOR[0, 0]))),
            np.where((COLOR[0, 0] == COLOR).all(axis=-1, keepdims=True), 255, COLOR),
        ),
        "PNG RGB of 16 bit": Case(png(16, 2, big_endian(COLOR * np.uint16(257)), width=7), COLOR, kept=True),
        "PNG RGBA": Case(saved(color_alpha, "PNG"), on_white(COLOR, ALPHA), 1),
        "PNG I;16": Case(saved(deep, "PNG"), np.round(DEEP / 257)),
        "PNG I;16, one gray transparent": Case(
            png(16, 0, big_endian(DEEP), chunk(b"tRNS", big_endian(DEEP)[0][:2]), width=7),
            np.where(DEEP[0, 0] == DEEP, 255, np.round(DEEP / 257)),
        ),
        "JPEG L": Case(saved(wave, "JPEG", **best), WAVE, JPEG_LOSS, kept=True),
        "JPEG RGB": Case(saved(waves, "JPEG", **best), WAVES, JPEG_LOSS, kept=True),
        "JPEG RGB, progressive": Case(saved(waves, "JPEG", **best, progressive=True), WAVES, JPEG_LOSS, kept=True),
        "JPEG CMYK": Case(saved(cmyk, "JPEG", **best), printed, JPEG_LOSS),
        "BMP 1": Case(saved(ink, "BMP"), INK),
        "BMP L": Case(saved(gray, "BMP"), GRAY),
        "BMP P": Case(saved(palette, "BMP"), PALETTE[INDEX]),
        "BMP RGB": Case(saved(color, "BMP"), COLOR),
        "GIF P": Case(saved(palette, "GIF"), PALETTE[INDEX]),
        "GIF P, one entry transparent": Case(
            saved(palette, "GIF", transparency=1), np.where((INDEX == 1)[..., None], 255, PALETTE[INDEX])
        ),
        "GIF L": Case(saved(gray, "GIF"), GRAY),
        "WebP RGB": Case(saved(color, "WEBP", lossless=True), COLOR),
        "WebP RGBA": Case(saved(color_alpha, "WEBP", lossless=True, exact=True), on_white(COLOR, ALPHA), 1),
        "WebP animation": Case(
            saved(color, "WEBP", lossless=True, save_all=True, append_images=[color.rotate(180)]), COLOR
        ),
        "TIFF 1": Case(saved(ink, "TIFF"), INK),
        "TIFF L": Case(saved(gray, "TIFF"), GRAY),
        "TIFF P": Case(saved(palette, "TIFF"), PALETTE[INDEX]),
        "TIFF RGB": Case(saved(color, "TIFF", compression="tiff_lzw"), COLOR),
        "TIFF RGB turned by 6": Case(saved(color, "TIFF", tiffinfo={0x0112: 6}), np.rot90(COLOR, -1)),
        "TIFF RGBA": Case(saved(color_alpha, "TIFF"), on_white(COLOR, ALPHA), 1),
        "TIFF CMYK": Case(saved(cmyk, "TIFF"), printed, 1),
        "TIFF I;16": Case(saved(deep, "TIFF"), np.round(DEEP / 257)),
        "TIFF of two pages": Case(saved(gray, "TIFF", save_all=True, append_images=[second]), GRAY),
        "GIF animation": Case(saved(palette, "GIF", save_all=True, append_images=[second]), PALETTE[INDEX]),
    }
    for number, turned in ORIENTATIONS.items():
        exif = oriented(waves, number)
        found[f"PNG RGB turned by EXIF {number}"] = Case(saved(waves, "PNG", exif=exif), turned(WAVES))
        found[f"JPEG RGB turned by EXIF {number}"] = Case(
            saved(waves, "JPEG", **best, exif=exif), turned(WAVES), JPEG_LOSS
        )
    exif = oriented(deep, 6)
    found["PNG I;16 turned by EXIF 6"] = Case(saved(deep, "PNG", exif=exif), np.rot90(np.round(DEEP / 257), -1))
    for number in (0, 1, 9):  # 0 and 9 mean nothing, and cameras write them
        data = saved(waves, "JPEG", **best, exif=oriented(waves, number))
        found[f"JPEG RGB with EXIF {number}"] = Case(data, WAVES, JPEG_LOSS, kept=True)
    return found


CASES = cases()


def read(data: bytes, max_pixels: int = MAX_PIXELS) -> ImageExample:
    return read_image("train/x/a.png", data, label=0, max_pixels=max_pixels)


def decoded(example: ImageExample, channels: int = 3) -> np.ndarray:
    import tensorflow as tf

    return tf.io.decode_image(example.encoded, channels=channels, expand_animations=False).numpy()


def luma(seen: np.ndarray) -> np.ndarray:
    return seen.astype(float) if seen.ndim == 2 else seen @ [0.299, 0.587, 0.114]  # ITU-R BT.601


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_tensorflow_decodes_what_a_person_sees(case: Case) -> None:
    example = read(case.data)
    expected = case.seen if case.seen.ndim == 3 else np.stack([case.seen] * 3, axis=-1)
    actual = decoded(example)
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected).max() <= case.tolerance
    assert (example.height, example.width) == expected.shape[:2]
    assert example.channels == decoded(example, channels=0).shape[-1]
    stored = Image.open(io.BytesIO(example.encoded))
    assert stored.format.lower() == example.format


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bytes_are_kept_only_of_plain_png_and_jpeg(case: Case) -> None:
    assert (read(case.data).encoded == case.data) == case.kept


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_scalars_describe_what_a_person_sees(case: Case) -> None:
    example = read(case.data)
    gray = luma(case.seen)
    off = (case.tolerance + 0.5) / 255  # a gray rounded from a color is off by half a level
    assert example.mean_intensity == pytest.approx(gray.mean() / 255, abs=off)
    assert example.contrast == pytest.approx(gray.std() / 255, abs=off)
    unsure = (np.abs(gray - 127.5) <= off * 255).mean()
    assert example.ink_fraction == pytest.approx((gray < 127.5).mean(), abs=unsure + 1e-9)
    assert example.aspect_ratio == case.seen.shape[1] / case.seen.shape[0]
    assert example.bytes == len(case.data)


def test_scalars_of_gray_are_exact() -> None:
    example = read(saved(Image.fromarray(GRAY), "PNG"))
    assert example.mean_intensity == pytest.approx(GRAY.mean() / 255)
    assert example.contrast == pytest.approx(GRAY.std() / 255)
    assert example.ink_fraction == pytest.approx((GRAY < 128).mean())


@pytest.mark.parametrize(("level", "ink"), [(0, 1), (127, 1), (128, 0), (255, 0)])
def test_scalars_of_an_even_page(level: int, ink: float) -> None:
    example = read(saved(Image.new("L", (5, 3), level), "PNG"))
    assert example.contrast == 0
    assert example.ink_fraction == ink
    assert example.mean_intensity == pytest.approx(level / 255)


WHOLE = saved(Image.fromarray(GRAY), "PNG")
WHOLE_JPEG = saved(Image.fromarray(WAVES), "JPEG")
PLTE = chunk(b"PLTE", PALETTE.tobytes())


def repeat_scan(data: bytes, times: int) -> bytes:
    """A progressive JPEG with its last scan repeated."""
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * times + data[-2:]


PROGRESSIVE = saved(Image.fromarray(np.tile(WAVE, (10, 10))), "JPEG", progressive=True)
REPEATED_SCANS = repeat_scan(PROGRESSIVE, 310 - PROGRESSIVE.count(b"\xff\xda"))
BAD = {
    "empty": (b"", "empty"),
    "TIFF of floats": (
        saved(Image.fromarray(GRAY.astype(np.float32)), "TIFF"),
        "a TIFF of the mode F, which no screen shows; save it with 8 bits",
    ),
    "text": (b"not an image\n" * 50, "not a PNG, JPEG, BMP, GIF, WebP or TIFF"),
    "another format": (saved(Image.fromarray(GRAY), "PPM"), "not a PNG, JPEG, BMP, GIF, WebP or TIFF"),
    "half a PNG": (WHOLE[: len(WHOLE) // 2], "damaged"),
    "half a JPEG": (WHOLE_JPEG[: len(WHOLE_JPEG) // 2], "damaged"),
    "half a BMP": (saved(Image.fromarray(COLOR), "BMP")[:120], "damaged"),
    "half a GIF": (saved(Image.fromarray(GRAY), "GIF")[:-30], "damaged"),
    "PNG without its end": (WHOLE[:-12], "damaged"),
    "PNG with a cut end": (WHOLE[:-3], "damaged"),
    "PNG with a wrong checksum": (png(8, 0, [b"\x10\x80"], width=2, spoilt=True), "damaged"),
    "PNG without its palette": (png(8, 3, [b"\0\1"], width=2), "damaged"),
    "PNG with an unknown chunk that matters": (png(8, 0, [b"\0\1"], chunk(b"XXXX", b"a"), width=2), "damaged .*'XXXX'"),
    "PNG with two headers": (png(8, 0, [b"\0\1"], WHOLE[8:33], width=2), "damaged"),
    "PNG without its last row": (png(8, 0, [b"\0\1"], width=2, height=2), "damaged"),
    "PNG without its last byte": (png(8, 0, [b"\0\1", b"\0"], width=2), "damaged"),
    "PNG with half a palette picture": (png(8, 3, [b"\0\1"], PLTE, width=2, height=2), "damaged"),
    "JPEG of very many scans": (
        REPEATED_SCANS,
        "240 x 400 pixels in 309 scans, which take too long to decode; save it again",
    ),
    "JPEG with a broken end": (WHOLE_JPEG[:-1] + b"\xd1", "damaged"),
    "a bomb": (png(8, 0, [b"\0"], width=60_000, height=60_000), "decompression bomb"),
}


@pytest.mark.parametrize(("data", "reason"), BAD.values(), ids=BAD)
def test_bad_image_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        read(data)


def test_picture_that_tensorflow_cannot_hold_is_refused() -> None:
    reason = "1 x 1000001 pixels; TensorFlow decodes at most 1,000,000 on a side and 178,956,970 in all"
    with pytest.raises(BadImage, match=reason):
        read(png(8, 0, [b"\1"] * 1_000_001, width=1), 2_000_000)


def test_max_pixels_is_the_most_allowed() -> None:
    data = saved(Image.fromarray(GRAY), "PNG")
    assert read(data, GRAY.size).width == GRAY.shape[1]
    with pytest.raises(BadImage, match=f"7 x 11 pixels; max_pixels allows {GRAY.size - 1}"):
        read(data, GRAY.size - 1)


ODD_CHUNKS = [
    (b"tEXt", b"exif\0b'Exif\\x00\\x00II*'"),
    (b"tEXt", b"transparency\0yes"),
    (b"tEXt", b"Raw profile type exif\0\nexif\n 4\nzz no hex\n"),
    (b"iTXt", b"exif\0\0\0\0\0b'Exif'"),
    (b"iTXt", b"Comment\0\0\0\0\0\xff\xfe"),
    (b"zTXt", b"parameters\0\0" + zlib.compress(b"a prompt " * 250_000)),
    (b"iCCP", b"ICC Profile\0\0" + zlib.compress(bytes(2_000_000))),
    (b"iCCP", b"ICC Profile\0\0garbage"),
    (b"eXIf", b"no exif at all"),
    (b"eXIf", b""),
    (b"gAMA", struct.pack(">I", 100_000)),
    (b"pHYs", b"\0"),
    (b"tRNS", b"\0\1"),
    (b"PLTE", PALETTE.tobytes()),
    (b"acTL", struct.pack(">II", 1, 0)),
    (b"XXXX", b"a"),
    (b"xxXx", b"a"),
]
METADATA = [parts for parts in ODD_CHUNKS if parts[0] not in (b"tRNS", b"PLTE", b"acTL", b"XXXX")]
LARGE = [(b"tEXt", b"parameters\0" + b"a prompt " * 200_000), (b"tEXt", b"a\0b")]


@pytest.mark.parametrize("parts", METADATA, ids=str)
@pytest.mark.parametrize("color", ["gray", "color"])
@pytest.mark.parametrize("spoilt", [False, True], ids=["", "with a wrong checksum"])
def test_picture_with_odd_metadata_is_whole(parts: tuple[bytes, bytes], color: str, spoilt: bool) -> None:
    pixels = GRAY if color == "gray" else COLOR
    plain = saved(Image.fromarray(pixels), "PNG")
    example = read(plain[:33] + chunk(*parts, spoilt=spoilt) + plain[33:])
    expected = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)
    np.testing.assert_array_equal(decoded(example), expected)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(example.encoded)).convert("RGB")), expected)


@pytest.mark.parametrize(
    ("parts", "spoilt", "kept"), [(LARGE[0], False, False), (LARGE[1], True, False), (LARGE[1], False, True)]
)
def test_metadata_is_handed_on_if_it_is_plain(parts: tuple[bytes, bytes], spoilt: bool, kept: bool) -> None:
    data = WHOLE[:33] + chunk(*parts, spoilt=spoilt) + WHOLE[33:]
    assert (read(data).encoded == data) == kept


def test_small_picture_of_many_scans_is_taken() -> None:
    data = saved(Image.fromarray(WAVE), "JPEG", progressive=True)
    assert read(data, WAVE.size).encoded == data
    assert count_scans(repeat_scan(data, 30)) == count_scans(data) + 29


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["PNG 1", "PNG L", "PNG LA", "PNG RGB", "PNG RGBA", "PNG I;16", "BMP 1", "BMP L", "BMP RGB"]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_picture_round_trips(kind: str, height: int, width: int, seed: int) -> None:
    file_format, mode = kind.split()
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    alpha = rng.integers(0, 256, (height, width), np.uint8)
    image, seen = {
        "1": lambda: (Image.fromarray(pixels[..., 0] // 128 * 255).convert("1"), pixels[..., 0] // 128 * 255),
        "L": lambda: (Image.fromarray(pixels[..., 0].copy()), pixels[..., 0]),
        "LA": lambda: (Image.fromarray(np.dstack([pixels[..., 0], alpha]), "LA"), on_white(pixels[..., :1], alpha)),
        "RGB": lambda: (Image.fromarray(pixels), pixels),
        "RGBA": lambda: (Image.fromarray(np.dstack([pixels, alpha])), on_white(pixels, alpha)),
        "I;16": lambda: (Image.fromarray(pixels[..., 0] * np.uint16(257)), pixels[..., 0]),
    }[mode]()
    example = read(saved(image, file_format))
    expected = np.broadcast_to(seen.reshape(height, width, -1), (height, width, 3))
    actual = decoded(example)
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected).max() <= ("A" in mode)  # Pillow rounds its own way when it blends


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Random bytes, or one of the images above cut, with bits flipped, or as a PNG with its chunks changed."""
    data = bytearray(draw(st.sampled_from([case.data for case in CASES.values()])))
    how = draw(st.sampled_from(["random", "cut", "flip", "flip", "chunks", "chunks", "chunks"]))
    if how == "random":
        return draw(st.sampled_from([b"", *(bytes(data[:size]) for size in (2, 8, 40))])) + draw(st.binary())
    if how == "cut":
        return bytes(data[: draw(st.integers(0, len(data) - 1))])
    if how == "chunks" and data.startswith(SIGNATURE):
        return draw(changed_chunks(bytes(data)))
    for bit in draw(st.lists(st.integers(0, 8 * len(data) - 1), min_size=1, max_size=3)):
        data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


@st.composite
def changed_chunks(draw: st.DrawFn, data: bytes) -> bytes:
    """A PNG of which chunks are left out, repeated, moved, changed or added, mostly with the right checksums."""
    chunks = list_chunks(data)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(chunks) - 1))
        name, content = chunks[place]
        match draw(st.sampled_from(["leave out", "repeat", "move", "flip", "recompress", "add", "add", "add"])):
            case "leave out" if len(chunks) > 1:
                del chunks[place]
            case "repeat":
                chunks.insert(place, (name, content))
            case "move":
                chunks.insert(draw(st.integers(0, len(chunks) - 1)), chunks.pop(place))
            case "flip" if content:
                bit = draw(st.integers(0, 8 * len(content) - 1))
                flipped = bytearray(content)
                flipped[bit // 8] ^= 1 << bit % 8
                chunks[place] = (name, bytes(flipped))
            case "recompress" if name == b"IDAT":
                with contextlib.suppress(zlib.error):
                    rows = bytearray(zlib.decompress(content))
                    rows[draw(st.integers(0, len(rows) - 1))] = draw(st.integers(0, 255))
                    kept = draw(st.integers(len(rows) // 2, len(rows)))
                    chunks[place] = (name, zlib.compress(bytes(rows[:kept]))[: draw(st.sampled_from([None, -1, -4]))])
            case _:
                chunks.insert(place, draw(st.sampled_from(ODD_CHUNKS)))
    spoilt = draw(st.sampled_from([-1, -1, -1, *range(len(chunks))]))
    return SIGNATURE + b"".join(chunk(*parts, spoilt=number == spoilt) for number, parts in enumerate(chunks))


def list_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, start = [], len(SIGNATURE)
    while start < len(data):
        (length,) = struct.unpack(">I", data[start : start + 4])
        found.append((data[start + 4 : start + 8], data[start + 8 : start + 8 + length]))
        start += 12 + length
    return found


FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "500"))  # more of them find what is rarer
ROUNDING = 3  # levels, by which builds of the JPEG library may differ


@settings(max_examples=FUZZ_EXAMPLES, deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ)
@given(damaged())
def test_every_decoder_sees_the_picture_that_is_accepted(data: bytes) -> None:
    try:
        example = read(data)
    except BadImage:
        return
    assert decoded(example).shape == (example.height, example.width, 3)
    by_pillow = np.asarray(Image.open(io.BytesIO(example.encoded)).convert("RGB"))
    buffer = np.frombuffer(example.encoded, np.uint8)
    by_opencv = cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)[..., ::-1]
    by_tensorflow = decoded_exactly(example).astype(int)
    assert by_tensorflow.shape == by_pillow.shape == by_opencv.shape == decoded(example).shape
    allowed = ROUNDING if example.format == "jpeg" else 0
    assert np.abs(by_tensorflow - by_pillow).max() <= allowed
    assert np.abs(by_tensorflow - by_opencv).max() <= allowed


def decoded_exactly(example: ImageExample) -> np.ndarray:
    """As `decoded`, without the quick transform of JPEGs, which overflows where damage has made values absurd."""
    import tensorflow as tf

    if example.format == "png":
        return decoded(example)
    return tf.io.decode_jpeg(example.encoded, channels=3, dct_method="INTEGER_ACCURATE").numpy()


def test_a_tensorflow_that_cannot_be_imported_makes_no_image_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.fromarray(WAVES).save(buffer, "JPEG")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError):
        read_image("train/i/0.jpg", buffer.getvalue(), label=0, max_pixels=MAX_PIXELS)
