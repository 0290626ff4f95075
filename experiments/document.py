"""docs/results.md and docs/results_in_full.md, from the JSON files and the notes.

The first has the answer and what it rests on; the second all figures of every sweep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Drawing

from benchmarks.plots import save
from benchmarks.report import wrapped
from experiments import plots
from experiments.report import (
    FIGURES,
    Pair,
    Result,
    by_arm,
    class_figures,
    difference,
    pair_of,
    paired_table,
    read_sweep,
    signed,
)
from experiments.statistics import Difference, holm, mean_with_interval
from experiments.sweeps import (
    BASELINES,
    CHOSEN,
    FEWER_SEEDS,
    HEADLINE,
    LOOKED_AT,
    NETS,
    SWEEPS,
    TUNED,
    UNLIKE,
    start_arm,
)
from experiments.trials import OFFICIAL, Trial
from tf_levelset.inference.score_table import table

Results = Mapping[str, Sequence[Result]]
"""By sweep, its trials."""

PLAIN, BEST = HEADLINE[1:]
CRF = " + CRF"
WITH_CRF = tuple(arm + crf for arm in HEADLINE for crf in ("", CRF))
"""The headline's arms, each also with a CRF: what Tables 1 and 4 compare."""
MEAN_IOU = FIGURES["mIoU"]
SHORT = {
    name: FIGURES[name]
    for name in ("mIoU", "without bicyclist", "trimap 3 px", "small things")
}
"""What plots show."""
MAIN = SHORT | {name: FIGURES[name] for name in ("boundary IoU", "accuracy")}
"""What the first document shows."""
SIGNIFICANCE = 0.05
NOT_RUN = "Not run."
ByArm = Mapping[str, Mapping[Pair, float]]
"""A figure by arm and pair."""

LEAST_PAIRS = len(FEWER_SEEDS)
"""Fewer decide nothing."""

ON_ACCELERATOR = (
    "tuning",
    "tuning_rest",
    "strongest_forms",
    "full_size",
    "starts_on_accelerator",
    "starts_on_h200",
    "official_on_accelerator",
    "official_on_h200",
    "drives_on_accelerator",
    "from_scratch_on_accelerator",
)
"""Sweeps that were run by `experiments/compiled`."""

TABLE_1 = {
    OFFICIAL: ("official", "nets"),
    UNLIKE: ("drives_on_accelerator", "nets_on_a_drive"),
    LOOKED_AT: ("drives_on_accelerator", "nets_on_a_second_drive"),
}
"""By fold, the sweep of the main net, and that of the others."""

ANSWER, INTRODUCTION, NOT_SHOWN = "answer", "introduction", "not_shown"

MEANING = {
    "ce": "cross-entropy alone",
    "plain": "the paper's energy a pixel, its λ·n tuned (the paper's own is 0.67)",
    "scale_free": "the energy of each class over its truth's variance, E/T",
    "balanced": "of each class the mean of E/T and 1 − ρ; H(φ) = P: the chosen form",
    "lad": "locally adaptive learning, our reading of it",
    "lmp": "loss max-pooling",
    "focal": "focal loss in place of cross-entropy",
    "dice": "soft Dice beside cross-entropy",
    "lovasz": "Lovász-softmax beside cross-entropy",
    "boundary": "boundary loss beside cross-entropy",
    "active_contour": "active contour loss beside cross-entropy",
    "weighted_ce": "cross-entropy, classes weighted by one over their share's root",
}
"""What the arms of `CHOSEN` are."""


@dataclass(frozen=True)
class Target:
    """What was asked for.

    Attributes:
        name: of it.
        measured: as text; empty where its runs are missing.
        met: or None where that is not known.
    """

    name: str
    measured: str = ""
    met: bool | None = None


def read_all(folder: Path) -> dict[str, list[Result]]:
    """Reads every sweep that has results."""
    return {
        name: read_sweep(folder, name)
        for name in SWEEPS
        if any((folder / name).glob("*.json"))
    }


# --- Targets ---


def targets(results: Results) -> list[Target]:
    """What was asked of the losses, and whether they did it."""
    official = results.get("official", ())
    compared = {"": official} | {
        f" on {drive}": runs
        for drive, runs in by_fold(results.get("drives_on_accelerator", ())).items()
    }
    return [
        *(nets_target(results, fold) for fold in TABLE_1),
        *(
            gain_target(
                f"{BEST}, fine-tuned: mIoU over CE at least +4.0{where}", runs, 4.0
            )
            for where, runs in compared.items()
        ),
        gain_target(
            f"{BEST}, from scratch: mIoU over CE at least +3.0",
            results.get("from_scratch", ()),
            3.0,
        ),
        *(
            target(runs, where)
            for target in (
                trimap_target,
                small_objects_target,
                partial(small_objects_target, figure="small things"),
                classes_target,
                losses_target,
            )
            for where, runs in compared.items()
        ),
        crf_target(official),
    ]


def by_fold(runs: Sequence[Result]) -> dict[str, list[Result]]:
    """The runs of each fold, in the folds' order."""
    folds = sorted({run["fold"] for run in runs})
    return {fold: [run for run in runs if run["fold"] == fold] for fold in folds}


def has(runs: Sequence[Result], *arms: str) -> bool:
    """Whether some pair has run with all the arms."""
    values = by_arm(runs, MEAN_IOU)
    pairs = [set(values.get(arm, ())) for arm in arms]
    return bool(set.intersection(*pairs))


def decided(difference: Difference, met: bool) -> bool | None:
    """Whether a target is met, None where there are too few pairs to say so."""
    return met if len(difference.values) >= LEAST_PAIRS else None


def above_zero(difference: Difference) -> bool | None:
    """Whether a mean is, None where there are few pairs or zero is in its interval."""
    low, high = difference.interval
    return decided(difference, low > 0) if low > 0 or high < 0 else None


def nets_target(results: Results, fold: str) -> Target:
    """The plain loss on at least three nets, of those with enough pairs to say so."""
    name = f"{PLAIN}: mIoU over CE at least +1.0, interval above zero, on three nets"
    if fold != OFFICIAL:
        name += f" on {fold}"
    compared = of_nets(results, fold)
    found = [
        difference(by_arm(runs, MEAN_IOU), f"{net}{PLAIN}", f"{net}ce")
        for net, runs in compared.values()
        if has(runs, f"{net}{PLAIN}", f"{net}ce")
    ]
    if not found:
        return Target(name)
    met = sum(d.mean >= 1 and d.interval[0] > 0 for d in found)
    open_ones = len(compared) - sum(len(d.values) >= LEAST_PAIRS for d in found)
    known = met >= 3 or met + open_ones < 3
    return Target(name, f"{met} of {len(found)} nets", met >= 3 if known else None)


def of_nets(results: Results, fold: str) -> dict[str, tuple[str, Sequence[Result]]]:
    """By net of Table 1, what its arms' names begin with, and the runs they are in."""
    main, others = TABLE_1[fold]
    runs = [run for run in results.get(main, ()) if run["fold"] == fold]
    return {start_arm(): ("", runs)} | {
        net: (f"{net}.", results.get(others, ())) for net in NETS
    }


def gain_target(name: str, runs: Sequence[Result], asked: float) -> Target:
    """The best form's mIoU: the mean has to reach what is asked, zero to lie below."""
    if not has(runs, BEST, "ce"):
        return Target(name)
    gain = difference(by_arm(runs, MEAN_IOU), BEST, "ce")
    met = gain.mean >= asked and gain.interval[0] > 0
    return Target(name, signed(gain), decided(gain, met))


def trimap_target(runs: Sequence[Result], where: str = "") -> Target:
    """Boundaries gain more than the whole."""
    name = f"{BEST}: gain in the trimap of 3 px larger than in mIoU{where}"
    if not has(runs, BEST, "ce"):
        return Target(name)
    whole, near = (
        difference(by_arm(runs, FIGURES[title]), BEST, "ce").values
        for title in ("mIoU", "trimap 3 px")
    )
    lead = mean_with_interval([n - w for n, w in zip(near, whole, strict=True)])
    return Target(name, signed(lead), above_zero(lead))


def small_objects_target(
    runs: Sequence[Result], where: str = "", figure: str = "small objects"
) -> Target:
    """Small objects, or things, are found more often."""
    name = f"{BEST}: recall of {figure} up{where}"
    if not has(runs, BEST, "ce"):
        return Target(name)
    gain = difference(by_arm(runs, FIGURES[figure]), BEST, "ce")
    return Target(name, signed(gain), above_zero(gain))


def classes_target(runs: Sequence[Result], where: str = "") -> Target:
    """No class loses more than its noise: no interval lies below zero.

    What does in one class, but not after Holm's correction for the number of classes,
    decides nothing.
    """
    name = f"{BEST}: no class lost by more than its noise{where}"
    if not has(runs, BEST, "ce"):
        return Target(name)
    gains = {
        title: difference(by_arm(runs, figure), BEST, "ce")
        for title, figure in class_figures(runs).items()
    }
    lost = [f"{title} {signed(g)}" for title, g in gains.items() if g.interval[1] < 0]
    corrected = holm([gain.p_value for gain in gains.values()])
    surely = any(
        gain.mean < 0 and p < SIGNIFICANCE
        for gain, p in zip(gains.values(), corrected, strict=True)
    )
    met = decided(next(iter(gains.values())), not lost) if surely or not lost else None
    return Target(name, ", ".join(lost) or "none lost", met)


def losses_target(runs: Sequence[Result], where: str = "") -> Target:
    """Ahead of every other loss of Table 5, on the pairs that both have."""
    name = f"{BEST}: ahead of every other loss{where}"
    values = by_arm(runs, MEAN_IOU)
    others = [arm for arm in CHOSEN if arm != BEST and has(runs, arm, BEST)]
    if not others:
        return Target(name)
    leads = {arm: difference(values, BEST, arm) for arm in others}
    closest = min(leads, key=lambda arm: leads[arm].mean)
    lead = leads[closest]
    ahead = above_zero(lead)
    met = None if ahead and len(others) < len(TUNED) else ahead
    return Target(name, f"{signed(lead)} over {closest}", met)


def crf_target(runs: Sequence[Result]) -> Target:
    """The level set loss against a CRF after cross-entropy."""
    name = f"{BEST}: mIoU over CE + CRF"
    if not has(runs, BEST, "ce" + CRF):
        return Target(name)
    lead = difference(by_arm(runs, MEAN_IOU), BEST, "ce" + CRF)
    return Target(name, signed(lead), above_zero(lead))


def targets_table(found: Sequence[Target]) -> str:
    """Markdown: a row a target."""
    words = {True: "yes", False: "**no**", None: "not decided"}
    rows = [(t.name, t.measured or NOT_RUN, words[t.met]) for t in found]
    return table([("target", "measured", "met"), *rows])


# --- Tables ---


@dataclass(frozen=True)
class Answer:
    """A row of the headline.

    Attributes:
        where: the pictures, and the nets.
        pairs: how many.
        ce: cross-entropy's mean mIoU, in percent.
        gains: over it, of the plain and of the chosen form.
    """

    where: str
    pairs: int
    ce: float
    gains: tuple[Difference, Difference]


def answers(results: Results) -> list[Answer]:
    """What has pairs enough to be said first."""
    found = [
        of_pairs("CamVid's own split", results.get("official", ())),
        *(
            of_pairs(f"{drive}, a drive left out of training", runs)
            for drive, runs in by_fold(results.get("drives_on_accelerator", ())).items()
        ),
        *(of_other_nets(results, fold) for fold in TABLE_1),
        of_pairs("CamVid's own split, from scratch", results.get("from_scratch", ())),
    ]
    return [answer for answer in found if answer is not None]


def of_pairs(where: str, runs: Sequence[Result]) -> Answer | None:
    """The main net's gains, if pairs suffice."""
    return answer_of(where, by_arm(runs, MEAN_IOU))


def of_other_nets(results: Results, fold: str) -> Answer | None:
    """The gains on all nets with pairs enough but the main one: a pair is their mean.

    What differs from pair to pair is the seed, as in the other rows: nets are few, and
    no sample.
    """
    nets: list[ByArm] = []
    for prefix, runs in of_nets(results, fold).values():
        values = by_arm(runs, MEAN_IOU)
        ours = {arm: values.get(prefix + arm, {}) for arm in HEADLINE}
        if prefix and len(common_pairs(ours)) >= LEAST_PAIRS:
            nets.append({arm: by_seed(ours[arm]) for arm in HEADLINE})
    if not nets:
        return None
    common = set.intersection(*map(common_pairs, nets))
    means = {
        arm: {
            pair: float(np.mean([values[arm][pair] for values in nets]))
            for pair in sorted(common)
        }
        for arm in HEADLINE
    }
    where = "CamVid's own split" if fold == OFFICIAL else fold
    return answer_of(f"{where}, mean of {len(nets)} other nets", means)


def by_seed(values: Mapping[Pair, float]) -> dict[Pair, float]:
    """Values of pairs but for what they began with, which is each net's own."""
    return {(fold, seed, ""): value for (fold, seed, _), value in values.items()}


def common_pairs(values: ByArm) -> set[Pair]:
    """The pairs that all arms of the headline have."""
    return set.intersection(*(set(values.get(arm, ())) for arm in HEADLINE))


def answer_of(where: str, values: ByArm) -> Answer | None:
    """The gains in the pairs that all three arms have, if they suffice."""
    common = common_pairs(values)
    if len(common) < LEAST_PAIRS:
        return None
    values = {
        arm: {pair: value for pair, value in values[arm].items() if pair in common}
        for arm in HEADLINE
    }
    ce = mean_with_interval(list(values["ce"].values())).mean
    gains = difference(values, PLAIN, "ce"), difference(values, BEST, "ce")
    return Answer(where, len(common), ce, gains)


def headline(results: Results) -> str:
    """Markdown: a row a place, with p values that Holm's method corrects for all."""
    found = answers(results)
    if not found:
        return NOT_RUN
    corrected = iter(holm([g.p_value for answer in found for g in answer.gains]))
    rows = [
        ("judged on", "pairs", "CE", "the paper's loss", "p", "the chosen form", "p"),
        *(
            (
                answer.where,
                str(answer.pairs),
                f"{answer.ce:.1f}",
                *(
                    text
                    for gain in answer.gains
                    for text in (signed(gain), _p(next(corrected)))
                ),
            )
            for answer in found
        ),
    ]
    return table(rows)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def arms_table() -> str:
    """Markdown: the arms of `CHOSEN`."""
    rows = [("arm", "what it is", "settings", "learning rate")]
    for name, ((_, options), rate) in CHOSEN.items():
        settings = ", ".join(
            f"{key} {_setting(value)}" for key, value in options.items()
        )
        rows.append((name, MEANING[name], settings, f"{rate:g}"))
    return table(rows)


def _setting(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"{min(value):g} to {max(value):g}"
    return str(value)


def all_tables(runs: Sequence[Result], baseline: str) -> list[str]:
    """The figures of a sweep, and the classes' IoU."""
    classes = class_figures(runs)
    return [
        paired_table(runs, baseline),
        "IoU class by class:",
        paired_table(runs, baseline, {"mIoU": MEAN_IOU, **classes}),
    ]


def net_gains(runs: Sequence[Result], prefix: str) -> dict[str, tuple[float, ...]]:
    """Of a net's runs, points of mIoU: of CE, and over it of each arm that has run."""
    values = by_arm(runs, MEAN_IOU)
    ce = f"{prefix}ce"
    found = {"ce": tuple(values[ce].values())} if ce in values else {}
    for arm in WITH_CRF:
        if arm != "ce" and has(runs, prefix + arm, ce):
            found[arm] = difference(values, prefix + arm, ce).values
    return found


def other_nets_means(results: Results, fold: str) -> dict[str, list[float]]:
    """The means of `net_gains`, of all nets of Table 1 but the main one."""
    found: dict[str, list[float]] = {}
    for prefix, runs in of_nets(results, fold).values():
        if prefix:
            for arm, gains in net_gains(runs, prefix).items():
                found.setdefault(arm, []).append(float(np.mean(gains)))
    return found


def table_1(results: Results, fold: str) -> str:
    """Table 1's shape: a row a net; mean mIoU of CE, and over it CE + CRF, LS, ....

    The last row has the means of all nets but the main one. Where fewer pairs have an
    arm than have cross-entropy their number is in parentheses.
    """
    gains: dict[str, Mapping[str, Sequence[float]]] = {
        net: net_gains(runs, prefix)
        for net, (prefix, runs) in of_nets(results, fold).items()
    }
    gains["mean of the other nets"] = other_nets_means(results, fold)
    rows = [_table_1_row(title, of_net) for title, of_net in gains.items()]
    return table([["net", "n", *WITH_CRF], *rows])


def _table_1_row(title: str, gains: Mapping[str, Sequence[float]]) -> list[str]:
    if "ce" not in gains:
        return [title, NOT_RUN, *[""] * len(WITH_CRF)]
    ce, *others = (
        mean_with_interval(gains[arm]) if arm in gains else None for arm in WITH_CRF
    )
    assert ce is not None
    count = len(ce.values)
    cells = ["" if gain is None else _counted(gain, count) for gain in others]
    return [title, str(count), f"{ce.mean:.2f}", *cells]


def _counted(gain: Difference, of: int) -> str:
    count = len(gain.values)
    return signed(gain) if count == of else f"{signed(gain)} ({count})"


def net_tables(results: Results, fold: str) -> list[str]:
    """All figures of every net of Table 1 but the main one, which has a section."""
    found = []
    for net, (prefix, runs) in of_nets(results, fold).items():
        ours = [run for run in runs if prefix and run["arm"].startswith(prefix)]
        if has(ours, f"{prefix}ce"):
            where = "" if fold == OFFICIAL else f", {fold}"
            found += [f"{net}{where}:", paired_table(ours, f"{prefix}ce")]
    return found


def table_4(runs: Sequence[Result]) -> str:
    """Table 4's shape: mIoU and seconds a picture, with and without the CRF."""
    times, ious = by_arm(runs, _percent_of_seconds), by_arm(runs, MEAN_IOU)
    rows = [("arm", "pairs", "mIoU", "milliseconds a picture")]
    for arm in WITH_CRF:
        if arm in ious:
            iou, time = (
                mean_with_interval(list(values[arm].values())).mean
                for values in (ious, times)
            )
            pairs = str(len(ious[arm]))
            rows.append((arm, pairs, f"{iou:.2f}", f"{1000 * time:.0f}"))
    return table(rows)


def _percent_of_seconds(evaluation: Mapping[str, Any]) -> float | None:
    seconds = evaluation["seconds_per_image"]
    return None if seconds is None else sum(seconds.values()) / 100


def tuning_gains(results: Results) -> dict[str, Difference]:
    """By arm of the tuning, points of mIoU over cross-entropy's from the same start.

    Three sweeps from a start each made it; an arm in several counts with its mean.
    """
    gains: dict[str, list[float]] = {}
    for sweep in ("tuning", "tuning_on_cpu", "tuning_rest"):
        values = by_arm(results.get(sweep, ()), MEAN_IOU)
        if BASELINES[sweep] in values:
            for arm in values:
                gained = difference(values, arm, BASELINES[sweep]).values
                gains.setdefault(arm, []).extend(gained)
    return {arm: mean_with_interval(values) for arm, values in gains.items()}


def tuning_table(results: Results) -> str:
    """Four trials a loss: `tuning_gains`, the best of them in bold."""
    gains = tuning_gains(results)
    rows = [("loss", "trials: setting and learning rate, difference in mIoU")]
    for loss in ("ce", *TUNED):
        arms = [trial.arm for trial in tuning_trials(loss)]
        best = max((gains[arm].mean for arm in arms if arm in gains), default=None)
        cells = []
        for arm in arms:
            setting = arm.removeprefix(loss).removeprefix("-").replace("-", " at ")
            if arm not in gains:
                cells.append(f"{setting}: not run")
                continue
            bold = "**" if gains[arm].mean == best else ""
            starts = len(gains[arm].values)
            several = f" ({starts} starts)" if starts > 1 and arm != "ce-0.02" else ""
            cells.append(f"{setting}: {bold}{gains[arm].mean:+.2f}{bold}{several}")
        rows.append((loss, ", ".join(cells)))
    return table(rows)


def tuning_trials(loss: str) -> list[Trial]:
    """The tuning's trials of cross-entropy or of a loss of `TUNED`."""
    count = 4
    trials = SWEEPS["tuning"]()
    index = ("ce", *TUNED).index(loss)
    return trials[count * index : count * (index + 1)]


def costs_table(results: Results) -> str:
    """How each sweep is run again, and what its training took."""
    rows = [("command", "runs", "of", "training, hours")]
    for name, make in SWEEPS.items():
        names = {trial.name for trial in make()}
        runs = results.get(name, ())
        ours = [r for r in runs if name_of(r) in names and "borrowed" not in r]
        hours = sum(run["training_seconds"] for run in ours) / 3600
        command = f"`python -m experiments run {name} --data-dir CAMVID`"
        if name in ON_ACCELERATOR:
            command = f"{name}: on an accelerator, see CONTRIBUTING.md"
        rows.append((command, str(len(ours)), str(len(names)), f"{hours:.1f}"))
    return table(rows)


def mixed_pairs(results: Results) -> str:
    """Which pairs have runs of other machines, versions or switches than the baseline.

    Empty where there are none.
    """
    found = []
    for sweep, runs in results.items():
        made = {(r["arm"], pair_of(r)): _made_by(r) for r in runs}
        baselines = {
            pair: by for (a, pair), by in made.items() if a == BASELINES[sweep]
        }
        others = [
            f"{arm}-{pair[0]}-{pair[1]}"
            for (arm, pair), by in made.items()
            if baselines.get(pair, by) != by
        ]
        if others:
            found.append(f"{sweep}: {', '.join(sorted(others))}")
    if not found:
        return ""
    return wrapped(
        "Runs that record another machine, version or switch of oneDNN than the run "
        "that they are held against: " + "; ".join(found) + "."
    )


def _made_by(run: Result) -> tuple[Any, ...]:
    versions = run.get("versions", {})
    known = tuple(versions.get(name) for name in ("tensorflow", "keras"))
    return (run.get("machine"), run.get("onednn"), *known)


def name_of(run: Result) -> str:
    """The name of the trial that a run is of."""
    return f"{run['arm']}-{run['fold']}-{run['seed']}"


# --- Documents ---

SECTIONS = {
    "CamVid's own split": "official",
    "From scratch": "from_scratch",
    "Drives left out": None,
    "Every loss on a drive left out": "losses_on_a_drive",
    "Nets": None,
    "Times": None,
    "Heaviside functions": "heavisides",
    "Sensitivity": "sensitivity",
    "Annealing and variants": "variants",
    "At output stride 8": "at_stride_8",
    "Tuning": None,
    "Leading forms from three starts": "strongest_forms",
    "Pictures at their own size": "full_size",
}
"""By title, the sweep that a section is about; None of tables of another kind."""

HISTORY = {
    "One pair of the first settings": ("first_official",),
    "On an accelerator": (
        "official_on_accelerator",
        "from_scratch_on_accelerator",
        "official_on_h200",
        "starts_on_h200",
    ),
    "An earlier part of the tuning": ("earlier_tuning",),
    "Forms that were looked at first": ("first_forms",),
    "Further forms": ("further_forms",),
    "The first look": ("first_look",),
}
"""What led to the rest: by title, the sweeps. The second document alone has them."""


def sections(results: Results) -> dict[str, list[str]]:
    """The first document's paragraphs of tables by title; empty without runs."""
    official = results.get("official", ())
    found = {
        "Drives left out": [
            text
            for where, runs in of_drives(results)
            for text in (f"{where}:", paired_table(runs, "ce", MAIN))
        ],
        "Nets": [
            text
            for fold, (_, others) in TABLE_1.items()
            if others in results
            for text in (f"Judged on {fold}:", table_1(results, fold))
        ],
        "Times": [table_4(official)] if official else [],
        "Tuning": [tuning_table(results)] if "tuning" in results else [],
    }
    for title, sweep in SECTIONS.items():
        if sweep:
            runs = results.get(sweep, ())
            found[title] = [paired_table(runs, BASELINES[sweep], MAIN)] if runs else []
    return {title: found[title] for title in SECTIONS}


def of_drives(results: Results) -> list[tuple[str, list[Result]]]:
    """The runs of each drive left out, and where they ran."""
    return [
        (f"{fold}, {where}", runs)
        for sweep, where in (
            ("drives_on_accelerator", "on an accelerator"),
            ("drives", "on two cores"),
        )
        for fold, runs in by_fold(results.get(sweep, ())).items()
    ]


def sections_in_full(results: Results) -> dict[str, list[str]]:
    """The second document's paragraphs by title: all figures of every sweep."""

    def tables(*sweeps: str) -> list[str]:
        return [
            text
            for sweep in sweeps
            if sweep in results
            for text in all_tables(results[sweep], BASELINES[sweep])
        ]

    found = {
        "Drives left out": [
            text
            for where, runs in of_drives(results)
            for text in (f"{where}:", *all_tables(runs, "ce"))
        ],
        "Nets": [text for fold in TABLE_1 for text in net_tables(results, fold)],
    } | {title: tables(sweep) for title, sweep in SECTIONS.items() if sweep}
    ordered = {title: found[title] for title in SECTIONS if title in found}
    return ordered | {title: tables(*sweeps) for title, sweeps in HISTORY.items()}


def document(
    results: Results, notes: Mapping[str, str], images: Mapping[str, Sequence[str]]
) -> str:
    """Returns the first document.

    Args:
        results: as `read_all` returns them.
        notes: prose by a section's slug; `ANSWER`, `INTRODUCTION`, `NOT_SHOWN` too.
        images: paths by a section's slug, relative to the document.

    Raises:
        ValueError: for notes of no section.
    """
    found = sections(results)
    others = (ANSWER, INTRODUCTION, NOT_SHOWN)
    known = {*others, *map(slug, found), *map(slug, HISTORY)}
    strangers = sorted(set(notes) - known)
    if strangers:
        raise ValueError(f"Expected notes of {sorted(known)}. Received: {strangers}")
    parts = [
        "# Results",
        notes.get(ANSWER, ""),
        headline(results),
        notes.get(INTRODUCTION, ""),
        arms_table(),
        "## Targets",
        targets_table(targets(results)),
        *titled(found, notes, images),
        "## What was not shown",
        notes.get(NOT_SHOWN, ""),
        "## How to run it again",
        costs_table(results),
        mixed_pairs(results),
    ]
    return joined(parts)


def document_in_full(results: Results, notes: Mapping[str, str]) -> str:
    """Returns the second document; see `document`."""
    found = sections_in_full(results)
    notes = {name: notes.get(name, "") for name in map(slug, HISTORY)}
    return joined(
        [
            "# Results in full",
            "All figures of every sweep, class by class too; what they say and how "
            "they were made is in [Results](results.md).",
            *titled(found, notes, {}),
        ]
    )


def titled(
    found: Mapping[str, Sequence[str]],
    notes: Mapping[str, str],
    images: Mapping[str, Sequence[str]],
) -> list[str]:
    """Sections with their titles, notes and images."""
    parts = []
    for title, paragraphs in found.items():
        parts += [f"## {title}", notes.get(slug(title), "")]
        parts += paragraphs or [NOT_RUN]
        parts += [f"![{title}]({path})" for path in images.get(slug(title), ())]
    return parts


def joined(parts: Sequence[str]) -> str:
    """A document of its parts, but for empty ones."""
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def slug(title: str) -> str:
    """A title as a file's name."""
    return title.lower().replace("'", "").replace(" ", "_")


def read_notes(folder: Path) -> dict[str, str]:
    """Reads FOLDER/SLUG.md."""
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.md"))}


def write_document(results: Path, notes: Path, path: Path) -> None:
    """Writes both documents, and the plots in a folder of the first one's name.

    Args:
        results: folder of the sweeps' results.
        notes: folder of the notes.
        path: of the first document; the other, "NAME_in_full", is written beside it.
    """
    found = read_all(results)
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    images: dict[str, list[str]] = {}
    for name, drawing in drawings(found).items():
        save(drawing, folder / f"{name}.png")
    for image in sorted(folder.glob("*.png")):
        section = image.stem.split("-")[0]
        images.setdefault(section, []).append(f"{folder.name}/{image.name}")
    prose = read_notes(notes)
    path.write_text(document(found, prose, images))
    in_full = path.with_stem(f"{path.stem}_in_full")
    in_full.write_text(document_in_full(found, prose))


def drawings(results: Results) -> dict[str, Drawing]:
    """The plots, by SECTION-NAME."""
    drawn: dict[str, Drawing] = {}
    official = results.get("official", ())
    compared = {"camvids_own_split-differences": official}
    drives = by_fold(results.get("drives_on_accelerator", ()))
    compared |= {f"drives_left_out-{drive}": runs for drive, runs in drives.items()}
    for name, runs in compared.items():
        if runs:
            drawn[name] = plots.differences(runs, "ce", SHORT)
    if has(official, *HEADLINE):
        shown = [run for run in official if run["arm"] in HEADLINE]
        drawn["camvids_own_split-curves"] = plots.curves(shown, HEADLINE)
    if "sensitivity" in results:
        values = by_arm(results["sensitivity"], MEAN_IOU)
        for form in (PLAIN, BEST):
            grid = heat_map_of(form, values)
            if grid is not None:
                drawn[f"sensitivity-{form}"] = grid
    return drawn


def heat_map_of(form: str, values: ByArm) -> Drawing | None:
    """A form's gain over its weight and width, if all of its arms FORM,λ,ε have run."""
    trials = SWEEPS["sensitivity"]()
    arms = [t.arm for t in trials if t.arm.startswith(f"{form},")]
    baseline = BASELINES["sensitivity"]
    if not {baseline, *arms} <= set(values):
        return None
    weights, widths = (
        list(dict.fromkeys(arm.split(",")[i] for arm in arms)) for i in (1, 2)
    )
    grid = np.array(
        [
            [difference(values, f"{form},{w},{e}", baseline).mean for e in widths]
            for w in weights
        ]
    )
    labels = ("weight", "ε", f"{form}: points of mIoU over cross-entropy")
    return plots.heat_map(grid, weights, widths, labels)
