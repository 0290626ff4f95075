"""Image and label files: sound, damaged, and far larger than they look."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

PNG_START = b"\x89PNG\r\n\x1a\n"


def encoded(array: np.ndarray, format: str = "PNG", mode: str | None = None) -> bytes:
    """Returns an array, (H, W) or (H, W, 3), as an image file."""
    image = Image.fromarray(array)
    if mode is not None:
        image = image.convert(mode)
    stream = io.BytesIO()
    image.save(stream, format=format)
    return stream.getvalue()


def mat(**variables: Any) -> bytes:
    """Returns a MATLAB file, compressed as those of the data sets are."""
    stream = io.BytesIO()
    savemat(stream, variables, do_compression=True)
    # Without the time, which scipy writes into the header.
    return b"MATLAB 5.0 MAT-file".ljust(116) + stream.getvalue()[116:]


# --- Damaged files ---

OTHER_FILES = (
    b"",
    b"\0" * 100,
    b"GIF89a",
    PNG_START,
    b"\xff\xd8\xff\xe0 no JPEG",
    b"BM no bitmap",
    b"II*\0 no TIFF",
    b"%PDF-1.4\n",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nquit\n",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    b"MATLAB 7.3 MAT-file" + b" " * 105 + b"\0\x02IM no arrays",
)
"""Contents that a file may have by mistake."""


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Draws a damaged file: cut off, overwritten, with flipped bits, another file."""
    kind = draw(st.sampled_from(["cut", "flip", "overwrite", "splice", "other"]))
    if kind == "other" or not content:
        return draw(st.sampled_from(OTHER_FILES) | st.binary(max_size=300))
    # Half of the damage hits the header.
    header = st.integers(0, min(64, len(content)) - 1)
    places = header | st.integers(0, len(content) - 1)
    place = draw(places)
    if kind == "cut":
        return content[:place]
    if kind == "overwrite":
        stretch = draw(st.binary(min_size=1, max_size=64))
        return (content[:place] + stretch + content[place + len(stretch) :])[
            : len(content)
        ]
    if kind == "splice":
        stop = draw(st.integers(place, len(content)))
        repeated = content[place:stop] * draw(st.sampled_from([0, 2, 3]))
        return content[:place] + repeated + content[stop:]
    flipped = bytearray(content)
    for place in draw(st.lists(places, min_size=1, max_size=8)):
        flipped[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(flipped)


# --- Small files of large images ---


def chunk(kind: bytes, content: bytes) -> bytes:
    """Returns a chunk of a PNG file with its right checksum."""
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def zeros(count: int, before: bytes = b"") -> bytes:
    """Returns a zlib stream of some bytes and `count` zeros, without packing them all.

    A compressed block of zeros that refers to nothing before it can be repeated. What
    remains is the checksum: after the sums a and b, n zeros turn b into b + n·a.
    """
    block = _deflated(bytes(1 << 20), zlib.Z_FULL_FLUSH)
    parts = [_deflated(before, zlib.Z_FULL_FLUSH), block * (count >> 20)]
    parts.append(_deflated(bytes(count & ((1 << 20) - 1)), zlib.Z_FINISH))
    high, low = divmod(zlib.adler32(before), 1 << 16)
    checksum = ((high + count * low) % 65521) << 16 | low
    return b"\x78\xda" + b"".join(parts) + struct.pack(">I", checksum)


def _deflated(content: bytes, end: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush(end)


def png_bomb(width: int, height: int, channels: int, whole: bool) -> bytes:
    """Returns a black PNG: the whole image, or its header without the pixels."""
    color = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    size = height * (1 + width * channels) if whole else 100
    chunks = [(b"IHDR", header), (b"IDAT", zeros(size)), (b"IEND", b"")]
    return PNG_START + b"".join(chunk(*parts) for parts in chunks)


def png_text_bomb(content: bytes, count: int) -> bytes:
    """Returns a PNG with a compressed comment of `count` zeros after its header."""
    text = chunk(b"zTXt", b"Comment\0\0" + zeros(count))
    return content[:33] + text + content[33:]


def with_size(content: bytes, width: int, height: int) -> bytes:
    """Returns a PNG or JPEG file whose header states another size."""
    if content.startswith(PNG_START):
        header = struct.pack(">II", width, height) + content[24:29]
        return PNG_START + chunk(b"IHDR", header) + content[33:]
    frame = content.index(b"\xff\xc0")
    return (
        content[: frame + 5] + struct.pack(">HH", height, width) + content[frame + 9 :]
    )


def gif_bomb(width: int, height: int, frames: int) -> bytes:
    """Returns an animation whose frames take a byte or two each."""
    # A clear code, one pixel and the end: decoders fill in the rest.
    image = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\0"
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0)
    return b"GIF89a" + screen + bytes(6) + image * frames + b";"


def tiff_bomb(width: int, height: int) -> bytes:
    """Returns a TIFF of one deflated strip of zeros."""
    strip = zeros(width * height)
    # Tag, type (3: 16 bits, 4: 32 bits) and value: size, depth, deflate, grey, …
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 8), (262, 3, 1)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(strip))]
    entries = b"".join(struct.pack("<HHII", tag, size, 1, v) for tag, size, v in tags)
    end = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + end


def mat_bomb(name: str, side: int) -> bytes:
    """Returns a MATLAB file of side × side zeros of one byte each."""
    # Flags of an array of bytes, its two axes, its name and the type of its elements.
    matrix = struct.pack("<IIIIII", 6, 8, 9, 0, 5, 8)
    matrix += struct.pack("<iiII", side, side, 1, len(name))
    matrix += name.encode().ljust(8, b"\0") + struct.pack("<II", 2, side**2)
    element = struct.pack("<II", 14, len(matrix) + side**2) + matrix
    packed = zeros(side**2, element)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM"
    return header + struct.pack("<II", 15, len(packed)) + packed
