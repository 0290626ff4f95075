"""Small files, written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file under another name first: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    try:
        # Anew: another's link of this name would be followed to what it names.
        partial.unlink(missing_ok=True)
        with partial.open("xb") as stream:
            stream.write(content)
        # Else a power cut could leave the new name with nothing in it.
        sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def partial_path(path: Path) -> Path:
    """Where this process writes a file that gets its own name once it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def remove_partials(folder: Path) -> None:
    """Removes what processes left that were killed while they wrote to a folder."""
    for path in folder.glob(".*.partial"):
        path.unlink(missing_ok=True)


def check_links(folder: Path) -> None:
    """Sees that what is written to a folder stays in it.

    Raises:
        ValueError: for a link in it that leads outside. The folder may itself be one.
    """
    for path in folder.rglob("*"):
        if path.is_symlink():
            inside(folder, path)


def inside(folder: Path, path: Path) -> Path:
    """Returns a path that lies in a folder.

    Raises:
        ValueError: for one that leads outside, by `..` or by a link.
    """
    # Not `Path.resolve`, which raises for links in a circle.
    place = Path(os.path.realpath(path))
    if not place.is_relative_to(os.path.realpath(folder)):
        raise ValueError(
            f"Expected all of {folder} to lie inside of it. Received: {path}, which "
            f"leads to {place}"
        )
    return path


def sync(path: Path) -> None:
    """Has a file's content, or a folder's list of names, put on the disk itself."""
    if path.is_dir():
        if os.name == "nt":
            return  # opens no folders
        descriptor = os.open(path, os.O_RDONLY)
    else:
        descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file whole."""
    write_bytes(path, text.encode())


def write_json(path: Path, values: Any) -> None:
    """Writes a JSON file whole.

    Raises:
        ValueError: for NaN and infinities, which JSON does not have.
    """
    try:
        text = json.dumps(values, indent=1, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"Expected finite numbers, to write them to {path}. Received: {error}"
        ) from error
    write_text(path, text + "\n")


def read_text(path: Path) -> str:
    """Reads a UTF-8 file, with or without a mark of its byte order.

    Raises:
        ValueError: for another encoding.
    """
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected UTF-8 text in {path}. Received: {error}") from error


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        ValueError: for what is no JSON.
    """
    try:
        return json.loads(read_text(path))
    # Of brackets in thousands of brackets, Python tires.
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {path}. Received: {error}") from error
