"""The parts of PNG and JPEG files: which of them are the picture, and how much work it is to decode it."""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from components.ingest.sources import BadImage

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # the chunks of a PNG that make the picture
EXIF = b"eXIf"  # says how it is turned
MOST_METADATA = 2**20  # bytes of a chunk that is not part of the picture; some readers refuse more
ANIMATION = (b"acTL", b"fcTL", b"fdAT")  # which readers know APNG, and so what they show, differs
HEADER = struct.Struct(">IIBBBBB")  # width, height, bit depth, color type, and three methods
CHANNELS = {(8, 0, 0, 0, 0): 1, (8, 2, 0, 0, 0): 3}  # of 8 bit gray and RGB without interlace
LAST_FILTER = 4

# In compressed data FF is followed by 00, by a restart marker, or by another FF.
JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
JPEG_SCAN, JPEG_END = 0xDA, 0xD9


class Png(NamedTuple):
    """A PNG file, taken apart."""

    picture: bytes  # the file with nothing but the chunks that make the picture and say how it is turned
    reordered: bytes  # the whole file, its metadata before the pixels, where a reader sees it first
    is_plain: bool  # its metadata is whole, not large and in its place, and it is no animation


def take_apart(data: bytes) -> Png:
    """Separates the picture of a PNG from what the file says about it: texts, profiles, dates, thumbnails.

    Readers differ in what they make of the latter, which is often odd: of texts of megabytes, of names that mean
    something else to the reader, of wrong checksums.

    Args:
        data: A file that begins with PNG_SIGNATURE.

    Returns:
        The picture.

    Raises:
        BadImage: The file ends too early, or a chunk of the picture is damaged or unknown.
    """
    picture, metadata, names = [PNG_SIGNATURE], [], []
    is_plain = True
    for kind, chunk, is_right in _list_chunks(data):
        names.append(kind)
        if kind in PIXELS:
            if not is_right:
                raise BadImage(f"damaged (the checksum of its {kind.decode()} is wrong)")
            picture.append(chunk)
            continue
        if not kind[0] & 0x20:  # a capital: who does not know it cannot show the picture
            raise BadImage(
                f"damaged (it has a chunk {ascii(kind.decode('latin-1'))}, without which it cannot be shown)"
            )
        is_plain = is_plain and is_right and kind not in ANIMATION and len(chunk) <= MOST_METADATA
        metadata += [(kind, chunk)] if is_right else []
    if b"IDAT" not in names:
        raise BadImage("damaged (it has no pixels)")
    first, count = names.index(b"IDAT"), names.count(b"IDAT")
    is_plain = is_plain and names[0] == b"IHDR" and names[first : first + count] == [b"IDAT"] * count
    # The signature comes first, and metadata that lies before the pixels is not among `picture`.
    place = 1 + sum(kind in PIXELS for kind in names[:first])
    turned = [chunk for kind, chunk in metadata if kind == EXIF]
    return Png(
        b"".join([*picture[:place], *turned, *picture[place:]]),
        b"".join([*picture[:place], *(chunk for _, chunk in metadata), *picture[place:]]),
        is_plain,
    )


def has_all_rows(picture: bytes) -> bool:
    """Tells quickly, for the usual kinds of PNG, whether every decoder can read all of it.

    Args:
        picture: The picture that take_apart returns, of a size that fits into memory.

    Returns:
        Whether it is of 8 bit gray or RGB, not interlaced, and its rows are whole; if not, a decoder has to tell.
    """
    chunks = [(kind, chunk[8:-4]) for kind, chunk, _ in _list_chunks(picture) if kind != EXIF]
    kinds = [kind for kind, _ in chunks]
    if kinds != [b"IHDR", *[b"IDAT"] * (len(chunks) - 2), b"IEND"] or len(chunks[0][1]) != HEADER.size:
        return False
    width, height, *kind_of_pixels = HEADER.unpack(chunks[0][1])
    channels = CHANNELS.get(tuple(kind_of_pixels))
    if channels is None:
        return False
    row = 1 + width * channels  # a byte for its filter, and the pixels
    stream = zlib.decompressobj(wbits=0)  # the window is that of the stream's own header, as for libpng
    try:
        rows = stream.decompress(b"".join(content for _, content in chunks[1:-1]), row * height + 1)
    except zlib.error:
        return False
    is_complete = stream.eof and len(rows) == row * height > 0
    return is_complete and max(rows[::row]) <= LAST_FILTER


def _list_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yields the name of each chunk, all its bytes, and whether its checksum is right, up to IEND."""
    start, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            raise BadImage("damaged (the end is missing)")
        kind = data[start + 4 : start + 8]
        (checksum,) = struct.unpack(">I", data[end - 4 : end])
        yield kind, data[start:end], zlib.crc32(memoryview(data)[start + 4 : end - 4]) == checksum
        start = end


def count_scans(data: bytes) -> int:
    """Counts the scans of a JPEG, over each of which a decoder goes through the whole picture.

    Args:
        data: A file that begins as a JPEG.

    Returns:
        Their number in the first picture of the file, as far as it can be followed.
    """
    scans, position = 0, 2
    while found := JPEG_MARKER.search(data, position):
        marker = found[1][0]
        if marker == JPEG_END:
            break
        scans += marker == JPEG_SCAN
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return scans
