"""Kills training again and again and compares what it ends with, bit by bit.

A small run of `train_keras.py` (dropout, batch normalization, momentum, a falling
learning rate, flips, an end within an epoch) is first trained without a break, and
keeps every checkpoint. Then the same command is started and killed with SIGKILL until
it is done: mostly soon after a checkpoint or while one is being written, sometimes at
any time from the first import to the export. After some kills, a bit of the newest
checkpoint is flipped. Further runs begin until there have been enough kills.

After each kill the remaining checkpoints, and at the end the model, the history and the
evaluation, must equal those of the unbroken run in every bit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.reliability import processes
from tf_levelset.files import read_json
from tf_levelset.training.checkpoints import Checkpoints

LOSS, STEPS, STEPS_PER_EPOCH = "ls", 33, 5

COMMAND = (
    *("train_keras.py", "--losses", LOSS, "--iterations", str(STEPS)),
    *("--set", f"dataset_options.num_samples={3 * STEPS_PER_EPOCH}"),
    *("dataset_options.size=[33,41]", "batch_size=3", "loss_stride=8"),
    *("--width", "0.05", "--dilation", "1", "--dropout", "0.5"),
    *("--deterministic", "--checkpoint-seconds", "0"),
)
"""The command that is killed. The unbroken run has `KEEP_ALL` too."""

KEEP_ALL = ("--keep-checkpoints", "1000000")

SMALL_DISK, LARGE_DISK = "1500k", "64m"
"""Sizes that hold a few checkpoints of the run, and all of it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this trial."""
    parser.add_argument("--kills", type=int, default=40, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="of the kills' times")
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
    """Returns everything in a checkpoint: its variables, step and history."""
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
        read: Reads the values of a checkpoint, given its prefix.
        results: Reads the results of a finished run, given its folder.
    """

    scratch: Path
    command: Callable[..., list[str]]
    chance: random.Random
    read: Callable[[Path], Mapping[str, Any]] = read_checkpoint
    results: Callable[[Path], Mapping[str, Any]] = read_results
    differences: list[str] = field(default_factory=list)
    checkpoints_compared: int = 0
    values_compared: int = 0

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
            folder = self.scratch / f"run-{runs}"
            while len(found) < kills and (kill := self.start_and_kill(folder)):
                print(f"{folder.name}: {kill}", flush=True)
                found.append(kill)
            self.finish(folder)
            self.compare_checkpoints(folder)
            self._compare(folder.name, *map(self.results, (folder, self.unbroken)))
        return {
            "runs": runs,
            "kills_survived": len(found),
            "kills_inside_a_write": sum(bool(kill["unfinished"]) for kill in found),
            "damaged_and_passed_over": sum(kill["damaged"] for kill in found),
            "checkpoints_compared": self.checkpoints_compared,
            "values_compared": self.values_compared,
            "differences": self.differences,
        }

    def start_and_kill(self, folder: Path) -> dict[str, Any] | None:
        """Starts the command and kills it; returns None if it had ended before."""
        checkpoints = Checkpoints(folder / LOSS / "checkpoint")
        wanted = max(checkpoints.steps(), default=0) + self.chance.randint(1, 3)
        end = time.perf_counter() + self.unbroken_seconds * self.chance.uniform(0, 5)
        with self.started(folder) as process:
            processes.wait_until(
                process,
                lambda: (
                    max(checkpoints.steps(), default=0) >= wanted
                    or time.perf_counter() > end
                ),
            )
            time.sleep(self.chance.uniform(0, 0.05))
            if process.poll() is not None:
                return None
        steps = checkpoints.steps()
        unfinished = sorted(path.name for path in checkpoints.unfinished())
        damaged = len(steps) > 1 and self.chance.random() < 0.25
        if damaged:
            self._damage(checkpoints, steps[-1])
        self.compare_checkpoints(folder)
        newest = checkpoints.newest()
        if damaged and (newest is None or newest >= steps[-1]):
            self.differences.append(f"{folder.name}: took step {steps[-1]}")
        return {
            "newest": max(steps, default=0),
            "unfinished": unfinished,
            "damaged": damaged,
        }

    def _damage(self, checkpoints: Checkpoints, step: int) -> None:
        """Flips one bit of one file of a checkpoint."""
        path = self.chance.choice(sorted(checkpoints.folder.glob(f"step-{step}.*")))
        content = bytearray(path.read_bytes())
        content[self.chance.randrange(len(content))] ^= 1 << self.chance.randrange(8)
        path.write_bytes(content)

    def log(self, folder: Path) -> Path:
        """Returns the file of what the command printed for a folder."""
        return self.scratch / f"{folder.name}.log"

    def started(
        self, folder: Path, *more: str
    ) -> contextlib.AbstractContextManager[processes.Process]:
        """Starts the command, which is killed at the end of the context."""
        return processes.started(self.command(folder, *more), self.log(folder))

    def finish(self, folder: Path, *more: str) -> None:
        """Lets the command come to its end."""
        with self.started(folder, *more) as process:
            processes.expect_success(process, self.log(folder))

    def compare_checkpoints(self, folder: Path) -> None:
        """Compares the undamaged checkpoints in a folder with the unbroken run's."""
        checkpoints = Checkpoints(folder / LOSS / "checkpoint")
        unbroken = Checkpoints(self.unbroken / LOSS / "checkpoint")
        for step in checkpoints.steps():
            if checkpoints.fault(step) is None:
                self.checkpoints_compared += 1
                prefixes = checkpoints.prefix(step), unbroken.prefix(step)
                where = f"{folder.name}, {prefixes[0].name}"
                self._compare(where, *map(self.read, prefixes))

    def _compare(
        self, where: str, found: Mapping[str, Any], expected: Mapping[str, Any]
    ) -> None:
        self.values_compared += len({*found, *expected})
        names = processes.differing(found, expected)
        self.differences += [f"{where}: {name}" for name in names]


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
