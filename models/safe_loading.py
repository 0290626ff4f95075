"""Loading models from files that may be damaged, or made to do harm.

A `.keras` file is an archive of an architecture and its weights. Keras' safe mode
refuses code in it, but its older versions import whatever module a file names, and none
tells a flipped bit in the weights. A SavedModel is a program: no check makes one safe
that does not come from a source you trust, but a damaged one is told by its sums.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import keras
import tensorflow as tf

SUMS_FILE = "SHA256SUMS"
"""In a version's folder `assets.extra`: what `sha256sum --check` reads there."""

MAX_EXPANSION = 16
MAX_SMALL = 2**26
"""An archive may unpack to so many times its size, and its arrays to so many times
theirs, or to 64 MiB. Keras compresses neither."""

_CONFIG = "config.json"
_WEIGHTS = "model.weights.h5"

_FUNCTION = "function"
_PLAIN = (
    *("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__"),
    *("__slice__", "__tuple__"),
)
"""What a configuration holds beside objects of classes."""

_PROGRAMS = ("TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
"""Keras' layers that run what other frameworks, or other files, hold."""


def load_keras(path: Path) -> keras.Model:
    """Loads a `.keras` file without its optimizer and losses.

    Nothing in the file is executed, whatever version of Keras loads it: its classes
    must be Keras' own or registered (`keras.saving.register_keras_serializable`).

    Args:
        path: of the file; its name ends in `.keras`.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: for a file that is damaged, far larger than it looks, holds code or
            unknown classes, or is no model.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected a .keras file. Received: {path}, no file")
    try:
        _check_archive(path)
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        if not isinstance(model, keras.Model):
            raise ValueError(f"a {type(model).__name__}, no model")
        return model
    # Of a damaged file the libraries raise what they please.
    except Exception as error:
        raise ValueError(
            f"Expected {path} to be a whole .keras file, of known classes and without "
            f"code. Received: {_reason(error)}"
        ) from error


def load_saved_model(path: Path) -> Any:
    """Loads a SavedModel, after its sums were found right where it has some.

    Args:
        path: of its folder.

    Raises:
        ValueError: for files that are damaged or missing.
    """
    check_sums(path)
    try:
        return tf.saved_model.load(str(path))
    except Exception as error:
        raise ValueError(
            f"Expected {path} to be a whole SavedModel. Received: {_reason(error)}"
        ) from error


# --- Sums of a SavedModel's files ---


def write_sums(folder: Path) -> None:
    """Notes the sums of all files of a SavedModel in its assets.extra/SHA256SUMS."""
    target = folder / "assets.extra" / SUMS_FILE
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in files if path != target)
    lines = [f"{_sum(folder / name)}  {name}\n" for name in names]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(lines), encoding="utf-8")


def check_sums(folder: Path) -> None:
    """Raises `ValueError` unless the files are those that sums were noted of."""
    target = folder / "assets.extra" / SUMS_FILE
    if not target.is_file():
        return
    wrong = [
        line for line in target.read_bytes().splitlines() if not _holds(folder, line)
    ]
    if wrong:
        raise ValueError(
            f"Expected the files of {folder} to be as they were exported. Received: "
            f"others, by {SUMS_FILE}: {b', '.join(wrong)[:200]!r}"
        )


def _holds(folder: Path, line: bytes) -> bool:
    """Whether a file is what a line says of it."""
    digest, _, name = line.decode("utf-8", "replace").partition("  ")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        return False
    # Not `Path.is_file`, which raises for a name that is too long.
    return os.path.isfile(folder / path) and _sum(folder / path) == digest


def _sum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


# --- Archives ---


def _check_archive(path: Path) -> None:
    """Raises for an archive that is damaged, too large, or holds what may be code."""
    if not zipfile.is_zipfile(path):
        # Keras 2 would take an HDF5 file for a model, with whatever code it holds.
        raise ValueError("no archive")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        outside = [name for name in names if _leads_outside(name)]
        if outside or len(set(names)) < len(names):
            raise ValueError(f"members outside of it, or twice: {outside or names}")
        total = sum(member.file_size for member in members)
        if total > _bound(path.stat().st_size):
            raise ValueError(f"an archive that would unpack to {total} bytes")
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"a wrong checksum of {damaged}")
        _check_config(json.loads(archive.read(_CONFIG)))
        if _WEIGHTS in names:
            size = archive.getinfo(_WEIGHTS).file_size
            with archive.open(_WEIGHTS) as stream, h5py.File(stream) as weights:
                _check_arrays(weights, size)


def _leads_outside(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or ":" in name


def _bound(size: int) -> int:
    return max(MAX_SMALL, MAX_EXPANSION * size)


def _check_arrays(weights: h5py.File, size: int) -> None:
    """Raises for arrays outside of the file, or of far more bytes than it has."""
    total = 0
    for name, array in _arrays(weights):
        if array.external or array.is_virtual:
            raise ValueError(f"an array outside of the file, {name}")
        total += math.prod(array.shape) * array.dtype.itemsize
    if total > _bound(size):
        raise ValueError(f"arrays of {total} bytes in {size}")


def _arrays(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"a link in the place of the array {name}")
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _arrays(item)
        else:
            yield name, item


# --- Architectures ---


def _check_config(values: Any) -> None:
    """Raises for an object in a configuration that is not known to be harmless.

    Raises:
        ValueError: for such an object, or one whose name is none.
    """
    if isinstance(values, list):
        for value in values:
            _check_config(value)
    if not isinstance(values, Mapping):
        return
    if "class_name" in values and not _is_known(values):
        raise ValueError(
            f"{values.get('module')}.{values['class_name']}, which is neither Keras' "
            "own nor registered, or may hold code"
        )
    config = values.get("config")
    name = config.get("name") if isinstance(config, Mapping) else None
    if name is not None and not isinstance(name, str):
        # Keras 2 takes it, and fails when the model is called.
        raise ValueError(f"a name that is no text, {name!r}")
    for value in values.values():
        _check_config(value)


def _is_known(values: Mapping[str, Any]) -> bool:
    """Whether an object is of a class, or a function, that may be made from a file."""
    name, module = values["class_name"], values.get("module")
    if name in _PLAIN:
        return True
    if name == _FUNCTION:
        name = values.get("config")
        return _is_registered(name) or _is_activation(module, name)
    if not isinstance(name, str) or name.startswith("__") or name in _PROGRAMS:
        return False
    if _is_registered(values.get("registered_name") or name):
        return True
    # Without a module Keras takes it from its own tables.
    return module is None or _is_class_of_keras(module, name)


def _is_registered(name: Any) -> bool:
    return isinstance(name, str) and (
        keras.saving.get_registered_object(name) is not None
    )


def _is_activation(module: Any, name: Any) -> bool:
    kinds = ("builtins", "keras.activations", "keras.src.activations")
    return (
        module in (*kinds, "keras.src.activations.activations")
        and isinstance(name, str)
        and hasattr(keras.activations, name)
    )


def _is_class_of_keras(module: Any, name: str) -> bool:
    if not isinstance(module, str) or module.split(".")[0] != "keras":
        return False
    found = getattr(importlib.import_module(module), name, None)
    is_own = getattr(found, "__module__", "").split(".")[0] == "keras"
    return isinstance(found, type) and is_own and hasattr(found, "from_config")


def _reason(error: Exception) -> str:
    line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {line:.300}" if line else type(error).__name__
