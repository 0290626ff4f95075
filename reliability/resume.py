"""Kills training again and again, and compares what comes of it bit by bit.

A small run of `train_keras.py` (dropout, batch normalisation, momentum, a learning rate
that falls, flips, an end inside an epoch) is trained once unbroken, with every
checkpoint kept. Then the same command is started again and again and killed (SIGKILL)

    save     while a checkpoint is being written
    step     some time after one
    damage   as `step`, and then a bit of the newest checkpoint is turned over
    any      at any time, be it while TensorFlow is imported or the model exported

until the run is done, and once more from the beginning until there were as many kills
as asked for. After each kill the checkpoints that are left, and in the end the model,
the history and the evaluation, must be those of the unbroken run: tolerance zero.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import environment
from tf_levelset.files import read_json, write_json
from tf_levelset.inference.score_table import table
from tf_levelset.training.checkpoints import Checkpoints

ROOT = Path(__file__).resolve().parent.parent

KINDS = ("save", "step", "damage", "save", "any")
"""In turns. The last often finds the run at its end, which takes longer than steps."""

LOSS = "ls"

STEPS, STEPS_PER_EPOCH = 33, 5

COMMAND = (
    *("train_keras.py", "--losses", LOSS, "--iterations", str(STEPS)),
    *("--set", f"dataset_options.num_samples={3 * STEPS_PER_EPOCH}"),
    *("dataset_options.size=[33,41]", "batch_size=3", "loss_stride=8"),
    *("--width", "0.05", "--dilation", "1", "--dropout", "0.5"),
    *("--deterministic", "--checkpoint-seconds", "0"),
)
"""What is killed; to the unbroken run, `KEEP_ALL` is added."""

KEEP_ALL = ("--keep-checkpoints", "1000000")

PATIENCE = 900.0
"""Seconds that a start may take to its next checkpoint, before the trial gives up."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the trial's options to its parser."""
    parser.add_argument("--kills", type=int, default=40, help="how many, at least")
    parser.add_argument("--seed", type=int, default=0, help="of when to kill")
    parser.add_argument("--out", type=Path, help="the JSON file")
    parser.add_argument(
        "--table", type=Path, metavar="FOLDER", help="only print what its files found"
    )
    parser.add_argument(
        "--scratch", type=Path, help="folder for the runs, removed in the end"
    )
    parser.add_argument(
        "--full-disk",
        action="store_true",
        help="also fill a small disk, mounted for it; needs root",
    )


def run(options: argparse.Namespace) -> bool:
    """Runs the trial, writes what it found, and tells whether all was the same."""
    if options.table is not None:
        print(summary(options.table), end="")
        return True
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        trial = Trial(Path(scratch), training_command, random.Random(options.seed))
        found = trial.run(options.kills)
        if options.full_disk:
            found["full_disk"] = full_disk(trial)
    found = {
        "trial": "resume",
        "command": " ".join(("python", *COMMAND)),
        "steps": STEPS,
        "steps_per_epoch": STEPS_PER_EPOCH,
        **found,
        "environment": environment(),
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps({k: v for k, v in found.items() if k != "kills"}, indent=1))
    if options.out is not None:
        write_json(options.out, found)
    return not found["differences"]


def summary(folder: Path) -> str:
    """What the JSON files of a folder found, as a Markdown table."""
    found = [read_json(path) for path in sorted(folder.glob("*.json"))]
    packages = [result["environment"]["packages"] for result in found]
    columns = {
        "": [f"Keras {p['keras']}, TensorFlow {p['tensorflow']}" for p in packages],
        "kills survived": [result["kills_survived"] for result in found],
        "of them inside a save": [result["kills_inside_a_save"] for result in found],
        "inside the removal of an old checkpoint": [
            result["kills_inside_a_removal"] for result in found
        ],
        "damaged checkpoints passed over": [
            result["damaged_and_passed_over"] for result in found
        ],
        "runs": [result["runs"] for result in found],
        "different steps compared": [
            f"{result['steps_compared']} of {result['steps']}" for result in found
        ],
        "checkpoints compared": [result["checkpoints_compared"] for result in found],
        "values compared": [result["values_compared"] for result in found],
        "differences": [len(result["differences"]) for result in found],
    }
    return table([[name, *map(str, values)] for name, values in columns.items()])


def training_command(folder: Path, *more: str) -> list[str]:
    """The command of a run in a folder."""
    return [sys.executable, *COMMAND, "--output", str(folder), *more]


@dataclass
class Trial:
    """The kills of one seed, and what they came to.

    Args:
        scratch: folder of the runs.
        command: of a run in a folder, with further arguments.
        chance: when to kill, and what to damage.
        read: from a checkpoint's prefix to all that it holds, by name.
        results: from a run's folder to all that it has found in the end, by name.
    """

    scratch: Path
    command: Callable[..., list[str]]
    chance: random.Random
    read: Callable[[Path], Mapping[str, Any]] = field(
        default_factory=lambda: read_checkpoint
    )
    results: Callable[[Path], Mapping[str, Any]] = field(
        default_factory=lambda: read_results
    )
    differences: list[str] = field(default_factory=list)
    compared: Counter[str] = field(default_factory=Counter)

    def run(self, kills: int) -> dict[str, Any]:
        """Kills so many times; returns what was found, as JSON's types."""
        began = time.perf_counter()
        self.finish(self.unbroken, *KEEP_ALL)
        self.unbroken_seconds = time.perf_counter() - began
        found: list[dict[str, Any]] = []
        runs = 0
        while len(found) < kills:
            runs += 1
            found += self._killed_run(self.scratch / f"run-{runs}", kills - len(found))
        return {
            "runs": runs,
            "kills_survived": len(found),
            "kills_by_kind": dict(Counter(kill["kind"] for kill in found)),
            "kills_inside_a_save": sum(kill["inside_a_save"] for kill in found),
            "kills_inside_a_removal": sum(
                bool(kill["unfinished"]) and not kill["inside_a_save"] for kill in found
            ),
            "damaged_and_passed_over": sum(kill["damaged"] for kill in found),
            "checkpoints_compared": self.compared["checkpoints"],
            "steps_compared": sum(name.startswith("step-") for name in self.compared),
            "values_compared": self.compared["values"],
            "differences": self.differences,
            "kills": found,
        }

    @property
    def unbroken(self) -> Path:
        """The folder of the run that is not killed."""
        return self.scratch / "unbroken"

    def _killed_run(self, folder: Path, kills: int) -> list[dict[str, Any]]:
        """Kills a run up to so many times, and compares what becomes of it."""
        found: list[dict[str, Any]] = []
        while len(found) < kills:
            kill = self._start_and_kill(folder, KINDS[len(found) % len(KINDS)])
            if kill is None:
                break
            found.append(kill)
            print(f"{folder.name}: {kill}", flush=True)
            self.compare_checkpoints(folder)
            if kill["damaged"]:
                self._expect_passed_over(folder, kill["newest"])
        self.finish(folder)
        self.compare_checkpoints(folder)
        self.compare_results(folder)
        return found

    def _start_and_kill(self, folder: Path, kind: str) -> dict[str, Any] | None:
        """Starts the command and kills it; None if it came to its end before."""
        checkpoints = Checkpoints(folder / LOSS / "checkpoint")
        before = modified(checkpoints.unfinished())
        began = time.perf_counter()
        with self.started(folder) as process:
            if kind == "any":
                moment = self.chance.uniform(0, self.unbroken_seconds)
                sleep_until(process, lambda: time.perf_counter() - began >= moment)
            else:
                self._wait_for_steps(process, checkpoints)
                if kind == "save":
                    sleep_until(process, lambda: bool(half_written(checkpoints)))
                    time.sleep(self.chance.uniform(0, 0.006))
                else:
                    time.sleep(self.chance.uniform(0, 0.2))
            if process.poll() is not None:
                return None
            process.kill()
            process.wait()
        steps = checkpoints.steps()
        written, left = half_written(checkpoints), checkpoints.unfinished()
        new = {name for name, _ in modified(left) - before}
        kill = {
            "kind": kind,
            "seconds": round(time.perf_counter() - began, 2),
            "newest": max(steps, default=0),
            "unfinished": sorted(new),
            "inside_a_save": any(path.name in new for path in written),
            "damaged": False,
        }
        if kind == "damage" and len(steps) > 1:
            self._damage(checkpoints, steps[-1])
            kill["damaged"] = True
        return kill

    def _wait_for_steps(
        self, process: subprocess.Popen[bytes], checkpoints: Checkpoints
    ) -> None:
        """Waits for one to three more checkpoints."""
        before = checkpoints.steps()
        wanted = max(before, default=0) + self.chance.randint(1, 3)
        sleep_until(process, lambda: max(checkpoints.steps(), default=0) >= wanted)

    def _damage(self, checkpoints: Checkpoints, step: int) -> None:
        """Turns over one bit of one file of a checkpoint."""
        paths = sorted(checkpoints.folder.glob(f"step-{step}.*"))
        path = self.chance.choice(paths)
        content = bytearray(path.read_bytes())
        content[self.chance.randrange(len(content))] ^= 1 << self.chance.randrange(8)
        path.write_bytes(content)

    def _expect_passed_over(self, folder: Path, damaged: int) -> None:
        newest = Checkpoints(folder / LOSS / "checkpoint").newest()
        if newest is None or newest >= damaged:
            self.differences.append(f"{folder.name}: took damaged step {damaged}")

    @contextlib.contextmanager
    def started(self, folder: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
        """The command, running; it is killed if it is still there in the end."""
        with (self.scratch / f"{folder.name}.log").open("ab") as log:
            process = subprocess.Popen(
                self.command(folder, *more),
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def finish(self, folder: Path, *more: str) -> None:
        """Lets the command come to its end."""
        with self.started(folder, *more) as process:
            code = process.wait()
        if code:
            raise RuntimeError(
                f"Expected the run to end well. Received: exit code {code}\n"
                + self.log_of(folder)[-2000:]
            )

    def log_of(self, folder: Path) -> str:
        """What the starts in a folder printed."""
        path = self.scratch / f"{folder.name}.log"
        return path.read_text("utf-8", errors="replace")

    def compare_checkpoints(self, folder: Path) -> None:
        """Compares what a folder's checkpoints hold with the unbroken run's."""
        checkpoints = Checkpoints(folder / LOSS / "checkpoint")
        unbroken = Checkpoints(self.unbroken / LOSS / "checkpoint")
        for step in checkpoints.steps():
            if checkpoints.fault(step) is not None:
                continue
            name = checkpoints.prefix(step).name
            self.compared.update(["checkpoints", name])
            self._compare(
                f"{folder.name}, {name}",
                self.read(checkpoints.prefix(step)),
                self.read(unbroken.prefix(step)),
            )

    def compare_results(self, folder: Path) -> None:
        """Compares what a run ended with."""
        self._compare(folder.name, self.results(folder), self.results(self.unbroken))

    def _compare(
        self, where: str, found: Mapping[str, Any], expected: Mapping[str, Any]
    ) -> None:
        for name in sorted(set(found) | set(expected)):
            self.compared["values"] += 1
            if not same(found.get(name), expected.get(name)):
                self.differences.append(f"{where}: {name}")


def modified(paths: Sequence[Path]) -> set[tuple[str, int]]:
    """The names of files and the times when they were last written to."""
    found = set()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_mtime_ns))
    return found


def half_written(checkpoints: Checkpoints) -> list[Path]:
    """The unfinished files of a checkpoint that comes, rather than of one that goes."""
    newest = max(checkpoints.steps(), default=0)
    return [
        path
        for path in checkpoints.unfinished()
        if int(re.findall(r"step-(\d+)", path.name)[0]) > newest
    ]


def sleep_until(
    process: subprocess.Popen[bytes], condition: Callable[[], bool]
) -> None:
    """Waits until a condition holds or the process has ended."""
    began = time.perf_counter()
    while not condition() and process.poll() is None:
        if time.perf_counter() - began > PATIENCE:
            raise RuntimeError(
                f"Expected another checkpoint in {PATIENCE:.0f} s. Received: none"
            )
        time.sleep(0.0005)


def same(a: Any, b: Any) -> bool:
    """Whether two values have the same type, shape and bits."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    return type(a) is type(b) and bool(a == b)


def read_checkpoint(prefix: Path) -> dict[str, Any]:
    """All that a checkpoint holds: its variables, its step and its history."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(prefix))
    values = {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.split("/")[0] in ("model", "optimizer", "metrics")
    }
    progress = json.loads(reader.get_tensor("progress/0/.ATTRIBUTES/VARIABLE_VALUE"))
    return {**values, "step": progress["step"], **rows(progress["history"])}


def rows(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A history's numbers by epoch and name, but for the time that they took."""
    return {
        f"epoch {row['epoch']}, {key}": value
        for row in history
        for key, value in row.items()
        if key != "seconds"
    }


def read_results(folder: Path) -> dict[str, Any]:
    """What a run ended with: the saved model's weights, history and evaluation."""
    import keras

    model = keras.models.load_model(folder / LOSS / "model.keras", compile=False)
    evaluation = read_json(folder / LOSS / "evaluation.json")
    return {
        **{f"weights {i}": w for i, w in enumerate(model.get_weights())},
        **rows(read_json(folder / LOSS / "history.json")),
        **{k: v for k, v in evaluation.items() if "seconds" not in k},
    }


# --- A full disk ---

SMALL, LARGE = "1500k", "64m"
"""Sizes of a disk that holds some checkpoints of the run, and all of it."""


def full_disk(trial: Trial) -> dict[str, Any]:
    """Trains on a disk that becomes full, and goes on when there is room again.

    Args:
        trial: whose unbroken run is there to compare with.

    Returns:
        What the command said, and the step that it went on from.
    """
    folder = trial.scratch / "full-disk"
    folder.mkdir()
    with mounted(folder, SMALL):
        with trial.started(folder, *KEEP_ALL) as process:
            code = process.wait()
        message = trial.log_of(folder).rpartition("tf-levelset: ")[2].strip()
        checkpoints = Checkpoints(folder / LOSS / "checkpoint")
        newest = checkpoints.newest()
        if code != 1 or newest is None or checkpoints.unfinished():
            trial.differences.append(f"full disk: {message}")
        trial.compare_checkpoints(folder)
        remount(folder, LARGE)
        trial.finish(folder)
        trial.compare_checkpoints(folder)
        trial.compare_results(folder)
    message = message.replace(str(trial.scratch), "SCRATCH")
    return {"disk": SMALL, "message": message, "went_on_from_step": newest}


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """A disk of so many bytes, in memory."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, size: str) -> None:
    """Gives a mounted disk another size."""
    command = ["mount", "-o", f"remount,size={size}", str(folder)]
    subprocess.run(command, check=True)
