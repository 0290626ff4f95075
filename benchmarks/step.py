"""What the level set adds to a training step: forward, backward and optimizer.

Each network as its recipe trains it, on synthetic scenes: the full-width
DeepLab-LargeFOV with the loss at output stride 8, where the paper reports a ratio of
1.18; a narrow one with the loss at full resolution; and the network of the experiments
with the balanced form. The peer is Keras' cross-entropy. What is timed is
`train_on_batch`, the step of `fit`, in graph mode.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from benchmarks import harness
from experiments.sweeps import OFFICIAL, chosen
from tf_levelset.constants import IGNORE_CLASS
from tf_levelset.datasets import load_dataset
from tf_levelset.datasets.pipeline import evaluation_dataset
from tf_levelset.models import at_input_size, create_model
from tf_levelset.training.compiled import build_loss, build_optimizer
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import RECIPES

CROSS_ENTROPY, LEVEL_SET = "CE", "CE + LS"
STEPS = 20_000
"""Length of the learning rate's schedule, which no benchmark reaches."""


@dataclass(frozen=True)
class Setting:
    """A network in training."""

    title: str
    recipe: Recipe
    size: tuple[int, int]
    """Height and width in pixels."""
    classes: int
    batch: int
    pairs: int
    bound: float | None
    """Bound of the ratio; None where it is only reported."""


def settings() -> list[Setting]:
    """Returns the networks to measure."""
    full = dataclasses.replace(
        RECIPES["voc-deeplab_largefov"],
        # Random weights in place of ImageNet's would diverge at the recipe's rate.
        model_options={},
        learning_rate=1e-9,
    )
    (balanced,) = chosen(("balanced",), OFFICIAL, (0,))
    return [
        Setting(
            "narrow LargeFOV, loss at full resolution",
            RECIPES["synthetic"],
            size=(321, 321),
            classes=21,
            batch=1,
            pairs=50,
            bound=1.05,
        ),
        Setting(
            "full-width LargeFOV, loss at stride 8 (the paper: 1.18)",
            full,
            size=(321, 321),
            classes=21,
            batch=1,
            pairs=30,
            bound=None,
        ),
        Setting(
            "network of the experiments, balanced form",
            balanced.recipe,
            size=(120, 160),
            classes=11,
            batch=balanced.recipe.batch_size,
            pairs=50,
            bound=1.05,
        ),
    ]


def measure(quick: bool) -> dict[str, Any]:
    """Measures the steps of the networks, CE + LS over CE.

    Args:
        quick: Whether a tiny network will do, to see that it runs.

    Returns:
        `sizes`, `cases` and `targets`, see `benchmarks`.
    """
    measured = [tiny(settings()[0])] if quick else settings()
    result: dict[str, Any] = {"sizes": {}, "cases": {}, "targets": []}
    for setting in measured:
        samples = harness.alternate(training_steps(setting), setting.pairs, warmups=3)
        result["sizes"][setting.title] = (
            f"batch {setting.batch}, {setting.size[0]}×{setting.size[1]} pixels, "
            f"{setting.classes} classes, loss at stride {setting.recipe.loss_stride}"
        )
        result["cases"] |= {
            f"{setting.title}: {name}": values
            for name, values in harness.described(samples).items()
        }
        result["targets"].append(
            harness.ratio_target(
                f"Step of CE + LS over CE, {setting.title}",
                harness.ratio(samples, [LEVEL_SET], [CROSS_ENTROPY]),
                setting.bound,
            )
        )
    return result


def tiny(setting: Setting) -> Setting:
    """Returns the setting on a tiny network and image, with three pairs."""
    options = {**setting.recipe.model_options, "width": 0.05, "depth": 0.05}
    recipe = dataclasses.replace(setting.recipe, model_options=options)
    return dataclasses.replace(setting, recipe=recipe, size=(65, 65), pairs=3)


def training_steps(setting: Setting) -> dict[str, Callable[[], None]]:
    """Returns a training step with each loss, from the same weights."""
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
        model = network(setting)
        model.compile(build_optimizer(recipe, STEPS), loss, jit_compile=False)
        steps[name] = partial(step, model, images, labels)
    return steps


def step(model: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> None:
    """Trains on a batch. It has been trained on when the loss is returned."""
    model.train_on_batch(images, labels)


def network(setting: Setting) -> keras.Model:
    """Returns the network of a setting, with the same random weights each time."""
    recipe = setting.recipe
    keras.utils.set_random_seed(recipe.seed)
    at_stride = create_model(
        recipe.model, setting.classes, upsample=False, **recipe.model_options
    )
    return at_stride if recipe.loss_stride > 1 else at_input_size(at_stride)


def batch(setting: Setting) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns images (B, H, W, 3) and the labels where the loss is taken."""
    source = load_dataset(
        "synthetic",
        num_samples=setting.batch,
        size=setting.size,
        num_classes=setting.classes,
    )
    images, labels = next(iter(evaluation_dataset(source).batch(setting.batch)))
    stride = setting.recipe.loss_stride
    return images, labels[:, ::stride, ::stride]
