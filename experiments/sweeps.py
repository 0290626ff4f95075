"""The sweeps, as plain data. `python -m experiments run NAME` runs one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from experiments.trials import OFFICIAL, Trial
from tf_levelset.datasets import Augmentation
from tf_levelset.recipes import RECIPES, Recipe

TUNING_FOLD, TUNING_SEED = "0006R0", 100
"""What hyperparameters are chosen on. Nothing is reported of this fold or seed."""

SIZE = (120, 160)
"""Height and width that the nets see: a third of CamVid's."""

SCRATCH = dataclasses.replace(
    RECIPES["camvid-deeplab_largefov"],
    name="",
    losses=("ce",),
    epochs=40,
    augmentation=Augmentation(scale=(0.75, 1.5), crop=SIZE, flip=True),
)
"""The main net from scratch: LargeFOV at a quarter of its width."""

FINE_TUNING = dataclasses.replace(SCRATCH, epochs=12, learning_rate=0.02)
"""The same from a trained start, as the paper trains."""


def of_pair(recipe: Recipe, fold: str, seed: int) -> Recipe:
    """The recipe on one fold, from one seed."""
    options = {} if fold == OFFICIAL else {"fold": fold}
    return dataclasses.replace(recipe, dataset_options=options, seed=seed)


def with_loss(recipe: Recipe, loss: str, options: Mapping[str, Any]) -> Recipe:
    """The recipe with one loss and its options; see `Recipe.loss_options`."""
    changes: dict[str, Any] = {"losses": (loss,)}
    if loss == "ls":
        changes["level_set"] = dict(options)
    elif loss != "ce":
        changes["loss_options"] = {loss: dict(options)}
    return dataclasses.replace(recipe, **changes)


def fine_tuned(
    fold: str, seeds: Iterable[int], arms: Mapping[str, tuple[str, dict[str, Any]]]
) -> list[Trial]:
    """A cross-entropy start a seed, and every arm from it, cross-entropy among them.

    Args:
        fold: of CamVid.
        seeds: one pair each.
        arms: loss and options by arm.
    """
    trials = []
    for seed in seeds:
        trials.append(Trial("start", of_pair(SCRATCH, fold, seed)))
        trials += [
            Trial(
                arm,
                of_pair(with_loss(FINE_TUNING, loss, options), fold, seed),
                start="start",
            )
            for arm, (loss, options) in arms.items()
        ]
    return trials


def level_set(weight: float, form: str = "mean", **options: Any) -> tuple[str, Any]:
    """An arm of Eq. 8: λ·n for "mean", the weight of E/T for "scale_free"."""
    return "ls", {"level_set_weight": weight, "normalization": form, **options}


def _stride() -> list[Trial]:
    """Where the loss is taken: at output stride 8, or at the pictures' size."""
    return [
        Trial(
            f"stride{stride}",
            of_pair(
                dataclasses.replace(SCRATCH, loss_stride=stride),
                TUNING_FOLD,
                TUNING_SEED,
            ),
        )
        for stride in (8, 1)
    ]


def _first_look() -> list[Trial]:
    """Fine-tuning on the tuning fold: which forms and weights are worth seeds."""
    return fine_tuned(
        TUNING_FOLD,
        (TUNING_SEED,),
        {
            "ce": ("ce", {}),
            "plain0.7": level_set(0.7),
            "plain2.8": level_set(2.8),
            "free1": level_set(1, "scale_free"),
            "free3": level_set(3, "scale_free"),
            "free10": level_set(10, "scale_free"),
            "signed3": level_set(3, "scale_free", signed=True),
            "dice1": ("dice", {"weight": 1.0}),
            "lovasz1": ("lovasz", {"weight": 1.0}),
        },
    )


SWEEPS: dict[str, Callable[[], list[Trial]]] = {
    "stride": _stride,
    "first_look": _first_look,
}
"""By name, what makes a sweep's trials."""

BASELINES = {"stride": "stride8", "first_look": "ce"}
"""By sweep, the arm that the others are compared with."""
