"""The loss, forward and backward, beside Keras' cross-entropy and the literal formula.

Logits (4, 321, 321, 21), as a full-resolution DeepLab would give them for a batch of
four, and labels of 21 classes in patches, 3 % of them void.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tf_levelset
from benchmarks import harness
from benchmarks.gradients import value_and_gradient
from benchmarks.kernels import kernel_seconds
from benchmarks.literal import VOID, WEIGHT, literal_loss

MEMORY = {
    "memory_handed_back": harness.MEMORY_HANDED_BACK,
    # glibc, too, can be made to keep freed memory.
    "memory_kept": {
        **harness.MEMORY_HANDED_BACK,
        "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1073741824:"
        "glibc.malloc.trim_threshold=4294967296",
    },
}
"""Environments in which every large tensor is fresh memory, and in which none is."""

SHAPE = (4, 321, 321, 21)
QUICK_SHAPE = (2, 65, 65, 5)
ROUNDS, FEWER_ROUNDS = 31, 15


def pictures(shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Makes labels in patches and the logits of a net that is halfway to them.

    Returns:
        labels int32 (B, H, W), 255 on every 32nd row, and logits float32 (B, H, W, C).
    """
    rng = np.random.default_rng(0)
    batch, height, width, classes = shape
    patches = rng.normal(size=(batch, height // 25 + 2, width // 25 + 2, classes))
    field = tf.image.resize(patches.astype(np.float32), (height, width)).numpy()
    labels = field.argmax(-1).astype(np.int32)
    labels[:, ::32] = VOID
    noise = rng.normal(size=shape).astype(np.float32)
    return labels, 3 * field + noise


def our_loss(**options: Any) -> tf_levelset.CrossEntropyLevelSetLoss:
    """The loss that is measured: λ·n = 0.67 at any resolution."""
    return tf_levelset.CrossEntropyLevelSetLoss(
        level_set_weight=WEIGHT,
        normalization="mean",
        from_logits=True,
        ignore_class=VOID,
        **options,
    )


def keras_loss() -> keras.losses.Loss:
    """The cross-entropy alone."""
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=VOID
    )


LOSSES: dict[str, Callable[[], Any]] = {
    "ours": our_loss,
    "ours, not compiled": functools.partial(our_loss, jit_compile=False),
    "keras": keras_loss,
    "literal": lambda: literal_loss,
}


def step(name: str, shape: Sequence[int], jit_compile: bool) -> Callable[[], None]:
    """Returns a function that takes a loss forward and backward once.

    Args:
        name: one of `LOSSES`.
        shape: of the logits.
        jit_compile: whether XLA compiles the whole of it.
    """
    both = value_and_gradient(LOSSES[name](), jit_compile)
    labels, logits = (tf.constant(array) for array in pictures(shape))

    def run() -> None:
        both(labels, logits)

    return run


def copies(shape: tuple[int, ...]) -> dict[str, Callable[[], None]]:
    """Copies of the logits by two threads: what memory itself costs.

    One into memory that is in use, one into memory that the system hands out anew, as
    it does for every tensor of more than 32 MiB.
    """
    source = np.zeros(shape, np.float32) + 1
    used = source.copy()
    threads = ThreadPoolExecutor(2)

    def copy_to(target: np.ndarray) -> None:
        halves = zip(np.array_split(target, 2), np.array_split(source, 2), strict=True)
        list(threads.map(lambda pair: np.copyto(*pair), halves))

    return {
        "copy": lambda: copy_to(used),
        "copy to fresh memory": lambda: copy_to(np.empty_like(source)),
    }


def measure(quick: bool) -> dict[str, Any]:
    """Measures items 1 and 2: time against Keras and the formula, and peak memory."""
    shape = QUICK_SHAPE if quick else SHAPE
    cases: dict[str, Callable[[], None]] = {
        f"{name}, {'XLA' if xla else 'graph'}": step(name, shape, xla)
        for name in LOSSES
        for xla in (False, True)
        if not (xla and "not compiled" in name)
    }
    cases |= copies(shape)
    samples = harness.alternate(cases, rounds=3 if quick else ROUNDS, warmups=3)
    to_keras = harness.ratio(samples, *(_modes(n) for n in ("ours", "keras")))
    literal = harness.ratio(samples, *(_modes(n) for n in ("literal", "ours")))
    memory = {name: _peak(name, shape) for name in LOSSES}
    rounds = 3 if quick else FEWER_ROUNDS
    by_memory = {key: _beside_keras(shape, rounds, MEMORY[key]) for key in MEMORY}
    share = memory["ours"] / memory["literal"]
    return {
        "sizes": {"logits": list(shape), "void": "1 row of 32"},
        "cases": harness.described(samples),
        "memory_bytes": memory,
        **by_memory,
        "kernels_seconds": {
            name: kernel_seconds(cases[f"{name}, XLA"]) for name in ("ours", "keras")
        },
        "limit": _limit(samples, to_keras["ours"]),
        "modes": {
            mode: harness.ratio(samples, [f"ours, {mode}"], [f"keras, {mode}"])
            for mode in ("graph", "XLA")
        },
        "targets": [
            harness.target(
                "CE + LS over Keras' cross-entropy, forward and backward, best modes",
                to_keras["median"],
                1.0,
                "at most",
                ratio=to_keras,
            ),
            harness.target(
                "the literal formula's time over ours, best modes",
                literal["median"],
                2.5,
                "at least",
                ratio=literal,
            ),
            harness.target(
                "peak memory over the literal formula's, graph mode",
                share,
                1 / 3,
                "at most",
            ),
        ],
    }


def _modes(name: str) -> list[str]:
    return [f"{name}, graph", f"{name}, XLA"]


def _peak(name: str, shape: tuple[int, ...]) -> int:
    """Peak memory of a loss in graph mode, in a process of its own."""
    with harness.Worker(
        "benchmarks.loss:step",
        environment=harness.MEMORY_HANDED_BACK,
        name=name,
        shape=shape,
        jit_compile=False,
    ) as worker:
        return worker.peak_bytes()


def _beside_keras(
    shape: tuple[int, ...], rounds: int, environment: dict[str, str]
) -> dict[str, Any]:
    """Times ours and Keras' in processes of an environment."""
    with ExitStack() as stack:
        workers = {
            f"{name}, {'XLA' if xla else 'graph'}": stack.enter_context(
                harness.Worker(
                    "benchmarks.loss:step",
                    environment=environment,
                    name=name,
                    shape=list(shape),
                    jit_compile=xla,
                )
            )
            for name in ("ours", "keras")
            for xla in (False, True)
        }
        samples = harness.alternate(workers, rounds, warmups=3)
    return {
        "environment": environment,
        "cases": harness.described(samples),
        "ratio": harness.ratio(samples, _modes("ours"), _modes("keras")),
    }


def _limit(samples: harness.Samples, ours: str) -> dict[str, float]:
    """How far the loss is from reading the logits twice and writing them once."""
    copy, fresh, loss = (
        statistics.median(samples[name])
        for name in ("copy", "copy to fresh memory", ours)
    )
    limit = fresh + copy / 2
    return {"seconds": limit, "times_the_limit": loss / limit}
