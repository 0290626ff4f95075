"""Runs the trials that `lower` wrote: NumPy, OpenCV, Pillow and JAX are all it takes.

    python experiments/compiled/execute.py LOWERED OUT [--only PATTERN] [--seconds N]

A start and the trials that go on from it are one group. The samples of a group are made
once and kept on the accelerator; a run is one call, a loop over its steps, and its
answers are written as it ends. Small nets leave an accelerator idle between kernels:
several processes may share the groups (`--share`), with `JAX_COMPILATION_CACHE_DIR` set
so that they compile once (`--compile`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
import types
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

PACKAGE = Path(__file__).resolve().parents[2]
THREADS = 14


def _module(name: str, path: Path) -> types.ModuleType:
    """One module of the package, without the package, which imports TensorFlow."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module


_module("tf_levelset.constants", PACKAGE / "tf_levelset/constants.py")
window = _module("tf_levelset.datasets.window", PACKAGE / "datasets/window.py")

Job = dict[str, Any]
Arrays = list[Any]


class Compiler:
    """Compiles each step once, in threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.threads = ThreadPoolExecutor(THREADS)
        self.found: dict[Any, Future[Any]] = {}

    def training(self, job: Job, variables: tuple[Arrays, Arrays]) -> Future[Any]:
        """The loop over a run's steps: (weights, state, velocities, rates, samples)."""
        key = (job["step"], len(job["rates"]))
        if key not in self.found:
            self.found[key] = self.threads.submit(self._training, job, variables)
        return self.found[key]

    def _training(self, job: Job, variables: tuple[Arrays, Arrays]) -> Any:
        step = _called(self.folder / job["step"])
        batch, (height, width) = job["batch_size"], job["crop"]
        steps = len(job["rates"])

        def run(
            weights: Arrays, state: Arrays, rates: Any, images: Any, more: Any, y: Any
        ) -> Any:
            def body(carry: Any, at: Any) -> Any:
                rate, *samples = at
                *carry, figures = step(*carry, rate, *samples)
                return tuple(carry), figures

            nothing = [jax.numpy.zeros_like(w) for w in weights]
            samples = (images[:steps], more[:steps], y[:steps])
            (weights, state, _), figures = jax.lax.scan(
                body, (weights, state, nothing), (rates, *samples)
            )
            return weights, state, figures

        shapes = jax.tree.map(_shape, (*variables, np.zeros(steps, np.float32)))
        longest = job["longest"]
        samples = (
            jax.ShapeDtypeStruct((longest, batch, height, width, 3), np.uint8),
            jax.ShapeDtypeStruct((longest, batch, 2), np.int32),
            jax.ShapeDtypeStruct((longest, batch, height, width), np.uint8),
        )
        began = time.perf_counter()
        compiled = jax.jit(run).lower(*shapes, *samples).compile()
        seconds = time.perf_counter() - began
        print(f"  compiled {job['name']} {seconds:.0f} s", flush=True)
        return compiled

    def prediction(
        self, job: Job, variables: Any, image: Any, labels: Any
    ) -> Future[Any]:
        """Maps variables, a picture and its labels to probabilities and energy."""
        key = (job["predict"],)
        if key not in self.found:
            shapes = jax.tree.map(_shape, (*variables, image, labels))
            self.found[key] = self.threads.submit(self._prediction, job, shapes)
        return self.found[key]

    def _prediction(self, job: Job, shapes: Any) -> Any:
        predict = _called(self.folder / job["predict"])

        def masks(weights: Any, state: Any, image: Any, labels: Any) -> Any:
            probabilities, energy = predict(weights, state, image, labels)
            return probabilities.argmax(-1).astype(np.uint8), energy

        return jax.jit(masks).lower(*shapes).compile()


class Data:
    """The samples of a group, on the accelerator."""

    def __init__(self, folder: Path, job: Job, threads: ThreadPoolExecutor) -> None:
        self.key = self.key_of(job)
        images, labels = pictures(folder, job["train"], threads)
        places = np.load(folder / job["places"])
        self.steps = len(places) // job["batch_size"]
        crop = tuple(job["crop"])
        self.images = np.empty((len(places), *crop, 3), np.uint8)
        self.labels = np.empty((len(places), *crop), np.uint8)

        def cut_out(first: int) -> None:
            for i in range(first, min(first + 64, len(places))):
                index, h, w, top, left, height, width, flip = places[i].tolist()
                at = window.Window((h, w), (top, left), (height, width), bool(flip))
                self.images[i] = window.image_window(images[index], at, crop)
                self.labels[i] = window.label_window(labels[index], at, crop)

        list(threads.map(cut_out, range(0, len(places), 64)))
        shape = (self.steps, job["batch_size"])
        insides = np.ascontiguousarray(places[:, 5:7]).astype(np.int32)
        self.arrays = jax.device_put(
            (
                self.images.reshape(*shape, *crop, 3),
                insides.reshape(*shape, 2),
                self.labels.reshape(*shape, *crop),
            )
        )
        del self.images, self.labels

    @staticmethod
    def key_of(job: Job) -> Any:
        """What the samples depend on."""
        return job["places"], tuple(job["val"])


def pictures(
    folder: Path, names: Sequence[str], threads: ThreadPoolExecutor | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, 3) and labels (N, H, W) of some names, uint8."""

    def read(name: str) -> tuple[np.ndarray, np.ndarray]:
        path = folder / "pictures" / name
        with Image.open(f"{path}.webp") as image, Image.open(f"{path}.png") as labels:
            return np.asarray(image.convert("RGB")), np.asarray(labels)

    in_turn = map if threads is None else threads.map
    images, labels = zip(*in_turn(read, names), strict=True)
    return np.stack(images), np.stack(labels)


class Group:
    """A start, and what goes on from it: their samples and the start's variables."""

    def __init__(self, folder: Path, start: Job) -> None:
        self.variables = _variables(folder, start)
        self.data: Data | None = None
        self.val: Any = None

    def load(
        self,
        folder: Path,
        start: Job,
        threads: ThreadPoolExecutor,
        like: Sequence[Group],
    ) -> None:
        """Takes the samples of another group that has the same, or makes them."""
        for group in like:
            if group.data is not None and group.data.key == Data.key_of(start):
                self.data, self.val = group.data, group.val
                return
        self.data = Data(folder, start, threads)
        self.val = jax.device_put(pictures(folder, start["val"], threads))

    def run(self, job: Job, train: Any, predict: Any) -> dict[str, Any]:
        """Trains and answers; a start's variables are the others' from then on."""
        rates = np.array(job["rates"], np.float32)
        began = time.perf_counter()
        found = digest(self.variables)
        assert self.data is not None
        weights, state, figures = train(*self.variables, rates, *self.data.arrays)
        figures = np.asarray(figures)
        seconds = time.perf_counter() - began
        answers = [
            predict(weights, state, image, labels)
            for image, labels in zip(*self.val, strict=True)
        ]
        if job["start"] is None:
            self.variables = (weights, state)
        return {
            "masks": np.stack([np.asarray(mask) for mask, _ in answers]),
            "energies": np.array([float(energy) for _, energy in answers]),
            "figures": figures,
            "seconds": seconds,
            "digest": found,
            "variables": jax.device_get((weights, state))
            if job["keep_weights"]
            else None,
        }


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lowered", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="*", help="of the names of starts")
    parser.add_argument("--seconds", type=float, default=math.inf, help="when to stop")
    parser.add_argument("--share", type=int, nargs=2, default=(0, 1), metavar="N")
    parser.add_argument("--after", type=Path, help="a file to wait for")
    parser.add_argument("--compile", action="store_true", help="and run nothing")
    options = parser.parse_args()
    began = time.perf_counter()
    folder, (share, shares) = options.lowered, options.share
    jobs = json.loads((folder / "jobs.json").read_text())
    starts = [job for job in jobs if job["start"] is None]
    starts = [job for job in starts if fnmatchcase(job["name"], options.only)]
    threads = ThreadPoolExecutor(THREADS)
    mine = {job["name"]: Group(folder, job) for job in starts[share::shares]}
    jobs = [job for job in jobs if (job["start"] or job["name"]) in mine]
    for job in jobs:
        job["longest"] = len(np.load(folder / job["places"], mmap_mode="r"))
        job["longest"] //= job["batch_size"]
    print(f"{jax.devices()}, {len(jobs)} runs", flush=True)
    if not options.compile:
        for job in starts[share::shares]:
            mine[job["name"]].load(folder, job, threads, list(mine.values()))
        print(f"{time.perf_counter() - began:6.1f} s  samples made", flush=True)
    while options.after is not None and not options.after.exists():
        time.sleep(0.2)
    calls = _compiled(folder, jobs, mine)
    print(f"{time.perf_counter() - began:6.1f} s  compiled", flush=True)
    if not options.compile:
        _run(jobs, mine, calls, options.out, began + options.seconds)


def _compiled(
    folder: Path, jobs: Sequence[Job], groups: Mapping[str, Group]
) -> list[tuple[Any, Any]]:
    """Each job's training and prediction. Nothing is compiled while a run is timed."""
    compiler = Compiler(folder)
    found: list[tuple[Future[Any], Future[Any]]] = []
    for job in jobs:
        group = groups[job["start"] or job["name"]]
        train = compiler.training(job, group.variables)
        if not found:
            # Alone: it finds the fastest convolutions, which the others then know.
            train.result()
        image, labels = _sample(folder, job)
        found.append((train, compiler.prediction(job, group.variables, image, labels)))
    return [(train.result(), predict.result()) for train, predict in found]


def _run(
    jobs: Sequence[Job],
    groups: Mapping[str, Group],
    calls: Sequence[tuple[Any, Any]],
    out: Path,
    until: float,
) -> None:
    """Runs jobs in their order, and writes each while the next one runs."""
    out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(4) as writing:
        written = []
        for job, (train, predict) in zip(jobs, calls, strict=True):
            if time.perf_counter() > until:
                print("out of time", flush=True)
                break
            group = groups[job["start"] or job["name"]]
            record = group.run(job, train, predict)
            print(
                f"{job['name']}: loss {record['figures'][-20:, 0].mean():.3f}, "
                f"{record['seconds']:.1f} s, "
                f"mIoU {_miou(record['masks'], group.val[1]):.2f}",
                flush=True,
            )
            path = out / f"{job['name']}.npz"
            written.append(writing.submit(_write, path, record))
        for future in written:
            future.result()


def digest(variables: tuple[Arrays, Arrays]) -> str:
    """Sixteen hexadecimal digits of a net's variables: runs with the same are pairs."""
    found = hashlib.sha256()
    for array in jax.tree.leaves(variables):
        found.update(np.asarray(array).tobytes())
    return found.hexdigest()[:16]


def _write(path: Path, record: dict[str, Any]) -> None:
    """Writes a run's answers, and its variables if they are to be kept."""
    masks = record.pop("masks")
    flat = jax.tree.leaves(record.pop("variables"))  # none of None
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        masks=np.frombuffer(zlib.compress(masks.tobytes(), 6), np.uint8),
        shape=masks.shape,
        device=str(jax.devices()[0].device_kind),
        jax=jax.__version__,
        **record,
        **{f"variable{i:03}": value for i, value in enumerate(flat)},
    )
    partial.replace(path)


def _miou(masks: np.ndarray, labels: Any) -> float:
    """In percent, to be looked at while it runs."""
    labels = np.asarray(labels)
    known = labels != 255
    classes = int(labels[known].max()) + 1
    pairs = labels[known].astype(np.int64) * classes + masks[known]
    confusion = np.bincount(pairs, minlength=classes**2)[: classes**2]
    confusion = confusion.reshape(classes, classes)
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    return 100 * float((confusion.diagonal() / np.maximum(union, 1))[union > 0].mean())


def _called(path: Path) -> Any:
    """The function that a file of `lower` holds."""
    return jax.export.deserialize(bytearray(path.read_bytes())).call


def _sample(folder: Path, job: Job) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its labels, of the size that all have."""
    images, labels = pictures(folder, job["val"][:1])
    return images[0], labels[0]


def _variables(folder: Path, job: Job) -> tuple[Arrays, Arrays]:
    with np.load(folder / job["weights"]) as arrays:
        names = sorted(arrays.files)
        trainable = [arrays[n] for n in names if n.startswith("trainable")]
        others = [arrays[n] for n in names if not n.startswith("trainable")]
    return trainable, others


def _shape(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


if __name__ == "__main__":
    main()
