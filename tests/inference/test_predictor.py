"""Models as predictors, and finding them in folders."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
from made_up_samples import samples, source_of

from tf_levelset.export.saved_model import export
from tf_levelset.inference.evaluation import evaluate
from tf_levelset.inference.predictor import KerasPredictor, load_predictors
from tf_levelset.models import create_model


@dataclass
class Run:
    folder: Path
    model: keras.Model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run folder with one loss, exported in two versions."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.json").write_text("{}")
    (folder / "ce").mkdir()
    keras.utils.set_random_seed(0)
    options = {"width": 0.05, "depth": 0.05, "dilation": 2, "input_scale": 0.5}
    other = create_model("deeplab_largefov", 3, **options)
    model = create_model("deeplab_largefov", 3, **options)
    model.save(folder / "ce" / "model.keras")
    # 10 is the newer version, although "9" is the last in alphabetical order.
    export(other, folder / "ce" / "export", version=9)
    export(model, folder / "ce" / "export", version=10)
    return Run(folder, model)


@pytest.fixture(scope="module")
def expected(run: Run) -> dict[str, Any]:
    return evaluate(KerasPredictor(run.model), source_of(samples()))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (".", "ce"),
        ("ce", ""),
        ("ce/model.keras", ""),
        ("ce/export", ""),
        ("ce/export/10", ""),
    ],
)
def test_every_form_of_a_model_scores_the_same(
    run: Run, expected: dict[str, Any], path: str, name: str
) -> None:
    predictors = load_predictors(run.folder / path)
    assert list(predictors) == [name]
    result = evaluate(predictors[name], source_of(samples()))
    energy = pytest.approx(expected["level_set_energy"], rel=1e-5)
    seconds = result["seconds_per_image"]
    assert result == {
        **expected,
        "level_set_energy": energy,
        "seconds_per_image": seconds,
    }


def test_run_folders_hold_one_predictor_a_loss(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for name in ("ls", "ce"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.keras").write_bytes(
            (run.folder / "ce" / "model.keras").read_bytes()
        )
    (tmp_path / "unfinished").mkdir()
    assert list(load_predictors(tmp_path)) == ["ce", "ls"]


def test_loads_where_nothing_else_was_imported(run: Run) -> None:
    # Loading must register the package's layers.
    code = (
        "import sys; from pathlib import Path\n"
        "from tf_levelset.inference.predictor import load_predictors\n"
        "print(list(load_predictors(Path(sys.argv[1]))))"
    )
    path = run.folder / "ce" / "model.keras"
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "['']", result.stderr


def test_no_model_there_raises(tmp_path: Path) -> None:
    for folder in ("empty", "no_run/ce", "unfinished/ce/checkpoint"):
        (tmp_path / folder).mkdir(parents=True)
    # There are models, but not the config.json of a run, and the other way round.
    (tmp_path / "no_run/ce/model.keras").touch()
    (tmp_path / "unfinished/config.json").touch()
    for name in ("missing", "missing.keras", "empty", "no_run", "unfinished"):
        with pytest.raises(FileNotFoundError, match="Expected a run folder"):
            load_predictors(tmp_path / name)


def test_other_saved_models_raise(tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(ValueError, match="endpoint 'uint8'"):
        load_predictors(tmp_path)


def test_nets_at_output_stride_raise() -> None:
    model = create_model("deeplab_largefov", 3, width=0.05, dilation=2, upsample=False)
    with pytest.raises(ValueError, match="at_input_size"):
        evaluate(KerasPredictor(model), source_of(samples()))
