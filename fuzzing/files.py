"""Files of pictures and labels, sound and damaged, and trees of them."""

from __future__ import annotations

import functools
import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from scipy.io import savemat

from fuzzing.case import pick

PNG_START = b"\x89PNG\r\n\x1a\n"
OTHERS_FILE = "/etc/passwd"
"""A file that is surely there, and no picture."""


@dataclass
class Tree:
    """Files and links by their paths in a folder."""

    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    """Where symbolic links lead; "" stands for a named pipe."""

    def write(self, folder: Path) -> None:
        """Writes everything into a folder."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for name, target in self.links.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if target:
                path.symlink_to(target)
            else:
                os.mkfifo(path)


# --- Sound files ---


def encoded(array: np.ndarray, format: str = "PNG", mode: str | None = None) -> bytes:
    """Returns an array, (H, W) or (H, W, 3), as an image file of Pillow's."""
    image = Image.fromarray(array)
    if mode is not None:
        image = image.convert(mode)
    stream = io.BytesIO()
    image.save(stream, format=format)
    return stream.getvalue()


def palette_mask(labels: np.ndarray, colors: np.ndarray) -> bytes:
    """Returns labels as a palette PNG."""
    image = Image.fromarray(labels.astype(np.uint8))
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    image.putpalette(table.tobytes())
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def mat(**variables: Any) -> bytes:
    """Returns a MATLAB file, compressed as those of the data sets are."""
    stream = io.BytesIO()
    savemat(stream, variables, do_compression=True)
    return stream.getvalue()


def sbd(labels: np.ndarray) -> bytes:
    """Returns labels as a file of SBD's."""
    return mat(GTcls={"Segmentation": labels.astype(np.uint8), "Boundaries": 0})


def context(labels: np.ndarray) -> bytes:
    """Returns ids as a file of PASCAL-Context's."""
    return mat(LabelMap=labels.astype(np.uint16))


@functools.cache
def video(suffix: str = ".avi", frames: int = 4) -> bytes:
    """Returns a short video of noise."""
    import tempfile

    rng = np.random.default_rng(0)
    code = {".avi": "MJPG", ".mp4": "mp4v"}[suffix]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"video{suffix}")
        writer = cv2.VideoWriter(
            str(path), cv2.VideoWriter.fourcc(*code), 5.0, (32, 24)
        )
        for _ in range(frames):
            writer.write(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        writer.release()
        return path.read_bytes()


# --- Damage that any file can have ---


def truncated(rng: np.random.Generator, content: bytes) -> bytes:
    """Cuts a file off."""
    return content[: int(rng.integers(len(content)))]


def flipped(rng: np.random.Generator, content: bytes) -> bytes:
    """Flips one to eight bits, half of the time among the first 64 bytes."""
    damaged = bytearray(content)
    span = min(64, len(damaged)) if rng.random() < 0.5 else len(damaged)
    for _ in range(pick(rng, [1, 1, 2, 8])):
        damaged[int(rng.integers(span))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def overwritten(rng: np.random.Generator, content: bytes) -> bytes:
    """Overwrites a stretch by zeros, ones or noise."""
    start = int(rng.integers(len(content)))
    length = int(rng.integers(1, 65))
    noise = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
    stretch = pick(rng, [bytes(length), b"\xff" * length, noise])
    return (content[:start] + stretch + content[start + length :])[: len(content)]


def spliced(rng: np.random.Generator, content: bytes) -> bytes:
    """Repeats or drops a stretch."""
    start, stop = sorted(rng.integers(0, len(content) + 1, 2).tolist())
    middle = content[start:stop] * pick(rng, [0, 2, 3])
    return content[:start] + middle + content[stop:]


def foreign(rng: np.random.Generator, content: bytes) -> bytes:
    """Returns something else altogether."""
    noise = rng.integers(0, 256, 300, dtype=np.uint8).tobytes()
    return pick(
        rng,
        [
            b"",
            b"\0" * 100,
            noise,
            b"GIF89a",
            PNG_START,
            b"\xff\xd8\xff\xe0" + noise,
            b"BM" + noise,
            b"II*\0" + noise,
            b"%PDF-1.4\n" + noise,
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
            b"(%pipe%touch /tmp/let-in) (w) file\n",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            b"MATLAB 7.3 MAT-file" + b" " * 105 + b"\0\x02IM" + noise,
        ],
    )


DAMAGES: tuple[Callable[[np.random.Generator, bytes], bytes], ...] = (
    truncated,
    flipped,
    flipped,
    overwritten,
    spliced,
    foreign,
)


# --- Files that are whole, and too much ---


def chunk(kind: bytes, content: bytes) -> bytes:
    """Returns a chunk of a PNG file, its checksum right."""
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def zeros(count: int, before: bytes = b"") -> bytes:
    """Returns some bytes and so many zeros as zlib's stream, without packing them all.

    A block of zeros that knows of nothing before it can be repeated. What remains is
    the checksum: with the sums a and b so far, n zeros make b into b + n·a.
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
    """Returns a PNG of black: all of it, or a header without it."""
    color = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    size = height * (1 + width * channels) if whole else 100
    return (
        PNG_START
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zeros(size))
        + chunk(b"IEND", b"")
    )


def png_text_bomb(content: bytes, count: int) -> bytes:
    """Returns a PNG with a compressed text of so many zeros after its header."""
    text = chunk(b"zTXt", b"Comment\0\0" + zeros(count))
    return content[:33] + text + content[33:]


def with_size(content: bytes, width: int, height: int) -> bytes:
    """Returns a PNG, JPEG, GIF or BMP file whose header tells another size."""
    if content.startswith(PNG_START):
        header = struct.pack(">II", width & 0x7FFFFFFF, height & 0x7FFFFFFF)
        return PNG_START + chunk(b"IHDR", header + content[24:29]) + content[33:]
    if content.startswith(b"GIF8"):
        return (
            content[:6]
            + struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
            + (content[10:])
        )
    if content.startswith(b"BM"):
        header = struct.pack("<ii", width & 0x7FFFFFFF, height & 0x7FFFFFFF)
        return content[:18] + header + content[26:]
    frame = content.find(b"\xff\xc0")
    size = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
    return content[: frame + 5] + size + content[frame + 9 :]


def gif_bomb(width: int, height: int, frames: int) -> bytes:
    """Returns an animation of so many frames, each a byte or two of it."""
    # One clear code, one pixel, the end: decoders fill up what is missing.
    image = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\0"
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0)
    return b"GIF89a" + screen + bytes(6) + image * frames + b";"


def tiff_bomb(width: int, height: int) -> bytes:
    """Returns a TIFF of one deflated strip of zeros."""
    strip = zeros(width * height)
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 8),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, len(strip)),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    end = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + end


def mat_bomb(name: str, side: int) -> bytes:
    """Returns a MATLAB file of a square of zeros that takes side² bytes."""
    label = name.encode().ljust(8, b"\0")
    matrix = (
        struct.pack("<IIIIII", 6, 8, 9, 0, 5, 8)  # flags of an array of bytes, its axes
        + struct.pack("<iiII", side, side, 1, len(name))
        + label
        + struct.pack("<II", 2, side**2)
    )
    element = struct.pack("<II", 14, len(matrix) + side**2) + matrix
    packed = zeros(side**2, element)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM"
    return header + struct.pack("<II", 15, len(packed)) + packed
