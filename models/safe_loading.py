"""Loads models from files that may be damaged or malicious.

A `.keras` file is an archive of an architecture and its weights. The safe mode of Keras
refuses code in it, but older versions of Keras import whatever module a file names, and
none notices a flipped bit in the weights. A SavedModel is a program: load one only from
a source that you trust. A damaged one is recognised by its checksums.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import keras
import tensorflow as tf

from tf_levelset.checks import reason
from tf_levelset.files import sha256

SUMS_FILE = "SHA256SUMS"
"""In the folder `assets.extra` of a SavedModel; `sha256sum --check` reads it, too."""

MAX_EXPANSION = 16
"""How many times its size an archive may unpack to, and its weights file may hold in
arrays. Keras compresses neither."""

MAX_SMALL = 2**26
"""The bytes (64 MiB) that are allowed in any case."""

_PLAIN = (
    *("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__"),
    *("__slice__", "__tuple__"),
)
"""The entries of a Keras configuration for values that are not objects of a class."""

_PROGRAMS = ("TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
"""Layers of Keras that run code of other frameworks or files."""


def load_keras(path: Path) -> keras.Model:
    """Loads a `.keras` file without its optimizer and losses, and runs no code in it.

    Args:
        path: The file. Its classes must be Keras' own or registered
            (`keras.saving.register_keras_serializable`).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, unpacks to far more than its size, holds
            code or unknown classes, or is not a model.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected a .keras file. Received: {path}, no file")
    try:
        _check_archive(path)
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        if not isinstance(model, keras.Model):
            raise ValueError(f"a {type(model).__name__}, which is not a model")
        return model
    # The libraries raise all kinds of errors for a damaged file.
    except Exception as error:
        raise ValueError(
            f"Expected {path} to be a whole .keras file of known classes and without "
            f"code. Received: {_reason(error)}"
        ) from error


def load_saved_model(path: Path) -> Any:
    """Loads a SavedModel, after its checksums were compared if it has any.

    Args:
        path: The folder of the SavedModel.

    Raises:
        ValueError: If a file is damaged or missing.
    """
    check_sums(path)
    try:
        return tf.saved_model.load(str(path))
    except Exception as error:
        raise ValueError(
            f"Expected {path} to be a whole SavedModel. Received: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{kind}{reason(error):.300}"


# --- Checksums of a SavedModel ---


def write_sums(folder: Path) -> None:
    """Writes the checksums of all files of a SavedModel to assets.extra/SHA256SUMS."""
    target = folder / "assets.extra" / SUMS_FILE
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in files if path != target)
    lines = [f"{sha256(folder / name)}  {name}\n" for name in names]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(lines), encoding="utf-8")


def check_sums(folder: Path) -> None:
    """Compares the files of a SavedModel with their checksums, if it has any.

    Raises:
        ValueError: If a file is missing or has another checksum.
    """
    target = folder / "assets.extra" / SUMS_FILE
    if not target.is_file():
        return
    lines = target.read_bytes().splitlines()
    wrong = [line for line in lines if not _agrees(folder, line)]
    if wrong:
        raise ValueError(
            f"Expected the files of {folder} to be as they were exported. Received: "
            f"different files than in {SUMS_FILE}: {b', '.join(wrong)[:200]!r}"
        )


def _agrees(folder: Path, line: bytes) -> bool:
    """Whether a file in the folder has the checksum that a line gives."""
    digest, _, name = line.decode("utf-8", "replace").partition("  ")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        return False
    # `Path.is_file` raises an error for a name that is too long.
    return os.path.isfile(folder / path) and sha256(folder / path) == digest


# --- Archives ---


def _check_archive(path: Path) -> None:
    """Raises if an archive is damaged, is too large, or may hold code."""
    if not zipfile.is_zipfile(path):
        # Keras 2 would load an HDF5 file as a model, with whatever code it holds.
        raise ValueError("no archive")
    with zipfile.ZipFile(path) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        outside = [name for name in sizes if _leads_outside(name)]
        if outside or len(sizes) < len(archive.infolist()):
            raise ValueError(f"members outside of the archive, or twice: {outside}")
        total = sum(sizes.values())
        if total > _limit(path.stat().st_size):
            raise ValueError(f"an archive that would unpack to {total} bytes")
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"a wrong checksum of {damaged}")
        _check_config(json.loads(archive.read("config.json")))
        name = "model.weights.h5"
        if name in sizes:
            with archive.open(name) as stream, h5py.File(stream) as weights:
                total = _array_bytes(weights)
            if total > _limit(sizes[name]):
                raise ValueError(f"arrays of {total} bytes in {sizes[name]}")


def _leads_outside(name: str) -> bool:
    """Whether the name of a file leads out of the folder that it is meant for."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or ":" in name


def _limit(size: int) -> int:
    return max(MAX_SMALL, MAX_EXPANSION * size)


def _array_bytes(group: h5py.Group) -> int:
    """Returns the bytes of all arrays; raises if one lies outside the file."""
    total = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"a link in the place of the array {name}")
        item = group[name]
        if isinstance(item, h5py.Group):
            total += _array_bytes(item)
        elif item.external or item.is_virtual:
            raise ValueError(f"an array outside of the file, {name}")
        else:
            total += math.prod(item.shape) * item.dtype.itemsize
    return total


# --- Architectures ---


def _check_config(values: Any) -> None:
    """Raises if a configuration holds an object that is not known to be harmless."""
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
        # Keras 2 accepts it, and fails when the model is called.
        raise ValueError(f"a name that is not a string, {name!r}")
    for value in values.values():
        _check_config(value)


def _is_known(values: Mapping[str, Any]) -> bool:
    """Whether a class or function may be created from a file."""
    name, module = values["class_name"], values.get("module")
    if name in _PLAIN:
        return True
    if name == "function":
        name = values.get("config")
        return _is_registered(name) or _is_activation(module, name)
    if not isinstance(name, str) or name.startswith("__") or name in _PROGRAMS:
        return False
    if _is_registered(values.get("registered_name") or name):
        return True
    # Without a module, Keras looks only into its own tables.
    return module is None or _is_class_of_keras(module, name)


def _is_registered(name: Any) -> bool:
    return isinstance(name, str) and (
        keras.saving.get_registered_object(name) is not None
    )


def _is_activation(module: Any, name: Any) -> bool:
    own = ("builtins", "keras.activations", "keras.src.activations")
    return (
        module in (*own, "keras.src.activations.activations")
        and isinstance(name, str)
        and hasattr(keras.activations, name)
    )


def _is_class_of_keras(module: Any, name: str) -> bool:
    if not isinstance(module, str) or module.split(".")[0] != "keras":
        return False
    found = getattr(importlib.import_module(module), name, None)
    is_own = getattr(found, "__module__", "").split(".")[0] == "keras"
    return isinstance(found, type) and is_own and hasattr(found, "from_config")
