"""Files of run folders, read back or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up_runs
import numpy as np
import pytest

from tf_levelset.training.run_folder import (
    load_recipe,
    read_class_names,
    read_evaluation,
    read_evaluations,
    read_history,
    read_palette,
    read_versions,
)

EVALUATION = made_up_runs.evaluation(0.5)
HISTORY = made_up_runs.history()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.json"


@pytest.mark.parametrize(
    ("read", "values"),
    [
        (read_history, HISTORY),
        (read_history, []),
        (read_evaluation, EVALUATION),
        (read_evaluations, {"ce": EVALUATION, "ls": EVALUATION}),
        (read_class_names, ["sky", "road"]),
        (read_palette, [[0, 0, 0], [255, 1, 2]]),
    ],
)
def test_what_runs_write_comes_back(
    path: Path, read: Callable[[Path], Any], values: Any
) -> None:
    path.write_text(json.dumps(values))
    found = read(path)
    if isinstance(found, np.ndarray):
        assert found.dtype == np.uint8
        found = found.tolist()
    assert found == values


def test_a_report_may_have_no_versions(path: Path) -> None:
    path.write_text(json.dumps({"versions": {"keras": "3"}, "more": 1}))
    assert read_versions(path) == {"keras": "3"}
    path.write_text("{}")
    assert read_versions(path) == {}


@pytest.mark.parametrize(
    ("read", "values"),
    [
        (read_history, {}),
        (read_history, [1]),
        (read_history, [{**HISTORY[0], "seconds": "1"}]),
        (read_history, [{"epoch": 1, "step": 1}]),
        (read_evaluation, [EVALUATION]),
        (read_evaluation, {**EVALUATION, "mean_iou": "0.5"}),
        (read_evaluation, {**EVALUATION, "class_iou": [0.5]}),
        (read_evaluation, {**EVALUATION, "class_iou": {"sky": "0.5"}}),
        (read_evaluation, {**EVALUATION, "dataset": None}),
        (read_evaluation, {**EVALUATION, "images": "5"}),
        (read_evaluations, [EVALUATION]),
        (read_evaluations, {"ce": 1}),
        (read_class_names, "sky"),
        (read_class_names, {"sky": 1}),
        (read_class_names, ["sky", 1]),
        (read_palette, 3),
        (read_palette, [[0, 0]]),
        (read_palette, [[0, 0, 256]]),
        (read_palette, [[0, 0, 0.5]]),
        (read_versions, []),
        (read_versions, {"versions": []}),
        (read_versions, {"versions": {"keras": 3}}),
    ],
)
def test_what_no_run_writes_is_named(
    path: Path, read: Callable[[Path], Any], values: Any
) -> None:
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"Expected .* in .*file\.json\. Received: "):
        read(path)


def test_load_recipe_needs_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Expected a run folder"):
        load_recipe(tmp_path)
