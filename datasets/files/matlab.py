"""Arrays in MATLAB files, whose compression can hide more than memory holds."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

from scipy.io import loadmat

MAX_BYTES = 2**28
"""The limit for all arrays of a file together: 134 million labels of 16 bits."""

MAX_RATIO = 1032
"""How many bytes one byte of zlib's format can stand for."""

_HEADER = 128
_COMPRESSED = 15


def read_variable(path: str, name: str) -> Any:
    """Returns a variable of a MATLAB file, or None where the file lacks it.

    Raises:
        ValueError: If the file's arrays take more than `MAX_BYTES`.
    """
    size = Path(path).stat().st_size
    # Only a large file can hold too much: those of the data sets are some kilobytes.
    if size * MAX_RATIO > MAX_BYTES and _expanded(path) > MAX_BYTES:
        raise ValueError(
            f"Expected arrays of at most {MAX_BYTES} bytes in {path}. Received: more, "
            f"in a file of {size}"
        )
    return loadmat(path, variable_names=[name]).get(name)


def _expanded(path: str) -> int:
    """Returns how many bytes a file's elements take, or more than `MAX_BYTES`."""
    total = 0
    with open(path, "rb") as stream:
        order = ">" if stream.read(_HEADER)[126:] == b"MI" else "<"
        while total <= MAX_BYTES and len(tag := stream.read(8)) == 8:
            kind, length = struct.unpack(f"{order}II", tag)
            if kind != _COMPRESSED:
                return total + Path(path).stat().st_size
            total += _inflated(stream.read(length), MAX_BYTES - total + 1)
    return total


def _inflated(packed: bytes, enough: int) -> int:
    """Returns how many bytes a zlib stream takes, or at least `enough` of them."""
    total, unpacker = 0, zlib.decompressobj()
    while packed and total < enough and not unpacker.eof:
        total += len(unpacker.decompress(packed, 2**20))
        packed = unpacker.unconsumed_tail
    return total
