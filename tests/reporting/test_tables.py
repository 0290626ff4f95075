"""The paper's tables, filled with the results of run folders."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import evaluation, write_run

from tf_levelset.commands.main import main
from tf_levelset.files import write_json
from tf_levelset.inference.crf import PRESETS
from tf_levelset.reporting.tables import MeasuredRun, find_runs, markdown, tables
from tf_levelset.training.recipes import RECIPES


def result(miou: float, crf: int | None = None, **changes: Any) -> dict[str, Any]:
    options = {
        "dataset": "voc/val",
        "flip": False,
        "scales": [1.0],
        "crf": crf and dataclasses.asdict(PRESETS[f"vgg_{crf}"]),
        "seconds_per_image": {"net": 0.25, "crf": 2.0 if crf else 0.0},
    }
    return evaluation(miou, **{**options, **changes})


def found(*paths: Path) -> list[MeasuredRun]:
    faults: list[str] = []
    runs = find_runs(paths, faults)
    assert faults == []
    return runs


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    recipe = RECIPES["voc-deeplab_largefov"]
    write_run(tmp_path / "a", recipe, ce=result(0.6), ls=result(0.65))
    # The seed and the folders of the data may differ.
    places = {"sbd_dir": "elsewhere"}
    same = dataclasses.replace(recipe, seed=1, dataset_options=places)
    write_run(tmp_path / "b", same, ls=result(0.67))
    write_json(
        tmp_path / "a" / "evaluation-val-crf10.json",
        {"ce": result(0.64, crf=10), "ls": result(0.66, crf=10)},
    )
    write_json(tmp_path / "a" / "evaluation-val-crf5.json", {"ce": result(0.63, crf=5)})
    # None of these belongs to a table: test-time augmentation, another split, and the
    # CRF of another backbone.
    write_json(
        tmp_path / "a" / "evaluation-z.json", {"ce": result(0.9, crf=10, flip=True)}
    )
    write_json(
        tmp_path / "a" / "evaluation-zz.json",
        {"ce": result(0.9, crf=10, dataset="voc/train")},
    )
    write_json(
        tmp_path / "b" / "evaluation-val-crf10.json",
        {"ls": result(0.9, crf=10) | {"crf": dataclasses.asdict(PRESETS["resnet_10"])}},
    )
    losses = RECIPES["voc-deeplab_resnet101-losses"]
    two = dataclasses.replace(losses, losses=("ce", "lmp"))
    write_run(tmp_path / "c", two, lmp=result(0.51))
    options = {"list_file": "some.txt"}
    other = dataclasses.replace(losses, iterations=5, dataset_options=options)
    write_run(tmp_path / "d", other, lmp=result(0.1))
    write_json(tmp_path / "other" / "config.json", {"of": "another program"})
    write_json(tmp_path / "list" / "config.json", [1])
    return tmp_path


def cells(runs: Path, number: int, recipe: str) -> dict[str, Any]:
    rows = {t["table"]: t for t in tables(found(runs))}[number]["rows"]
    return {row["recipe"]: row for row in rows}[recipe]["cells"]


def test_measured_beside_published(runs: Path) -> None:
    mine = cells(runs, 1, "voc-deeplab_largefov")
    assert mine["ce"]["measured"] == pytest.approx(60.0)
    assert mine["ce"]["published"] == 62.8
    assert mine["ls"]["values"] == pytest.approx([65.0, 67.0])  # two seeds
    assert mine["ls"]["measured"] == pytest.approx(66.0)
    assert mine["ce+crf10"]["measured"] == pytest.approx(64.0)
    assert mine["ls+crf10"]["measured"] == pytest.approx(66.0)
    assert mine["ls+crf10"]["published"] is None


def test_the_papers_layout(runs: Path) -> None:
    text = markdown(found(runs))
    assert "### Table 1. PASCAL VOC 2012 val" in text
    rows = [line for line in text.splitlines() if "| DeepLab-LargeFOV " in line]
    assert "60.0 / 62.8" in rows[0]
    assert "66.0 (n = 2) / 66.7 |" in rows[0]
    # Table 4 has seconds beside the mIoU, Table 5 its losses below one another.
    assert "66.0 (n = 2) / 66.7; 0.250 s / 0.025 s" in text
    (lmp,) = (line for line in text.splitlines() if line.startswith("| LMP"))
    assert lmp.replace(" ", "") == "|LMP|51.0/76.3|"


def test_runs_that_are_not_their_recipe_are_left_out(runs: Path) -> None:
    changes = [
        "dataset_options: {'list_file': 'some.txt'} instead of {}",
        "iterations: 5 instead of 20000",
    ]
    text = markdown(found(runs))
    assert (
        f"Left out: {runs / 'd'}, which differs from its recipe, "
        f"voc-deeplab_resnet101-losses: {'; '.join(changes)}" in text
    )
    assert str(runs / "b") not in text
    (fifth,) = (t for t in tables(found(runs)) if t["table"] == 5)
    (row,) = fifth["rows"]
    assert row["runs"] == [str(runs / "c")]
    assert row["left_out"] == {str(runs / "d"): changes}
    assert row["cells"]["lmp"]["values"] == pytest.approx([51.0])


def test_a_run_counts_once(runs: Path) -> None:
    assert len(found(runs, runs / "a")) == len(found(runs)) == 4


def test_command(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(["tables", str(runs), "--output", str(output)]) == 0
    assert capsys.readouterr().out == (output / "tables.md").read_text()
    written = json.loads((output / "tables.json").read_text())
    assert [entry["table"] for entry in written] == [1, 2, 3, 4, 5, 0]


@pytest.mark.parametrize(
    "change",
    [
        3,
        {"mean_iou": "0.5"},
        {"mean_iou": None},
        {"seconds_per_image": {"net": "fast"}},
        {"crf": {"iterations": "ten"}},
    ],
)
def test_an_evaluation_without_its_numbers_is_named_and_left_out(
    runs: Path, change: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs / "a" / "ls" / "evaluation.json"
    write_json(path, result(0.6) | change if isinstance(change, dict) else change)
    path = runs / "a" / "evaluation-val-crf10.json"
    write_json(path, {"ce": result(0.6) | {"mean_iou": None}, "ls": 3})
    (runs / "c" / "config.json").write_text("{")
    assert main(["tables", str(runs)]) == 0
    printed = capsys.readouterr().out
    for name in (
        "a/ls/evaluation.json",
        "a/evaluation-val-crf10.json",
        "c/config.json",
    ):
        assert re.search(rf"- Left out: Expected .*{runs / name}.* Received", printed)
    # The other run of this recipe counts, and so does the other loss of this run.
    row = next(line for line in printed.splitlines() if "| DeepLab-LargeFOV " in line)
    assert "60.0 / 62.8" in row
    assert "67.0 / 66.7" in row
