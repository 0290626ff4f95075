"""Compares training on several replicas and in several processes with that on one.

First some steps are trained on 2 and 4 replicas of one process and in 2 processes. The
variables must be those of one replica with the same global batch, whose void pixels are
spread unevenly.

Then two processes train together. One of them is killed with SIGKILL, the other must
end by itself with an error, and both are started again until the run is done. It must
end with the weights of an unbroken run, bit by bit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reliability.processes import (
    Process,
    differing,
    expect_success,
    free_ports,
    started,
    wait_until,
)
from benchmarks.reliability.resume import read_checkpoint
from tf_levelset.training.checkpoints import Checkpoints

TOLERANCE = 1e-6
"""Of weights, absolute."""

OF_STATISTICS = {"3": 2e-6, "2": 1 / 119}
"""Of batch statistics, by the version of Keras, relative to a variable's largest value.
Variances are summed in float32. In Keras 2 one process keeps N/(N − 1) times what
several replicas keep; the smallest N here is 4·5·6, of the layer fc7."""

REPLICAS, WORKERS = (2, 4), 2

LOSS, STEPS, STEPS_PER_EPOCH = "ls", 40, 8

COMMAND = (
    *("train_keras.py", "--losses", LOSS, "--iterations", str(STEPS)),
    *("--set", f"dataset_options.num_samples={4 * STEPS_PER_EPOCH}"),
    *("dataset_options.size=[33,41]", "batch_size=4", "loss_stride=8"),
    *("--width", "0.05", "--dilation", "1", "--dropout", "0"),
    *("--deterministic", "--checkpoint-seconds", "0", "--distribute", "workers"),
)

PATIENCE = 300.0
"""Seconds that a worker may go on after another was killed."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this trial."""
    parser.add_argument("--kills", type=int, default=10, help="how many, at least")
    parser.add_argument("--cases", type=int, help="only the first of the steps' cases")
    parser.add_argument("--seed", type=int, default=0, help="of the times of the kills")


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Compares steps and kills workers; returns the findings."""
    return {
        "tolerance": TOLERANCE,
        "steps": compare_steps(scratch, options.cases),
        "kills": try_kills(scratch, options.kills, random.Random(options.seed)),
        "command": " ".join(("python", *COMMAND)),
    }


def holds(found: Mapping[str, Any]) -> bool:
    """Tells whether the findings are within the tolerances."""
    keras = found["environment"]["packages"]["keras"]
    of_statistics = OF_STATISTICS[keras.partition(".")[0]]
    same_steps = all(
        row["weights"] <= TOLERANCE
        and row["statistics"] <= of_statistics
        and row["moved"] > 1000 * TOLERANCE
        for row in found["steps"]
    )
    return same_steps and not found["kills"]["differences"]


# --- Steps ---


def compare_steps(folder: Path, cases: int | None) -> list[dict[str, Any]]:
    """Trains the cases of `steps` in every way; returns a row for each way and case."""
    more = () if cases is None else ("--cases", str(cases))
    one = trained(folder / "1.npz", 1, *more)
    ways = {
        (n, 1): trained(folder / f"{n}.npz", 1, "--replicas", str(n), *more)
        for n in REPLICAS
    }
    ways[WORKERS, WORKERS] = trained(folder / "workers.npz", WORKERS, *more)
    return [
        {"replicas": replicas, "processes": processes, **row}
        for (replicas, processes), found in ways.items()
        for row in differences(one, found)
    ]


def trained(path: Path, workers: int, *more: str) -> dict[str, np.ndarray]:
    """Runs `steps` in one or several processes; returns what it has written."""
    command = ("-m", "benchmarks.reliability.steps", str(path), *more)
    finish(command, path.parent, workers)
    return dict(np.load(path))


def differences(
    one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Compares variables by name, "net/loss/steps/kind/index".

    Returns:
        A row for each net and loss: `weights`, the largest difference; `statistics`,
        the largest relative to a variable's largest value; `moved`, by how much the
        first step has changed a weight.
    """
    if set(one) != set(other):
        raise ValueError(
            f"Expected the same variables. Received: {sorted(set(one) ^ set(other))}"
        )
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for name, value in one.items():
        net, loss, steps, kind, index = name.split("/")
        new = {"weights": 0.0, "statistics": 0.0, "moved": 0.0}
        row = rows.setdefault((net, loss), {"net": net, "loss": loss, **new})
        distance = _largest(other[name] - value.astype(np.float64))
        if kind == "statistics":
            distance /= max(1.0, _largest(value))
        row[kind] = max(row[kind], distance)
        if kind == "weights" and steps == "1":
            before = one[f"{net}/{loss}/0/{kind}/{index}"].astype(np.float64)
            row["moved"] = max(row["moved"], _largest(value - before))
    return list(rows.values())


def _largest(values: np.ndarray) -> float:
    """The largest absolute value; infinite if one is not finite."""
    if not np.isfinite(values).all():
        return float("inf")
    return float(np.abs(values).max(initial=0.0))


# --- Kills ---


def try_kills(folder: Path, kills: int, chance: random.Random) -> dict[str, Any]:
    """Kills workers again and again and compares what the runs end with."""
    unbroken = folder / "unbroken"
    finish((*COMMAND, "--output", str(unbroken)), folder)
    expected = _weights(unbroken)
    seconds: list[float] = []
    wrong: list[str] = []
    runs = 0
    while len(seconds) < kills:
        runs += 1
        output = folder / f"run-{runs}"
        command = (*COMMAND, "--output", str(output))
        while len(seconds) < kills:
            found = start_and_kill(command, output, folder, chance)
            if found is None:
                break
            print(found, flush=True)
            survivor, gone = found
            seconds.append(gone)
            if survivor != "ended with an error":
                wrong.append(f"kill {len(seconds)}: the survivor {survivor}")
        finish(command, folder)
        names = differing(_weights(output), expected)
        wrong += [f"run {runs}: {name}" for name in names]
    return {
        "kills_survived": len(seconds),
        "seconds_until_the_other_ended": seconds,
        "runs": runs,
        "values_compared": runs * len(expected),
        "differences": wrong,
    }


def start_and_kill(
    command: Sequence[str], output: Path, scratch: Path, chance: random.Random
) -> tuple[str, float] | None:
    """Starts all workers and kills one.

    Returns:
        What the other worker did and after how many seconds, or None if the run had
        ended before.
    """
    checkpoints = Checkpoints(output / LOSS / "checkpoint")
    wanted = max(checkpoints.steps(), default=0) + chance.randint(1, 12)
    victim = chance.randrange(WORKERS)
    with all_workers(command, scratch) as workers:
        wait_until(
            workers[victim], lambda: max(checkpoints.steps(), default=0) >= wanted
        )
        time.sleep(chance.uniform(0, 0.3))
        if any(worker.poll() is not None for worker in workers):
            return None
        workers[victim].kill()
        killed = time.perf_counter()
        (other,) = (w for i, w in enumerate(workers) if i != victim)
        try:
            code = other.wait(timeout=PATIENCE)
            survivor = "ended with an error" if code else "ended well"
        except subprocess.TimeoutExpired:
            survivor = "went on"
    return survivor, round(time.perf_counter() - killed, 2)


def _weights(output: Path) -> dict[str, Any]:
    """What a run's last checkpoint holds, except history and metrics."""
    checkpoints = Checkpoints(output / LOSS / "checkpoint")
    newest = checkpoints.newest()
    if newest is None:
        return {}
    values = read_checkpoint(checkpoints.prefix(newest))
    return {k: v for k, v in values.items() if k.startswith(("model", "opt", "step"))}


def finish(command: Sequence[str], scratch: Path, workers: int = WORKERS) -> None:
    """Lets a command come to its end, with one or several workers."""
    with all_workers(command, scratch, workers) as processes:
        for process in processes:
            expect_success(process, scratch / "log")


@contextlib.contextmanager
def all_workers(
    command: Sequence[str], scratch: Path, workers: int = WORKERS
) -> Iterator[list[Process]]:
    """Starts a Python command as every worker of a cluster on this machine."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    with contextlib.ExitStack() as stack:
        found = []
        for index in range(workers):
            task = {"type": "worker", "index": index}
            config = json.dumps({"cluster": {"worker": addresses}, "task": task})
            variables = {"TF_CONFIG": config} if workers > 1 else {}
            process = started(command, scratch / "log", **variables)
            found.append(stack.enter_context(process))
        yield found
