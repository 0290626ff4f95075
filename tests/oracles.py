"""The paper's formulas written out literally in float64: what the code is held to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

EPSILON = 1 / 20


def heaviside(name: str, z: tf.Tensor, epsilon: float = EPSILON) -> tf.Tensor:
    """H of Eq. 6 and Section 3.1."""
    if name == "mahf":
        return 0.5 * (1 + tf.tanh(z / epsilon))
    if name == "ahf":
        return 0.5 * (1 + 2 / np.pi * tf.atan(z / epsilon))
    return tf.cast(z >= 0, z.dtype)


def mahf_delta(z: np.ndarray, epsilon: float = EPSILON) -> np.ndarray:
    """δ* of Eq. 7."""
    return (1 - np.tanh(z / epsilon)) * (1 + np.tanh(z / epsilon)) / (2 * epsilon)


def image_energy(
    labels: np.ndarray,
    probabilities: tf.Tensor,
    *,
    kind: str = "mahf",
    normalization: str = "sum",
    signed: bool = False,
    class_weight: Sequence[float] | None = None,
    epsilon: float = EPSILON,
) -> tf.Tensor:
    """Eq. 4 and 5 of one image, pixel by pixel and class by class.

    labels: int (n,), the valid pixels only; probabilities: float64 (n, C).
    """
    n = len(labels)
    energies, varied = [], 0
    for l in sorted(set(labels.tolist())):  # noqa: E741 - the paper's letter
        truth = tf.constant(labels == l, tf.float64)
        h = heaviside(kind, probabilities[:, l] - 0.5, epsilon)
        outside = 1 - h
        # HF can leave a region empty; an empty sum contributes nothing.
        c1 = tf.math.divide_no_nan(tf.reduce_sum(truth * h), tf.reduce_sum(h))
        c2 = tf.math.divide_no_nan(
            tf.reduce_sum(truth * outside), tf.reduce_sum(outside)
        )
        energy = tf.reduce_sum((truth - c1) ** 2 * h + (truth - c2) ** 2 * outside)
        share = np.mean(labels == l)
        variance = n * share * (1 - share)
        if signed and c1 < c2:
            energy = 2 * variance - energy
        if normalization == "mean":
            energy = energy / n
        if normalization == "scale_free":
            energy = energy / variance if variance > 0 else 0 * energy
            varied += variance > 0
        energies.append(energy * (1.0 if class_weight is None else class_weight[l]))
    total = tf.add_n(energies) if energies else tf.reduce_sum(0 * probabilities)
    return total / max(varied, 1) if normalization == "scale_free" else total


def uncancelled_gradient(
    labels: np.ndarray, probabilities: np.ndarray, kind: str = "mahf"
) -> np.ndarray:
    """|Eq. 7| with its difference taken as a sum: the size of what is subtracted.

    Where c1 and c2 agree in all digits the gradient is a difference of equal numbers,
    which no float32 formula can know better than this times the rounding error.
    """
    classes = probabilities.shape[-1]
    truth = np.eye(classes)[labels]
    phi = probabilities - 0.5
    h = heaviside(kind, tf.constant(phi)).numpy()
    c1 = (truth * h).sum(0) / h.sum(0)
    c2 = (truth * (1 - h)).sum(0) / (1 - h).sum(0)
    if kind == "ahf":
        delta = EPSILON / np.pi / (EPSILON**2 + phi**2)
    else:
        delta = mahf_delta(phi)
    return delta * ((truth - c1) ** 2 + (truth - c2) ** 2)
