"""The document against three made-up runs, whose figures are known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import harness, report

ENVIRONMENT = {
    "python": "3.11.7",
    "packages": {"tensorflow": "2.21.0"},
    "machine": "x86_64, 2 cores",
    "processor": "Some processor (avx2)",
    "memory_gib": 16.0,
    "load_before": 0.25,
}


def case(*seconds: float) -> dict[str, Any]:
    return {"seconds": list(seconds), **harness.summary(seconds)}


def figures(scale: float = 1.0, **changes: Any) -> dict[str, Any]:
    """What a run measured: a ratio of ½ whatever the scale."""
    samples = {
        "ours": [scale * s for s in (0.010, 0.011, 0.012)],
        "peer": [scale * s for s in (0.020, 0.022, 0.024)],
    }
    ratio = harness.ratio(samples, ["ours"], ["peer"])
    return {
        "benchmark": "loss",
        "quick": False,
        "environment": ENVIRONMENT,
        "sizes": {"logits": [4, 321, 321, 21]},
        "cases": {name: case(*seconds) for name, seconds in samples.items()},
        "targets": [
            harness.target("ours over peer", ratio["median"], 1.0, "at most", **ratio),
            harness.target("unknown", None, 2.0, "at least"),
        ],
        "seconds": 1.0,
        **changes,
    }


def growth(exponent: float) -> dict[str, Any]:
    x = [16, 64, 256]
    series = {"y": [n**exponent for n in x], "exponent": exponent}
    return {
        "title": "Time over pixels",
        "x_label": "pixels",
        "y_label": "seconds",
        "x": x,
        "series": {"ours": {**series, "exponent_of_all": exponent / 2}},
    }


def write(folder: Path, name: str, runs: list[dict[str, Any]]) -> None:
    for run, values in zip(report.RUNS, runs, strict=True):
        (folder / run).mkdir(parents=True, exist_ok=True)
        (folder / run / f"{name}.json").write_text(json.dumps(values))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    write(folder, "loss", [figures(), figures(1.01), figures(0.99)])
    return folder


def written(results: Path, prose: dict[str, str] | None = None) -> str:
    return report.document(report.read(results), prose or {}, {})


def row(text: str, *beginnings: str) -> list[str]:
    """The cells of the one row that begins so."""
    start = "| " + " | ".join(beginnings) + " |"
    (line,) = (line for line in text.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.strip("|").split("|")]


# --- Reading ---


def test_a_missing_run_names_its_command(results: Path) -> None:
    for file in (results / "3").iterdir():
        file.unlink()
    (results / "3").rmdir()
    with pytest.raises(FileNotFoundError, match=r"python -m benchmarks --out .*3"):
        report.read(results)


def test_a_benchmark_must_be_in_every_run_or_in_none(results: Path) -> None:
    (results / "2" / "loss.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"Received: no .*2.loss\.json"):
        report.read(results)


def test_quick_results_are_refused(results: Path) -> None:
    write(results, "loss", [figures(), figures(quick=True), figures()])
    with pytest.raises(ValueError, match=r"Received: quick ones, in .*2.loss\.json"):
        report.read(results)


def test_runs_of_other_versions_are_refused(results: Path) -> None:
    other = {**ENVIRONMENT, "python": "3.12.0"}
    write(results, "loss", [figures(), figures(), figures(environment=other)])
    with pytest.raises(ValueError, match=r"one set of versions.*3\.12\.0"):
        report.read(results)


def of_packages(**versions: str) -> dict[str, Any]:
    return figures(environment={**ENVIRONMENT, "packages": versions})


def test_a_package_may_be_missing_where_it_is_not_used(results: Path) -> None:
    fewer, more = of_packages(numpy="2.4"), of_packages(numpy="2.4", torch="2.14")
    write(results, "loss", [fewer] * 3)
    write(results, "peers", [more] * 3)
    assert "numpy 2.4 · torch 2.14" in written(results)


def test_a_package_has_one_version(results: Path) -> None:
    write(results, "loss", [of_packages(numpy="2.4")] * 3)
    write(results, "peers", [of_packages(numpy="2.5", torch="2.14")] * 3)
    with pytest.raises(ValueError, match="one set of versions"):
        report.read(results)


def test_another_load_is_no_other_machine(results: Path) -> None:
    busy = {**ENVIRONMENT, "load_before": 1.5}
    write(results, "loss", [figures(), figures(), figures(environment=busy)])
    assert "of each run: 0.25, 0.25, 1.50." in " ".join(written(results).split())


def test_runs_with_other_targets_are_refused(results: Path) -> None:
    write(results, "loss", [figures(), figures(), figures(targets=[])])
    with pytest.raises(ValueError, match="the same targets in each run of 'loss'"):
        report.read(results)


def test_notes_of_no_benchmark_would_be_lost(tmp_path: Path) -> None:
    (tmp_path / "loss.md").write_text("Prose.")
    assert report.notes(tmp_path) == {"loss": "Prose."}
    (tmp_path / "lost.md").write_text("Prose.")
    with pytest.raises(ValueError, match=r"Received: \['lost'\]"):
        report.notes(tmp_path)


# --- The document ---


def test_targets_are_stated_with_every_runs_median(results: Path) -> None:
    text = written(results)
    assert row(text, "loss", "ours over peer")[2:] == [
        *("≤ 1", "0.500", "0.500", "0.500", "yes, 0.0%", "yes"),
    ]
    unknown = row(text, "loss", "unknown")
    assert unknown[2:] == ["≥ 2", "–", "–", "–", "–", "not measured"]


def test_a_benchmark_that_did_not_run_is_not_measured(results: Path) -> None:
    text = written(results)
    assert row(text, "growth")[1] == "not measured"
    assert "## Growth\n" in text


def test_cases_are_shown_with_quartiles_and_units(results: Path) -> None:
    text = written(results)
    # 10, 11 and 12 ms: quartiles at 10.5 and 11.5.
    assert row(text, "ours")[1] == "11.0 (10.5–11.5)"
    assert "| cases | run 1, ms |" in text


def test_prose_and_sizes_are_kept(results: Path) -> None:
    text = written(results, {"introduction": "First.", "loss": "Where time goes."})
    assert text.index("First.") < text.index("## Targets") < text.index("Where time")
    assert "Sizes: logits: (4, 321, 321, 21)." in text


def test_a_case_of_some_runs_only_is_shown(results: Path) -> None:
    other = figures()
    other["cases"]["ours, XLA"] = case(0.5)
    write(results, "loss", [figures(), other, figures()])
    assert row(written(results), "ours, XLA")[1:] == ["–", "500 (500–500)", "–", "–"]


def test_samples_and_numbers_of_other_names_are_shown(results: Path) -> None:
    runs = [
        figures(
            memory={"ours": {"bytes": [b * 2**20], **harness.summary([b * 2**20])}},
            distance={"reading": {"XLA": 1.5 + b}, "why": "text"},
        )
        for b in (3, 4, 5)
    ]
    write(results, "loss", runs)
    text = written(results)
    assert "| memory | run 1, MiB |" in text
    assert row(text, "distance: reading: XLA")[1:] == ["4.50", "5.50", "6.50"]


def test_tables_groups_and_remarks_of_a_benchmark_are_shown(results: Path) -> None:
    runs = [
        figures(
            notes=["One remark.", "Another."],
            ratios={"full": {"XLA": {"pairs": [r], **harness.summary([r])}}},
            table4=[{"net": "LargeFOV", "seconds": {"net": r, "crf": 2 * r}}],
        )
        for r in (1.5, 1.6, 1.7)
    ]
    write(results, "loss", runs)
    text = written(results)
    assert "- One remark.\n- Another.\n" in text
    assert "| ratios: full | run 1 | run 2 |" in text
    assert row(text, "XLA")[2] == "1.60 (1.60–1.60)"
    assert "| table4 | run | seconds: net | seconds: crf |" in text
    assert row(text, "LargeFOV", "run 3")[2:] == ["1.70", "3.40"]
    assert "other figures" not in text


def test_a_target_may_hold_its_samples_inside(results: Path) -> None:
    ratio = {"ours": "a", "theirs": "b", "pairs": [2.0], **harness.summary([2.0])}
    inside = harness.target("inside", 2.0, 1.0, "at least", ratio=ratio)
    write(results, "loss", [figures(targets=[inside])] * 3)
    text = written(results)
    assert row(text, "inside")[1:] == [*["2.00 (2.00–2.00)"] * 3, "a / b"]
    assert row(text, "loss", "inside")[-2:] == ["yes, 0.0%", "yes"]


def test_growths_state_both_exponents(results: Path) -> None:
    runs = [figures(curves=[growth(e)]) for e in (1.0, 1.05, 1.1)]
    write(results, "growth", runs)
    fits = row(written(results), "Time over pixels", "ours")[2:]
    assert fits == ["1.00 (0.500)", "1.05 (0.525)", "1.10 (0.550)"]


def test_the_document_depends_on_the_figures_alone(results: Path) -> None:
    assert written(results) == written(results)


def test_paragraphs_are_wrapped_and_tables_are_not() -> None:
    assert max(map(len, report.wrapped("word " * 100).splitlines())) <= 100
    assert report.table(["a|b"], [["c"]]) == "| a\\|b |\n| --- |\n| c |"


def test_long_tables_are_folded() -> None:
    assert report.folded("title", "text", report.LONG_TABLE) == "text"
    assert report.folded("title", "text", report.LONG_TABLE + 1).startswith("<details>")


# --- Judging ---


def spread(median: float, low: float, high: float) -> dict[str, float]:
    return {"median": median, "quartile_1": low, "quartile_3": high}


def test_runs_agree_where_each_median_lies_in_every_spread() -> None:
    runs = [spread(1.0, 0.9, 1.1), spread(1.05, 0.95, 1.2), spread(0.98, 0.9, 1.1)]
    assert report.agreement(runs) == "yes, 7.0%"
    # The last run's median is below the second's lower quartile.
    runs[2] = spread(0.94, 0.8, 1.1)
    assert report.agreement(runs) == "no, 11.0%"
    # And here above the first's upper quartile.
    runs[2] = spread(1.12, 0.9, 1.2)
    assert report.agreement(runs).startswith("no")


def test_agreement_without_a_spread_is_the_range() -> None:
    assert report.agreement([{"measured": m} for m in (2.0, 2.1, 1.9)]) == "10.0%"
    assert report.agreement([{"measured": m} for m in (2.0, None, 1.9)]) == "–"
    assert report.agreement([spread(1, 1, 1), None, spread(1, 1, 1)]) == "–"


def test_a_spread_may_be_inside_a_target() -> None:
    inverse = spread(0.5, 0.4, 0.6)
    target = {"measured": 2.0, "seconds_ratio": inverse}
    assert report.with_spread(target) is inverse
    assert report.detailed(target) == "2.00; seconds ratio 0.500 (0.400–0.600)"


@pytest.mark.parametrize(
    ("met", "verdict"),
    [
        ([True, True, True], "yes"),
        ([False, False, False], "**no**"),
        ([True, False, True], "**no**, met in 2 of 3 runs"),
        ([True, None, True], "not measured"),
    ],
)
def test_a_target_is_met_where_every_run_meets_it(
    met: list[bool | None], verdict: str
) -> None:
    figures = {True: 0.5, False: 2.0, None: None}
    targets = [harness.target("it", figures[m], 1.0, "at most") for m in met]
    assert report.verdict(targets) == verdict


@pytest.mark.parametrize(
    ("published", "asked"),
    [({"published_ratio": 1.18}, "– (published: 1.18)"), ({}, "–")],
)
def test_a_figure_without_a_bound_is_reported(
    published: dict[str, float], asked: str, results: Path
) -> None:
    target = harness.target("it", 1.2, None, "at most", **published)
    write(results, "loss", [figures(targets=[target])] * 3)
    cells = row(written(results), "loss", "it")
    assert (cells[2], cells[-1]) == (asked, "reported")
    missing = harness.target("it", None, None, "at most")
    assert report.verdict([target, missing, target]) == report.NOT_MEASURED


# --- Formatting ---


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (2, "2"),
        (2.0, "2.00"),
        (0.9996, "1.00"),
        (1.234, "1.23"),
        (86.04, "86.0"),
        (123.4, "123"),
        (17520.6, "17,521"),
        (0.00012345, "1.23e-04"),
    ],
)
def test_figure(value: float | None, text: str) -> None:
    assert report.figure(value) == text


@pytest.mark.parametrize(
    ("medians", "unit"), [([0.02, 3.0], "ms"), ([0.2, 3.0], "s"), ([1e-6], "ms")]
)
def test_unit_of(medians: list[float], unit: str) -> None:
    assert report.unit_of("seconds", medians)[1] == unit


# --- The command, with plots ---


def test_the_command_writes_text_and_small_plots(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    write(results, "growth", [figures(curves=[growth(e)] * 3) for e in (1, 1.1, 1.2)])
    write(results, "peers", [figures(s) for s in 1 + rng.random(3)])
    reported = harness.target("it", 1.2, None, "at most", pairs=[1.1, 1.2, 1.3])
    write(results, "step", [figures(targets=[reported])] * 3)
    (tmp_path / "notes").mkdir()
    (tmp_path / "docs").mkdir()
    command = ["report", str(results), "--notes", str(tmp_path / "notes")]
    out = tmp_path / "docs" / "performance.md"
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(out)])
    report.main()
    first = {path: path.read_bytes() for path in (tmp_path / "docs").rglob("*.*")}
    assert {path.name for path in first} == {
        "performance.md",
        *(
            f"{n}{kind}.png"
            for n in ("loss", "growth", "peers", "step")
            for kind in ("", "_ratios")
        ),
    }
    assert max(map(len, first.values())) < 100_000
    for path in (tmp_path / "docs").rglob("*.png"):
        with Image.open(path) as image:
            assert len(image.getcolors()) > 10, f"{path} shows nothing"
    assert "](performance/growth.png)" in out.read_text(encoding="utf-8")
    report.main()
    assert {path: path.read_bytes() for path in first} == first
