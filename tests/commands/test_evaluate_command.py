"""The commands `evaluate` and `export`, on a finished run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tf_levelset.commands.main import main
from tf_levelset.inference.crf import PRESETS


@pytest.mark.parametrize(
    "what", ["", "ce", "ce/model.keras", "ce/export", "ls/export/1"]
)
def test_evaluate_takes_runs_files_and_saved_models(
    finished_run: Path, tmp_path: Path, what: str
) -> None:
    arguments = ["evaluate", str(finished_run / what), "--output", str(tmp_path)]
    assert main([*arguments, "--flip", "--scales", "1", "0.75"]) == 0
    results = json.loads((tmp_path / "evaluation-val-flip-1-0.75.json").read_text())
    assert len(results) == (1 if what else 2)
    for result in results.values():
        assert result["flip"] is True
        assert result["scales"] == [1.0, 0.75]
        assert len(result["class_iou"]) == 8
    assert (tmp_path / "panel-val-flip-1-0.75.png").exists()


def test_plain_evaluation_is_the_runs_own(finished_run: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", str(finished_run / "ls"), "--output", str(tmp_path)]
    assert main(arguments) == 0
    (result,) = json.loads((tmp_path / "evaluation-val.json").read_text()).values()
    report = json.loads((finished_run / "report.json").read_text())
    seconds = result["seconds_per_image"]
    assert result == {**report["evaluation"]["ls"], "seconds_per_image": seconds}


def test_evaluate_with_a_crf(finished_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydensecrf", reason="pip install pydensecrf2")
    arguments = ["evaluate", str(finished_run / "ce"), "--output", str(tmp_path)]
    assert main([*arguments, "--crf", "vgg", "--crf-iterations", "5"]) == 0
    (result,) = json.loads(
        (tmp_path / "evaluation-val-vgg-crf5.json").read_text()
    ).values()
    assert result["crf"] == dataclasses.asdict(PRESETS["vgg_5"])
    assert result["seconds_per_image"]["crf"] > 0


def test_evaluate_says_which_dataset_is_missing(
    finished_run: Path, tmp_path: Path, error_of: Callable[..., str]
) -> None:
    model = tmp_path / "model.keras"
    model.write_bytes((finished_run / "ce" / "model.keras").read_bytes())
    (tmp_path / "config.json").write_text("{}")  # another program's
    assert "Expected --dataset" in error_of("evaluate", model)


def test_export(finished_run: Path, tmp_path: Path) -> None:
    arguments = ["export", str(finished_run / "ls"), str(tmp_path / "served")]
    assert main(arguments) == 0
    assert main([*arguments, "--version", "7"]) == 0
    versions = sorted(p.parent.name for p in tmp_path.glob("served/*/saved_model.pb"))
    assert versions == ["1", "7"]
