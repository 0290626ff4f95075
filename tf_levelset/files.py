"""Files that are written atomically, and paths that must stay inside a folder."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically: a reader never sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    try:
        # A symbolic link of this name would be followed.
        partial.unlink(missing_ok=True)
        with partial.open("xb") as stream:
            stream.write(content)
        # Otherwise a power failure could leave an empty file.
        sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def partial_path(path: Path) -> Path:
    """Returns where this process writes a file before renaming it to its own name."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def remove_partials(folder: Path) -> None:
    """Removes the partial files of processes that were killed while writing."""
    for path in folder.glob(".*.partial"):
        path.unlink(missing_ok=True)


def files_below(folder: Path, above: tuple[str, ...] = ()) -> list[Path]:
    """Returns the files in a folder at any depth, sorted by their folders and names.

    Links to folders are followed. Hidden files and folders are left out.

    Args:
        folder: The folder.
        above: The real paths of the folders that lead to it.

    Raises:
        ValueError: If a link leads to a folder that leads to the link.
    """
    place, found = os.path.realpath(folder), []
    if place in above:
        raise ValueError(
            f"Expected no link to a folder around it. Received: {folder}, which leads "
            f"to {place}"
        )
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            is_dir = path.is_dir()
            found += files_below(path, (*above, place)) if is_dir else [path]
    return found


def check_links(folder: Path) -> None:
    """Checks that no link in a folder leads outside; the folder itself may be a link.

    Raises:
        ValueError: If a link leads outside.
    """
    for path in folder.rglob("*"):
        if path.is_symlink():
            inside(folder, path)


def inside(folder: Path, path: Path) -> Path:
    """Returns the path if it lies in the folder.

    Raises:
        ValueError: If the path leads outside, through `..` or a link.
    """
    # `Path.resolve` would raise for a cycle of links.
    place = Path(os.path.realpath(path))
    if not place.is_relative_to(os.path.realpath(folder)):
        raise ValueError(
            f"Expected a path inside {folder}. Received: {path}, which leads to {place}"
        )
    return path


def sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's content, as the command `sha256sum` prints it."""
    found = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(2**20):  # A file of weights may be large.
            found.update(block)
    return found.hexdigest()


def sync(path: Path) -> None:
    """Flushes a file's content, or a folder's list of entries, to the disk."""
    if path.is_dir():
        if os.name == "nt":
            return  # Windows cannot open folders.
        descriptor = os.open(path, os.O_RDONLY)
    else:
        descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file atomically."""
    # The names of files may hold what is not UTF-8.
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, values: Any) -> None:
    """Writes a JSON file atomically.

    Raises:
        ValueError: If a value is NaN or infinite, which JSON cannot express.
    """
    try:
        text = json.dumps(values, indent=1, allow_nan=False)
    except ValueError as error:
        raise ValueError(
            f"Expected finite numbers to write to {path}. Received: {error}"
        ) from error
    write_text(path, text + "\n")


def read_text(path: Path) -> str:
    """Reads a UTF-8 file, with or without a byte order mark.

    Raises:
        ValueError: If the file has another encoding.
    """
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected UTF-8 text in {path}. Received: {error}") from error


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        ValueError: If the file is not valid JSON.
    """
    try:
        return json.loads(read_text(path))
    # Deeply nested brackets exceed Python's recursion limit.
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {path}. Received: {error}") from error
