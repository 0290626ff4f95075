"""The sweeps, as plain data. `python -m experiments run NAME` runs one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from experiments.trials import OFFICIAL, STARTS, Trial
from tf_levelset.datasets import Augmentation
from tf_levelset.datasets.camvid import TAILS
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import RECIPES

TUNING_FOLD, TUNING_SEED = TAILS, 100
"""What hyperparameters are chosen on. Nothing is reported of this fold or seed."""

TUNING_SEEDS = range(TUNING_SEED, TUNING_SEED + 3)
"""Of forms that are compared on the tuning fold."""

LOOKED_AT = "0006R0"
"""The drive of the first look, on which losses differ little."""

SEEDS = range(8)
"""Of the pairs of the headline."""

FEWER_SEEDS = range(5)
"""Of all other pairs."""

DRIVES = ("0001TP", "0006R0", "0016E5")

UNLIKE = "0016E5"
"""The drive that what needs many runs is run on: left out, it leaves 163 pictures to
train on, the fewest, and losses differ most on it. It was picked when the pairs of
"drives_on_accelerator" were known."""

NETS = (
    "fcn32s_resnet101",
    "fcn16s_resnet101",
    "fcn8s_resnet101",
    "deeplab_msc_largefov",
    "deeplab_resnet101",
)
"""Of Table 1, beside the main one."""

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
"""The main net from scratch: LargeFOV at a quarter of its width, with the loss at the
pictures' size."""

COARSE = dataclasses.replace(SCRATCH, loss_stride=8)
"""The same with the loss at output stride 8."""

FULL_SIZE = (240, 320)
FULL = dataclasses.replace(
    SCRATCH,
    model_options={**SCRATCH.model_options, "width": 0.125, "dilation": 12},
    input_scale=1.0,
    augmentation=dataclasses.replace(SCRATCH.augmentation, crop=FULL_SIZE),
)
"""LargeFOV at CamVid's own size, with the paper's dilation and half of the channels:
it answers at 60×45 positions of a picture, `SCRATCH` at 20×15."""

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
    curves = (fold, recipe) == (OFFICIAL, SCRATCH)
    return Trial(start_arm(recipe), of_pair(recipe, fold, seed), curves=curves)


def start_arm(recipe: Recipe = SCRATCH) -> str:
    """What starts of a recipe are called: it says all that they differ in."""
    crop = recipe.augmentation.crop
    size = "" if crop in (None, SIZE) else f"-{crop[1]}x{crop[0]}"
    return f"{recipe.model}-stride{recipe.loss_stride}{size}"


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


RARE = (0.88, 0.75, 3.62, 0.64, 1.70, 1.15, 3.33, 3.40, 1.49, 4.49, 6.71)
"""Weights of CamVid's classes: one over the root of their share of the training
pixels, so that the pixels' mean weight is 1."""


RARE_IN_CE: dict[str, Any] = {
    "class_weight": RARE,
    "level_set_class_weight": (1.0,) * len(RARE),
}
"""These weights in cross-entropy alone: a level set loss weighs its classes evenly."""


def weighted_ce(power: float) -> Arm:
    """Cross-entropy with classes weighted by one over their share to a power.

    The pixels' mean weight is 1; a power of ½ is `RARE`.
    """
    if power == 0.5:
        return level_set(0.0, class_weight=RARE)
    shares = [weight**-2 for weight in RARE]
    weights = [share**-power for share in shares]
    mean = sum(w * s for w, s in zip(weights, shares, strict=True)) / sum(shares)
    return level_set(0.0, class_weight=[round(w / mean, 2) for w in weights])


TUNED: dict[str, dict[float, Arm]] = {
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
    "weighted_ce": {power: weighted_ce(power) for power in (0.5, 0.25, 1.0)},
}
"""By arm and by its weight, or what is tuned in its place, three settings. Each arm is
tuned in four trials: the three at `RATE`, and the first at `FASTER`."""


def _tuning() -> list[Trial]:
    """Four trials for cross-entropy and for every loss of `TUNED`."""
    trials = [
        trial
        for rate in (RATE, FASTER, 0.01, 0.1)
        for trial in fine_tuned(
            TUNING_FOLD, (TUNING_SEED,), {f"ce-{rate:g}": ("ce", {})}, rate=rate
        )
    ]
    for name, arms in TUNED.items():
        first = next(iter(arms))
        for setting, rate in [*((setting, RATE) for setting in arms), (first, FASTER)]:
            arm = {f"{name}{setting:g}-{rate:g}": arms[setting]}
            trials += fine_tuned(TUNING_FOLD, (TUNING_SEED,), arm, rate=rate)
    return trials


def _tuning_rest() -> list[Trial]:
    """Of the tuning, what "tuning" lacks, and its baseline from the same start."""
    rest = ("lovasz10-", "lovasz3-0.05", "ce-0.02", "boundary", "active", "weighted")
    return [trial for trial in _tuning() if trial.arm.startswith(rest)]


def _first_forms() -> list[Trial]:
    """Forms of the energy that were looked at first, all from one start."""
    arms = {
        "ce": ("ce", {}),
        "plain2.8": level_set(2.8),
        **{f"scale_free{w:g}": level_set(w, "scale_free") for w in (1.0, 3.0)},
        **{
            f"{name}{w:g}": level_set(w, form, **RELAXED)
            for name, form in (
                ("relaxed", "scale_free"),
                ("correlation", "correlation"),
            )
            for w in (1.0, 3.0, 10.0)
        },
        **{f"dice{w:g}": ("dice", {"weight": w}) for w in (1.0, 3.0)},
        **{f"lovasz{w:g}": ("lovasz", {"weight": w}) for w in (1.0, 3.0)},
        "relaxed3-batch": level_set(3.0, "scale_free", per_image=False, **RELAXED),
        "correlation3-batch": level_set(3.0, "correlation", per_image=False, **RELAXED),
    }
    return fine_tuned(TUNING_FOLD, (TUNING_SEED,), arms)


def _further_forms() -> list[Trial]:
    """Classes weighted, in cross-entropy alone too, and regions of the whole batch."""
    no_options: dict[str, Any] = {}
    arms = {
        "ce-rare": weighted_ce(0.5),
        "balanced3-rare": level_set(3.0, "balanced", class_weight=RARE, **RELAXED),
        **{
            f"{name}{weight:g}-ce_rare": level_set(
                weight, form, **RARE_IN_CE, **options
            )
            for name, form, weight, options in (
                ("balanced", "balanced", 6.0, RELAXED),
                ("balanced", "balanced", 2.0, RELAXED),
                ("plain", "mean", 2.8, no_options),
            )
        },
        "balanced6-batch": level_set(6.0, "balanced", per_image=False, **RELAXED),
    }
    return fine_tuned(TUNING_FOLD, (TUNING_SEED,), arms)


def _strongest_forms() -> list[Trial]:
    """The leaders of the tuning, and what might lead further, from three starts."""
    arms: dict[str, Arm] = {
        "ce": ("ce", {}),
        "balanced12": level_set(12.0, "balanced", **RELAXED),
        "dice3": ("dice", {"weight": 3.0}),
        "lovasz10": ("lovasz", {"weight": 10.0}),
        "ce-rare": weighted_ce(0.5),
        "balanced24": level_set(24.0, "balanced", **RELAXED),
        "balanced12-batch": level_set(12.0, "balanced", per_image=False, **RELAXED),
        "balanced12-rare": level_set(12.0, "balanced", class_weight=RARE, **RELAXED),
        **{
            f"balanced{weight:g}-ce_rare": level_set(
                weight, "balanced", **RARE_IN_CE, **RELAXED
            )
            for weight in (2.0, 6.0, 12.0)
        },
        "correlation10": level_set(10.0, "correlation", **RELAXED),
        "correlation30": level_set(30.0, "correlation", **RELAXED),
        "correlation10-batch": level_set(
            10.0, "correlation", per_image=False, **RELAXED
        ),
        "correlation10-ce_rare": level_set(
            10.0, "correlation", **RARE_IN_CE, **RELAXED
        ),
    }
    return fine_tuned(TUNING_FOLD, TUNING_SEEDS, arms)


def _full_size() -> list[Trial]:
    """The main forms where the net sees all of a picture's pixels."""
    arms: dict[str, Arm] = {
        "ce": ("ce", {}),
        "balanced6": level_set(6.0, "balanced", **RELAXED),
        "plain2.8": level_set(2.8),
        "dice3": ("dice", {"weight": 3.0}),
        "lovasz3": ("lovasz", {"weight": 3.0}),
        "scale_free3": level_set(3.0, "scale_free"),
        "ce-rare": weighted_ce(0.5),
        "balanced2-ce_rare": level_set(2.0, "balanced", **RARE_IN_CE, **RELAXED),
    }
    return fine_tuned(TUNING_FOLD, (TUNING_SEED,), arms, FULL)


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


CHOSEN: dict[str, tuple[Arm, float]] = {
    "ce": (("ce", {}), 0.05),
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
    "weighted_ce": (weighted_ce(0.5), RATE),
}
"""Of cross-entropy and of each loss of `TUNED`, the best of its four trials (of the
boundary loss's two): the loss and its learning rate. Best is by mIoU, less
cross-entropy's from the same start."""

HEADLINE = ("ce", "plain", "balanced")
"""Cross-entropy, the paper's loss, and the form that was chosen on the tuning fold."""


def frozen() -> dict[str, Recipe]:
    """The recipes of the headline, of seed 0, as the files in experiments/frozen.

    "start" comes first; the others go on from its weights.
    """
    made = {"start": SCRATCH}
    for name in HEADLINE:
        (loss, options), rate = CHOSEN[name]
        made[name] = with_loss(from_start(SCRATCH, rate), loss, options)
    return {
        name: dataclasses.replace(recipe, name=f"frozen-{name}")
        for name, recipe in made.items()
    }


def _of_pairs(
    names: Iterable[str],
    fold: str,
    seeds: Iterable[int],
    scratch: Recipe = SCRATCH,
    **options: Any,
) -> list[Trial]:
    """Arms of `CHOSEN`, pair by pair, at their share of the net's own learning rate.

    `options` are further ones of the trials.
    """
    scale = scratch.learning_rate / SCRATCH.learning_rate
    return [
        dataclasses.replace(trial, **options)
        for seed in seeds
        for name in names
        for trial in fine_tuned(
            fold, (seed,), {name: CHOSEN[name][0]}, scratch, scale * CHOSEN[name][1]
        )
    ]


WEIGHTED: dict[str, Arm] = {
    f"{name}_weighted": level_set(weight, form, **RARE_IN_CE, **options)
    for name, weight, form, options in (
        ("plain", 2.8, "mean", {}),
        ("balanced", 2.0, "balanced", RELAXED),
    )
}
"""Whether the energies add anything where cross-entropy's classes are weighted: the
best of "further_forms"."""


def _official() -> list[Trial]:
    """CamVid's own split: the headline, Table 4 and, of fewer seeds, Table 5."""
    others = [name for name in CHOSEN if name not in HEADLINE]
    first, *further = SEEDS
    crf = "vgg_5"
    return [
        *_of_pairs(HEADLINE, OFFICIAL, [first], crf=crf, curves=True, pictures=True),
        *_of_pairs(HEADLINE, OFFICIAL, further, crf=crf, curves=True),
        *_of_pairs(others, OFFICIAL, FEWER_SEEDS),
        *fine_tuned(OFFICIAL, FEWER_SEEDS, WEIGHTED),
    ]


def _first_official() -> list[Trial]:
    """One pair of the first settings, before the tuning was whole."""
    arms = {name: next(iter(TUNED[name].values())) for name in HEADLINE if name != "ce"}
    arms["lovasz"] = TUNED["lovasz"][1.0]
    trials = fine_tuned(OFFICIAL, (0,), {"ce": ("ce", {}), **arms})
    return [dataclasses.replace(t, crf="vgg_5", pictures=True) for t in trials]


def _drives() -> list[Trial]:
    """Each drive of train left out: the headline and, of fewer seeds, the others."""
    others = [name for name in CHOSEN if name not in HEADLINE]
    return [
        trial
        for names, seeds in ((HEADLINE, SEEDS), (others, FEWER_SEEDS))
        for drive in DRIVES
        for trial in _of_pairs(names, drive, seeds)
    ] + [
        trial for drive in DRIVES for trial in fine_tuned(drive, FEWER_SEEDS, WEIGHTED)
    ]


def _losses_on_a_drive() -> list[Trial]:
    """Table 5: every loss, from the same starts."""
    return _of_pairs(CHOSEN, UNLIKE, FEWER_SEEDS)


def _from_scratch() -> list[Trial]:
    """The headline without a start; cross-entropy's runs are in "starts"."""
    return [
        Trial(name, of_pair(with_loss(SCRATCH, *CHOSEN[name][0]), OFFICIAL, seed))
        for seed in SEEDS
        for name in HEADLINE[1:]
    ]


def net_recipe(model: str) -> Recipe:
    """`SCRATCH` on another net of Table 1, narrow enough for two cores.

    Where a net answers at several scales the loss is taken at theirs.
    """
    if model.startswith("fcn"):
        like = RECIPES["camvid-fcn8s_resnet101"]
    elif model == "deeplab_resnet101":
        like = RECIPES["camvid-deeplab_resnet101"]
    else:
        like = SCRATCH
    return dataclasses.replace(
        SCRATCH,
        model=model,
        model_options=like.model_options,
        learning_rate=like.learning_rate,
        loss_stride=8 if "msc" in model else 1,
    )


def _nets(fold: str, crf: str | None = "vgg_5") -> list[Trial]:
    """Table 1: the headline's losses on the other nets; a CRF's minutes, once a net."""
    return [
        dataclasses.replace(
            trial,
            arm=f"{model}.{trial.arm}",
            crf=crf if trial.recipe.seed == FEWER_SEEDS[0] else None,
        )
        for model in NETS
        for trial in _of_pairs(HEADLINE, fold, FEWER_SEEDS, net_recipe(model))
    ]


def _heavisides() -> list[Trial]:
    """Figure 5: the plain loss with each function, and without the level set."""
    (loss, options), rate = CHOSEN["plain"]
    forms: dict[str, dict[str, Any]] = {
        "hf": {"heaviside": "hf"},
        "mahf": {},
        "ahf-1_20": {"heaviside": "ahf", "epsilon": 1 / 20},
        "ahf-20": {"heaviside": "ahf", "epsilon": 20.0},
    }
    arms = {name: (loss, {**options, **form}) for name, form in forms.items()}
    arms["ce"] = ("ce", {})
    return fine_tuned(UNLIKE, FEWER_SEEDS, arms, rate=rate)


def _sensitivity() -> list[Trial]:
    """Weights and widths, of the plain and of the chosen form, from one start."""
    arms = {
        f"plain,{weight:g},{epsilon:g}": level_set(weight, epsilon=epsilon)
        for weight in (0.7, 2.8, 10.0)
        for epsilon in (0.0125, 0.05, 0.2)
    }
    arms |= {
        f"balanced,{weight:g},{epsilon:g}": level_set(
            weight, "balanced", heaviside="logit", epsilon=epsilon
        )
        for weight in (3.0, 6.0, 12.0)
        for epsilon in (0.25, 1.0)
    }
    return fine_tuned(UNLIKE, FEWER_SEEDS[:1], arms)


STAGED: dict[str, tuple[Arm, tuple[str, tuple[float, ...]]]] = {
    "balanced-rising": (
        CHOSEN["balanced"][0],
        ("level_set_weight", (0.0, 4.0, 8.0, 12.0)),
    ),
    "balanced-falling": (
        CHOSEN["balanced"][0],
        ("level_set_weight", (24.0, 12.0, 6.0, 3.0)),
    ),
    "plain-rising": (CHOSEN["plain"][0], ("level_set_weight", (0.0, 1.0, 2.8, 10.0))),
    "plain-narrowing": (CHOSEN["plain"][0], ("epsilon", (0.8, 0.2, 0.1, 0.05))),
    "plain10-narrowing": (level_set(10.0), ("epsilon", (0.8, 0.2, 0.1, 0.05))),
}
"""Arms whose weight or ε is annealed, with its stages."""


def _variants() -> list[Trial]:
    """Annealing, a plain energy that reaches every pixel, and a signed one."""
    arms: dict[str, Arm] = {
        "balanced": CHOSEN["balanced"][0],
        "plain-logit": level_set(2.8, **RELAXED),
        "plain10-logit": level_set(10.0, **RELAXED),
        "signed": level_set(3.0, "scale_free", signed=True),
    }
    arms |= {name: arm for name, (arm, _) in STAGED.items()}
    return [
        dataclasses.replace(trial, stages=STAGED[trial.arm][1])
        if trial.arm in STAGED
        else trial
        for trial in fine_tuned(UNLIKE, FEWER_SEEDS, arms)
    ]


def _at_stride_8() -> list[Trial]:
    """The loss at the net's own positions, from the same starts as at full size."""
    arms = {name: CHOSEN[name][0] for name in HEADLINE}
    return [
        dataclasses.replace(
            trial, recipe=dataclasses.replace(trial.recipe, loss_stride=8)
        )
        for trial in fine_tuned(UNLIKE, FEWER_SEEDS, arms)
    ]


def _starts() -> list[Trial]:
    """Cross-entropy from scratch; others make the further ones that they need."""
    return [
        *(start(TUNING_FOLD, TUNING_SEED, recipe) for recipe in (COARSE, SCRATCH)),
        *(start(OFFICIAL, seed) for seed in SEEDS),
    ]


SWEEPS: dict[str, Callable[[], list[Trial]]] = {
    "starts": _starts,
    "starts_on_accelerator": _starts,
    "starts_on_h200": _starts,
    "first_look": _first_look,
    "tuning": _tuning,
    "tuning_rest": _tuning_rest,
    "tuning_on_cpu": _tuning_rest,
    "earlier_tuning": _tuning,
    "first_forms": _first_forms,
    "further_forms": _further_forms,
    "strongest_forms": _strongest_forms,
    "full_size": _full_size,
    "sensitivity": _sensitivity,
    "official": _official,
    "first_official": _first_official,
    "official_on_accelerator": _official,
    "official_on_h200": _official,
    "drives": _drives,
    "drives_on_accelerator": _drives,
    "losses_on_a_drive": _losses_on_a_drive,
    "from_scratch": _from_scratch,
    "from_scratch_on_accelerator": _from_scratch,
    "nets": partial(_nets, OFFICIAL),
    "nets_on_a_drive": partial(_nets, UNLIKE),
    "nets_on_a_second_drive": partial(_nets, LOOKED_AT, crf=None),
    "heavisides": _heavisides,
    "variants": _variants,
    "at_stride_8": _at_stride_8,
}
"""By name, what makes a sweep's trials."""

SLOWER_CE = f"ce at {RATE:g}"

BORROWED: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "from_scratch": {"ce": ((STARTS, start_arm()),)},
    "from_scratch_on_accelerator": {"ce": (("starts_on_accelerator", start_arm()),)},
    "further_forms": {"ce": (("earlier_tuning", f"ce-{RATE:g}"),)},
    "sensitivity": {"ce": (("heavisides", "ce"),)},
    "variants": {"ce": (("heavisides", "ce"),)},
    "losses_on_a_drive": {
        SLOWER_CE: (("heavisides", "ce"),),
        "plain": (("heavisides", "mahf"),),
        "balanced": (("sensitivity", "balanced,12,1"), ("variants", "balanced")),
    },
}
"""By sweep and by its arm, the sweeps and their arms whose runs are that arm's too."""

BASELINES = {
    "starts": "deeplab_largefov-stride8",
    "starts_on_accelerator": start_arm(),
    "starts_on_h200": start_arm(),
    "first_look": "ce",
    "tuning": f"ce-{RATE:g}",
    "tuning_rest": f"ce-{RATE:g}",
    "tuning_on_cpu": f"ce-{RATE:g}",
    "earlier_tuning": f"ce-{RATE:g}",
    "first_forms": "ce",
    "further_forms": "ce",
    "strongest_forms": "ce",
    "full_size": "ce",
    "sensitivity": "ce",
    "official": "ce",
    "first_official": "ce",
    "official_on_accelerator": "ce",
    "official_on_h200": "ce",
    "drives": "ce",
    "drives_on_accelerator": "ce",
    "losses_on_a_drive": "ce",
    "from_scratch": "ce",
    "from_scratch_on_accelerator": "ce",
    "nets": "deeplab_resnet101.ce",
    "nets_on_a_drive": "deeplab_resnet101.ce",
    "nets_on_a_second_drive": "fcn32s_resnet101.ce",
    "heavisides": "ce",
    "variants": "ce",
    "at_stride_8": "ce",
}
"""By sweep, the arm that the others are compared with."""
