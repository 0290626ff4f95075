"""Saved models: sound, with other contents, and with code in their architecture."""

from __future__ import annotations

import base64
import functools
import io
import json
import marshal
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tf_levelset.export.saved_model import export
from tf_levelset.inference.predictor import KerasPredictor
from tf_levelset.models import deeplab_largefov

PICTURE = np.random.default_rng(0).integers(0, 256, (17, 23, 3), dtype=np.uint8)
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
NEVER_IMPORTED = "this"
"""A module of Python's standard library that nothing but a hostile file imports."""


@dataclass(frozen=True)
class Saved:
    """A tiny model as its files, and its probabilities for `PICTURE`.

    Attributes:
        archive: the `.keras` file.
        exported: the files of the SavedModel by their paths.
        probabilities: float32 (17, 23, 3).
    """

    archive: bytes
    exported: Mapping[str, bytes]
    probabilities: np.ndarray

    def members(self) -> dict[str, bytes]:
        """Returns the members of the archive by name."""
        with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


@functools.cache
def saved() -> Saved:
    """Creates and saves the model, once in a process."""
    model = tiny_net()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save(folder / "model.keras")
        version = export(model, folder / "served", ["a", "b", "c"])
        paths = [path for path in version.rglob("*") if path.is_file()]
        exported = {p.relative_to(version).as_posix(): p.read_bytes() for p in paths}
        archive = (folder / "model.keras").read_bytes()
    return Saved(archive, exported, KerasPredictor(model)(PICTURE))


def tiny_net() -> Any:
    """Returns a network of three classes that is built in a second."""
    return deeplab_largefov(3, width=0.02, depth=0.01, dilation=1)


# --- Archives with other contents ---


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Returns an archive of members with their right checksums."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def with_config(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Returns the archive with another configuration."""
    members = saved().members()
    config = change(json.loads(members[CONFIG]))
    return zipped({**members, CONFIG: json.dumps(config).encode()})


def with_weights(change: Callable[[h5py.File], None]) -> bytes:
    """Returns the archive with other weights."""
    members = saved().members()
    stream = io.BytesIO(members[WEIGHTS])
    with h5py.File(stream, "r+") as weights:
        change(weights)
    return zipped({**members, WEIGHTS: stream.getvalue()})


def archive_bomb(member: str) -> bytes:
    """Returns the archive with a member of 80 MiB of zeros, compressed."""
    members = {**saved().members(), member: bytes(80 << 20)}
    return zipped(members, zipfile.ZIP_DEFLATED)


# --- Code in an architecture ---


def code_layers(canary: Path) -> dict[str, dict[str, Any]]:
    """Returns layers that would create the file `canary` if Keras ran their code."""
    source = f"lambda x: [open({str(canary)!r}, 'w').close(), x][1]"
    compiled = compile(source, "<let in>", "eval").co_consts[0]
    code = base64.b64encode(marshal.dumps(compiled)).decode()
    serialized = {"code": code, "defaults": None, "closure": None}
    function = {"class_name": "__lambda__", "config": serialized}
    legacy: dict[str, Any] = {
        "function": [code, None, None],
        "function_type": "lambda",
        "module": "builtins",
        "output_shape": None,
        "output_shape_type": "raw",
        "output_shape_module": None,
        "arguments": {},
    }
    touch = f"touch {canary}"
    layers: dict[str, tuple[str, str, dict[str, Any]]] = {
        "lambda": ("keras.layers", "Lambda", {"function": function}),
        "legacy lambda": ("keras.layers", "Lambda", legacy),
        "os.system, a class": ("os", "system", {"command": touch}),
        "Popen": ("subprocess", "Popen", {"args": ["touch", str(canary)]}),
        "import": (NEVER_IMPORTED, "Anything", {}),
        "get_file, a class": (
            "keras.utils",
            "get_file",
            {"fname": str(canary), "origin": "file:///etc/passwd"},
        ),
        "torch": ("keras.layers", "TorchModuleWrapper", {"module": code}),
        "SavedModel": ("keras.layers", "TFSMLayer", {"filepath": str(canary)}),
    }
    functions = {
        "os.system": ("os", "system"),
        "get_file": ("keras.utils", "get_file"),
        "unsafe": ("keras.config", "enable_unsafe_deserialization"),
    }
    found: dict[str, dict[str, Any]] = {
        "bare lambda": {"class_name": "__lambda__", "config": {"value": serialized}}
    }
    for kind, (module, name, config) in layers.items():
        layer = {"class_name": name, "module": module, "config": config}
        if module == "keras.layers":
            found[kind] = {**layer, "config": {"name": "let_in", **config}}
        else:
            found[kind] = {**layer, "registered_name": name}
    for kind, (module, name) in functions.items():
        found[kind] = {
            "class_name": "function",
            "module": module,
            "config": name,
            "registered_name": name,
        }
    return found


def as_whole(layer: dict[str, Any]) -> bytes:
    """Returns the archive with something else in the place of the model."""
    return with_config(lambda config: layer)


def with_layer(layer: dict[str, Any], canary: Path) -> bytes:
    """Returns the archive with one more layer, which Keras 2 and 3 would call."""

    def change(config: dict[str, Any]) -> dict[str, Any]:
        layers = config["config"]["layers"]
        constant = [[["_CONSTANT_VALUE", -1, f"touch {canary}", {}]]]
        as_keras_3 = [{"args": [f"touch {canary}"], "kwargs": {}}]
        is_3 = any(isinstance(n, dict) for n in layers[-1]["inbound_nodes"])
        nodes = as_keras_3 if is_3 else constant
        layers.append({"name": "let_in", "inbound_nodes": nodes, **layer})
        return config

    return with_config(change)


def legacy_file(canary: Path) -> bytes:
    """Returns an HDF5 file of Keras 2 whose Lambda layer holds code."""
    inputs = {"batch_input_shape": [None, 1], "name": "images"}
    code = code_layers(canary)["legacy lambda"]["config"]
    layers = [
        {"class_name": "InputLayer", "config": inputs},
        {"class_name": "Lambda", "config": code},
    ]
    config = {
        "class_name": "Sequential",
        "config": {"name": "let_in", "layers": layers},
    }
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["backend"] = "tensorflow"
        file.create_group("model_weights").attrs["layer_names"] = []
    return stream.getvalue()
