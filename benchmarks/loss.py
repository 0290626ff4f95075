"""The loss, forward and backward, over Keras' cross-entropy and the literal formula.

Logits (4, 321, 321, 21), as a DeepLab at full resolution returns them for a batch of
four, and labels of 21 classes in patches, 3 % of them void.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tf_levelset
from benchmarks import harness
from benchmarks.literal import VOID, WEIGHT, literal_loss

SHAPE, QUICK_SHAPE = (4, 321, 321, 21), (2, 65, 65, 5)
MODES = {"graph": False, "XLA": True}
COMMON: dict[str, Any] = {"from_logits": True, "ignore_class": VOID}

LOSSES: dict[str, Callable[[], Any]] = {
    "paper": lambda: tf_levelset.CrossEntropyLevelSetLoss(
        WEIGHT, normalization="mean", **COMMON
    ),
    "balanced": lambda: tf_levelset.CrossEntropyLevelSetLoss(
        12.0, normalization="balanced", heaviside="logit", epsilon=1.0, **COMMON
    ),
    "Keras' CE": lambda: keras.losses.SparseCategoricalCrossentropy(**COMMON),
    "literal": lambda: literal_loss,
}


def measure(quick: bool) -> dict[str, Any]:
    """Measures time in the best mode of each loss, and peak memory in graph mode.

    Args:
        quick: Whether small logits and few rounds will do, to see that it runs.

    Returns:
        `sizes`, `cases` and `targets`, see `benchmarks`.
    """
    shape = QUICK_SHAPE if quick else SHAPE
    cases = {
        f"{name}, {mode}": step(name, shape, compiles)
        for name in LOSSES
        for mode, compiles in MODES.items()
    }
    samples = harness.alternate(cases, rounds=3 if quick else 31, warmups=3)
    memory = {name: peak_bytes(name, shape) for name in ("paper", "literal")}
    return {
        "sizes": {"logits": list(shape), "void": "one row in 32"},
        "cases": harness.described(samples),
        "targets": [
            *(
                harness.ratio_target(
                    f"CE + LS ({name}) over Keras' CE, best modes",
                    harness.ratio(samples, modes_of(name), modes_of("Keras' CE")),
                    1.0,
                )
                for name in ("paper", "balanced")
            ),
            harness.ratio_target(
                "CE + LS (paper) over the literal formula, best modes",
                harness.ratio(samples, modes_of("paper"), modes_of("literal")),
                0.4,
            ),
            harness.target(
                "Peak memory of CE + LS over the literal formula's, graph mode",
                memory["paper"] / memory["literal"],
                1 / 3,
            ),
        ],
    }


def modes_of(name: str) -> list[str]:
    """Returns the names of a loss's cases."""
    return [f"{name}, {mode}" for mode in MODES]


def step(name: str, shape: Sequence[int], jit_compile: bool) -> Callable[[], None]:
    """Returns a function that takes a loss forward and backward once.

    Args:
        name: One of `LOSSES`.
        shape: Shape of the logits.
        jit_compile: Whether XLA compiles the whole of it.
    """
    loss = LOSSES[name]()
    labels, logits = (tf.constant(array) for array in batch(shape))

    @tf.function(jit_compile=jit_compile)
    def both(labels: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    def run() -> None:
        both(labels, logits)

    return run


def batch(shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels in patches, int32 (B, H, W), and logits halfway to them."""
    rng = np.random.default_rng(0)
    batch, height, width, classes = shape
    patches = rng.normal(size=(batch, height // 25 + 2, width // 25 + 2, classes))
    field = tf.image.resize(patches.astype(np.float32), (height, width)).numpy()
    labels = field.argmax(-1).astype(np.int32)
    labels[:, ::32] = VOID
    noise = rng.normal(size=shape).astype(np.float32)
    return labels, 3 * field + noise


def peak_bytes(name: str, shape: Sequence[int]) -> int:
    """Returns the peak memory of a loss in graph mode, in a process of its own.

    With oneDNN, TensorFlow keeps a pool of memory, which would hide the peak.
    """
    code = (
        "from benchmarks import harness, loss\n"
        f"print(harness.peak_memory(loss.step({name!r}, {tuple(shape)}, False)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=harness.ROOT,
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return int(output.split()[-1])
