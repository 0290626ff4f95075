"""Losses that one would try instead of the level set loss, ours and other people's.

Forward and backward on the same made-up logits, without void, which not every peer can
leave out. Ours and Keras' run in TensorFlow, in graph mode and compiled by XLA; MONAI's
and segmentation_models.pytorch's (SMP) in PyTorch eager on as many threads, in
processes of their own, on tensors in PyTorch's layout. Eager is what users of these
losses get by default; torch.compile needs a C++ compiler at run time. The options are
those that make the values equal, and the values are compared before anything is timed.

- Dice: MONAI's takes the sums of each picture and the mean over pictures and classes,
  ours with per_image=True. SMP's takes the sums of the batch, as ours does with
  per_image=False and Keras' with axis=(0, 1, 2). Keras' wants one-hot labels and
  probabilities: what makes them of labels and logits is part of its time.
- Lovász: SMP's and ours, over the batch and the classes present.
- Focal: MONAI's with the softmax is a mean over pixels and classes, hence ours over C.
  SMP's is the mean of C binary losses over sigmoids: another value, of the same use.
- Active contour: no package has it. The peer is the paper's formula, written literally
  in Keras' operations (`literal_active_contour`), with the mean over pixels and classes
  instead of the sum, and the length's floor of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from benchmarks import harness
from benchmarks.gradients import Loss, value_and_gradient
from benchmarks.torch_losses import LOSSES, THREADS, batch, loss_and_gradient
from tf_levelset import CrossEntropyLevelSetLoss
from tf_levelset import losses as own_losses

MODES: dict[str, dict[str, Any]] = {"graph": {}, "XLA": {"jit_compile": True}}
CLASSES = 21
PAIRS = {
    "Dice, a picture": ["MONAI, Dice"],
    "Dice, the batch": ["SMP, Dice", "Keras, Dice"],
    "Lovász": ["SMP, Lovász"],
    "focal": ["MONAI, focal", "SMP, focal"],
    "active contour": ["literal, active contour"],
}
"""What of ours stands beside which peers."""
FACTORS = {"MONAI, focal": CLASSES}
"""What a peer's value is multiplied by to be ours."""
OTHER_VALUES = ("SMP, focal",)
LEVEL_BOUND = 1.0
TOLERANCE = 1e-3
"""Of values: under XLA a mean over the pixels in float32 is off by 1e-4."""
SQUARED_LENGTH_FLOOR = 1e-8


@dataclass(frozen=True)
class Work:
    """What is timed, and the value it finds."""

    run: Callable[[], float | None]
    value: Callable[[], float]


def measure(quick: bool) -> dict[str, Any]:
    """Measures every loss beside its peers, and CE + LS beside all of them."""
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    shape = (1, 65, 65, CLASSES) if quick else (2, 321, 321, CLASSES)
    with ExitStack() as stack:
        works = {**in_tensorflow(shape), **in_torch(shape, stack)}
        cases = {name: work.run for name, work in works.items()}
        for run in cases.values():
            run()
        values = {name: work.value() for name, work in works.items()}
        differences = check_values(values)
        samples = harness.alternate(
            cases, rounds=3 if quick else 12, warmups=1 if quick else 2
        )
    return {
        "sizes": {"logits": list(shape)},
        "cases": {
            name: {"seconds": seconds, "value": values[name]} | harness.summary(seconds)
            for name, seconds in samples.items()
        },
        "targets": [
            target(samples, ours, peer)
            for ours, peers in PAIRS.items()
            for peer in peers
        ],
        "level_set_beside": {
            peer: harness.ratio(samples, in_modes("CE + LS"), in_modes(peer))["median"]
            for peer in [*LOSSES, "Keras, Dice", "literal, active contour"]
        },
        "relative_differences_of_values": differences,
    }


def in_modes(name: str) -> list[str]:
    """Returns the cases that a loss is timed as."""
    return [name] if name in LOSSES else [f"{name}, {mode}" for mode in MODES]


def target(samples: harness.Samples, ours: str, peer: str) -> dict[str, Any]:
    """Holds one of our losses to a peer, best modes of both."""
    found = harness.ratio(samples, in_modes(f"ours, {ours}"), in_modes(peer))
    eager = ", PyTorch eager" if peer in LOSSES else ""
    name = f"time of our loss over the peer's, {ours}: {peer}{eager}"
    return harness.target(name, found["median"], LEVEL_BOUND, "at most", **found)


def check_values(values: dict[str, float]) -> dict[str, float]:
    """Compares every peer's value with ours, relatively; raises where they differ."""
    differences = {}
    for ours, peers in PAIRS.items():
        expected = values[f"ours, {ours}, graph"]
        names = in_modes(f"ours, {ours}") + [n for p in peers for n in in_modes(p)]
        for name in names:
            if name in OTHER_VALUES:
                continue
            found = values[name] * FACTORS.get(name, 1)
            differences[name] = abs(found / expected - 1)
    wrong = {name: d for name, d in differences.items() if d > TOLERANCE}
    if wrong:
        raise ValueError(f"Expected equal values. Received: differences of {wrong}")
    return differences


# --- In TensorFlow ---


def in_tensorflow(shape: Sequence[int]) -> dict[str, Work]:
    """Returns our losses and Keras' in every mode, on the batch."""
    labels, logits = (tf.constant(array) for array in batch(tuple(shape)))
    losses = {**our_losses(), "Keras, Dice": keras_dice}
    losses["literal, active contour"] = literal_active_contour
    return {
        f"{name}, {mode}": tensorflow_work(loss, labels, logits, options)
        for name, loss in losses.items()
        for mode, options in MODES.items()
    }


def our_losses() -> dict[str, Loss]:
    """Returns ours by name, with the options that make the peers equal."""
    return {
        "ours, Dice, a picture": own_losses.DiceLoss(from_logits=True),
        "ours, Dice, the batch": own_losses.DiceLoss(per_image=False, from_logits=True),
        "ours, Lovász": own_losses.LovaszSoftmaxLoss(from_logits=True),
        "ours, focal": own_losses.FocalLoss(alpha=1.0, from_logits=True),
        "ours, active contour": own_losses.ActiveContourLoss(from_logits=True),
        "CE + LS": CrossEntropyLevelSetLoss(
            0.67, normalization="mean", from_logits=True
        ),
    }


def tensorflow_work(
    loss: Loss, labels: tf.Tensor, logits: tf.Tensor, options: dict[str, Any]
) -> Work:
    """Returns loss and gradient as a compiled function, waited for."""
    both = value_and_gradient(loss, options.get("jit_compile"))

    def run() -> None:
        value, _ = both(labels, logits)
        value.numpy()

    return Work(run, lambda: float(both(labels, logits)[0]))


def keras_dice(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    """Keras' Dice, a mean over the classes; labels (B, H, W), logits (B, H, W, C)."""
    loss = keras.losses.Dice(axis=(0, 1, 2))
    return loss(ops.one_hot(y_true, y_pred.shape[-1]), ops.softmax(y_pred))


def literal_active_contour(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    """The active contour loss of Chen et al. (2019), Eq. 10 to 12, as it is printed.

    Length plus region with λ = μ = 1, c1 = 1 and c2 = 0, of each class's probability
    map; differences to the next pixel, zero at the border.

    Args:
        y_true: int32 (B, H, W).
        y_pred: logits, float32 (B, H, W, C).

    Returns:
        The scalar mean over pixels and classes.
    """
    u = ops.softmax(y_pred)
    v = ops.one_hot(y_true, y_pred.shape[-1])
    down = ops.pad(u[:, 1:] - u[:, :-1], [[0, 0], [0, 1], [0, 0], [0, 0]])
    right = ops.pad(u[:, :, 1:] - u[:, :, :-1], [[0, 0], [0, 0], [0, 1], [0, 0]])
    length = ops.sqrt(ops.square(down) + ops.square(right) + SQUARED_LENGTH_FLOOR)
    region = u * ops.square(v - 1) + (1 - u) * ops.square(v - 0)
    return ops.mean(length + region)


# --- In PyTorch ---


def in_torch(shape: Sequence[int], stack: ExitStack) -> dict[str, Work]:
    """Returns PyTorch's losses, each a process that ends with the stack."""
    factory = f"{loss_and_gradient.__module__}:{loss_and_gradient.__name__}"
    works = {}
    for name in LOSSES:
        worker = harness.Worker(factory, name=name, shape=list(shape))
        stack.enter_context(worker)
        works[name] = Work(worker, partial(last_value, worker))
    return works


def last_value(worker: harness.Worker) -> float:
    """Returns the loss that a worker found when it last ran."""
    return float(worker.details["loss"])
