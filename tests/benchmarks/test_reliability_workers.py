"""The trial `workers`: a short form, and how it judges."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.reliability import workers
from tf_levelset.files import read_json


def variables(step: float, statistics: float = 0.0) -> dict[str, np.ndarray]:
    """What `steps` writes: a weight that moves by 1 and by `step` more."""
    return {
        "net/loss/0/weights/0": np.zeros(3, np.float32),
        "net/loss/1/weights/0": np.array([0, 1 + step, 0], np.float32),
        "net/loss/0/statistics/1": np.full(2, 50, np.float32),
        "net/loss/1/statistics/1": np.array([50, 200 + statistics], np.float32),
    }


def found(**changes: Any) -> dict[str, Any]:
    """Findings that hold, except for the changes."""
    row = {"replicas": 2, "processes": 1, "weights": 1e-7, "statistics": 0.0}
    result = {
        "steps": [{**row, "moved": 0.5, **changes.pop("row", {})}],
        "kills": {
            "differences": [],
            "kills_survived": 2,
            "seconds_until_the_other_ended": [3.0, 8.5],
            "runs": 1,
            "values_compared": 77,
        },
    }
    packages = {"keras": "3.15.1", "tensorflow": "2.21.0"}
    return {**result, "environment": {"packages": packages}, **changes}


def test_differences_are_told_by_their_kind() -> None:
    (row,) = workers.differences(variables(0), variables(0.25, statistics=10))
    assert row == {
        "net": "net",
        "loss": "loss",
        "weights": 0.25,
        "statistics": pytest.approx(0.05),  # of the largest
        "moved": 1.0,
    }
    (row,) = workers.differences(variables(0), variables(float("nan")))
    assert row["weights"] == float("inf")
    with pytest.raises(ValueError, match=r"same variables\. Received: .*weights/0"):
        workers.differences(variables(0), {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"row": {"weights": 2e-6}},
        {"row": {"statistics": 3e-6}},
        {"row": {"statistics": 0.01}, "environment": {"packages": {"keras": "2.15.0"}}},
        {"row": {"moved": 1e-9}},  # of nothing that is trained one learns nothing
        {"kills": {"differences": ["run 1: model/0"]}},
    ],
)
def test_whatever_is_wrong_fails_the_trial(wrong: dict[str, Any]) -> None:
    assert workers.holds(found())
    old = {"packages": {"keras": "2.15.0"}}
    assert workers.holds(found(row={"statistics": 0.005}, environment=old))
    assert not workers.holds(found(**wrong))


PROGRAM = """
import json, os, sys, time
from pathlib import Path

output = Path(sys.argv[sys.argv.index("--output") + 1])
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
folder = output / "ls" / "checkpoint"
folder.mkdir(parents=True, exist_ok=True)
beats = [output / f"beat-{i}" for i in range(2)]
for step in range(1, 3000):
    beats[index].touch()
    if index == 0 and step < 20:
        (folder / f"step-{step}.sha256").touch()
    time.sleep(0.02)
    other = beats[1 - index]
    # Longer than a loaded machine keeps a process waiting.
    if other.exists() and time.time() - other.stat().st_mtime > 3:
        sys.exit(0 if "--careless" in sys.argv else "the other is gone")
"""


@pytest.mark.parametrize("careless", [False, True])
def test_a_worker_is_killed_and_the_other_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, careless: bool
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.setattr(workers, "PATIENCE", 30.0)
    output = tmp_path / "run"
    flags = ["--careless"] if careless else []
    command = (str(program), "--output", str(output), *flags)
    kill = workers.start_and_kill(command, output, tmp_path, random.Random(0))
    assert kill is not None
    assert kill["survivor"] == ("ended well" if careless else "ended with an error")
    assert kill["step"] >= 1


def test_two_processes_take_the_step_of_one(tmp_path: Path) -> None:
    one = workers.trained(tmp_path / "one.npz", 1, "--cases", "1")
    two = workers.trained(tmp_path / "two.npz", 2, "--cases", "1")
    (row,) = workers.differences(one, two)
    assert row["weights"] <= workers.TOLERANCE
    assert row["moved"] > 1000 * workers.TOLERANCE


RESULTS = Path(workers.__file__).parent / "results" / "workers"


@pytest.mark.parametrize("name", sorted(path.name for path in RESULTS.glob("*.json")))
def test_what_was_found_holds(name: str) -> None:
    assert workers.holds(read_json(RESULTS / name))
