"""The settings of a training run, as plain data."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tf_levelset.checks import expect, is_number, plain_options
from tf_levelset.datasets.augmentation import Augmentation
from tf_levelset.optimizers.schedules import SCHEDULES

LOSSES = {
    "ce": "cross-entropy",
    "ls": "with level set loss",
    "lad": "locally adaptive learning",
    "lmp": "loss max-pooling",
    "focal": "focal loss",
    "dice": "with Dice loss",
    "lovasz": "with Lovász-softmax",
    "boundary": "with boundary loss",
    "active_contour": "with active contour loss",
}
"""The losses that a recipe can train with, and their titles. "With" means in addition
to the cross-entropy; "ls" is Eq. 8 of Kim et al. 2019."""

PLACES = ("sbd_dir", "context_dir")
"""Options of data sets that say where files are, and not which files."""

Multipliers = tuple[tuple[str, float, float], ...]

FROM_SCRATCH: Multipliers = (("/(bias|gamma|beta)", 1.0, 0.0),)
"""For nets without pretrained layers: the same learning rate for all variables, and
weight decay for kernels only."""

LOSS_STRIDES = (1, 8, 16, 32)

_Check = tuple[str, Callable[[Any], bool]]

_TYPES: dict[str, _Check] = {
    "str": ("a string", lambda value: isinstance(value, str)),
    "int": ("a 32-bit integer", lambda v: type(v) is int and abs(v) < 2**31),
    "float": ("a finite number", lambda v: is_number(v) and abs(v) < math.inf),
    "dict": ("a dictionary", lambda value: isinstance(value, dict)),
    "Augmentation": ("an Augmentation", lambda v: isinstance(v, Augmentation)),
}
"""The expected values of a field, by the type that it is annotated with."""

_POSITIVE: _Check = ("positive", lambda value: value is None or value > 0)
_NOT_NEGATIVE: _Check = ("zero or more", lambda value: value >= 0)

_OTHERS = set(LOSSES) - {"ce", "ls"}

_RANGES: dict[str, _Check] = {
    **dict.fromkeys(("epochs", "iterations", "batch_size", "step_size"), _POSITIVE),
    **dict.fromkeys(("learning_rate", "input_scale"), _POSITIVE),
    **dict.fromkeys(("l2", "power", "gamma", "seed"), _NOT_NEGATIVE),
    "momentum": ("in [0, 1]", lambda value: 0 <= value <= 1),
    "losses": (
        f"one or more of {tuple(LOSSES)}",
        lambda names: bool(names) and all(name in tuple(LOSSES) for name in names),
    ),
    "loss_options": (
        f"a dictionary for each loss, of {sorted(_OTHERS)}",
        lambda options: (
            set(options) <= _OTHERS
            and all(isinstance(value, dict) for value in options.values())
        ),
    ),
    "schedule": (f"one of {SCHEDULES}", lambda name: name in SCHEDULES),
    "loss_stride": (f"one of {LOSS_STRIDES}", lambda v: v in LOSS_STRIDES),
}
"""The expected values of a field, beyond its type."""


@plain_options
@dataclass(frozen=True)
class Recipe:
    """The settings of a training run.

    Args:
        dataset: Name of the data set, one of `tf_levelset.datasets.list_datasets()`.
        name: Name in `RECIPES`, or empty.
        train_split: Split to train on.
        val_split: Split to evaluate on.
        dataset_options: Further arguments of `load_dataset`.
        model: Name of the net, one of `tf_levelset.models.list_models()`.
        model_options: Further arguments of `create_model`.
        losses: Names from `LOSSES`. Each loss trains its own net, from the same initial
            weights and on the same batches.
        level_set: Further arguments of `CrossEntropyLevelSetLoss` for the loss "ls".
        loss_options: Further arguments of the other losses, by name. For those in
            addition to the cross-entropy, `weight` is the factor of the added loss.
        loss_stride: Output stride at which the loss compares logits and labels: that of
            the net (8 for DeepLab), or 1 for the size of the images.
        epochs: Number of passes over the training split.
        iterations: Number of steps; overrides `epochs` if given.
        batch_size: Number of images per step.
        learning_rate: Learning rate of the first step.
        schedule: "poly", "step" or "constant", see `tf_levelset.optimizers.schedules`.
        power: Exponent of the "poly" schedule.
        step_size: Number of steps between two drops of the "step" schedule.
        gamma: Factor of each drop of the "step" schedule.
        momentum: Momentum of SGD, in [0, 1].
        l2: Coupled weight decay.
        multipliers: Learning rate and decay multipliers of `CaffeSGD`.
        input_scale: Factor by which the net resizes its input images, in training and
            in the saved model. The logits of the saved model have the size of its
            input.
        augmentation: Augmentation of the training images, after they are resized.
        seed: Seed of the initial weights, the order of the images and the augmentation.

    Raises:
        ValueError: If a value has the wrong type or is out of range.
    """

    dataset: str
    name: str = ""
    train_split: str = "train"
    val_split: str = "val"
    dataset_options: dict[str, Any] = field(default_factory=dict)
    model: str = "deeplab_largefov"
    model_options: dict[str, Any] = field(default_factory=dict)
    losses: tuple[str, ...] = ("ce", "ls")
    level_set: dict[str, Any] = field(default_factory=dict)
    loss_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    loss_stride: int = 8
    epochs: int = 1
    iterations: int | None = None
    batch_size: int = 8
    learning_rate: float = 0.1
    schedule: str = "poly"
    power: float = 0.9
    step_size: int = 2000
    gamma: float = 0.1
    momentum: float = 0.9
    l2: float = 2e-4
    multipliers: Multipliers = FROM_SCRATCH
    input_scale: float = 1.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            annotation = str(each.type).partition("[")[0]
            kind, optional, _ = annotation.partition(" | None")
            if kind in _TYPES and not (optional and getattr(self, each.name) is None):
                self._check(each.name, _TYPES[kind])
        for name, check in _RANGES.items():
            self._check(name, check)

    def _check(self, name: str, check: _Check) -> None:
        expected, holds = check
        value = getattr(self, name)
        expect(holds(value), f"`{name}` to be {expected}", value)

    def steps(self, num_samples: int) -> tuple[int, int]:
        """Returns the number of steps in an epoch, and in all, for a training split."""
        per_epoch = max(1, num_samples // self.batch_size)
        return per_epoch, self.iterations or per_epoch * self.epochs

    def to_json(self) -> dict[str, Any]:
        """Returns the recipe as JSON values, from which `from_json` restores it."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        """Returns the recipe that `to_json` wrote.

        Raises:
            ValueError: If the values are not those of a recipe.
        """
        expect(isinstance(values, dict), "the fields of a recipe", values)
        unknown = set(values) - {each.name for each in dataclasses.fields(cls)}
        expect(not unknown, "the fields of a recipe", sorted(unknown))
        try:
            return cls(
                **{
                    **values,
                    "augmentation": Augmentation(**values["augmentation"]),
                    "losses": tuple(values["losses"]),
                    "multipliers": tuple(tuple(m) for m in values["multipliers"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"Expected the fields of a recipe. Received: {values!r}"
            ) from error


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns the values of nested mappings as texts, by their path."""
    result: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            is_text = isinstance(value, str)
            result[prefix + key] = value if is_text else json.dumps(value)
    return result
