"""Runs side by side on one page of HTML, which needs no other file and no network.

It is written with Jinja2 and matplotlib: `pip install 'tf_levelset[report]'`.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_levelset.compat import versions
from tf_levelset.datasets import Source, evaluation_dataset, load_dataset
from tf_levelset.files import write_text
from tf_levelset.inference.panels import colourize, fitted, png, spread
from tf_levelset.inference.predictor import load_predictors
from tf_levelset.reporting.level_sets import ZOOM, places
from tf_levelset.reporting.run_comparison import (
    NOTHING,
    SUMMARY,
    Entry,
    by_class,
    configuration,
    one_a_run,
    read_entries,
    reference_of,
)
from tf_levelset.training.recipe import LOSSES

COLOURS = (
    ("#0072b2", "#56b4f0"),
    ("#c44e00", "#ff9248"),
    ("#00795a", "#2fc99c"),
    ("#9c4f96", "#df9ad9"),
    ("#5f6368", "#b4b8be"),
    ("#806000", "#e3bb45"),
    ("#b5306b", "#ff86b0"),
    ("#3d4fb0", "#9fb0ff"),
)
"""Of the entries, on light and on dark paper."""

MARKERS = (("", "━"), ("o", "●"), ("s", "■"), ("^", "▲"))
"""Of curves and legend, for each time that the colours are used up."""

CURVES = (
    ("cross_entropy", "Cross-entropy", 1),
    ("level_set_energy_per_pixel", "Level set energy a pixel", 1),
    ("mean_iou", "mIoU %", 100),
)
"""What is drawn of a history (Figure 4): key, title, and factor."""

SAMPLES = 4
ZOOMS = 2
LARGEST = 480
"""Width, in pixels, that larger pictures are shrunk to."""

# What matplotlib draws in, to be replaced by what the page's style sheet says.
_INK, _RULE = "#010203", "#040506"


def write_report(
    paths: Sequence[Path], output: Path, data_dir: str | None = None
) -> None:
    """Compares runs on one page of HTML.

    Args:
        paths: run folders and losses' folders, see `run_comparison.read_entries`.
        output: the file to write.
        data_dir: folder of the data set's files, for pictures; without it, or where it
            cannot be read, the page says why it has none.

    Raises:
        ImportError: without Jinja2 or matplotlib.
        ValueError: if a path is no run, or the runs cannot be compared.
    """
    _require_libraries()
    entries = read_entries(paths)
    samples, class_colours, left_out = _pictures(entries, data_dir)
    content = {
        "entries": entries,
        "runs": one_a_run(entries),
        "losses": LOSSES,
        "reference": reference_of(entries),
        "colours": COLOURS,
        "glyphs": [_style(index)[2] for index in range(len(entries))],
        "configuration": configuration(entries),
        "versions": _versions(entries),
        "curves": [_curve(entries, *curve) for curve in CURVES],
        "curves_end": _curves_end(entries),
        "score_tables": _score_tables(entries),
        "samples": samples,
        "class_colours": class_colours,
        "left_out": left_out,
        "written_by": f"tf_levelset {versions()['tf_levelset']}",
    }
    write_text(output, _page(content))


def _require_libraries() -> None:
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Expected Jinja2 and matplotlib, which pip install 'tf_levelset[report]' "
            f"brings. Received: no {error.name}"
        ) from error


def _page(content: Mapping[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tf_levelset.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(content)


# --- Configuration and scores ---


def _versions(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """A text a run, by what it is the version of; empty where none is known."""
    runs = one_a_run(entries)
    names = dict.fromkeys(name for entry in runs for name in entry.versions)
    return {name: [e.versions.get(name, NOTHING) for e in runs] for name in names}


def _score_tables(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Captions, headings and rows; none as long as nothing was judged."""
    reference = reference_of(entries)
    if reference is None:
        return []
    tables = (
        ("Summary", "quantity", SUMMARY),
        ("IoU by class, %", "class", by_class("class_iou", entries)),
        (
            "Boundary IoU by class, %",
            "class",
            by_class("class_boundary_iou", entries),
        ),
    )
    return [
        {
            "caption": caption,
            "heading": heading,
            "rows": [(q.title, q.cells(entries)) for q in quantities],
        }
        for caption, heading, quantities in tables
        if quantities
    ]


# --- Curves ---


def _style(index: int) -> tuple[str, str, str]:
    """The colour of an entry, its marker, and the glyph that stands for both."""
    rounds, place = divmod(index, len(COLOURS))
    marker, glyph = MARKERS[rounds % len(MARKERS)]
    return COLOURS[place][0], marker, glyph


def _curve(
    entries: Sequence[Entry], key: str, title: str, factor: float
) -> dict[str, Any]:
    """One quantity of all entries over the steps: title, description and SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    inks = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color")
    style: Any = {
        **dict.fromkeys((*inks, "ytick.color"), _INK),
        "font.size": 9,
        "grid.color": _RULE,
        "svg.fonttype": "none",  # text, in the reader's own font
        "svg.hashsalt": "tf_levelset",  # the same page for the same runs
    }
    with matplotlib.rc_context(style):
        drawing = Figure((4.4, 2.9), layout="constrained", facecolor="none")
        axes = drawing.add_subplot(facecolor="none")
        for index, entry in enumerate(entries):
            colour, marker, _ = _style(index)
            for name, line in ((key, "-"), (f"val_{key}", "--")):
                points = _points(entry, name, factor)
                axes.plot(
                    [step for step, _ in points],
                    [value for _, value in points],
                    line,
                    color=colour,
                    # A line of one point would not be seen.
                    marker=marker or ("o" if len(points) == 1 else ""),
                    ms=4,
                    lw=1.5,
                )
        axes.set_xlabel("step")
        axes.grid(lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        file = io.StringIO()
        drawing.savefig(
            file,
            format="svg",
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
    return {
        "title": title,
        "text": _in_words(entries, key, title, factor),
        "svg": _themed(file.getvalue(), key),
    }


def _points(entry: Entry, name: str, factor: float) -> list[tuple[float, float]]:
    return [(r["step"], factor * r[name]) for r in entry.history if name in r]


def _themed(svg: str, key: str) -> str:
    """What a page takes in: its own colours, and no id that another picture has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{key}-", svg)
    svg = svg.replace(_INK, "currentColor").replace(_RULE, "var(--rule)")
    for index, (light, _) in enumerate(COLOURS):
        svg = svg.replace(light, f"var(--colour-{index})")
    return svg


def _in_words(entries: Sequence[Entry], key: str, title: str, factor: float) -> str:
    """What a curve shows, for those who cannot see it."""
    parts = []
    for entry in entries:
        ends = [
            f"{points[-1][1]:.4g} in {where} at step {points[-1][0]}"
            for name, where in ((key, "training"), (f"val_{key}", "validation"))
            if (points := _points(entry, name, factor))
        ]
        parts.append(f"{entry.title}: {', '.join(ends) or 'no value yet'}")
    return f"{title} over the steps. At the end, {'; '.join(parts)}."


def _curves_end(entries: Sequence[Entry]) -> list[tuple[str, list[str]]]:
    """The last values of every curve: a title, and a text an entry."""
    rows = []
    for key, title, factor in CURVES:
        for name, where in ((key, "training"), (f"val_{key}", "validation")):
            ends = [_points(entry, name, factor)[-1:] for entry in entries]
            texts = [f"{end[0][1]:.4g}" if end else NOTHING for end in ends]
            rows.append((f"{title}, {where}", texts))
    return rows


# --- Pictures ---


@dataclasses.dataclass(frozen=True)
class Column:
    """What is shown of a sample side by side.

    Args:
        title: "picture", "truth" or an entry's.
        index: the entry's, None for picture and truth.
        text: what is to be seen.
        whole: its data URI.
        zooms: those of its enlarged parts.
    """

    title: str
    index: int | None
    text: str
    whole: str
    zooms: list[str]


@dataclasses.dataclass(frozen=True)
class Sample:
    """A picture, its truth and its predictions.

    Args:
        name: the sample's.
        columns: of one size.
        boxes: of the zooms: left, top, width and height in percent of the picture.
    """

    name: str
    columns: list[Column]
    boxes: list[tuple[float, float, float, float]]


def _pictures(
    entries: Sequence[Entry], data_dir: str | None
) -> tuple[list[Sample], dict[str, str], list[str]]:
    """Samples, the colours of the classes by name, and what was left out and why."""
    trained = {i: entry for i, entry in enumerate(entries) if entry.is_trained}
    left_out = [
        f"{entry.title} is left out: its net is not trained to the end."
        for entry in entries
        if not entry.is_trained
    ]
    if not trained:
        return [], {}, left_out
    recipe = entries[0].recipe
    try:
        source = load_dataset(
            recipe.dataset, recipe.val_split, data_dir, **recipe.dataset_options
        )
        _check_classes(source, trained.values())
        chosen = spread(source, SAMPLES)
        data = list(evaluation_dataset(chosen).as_numpy_iterator())
    except (ValueError, OSError, tf.errors.OpError) as error:
        return [], {}, [str(error)]
    predictions: list[dict[str, np.ndarray]] = [{} for _ in data]
    for entry in trained.values():  # one net in memory at a time
        (predictor,) = load_predictors(entry.folder).values()
        for masks, (image, _) in zip(predictions, data, strict=True):
            masks[entry.title] = predictor(image).argmax(-1)
    indices = {entry.title: index for index, entry in trained.items()}
    samples = [
        _sample(name, source, image, labels, masks, indices)
        for name, (image, labels), masks in zip(
            chosen.sample_names, data, predictions, strict=True
        )
    ]
    colours = {
        name: "rgb({}, {}, {})".format(*colour)
        for name, colour in zip(source.class_names, source.palette, strict=True)
    }
    return samples, colours, left_out


def _check_classes(source: Source, trained: Iterable[Entry]) -> None:
    for entry in trained:
        if entry.class_names not in (None, source.class_names):
            raise ValueError(
                f"Expected {source.name} to have the classes of {entry.title}, "
                f"{entry.class_names}. Received: {source.class_names}"
            )


def _sample(
    name: str,
    source: Source,
    image: np.ndarray,
    labels: np.ndarray,
    masks: Mapping[str, np.ndarray],
    indices: Mapping[str, int],
) -> Sample:
    """Draws a sample: labels (H, W), and a mask (H, W) by the title of its entry."""
    corners = places(labels, list(masks.values()), ZOOMS, source.ignore_class)
    height, width = labels.shape
    side_y, side_x = min(ZOOM, height), min(ZOOM, width)

    def column(title: str, picture: np.ndarray, text: str) -> Column:
        parts = [picture[y : y + side_y, x : x + side_x] for y, x in corners]
        shrunk = fitted(picture, LARGEST) if width > LARGEST else picture
        zooms = [_data_uri(part) for part in parts]
        return Column(title, indices.get(title), text, _data_uri(shrunk), zooms)

    def drawn(title: str, mask: np.ndarray, what: str) -> Column:
        seen = [n for c, n in enumerate(source.class_names) if (mask == c).any()]
        picture = colourize(mask, source.palette)
        return column(title, picture, f"{what} for {name}: {', '.join(seen)}")

    return Sample(
        name,
        [
            column("picture", image, f"Picture {name}"),
            drawn("truth", labels, "Truth"),
            *(drawn(title, mask, title) for title, mask in masks.items()),
        ],
        [
            (
                100 * x / width,
                100 * y / height,
                100 * side_x / width,
                100 * side_y / height,
            )
            for y, x in corners
        ],
    )


def _data_uri(picture: np.ndarray) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(picture)).decode()}"
