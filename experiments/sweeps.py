"""The sweeps, as plain data: `python -m experiments run NAME` runs one.

All of them train narrow networks on CamVid at 160×120. The results of further sweeps
are in `results` too: other networks, Heaviside functions and forms of the energy, and
trainings on accelerators. Their rows say what was trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from experiments.trials import OFFICIAL, Trial
from tf_levelset.datasets import Augmentation
from tf_levelset.datasets.camvid import TAILS
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import RECIPES

TUNING_FOLD, TUNING_SEED = TAILS, 100
"""Hyperparameters are chosen on this fold and seed, of which nothing is reported."""

SEEDS = range(8)
"""Seeds of the headline on CamVid's own split."""

FEWER_SEEDS = range(5)
"""Seeds of all other comparisons."""

HELD_OUT = ("0006R0", "0016E5")
"""CamVid's sequences that are held out of training."""

SIZE = (120, 160)
"""Height and width that the networks see: a third of CamVid's."""

SCRATCH = dataclasses.replace(
    RECIPES["camvid-deeplab_largefov"],
    name="",
    losses=("ce",),
    epochs=40,
    loss_stride=1,
    augmentation=Augmentation(scale=(0.75, 1.5), crop=SIZE, flip=True),
)
"""The main network from scratch: LargeFOV at a quarter of its width, with the loss at
the size of the images."""

RATE, FASTER = 0.02, 0.05
"""Learning rates of fine-tuning: a fifth of that from scratch, and half of it."""

Loss = tuple[str, dict[str, Any]]
"""The name of a loss and its options."""

RELAXED: dict[str, Any] = {"heaviside": "logit", "epsilon": 1.0}
"""H(φ) = P: the gradient reaches every pixel."""

RARE = (0.88, 0.75, 3.62, 0.64, 1.70, 1.15, 3.33, 3.40, 1.49, 4.49, 6.71)
"""Class weights for CamVid: one over the root of the class's share of the training
pixels, scaled so that the mean weight of a pixel is 1."""

CROSS_ENTROPY: Loss = ("ce", {})


def level_set(weight: float, form: str = "mean", **options: Any) -> Loss:
    """Eq. 8 with the weight λ·n for "mean", or that of E/T for "scale_free"."""
    return "ls", {"level_set_weight": weight, "normalization": form, **options}


def weighted_cross_entropy(power: float) -> Loss:
    """Cross-entropy with classes weighted by one over their share to a power."""
    if power == 0.5:
        return level_set(0.0, class_weight=RARE)
    shares = [weight**-2 for weight in RARE]
    weights = [share**-power for share in shares]
    mean = sum(w * s for w, s in zip(weights, shares, strict=True)) / sum(shares)
    return level_set(0.0, class_weight=[round(w / mean, 2) for w in weights])


TUNED: dict[str, dict[float, Loss]] = {
    "plain": {weight: level_set(weight) for weight in (2.8, 0.7, 10.0)},
    "scale_free": {w: level_set(w, "scale_free") for w in (3.0, 1.0, 10.0)},
    "balanced": {w: level_set(w, "balanced", **RELAXED) for w in (6.0, 3.0, 12.0)},
    "lad": {size: ("lad", {"patch_size": size}) for size in (3, 5, 7)},
    "lmp": {ratio: ("lmp", {"ratio": ratio}) for ratio in (0.3, 0.1, 0.5)},
    "focal": {g: ("focal", {"gamma": g, "alpha": 1.0}) for g in (2.0, 1.0, 3.0)},
    "dice": {weight: ("dice", {"weight": weight}) for weight in (3.0, 1.0, 10.0)},
    "lovasz": {weight: ("lovasz", {"weight": weight}) for weight in (3.0, 1.0, 10.0)},
    "boundary": {w: ("boundary", {"weight": w}) for w in (0.01, 0.003, 0.03)},
    "active_contour": {w: ("active_contour", {"weight": w}) for w in (1.0, 0.3, 3.0)},
    "weighted_ce": {p: weighted_cross_entropy(p) for p in (0.5, 0.25, 1.0)},
}
"""For each loss three values of its weight, or of the option that is tuned instead.
Each loss has four trials: the three at `RATE`, and the first at `FASTER`."""

CHOSEN: dict[str, tuple[Loss, float]] = {
    "ce": (CROSS_ENTROPY, FASTER),
    "plain": (level_set(2.8), RATE),
    "scale_free": (level_set(3.0, "scale_free"), RATE),
    "balanced": (level_set(12.0, "balanced", **RELAXED), RATE),
    "lad": (("lad", {"patch_size": 5}), RATE),
    "lmp": (("lmp", {"ratio": 0.1}), RATE),
    "focal": (("focal", {"gamma": 2.0, "alpha": 1.0}), FASTER),
    "dice": (("dice", {"weight": 3.0}), RATE),
    "lovasz": (("lovasz", {"weight": 10.0}), RATE),
    "boundary": (("boundary", {"weight": 0.01}), RATE),
    "active_contour": (("active_contour", {"weight": 0.3}), RATE),
    "weighted_ce": (weighted_cross_entropy(0.5), RATE),
}
"""For each loss the best of its four trials by mIoU: the loss and its learning rate.
(The boundary loss has run two of the four.)"""

HEADLINE = ("ce", "plain", "balanced")
"""Cross-entropy, the paper's loss, and the form that was chosen on the tuning fold."""


def of_pair(recipe: Recipe, fold: str, seed: int) -> Recipe:
    """Returns the recipe on one fold and with one seed."""
    options = {} if fold == OFFICIAL else {"fold": fold}
    return dataclasses.replace(recipe, dataset_options=options, seed=seed)


def with_loss(recipe: Recipe, loss: Loss) -> Recipe:
    """Returns the recipe with one loss and its options."""
    name, options = loss
    changes: dict[str, Any] = {"losses": (name,)}
    if name == "ls":
        changes["level_set"] = options
    elif name != "ce":
        changes["loss_options"] = {name: options}
    return dataclasses.replace(recipe, **changes)


def start(fold: str, seed: int, recipe: Recipe = SCRATCH) -> Trial:
    """A network trained with cross-entropy, from which others are fine-tuned."""
    name = f"{recipe.model}-stride{recipe.loss_stride}"
    return Trial(name, of_pair(recipe, fold, seed))


def fine_tuned(
    fold: str,
    seeds: Iterable[int],
    losses: Mapping[str, Loss],
    rate: float = RATE,
    scratch: Recipe = SCRATCH,
) -> list[Trial]:
    """Every loss from the network that cross-entropy trained with the same seed.

    Args:
        fold: A fold of CamVid.
        seeds: One pair for each.
        losses: The losses by the name of the configuration.
        rate: Learning rate.
        scratch: Recipe of the start.
    """
    recipe = dataclasses.replace(scratch, epochs=12, learning_rate=rate)
    return [
        Trial(
            name,
            of_pair(with_loss(recipe, loss), fold, seed),
            start=start(fold, seed, scratch),
        )
        for seed in seeds
        for name, loss in losses.items()
    ]


def chosen(
    names: Iterable[str],
    fold: str,
    seeds: Iterable[int],
    scratch: Recipe = SCRATCH,
    **changes: Any,
) -> list[Trial]:
    """Losses of `CHOSEN` at their share of the network's own learning rate.

    Args:
        names: Names of losses.
        fold: A fold of CamVid.
        seeds: One pair for each.
        scratch: Recipe of the start.
        **changes: Further fields of the trials, such as `crf`.
    """
    scale = scratch.learning_rate / SCRATCH.learning_rate
    return [
        dataclasses.replace(trial, **changes)
        for seed in seeds
        for name in names
        for trial in fine_tuned(
            fold, (seed,), {name: CHOSEN[name][0]}, scale * CHOSEN[name][1], scratch
        )
    ]


def tuning() -> list[Trial]:
    """Four trials for cross-entropy and for every loss of `TUNED`."""
    pair = (TUNING_FOLD, (TUNING_SEED,))
    trials = []
    for rate in (RATE, FASTER, 0.01, 0.1):
        trials += fine_tuned(*pair, {f"ce-{rate:g}": CROSS_ENTROPY}, rate)
    for name, losses in TUNED.items():
        settings = [(setting, RATE) for setting in losses]
        for setting, rate in [*settings, (next(iter(losses)), FASTER)]:
            loss = {f"{name}{setting:g}-{rate:g}": losses[setting]}
            trials += fine_tuned(*pair, loss, rate)
    return trials


def official() -> list[Trial]:
    """CamVid's own split: the headline with a dense CRF (Table 4), and Table 5."""
    others = [name for name in CHOSEN if name not in HEADLINE]
    return [
        *chosen(HEADLINE, OFFICIAL, SEEDS, crf="vgg_5"),
        *chosen(others, OFFICIAL, FEWER_SEEDS),
    ]


def held_out() -> list[Trial]:
    """Every loss on each held-out sequence."""
    return [trial for fold in HELD_OUT for trial in chosen(CHOSEN, fold, FEWER_SEEDS)]


def starts() -> list[Trial]:
    """Cross-entropy from scratch; other sweeps run the further starts they need."""
    return [
        start(TUNING_FOLD, TUNING_SEED),
        *(start(OFFICIAL, seed) for seed in SEEDS),
    ]


SWEEPS: dict[str, Callable[[], list[Trial]]] = {
    function.__name__: function for function in (*(starts, tuning, official, held_out),)
}
"""For each name, the function that makes the sweep's trials."""
