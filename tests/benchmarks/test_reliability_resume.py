"""The trial `resume` with a program that takes no time, and one that forgets."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.reliability import processes, resume
from tf_levelset.training.checkpoints import Checkpoints

PROGRAM = """
import hashlib, json, sys, time
from pathlib import Path

output = Path(sys.argv[sys.argv.index("--output") + 1])
keep = 1000 if "--keep-checkpoints" in sys.argv else 2
folder = output / "ls" / "checkpoint"
folder.mkdir(parents=True, exist_ok=True)

def checksums(step):
    paths = [folder / f"step-{step}.{k}" for k in ("data-00000-of-00001", "index")]
    return "".join(
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\\n" for p in paths
    )

def steps():
    return sorted(int(p.stem[5:]) for p in folder.glob("step-*.sha256"))

def whole(step):
    path = folder / f"step-{step}.sha256"
    return path.read_text(errors="replace") == checksums(step)

newest = max(filter(whole, steps()), default=0)
total = 0
if newest and "--forget" not in sys.argv:
    total = json.loads((folder / f"step-{newest}.index").read_text())
for step in range(newest + 1, 31):
    total = 3 * total % 10007 + step
    (folder / f"step-{step}.sha256").unlink(missing_ok=True)
    (folder / f"step-{step}.index").write_text(str(total))
    time.sleep(0.03)
    (folder / f"step-{step}.data-00000-of-00001").write_text("data")
    (folder / f"step-{step}.sha256").write_text(checksums(step))
    for old in steps()[:-keep]:
        for kind in ("sha256", "index", "data-00000-of-00001"):  # in this order
            (folder / f"step-{old}.{kind}").unlink(missing_ok=True)
if "--fail" in sys.argv:
    sys.exit("tf-levelset: error: it fails")
(output / "total").write_text(str(total))
"""


class Soonest(random.Random):
    """Waits for no longer than it must."""

    def uniform(self, a: float, b: float) -> float:
        return a


def trial_of(tmp_path: Path, *arguments: str) -> resume.Trial:
    def command(folder: Path, *more: str) -> list[str]:
        out = ["--output", str(folder)]
        return ["-c", PROGRAM, *out, *arguments, *more]

    return resume.Trial(
        tmp_path,
        command,
        Soonest(0),
        read=lambda prefix: {"total": json.loads(Path(f"{prefix}.index").read_text())},
        results=lambda folder: {"total": (folder / "total").read_text()},
    )


def test_kills_are_survived_counted_and_compared(tmp_path: Path) -> None:
    found = trial_of(tmp_path).run(9)
    assert found["differences"] == []
    assert found["kills_survived"] == len(found["kills"]) == 9
    assert found["kills_by_kind"] == {"save": 4, "step": 2, "damage": 2, "any": 1}
    assert found["kills_inside_a_save"] >= 1
    assert found["damaged_and_passed_over"] == 2
    # Two are kept: those are compared after each kill.
    assert found["steps_compared"] >= 8
    assert found["checkpoints_compared"] > found["steps_compared"]
    json.dumps(found)
    # All states of the run that was not killed, and the last ones of the other.
    assert Checkpoints(tmp_path / "unbroken/ls/checkpoint").steps()[0] == 1
    assert len(Checkpoints(tmp_path / "run-1/ls/checkpoint").steps()) == 2


def test_what_is_forgotten_is_found(tmp_path: Path) -> None:
    found = trial_of(tmp_path, "--forget").run(2)
    assert any("run-1, step-" in where for where in found["differences"])
    assert "run-1: total" in found["differences"]


def test_a_run_that_fails_ends_the_trial(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="exit code 1\ntf-levelset: error: it fails"):
        trial_of(tmp_path, "--fail").run(1)


def test_a_run_that_stands_still_ends_the_trial(
    tmp_path: Path,
) -> None:
    command = ["-c", "import time; time.sleep(60)"]
    with (
        pytest.raises(RuntimeError, match="Expected another checkpoint"),
        processes.started(command, tmp_path / "log") as process,
    ):
        processes.wait_until(process, lambda: False, seconds=0.3)
    assert process.poll() is not None


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (np.zeros(1), np.zeros(1), True),
        (np.zeros(1), -np.zeros(1), False),
        (np.full(1, np.nan), np.full(1, np.nan), True),
        (np.zeros(1, np.float32), np.zeros(1, np.int32), False),
        (np.zeros((1, 2)), np.zeros((2, 1)), False),
        (0.1, 0.1, True),
        (0.1, np.nextafter(0.1, 1).item(), False),
        (1, 1.0, False),
        (None, np.zeros(1), False),
        ({"a": [1]}, {"a": [1]}, True),
    ],
)
def test_the_same_is_the_same_bits(a: Any, b: Any, expected: bool) -> None:
    assert processes.same(a, b) is expected


def test_time_is_no_part_of_a_history() -> None:
    found = resume.rows([{"epoch": 2, "loss": 0.5, "seconds": 3.0}])
    assert found == {"epoch 2, epoch": 2, "epoch 2, loss": 0.5}
