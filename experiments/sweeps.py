"""The sweeps, as plain data. `python -m experiments run NAME` runs one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from experiments.trials import OFFICIAL, Trial
from tf_levelset.datasets import Augmentation
from tf_levelset.datasets.camvid import TAILS
from tf_levelset.recipes import RECIPES, Recipe

TUNING_FOLD, TUNING_SEED = TAILS, 100
"""What hyperparameters are chosen on. Nothing is reported of this fold or seed."""

LOOKED_AT = "0006R0"
"""The drive of the first look. On a drive unlike its own the net is right on 30 % at
best, whatever the loss: what is chosen there says little."""

SIZE = (120, 160)
"""Height and width that the nets see: a third of CamVid's."""

SCRATCH = dataclasses.replace(
    RECIPES["camvid-deeplab_largefov"],
    name="",
    losses=("ce",),
    epochs=40,
    loss_stride=1,
    augmentation=Augmentation(scale=(0.75, 1.5), crop=SIZE, flip=True),
)
"""The main net from scratch: LargeFOV at a quarter of its width. The loss is taken at
the pictures' size: at DeepLab's stride of 8 cross-entropy alone is 1.6 points of mIoU
lower on the tuning fold (sweep "starts")."""

COARSE = dataclasses.replace(SCRATCH, loss_stride=8)
"""The same with the loss at output stride 8."""

RATE, FASTER = 0.02, 0.05
"""Learning rates of fine-tuning: a fifth of that from scratch, and half of it."""

Arm = tuple[str, dict[str, Any]]
"""A loss, and its options."""


def from_start(scratch: Recipe, rate: float) -> Recipe:
    """The recipe that goes on from a trained start, as the paper trains."""
    return dataclasses.replace(scratch, epochs=12, learning_rate=rate)


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


def start(fold: str, seed: int, recipe: Recipe = SCRATCH) -> Trial:
    """A net trained with cross-entropy, from which others are fine-tuned."""
    return Trial(
        f"{recipe.model}-stride{recipe.loss_stride}", of_pair(recipe, fold, seed)
    )


def fine_tuned(
    fold: str,
    seeds: Iterable[int],
    arms: Mapping[str, Arm],
    scratch: Recipe = SCRATCH,
    rate: float = RATE,
) -> list[Trial]:
    """Every arm from the cross-entropy's net of its seed.

    Args:
        fold: of CamVid.
        seeds: one pair each.
        arms: loss and options by arm.
        scratch: recipe of the start.
        rate: learning rate of the arms.
    """
    return [
        Trial(
            arm,
            of_pair(with_loss(from_start(scratch, rate), loss, options), fold, seed),
            start=start(fold, seed, scratch),
        )
        for seed in seeds
        for arm, (loss, options) in arms.items()
    ]


def level_set(weight: float, form: str = "mean", **options: Any) -> Arm:
    """An arm of Eq. 8: λ·n for "mean", the weight of E/T for "scale_free"."""
    return "ls", {"level_set_weight": weight, "normalization": form, **options}


RELAXED: dict[str, Any] = {"heaviside": "logit", "epsilon": 1.0}
"""H(φ) = P: no pixel is out of reach of the gradient."""


TUNED: dict[str, list[Arm]] = {
    "plain": [level_set(weight) for weight in (2.8, 0.7, 10.0)],
    "scale_free": [level_set(weight, "scale_free") for weight in (3.0, 1.0, 10.0)],
    "relaxed": [level_set(w, "scale_free", **RELAXED) for w in (3.0, 1.0, 10.0)],
    "correlation": [level_set(w, "correlation", **RELAXED) for w in (3.0, 1.0, 10.0)],
    "balanced": [level_set(w, "balanced", **RELAXED) for w in (6.0, 3.0, 12.0)],
    "lad": [("lad", {"patch_size": size}) for size in (3, 5, 7)],
    "lmp": [("lmp", {"ratio": ratio}) for ratio in (0.3, 0.1, 0.5)],
    "focal": [("focal", {"gamma": gamma, "alpha": 1.0}) for gamma in (2.0, 1.0, 3.0)],
    "dice": [("dice", {"weight": weight}) for weight in (3.0, 1.0, 10.0)],
    "lovasz": [("lovasz", {"weight": weight}) for weight in (3.0, 1.0, 10.0)],
    "boundary": [("boundary", {"weight": weight}) for weight in (0.01, 0.003, 0.03)],
    "active_contour": [("active_contour", {"weight": w}) for w in (1.0, 0.3, 3.0)],
}
"""By arm, three settings of its weight, or of what it has in its place. Each is tuned
in four trials: the three at `RATE`, and the first at `FASTER`."""


def _tuning() -> list[Trial]:
    """Four trials for cross-entropy and for every loss of `TUNED`."""
    arms: dict[str, tuple[Arm, float]] = {
        f"ce-{rate:g}": (("ce", {}), rate) for rate in (RATE, FASTER, 0.01, 0.1)
    }
    for name, settings in TUNED.items():
        rates = [(setting, RATE) for setting in settings] + [(settings[0], FASTER)]
        for (loss, options), rate in rates:
            setting = options.get("level_set_weight", next(iter(options.values())))
            arms[f"{name}{setting:g}-{rate:g}"] = ((loss, options), rate)
    return [
        trial
        for arm, (loss, rate) in arms.items()
        for trial in fine_tuned(TUNING_FOLD, (TUNING_SEED,), {arm: loss}, rate=rate)
    ]


def _further_forms() -> list[Trial]:
    """Forms beside those that are tuned, on the same pair."""
    arms = {
        "relaxed3-batch": level_set(3.0, "scale_free", per_image=False, **RELAXED),
        "correlation3-batch": level_set(3.0, "correlation", per_image=False, **RELAXED),
        "correlation10-batch": level_set(
            10.0, "correlation", per_image=False, **RELAXED
        ),
        "correlation3-half": level_set(
            3.0, "correlation", heaviside="logit", epsilon=0.5
        ),
        "correlation3-window40": level_set(3.0, "correlation", window=40, **RELAXED),
        "correlation10-window40": level_set(10.0, "correlation", window=40, **RELAXED),
        "correlation3-window80": level_set(3.0, "correlation", window=80, **RELAXED),
    }
    return fine_tuned(TUNING_FOLD, (TUNING_SEED,), arms)


def _from_scratch() -> list[Trial]:
    """The forms that lead, from scratch; cross-entropy's run is in "starts"."""
    arms = {
        "correlation3": level_set(3, "correlation", **RELAXED),
        "correlation10": level_set(10, "correlation", **RELAXED),
        "plain2.8": level_set(2.8),
        "lovasz1": ("lovasz", {"weight": 1.0}),
    }
    return [
        Trial(arm, of_pair(with_loss(SCRATCH, *loss), TUNING_FOLD, TUNING_SEED))
        for arm, loss in arms.items()
    ]


def _first_look() -> list[Trial]:
    """Fine-tuning for an unseen drive: which forms and weights are worth seeds."""
    return fine_tuned(
        LOOKED_AT,
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
        COARSE,
    )


def _starts() -> list[Trial]:
    """Cross-entropy from scratch; others make the further ones that they need."""
    return [start(TUNING_FOLD, TUNING_SEED, recipe) for recipe in (COARSE, SCRATCH)]


SWEEPS: dict[str, Callable[[], list[Trial]]] = {
    "starts": _starts,
    "first_look": _first_look,
    "tuning": _tuning,
    "further_forms": _further_forms,
    "from_scratch": _from_scratch,
}
"""By name, what makes a sweep's trials."""

BASELINES = {
    "starts": "deeplab_largefov-stride8",
    "first_look": "ce",
    "tuning": "ce-0.02",
    "further_forms": "correlation3-batch",
    "from_scratch": "correlation3",
}
"""By sweep, the arm that the others are compared with."""
