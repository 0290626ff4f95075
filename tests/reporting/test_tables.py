"""The paper's tables, filled with the results of run folders."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tf_levelset.commands.main import main
from tf_levelset.inference.crf import PRESETS
from tf_levelset.reporting.tables import find_runs, markdown, tables
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import RECIPES


def result(miou: float, crf: int | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "dataset": "voc/val",
        "images": 3,
        "flip": False,
        "scales": [1.0],
        "crf": crf and dataclasses.asdict(PRESETS[f"vgg_{crf}"]),
        "mean_iou": miou,
        "seconds_per_image": {"net": 0.25, "crf": 2.0 if crf else 0.0},
        **changes,
    }


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_run(folder: Path, recipe: Recipe, **mious: float) -> None:
    write(folder / "config.json", recipe.to_json())
    for loss, miou in mious.items():
        write(folder / loss / "evaluation.json", result(miou))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    recipe = RECIPES["voc-deeplab_largefov"]
    write_run(tmp_path / "a", recipe, ce=0.6, ls=0.65)
    write_run(tmp_path / "b", dataclasses.replace(recipe, seed=1), ls=0.67)
    write(
        tmp_path / "a" / "evaluation-val-crf10.json",
        {"ce": result(0.64, crf=10), "ls": result(0.66, crf=10)},
    )
    write(tmp_path / "a" / "evaluation-val-crf5.json", {"ce": result(0.63, crf=5)})
    # None of these belongs to a table: test-time augmentation, another split, and the
    # CRF of another backbone.
    write(tmp_path / "a" / "evaluation-z.json", {"ce": result(0.9, crf=10, flip=True)})
    write(
        tmp_path / "a" / "evaluation-zz.json",
        {"ce": result(0.9, crf=10, dataset="voc/train")},
    )
    write(
        tmp_path / "b" / "evaluation-val-crf10.json",
        {"ls": result(0.9, crf=10) | {"crf": dataclasses.asdict(PRESETS["resnet_10"])}},
    )
    losses = RECIPES["voc-deeplab_resnet101-losses"]
    write_run(
        tmp_path / "c", dataclasses.replace(losses, losses=("ce", "lmp")), lmp=0.51
    )
    write_run(tmp_path / "d", dataclasses.replace(losses, iterations=5), lmp=0.1)
    write(tmp_path / "other" / "config.json", {"of": "another program"})
    write(tmp_path / "list" / "config.json", [1])
    return tmp_path


def cells(runs: Path, number: int, recipe: str) -> dict[str, Any]:
    found = {t["table"]: t for t in tables(find_runs([runs]))}[number]
    return {row["recipe"]: row for row in found["rows"]}[recipe]["cells"]


def test_measured_beside_published(runs: Path) -> None:
    mine = cells(runs, 1, "voc-deeplab_largefov")
    assert mine["ce"]["measured"] == pytest.approx(60.0)
    assert mine["ce"]["published"] == 62.8
    assert mine["ls"]["values"] == pytest.approx([65.0, 67.0])  # two seeds
    assert mine["ls"]["measured"] == pytest.approx(66.0)
    assert mine["ce+crf10"]["measured"] == pytest.approx(64.0)
    assert mine["ls+crf10"]["measured"] == pytest.approx(66.0)
    assert mine["ls+crf10"]["published"] is None


def test_table_4_has_seconds(runs: Path) -> None:
    mine = cells(runs, 4, "voc-deeplab_largefov")
    assert mine["ls"]["seconds_measured"] == 0.25
    assert mine["ce+crf5"]["seconds_measured"] == 2.25
    assert mine["ce+crf5"]["measured"] == pytest.approx(63.0)
    assert mine["ce+crf5"]["seconds_published"] == 0.272


def test_rows_without_a_run(runs: Path) -> None:
    assert cells(runs, 2, "pascal_context-deeplab_largefov")["ce"]["measured"] is None
    text = markdown(find_runs([runs]))
    rows = [line for line in text.splitlines() if line.startswith("| FCN-32s")]
    assert [cell.strip() for cell in rows[0].split("|")[1:-1]] == [
        "FCN-32s-ResNet101",
        "not run / 65.1",
        "not run / –",
        "not run / 68.9",
        "not run / –",
    ]


def test_the_papers_layout(runs: Path) -> None:
    text = markdown(find_runs([runs]))
    assert "### Table 1. PASCAL VOC 2012 val" in text
    (row,) = (
        line
        for line in text.splitlines()
        if line.startswith("| DeepLab-LargeFOV ") and "66.0 (n = 2) / 66.7" in line
        if "0.250" not in line
    )
    assert "60.0 / 62.8" in row
    # Table 4 has seconds beside the mIoU, Table 5 its losses below one another.
    assert "66.0 (n = 2) / 66.7; 0.250 s / 0.025 s" in text
    (lmp,) = (line for line in text.splitlines() if line.startswith("| LMP"))
    assert lmp.replace(" ", "") == "|LMP|51.0/76.3|"


def test_runs_that_are_not_their_recipe_are_left_out(runs: Path) -> None:
    text = markdown(find_runs([runs]))
    assert (
        f"Left out: {runs / 'd'}, which differs from its recipe, "
        "voc-deeplab_resnet101-losses: iterations: 5 instead of 20000" in text
    )
    assert str(runs / "b") not in text  # another seed is the same recipe
    (fifth,) = (t for t in tables(find_runs([runs])) if t["table"] == 5)
    (row,) = fifth["rows"]
    assert row["runs"] == [str(runs / "c")]
    assert row["left_out"] == {str(runs / "d"): ["iterations: 5 instead of 20000"]}
    assert row["cells"]["lmp"]["values"] == pytest.approx([51.0])


@pytest.mark.parametrize(
    ("options", "is_the_recipe"),
    [({"sbd_dir": "elsewhere"}, True), ({"list_file": "some.txt"}, False)],
)
def test_the_folders_of_the_data_may_differ(
    tmp_path: Path, options: dict[str, str], is_the_recipe: bool
) -> None:
    recipe = RECIPES["voc-deeplab_largefov"]
    recipe = dataclasses.replace(recipe, dataset_options=options)
    write_run(tmp_path, recipe, ce=0.5)
    (run,) = find_runs([tmp_path])
    assert (not run.changes()) == is_the_recipe


def test_a_run_counts_once(runs: Path) -> None:
    assert len(find_runs([runs, runs / "a"])) == len(find_runs([runs])) == 4


def test_command(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(["tables", str(runs), "--output", str(output)]) == 0
    assert capsys.readouterr().out == (output / "tables.md").read_text()
    written = json.loads((output / "tables.json").read_text())
    assert [entry["table"] for entry in written] == [1, 2, 3, 4, 5, 0]
    assert main(["tables", str(tmp_path / "nowhere")]) == 1
    assert "Expected a folder with runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        [],
        3,
        {"mean_iou": None},
        {"mean_iou": "0.5"},
        {"seconds_per_image": [1]},
        {"seconds_per_image": {"net": "fast"}},
        {"crf": 3},
        {"crf": {"iterations": "ten"}},
    ],
)
def test_an_evaluation_without_its_numbers_is_an_error(runs: Path, change: Any) -> None:
    path = runs / "a" / "ls" / "evaluation.json"
    write(path, result(0.6) | change if isinstance(change, dict) else change)
    with pytest.raises(ValueError, match=r"Expected .*evaluation.*Received"):
        find_runs([runs])
