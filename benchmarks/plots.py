"""The plots of docs/performance.md: growth, times, and ratios by pairs."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

try:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "Expected matplotlib, which draws the plots. Received: an environment without "
        "it; `pip install -e '.[bench]'` brings it."
    ) from error

Figures = dict[str, Any]
Plot = Callable[[Sequence[Figures]], Figure]
WIDTH = 8.0
"""Inches."""
RUN_MARKS = (("#0072b2", -0.22), ("#e69f00", 0.0), ("#009e73", 0.22))
"""Colour and place in its row of each run, the first above."""
SERIES = (("#0072b2", "o"), ("#d55e00", "s"), ("#666666", "^"), ("#009e73", "D"))
SHOWN_IN = {"bytes": (2.0**20, "MiB")}
BAR = "#b8cfe0"


def draw(
    results: Mapping[str, Sequence[Figures]], folder: Path
) -> dict[str, list[str]]:
    """Draws what each benchmark has to show.

    Args:
        results: by benchmark, what each run measured.
        folder: where the PNG files go; made if missing.

    Returns:
        By benchmark, the files' paths relative to the folder's parent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = {}
    for name, runs in results.items():
        plots = plots_of(name, runs[0])
        for file, plot in plots.items():
            save(plot(runs), folder / file)
        images[name] = [f"{folder.name}/{file}" for file in plots]
    return images


def plots_of(name: str, figures: Figures) -> dict[str, Plot]:
    """What is to be drawn of a benchmark, by file name."""
    plots: dict[str, Plot] = {}
    if figures.get("curves"):
        plots[f"{name}.png"] = growth
    elif figures.get("cases"):
        plots[f"{name}.png"] = times
    if paired_targets(figures):
        plots[f"{name}_ratios.png"] = ratios
    return plots


def save(drawing: Figure, path: Path) -> None:
    """Writes a small PNG file, of few colours, that depends on the figures alone."""
    canvas = FigureCanvasAgg(drawing)
    canvas.draw()
    pixels = np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
    Image.fromarray(pixels).quantize(64).save(path, optimize=True)


def growth(runs: Sequence[Figures]) -> Figure:
    """Every growth of a benchmark on logarithmic axes, with its exponents.

    Points are medians of the runs; bars reach from the lowest run to the highest.
    """
    curves = runs[0]["curves"]
    rows = -(-len(curves) // 2)
    drawing = Figure((WIDTH, 3.2 * rows), layout="constrained")
    for index in range(len(curves)):
        axes = drawing.add_subplot(rows, 2, index + 1)
        draw_growth(axes, [figures["curves"][index] for figures in runs])
    return drawing


def draw_growth(axes: Axes, curves: Sequence[Figures]) -> None:
    """One growth, as every run has it."""
    first = curves[0]
    factor, unit = SHOWN_IN.get(first["y_label"], (1.0, first["y_label"]))
    for index, name in enumerate(first["series"]):
        values = np.array([curve["series"][name]["y"] for curve in curves], float)
        values /= factor
        middle = np.median(values, axis=0)
        colour, marker = SERIES[index % len(SERIES)]
        axes.errorbar(
            first["x"],
            middle,
            [middle - values.min(axis=0), values.max(axis=0) - middle],
            label=exponent_label(name, curves),
            color=colour,
            marker=marker,
            ms=4,
            lw=1.2,
            capsize=2,
        )
    axes.set(xscale="log", yscale="log", title=first["title"])
    axes.set(xlabel=first["x_label"], ylabel=unit)
    axes.set_xticks(first["x"], [f"{x:,}" for x in first["x"]])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(fontsize=7, frameon=False)
    axes.grid(alpha=0.3)


def exponent_label(name: str, curves: Sequence[Figures]) -> str:
    """The name of a series and the median of its exponents."""
    fits = [curve["series"][name]["exponent"] for curve in curves]
    return name if None in fits else f"{name}, exponent {np.median(fits):.2f}"


def times(runs: Sequence[Figures]) -> Figure:
    """A bar a case, the median of the runs, and each run's quartiles on it."""
    names = list(dict.fromkeys(name for figures in runs for name in figures["cases"]))
    drawing, axes = rows_of([*names])
    for row, name in enumerate(names):
        cases = [figures["cases"].get(name) for figures in runs]
        middle = float(np.median([case["median"] for case in cases if case]))
        axes.barh(row, middle, color=BAR)
        right = max(case["quartile_3"] for case in cases if case)
        axes.annotate(f"  {middle:.3g}", (right, row), va="center", fontsize=7)
        for case, (colour, shift) in zip(cases, RUN_MARKS, strict=True):
            if case:
                quartiles = (case["quartile_1"], case["quartile_3"])
                axes.plot(quartiles, [row + shift] * 2, color=colour, lw=1.5)
                axes.plot(case["median"], row + shift, "o", color=colour, ms=3)
    axes.set(xlabel="seconds: median of the runs; each run's median and quartiles")
    axes.margins(x=0.1)
    axes.set_xlim(left=0)
    return drawing


def paired_targets(figures: Figures) -> list[Figures]:
    """The targets that are ratios of pairs."""
    return [target for target in figures["targets"] if target.get("pairs")]


def ratios(runs: Sequence[Figures]) -> Figure:
    """A row a target: every pair of every run, their medians, and the bound."""
    targets = paired_targets(runs[0])
    drawing, axes = rows_of([target["name"] for target in targets])
    for row, target in enumerate(targets):
        axes.plot([target["bound"]] * 2, [row - 0.45, row + 0.45], "k--", lw=1)
        for figures, (colour, shift) in zip(runs, RUN_MARKS, strict=True):
            pairs = pairs_of(figures, target["name"])
            heights = [row + shift] * len(pairs)
            axes.plot(pairs, heights, "o", color=colour, ms=3, alpha=0.35, mew=0)
            axes.plot(np.median(pairs), row + shift, "|", color="k", ms=9, mew=1.5)
    axes.set(xscale="log", xlabel="ratio of each pair, by run; dashed: what is asked")
    low, high = axes.get_xlim()
    wide = high > 4 * low
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    return drawing


def pairs_of(figures: Figures, name: str) -> list[float]:
    """The ratios of a target in one run."""
    return next(t["pairs"] for t in paired_targets(figures) if t["name"] == name)


def rows_of(names: Sequence[str]) -> tuple[Figure, Axes]:
    """Axes with a row a name, from the top."""
    drawing = Figure((WIDTH, 0.8 + 0.4 * len(names)), layout="constrained")
    axes = drawing.add_subplot()
    axes.set_yticks(range(len(names)), [textwrap.fill(n, 44) for n in names])
    axes.tick_params(axis="y", labelsize=7)
    axes.set_ylim(len(names) - 0.4, -0.6)
    return drawing, axes
