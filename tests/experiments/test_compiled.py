"""Trials without TensorFlow give what the runner gives, on the same machine."""

from __future__ import annotations

import dataclasses
import multiprocessing
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from experiments import runner
from experiments.trials import STARTS, Trial
from tf_levelset.datasets import Augmentation
from tf_levelset.files import read_json
from tf_levelset.losses import boundary
from tf_levelset.training.recipes import RECIPES, smoke

pytest.importorskip("jax", reason="compiled trials need the extra [compiled]")

from experiments.compiled.collect import collect
from experiments.compiled.lower import distance_maps, lower

EXECUTE = Path(runner.__file__).parent / "compiled/execute.py"

TINY = dataclasses.replace(
    smoke(RECIPES["synthetic"]),
    losses=("ce",),
    iterations=3,
    loss_stride=1,
    input_scale=0.5,
    # Some windows are padded.
    augmentation=Augmentation(scale=(0.75, 1.5), crop=(40, 48), flip=True),
)
LEVEL_SET = dataclasses.replace(TINY, losses=("ls",), iterations=2, learning_rate=0.05)
START = Trial("net", TINY)
TRIAL = Trial("ls", LEVEL_SET, start=START)


def execute(lowered: Path, answers: Path, shared: Path) -> list[subprocess.Popen]:
    """Two processes that divide the runs."""
    command = [sys.executable, *map(str, (EXECUTE, lowered, answers))]
    command += ["--shared", str(shared)]
    return [subprocess.Popen(command) for _ in range(2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiled")
    # JAX's threads stay, and a process that has them must not fork, as other tests do.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
        arguments = ({"sweep": [TRIAL]}, path / "lowered", None, ["cpu"])
        child.submit(lower, *arguments).result()
    workers = execute(path / "lowered", path / "answers", path / "shared")
    assert [worker.wait() for worker in workers] == [0, 0]
    for name, trial in ((STARTS, START), ("sweep", TRIAL)):
        folders = (path / "lowered", path / "answers", path / "compiled")
        collect(name, [trial], *folders, None)
    runner.run_sweep("sweep", [TRIAL], path / "runner", path / "scratch", None)
    return path


@pytest.mark.parametrize(("sweep", "trial"), [(STARTS, START), ("sweep", TRIAL)])
def test_a_compiled_trial_is_the_runners(
    folder: Path, sweep: str, trial: Trial
) -> None:
    file = Path(sweep, f"{trial.name}.json")
    ours, theirs = (read_json(folder / by / file) for by in ("compiled", "runner"))
    for key in ("arm", "fold", "seed", "start", "loss", "recipe"):
        assert ours[key] == theirs[key]
    for row, other in zip(ours["history"], theirs["history"], strict=True):
        assert row == {key: pytest.approx(other[key], rel=1e-4) for key in row}
    found, expected = ours["evaluation"], theirs["evaluation"]
    differing = np.abs(np.subtract(found["confusion"], expected["confusion"])).sum()
    assert differing <= 2e-3 * np.sum(expected["confusion"])
    assert found["level_set_energy"] == pytest.approx(
        expected["level_set_energy"], rel=1e-3
    )


def test_all_end_where_a_program_cannot_be_compiled(
    folder: Path, tmp_path: Path
) -> None:
    lowered = tmp_path / "lowered"
    shutil.copytree(folder / "lowered", lowered)
    for step in lowered.glob("*.step"):
        step.write_bytes(step.read_bytes()[:100])
    workers = execute(lowered, tmp_path / "answers", tmp_path / "shared")
    assert all(worker.wait(120) for worker in workers)


def test_distance_maps_of_xla_are_scipys() -> None:
    generator = np.random.default_rng(0)
    classes = np.kron(generator.integers(-1, 4, (4, 5, 6)), np.ones((1, 5, 4), int))
    classes[0] = 2  # One class alone: there is nothing else.
    classes[1, :20] = -1
    theirs = boundary.distance_maps(tf.constant(classes), 6, tf.float32)
    ours = tf.function(distance_maps, jit_compile=True)(classes, 6, tf.float32)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert np.abs(theirs).max() > 5


def test_colours_that_change_raise(tmp_path: Path) -> None:
    changed = dataclasses.replace(TINY.augmentation, photometric=True)
    recipe = dataclasses.replace(TINY, augmentation=changed)
    with pytest.raises(ValueError, match="crops and keeps colours"):
        lower({"sweep": [Trial("net", recipe)]}, tmp_path, None)


def test_a_loss_that_changes_as_a_run_trains_raises(tmp_path: Path) -> None:
    staged = Trial("net", TINY, stages=("epsilon", (0.2,)))
    with pytest.raises(ValueError, match="a trial of one stage"):
        lower({"sweep": [staged]}, tmp_path, None)
