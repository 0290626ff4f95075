"""Kills training again and again and compares what it ends with, bit by bit.

A small run of `train_keras.py` (dropout, batch normalization, momentum, a falling
learning rate, flips, an end within an epoch) is first trained without a break, and
keeps every checkpoint. Then the same command is started again and again and killed with
SIGKILL

    save     while a checkpoint is being written,
    step     some time after one,
    damage   as `step`; then a bit of the newest checkpoint is flipped,
    any      at any time, also while TensorFlow is imported or the model is exported,

until the run is done; then another run begins, until there have been enough kills.
After each kill the remaining checkpoints, and at the end the model, the history and the
evaluation, must equal those of the unbroken run in every bit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.reliability import processes
from benchmarks.reliability.processes import Process, wait_until
from tf_levelset.files import read_json
from tf_levelset.training.checkpoints import Checkpoints

KINDS = ("save", "step", "damage", "save", "any")
"""In turns. The last often meets the end of a run, which takes longer than steps."""

LOSS, STEPS, STEPS_PER_EPOCH = "ls", 33, 5

COMMAND = (
    *("train_keras.py", "--losses", LOSS, "--iterations", str(STEPS)),
    *("--set", f"dataset_options.num_samples={3 * STEPS_PER_EPOCH}"),
    *("dataset_options.size=[33,41]", "batch_size=3", "loss_stride=8"),
    *("--width", "0.05", "--dilation", "1", "--dropout", "0.5"),
    *("--deterministic", "--checkpoint-seconds", "0"),
)
"""What is killed; `KEEP_ALL` is added for the unbroken run."""

KEEP_ALL = ("--keep-checkpoints", "1000000")

SMALL_DISK, LARGE_DISK = "1500k", "64m"
"""Sizes that hold a few checkpoints of the run, and all of it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this trial."""
    parser.add_argument("--kills", type=int, default=40, help="how many, at least")
    parser.add_argument("--seed", type=int, default=0, help="of the times of the kills")
    parser.add_argument(
        "--full-disk",
        action="store_true",
        help="also fill a small disk that is mounted for it; needs root",
    )


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Kills runs and compares them; returns the findings."""
    trial = Trial(scratch, training_command, random.Random(options.seed))
    found = trial.run(options.kills)
    if options.full_disk:
        found["full_disk"] = full_disk(trial)
    command = " ".join(("python", *COMMAND))
    lengths = {"steps": STEPS, "steps_per_epoch": STEPS_PER_EPOCH}
    return {"command": command, **lengths, **found}


def holds(found: Mapping[str, Any]) -> bool:
    """Tells whether everything was the same."""
    return not found["differences"]


def training_command(folder: Path, *more: str) -> list[str]:
    """Returns the arguments of Python for a run in a folder."""
    return [*COMMAND, "--output", str(folder), *more]


# --- What runs leave ---


def read_checkpoint(prefix: Path) -> dict[str, Any]:
    """Returns all that a checkpoint holds: its variables, step and history."""
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
    """Returns the numbers of a history by epoch and name, except times."""
    return {
        f"epoch {row['epoch']}, {key}": value
        for row in history
        for key, value in row.items()
        if key != "seconds"
    }


def read_results(folder: Path) -> dict[str, Any]:
    """Returns what a run ended with: weights, history and evaluation."""
    import keras

    model = keras.models.load_model(folder / LOSS / "model.keras", compile=False)
    evaluation = read_json(folder / LOSS / "evaluation.json")
    return {
        **{f"weights {i}": w for i, w in enumerate(model.get_weights())},
        **rows(read_json(folder / LOSS / "history.json")),
        **{k: v for k, v in evaluation.items() if "seconds" not in k},
    }


# --- Kills ---


@dataclass
class Trial:
    """Kills runs and compares them with one that is not killed.

    Args:
        scratch: The folder of the runs.
        command: Returns the arguments of Python for a run in a folder.
        chance: Decides when to kill and what to damage.
        read: From the prefix of a checkpoint to its values by name.
        results: From the folder of a finished run to its results by name.
    """

    scratch: Path
    command: Callable[..., list[str]]
    chance: random.Random
    read: Callable[[Path], Mapping[str, Any]] = read_checkpoint
    results: Callable[[Path], Mapping[str, Any]] = read_results
    differences: list[str] = field(default_factory=list)
    compared: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.unbroken = self.scratch / "unbroken"

    def run(self, kills: int) -> dict[str, Any]:
        """Kills runs so many times; returns the findings."""
        began = time.perf_counter()
        self.finish(self.unbroken, *KEEP_ALL)
        self.unbroken_seconds = time.perf_counter() - began
        found: list[dict[str, Any]] = []
        runs = 0
        while len(found) < kills:
            runs += 1
            found += self._killed_run(self.scratch / f"run-{runs}", kills - len(found))
        inside = [kill["inside_a_save"] for kill in found]
        unfinished = [bool(kill["unfinished"]) for kill in found]
        return {
            "runs": runs,
            "kills_survived": len(found),
            "kills_by_kind": dict(Counter(kill["kind"] for kill in found)),
            "kills_inside_a_save": sum(inside),
            "kills_inside_a_removal": sum(
                u and not i for u, i in zip(unfinished, inside, strict=True)
            ),
            "damaged_and_passed_over": sum(kill["damaged"] for kill in found),
            "checkpoints_compared": self.compared["checkpoints"],
            "steps_compared": sum(name.startswith("step-") for name in self.compared),
            "values_compared": self.compared["values"],
            "differences": self.differences,
            "kills": found,
        }

    def _killed_run(self, folder: Path, kills: int) -> list[dict[str, Any]]:
        """Kills a run at most so many times and lets it end."""
        found: list[dict[str, Any]] = []
        checkpoints = Checkpoints(folder / LOSS / "checkpoint")
        while len(found) < kills:
            kill = self._start_and_kill(folder, KINDS[len(found) % len(KINDS)])
            if kill is None:
                break
            found.append(kill)
            print(f"{folder.name}: {kill}", flush=True)
            self.compare_checkpoints(folder)
            newest = checkpoints.newest()
            if kill["damaged"] and (newest is None or newest >= kill["newest"]):
                self.differences.append(f"{folder.name}: took step {kill['newest']}")
        self.finish(folder)
        self.compare_checkpoints(folder)
        self.compare_results(folder)
        return found

    def _start_and_kill(self, folder: Path, kind: str) -> dict[str, Any] | None:
        """Starts the command and kills it; returns None if it had ended before."""
        checkpoints = Checkpoints(folder / LOSS / "checkpoint")
        before = modified(checkpoints.unfinished())
        began = time.perf_counter()
        with self.started(folder) as process:
            self._wait(process, kind, checkpoints)
            if process.poll() is not None:
                return None
        steps = checkpoints.steps()
        written, left = half_written(checkpoints), checkpoints.unfinished()
        new = {name for name, _ in modified(left) - before}
        damaged = kind == "damage" and len(steps) > 1
        if damaged:
            self._damage(checkpoints, steps[-1])
        return {
            "kind": kind,
            "seconds": round(time.perf_counter() - began, 2),
            "newest": max(steps, default=0),
            "unfinished": sorted(new),
            "inside_a_save": any(path.name in new for path in written),
            "damaged": damaged,
        }

    def _wait(self, process: Process, kind: str, checkpoints: Checkpoints) -> None:
        """Waits until it is time to kill."""
        if kind == "any":
            end = time.perf_counter() + self.chance.uniform(0, self.unbroken_seconds)
            wait_until(process, lambda: time.perf_counter() >= end)
            return
        wanted = max(checkpoints.steps(), default=0) + self.chance.randint(1, 3)
        wait_until(process, lambda: max(checkpoints.steps(), default=0) >= wanted)
        if kind == "save":
            wait_until(process, lambda: bool(half_written(checkpoints)))
        time.sleep(self.chance.uniform(0, 0.006 if kind == "save" else 0.2))

    def _damage(self, checkpoints: Checkpoints, step: int) -> None:
        """Flips one bit of one file of a checkpoint."""
        paths = sorted(checkpoints.folder.glob(f"step-{step}.*"))
        path = self.chance.choice(paths)
        content = bytearray(path.read_bytes())
        content[self.chance.randrange(len(content))] ^= 1 << self.chance.randrange(8)
        path.write_bytes(content)

    def log(self, folder: Path) -> Path:
        """Returns the file of what the command printed for a folder."""
        return self.scratch / f"{folder.name}.log"

    def started(
        self, folder: Path, *more: str
    ) -> contextlib.AbstractContextManager[Process]:
        """Starts the command, which is killed at the end of the context."""
        return processes.started(self.command(folder, *more), self.log(folder))

    def finish(self, folder: Path, *more: str) -> None:
        """Lets the command come to its end."""
        with self.started(folder, *more) as process:
            processes.expect_success(process, self.log(folder))

    def compare_checkpoints(self, folder: Path) -> None:
        """Compares the whole checkpoints in a folder with the unbroken run's."""
        checkpoints = Checkpoints(folder / LOSS / "checkpoint")
        unbroken = Checkpoints(self.unbroken / LOSS / "checkpoint")
        for step in checkpoints.steps():
            if checkpoints.fault(step) is None:
                prefixes = checkpoints.prefix(step), unbroken.prefix(step)
                self.compared.update(["checkpoints", prefixes[0].name])
                where = f"{folder.name}, {prefixes[0].name}"
                self._compare(where, *map(self.read, prefixes))

    def compare_results(self, folder: Path) -> None:
        """Compares what a run ended with."""
        self._compare(folder.name, *map(self.results, (folder, self.unbroken)))

    def _compare(
        self, where: str, found: Mapping[str, Any], expected: Mapping[str, Any]
    ) -> None:
        self.compared["values"] += len({*found, *expected})
        names = processes.differing(found, expected)
        self.differences += [f"{where}: {name}" for name in names]


def modified(paths: Sequence[Path]) -> set[tuple[str, int]]:
    """Returns the names of files and the times when they were last changed."""
    found = set()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_mtime_ns))
    return found


def half_written(checkpoints: Checkpoints) -> list[Path]:
    """Returns the files of a checkpoint that is being written, not removed."""
    newest = max(checkpoints.steps(), default=0)
    paths = checkpoints.unfinished()
    return [p for p in paths if int(re.findall(r"step-(\d+)", p.name)[0]) > newest]


# --- A full disk ---


def full_disk(trial: Trial) -> dict[str, Any]:
    """Trains on a disk that becomes full, and resumes when it has been enlarged.

    Returns:
        What the command said, and the step from which it resumed.
    """
    folder = trial.scratch / "full-disk"
    folder.mkdir()
    with mounted(folder, SMALL_DISK):
        with trial.started(folder, *KEEP_ALL) as process:
            code = process.wait()
        text = processes.text_of(trial.log(folder))
        message = text.rpartition("tf-levelset: ")[2].strip()
        checkpoints = Checkpoints(folder / LOSS / "checkpoint")
        newest = checkpoints.newest()
        if code != 1 or newest is None or checkpoints.unfinished():
            trial.differences.append(f"full disk: {message}")
        trial.compare_checkpoints(folder)
        mount("-o", f"remount,size={LARGE_DISK}", str(folder))
        trial.finish(folder)
        trial.compare_checkpoints(folder)
        trial.compare_results(folder)
    message = message.replace(str(trial.scratch), "SCRATCH")
    return {"disk": SMALL_DISK, "message": message, "went_on_from_step": newest}


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """Mounts a disk in memory."""
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def mount(*arguments: str) -> None:
    """Runs the program `mount`."""
    subprocess.run(["mount", *arguments], check=True)
