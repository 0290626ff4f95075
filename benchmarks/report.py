"""`python -m benchmarks.report RESULTS`: docs/performance.md from three full runs.

RESULTS holds the folders 1, 2 and 3, which `python -m benchmarks --out RESULTS/1` and
so on wrote on an idle machine. Every figure of the document comes from their files; its
prose from the benchmarks' docstrings and from notes/NAME.md beside them, so that
writing it anew loses nothing.
"""

from __future__ import annotations

import argparse
import ast
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.__main__ import BENCHMARKS

RUNS = ("1", "2", "3")
FOLDER = Path(__file__).resolve().parent
INTRODUCTION = "introduction"
NOT_MEASURED = "not measured"
REPORTED = "reported"
COMMON = (
    *("benchmark", "quick", "environment", "sizes", "cases", "targets", "curves"),
    "seconds",
)
"""What is shown in its own way, or not at all."""
LONG_TABLE = 24
"""Rows; a longer table is folded."""
UNITS = {
    "seconds": ((1.0, "s"), (1e-3, "ms")),
    "bytes": ((2.0**20, "MiB"),),
    "pairs": ((1.0, ""),),
}
"""What samples are shown in: the first unit that no median lies far below."""

Figures = dict[str, Any]
Results = dict[str, list[Figures]]
"""What each benchmark measured, a run after the other; without those never run."""


def main() -> None:
    """Writes the document and its plots."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report")
    parser.add_argument("results", type=Path, help="folder of the runs 1, 2 and 3")
    parser.add_argument("--out", type=Path, default=Path("docs/performance.md"))
    parser.add_argument("--notes", type=Path, default=FOLDER / "notes")
    options = parser.parse_args()
    results, prose = read(options.results), notes(options.notes)
    from benchmarks import plots

    images = plots.draw(results, options.out.with_suffix(""))
    options.out.write_text(document(results, prose, images), encoding="utf-8")
    print(options.out)


# --- Reading ---


def read(folder: Path) -> Results:
    """Reads three full runs.

    Raises:
        FileNotFoundError: for a run that is missing, or that lacks a benchmark which
            another has.
        ValueError: for quick results, for runs of different machines or versions, or
            of different targets.
    """
    for run in RUNS:
        if not (folder / run).is_dir():
            raise FileNotFoundError(
                f"Expected the runs {', '.join(RUNS)} in {folder}. Received: no "
                f"{folder / run}; `python -m benchmarks --out {folder / run}` makes it."
            )
    results = {}
    for name in BENCHMARKS:
        paths = [folder / run / f"{name}.json" for run in RUNS]
        if any(path.exists() for path in paths):
            results[name] = [read_run(path) for path in paths]
            check_targets(name, results[name])
    check_environments(results)
    return results


def read_run(path: Path) -> Figures:
    """Reads what a benchmark measured in one run, which must be a full one."""
    if not path.exists():
        raise FileNotFoundError(
            f"Expected the benchmark in every run or in none. Received: no {path}"
        )
    figures: Figures = json.loads(path.read_text(encoding="utf-8"))
    if figures["quick"]:
        raise ValueError(
            f"Expected full results. Received: quick ones, in {path}, whose sizes are "
            "not those of the targets."
        )
    return {**figures, "targets": [flat(target) for target in figures["targets"]]}


def flat(target: Figures) -> Figures:
    """A target with the samples it is the median of, which it may hold inside."""
    for value in target.values():
        if isinstance(value, dict) and value.get("median") == target["measured"]:
            return {**target, **value}
    return target


def check_targets(name: str, runs: Sequence[Figures]) -> None:
    """Raises unless the runs of a benchmark have the same targets."""
    asked = [
        [(t["name"], t["sense"], t["bound"]) for t in figures["targets"]]
        for figures in runs
    ]
    if any(targets != asked[0] for targets in asked):
        raise ValueError(
            f"Expected the same targets in each run of {name!r}. Received: {asked}"
        )


def check_environments(results: Results) -> None:
    """Raises unless everything ran on one machine with one version of each package.

    Where a benchmark ran, packages that it does not use may have been missing.
    """
    known = packages(results)
    found = set()
    for runs in results.values():
        for figures in runs:
            there = environment(figures)
            there["packages"] = {**known, **there["packages"]}
            found.add(json.dumps(there, sort_keys=True))
    if len(found) > 1:
        raise ValueError(
            "Expected one machine and one set of versions. Received: "
            + " and ".join(sorted(found))
        )


def packages(results: Results) -> dict[str, str]:
    """The versions of all packages that some run had."""
    return {
        name: version
        for runs in results.values()
        for figures in runs
        for name, version in figures["environment"]["packages"].items()
    }


def environment(figures: Figures) -> dict[str, Any]:
    """What a figure depends on; the load, which differs, is left out."""
    return {k: v for k, v in figures["environment"].items() if k != "load_before"}


def notes(folder: Path) -> dict[str, str]:
    """Reads the prose, by benchmark; "introduction" stands before them all.

    Raises:
        ValueError: for a file that belongs to no benchmark, and would be lost.
    """
    prose = {path.stem: path.read_text("utf-8") for path in folder.glob("*.md")}
    strangers = sorted(set(prose) - {*BENCHMARKS, INTRODUCTION})
    if strangers:
        raise ValueError(
            f"Expected notes named as {(INTRODUCTION, *BENCHMARKS)}. Received: "
            f"{strangers}"
        )
    return prose


# --- Document ---


def document(
    results: Results, prose: Mapping[str, str], images: Mapping[str, Sequence[str]]
) -> str:
    """Returns the document.

    Args:
        results: as `read` returns them.
        prose: as `notes` returns it.
        images: paths of each benchmark's plots, relative to the document.
    """
    parts = [
        "# Performance",
        wrapped(
            "Written by `python -m benchmarks.report benchmarks/results`; what is said "
            "beside the figures comes from benchmarks/notes. What is compared was "
            "timed in turns, a sample of each a round, and ratios are those of rounds: "
            "median (lower to upper quartile). Runs agree where the median of each "
            "lies between the quartiles of every other; the percentage is the range "
            "of their medians. A target is met where every run meets it; what is only "
            "reported is held to nothing."
        ),
        "```sh\npip install -e '.[bench,crf]'\n"
        + "".join(f"python -m benchmarks --out benchmarks/results/{r}\n" for r in RUNS)
        + "python -m benchmarks.report benchmarks/results\n```",
        prose.get(INTRODUCTION, "").strip(),
        *machine(results),
        "## Targets",
        targets_table(results),
    ]
    for name in BENCHMARKS:
        parts += section(
            name, results.get(name), prose.get(name, ""), images.get(name, ())
        )
    return "\n\n".join(part for part in parts if part) + "\n"


def machine(results: Results) -> list[str]:
    """What everything ran on."""
    if not results:
        return []
    first = next(iter(results.values()))
    found = environment(first[0])
    loads = ", ".join(f"{f['environment']['load_before']:.2f}" for f in first)
    versions = " · ".join(f"{k} {v}" for k, v in packages(results).items())
    return [
        "## Machine",
        wrapped(
            f"{found['processor']}, {found['machine']}, {found['memory_gib']} GiB. "
            f"Load average before the first benchmark of each run: {loads}."
        ),
        wrapped(f"Python {found['python']} · {versions}"),
    ]


def targets_table(results: Results) -> str:
    """Every target in a row: what was asked, each run's median, met or not."""
    rows = []
    for name in BENCHMARKS:
        if name not in results:
            rows.append([name, NOT_MEASURED, *[""] * (len(RUNS) + 3)])
        for targets in by_target(results.get(name, ())):
            medians = [figure(target["measured"]) for target in targets]
            first = targets[0]
            judged = [agreement(list(map(with_spread, targets))), verdict(targets)]
            rows.append([name, first["name"], asked(first), *medians, *judged])
    header = ["benchmark", "target", "asked", *run_titles(), "runs agree", "met"]
    return table(header, rows)


def section(
    name: str, runs: Sequence[Figures] | None, prose: str, images: Sequence[str]
) -> list[str]:
    """The paragraphs about one benchmark."""
    heading = [f"## {name.capitalize()}", *description(name)]
    if runs is None:
        return [*heading, "Not measured.", prose.strip()]
    parts = [*heading, sizes(runs[0]), details_table(runs)]
    parts += [f"![{Path(image).stem.replace('_', ' ')}]({image})" for image in images]
    parts += [prose.strip(), *remarks(runs[0].get("notes")), curves_table(runs)]
    parts += [samples_table(*group) for group in sample_groups(runs)]
    parts += [
        rows_table(key, runs)
        for key in runs[0]
        if key not in COMMON and is_rows(runs[0][key])
    ]
    return [*parts, numbers_table([other_numbers(figures) for figures in runs])]


def remarks(notes: Any) -> list[str]:
    """What a benchmark itself has to say: a sentence or a list of them."""
    listed = [notes] if isinstance(notes, str) else notes
    if not isinstance(listed, list):
        return []
    return ["\n".join("- " + wrapped(n).replace("\n", "\n  ") for n in listed)]


def description(name: str) -> list[str]:
    """The paragraphs of the benchmark's docstring, without importing it."""
    path = FOLDER / f"{name}.py"
    text = path.exists() and ast.get_docstring(ast.parse(path.read_text("utf-8")))
    paragraphs = text.split("\n\n") if text else []
    return [p if "\n " in f"\n{p}" else wrapped(p) for p in paragraphs]


def sizes(figures: Figures) -> str:
    """The sizes in a sentence."""
    listed = (f"{key}: {plain(value)}" for key, value in figures["sizes"].items())
    return wrapped("Sizes: " + "; ".join(listed) + ".") if figures["sizes"] else ""


def details_table(runs: Sequence[Figures]) -> str:
    """The targets of one benchmark with their quartiles and what was compared."""
    rows = [
        [targets[0]["name"], *map(detailed, targets), compared(targets)]
        for targets in by_target(runs)
    ]
    return table(["target", *run_titles(), "of"], rows) if rows else ""


def curves_table(runs: Sequence[Figures]) -> str:
    """The exponents of every growth, each run's, of the larger half and of all."""
    rows = [
        [curve["title"], series, *exponents(runs, curve["title"], series)]
        for curve in runs[0].get("curves", ())
        for series in curve["series"]
    ]
    header = ["growth", "of", *(f"exponent, {run}" for run in run_titles())]
    note = "Exponents over the larger half of the points (over all of them)."
    return f"{note}\n\n{table(header, rows)}" if rows else ""


def exponents(runs: Sequence[Figures], title: str, series: str) -> list[str]:
    """The exponents of one curve in each run."""
    cells = []
    for figures in runs:
        curve = next(c for c in figures["curves"] if c["title"] == title)
        fit = curve["series"][series]
        larger, whole = figure(fit["exponent"]), figure(fit["exponent_of_all"])
        cells.append(f"{larger} ({whole})")
    return cells


def sample_groups(
    runs: Sequence[Figures],
) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Every group of samples by case, its title first, as each run has it."""
    for key, value in runs[0].items():
        if is_samples(value):
            yield key, [figures.get(key, {}) for figures in runs]
        elif isinstance(value, dict):
            for inner in filter(lambda inner: is_samples(value[inner]), value):
                groups = [figures.get(key, {}).get(inner, {}) for figures in runs]
                yield f"{key}: {inner}", groups


def samples_table(title: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """Medians and quartiles by case and run."""
    names = ordered(name for figures in runs for name in figures)
    kind = sample_kind(next(iter(runs[0].values())))
    factor, unit = unit_of(
        kind, [c["median"] for cases in runs for c in cases.values()]
    )
    rows = []
    for name in names:
        cases = [figures.get(name) for figures in runs]
        cells = [spread(case, factor) for case in cases]
        rows.append([name, *cells, agreement(cases)])
    header = [title, *(f"{run}, {unit}".rstrip(", ") for run in run_titles())]
    return folded(
        f"{title}: {len(rows)} rows", table([*header, "runs agree"], rows), len(rows)
    )


def rows_table(key: str, runs: Sequence[Figures]) -> str:
    """A list of dictionaries, a row each and run, titled by its first text."""
    rows, paths = (
        [],
        ordered(path for row in runs[0][key] for path, _ in numbers(row, "")),
    )
    for index in range(len(runs[0][key])):
        for run, figures in zip(run_titles(), runs, strict=True):
            row = figures[key][index]
            title = next((v for v in row.values() if isinstance(v, str)), str(index))
            found = dict(numbers(row, ""))
            rows.append([title, run, *(figure(found.get(path)) for path in paths)])
    return table([key, "run", *(path.removeprefix(": ") for path in paths)], rows)


def numbers_table(runs: Sequence[Mapping[str, float]]) -> str:
    """Single figures by name and run."""
    names = ordered(name for figures in runs for name in figures)
    rows = [[n, *(figure(figures.get(n)) for figures in runs)] for n in names]
    text = table(["other figures", *run_titles()], rows)
    return folded(f"other figures: {len(rows)} rows", text, len(rows)) if rows else ""


def other_numbers(figures: Figures) -> dict[str, float]:
    """Every single number that a benchmark has beside what every benchmark has."""
    return {
        path: number
        for key, value in figures.items()
        if key not in COMMON
        for path, number in numbers(value, key.replace("_", " "))
    }


def numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """The numbers of nested dictionaries, by the keys that lead to them."""
    if isinstance(value, dict) and "median" not in value:
        for key, item in value.items():
            yield from numbers(item, f"{path}: {key}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


# --- Judging ---


def by_target(runs: Sequence[Figures]) -> list[tuple[Figures, ...]]:
    """Each target of a benchmark, as every run has it."""
    return list(zip(*(figures["targets"] for figures in runs), strict=True))


def agreement(runs: Sequence[Mapping[str, Any] | None]) -> str:
    """Says whether the median of each run lies between the quartiles of the others.

    "yes" or "no" and the range of the medians over their median; the range alone where
    there is no spread to hold it against.
    """
    medians = [median_of(run) for run in runs]
    known = [m for m in medians if m is not None]
    if len(known) < len(runs) or not known:
        return "–"
    middle = float(np.median(known))
    share = f"{(max(known) - min(known)) / abs(middle):.1%}" if middle else ""
    quartiles = [(r["quartile_1"], r["quartile_3"]) for r in runs if r and spreads(r)]
    if len(quartiles) < len(runs):
        return share or "–"
    inside = all(low <= median <= high for low, high in quartiles for median in known)
    return f"{'yes' if inside else 'no'}, {share}".rstrip(", ")


def median_of(run: Mapping[str, Any] | None) -> float | None:
    """A case's median, or a target's figure."""
    return None if run is None else run.get("median", run.get("measured"))


def spreads(run: Mapping[str, Any]) -> bool:
    """Whether there are quartiles."""
    return {"median", "quartile_1", "quartile_3"} <= run.keys()


def with_spread(target: Mapping[str, Any]) -> Mapping[str, Any]:
    """The target, or what it holds that has quartiles, such as a ratio's inverse."""
    inside = (v for v in target.values() if isinstance(v, dict) and spreads(v))
    return target if spreads(target) else next(inside, target)


def verdict(targets: Sequence[Mapping[str, Any]]) -> str:
    """Whether every run met the target; a figure without a bound is reported."""
    met = [target["met"] for target in targets]
    if None in [target["measured"] for target in targets]:
        return NOT_MEASURED
    if targets[0]["bound"] is None:
        return REPORTED
    if any(met) and not all(met):
        return f"**no**, met in {sum(met)} of {len(met)} runs"
    return "yes" if met[0] else "**no**"


def is_samples(value: Any) -> bool:
    """Whether a benchmark's entry holds samples by case, as "cases" does."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(v, dict) and "median" in v for v in value.values())
    )


def is_rows(value: Any) -> bool:
    """Whether a benchmark's entry is a table of its own: a list of dictionaries."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, dict) for row in value)
    )


# --- Formatting ---


def asked(target: Mapping[str, Any]) -> str:
    """The bound, as a sign and a figure; where there is none, what is published."""
    if target["bound"] is None:
        published = target.get("published_ratio")
        return "–" if published is None else f"– (published: {published:g})"
    sign = {"at most": "≤", "at least": "≥"}[target["sense"]]
    return f"{sign} {target['bound']:g}"


def compared(targets: Sequence[Mapping[str, Any]]) -> str:
    """The two cases a ratio is of; several where the runs took different modes."""
    return "; or ".join(
        ordered(f"{t['ours']} / {t['theirs']}" for t in targets if "theirs" in t)
    )


def detailed(target: Mapping[str, Any]) -> str:
    """A target's figure with its quartiles, or with another spread that it holds."""
    if spreads(target):
        return spread(target)
    others = (
        f"{key.replace('_', ' ')} {spread(value)}"
        for key, value in target.items()
        if isinstance(value, dict) and spreads(value)
    )
    return "; ".join([spread(target), *others])


def spread(case: Mapping[str, Any] | None, factor: float = 1.0) -> str:
    """A median and its quartiles, divided by `factor`."""
    if case is None:
        return "–"
    if not spreads(case):
        return figure(median_of(case), factor)
    low, high = (figure(case[key], factor) for key in ("quartile_1", "quartile_3"))
    dash = " to " if "-" in low else "–"
    return f"{figure(case['median'], factor)} ({low}{dash}{high})"


def figure(value: float | None, factor: float = 1.0) -> str:
    """A number to three digits; integers as they are."""
    if value is None:
        return "–"
    value = value if isinstance(value, int) and factor == 1 else value / factor
    if isinstance(value, int) or value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".") if abs(value) >= 1e-3 else f"{value:.2e}"


def unit_of(kind: str, medians: Sequence[float]) -> tuple[float, str]:
    """The factor and the name of the unit that samples are shown in."""
    units = UNITS.get(kind, ((1.0, kind),))
    fitting = [unit for unit in units if min(medians) >= unit[0] / 10]
    return fitting[0] if fitting else units[-1]


def sample_kind(case: Mapping[str, Any]) -> str:
    """What a case's samples are: "seconds", "bytes"; the name of its list."""
    return next((key for key, value in case.items() if isinstance(value, list)), "")


def plain(value: Any) -> str:
    """A size as text."""
    if isinstance(value, list):
        return "(" + ", ".join(map(plain, value)) + ")"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    return str(value)


def run_titles() -> list[str]:
    """The headings of the runs' columns."""
    return [f"run {run}" for run in RUNS]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
        for line in lines
    )


def folded(title: str, text: str, rows: int) -> str:
    """A long table behind its title."""
    if rows <= LONG_TABLE:
        return text
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def wrapped(text: str) -> str:
    """A paragraph in lines of 100 columns."""
    return textwrap.fill(
        " ".join(text.split()), 100, break_long_words=False, break_on_hyphens=False
    )


def ordered(values: Iterable[str]) -> list[str]:
    """The different values in the order of their first appearance."""
    return list(dict.fromkeys(values))


if __name__ == "__main__":
    main()
