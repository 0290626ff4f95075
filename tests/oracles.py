"""The paper's formulas written out literally in float64: what the code is held to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scipy import ndimage, optimize

EPSILON = 1 / 20
VOID = 255


def heaviside(name: str, z: tf.Tensor, epsilon: float = EPSILON) -> tf.Tensor:
    """H of Eq. 6 and Section 3.1, and the sigmoid of the log odds over ε."""
    if name == "mahf":
        return 0.5 * (1 + tf.tanh(z / epsilon))
    if name == "logit":
        p, k = z + 0.5, 1 / epsilon
        return p**k / (p**k + (1 - p) ** k)
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
        if normalization in ("correlation", "balanced"):
            between = tf.reduce_sum(h) * (1 - tf.reduce_mean(h))
            energy = 0 * energy
            if variance > 0:
                rho = (c1 - c2) * tf.sqrt(between / variance)
                energy = 1 - rho
                if normalization == "balanced":
                    energy = (energy + 1 - rho * tf.abs(rho)) / 2
                varied += 1
        energies.append(energy * (1.0 if class_weight is None else class_weight[l]))
    total = tf.add_n(energies) if energies else tf.reduce_sum(0 * probabilities)
    means = normalization in ("scale_free", "correlation", "balanced")
    return total / max(varied, 1) if means else total


def uncancelled_gradient(
    labels: np.ndarray,
    probabilities: np.ndarray,
    kind: str = "mahf",
    normalization: str = "sum",
) -> np.ndarray:
    """|Eq. 7| with its difference taken as a sum: the size of what is subtracted.

    Where c1 and c2 agree in all digits the gradient is a difference of equal numbers,
    which no float32 formula can know better than this times the rounding error. The
    root of the correlation has ½ √(T/V) in the place of c1 − c2.
    """
    n, classes = probabilities.shape
    truth = np.eye(classes)[labels]
    phi = probabilities - 0.5
    h = heaviside(kind, tf.constant(phi)).numpy()
    c1 = (truth * h).sum(0) / h.sum(0)
    c2 = (truth * (1 - h)).sum(0) / (1 - h).sum(0)
    if kind == "ahf":
        delta = EPSILON / np.pi / (EPSILON**2 + phi**2)
    else:
        delta = mahf_delta(phi)
    terms = delta * ((truth - c1) ** 2 + (truth - c2) ** 2)
    share = truth.mean(0)
    variance = n * share * (1 - share)
    if normalization in ("correlation", "balanced"):
        between = h.sum(0) * (1 - h.mean(0))
        root = np.sqrt(variance / np.where(between > 0, between, np.inf)) / 2
        of_root = delta * np.abs(2 * truth - c1 - c2) * root
        terms = of_root if normalization == "correlation" else (terms + of_root) / 2
    if normalization == "mean":
        return terms / n
    if normalization == "sum":
        return terms
    varied = variance > 0
    terms = np.where(varied, terms / np.where(varied, variance, 1), 0)
    return terms / max(varied.sum(), 1)


# --- The comparison losses: one image at a time, labels (…), −1 on void ---


def max_pooling(losses: np.ndarray, ratio: float, p: float) -> float:
    """The maximum that loss max-pooling is defined by, from a general solver.

    losses: (n,), the valid pixels only. In units of the bound τ, so u = w/τ:
    max τ Σ u ℓ subject to Σ u^p ≤ m and 0 ≤ u ≤ 1.
    """
    n, q = len(losses), p / (p - 1)
    m = max(int(ratio * n), 1)
    found = optimize.minimize(
        lambda u: -u @ losses,
        np.full(n, (m / n) ** (1 / p)),
        jac=lambda u: -losses,
        bounds=[(0, 1)] * n,
        constraints={
            "type": "ineq",
            "fun": lambda u: m - np.sum(np.abs(u) ** p),
            "jac": lambda u: -p * np.sign(u) * np.abs(u) ** (p - 1),
        },
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    return -found.fun * n ** (-1 / q) * m ** (-1 / p)


def locally_adaptive_costs(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    patch_size: int,
    stride: int,
    sigma: float,
    merge: str,
) -> list[float]:
    """Costs of the patches of one image, by loops over centres and windows.

    scores: (H, W, C), what is merged: logits or probabilities.
    """
    height, width = labels.shape
    half, costs = patch_size // 2, []
    for y in range(0, height, stride):
        for x in range(0, width, stride):
            label = labels[y, x]
            if label < 0:
                continue
            merged, m = np.zeros(scores.shape[-1]), 0
            for v in range(max(y - half, 0), min(y + half + 1, height)):
                for u in range(max(x - half, 0), min(x + half + 1, width)):
                    if labels[v, u] == label:
                        distance = max(abs(v - y), abs(u - x))
                        weight = np.exp(-(distance**2) / (2 * sigma**2))
                        merged += weight * scores[v, u]
                        m += 1
            merged /= m
            if merge == "logits":
                merged = np.exp(merged - merged.max())
            costs.append(-np.log(merged[label] / merged.sum()))
    return costs


def dice_losses(
    labels: np.ndarray, probabilities: np.ndarray, squared: bool, smooth: float
) -> list[float]:
    """One minus soft Dice of each class; pixels (n,) and (n, C), all valid."""
    losses = []
    for label in range(probabilities.shape[-1]):
        p, g = probabilities[:, label], (labels == label).astype(float)
        total = np.sum(p**2 if squared else p) + np.sum(g) + smooth
        losses.append(1 - (2 * np.sum(p * g) + smooth) / total if total else 0.0)
    return losses


def lovasz_losses(labels: np.ndarray, probabilities: np.ndarray) -> list[float]:
    """Lovász extension of each class's Jaccard loss, a function of the set of errors.

    Pixels (n,) and (n, C), all valid. Berman et al. 2018, Eq. 6, 8 and 9.
    """

    def jaccard_loss(truth: set[int], wrong: set[int]) -> float:
        union = truth | wrong
        return len(wrong) / len(union) if union else 0.0

    losses = []
    for label in range(probabilities.shape[-1]):
        truth = {i for i, l in enumerate(labels) if l == label}  # noqa: E741
        errors = [
            1 - p if i in truth else p for i, p in enumerate(probabilities[:, label])
        ]
        total, wrong = 0.0, set[int]()
        for i in sorted(range(len(errors)), key=lambda i: -errors[i]):
            before = jaccard_loss(truth, wrong)
            wrong.add(i)
            total += errors[i] * (jaccard_loss(truth, wrong) - before)
        losses.append(total)
    return losses


def signed_distances(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Signed distances (…, C) to the classes' boundaries, from all pairs of pixels."""
    maps = np.zeros((*labels.shape, num_classes))
    places = [np.array(place) for place in np.ndindex(labels.shape)]
    for label in range(num_classes):
        inside = [p for p in places if labels[tuple(p)] == label]
        outside = [p for p in places if labels[tuple(p)] not in (label, -1)]
        if not inside or not outside:
            continue
        for p in inside:
            nearest = min(np.linalg.norm(p - o) for o in outside)
            maps[..., label][tuple(p)] = 1 - nearest
        for p in outside:
            nearest = min(np.linalg.norm(p - i) for i in inside)
            maps[..., label][tuple(p)] = nearest
    return maps


def active_contour_losses(
    labels: np.ndarray, probabilities: np.ndarray, mu: float
) -> tuple[np.ndarray, np.ndarray]:
    """Length and region of each class, each (C,), means over the valid pixels."""
    classes = probabilities.shape[-1]
    length, region = np.zeros(classes), np.zeros(classes)
    valid = labels >= 0
    for place in np.ndindex(labels.shape):
        if not valid[place]:
            continue
        for label in range(classes):
            of_class = probabilities[..., label]
            u, v = of_class[place], float(labels[place] == label)
            squares = 0.0
            for axis in range(labels.ndim):
                step = list(place)
                step[axis] += 1
                if step[axis] < labels.shape[axis] and valid[tuple(step)]:
                    squares += (of_class[tuple(step)] - u) ** 2
            length[label] += np.sqrt(squares + 1e-8)
            region[label] += mu * u * (v - 1) ** 2 + (1 - u) * (v - 0) ** 2
    return length / valid.sum(), region / valid.sum()


# --- Metrics of boundaries and small objects, their definitions as they are read ---


def boundary_region(mask: Any, neutral: Any, ratio: float) -> Any:
    """Cheng et al.: the mask without its erosion, d times a 3×3 square.

    Zeros are put around it, so that the picture's border is outside the mask.
    """
    depth = max(1, round(ratio * math.sqrt(mask.shape[0] ** 2 + mask.shape[1] ** 2)))
    padded = np.pad(mask | neutral, 1)
    eroded = ndimage.binary_erosion(padded, np.ones((3, 3)), depth)[1:-1, 1:-1]
    return mask & ~eroded


def boundary_counts(
    labels: Any, predictions: Any, num_classes: int, ratio: float, void: int = VOID
) -> Any:
    unknown = labels == void
    counts = []
    for index in range(num_classes):
        truth = boundary_region((labels == index) & ~unknown, unknown, ratio)
        predicted = boundary_region((predictions == index) & ~unknown, unknown, ratio)
        counts.append([(truth & predicted).sum(), (truth | predicted).sum()])
    return np.array(counts)


def boundary_distance(labels: Any, row: int, column: int, boundaries: str) -> float:
    """Distance from a pixel to the nearest of another label, one by one."""
    distance = math.inf
    for (y, x), other in np.ndenumerate(labels):
        is_other = {
            "all": other != labels[row, column],
            "class": other not in (labels[row, column], VOID),
            "void": other == VOID,
        }[boundaries]
        if is_other:
            distance = min(distance, math.hypot(y - row, x - column))
    return distance


def trimap_confusion(
    labels: Any, predictions: Any, num_classes: int, width: float, boundaries: str
) -> Any:
    confusion = np.zeros((num_classes, num_classes), int)
    for (row, column), label in np.ndenumerate(labels):
        if label == VOID:
            continue
        if boundary_distance(labels, row, column, boundaries) <= width:
            confusion[label, predictions[row, column]] += 1
    return confusion


def small_objects(
    labels: Any,
    predictions: Any,
    num_classes: int,
    max_share: float,
    hit: float = 0.5,
    min_pixels: int = 1,
) -> Any:
    counts = np.zeros((num_classes, 2), int)
    for index in range(num_classes):
        objects, number = ndimage.label(labels == index, np.ones((3, 3)))
        for one in range(1, number + 1):
            pixels = objects == one
            area = pixels.sum()
            if area < min_pixels or area / labels.size >= max_share:
                continue
            counts[index, 1] += 1
            counts[index, 0] += (predictions[pixels] == index).sum() / area >= hit
    return counts
