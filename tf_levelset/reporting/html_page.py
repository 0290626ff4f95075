"""Writes a comparison of training runs as one HTML page without external resources.

It needs Jinja2 and matplotlib: `pip install jinja2 matplotlib`.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_levelset.checks import noting, optional_library, sentence
from tf_levelset.compat import versions
from tf_levelset.datasets import Source, evaluation_dataset, load_dataset
from tf_levelset.datasets.pipeline import arrays_of
from tf_levelset.files import write_text
from tf_levelset.inference.panels import png, spread
from tf_levelset.inference.predictor import load_predictors
from tf_levelset.reporting.level_sets import zoomed_panel
from tf_levelset.reporting.run_comparison import (
    Entry,
    read_entries,
    score_tables,
    settings,
)
from tf_levelset.training.recipe import LOSSES

COLOURS = (
    *("#2485c4", "#d9661f", "#1f9e77", "#b565ac"),
    *("#808488", "#a5861c", "#d64f8b", "#6b7de0"),
)
"""Colours of the entries, with enough contrast on a light and on a dark page."""

MARKERS = (("", "━"), ("o", "●"), ("s", "■"), ("^", "▲"))
"""Marker of the curve, and its sign in the legend, for each round of the colours."""

CURVES = (
    ("cross_entropy", "Cross-entropy", 1),
    ("level_set_energy_per_pixel", "Level set energy per pixel", 1),
    ("mean_iou", "mIoU %", 100),
)
"""Plots of the history (Figure 4): key, title and factor."""

SAMPLES = 4
ZOOMS = 2
WIDTH = 240
"""Width of an image on the page, in pixels."""


def write_report(
    paths: Sequence[Path], output: Path, data_dir: str | None = None
) -> None:
    """Compares runs on one HTML page.

    Args:
        paths: Run folders, and folders of single losses in them.
        output: The file to write.
        data_dir: Folder with the files of the data set. If the data set cannot be
            read, the page says why it has no images.

    Raises:
        ImportError: If Jinja2 or matplotlib is not installed.
        ValueError: If a path is not a run, or if the runs cannot be compared.
    """
    jinja2 = optional_library("jinja2", "jinja2 matplotlib")
    optional_library("matplotlib", "jinja2 matplotlib")
    entries = read_entries(paths)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tf_levelset.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    samples, class_colours, omissions = _samples(entries, data_dir)
    page = environment.get_template("report.html").render(
        entries=entries,
        runs=list(dict.fromkeys(entry.run for entry in entries)),
        losses=LOSSES,
        signs=[_style(index)[2] for index in range(len(entries))],
        colours=[_style(index)[0] for index in range(len(entries))],
        settings=settings(entries),
        curves=[_curve(entries, *curve) for curve in CURVES],
        score_tables=score_tables(entries),
        samples=samples,
        class_colours=class_colours,
        omissions=omissions,
        trained=[entry.title for entry in entries if entry.is_trained],
        version=versions()["tf_levelset"],
    )
    write_text(output, page)


# --- Curves ---


def _style(index: int) -> tuple[str, str, str]:
    """Returns the colour of an entry, its marker, and the marker's sign."""
    rounds, place = divmod(index, len(COLOURS))
    return (COLOURS[place], *MARKERS[rounds % len(MARKERS)])


def _curve(
    entries: Sequence[Entry], key: str, title: str, factor: float
) -> dict[str, str]:
    """Plots one quantity over the steps: its title, description and SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    # Text stays text, and the same runs give the same page.
    with matplotlib.rc_context(
        {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "tf_levelset"}
    ):
        figure = Figure((4.4, 2.9), layout="constrained", facecolor="none")
        axes = figure.add_subplot(facecolor="none", xlabel="step")
        ends = []
        for index, entry in enumerate(entries):
            colour, marker, _ = _style(index)
            for name, line in ((key, "-"), (f"val_{key}", "--")):
                rows = [row for row in entry.history if name in row]
                steps = [row["step"] for row in rows]
                values = [factor * row[name] for row in rows]
                marker = marker or ("o" if len(rows) == 1 else "")
                axes.plot(steps, values, line, color=colour, marker=marker, ms=4)
                if rows:
                    part = "validation" if name.startswith("val_") else "training"
                    ends.append(f"{entry.title} {part} {values[-1]:.4g}")
        axes.grid(lw=0.4)
        file = io.StringIO()
        keys = ("Creator", "Date", "Format", "Type")
        figure.savefig(file, format="svg", metadata=dict.fromkeys(keys))
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    # Ids must be unique on the page, and lines are drawn in the page's text colour.
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{key}-", svg)
    svg = svg.replace("#000000", "currentColor")
    text = f"{title} over the steps. At the end: {'; '.join(ends)}."
    return {"title": title, "text": text, "svg": svg}


# --- Images ---


def _samples(
    entries: Sequence[Entry], data_dir: str | None
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Returns panels by the names of samples, colours of classes, and omissions."""
    trained = [entry for entry in entries if entry.is_trained]
    omissions = [fault for entry in entries for fault in entry.faults]
    omissions += [
        f"{entry.title} is omitted, because it is not fully trained."
        for entry in entries
        if not entry.is_trained
    ]
    if not trained:
        return {}, {}, omissions
    recipe = entries[0].recipe
    try:
        source = load_dataset(
            recipe.dataset, recipe.val_split, data_dir, **recipe.dataset_options
        )
        for entry in trained:
            _check_classes(source, entry)
        chosen = spread(source, SAMPLES)
        data = list(arrays_of(evaluation_dataset(chosen), chosen))
    except (ValueError, OSError, tf.errors.OpError) as error:
        return {}, {}, [*omissions, sentence(error)]
    masks: list[dict[str, np.ndarray]] = [{} for _ in data]
    for entry in trained:  # one network in memory at a time
        with noting(omissions):
            (predictor,) = load_predictors(entry.folder).values()
            predicted = [predictor(image).argmax(-1) for image, _ in data]
            for found, classes in zip(masks, predicted, strict=True):
                found[entry.title] = classes
    if not any(masks):
        return {}, {}, omissions
    panels = [
        zoomed_panel(image, labels, found, source.palette, ZOOMS, WIDTH)
        for (image, labels), found in zip(data, masks, strict=True)
    ]
    uris = [
        f"data:image/png;base64,{base64.b64encode(png(p)).decode()}" for p in panels
    ]
    colours = ["rgb({}, {}, {})".format(*colour) for colour in source.palette]
    return (
        dict(zip(chosen.sample_names, uris, strict=True)),
        dict(zip(source.class_names, colours, strict=True)),
        omissions,
    )


def _check_classes(source: Source, entry: Entry) -> None:
    names = entry.class_names
    if names is not None and tuple(names) != tuple(source.class_names):
        raise ValueError(
            f"Expected {source.name} to have the classes of {entry.title}, "
            f"{', '.join(names)}. Received: {', '.join(source.class_names)}"
        )
