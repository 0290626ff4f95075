"""docs/results.md, written from the results' JSON files and from experiments/notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    paired_table,
    read_sweep,
    signed,
)
from experiments.statistics import Difference, mean_with_interval
from experiments.sweeps import (
    BASELINES,
    CHOSEN,
    FEWER_SEEDS,
    HEADLINE,
    NETS,
    SWEEPS,
    TUNED,
    UNLIKE,
    start_arm,
)
from experiments.trials import OFFICIAL, Trial
from tf_levelset.evaluation import table

Results = Mapping[str, Sequence[Result]]
"""By sweep, its trials."""

PLAIN, BEST = HEADLINE[1:]
CRF = " + CRF"
WITH_CRF = tuple(arm + crf for arm in HEADLINE for crf in ("", CRF))
"""The headline's arms, each also with a CRF: what Tables 1 and 4 compare."""
MEAN_IOU = FIGURES["mIoU"]
SHORT = {
    name: FIGURES[name]
    for name in ("mIoU", "without bicyclist", "trimap 3 px", "small objects")
}
NOT_RUN = "Not run."
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
}
"""By fold, the sweep of the main net, and that of the others."""

INTRODUCTION, NOT_SHOWN = "introduction", "not_shown"


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
    """The best form's mIoU."""
    if not has(runs, BEST, "ce"):
        return Target(name)
    gain = difference(by_arm(runs, MEAN_IOU), BEST, "ce")
    return Target(name, signed(gain), decided(gain, gain.mean >= asked))


def trimap_target(runs: Sequence[Result], where: str = "") -> Target:
    """Boundaries gain more than the whole."""
    name = f"{BEST}: gain in the trimap of 3 px larger than in mIoU{where}"
    if not has(runs, BEST, "ce"):
        return Target(name)
    whole, near = (
        difference(by_arm(runs, FIGURES[title]), BEST, "ce")
        for title in ("mIoU", "trimap 3 px")
    )
    met = decided(whole, near.mean > whole.mean)
    return Target(name, f"{signed(near)} against {signed(whole)}", met)


def small_objects_target(runs: Sequence[Result], where: str = "") -> Target:
    """Small objects are found more often."""
    name = f"{BEST}: recall of small objects up{where}"
    if not has(runs, BEST, "ce"):
        return Target(name)
    gain = difference(by_arm(runs, FIGURES["small objects"]), BEST, "ce")
    return Target(name, signed(gain), decided(gain, gain.mean > 0))


def classes_target(runs: Sequence[Result], where: str = "") -> Target:
    """No class loses more than its noise: no interval lies below zero."""
    name = f"{BEST}: no class lost by more than its noise{where}"
    if not has(runs, BEST, "ce"):
        return Target(name)
    gains = {
        title: difference(by_arm(runs, figure), BEST, "ce")
        for title, figure in class_figures(runs).items()
    }
    lost = [f"{title} {signed(g)}" for title, g in gains.items() if g.interval[1] < 0]
    met = decided(next(iter(gains.values())), not lost)
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
    all_known = len(others) == len(TUNED) or lead.mean <= 0
    met = decided(lead, lead.mean > 0) if all_known else None
    return Target(name, f"{signed(lead)} over {closest}", met)


def crf_target(runs: Sequence[Result]) -> Target:
    """The level set loss against a CRF after cross-entropy."""
    name = f"{BEST}: mIoU over CE + CRF"
    if not has(runs, BEST, "ce" + CRF):
        return Target(name)
    lead = difference(by_arm(runs, MEAN_IOU), BEST, "ce" + CRF)
    return Target(name, signed(lead), decided(lead, lead.mean > 0))


def targets_table(found: Sequence[Target]) -> str:
    """Markdown: a row a target."""
    words = {True: "yes", False: "**no**", None: "not known"}
    rows = [(t.name, t.measured or NOT_RUN, words[t.met]) for t in found]
    return table([("target", "measured", "met"), *rows])


# --- Tables ---


def headline(results: Results) -> str:
    """The first paragraph."""
    sentences = [
        gains("Fine-tuned on CamVid's own split", results.get("official", ())),
        gains("From scratch", results.get("from_scratch", ())),
        *(
            gains(f"On {drive}, a drive left out of training", runs)
            for drive, runs in by_fold(results.get("drives_on_accelerator", ())).items()
        ),
        *(other_nets(results, fold) for fold in TABLE_1),
    ]
    return " ".join(filter(None, sentences)) or NOT_RUN


def other_nets(results: Results, fold: str) -> str:
    """What the two gain on all nets but the main one, if pairs suffice."""
    gained = other_nets_gains(results, fold)
    best, plain = gained.get(BEST, ()), gained.get(PLAIN, ())
    if min(len(best), len(plain)) < LEAST_PAIRS:
        return ""
    nets = sum(
        has(runs, prefix + BEST, f"{prefix}ce")
        for prefix, runs in of_nets(results, fold).values()
        if prefix
    )
    return (
        f"On {nets} other nets, judged on {fold}, the paper's loss changes it by "
        f"{signed(mean_with_interval(plain))} points and the {BEST} form by "
        f"{signed(mean_with_interval(best))} ({len(best)} pairs of all nets together)."
    )


def gains(where: str, runs: Sequence[Result]) -> str:
    """What the plain and the chosen form gain over cross-entropy, if pairs suffice."""
    if not has(runs, PLAIN, BEST, "ce"):
        return ""
    values = by_arm(runs, MEAN_IOU)
    common = set.intersection(*(set(values[arm]) for arm in HEADLINE))
    if len(common) < LEAST_PAIRS:
        return ""
    values = {
        arm: {pair: value for pair, value in values[arm].items() if pair in common}
        for arm in HEADLINE
    }
    plain, best = (difference(values, arm, "ce") for arm in (PLAIN, BEST))
    ce = mean_with_interval(list(values["ce"].values())).mean
    pairs = f"mean and 95 % interval of {len(best.values)} pairs"
    return (
        f"{where}, cross-entropy reaches {ce:.1f} % mIoU; the paper's loss changes it "
        f"by {signed(plain)} points and the {BEST} form by {signed(best)} ({pairs})."
    )


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


def other_nets_gains(results: Results, fold: str) -> dict[str, list[float]]:
    """`net_gains` of all nets of Table 1 but the main one, as one sample."""
    found: dict[str, list[float]] = {}
    for prefix, runs in of_nets(results, fold).values():
        if prefix:
            for arm, gains in net_gains(runs, prefix).items():
                found.setdefault(arm, []).extend(gains)
    return found


def table_1(results: Results, fold: str) -> str:
    """Table 1's shape: a row a net; mean mIoU of CE, and over it CE + CRF, LS, ....

    The last row has the pairs of all nets but the main one.
    """
    gains: dict[str, Mapping[str, Sequence[float]]] = {
        net: net_gains(runs, prefix)
        for net, (prefix, runs) in of_nets(results, fold).items()
    }
    gains["all but the first"] = other_nets_gains(results, fold)
    rows = [_table_1_row(title, of_net) for title, of_net in gains.items()]
    return table([["net", "pairs", *WITH_CRF], *rows])


def _table_1_row(title: str, gains: Mapping[str, Sequence[float]]) -> list[str]:
    if "ce" not in gains:
        return [title, NOT_RUN, *[""] * len(WITH_CRF)]
    ce, *others = (
        mean_with_interval(gains[arm]) if arm in gains else None for arm in WITH_CRF
    )
    assert ce is not None
    cells = ["" if gain is None else signed(gain) for gain in others]
    return [title, str(len(ce.values)), f"{ce.mean:.2f}", *cells]


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
        ours = [run for run in runs if name_of(run) in names]
        hours = sum(run["training_seconds"] for run in ours) / 3600
        command = f"`python -m experiments run {name} --data-dir CAMVID`"
        if name in ON_ACCELERATOR:
            command = f"{name}: on an accelerator, see CONTRIBUTING.md"
        rows.append((command, str(len(ours)), str(len(names)), f"{hours:.1f}"))
    return table(rows)


def name_of(run: Result) -> str:
    """The name of the trial that a run is of."""
    return f"{run['arm']}-{run['fold']}-{run['seed']}"


# --- Document ---


def sections(results: Results) -> dict[str, list[str]]:
    """The paragraphs of tables by title; empty where the runs are missing."""

    def tables(sweep: str) -> list[str]:
        if sweep not in results:
            return []
        return all_tables(results[sweep], BASELINES[sweep])

    def tables_by_fold(sweep: str, where: str) -> list[str]:
        return [
            text
            for fold, runs in by_fold(results.get(sweep, ())).items()
            for text in (f"{fold}, {where}:", *all_tables(runs, BASELINES[sweep]))
        ]

    official = results.get("official", ())
    return {
        "CamVid's own split": tables("official"),
        "From scratch": tables("from_scratch"),
        "Drives left out": [
            *tables_by_fold("drives_on_accelerator", "on an accelerator"),
            *tables_by_fold("drives", "on two cores"),
        ],
        "Every loss on a drive left out": tables("losses_on_a_drive"),
        "Nets": [
            text
            for fold, (_, others) in TABLE_1.items()
            if others in results
            for text in (
                f"Judged on {fold}:",
                table_1(results, fold),
                *net_tables(results, fold),
            )
        ],
        "Times": [table_4(official)] if official else [],
        "Heaviside functions": tables("heavisides"),
        "Sensitivity": tables("sensitivity"),
        "Annealing and variants": tables("variants"),
        "At output stride 8": tables("at_stride_8"),
        "Pictures at their own size": tables("full_size"),
        "Tuning": [tuning_table(results)] if "tuning" in results else [],
        "One pair of the first settings": tables("first_official"),
        "On an accelerator": [
            *tables("official_on_accelerator"),
            *tables("from_scratch_on_accelerator"),
            *tables("official_on_h200"),
            *tables("starts_on_h200"),
        ],
        "An earlier part of the tuning": tables("earlier_tuning"),
        "Forms that were looked at first": tables("first_forms"),
        "Further forms": tables("further_forms"),
        "Leading forms from three starts": tables("strongest_forms"),
        "The first look": tables("first_look"),
    }


def document(
    results: Results, notes: Mapping[str, str], images: Mapping[str, Sequence[str]]
) -> str:
    """Returns the document.

    Args:
        results: as `read_all` returns them.
        notes: prose by a section's slug; "introduction" and "not_shown" too.
        images: paths by a section's slug, relative to the document.

    Raises:
        ValueError: for notes of no section.
    """
    found = sections(results)
    known = {INTRODUCTION, NOT_SHOWN, *map(slug, found)}
    strangers = sorted(set(notes) - known)
    if strangers:
        raise ValueError(f"Expected notes of {sorted(known)}. Received: {strangers}")
    parts = [
        "# Results",
        wrapped(headline(results)),
        notes.get(INTRODUCTION, ""),
        "## Targets",
        targets_table(targets(results)),
    ]
    for title, paragraphs in found.items():
        parts += [f"## {title}", notes.get(slug(title), "")]
        parts += paragraphs or [NOT_RUN]
        parts += [f"![{title}]({path})" for path in images.get(slug(title), ())]
    parts += ["## What was not shown", notes.get(NOT_SHOWN, "")]
    parts += ["## How to run it again", costs_table(results)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def slug(title: str) -> str:
    """A title as a file's name."""
    return title.lower().replace("'", "").replace(" ", "_")


def read_notes(folder: Path) -> dict[str, str]:
    """Reads FOLDER/SLUG.md."""
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.md"))}


def write_document(results: Path, notes: Path, path: Path) -> None:
    """Writes the document and its plots, those in a folder of its name beside it."""
    found = read_all(results)
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    images: dict[str, list[str]] = {}
    for name, drawing in drawings(found).items():
        save(drawing, folder / f"{name}.png")
    for image in sorted(folder.glob("*.png")):
        section = image.stem.split("-")[0]
        images.setdefault(section, []).append(f"{folder.name}/{image.name}")
    path.write_text(document(found, read_notes(notes), images))


def drawings(results: Results) -> dict[str, Drawing]:
    """The plots, by SECTION-NAME."""
    drawn: dict[str, Drawing] = {}
    official = results.get("official", ())
    compared = {"camvids_own_split-differences": official}
    of_drives = by_fold(results.get("drives_on_accelerator", ()))
    compared |= {f"drives_left_out-{drive}": runs for drive, runs in of_drives.items()}
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


def heat_map_of(
    form: str, values: Mapping[str, Mapping[Pair, float]]
) -> Drawing | None:
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
