"""No file that is loaded runs its own code, by whatever way it comes in."""

from __future__ import annotations

import ast
import functools
import io
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import made_up_models as made
import numpy as np
import pytest
from made_up_runs import evaluation, write_run
from PIL import Image

from tf_levelset.compat import KERAS_3
from tf_levelset.models import deeplab_largefov
from tf_levelset.models.safe_loading import load_keras
from tf_levelset.models.weights import load_weights
from tf_levelset.training.recipe import Recipe

ROOT = Path(__file__).parent.parent

# --- What the source does not say ---

FORBIDDEN = {
    *("eval", "exec", "compile", "__import__", "breakpoint"),
    *("system", "popen", "spawnl", "spawnv", "execv", "execve", "Popen"),
    *("enable_unsafe_deserialization", "load_op_library", "register_op_library"),
    *("py_function", "get_file", "urlopen", "urlretrieve", "unsafe_load"),
}
"""Functions that run code, start programs or fetch files, by their last names."""

MODULES = {
    *("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal"),
    *("shelve", "yaml", "subprocess", "ctypes", "runpy", "socket", "urllib", "http"),
    *("requests", "torch"),
}
"""Modules that do, or whose formats hold code."""

OPTIONS = {"safe_mode": True, "allow_pickle": False, "weights_only": True}
"""Arguments that have this value wherever they are written."""

ONLY_IN = {
    "load_model": ("safe_loading.py",),
    # The others load files of the package, by names that are written in the source.
    "import_module": (
        *("safe_loading.py", "lazy.py", "__init__.py", "main.py", "checks.py"),
    ),
}
"""Functions that only these files call, after they have checked what they load."""


def sources() -> list[Path]:
    folders = [ROOT / name for name in ("tf_levelset", "models", "datasets")]
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return [*files, ROOT / "train_keras.py"]


def last_name(node: ast.expr) -> str:
    """`load` of `numpy.load`."""
    return getattr(node, "attr", getattr(node, "id", ""))


def dangers(tree: ast.AST) -> Iterator[str]:
    """What a module's source says of the above."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                yield from (name for name in names if name in FORBIDDEN)
                names = [node.module or ""]
            yield from (name for name in names if name.split(".")[0] in MODULES)
        elif isinstance(node, ast.Attribute) and node.attr in FORBIDDEN - {"compile"}:
            # `re.compile` and a model's `compile` are others.
            yield node.attr
        elif isinstance(node, ast.Name) and node.id in FORBIDDEN:
            yield node.id
        elif isinstance(node, ast.Call):
            yield from (
                f"{k.arg}={ast.unparse(k.value)}"
                for k in node.keywords
                if k.arg in OPTIONS
                and not (
                    isinstance(k.value, ast.Constant)
                    and k.value.value is OPTIONS[k.arg]
                )
            )


@pytest.mark.parametrize("path", sources(), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_no_source_runs_what_a_file_says(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert not list(dangers(tree))
    called = {last_name(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    assert not {n for n in called & set(ONLY_IN) if path.name not in ONLY_IN[n]}


def test_keras_models_are_loaded_in_one_place_and_in_safe_mode() -> None:
    tree = ast.parse((ROOT / "models" / "safe_loading.py").read_text("utf-8"))
    calls = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and last_name(node.func) == "load_model"
    ]
    assert calls == ["keras.models.load_model(path, compile=False, safe_mode=True)"]


# --- Files that would run code ---


class Made:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def lambda_model(canary: Path) -> bytes:
    """A model of Keras', with a layer of Python's code in it."""
    images = keras.Input((None, None, 3))
    layer = keras.layers.Lambda(
        lambda x, path: [__import__("os").mkdir(path), x][1],
        arguments={"path": str(canary)},
    )
    stream = canary.with_name("lambda.keras")
    keras.Model(images, layer(images)).save(stream)
    canary.rmdir()  # the layer was called just now
    return stream.read_bytes()


def pickled_array(canary: Path, suffix: str) -> bytes:
    stream = io.BytesIO()
    array = np.array([Made(canary)], object)
    (np.savez if suffix == ".npz" else np.save)(stream, array)
    return stream.getvalue()


def files_with_code() -> dict[str, Callable[[Path], bytes]]:
    """Contents by name."""
    return {
        "lambda.keras": lambda_model,
        "legacy.keras": made.legacy_file,
        "legacy.h5": made.legacy_file,
        "pickle.npz": functools.partial(pickled_array, suffix=".npz"),
        "pickle.npy": functools.partial(pickled_array, suffix=".npy"),
        **{
            f"pickle.{suffix}": lambda canary: pickle.dumps(Made(canary))
            for suffix in ("keras", "ckpt", "caffemodel")
        },
    }


FILES = sorted(files_with_code())


def written(folder: Path, name: str) -> tuple[Path, Path]:
    """A file that would run code, and what its code would make."""
    canary = folder / "canary"
    (folder / name).write_bytes(files_with_code()[name](canary))
    return folder / name, canary


@pytest.mark.parametrize("name", ["lambda.keras", "pickle.npy", "pickle.npz"])
def test_the_files_do_run_code_where_they_may(tmp_path: Path, name: str) -> None:
    # Else the tests below would pass for nothing.
    path, canary = written(tmp_path, name)
    if name.endswith(".keras"):
        keras.models.load_model(path, compile=False, safe_mode=False)
    else:
        loaded = np.load(path, allow_pickle=True)
        _ = loaded["arr_0"] if name.endswith(".npz") else loaded
    assert canary.exists()


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".keras")])
def test_load_keras_runs_no_code(tmp_path: Path, name: str) -> None:
    # All that loads a model calls it, as the source says.
    path, canary = written(tmp_path, name)
    with pytest.raises(ValueError, match="without code"):
        load_keras(path)
    assert not canary.exists()


@pytest.mark.skipif(not KERAS_3, reason="Keras 2.15 has no such function")
def test_safe_mode_is_on_even_where_a_program_turned_it_off(tmp_path: Path) -> None:
    path, canary = written(tmp_path, "lambda.keras")
    keras.config.enable_unsafe_deserialization()
    try:
        with pytest.raises(ValueError, match="without code"):
            load_keras(path)
    finally:
        # Keras has no function to turn it on again.
        global_state = keras.src.backend.common.global_state
        global_state.set_global_attribute("safe_mode_saving", None)
    assert not canary.exists()


@pytest.mark.parametrize("name", FILES)
def test_pretrained_weights_run_no_code(tmp_path: Path, name: str) -> None:
    path, canary = written(tmp_path, name)
    net = deeplab_largefov(3, width=0.02, depth=0.01, dilation=1)
    with pytest.raises(ValueError, match="Expected"):
        load_weights(net, path, backbone="vgg16")
    assert not canary.exists()


@pytest.mark.parametrize("command", ["evaluate", "predict", "export"])
def test_no_command_runs_code(
    error_of: Callable[..., str], tiny_recipe: Recipe, tmp_path: Path, command: str
) -> None:
    path, canary = written(tmp_path, "lambda.keras")
    run = write_run(tmp_path / "run", tiny_recipe, ls=evaluation(0.5))
    shutil.copy(path, run / "ls" / "model.keras")
    Image.fromarray(made.PICTURE).save(tmp_path / "image.png")
    out = str(tmp_path / "out")
    arguments = {
        "evaluate": [run, "--output", out],
        "predict": [run / "ls", tmp_path / "image.png", "--output", out],
        "export": [run / "ls", out],
    }[command]
    assert "without code" in error_of(command, *arguments)
    assert not canary.exists()
