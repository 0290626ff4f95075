"""Every command with wrong inputs: one sentence for a person, nothing of a library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from tf_levelset.training import recipes

LEAKS = ("{{", "}}", "Graph execution", "Traceback", "_node", "\x1b", 'File "', "[Op:")

TINY = (
    *("--iterations", "1", "--batch-size", "1", "--losses", "ls", "--width", "0.02"),
    *("--depth", "0.01", "--dilation", "1", "--crop", "33", "33"),
)
DATA = ("--dataset", "folder", "--data-dir", "data")


def of_channels(count: int) -> keras.Model:
    images = keras.Input((None, None, count))
    return keras.Model(images, keras.layers.Conv2D(2, 1)(images))


def of_other_rank() -> keras.Model:
    features = keras.Input((8,))
    return keras.Model(features, keras.layers.Dense(2)(features))


def of_no_size() -> keras.Model:
    images = keras.Input((None, None, 3))
    x = keras.layers.Concatenate()([images, keras.layers.ZeroPadding2D(1)(images)])
    return keras.Model(images, keras.layers.Conv2D(2, 1)(x))


def of_two_outputs() -> keras.Model:
    images = keras.Input((None, None, 3))
    return keras.Model(images, [keras.layers.Conv2D(2, 1)(images) for _ in range(2)])


MODELS: dict[str, Callable[[], keras.Model]] = {
    "one": lambda: of_channels(1),
    "four": lambda: of_channels(4),
    "flat": of_other_rank,
    "no size": of_no_size,
    "two outputs": of_two_outputs,
}

LOGITS = {"two": [0.0] * 2, "three": [0.0] * 3, "nan": [float("nan")] * 2}


def damage(kind: str, root: Path) -> None:
    """Spoils the data set in `root`."""
    for image in (root / "images").iterdir():
        mask = root / f"masks/{image.stem}.png"
        if kind == "cut image":
            image.write_bytes(image.read_bytes()[:400])
        elif kind == "cut mask":
            mask.write_bytes(mask.read_bytes()[:80])
        elif kind == "label 7":
            Image.fromarray(np.full((33, 40), 7, np.uint8)).save(mask)
        elif kind == "void":
            Image.fromarray(np.full((33, 40), 255, np.uint8)).save(mask)
        elif kind == "other size":
            Image.fromarray(np.zeros((5, 5), np.uint8)).save(mask)
        elif kind == "empty":
            image.unlink()
            mask.unlink()


def say(error_of: Callable[..., str], *arguments: str) -> str:
    said = error_of(*arguments)
    assert "Expected " in said
    assert "Received: " in said
    for leak in LEAKS:
        assert leak not in said, said
    return said


@pytest.fixture
def folder(own_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with `data` and some files that are no models."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a text")
    (tmp_path / "file.keras").write_text("a text")
    (tmp_path / "file.jpg").write_text("a text")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("model", [*MODELS, "nan", "file", "empty", "nowhere"])
def test_models(
    model: str,
    constant_model: Callable[[Sequence[float]], str],
    error_of: Callable[..., str],
) -> None:
    path = model
    if model in MODELS:
        path = f"{model}.keras"
        MODELS[model]().save(path)
    elif model in LOGITS:
        path = constant_model(LOGITS[model])
    say(error_of, "predict", path, "data/images/0.jpg", "--output", "out")
    say(error_of, "evaluate", path, *DATA, "--output", "out")
    say(error_of, "figures", path, *DATA, "--output", "out")
    say(error_of, "submit", path, "out", *DATA, "--split", "val")
    if model != "nan":
        say(error_of, "export", path, "out")


@pytest.mark.parametrize(
    ("kind", "said", "commands"),
    [
        ("cut image", "images/4.jpg: Expected a whole image", "evaluate figures check"),
        ("cut mask", "masks/4.png: Expected a whole", "evaluate figures check train"),
        ("label 7", "masks/4.png: Expected only label ids", "evaluate figures train"),
        ("other size", "masks/4.png: Expected labels of its image's", "evaluate check"),
        ("void", "void alone", "figures"),
        ("empty", "Received: 0", "evaluate check train"),
    ],
)
def test_data(
    kind: str,
    said: str,
    commands: str,
    folder: Path,
    constant_model: Callable[[Sequence[float]], str],
    error_of: Callable[..., str],
) -> None:
    damage(kind, folder / "data")
    for command in commands.split():
        arguments = {
            "check": ["check-data"],
            "train": ["train", *TINY, "--output", "out"],
        }.get(command, [command, constant_model(LOGITS["two"]), "--output", "out"])
        assert said in say(error_of, *arguments, *DATA)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("predict two file.jpg", "file.jpg: Expected a whole image"),
        ("predict two file", "Expected files of .jpg"),
        ("predict two empty", "Expected images or videos in empty"),
        ("predict two nowhere", "nowhere, which does not exist"),
        ("predict two data/images --output file", "write file. Received: File exists"),
        ("predict two data/images --output data", "files of others in masks"),
        ("predict two data/images --output file/x", "Received: Not a directory"),
        ("predict two data/images --scales 0", "Expected `scales`"),
        ("evaluate three --output out", "Expected a model of 2 classes"),
        ("figures three --output out", "Expected a model of 2 classes"),
        ("figures two --samples 9 --output out", "Expected a sample such as"),
        ("evaluate two --split other", "Expected `split` to be one of"),
        ("export two file", "write file. Received: File exists"),
        ("export two out --version 0", "Expected `version` to be positive"),
        ("train --output file", "write file. Received: File exists"),
        ("train --output out --weights file.keras", "Expected file.keras to be"),
        ("tables file", "Expected a folder with runs"),
        ("report empty", "Expected a run folder"),
    ],
)
def test_options_and_outputs(
    arguments: str,
    said: str,
    constant_model: Callable[[Sequence[float]], str],
    error_of: Callable[..., str],
) -> None:
    command, *rest = arguments.split()
    if rest[0] in LOGITS:
        rest[0] = constant_model(LOGITS[rest[0]])
    needs_data = command in ("train", "evaluate", "figures")
    options = [*(DATA if needs_data else ()), *(TINY if command == "train" else ())]
    assert said in say(error_of, command, *options, *rest)


def test_a_data_set_without_a_recipe(
    error_of: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(recipes.DEFAULTS, "camvid")
    said = say(error_of, "train", "--dataset", "camvid", "--data-dir", str(tmp_path))
    assert "Expected --recipe together with --dataset" in said
