"""Runs the trials that `lower` wrote: NumPy, OpenCV, Pillow and JAX are all it takes.

    python experiments/compiled/execute.py LOWERED OUT [--only PATTERN] [--seconds N]

A run is one call, a loop over its steps, and its answers are written as it ends. Small
nets leave most of an accelerator idle: several processes with the same `--shared`
folder, in memory best, divide the runs, the compiling and the samples between them.
They want `JAX_COMPILATION_CACHE_DIR`, and CUDA's multi-process service, without which
they only take turns; but under it convolutions are chosen several times as slowly, so
one process with `--prepare` goes before.
"""

from __future__ import annotations

import argparse
import bz2
import hashlib
import json
import math
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

PACKAGE = Path(__file__).resolve().parents[2]
FAILED = "failed"
"""Of a process, in a shared folder: all others stop."""

FEW = 32
"""Jobs; those after them wait, whatever is loaded."""

PAUSE = 0.2
"""Seconds between looks at what other processes do."""

FIGURES = 3
"""Of a step: see `lower.training_step`."""


def _module(name: str, path: Path) -> types.ModuleType:
    """One module of the package, without the package, which imports TensorFlow."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module


_module("tf_levelset.constants", PACKAGE / "tf_levelset/constants.py")
window = _module(
    "tf_levelset.datasets.pipeline.window", PACKAGE / "datasets/pipeline/window.py"
)

Job = dict[str, Any]
Arrays = list[Any]
Variables = tuple[Arrays, Arrays]


class Shared:
    """A folder in which processes divide work: who makes a file first does it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def claim(self, what: str) -> bool:
        """Whether it is this process's to do."""
        try:
            (self.folder / f"{what}.claimed").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def claimed(self, what: str) -> bool:
        """Whether any process does it, or has done it."""
        return (self.folder / f"{what}.claimed").exists()

    def finish(self, what: str) -> None:
        """Says that it is done."""
        (self.folder / f"{what}.done").touch()

    def finished(self, what: str) -> bool:
        """Whether it is done."""
        return (self.folder / f"{what}.done").exists()

    def do(self, what: str, make: Callable[[], None]) -> None:
        """Does it, and tells the others, also where it fails."""
        with self.failing():
            make()
        self.finish(what)

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Tells the others, who would wait, of an error in what is done here."""
        try:
            yield
        except BaseException:
            self.finish(FAILED)
            raise

    def once(self, what: str, make: Callable[[], None]) -> None:
        """Does it, or waits until another process has."""
        if self.claim(what):
            self.do(what, make)
        while not self.finished(what):
            self.check()
            time.sleep(PAUSE)

    def check(self) -> None:
        """Raises RuntimeError if another process has failed."""
        if self.finished(FAILED):
            raise RuntimeError(
                "Expected every process to do its part. Received: a failure, which the "
                "process shows that had it"
            )


class Programs:
    """The compiled programs of jobs; a compilation cache makes them the others' too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: dict[str, Any] = {}

    def compile_all(self, jobs: Sequence[Job], shared: Shared, threads: int) -> None:
        """Compiles what jobs need, in their order, and says of each that it is done.

        Of each net one program comes first, alone: it finds the fastest convolutions,
        which the others of this process then know.
        """
        programs = {_program(job): job for job in reversed(jobs)}
        nets: dict[str, list[str]] = {}
        for job in jobs:
            of_net = nets.setdefault(job["predict"], [])
            if _program(job) not in of_net:
                of_net.append(_program(job))

        def make(what: str) -> None:
            began = time.perf_counter()
            shared.do(what, lambda: self._both(programs[what]))
            seconds = time.perf_counter() - began
            print(f"compiled {programs[what]['name']} {seconds:.0f} s", flush=True)

        def make_net(first: str, *others: str) -> list[Future[None]]:
            make(first)
            return [rest.submit(make, what) for what in others]

        with ThreadPoolExecutor(threads) as rest, ThreadPoolExecutor(2) as ahead:
            begun = [ahead.submit(make_net, *of_net) for of_net in nets.values()]
            for net in begun:
                for future in net.result():
                    future.result()

    def _both(self, job: Job) -> None:
        # Any run's variables will do: their shapes are all that counts.
        variables = _variables(self.folder / job["weights"])
        self.training(job, variables)
        self.prediction(job, variables)

    def training(self, job: Job, variables: Variables) -> Any:
        """The loop over a run's steps: see `_training`."""
        if job["step"] not in self.found:
            self.found[job["step"]] = self._training(job, variables)
        return self.found[job["step"]]

    def _training(self, job: Job, variables: Variables) -> Any:
        """Maps weights, state, how many steps, their rates, and samples."""
        step = _called(self.folder / job["step"])
        batch, (height, width) = job["batch_size"], job["crop"]
        longest = job["longest"]

        def run(
            weights: Arrays,
            state: Arrays,
            steps: Any,
            rates: Any,
            images: Any,
            insides: Any,
            labels: Any,
        ) -> Any:
            def body(at: Any, carry: Any) -> Any:
                weights, state, velocities, figures = carry
                samples = (images[at], insides[at], labels[at])
                *trained, row = step(weights, state, velocities, rates[at], *samples)
                return *trained, figures.at[at].set(row)

            still = [jax.numpy.zeros_like(w) for w in weights]
            figures = jax.numpy.zeros((longest, FIGURES), np.float32)
            weights, state, _, figures = jax.lax.fori_loop(
                0, steps, body, (weights, state, still, figures)
            )
            return weights, state, figures

        shapes = jax.tree.map(_shape, variables)
        samples = (
            jax.ShapeDtypeStruct((), np.int32),
            jax.ShapeDtypeStruct((longest,), np.float32),
            jax.ShapeDtypeStruct((longest, batch, height, width, 3), np.uint8),
            jax.ShapeDtypeStruct((longest, batch, 2), np.int32),
            jax.ShapeDtypeStruct((longest, batch, height, width), np.uint8),
        )
        return jax.jit(run).lower(*shapes, *samples).compile()

    def prediction(self, job: Job, variables: Variables) -> Any:
        """Maps variables, a picture and its labels to a mask and the energy."""
        if job["predict"] not in self.found:
            self.found[job["predict"]] = self._prediction(job, variables)
        return self.found[job["predict"]]

    def _prediction(self, job: Job, variables: Variables) -> Any:
        predict = _called(self.folder / job["predict"])
        images, labels = pictures(self.folder, job["val"][:1])

        def mask(weights: Any, state: Any, image: Any, labels: Any) -> Any:
            probabilities, energy = predict(weights, state, image, labels)
            return probabilities.argmax(-1).astype(np.uint8), energy

        shapes = jax.tree.map(_shape, (*variables, images[0], labels[0]))
        return jax.jit(mask).lower(*shapes).compile()


def samples(
    folder: Path, job: Job, shared: Shared, threads: ThreadPoolExecutor
) -> list[Path]:
    """Files of a run's samples, step by step: images, insides, labels.

    They are as many as the longest run of this crop takes: the others are zeros.
    """
    stem = shared.folder / Path(job["places"]).stem
    paths = [stem.with_suffix(f".{name}.npy") for name in ("image", "inside", "label")]
    shape, crop = (job["longest"], job["batch_size"]), tuple(job["crop"])
    kinds = (((*crop, 3), np.uint8), ((2,), np.int32), (crop, np.uint8))

    def cut_out() -> None:
        images, insides, labels = (
            np.lib.format.open_memmap(path, "w+", dtype, (*shape, *rest))
            for path, (rest, dtype) in zip(paths, kinds, strict=True)
        )
        places = np.load(folder / job["places"])
        whole, classes = pictures(folder, job["train"], threads)

        def cut(first: int) -> None:
            for i in range(first, min(first + 64, len(places))):
                index, h, w, top, left, height, width, flip = places[i].tolist()
                at = window.Window((h, w), (top, left), (height, width), bool(flip))
                to = divmod(i, shape[1])
                images[to] = window.image_window(whole[index], at, crop)
                insides[to] = height, width
                labels[to] = window.label_window(classes[index], at, crop)

        list(threads.map(cut, range(0, len(places), 64)))

    shared.once(stem.name, cut_out)
    return paths


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


class Worker:
    """One process: it runs what no other has claimed, as soon as that is compiled."""

    def __init__(self, lowered: Path, out: Path, shared: Shared, threads: int) -> None:
        self.lowered, self.out, self.shared = lowered, out, shared
        self.threads = ThreadPoolExecutor(threads)
        self.writing = ThreadPoolExecutor(2)
        self.programs = Programs(lowered)
        self.loaded: Any = None
        self.samples: list[Any] = []
        self.val: list[Any] = []
        out.mkdir(parents=True, exist_ok=True)

    def work(self, jobs: Sequence[Job], until: float) -> None:
        """Does what it can until all is claimed, or until a time.

        Raises:
            RuntimeError: if another process has failed.
            Exception: of a write that failed.
        """
        written: list[Future[None]] = []
        while time.perf_counter() < until:
            self.shared.check()
            left = [job for job in jobs if not self.shared.claimed(job["name"])]
            if not left:
                break
            job = self._claimed(left)
            if job is None:
                time.sleep(PAUSE)
            else:
                with self.shared.failing():
                    written.append(self._run(job))
        for future in written:
            future.result()

    def cut_samples(self, jobs: Sequence[Job]) -> None:
        """Makes the samples of all jobs."""
        for job in {job["places"]: job for job in jobs}.values():
            samples(self.lowered, job, self.shared, self.threads)

    def _claimed(self, left: Sequence[Job]) -> Job | None:
        """A job to run now: of the next few, rather one whose samples are loaded."""
        able = [
            job
            for job in left
            if self.shared.finished(_program(job))
            and (job["start"] is None or self.shared.finished(job["start"]))
        ]
        able = sorted(able[:FEW], key=lambda job: _data(job) != self.loaded)
        return next((job for job in able if self.shared.claim(job["name"])), None)

    def _run(self, job: Job) -> Future[None]:
        """Trains, answers, and writes both while the next job runs."""
        if self.loaded != _data(job):
            # What another run needs no more makes room first.
            self.samples, self.val = [], []
            paths = samples(self.lowered, job, self.shared, self.threads)
            self.samples = [jax.device_put(np.load(path)) for path in paths]
            self.val = jax.device_put(pictures(self.lowered, job["val"], self.threads))
            self.loaded = _data(job)
        weights_of = (
            self.lowered / job["weights"]
            if job["start"] is None
            else self.shared.folder / f"{job['start']}.npz"
        )
        variables = _variables(weights_of)
        train = self.programs.training(job, variables)
        predict = self.programs.prediction(job, variables)
        steps = len(job["rates"])
        rates = np.zeros(job["longest"], np.float32)
        rates[:steps] = job["rates"]
        began = time.perf_counter()
        weights, state, figures = train(
            *variables, np.int32(steps), rates, *self.samples
        )
        figures = np.asarray(figures)[:steps]
        seconds = time.perf_counter() - began
        if job["start"] is None:
            _save_variables(self.shared.folder / f"{job['name']}.npz", weights, state)
        self.shared.finish(job["name"])
        answers = [
            predict(weights, state, image, labels)
            for image, labels in zip(*self.val, strict=True)
        ]
        masks = np.stack([np.asarray(mask) for mask, _ in answers])
        print(
            f"{job['name']}: loss {figures[-20:, 0].mean():.3f}, {seconds:.1f} s, "
            f"mIoU {_miou(masks, self.val[1]):.2f}",
            flush=True,
        )
        record = {
            "masks": masks,
            "energies": np.array([float(energy) for _, energy in answers]),
            "figures": figures,
            "seconds": seconds,
            "digest": digest(variables),
        }
        return self.writing.submit(_write, self.out / f"{job['name']}.npz", record)


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lowered", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="*", help="of the names of starts")
    parser.add_argument("--seconds", type=float, default=math.inf, help="when to stop")
    parser.add_argument("--shared", type=Path, help="folder that processes share")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--prepare",
        action="store_true",
        help="compile, and make the samples; run nothing",
    )
    options = parser.parse_args()
    until = time.perf_counter() + options.seconds
    jobs = _jobs(options.lowered, options.only)
    with tempfile.TemporaryDirectory() as own, ThreadPoolExecutor(1) as beside:
        shared = Shared(options.shared or Path(own))
        worker = Worker(options.lowered, options.out, shared, options.threads)
        compiling = None
        if shared.claim("programs"):
            arguments = (jobs, shared, options.threads)
            compiling = beside.submit(worker.programs.compile_all, *arguments)
        if options.prepare:
            worker.cut_samples(jobs)
        else:
            worker.work(jobs, until)
        if compiling is not None:
            compiling.result()


def _jobs(folder: Path, only: str) -> list[Job]:
    """Those whose starts' names match, each with the steps that its samples are for."""
    jobs: list[Job] = json.loads((folder / "jobs.json").read_text())
    longest: dict[tuple[int, ...], int] = {}
    for job in jobs:
        places = len(np.load(folder / job["places"], mmap_mode="r"))
        steps = places // job["batch_size"]
        longest[_shape_of(job)] = max(steps, longest.get(_shape_of(job), 0))
    for job in jobs:
        job["longest"] = longest[_shape_of(job)]
    return [job for job in jobs if fnmatchcase(job["start"] or job["name"], only)]


def _shape_of(job: Job) -> tuple[int, ...]:
    """Of a batch."""
    return (job["batch_size"], *job["crop"])


def _program(job: Job) -> str:
    """The name of a job's programs."""
    return f"{Path(job['step']).stem}-{Path(job['predict']).stem}"


def _data(job: Job) -> Any:
    """What a run's samples and pictures depend on."""
    return job["places"], tuple(job["val"])


def digest(variables: Variables) -> str:
    """Sixteen hexadecimal digits of a net's variables: runs with the same are pairs."""
    found = hashlib.sha256()
    for array in jax.tree.leaves(variables):
        found.update(np.asarray(array).tobytes())
    return found.hexdigest()[:16]


def _write(path: Path, record: dict[str, Any]) -> None:
    """Writes a run's answers."""
    masks = record.pop("masks")
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        masks=np.frombuffer(bz2.compress(masks.tobytes()), np.uint8),
        shape=masks.shape,
        device=str(jax.devices()[0].device_kind),
        jax=jax.__version__,
        **record,
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


def _variables(path: Path) -> Variables:
    """Trainable variables and the others, of a file of `lower` or of a start."""
    with np.load(path) as arrays:
        names = sorted(arrays.files)
        trainable = [arrays[n] for n in names if n.startswith("trainable")]
        others = [arrays[n] for n in names if not n.startswith("trainable")]
    return trainable, others


def _save_variables(path: Path, weights: Arrays, state: Arrays) -> None:
    named: dict[str, Any] = {
        **{f"trainable{i:03}": np.asarray(v) for i, v in enumerate(weights)},
        **{f"z{i:03}": np.asarray(v) for i, v in enumerate(state)},
    }
    np.savez(path, **named)


def _shape(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


if __name__ == "__main__":
    main()
