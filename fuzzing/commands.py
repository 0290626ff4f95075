"""The command line and recipes: types, unknown keys, broken JSON, no place to write."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import made_up_runs
import numpy as np

from fuzzing import files
from fuzzing.case import Case, Expected, Refused, pick
from fuzzing.files import OTHERS_FILE
from tf_levelset.commands.main import main, parser
from tf_levelset.commands.recipe_options import recipe_of
from tf_levelset.inference.prediction import claim
from tf_levelset.training.compiled import build_loss, build_optimizer
from tf_levelset.training.recipe import LOSSES, Recipe
from tf_levelset.training.recipes import RECIPES, smoke
from tf_levelset.training.run import Run

TINY = (
    *("train", "--iterations", "1", "--batch-size", "2", "--losses", "ls"),
    *("--width", "0.02", "--depth", "0.01", "--dilation", "1", "--set"),
    'dataset_options={"num_samples": 4, "size": [33, 41]}',
)
"""A training that is at its first step within a second; what follows overrides it."""


class Reached(Exception):
    """A training came to its first step."""


@dataclasses.dataclass(frozen=True)
class Printed:
    """What a command that ended with 0 printed."""

    text: str


# --- Running ---


def command(arguments: Sequence[str]) -> Printed:
    """Runs `tf-levelset` in this process.

    Raises:
        Refused: where it ends with 1 or 2.
        AssertionError: where it does not say why.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(arguments))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else -1
    text = err.getvalue()
    if code == 0:
        return Printed(out.getvalue())
    lines = text.splitlines()
    if code == 2 and any(": error: " in line for line in lines):
        raise Refused("exit code 2", text)
    said = [line for line in lines if line.startswith("tf-levelset: error: ")]
    told = any("xpected" in line or "[Errno " in line for line in said)
    if code == 1 and (told or "xpected" in text):
        raise Refused("exit code 1", text)
    raise RuntimeError(f"exit code {code} without a reason: {text[-2000:]}")


def train(arguments: Sequence[str]) -> str:
    """Runs a training up to its first step."""

    def stop(*_: Any) -> None:
        raise Reached

    with mock.patch.object(Run, "fit", stop):
        try:
            command(arguments)
        except Reached:
            return "trained"
    return "printed"


# --- Flags of `train` ---

FLAGS: dict[str, tuple[tuple[str, ...], Sequence[Any]]] = {
    "epochs": (("epochs",), (1, 7)),
    "batch-size": (("batch_size",), (1, 16)),
    "learning-rate": (("learning_rate",), (0.5, 1e-6)),
    "schedule": (("schedule",), ("poly", "step", "constant")),
    "momentum": (("momentum",), (0.0, 0.99)),
    "l2": (("l2",), (0.0, 1e-3)),
    "seed": (("seed",), (0, 12345)),
    "input-scale": (("input_scale",), (0.5, 1.0)),
    "loss-stride": (("loss_stride",), (1, 8)),
    "train-split": (("train_split",), ("train", "val")),
    "val-split": (("val_split",), ("val",)),
    "width": (("model_options", "width"), (0.1, 2.0)),
    "depth": (("model_options", "depth"), (0.5,)),
    "dilation": (("model_options", "dilation"), (1, 12)),
    "dropout": (("model_options", "dropout"), (0.0, 0.9)),
    "level-set-weight": (("level_set", "level_set_weight"), (0.0, 5.0)),
    "heaviside": (("level_set", "heaviside"), ("mahf", "ahf", "hf")),
    "epsilon": (("level_set", "epsilon"), (0.05, 0.9)),
    "normalization": (("level_set", "normalization"), ("sum", "balanced")),
}
"""Flags, where in a recipe they belong, and sound values."""

ODD_FLAGS: tuple[tuple[str, ...], ...] = (
    *((f"--{name}", value) for name in ("epochs", "batch-size") for value in
      ("a", "0", "-1", "1.5", "")),
    *((f"--{name}", value) for name in ("learning-rate", "input-scale") for value in
      ("a", "0", "-1", "nan", "inf")),
    *((f"--{name}", value) for name in ("width", "depth") for value in
      ("a", "0", "-1", "nan", "inf")),
    *(("--momentum", value) for value in ("a", "-1", "2", "nan")),
    *(("--l2", value) for value in ("a", "-1", "nan", "inf")),
    *(("--dropout", value) for value in ("a", "-0.1", "2", "nan")),
    *(("--dilation", value) for value in ("a", "0", "-3", "1.5")),
    *(("--seed", value) for value in ("a", "-1", "1e3", str(2**63))),
    *(("--level-set-weight", value) for value in ("a", "-1", "nan", "inf")),
    *(("--epsilon", value) for value in ("a", "0", "-1", "nan", "inf")),
    *(("--crop", *value) for value in (("5",), ("0", "5"), ("-1", "5"), ("a", "5"))),
    *(("--scale", *value) for value in (("2", "1"), ("0", "1"), ("nan", "1"), ("a",))),
    ("--schedule", "cosine"),
    ("--heaviside", "step"),
    ("--normalization", "max"),
    ("--loss-stride", "3"),
    ("--loss-stride", "16"),
    ("--model", "unet"),
    ("--weights", "/nowhere"),
    ("--weights", OTHERS_FILE),
    ("--recipe", "nothing"),
    ("--dataset", "nothing"),
    ("--dataset", "camvid"),
    ("--dataset", "voc", "--data-dir", "/nowhere"),
    ("--data-dir", "/nowhere"),
    ("--train-split", "nothing"),
    ("--val-split", ""),
    ("--losses",),
    ("--losses", "nothing"),
    ("--epochs", "1", "--iterations", "1"),
    ("--nothing",),
    ("nothing",),
    ("--smoke", "--data-dir", "x"),
)  # fmt: skip
"""What `train` takes in no case."""

ODD_SETTINGS: tuple[str, ...] = (
    "nothing=1",
    "epochs",
    "=1",
    "",
    "nothing.item=1",
    "epochs.item=1",
    'epochs="a"',
    "epochs=1.5",
    "epochs=true",
    "batch_size=null",
    "learning_rate=[]",
    "learning_rate=NaN",
    "learning_rate=Infinity",
    "power=NaN",
    "power=-1",
    "momentum=-Infinity",
    "momentum=1.5",
    "l2=NaN",
    "gamma=0",
    "step_size=0",
    "iterations=0",
    "seed=-1",
    "losses=[]",
    "losses=3",
    'losses=["ls", ["ce"]]',
    "schedule=[1]",
    "schedule=null",
    "name=3",
    "name=[]",
    'dataset=["synthetic"]',
    "dataset=null",
    "model=3",
    'model=["deeplab_largefov"]',
    "train_split=3",
    'val_split=["val"]',
    "multipliers=3",
    "multipliers=[3]",
    "multipliers=[[1, 2, 3]]",
    'multipliers=[["(", 1, 1]]',
    'multipliers=[["a", "b", 1]]',
    'multipliers=[["a", -1, 1]]',
    'multipliers=[["a", 1]]',
    'multipliers=[["a", NaN, 1]]',
    "augmentation=3",
    "augmentation=null",
    "augmentation.crop=3",
    "augmentation.crop=[1]",
    'augmentation.crop=["a", "b"]',
    "augmentation.crop=[0, 5]",
    "augmentation.crop=[1.5, 5]",
    "augmentation.nothing=1",
    "augmentation.scale=[2, 1]",
    "augmentation.scale=3",
    'augmentation.scale=["a", "b"]',
    "augmentation.scale=[0.5, Infinity]",
    'augmentation.resize="ab"',
    "augmentation.resize_scale=-1",
    'augmentation.resize_scale="a"',
    "augmentation.flip=3",
    'augmentation.photometric="yes"',
    "model_options=3",
    "model_options.nothing=1",
    'model_options.width="a"',
    "model_options.width=null",
    "model_options.dropout=5",
    'model_options.dropout="a"',
    'model_options.dilation="a"',
    "model_options.dilation=0",
    'model_options.batch_norm="a"',
    "model_options.weights=3",
    "model_options.weights=[]",
    "dataset_options=[]",
    "dataset_options.nothing=1",
    'dataset_options.size="a"',
    "dataset_options.size=[0, 0]",
    "dataset_options.size=[33.5, 41]",
    "dataset_options.size=3",
    'dataset_options.size=["a", "b"]',
    "dataset_options.num_samples=0",
    'dataset_options.num_samples="a"',
    "dataset_options.num_classes=1",
    "dataset_options.num_classes=2.5",
    'dataset_options.seed="a"',
    "dataset_options.seed=-1",
    "level_set=3",
    "level_set.nothing=1",
    'level_set.epsilon="a"',
    "level_set.epsilon=null",
    'level_set.class_weight="abcdefgh"',
    "level_set.class_weight=3",
    "level_set.heaviside=[]",
    "level_set.from_logits=3",
    "level_set.reduction=3",
    "level_set.level_set_weight=[]",
    "level_set.jit_compile=3",
    'loss_options={"ce": {}}',
    'loss_options={"dice": 3}',
    'loss_options={"dice": {"smooth": "a"}}',
    'loss_options={"dice": {"weight": -1}}',
    'loss_options={"dice": {"weight": "a"}}',
    'loss_options={"dice": {"nothing": 1}}',
    "loss_stride=8.0",
    'input_scale="a"',
    "input_scale=0",
)
"""What no recipe takes: FIELD=JSON."""


def _sound_flags(rng: np.random.Generator) -> Case:
    """Flags that make a recipe, held against the recipe field by field."""
    names = sorted(FLAGS)
    chosen = [names[i] for i in rng.permutation(len(names))[: rng.integers(1, 8)]]
    values = {name: pick(rng, FLAGS[name][1]) for name in chosen}
    arguments = ["train"]
    for name, value in values.items():
        arguments += [f"--{name}", str(value)]

    def act(folder: Path) -> Recipe:
        return recipe_of(parser().parse_args(arguments))

    def check(recipe: Recipe) -> None:
        expected = copy.deepcopy(RECIPES["synthetic"].to_json())
        for name, value in values.items():
            *groups, field = FLAGS[name][0]
            place = expected[groups[0]] if groups else expected
            place[field] = value
        found = recipe.to_json()
        assert found == expected, f"{found} for {expected}"
        assert Recipe.from_json(json.loads(json.dumps(found))) == recipe

    return Case({"arguments": arguments}, "answer", act, check)


def _trained(rng: np.random.Generator) -> Case:
    """A training that is sound, up to its first step."""
    sound = (
        ("--seed", str(rng.integers(2**31))),
        ("--schedule", pick(rng, ["poly", "step", "constant"])),
        ("--losses", pick(rng, sorted(LOSSES))),
        ("--normalization", "balanced", "--heaviside", "ahf"),
        ("--flip", "--photometric", "--scale", "0.5", "2", "--crop", "33", "33"),
        ("--set", 'loss_options={"dice": {"weight": 0.5, "classes": "all"}}'),
        ("--set", "loss_stride=8"),
        ("--input-scale", "0.5"),
    )
    arguments = [*TINY, *pick(rng, sound)]
    return _training(arguments, "answer", lambda answer: None)


def _training(
    arguments: Sequence[str], expected: Expected, check: Callable[[Any], None]
) -> Case:
    def act(folder: Path) -> str:
        return train([*arguments, "--output", str(folder / "run")])

    return Case({"arguments": list(arguments)}, expected, act, check)


def _odd_flags(rng: np.random.Generator) -> Case:
    return _training([*TINY, *pick(rng, ODD_FLAGS)], "error", lambda answer: None)


def _odd_setting(rng: np.random.Generator) -> Case:
    setting = pick(rng, ODD_SETTINGS)
    arguments = [*TINY, "--set", setting]
    if "dice" in setting:
        arguments += ["--losses", "dice"]
    return _training(arguments, "error", lambda answer: None)


def _any_arguments(rng: np.random.Generator) -> Case:
    """Words in any order, none of which begins a long work."""
    words = [
        *("evaluate", "export", "submit", "tables", "check-data", "predict", "figures"),
        "report",
        *("--help", "--flip", "--scales", "--crf", "vgg", "--crf-iterations", "--tile"),
        *("1", "0", "-1", "1.5", "nan", "1e999", "a", "", "--", "-", "é", "=", "x=1"),
        *(
            "--output",
            "--split",
            "--dataset",
            "voc",
            "camvid",
            "--data-dir",
            "/nowhere",
        ),
        *("--version", "--onnx", "--portable", "--samples", "--classes", "--epsilon"),
    ]
    first = pick(rng, words[:8])
    rest = [pick(rng, words) for _ in range(int(rng.integers(0, 7)))]

    def act(folder: Path) -> Printed:
        with _inside(folder):
            return command([first, *rest])

    return Case({"arguments": [first, *rest]}, "either", act, lambda answer: None)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """`contextlib.chdir`, which Python 3.10 does not have."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


# --- Recipes as JSON ---

ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "a",
    "1",
    [],
    [1],
    ["a"],
    [None],
    {},
    {"a": 1},
    [[]],
    2**70,
)


def mutated(rng: np.random.Generator, values: Any) -> Any:
    """Returns JSON's types with one value replaced, dropped or added."""
    if isinstance(values, dict) and values and rng.random() < 0.8:
        key = pick(rng, sorted(values))
        chance = rng.random()
        rest = {k: v for k, v in values.items() if k != key}
        if chance < 0.1:
            return rest
        if chance < 0.2:
            return {**values, f"{key}_": values[key]}
        return {**values, key: mutated(rng, values[key])}
    if isinstance(values, list) and values and rng.random() < 0.7:
        place = int(rng.integers(len(values)))
        return [*values[:place], mutated(rng, values[place]), *values[place + 1 :]]
    return pick(rng, ODD_VALUES)


def _mutated_recipe(rng: np.random.Generator) -> Case:
    """A recipe of JSON's types that was changed: refused, or taken as it is."""
    recipe = smoke(RECIPES[pick(rng, sorted(RECIPES))])
    values = mutated(rng, recipe.to_json())

    def act(folder: Path) -> Recipe:
        found = Recipe.from_json(values)
        for name in found.losses:
            build_loss(found, name, 255)
        build_optimizer(found, 10)
        return found

    def check(found: Recipe) -> None:
        written = json.dumps(found.to_json())
        assert Recipe.from_json(json.loads(written)).to_json() == json.loads(written)

    return Case({"recipe": repr(values)}, "either", act, check)


# --- Run folders ---

OF_TABLES: dict[str, Any] = {
    "dataset": "synthetic/val",
    "flip": False,
    "scales": [1.0],
    "crf": None,
    "seconds_per_image": {"net": 0.1, "crf": 0.0},
}
"""Fields of an evaluation that tables look at."""


def _run_folder(rng: np.random.Generator) -> Case:
    """A run folder with a damaged JSON file, for every command that reads it."""
    recipe = pick(rng, ["synthetic", "voc-deeplab_largefov"])
    evaluation = made_up_runs.evaluation(0.5, **OF_TABLES)
    contents: dict[str, Any] = {
        "run/config.json": RECIPES[recipe].to_json(),
        "run/report.json": {"versions": {"keras": "3"}},
        "run/ls/evaluation.json": evaluation,
        "run/ls/history.json": made_up_runs.history(),
        "run/ls/classes.json": list(made_up_runs.CLASSES),
        "run/ls/palette.json": [[0, 0, 0]] * 8,
        "run/ce/evaluation.json": evaluation,
        "run/evaluation-val-flip.json": {"ls": {**evaluation, "flip": True}},
    }
    written = {n: json.dumps(v).encode() for n, v in contents.items()}
    name = pick(rng, sorted(contents))
    if rng.random() < 0.5:
        written[name] = pick(rng, files.DAMAGES)(rng, written[name])
    else:
        value = mutated(rng, contents[name])
        written[name] = json.dumps(value).encode()
    if rng.random() < 0.1:
        written[name] = b"[" * 100_000
    arguments = pick(
        rng,
        [
            ["tables", "FOLDER"],
            ["tables", "FOLDER", "--output", "FOLDER/out"],
            ["report", "FOLDER/run", "--output", "FOLDER/report.html"],
            ["report", "FOLDER/run", "--output", "FOLDER/report.html"],
            ["report", "FOLDER/run/ls", "--output", "FOLDER/report.html"],
            ["evaluate", "FOLDER/run"],
            ["figures", "FOLDER/run"],
            ["submit", "FOLDER/run/ls", "FOLDER/out"],
            ["export", "FOLDER/run/ls", "FOLDER/out"],
            [*TINY, "--output", "FOLDER/run"],
        ],
    )

    def act(folder: Path) -> Any:
        files.Tree(dict(written)).write(folder)
        given = [a.replace("FOLDER", str(folder)) for a in arguments]
        return train(given) if given[0] == "train" else command(given)

    description = {
        "arguments": arguments,
        "damaged": name,
        "content": repr(written[name][:300]),
    }
    return Case(description, "either", act, lambda answer: None)


def _claimed(rng: np.random.Generator) -> Case:
    """The note in a folder of predictions, damaged."""
    content = json.dumps(mutated(rng, {"model": "m", "flip": False})).encode()
    if rng.random() < 0.5:
        content = pick(rng, files.DAMAGES)(rng, content)

    def act(folder: Path) -> str:
        (folder / "predict.json").write_bytes(content)
        claim(folder, {"model": "m", "flip": False})
        return "claimed"

    return Case({"predict.json": repr(content)}, "either", act, lambda answer: None)


def _unwritable(rng: np.random.Generator) -> Case:
    """Outputs where none can be: below a file, a device, a folder's name taken."""
    place = pick(
        rng,
        ["FOLDER/file/x", "/proc/nowhere", "/dev/null/x", "FOLDER/file", "/dev/full"],
    )
    arguments = pick(
        rng,
        [
            ["tables", "FOLDER", "--output", place],
            [*TINY, "--output", place],
            ["predict", "FOLDER/nothing.keras", "FOLDER/file", "--output", place],
            ["export", "FOLDER/nothing.keras", place],
        ],
    )

    def act(folder: Path) -> Any:
        (folder / "file").write_text("a file")
        given = [a.replace("FOLDER", str(folder)) for a in arguments]
        return train(given) if given[0] == "train" else command(given)

    return Case({"arguments": arguments}, "error", act, lambda answer: None)


KINDS: tuple[tuple[int, Callable[[np.random.Generator], Case]], ...] = (
    (3, _sound_flags),
    (1, _trained),
    (3, _odd_flags),
    (4, _odd_setting),
    (3, _any_arguments),
    (6, _mutated_recipe),
    (5, _run_folder),
    (1, _claimed),
    (1, _unwritable),
)
"""The kinds of cases, and how often each is made."""


def make(rng: np.random.Generator) -> Case:
    """Makes a case of one of the kinds."""
    maker = pick(rng, [maker for times, maker in KINDS for _ in range(times)])
    case = maker(rng)
    description = {"kind": maker.__name__.strip("_"), **case.description}
    return dataclasses.replace(case, description=description)
