"""Compares training on several replicas and in several processes with that on one.

Three things are tried:

    steps   the variables after some steps on 2 and 4 replicas of one process, and on 2
            processes, against one replica with the same global batch; void is spread
            unevenly
    shards  whether the workers' parts of each batch are the batch, without overlap
    kills   two processes train; one of them is killed (SIGKILL), the other must end by
            itself, and both are started again, until the run is done. It must end with
            the weights of the run that was not killed, bit by bit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import environment
from reliability.resume import ROOT, read_checkpoint, same, sleep_until
from tf_levelset.datasets import Augmentation, load_dataset, training_dataset
from tf_levelset.files import read_json, write_json
from tf_levelset.inference.score_table import table
from tf_levelset.training.checkpoints import Checkpoints

TOLERANCE = 1e-6
"""Of weights, absolute."""

OF_STATISTICS = {"3": 2e-6, "2": 1 / 119}
"""Of batch statistics, by Keras' version, in proportion to a variable's largest value.
Variances are summed up in float32. In Keras 2 those that one process keeps are
N/(N − 1) times what several replicas keep; the smallest N here is 4·5·6, of fc7."""

REPLICAS = (2, 4)
WORKERS = 2

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
    """Adds the trial's options to its parser."""
    parser.add_argument("--kills", type=int, default=10, help="how many, at least")
    parser.add_argument("--cases", type=int, help="only the first of the steps' cases")
    parser.add_argument("--seed", type=int, default=0, help="of when to kill")
    parser.add_argument("--out", type=Path, help="the JSON file")
    parser.add_argument(
        "--table", type=Path, metavar="FOLDER", help="only print what its files found"
    )


def run(options: argparse.Namespace) -> bool:
    """Runs the trial, writes what it found, and tells whether all held."""
    if options.table is not None:
        print(summary(options.table), end="")
        return True
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        steps = compare_steps(folder, options.cases)
        kills = try_kills(folder, options.kills, random.Random(options.seed))
    found = {
        "trial": "workers",
        "tolerance": TOLERANCE,
        "steps": steps,
        "shards": compare_shards(),
        "kills": kills,
        "command": " ".join(("python", *COMMAND)),
        "environment": environment(),
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(found, indent=1))
    if options.out is not None:
        write_json(options.out, found)
    return holds(found)


def holds(found: Mapping[str, Any]) -> bool:
    """Tells whether nothing found is against what is promised."""
    keras = found["environment"]["packages"]["keras"]
    of_statistics = OF_STATISTICS[keras.partition(".")[0]]
    return (
        all(
            row["weights"] <= TOLERANCE
            and row["statistics"] <= of_statistics
            and row["moved"] > 1000 * TOLERANCE
            for row in found["steps"]
        )
        and not found["shards"]["differences"]
        and not found["kills"]["differences"]
    )


# --- Steps ---


def compare_steps(folder: Path, cases: int | None) -> list[dict[str, Any]]:
    """Trains the cases of `reliability.steps` in every way; a row a way and case."""
    more = () if cases is None else ("--cases", str(cases))
    one = _steps(folder / "1.npz", *more)
    ways = {
        (n, 1): _steps(folder / f"{n}.npz", "--replicas", str(n), *more)
        for n in REPLICAS
    }
    path = folder / "workers.npz"
    with all_workers(("-m", "reliability.steps", str(path), *more), folder) as workers:
        for worker in workers:
            _expect_success(worker.wait(), folder)
    ways[WORKERS, WORKERS] = dict(np.load(path))
    return [
        {"replicas": replicas, "processes": processes, **row}
        for (replicas, processes), found in ways.items()
        for row in differences(one, found)
    ]


def _steps(path: Path, *more: str) -> dict[str, np.ndarray]:
    with started(("-m", "reliability.steps", str(path), *more), path.parent) as process:
        _expect_success(process.wait(), path.parent)
    return dict(np.load(path))


def differences(
    one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Compares variables by name, "net/loss/steps/kind/index"; a row a net and loss.

    Returns:
        `weights`, the largest difference; `statistics`, the largest in proportion to a
        variable's largest value; `moved`, how far training has moved a weight at least
        by its first step; all after the number of steps where they are largest.
    """
    if set(one) != set(other):
        raise ValueError(
            f"Expected the same variables. Received: {sorted(set(one) ^ set(other))}"
        )
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for name, value in one.items():
        net, loss, steps, kind, index = name.split("/")
        row = rows.setdefault(
            (net, loss), {"weights": 0.0, "statistics": 0.0, "moved": 0.0}
        )
        distance = _largest(other[name] - value.astype(np.float64))
        if kind == "statistics":
            distance /= max(1.0, _largest(value))
        row[kind] = max(row[kind], distance)
        if kind == "weights" and steps == "1":
            before = one[f"{net}/{loss}/0/{kind}/{index}"].astype(np.float64)
            row["moved"] = max(row["moved"], _largest(value - before))
    return [{"net": net, "loss": loss, **row} for (net, loss), row in rows.items()]


def _largest(values: np.ndarray) -> float:
    """The largest absolute value; infinite if one is not a number."""
    if not np.isfinite(values).all():
        return float("inf")
    return float(np.abs(values).max(initial=0.0))


# --- Shards ---


def compare_shards() -> dict[str, Any]:
    """Puts the workers' parts of batches together, and compares."""
    source = load_dataset("synthetic", "train", num_samples=10, size=(33, 41))
    batch_size, steps = 24, 5
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "seed": 3,
        "augmentation": Augmentation(flip=True),
        "num_steps": steps,
    }
    whole = [
        (images.numpy(), labels.numpy())
        for images, labels in training_dataset(source, **options)
    ]
    wrong: list[str] = []
    compared = 0
    counts = (1, 2, 3, 4, 8, 24)
    for workers in counts:
        parts = [
            training_dataset(source, num_workers=workers, worker=worker, **options)
            for worker in range(workers)
        ]
        for step, batch in enumerate(zip(*parts, strict=True)):
            for index, expected in enumerate(whole[step]):
                found = np.empty_like(expected)
                for worker, part in enumerate(batch):
                    found[worker::workers] = part[index].numpy()
                compared += 1
                if not same(found, expected):
                    wrong.append(f"{workers} workers, step {step}")
    return {
        "workers": list(counts),
        "batches_compared": compared // 2,
        "differences": wrong,
    }


# --- Kills ---


def try_kills(folder: Path, kills: int, chance: random.Random) -> dict[str, Any]:
    """Kills a worker again and again, and compares what the run ends with."""
    unbroken = folder / "unbroken"
    with all_workers((*COMMAND, "--output", str(unbroken)), folder) as workers:
        for worker in workers:
            _expect_success(worker.wait(), folder)
    found: list[dict[str, Any]] = []
    wrong: list[str] = []
    runs = values = 0
    while len(found) < kills:
        runs += 1
        output = folder / f"run-{runs}"
        command = (*COMMAND, "--output", str(output))
        while len(found) < kills:
            kill = start_and_kill(command, output, folder, chance)
            if kill is None:
                break
            print(kill, flush=True)
            found.append(kill)
            if kill["survivor"] != "ended with an error":
                wrong.append(f"kill {len(found)}: the survivor {kill['survivor']}")
        with all_workers(command, folder) as workers:
            for worker in workers:
                _expect_success(worker.wait(), folder)
        expected, ended = _weights(unbroken), _weights(output)
        values += len(expected)
        wrong += [
            f"run {runs}: {name}"
            for name in sorted(set(expected) | set(ended))
            if not same(expected.get(name), ended.get(name))
        ]
    return {
        "kills_survived": len(found),
        "kills_by_worker": dict(Counter(str(kill["worker"]) for kill in found)),
        "seconds_until_the_other_ended": [kill["seconds_after"] for kill in found],
        "runs": runs,
        "values_compared": values,
        "differences": wrong,
        "kills": found,
    }


def start_and_kill(
    command: Sequence[str], output: Path, scratch: Path, chance: random.Random
) -> dict[str, Any] | None:
    """Starts all workers and kills one; None if the run came to its end before."""
    checkpoints = Checkpoints(output / LOSS / "checkpoint")
    before = max(checkpoints.steps(), default=0)
    wanted = before + chance.randint(1, 12)
    victim = chance.randrange(WORKERS)
    with all_workers(command, scratch) as workers:
        sleep_until(
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
    return {
        "worker": victim,
        "step": max(checkpoints.steps(), default=0),
        "survivor": survivor,
        "seconds_after": round(time.perf_counter() - killed, 2),
    }


def _weights(output: Path) -> dict[str, Any]:
    """What a run's last checkpoint holds, but for what is summed up for people."""
    checkpoints = Checkpoints(output / LOSS / "checkpoint")
    newest = checkpoints.newest()
    if newest is None:
        return {}
    values = read_checkpoint(checkpoints.prefix(newest))
    return {k: v for k, v in values.items() if k.startswith(("model", "opt", "step"))}


# --- Processes ---


@contextlib.contextmanager
def started(
    command: Sequence[str], scratch: Path, config: Mapping[str, Any] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A Python command, running; it is killed if it is still there in the end."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    if config is not None:
        environment["TF_CONFIG"] = json.dumps(config)
    with (scratch / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def all_workers(
    command: Sequence[str], scratch: Path
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A Python command as every worker of a cluster on this machine."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(WORKERS)]
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                started(
                    command,
                    scratch,
                    {
                        "cluster": {"worker": addresses},
                        "task": {"type": "worker", "index": index},
                    },
                )
            )
            for index in range(WORKERS)
        ]


def free_ports(number: int) -> list[int]:
    """Returns ports of this machine that nothing listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _expect_success(code: int, scratch: Path) -> None:
    if code:
        log = (scratch / "log").read_text("utf-8", errors="replace")
        raise RuntimeError(f"Expected exit code 0. Received: {code}\n{log[-3000:]}")


# --- The table ---


def summary(folder: Path) -> str:
    """What the JSON files of a folder found, as Markdown tables."""
    found = [read_json(path) for path in sorted(folder.glob("*.json"))]
    packages = [result["environment"]["packages"] for result in found]
    lanes = [f"Keras {p['keras']}, TensorFlow {p['tensorflow']}" for p in packages]
    steps = [["", *lanes]]
    for replicas, processes in [*((r, 1) for r in REPLICAS), (WORKERS, WORKERS)]:
        for kind in ("weights", "statistics"):
            largest = [
                max(
                    row[kind]
                    for row in result["steps"]
                    if (row["replicas"], row["processes"]) == (replicas, processes)
                )
                for result in found
            ]
            title = f"{replicas} replicas, {processes} process" + "es" * (processes > 1)
            steps.append([f"{title}: {kind}", *(f"{value:.1e}" for value in largest)])
    moved = [max(row["moved"] for row in result["steps"]) for result in found]
    steps.append(["a weight's largest step", *(f"{value:.2g}" for value in moved)])
    kills = {
        "kills survived": [r["kills"]["kills_survived"] for r in found],
        "seconds until the other worker had ended, at most": [
            max(r["kills"]["seconds_until_the_other_ended"], default="–") for r in found
        ],
        "runs compared at their end": [r["kills"]["runs"] for r in found],
        "values compared": [r["kills"]["values_compared"] for r in found],
        "differences": [len(r["kills"]["differences"]) for r in found],
        "batches put together from shards": [
            r["shards"]["batches_compared"] for r in found
        ],
        "differences of batches": [len(r["shards"]["differences"]) for r in found],
    }
    rest = [["", *lanes], *([name, *map(str, row)] for name, row in kills.items())]
    return f"{table(steps)}\n{table(rest)}"
