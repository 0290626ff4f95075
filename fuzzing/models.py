"""Saved models: damaged, far too large, and made to run code; and pictures they get."""

from __future__ import annotations

import base64
import functools
import io
import json
import marshal
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from fuzzing import files
from fuzzing.case import Case, Expected, pick
from fuzzing.commands import mutated
from tf_levelset.export.saved_model import export
from tf_levelset.inference.predictor import KerasPredictor, SavedModelPredictor
from tf_levelset.models import deeplab_largefov
from tf_levelset.models.weights import load_weights

PICTURE = np.random.default_rng(0).integers(0, 256, (17, 23, 3), dtype=np.uint8)
CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
SUMS = "assets.extra/SHA256SUMS"
NEVER_IMPORTED = "this"
"""A module of Python's own that nothing imports, but a file that has its way."""


@dataclass(frozen=True)
class Saved:
    """A tiny model as its files, and what it answers to `PICTURE`."""

    archive: bytes
    exported: Mapping[str, bytes]
    probabilities: np.ndarray

    def members(self) -> dict[str, bytes]:
        """The members of the archive."""
        with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


@functools.cache
def saved() -> Saved:
    """Makes a model and saves it, once a process."""
    model = _net()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save(folder / "model.keras")
        version = export(model, folder / "served", ["a", "b", "c"])
        paths = [path for path in version.rglob("*") if path.is_file()]
        exported = {p.relative_to(version).as_posix(): p.read_bytes() for p in paths}
        archive = (folder / "model.keras").read_bytes()
    return Saved(archive, exported, KerasPredictor(model)(PICTURE))


def _net() -> Any:
    return deeplab_largefov(3, width=0.02, depth=0.01, dilation=1)


@functools.cache
def _target() -> Any:
    """The net that damaged weights are loaded into."""
    return _net()


@functools.cache
def _served() -> Any:
    """The exported model, loaded once."""
    folder = tempfile.TemporaryDirectory()
    files.Tree(dict(saved().exported)).write(Path(folder.name))
    loaded = tf.saved_model.load(folder.name)
    folder.cleanup()
    return loaded


# --- Archives ---


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Returns an archive of members, their checksums right."""
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


def _datasets(weights: h5py.File) -> list[str]:
    names: list[str] = []
    weights.visititems(
        lambda name, item: (
            names.append(name) if isinstance(item, h5py.Dataset) else None
        )
    )
    return sorted(names)


@functools.lru_cache(maxsize=4)
def archive_bomb(member: str) -> bytes:
    """Returns an archive with a member of 80 MiB of zeros, deflated."""
    members = {**saved().members(), member: bytes(80 << 20)}
    return zipped(members, zipfile.ZIP_DEFLATED)


def _with_second_config(name: str) -> bytes:
    stream = io.BytesIO(saved().archive)
    with zipfile.ZipFile(stream, "a") as archive:
        info = zipfile.ZipInfo(name)
        archive.writestr(info, saved().members()[CONFIG])
    return stream.getvalue()


def _encrypted() -> bytes:
    """Sets the flag of encryption in all headers."""
    content = bytearray(saved().archive)
    for start, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        found = content.find(start)
        while found >= 0:
            content[found + place] |= 1
            found = content.find(start, found + 4)
    return bytes(content)


# --- Code in an architecture ---


def _code(canary: Path) -> str:
    """A function that makes a file, as Keras writes Python's code."""
    source = f"lambda x: [open({str(canary)!r}, 'w').close(), x][1]"
    code = compile(source, "<let in>", "eval").co_consts[0]
    return base64.b64encode(marshal.dumps(code)).decode()


def code_layers(canary: Path) -> dict[str, dict[str, Any]]:
    """Layers that run code where they are let in, by what they try."""
    code = _code(canary)
    serialized = {"code": code, "defaults": None, "closure": None}
    touch = f"touch {canary}"
    return {
        "lambda": {
            "class_name": "Lambda",
            "module": "keras.layers",
            "config": {
                "name": "let_in",
                "function": {"class_name": "__lambda__", "config": serialized},
            },
        },
        "legacy lambda": {
            "class_name": "Lambda",
            "module": "keras.layers",
            "config": {
                "name": "let_in",
                "function": [code, None, None],
                "function_type": "lambda",
                "module": "builtins",
                "output_shape": None,
                "output_shape_type": "raw",
                "output_shape_module": None,
                "arguments": {},
            },
        },
        "bare lambda": {"class_name": "__lambda__", "config": {"value": serialized}},
        "os.system": {
            "class_name": "function",
            "module": "os",
            "config": "system",
            "registered_name": "system",
        },
        "os.system, a class": {
            "class_name": "system",
            "module": "os",
            "config": {"command": touch},
            "registered_name": "system",
        },
        "Popen": {
            "class_name": "Popen",
            "module": "subprocess",
            "config": {"args": ["touch", str(canary)]},
            "registered_name": "Popen",
        },
        "import": {
            "class_name": "Anything",
            "module": NEVER_IMPORTED,
            "config": {},
            "registered_name": "Anything",
        },
        "get_file": {
            "class_name": "function",
            "module": "keras.utils",
            "config": "get_file",
            "registered_name": "get_file",
        },
        "get_file, a class": {
            "class_name": "get_file",
            "module": "keras.utils",
            "config": {"fname": str(canary), "origin": "file:///etc/passwd"},
            "registered_name": "get_file",
        },
        "unsafe": {
            "class_name": "function",
            "module": "keras.config",
            "config": "enable_unsafe_deserialization",
            "registered_name": "enable_unsafe_deserialization",
        },
        "torch": {
            "class_name": "TorchModuleWrapper",
            "module": "keras.layers",
            "config": {"name": "let_in", "module": code},
        },
        "SavedModel": {
            "class_name": "TFSMLayer",
            "module": "keras.layers",
            "config": {"name": "let_in", "filepath": str(canary)},
        },
    }


def as_whole(layer: dict[str, Any]) -> bytes:
    """The archive with something else in the place of the model."""
    return with_config(lambda config: layer)


def with_layer(layer: dict[str, Any], canary: Path) -> bytes:
    """The archive with a layer more, which Keras of both kinds would call."""

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
    """An HDF5 file of Keras 2, of a Lambda layer with code, under the wrong name."""
    layer = code_layers(canary)["legacy lambda"]
    config = {
        "class_name": "Sequential",
        "config": {
            "name": "let_in",
            "layers": [
                {
                    "class_name": "InputLayer",
                    "config": {"batch_input_shape": [None, 1], "name": "images"},
                },
                {"class_name": "Lambda", "config": layer["config"]},
            ],
        },
    }
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["backend"] = "tensorflow"
        file.create_group("model_weights").attrs["layer_names"] = []
    return stream.getvalue()


# --- Cases of `.keras` files ---


def answer_of(content: bytes, folder: Path) -> np.ndarray:
    """What the model in an archive answers."""
    path = folder / "model.keras"
    path.write_bytes(content)
    return KerasPredictor.load(path)(PICTURE)


def _is_right(answer: np.ndarray) -> None:
    np.testing.assert_allclose(answer, saved().probabilities, rtol=1e-5, atol=1e-6)


def _is_finite(answer: np.ndarray) -> None:
    assert np.isfinite(answer).all()


def _sound(rng: np.random.Generator) -> Case:
    method = pick(rng, [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
    return Case(
        {"compression": method},
        "answer",
        lambda folder: answer_of(zipped(saved().members(), method), folder),
        _is_right,
    )


def _damaged(rng: np.random.Generator) -> Case:
    """Damage anywhere in the archive: the same answer, or an error."""
    damage = pick(rng, files.DAMAGES)
    content = damage(rng, saved().archive)
    return Case(
        {"damage": damage.__name__, "bytes": len(content)},
        "either",
        lambda folder: answer_of(content, folder),
        _is_right,
    )


def _other_config(rng: np.random.Generator) -> Case:
    """A configuration that was changed, and whose checksum is right."""
    config = json.loads(saved().members()[CONFIG])
    place = [config]
    for _ in range(int(rng.integers(1, 3))):
        place[0] = mutated(rng, place[0])
    text = json.dumps(place[0])
    if rng.random() < 0.1:
        text = pick(rng, ["[" * 50_000, "", "null", "3", '"Functional"', "{}"])
    content = zipped({**saved().members(), CONFIG: text.encode()})
    difference = [a for a, b in zip(text, json.dumps(config), strict=False) if a != b]
    return Case(
        {"config": "".join(difference)[:200]},
        "either",
        lambda folder: answer_of(content, folder),
        _is_finite,
    )


def _code_in_config(rng: np.random.Generator) -> Case:
    """Code in the architecture: an error, and nothing happened."""
    kind = pick(rng, [*sorted(code_layers(Path("x"))), "legacy file"])
    whole = bool(rng.random() < 0.5)

    def act(folder: Path) -> np.ndarray:
        canary = folder / "let_in"
        sys.modules.pop(NEVER_IMPORTED, None)
        if kind == "legacy file":
            content = legacy_file(canary)
        elif whole:
            content = as_whole(code_layers(canary)[kind])
        else:
            content = with_layer(code_layers(canary)[kind], canary)
        try:
            return answer_of(content, folder)
        finally:
            if canary.exists() or NEVER_IMPORTED in sys.modules:
                raise RuntimeError(f"{kind}: code of a file was executed")

    return Case({"code": kind, "whole": whole}, "error", act, _is_finite)


def _odd_archive(rng: np.random.Generator) -> Case:
    """Bombs, members that lead outside, members that are missing or twice."""
    members = saved().members()
    kinds: dict[str, Callable[[], bytes]] = {
        "bomb in the configuration": lambda: archive_bomb(CONFIG),
        "bomb in the weights": lambda: archive_bomb(WEIGHTS),
        "bomb beside": lambda: archive_bomb("assets/let_in"),
        "outside": lambda: zipped({**members, "../let_in": b"x"}),
        "outside by assets": lambda: zipped({**members, "assets/../../let_in": b"x"}),
        "absolute": lambda: zipped({**members, "/tmp/let_in": b"x"}),
        "of Windows": lambda: zipped({**members, "..\\let_in": b"x", "C:let_in": b"x"}),
        "without configuration": lambda: zipped({WEIGHTS: members[WEIGHTS]}),
        "without weights": lambda: zipped({CONFIG: members[CONFIG]}),
        "empty": lambda: zipped({}),
        "configuration twice": lambda: _with_second_config(CONFIG),
        "weights twice": lambda: _with_second_config(WEIGHTS),
        "encrypted": _encrypted,
        "nested": lambda: zipped({"model.keras": saved().archive}),
    }
    kind = pick(rng, sorted(kinds))

    def act(folder: Path) -> np.ndarray:
        inner = folder / "inner"
        inner.mkdir()
        try:
            return answer_of(kinds[kind](), inner)
        finally:
            if (folder / "let_in").exists() or Path("/tmp/let_in").exists():
                raise RuntimeError("a member of an archive got outside")

    return Case({"archive": kind}, "error", act, _is_finite)


def _odd_weights(rng: np.random.Generator) -> Case:
    """Weights whose checksum is right: of other shapes, linked, not finite, a bomb."""

    def replaced(make: Callable[[h5py.File, str], None]) -> Callable[[], bytes]:
        def change(weights: h5py.File) -> None:
            name = pick(rng, _datasets(weights))
            del weights[name]
            make(weights, name)

        return lambda: with_weights(change)

    def bomb(weights: h5py.File, name: str) -> None:
        weights.create_dataset(
            name, (2**16, 2**15), "f4", chunks=(2**10, 2**10), compression="gzip"
        )

    def spread(weights: h5py.File, name: str) -> None:
        weights.create_dataset(name, (3,), "f4", external=[("/etc/passwd", 0, 12)])

    def link(target: Any) -> Callable[[h5py.File, str], None]:
        return lambda weights, name: weights.__setitem__(name, target)

    def virtual(weights: h5py.File, name: str) -> None:
        layout = h5py.VirtualLayout((3,), "f4")
        layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3,))
        weights.create_virtual_dataset(name, layout)

    def filled(value: float) -> Callable[[], bytes]:
        def change(weights: h5py.File) -> None:
            for name in _datasets(weights):
                if weights[name].dtype.kind == "f":
                    weights[name][...] = value

        return lambda: with_weights(change)

    kinds: dict[str, Callable[[], bytes]] = {
        "bomb": replaced(bomb),
        "external": replaced(spread),
        "virtual": replaced(virtual),
        "soft link": replaced(link(h5py.SoftLink("/"))),
        "link outside": replaced(link(h5py.ExternalLink("/etc/passwd", "/"))),
        "text": replaced(link("text")),
        "nothing": lambda: with_weights(lambda weights: weights.clear()),
        "NaN": filled(float("nan")),
        "not HDF5": lambda: zipped({**saved().members(), WEIGHTS: b"weights"}),
    }
    kind = pick(rng, sorted(kinds))
    content = kinds[kind]()
    return Case(
        {"weights": kind},
        "error",
        lambda folder: answer_of(content, folder),
        _is_finite,
    )


def _damaged_weights(rng: np.random.Generator) -> Case:
    """Damage in the weights' file, before its checksum was taken."""
    members = saved().members()
    damage = pick(rng, files.DAMAGES)
    content = zipped({**members, WEIGHTS: damage(rng, members[WEIGHTS])})
    return Case(
        {"damage": damage.__name__},
        "either",
        lambda folder: answer_of(content, folder),
        _is_finite,
    )


def _weights_to_start_from(rng: np.random.Generator) -> Case:
    """`--weights` of a damaged file: of this net, or of another program."""
    damage = pick(rng, files.DAMAGES)
    kind = pick(rng, ["archive", "weights"])
    members = saved().members()
    before = saved().archive if kind == "archive" else members[WEIGHTS]
    content = damage(rng, before)
    name = "model.keras" if kind == "archive" else "model.weights.h5"

    def act(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return str(load_weights(_target(), folder / name, backbone="vgg16"))

    description = {"damage": damage.__name__, "file": name}
    return Case(description, "either", act, lambda answer: None)


# --- Cases of SavedModels ---


def _of_saved_model(tree: files.Tree, folder: Path) -> np.ndarray:
    tree.write(folder / "served")
    return SavedModelPredictor(folder / "served")(PICTURE)


def _saved_model(rng: np.random.Generator) -> Case:
    """Damage in any file of a SavedModel: the same answer, or an error."""
    tree = files.Tree(dict(saved().exported))
    name = pick(rng, sorted(tree.files))
    kind = pick(rng, ["sound", "damaged", "damaged", "damaged", "missing", "more"])
    expected: Expected = "either"
    if kind == "damaged":
        before = tree.files[name]
        tree.files[name] = pick(rng, files.DAMAGES)(rng, before or b"\n")
    elif kind == "missing":
        del tree.files[name]
    else:
        expected = "answer"
        if kind == "more":
            tree.files["assets.extra/notes.txt"] = b"more"
    return Case(
        {"file": name, "kind": kind},
        expected,
        lambda folder: _of_saved_model(tree, folder),
        _is_right,
    )


def _saved_model_without_sums(rng: np.random.Generator) -> Case:
    """Files that others exported, cut off or replaced."""
    tree = files.Tree(dict(saved().exported))
    del tree.files[SUMS]
    name = pick(rng, ["saved_model.pb", "variables/variables.index"])
    damage = pick(rng, [files.truncated, files.foreign])
    tree.files[name] = damage(rng, tree.files[name])
    return Case(
        {"damage": damage.__name__, "file": name},
        "either",
        lambda folder: _of_saved_model(tree, folder),
        _is_finite,
    )


def _odd_sums(rng: np.random.Generator) -> Case:
    """A list of sums that leads elsewhere."""
    tree = files.Tree(dict(saved().exported))
    line = pick(
        rng,
        [
            b"0" * 64 + b"  /etc/passwd\n",
            b"0" * 64 + b"  ../../../../etc/passwd\n",
            b"0" * 64 + b"  \0\n",
            b"\xff\xfe\n",
            b"nothing\n",
            b"0" * 64 + b"  " + b"a" * 5000 + b"\n",
        ],
    )
    tree.files[SUMS] += line
    return Case(
        {"line": repr(line[:80])},
        "error",
        lambda folder: _of_saved_model(tree, folder),
        _is_finite,
    )


# --- Cases of served pictures ---


def _served_picture(rng: np.random.Generator) -> Case:
    """What the endpoint `encoded` is sent: files of all kinds."""
    format = pick(rng, ["PNG", "JPEG", "BMP", "GIF"])
    size = tuple(rng.integers(1, 30, 2).tolist())
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    content = files.encoded(image, format)
    kind = pick(rng, ["sound", "damaged", "damaged", "bomb", "size", "two sizes"])
    expected: Expected = "either"
    if kind == "sound":
        expected = "error" if format == "GIF" else "answer"
    elif kind == "damaged":
        content = pick(rng, files.DAMAGES)(rng, content)
    elif kind == "bomb":
        whole = bool(rng.random() < 0.5)
        side = 13400 if whole else pick(rng, [20000, 2**31 - 1])
        content = files.png_bomb(side, side, 1 if whole else 3, whole)
        expected = "error"
    elif kind == "size":
        content = files.with_size(content, *rng.integers(0, 3000, 2).tolist())
    contents = [content]
    if kind == "two sizes":
        contents.append(files.encoded(image[:, :0:-1].repeat(3, 0)))
        expected = "error"

    def act(folder: Path) -> dict[str, np.ndarray]:
        answer = _served().signatures["encoded"](encoded=tf.constant(contents))
        return {name: value.numpy() for name, value in answer.items()}

    def check(answer: dict[str, np.ndarray]) -> None:
        _is_finite(answer["probabilities"])
        assert answer["mask"].shape == answer["probabilities"].shape[:-1]

    return Case({"format": format, "kind": kind}, expected, act, check)


KINDS: tuple[tuple[int, Callable[[np.random.Generator], Case]], ...] = (
    (1, _sound),
    (6, _damaged),
    (3, _other_config),
    (3, _code_in_config),
    (2, _odd_archive),
    (2, _odd_weights),
    (2, _damaged_weights),
    (2, _weights_to_start_from),
    (5, _saved_model),
    (1, _saved_model_without_sums),
    (1, _odd_sums),
    (5, _served_picture),
)
"""The kinds of cases, and how often each is made."""


def make(rng: np.random.Generator) -> Case:
    """Makes a case of one of the kinds."""
    maker = pick(rng, [maker for times, maker in KINDS for _ in range(times)])
    case = maker(rng)
    description = {"kind": maker.__name__.strip("_"), **case.description}
    return Case(description, case.expected, case.act, case.check)
