"""What the level set adds to a whole training step: forward, backward, optimizer.

Nets, each as its recipe trains it, on synthetic scenes. At 321×321 pixels and 21
classes, the full-width DeepLab-LargeFOV with the loss at output stride 8, where the
paper measured 0.157 s against 0.133 s on its own machine: ours is reported beside its
ratio of 1.18, not held to it; and a narrow one with the loss at full resolution, which
leaves the loss more to do than the net's size would. And with the form of the loss that
the experiments chose, their net, pictures and batch. The peer is what a user has
before: Keras' cross-entropy. What is timed is `train_on_batch`, the step of `fit`.

Some rounds of every mode come first; the pairs that count are of the best mode of
each side: 50 of them, or 30 where a pair takes 4 s or more.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks import harness
from tf_levelset.constants import IGNORE_CLASS
from tf_levelset.datasets import load_dataset
from tf_levelset.datasets.pipeline import evaluation_dataset
from tf_levelset.models import at_input_size, create_model
from tf_levelset.training.compiled import build_loss, build_optimizer
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import RECIPES

CROSS_ENTROPY, LEVEL_SET = "CE", "CE + LS"
MODES = {"graph": False, "XLA": True}
STEPS = 20_000
"""Of the learning rate's schedule; no benchmark takes so many."""
PAIRS, FEWER_PAIRS = 50, 30
SLOW_PAIR = 4.0
"""Seconds, by the pilot; from there on fewer pairs are taken."""
FROZEN = Path(__file__).parents[1] / "experiments" / "frozen" / "balanced.json"
"""The recipe of the form that the experiments chose."""


@dataclass(frozen=True)
class Setting:
    """A net in training, and the ratio it is held to, or reported beside."""

    title: str
    recipe: Recipe
    size: tuple[int, int]
    """Height and width in pixels."""
    classes: int
    batch: int
    pilots: int
    """Rounds of all modes, by which the modes of the pairs are chosen."""
    bound: float | None = None
    published_ratio: float | None = None


NARROW = Setting(
    "narrow LargeFOV, loss at full resolution",
    RECIPES["synthetic"],
    size=(321, 321),
    classes=21,
    batch=1,
    pilots=3,
    bound=1.05,
)
FULL = Setting(
    "full-width LargeFOV, loss at stride 8",
    dataclasses.replace(
        RECIPES["voc-deeplab_largefov"],
        # Random weights in place of ImageNet's would diverge at the recipe's rate.
        model_options={},
        learning_rate=1e-9,
    ),
    size=(321, 321),
    classes=21,
    batch=1,
    pilots=2,
    published_ratio=1.18,
)


def chosen() -> Setting:
    """The experiments' net with the form that they chose."""
    recipe = Recipe.from_json(json.loads(FROZEN.read_text()))
    return Setting(
        "narrow LargeFOV of the experiments, chosen form",
        recipe,
        size=(120, 160),
        classes=11,
        batch=recipe.batch_size,
        pilots=3,
        bound=1.05,
    )


def measure(quick: bool) -> dict[str, Any]:
    """Measures the steps of the nets, CE + LS against CE.

    Args:
        quick: a tiny net on tiny pictures, three pairs, to see that it runs.

    Returns:
        `cases`, `targets` and `sizes` as every benchmark, and `pilot`, the samples that
        the modes were chosen by, and `pairs`, how many were taken.
    """
    settings = (tiny(NARROW),) if quick else (NARROW, FULL, chosen())
    results = [measured(setting, 3 if quick else None) for setting in settings]
    return {
        "sizes": {setting.title: described(setting) for setting in settings},
        "cases": {case: values for r in results for case, values in r["cases"].items()},
        "pilot": {s.title: r["pilot"] for s, r in zip(settings, results, strict=True)},
        "pairs": {
            s.title: len(r["target"]["pairs"])
            for s, r in zip(settings, results, strict=True)
        },
        "targets": [result["target"] for result in results],
    }


def tiny(setting: Setting) -> Setting:
    """The same setting in seconds."""
    options = {**setting.recipe.model_options, "width": 0.05, "depth": 0.1}
    recipe = dataclasses.replace(setting.recipe, model_options=options)
    return dataclasses.replace(setting, recipe=recipe, size=(65, 65))


def described(setting: Setting) -> str:
    """The sizes of a setting in words."""
    return (
        f"batch {setting.batch}, {setting.size[0]}×{setting.size[1]} pixels, "
        f"{setting.classes} classes, loss at stride {setting.recipe.loss_stride}"
    )


def measured(setting: Setting, pairs: int | None = None) -> dict[str, Any]:
    """Measures one setting; returns its `pilot`, `cases` and `target`."""
    steps = training_steps(setting)
    pilot = harness.alternate(steps, setting.pilots, warmups=1)
    ours = harness.best(pilot, modes_of(LEVEL_SET))
    theirs = harness.best(pilot, modes_of(CROSS_ENTROPY))
    samples = harness.alternate(
        {name: steps[name] for name in (theirs, ours)},
        pairs or number_of_pairs(pilot, theirs, ours),
    )
    return {
        "pilot": pilot,
        "cases": {
            f"{setting.title}: {name}": {"seconds": values, **harness.summary(values)}
            for name, values in samples.items()
        },
        "target": step_target(setting, harness.ratio(samples, [ours], [theirs])),
    }


def number_of_pairs(pilot: harness.Samples, *names: str) -> int:
    """How many pairs of these cases a run has the time for."""
    seconds = sum(float(np.median(pilot[name])) for name in names)
    return PAIRS if seconds < SLOW_PAIR else FEWER_PAIRS


def modes_of(name: str) -> list[str]:
    """The cases of a loss."""
    return [f"{name}, {mode}" for mode in MODES]


def step_target(setting: Setting, ratio: dict[str, Any]) -> dict[str, Any]:
    """A step with the level set over one without."""
    published = setting.published_ratio
    return harness.target(
        f"Step of CE + LS over CE, {setting.title}",
        ratio["median"],
        setting.bound,
        "at most",
        **({} if published is None else {"published_ratio": published}),
        **ratio,
    )


def training_steps(setting: Setting) -> dict[str, Callable[[], None]]:
    """A training step of each loss in each mode, by "LOSS, MODE"."""
    recipe = setting.recipe
    images, labels = batch(setting)
    losses = {
        CROSS_ENTROPY: keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=IGNORE_CLASS
        ),
        LEVEL_SET: build_loss(recipe, "ls", IGNORE_CLASS),
    }
    steps: dict[str, Callable[[], None]] = {}
    for name, loss in losses.items():
        for mode, jit_compile in MODES.items():
            model = net(setting)
            model.compile(build_optimizer(recipe, STEPS), loss, jit_compile=jit_compile)
            steps[f"{name}, {mode}"] = partial(step, model, images, labels)
    return steps


def step(model: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> None:
    """Trains on a batch; done when it returns, since it returns the loss."""
    model.train_on_batch(images, labels)


def net(setting: Setting) -> keras.Model:
    """The setting's net, from the same random weights each time."""
    recipe = setting.recipe
    keras.utils.set_random_seed(recipe.seed)
    at_stride = create_model(
        recipe.model, setting.classes, upsample=False, **recipe.model_options
    )
    return at_stride if recipe.loss_stride > 1 else at_input_size(at_stride)


def batch(setting: Setting) -> tuple[tf.Tensor, tf.Tensor]:
    """Pictures (B, H, W, 3) and the labels where the loss is taken."""
    source = load_dataset(
        "synthetic",
        num_samples=setting.batch,
        size=setting.size,
        num_classes=setting.classes,
    )
    images, labels = next(iter(evaluation_dataset(source).batch(setting.batch)))
    stride = setting.recipe.loss_stride
    return images, labels[:, ::stride, ::stride]
