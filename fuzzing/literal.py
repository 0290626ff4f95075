"""Losses of whole batches in float64, from the literal formulas of the tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import oracles
import tensorflow as tf

VOID = 255


def literal_loss(
    name: str,
    options: dict[str, Any],
    labels: np.ndarray,
    scores: np.ndarray,
    weight: Any = None,
) -> Any:
    """Returns what a loss of a sound batch is; None where there is no formula for it.

    Args:
        name: of `fuzzing.losses.NAMES`.
        options: of the loss, sound ones.
        labels: int (B, …), `VOID` on void.
        scores: float64 (B, …, C), or of one channel.
        weight: a number, or None; of arrays there is no formula.
    """
    if isinstance(weight, np.ndarray):
        return None
    if options.get("reduction", "sum_over_batch_size") != "sum_over_batch_size":
        return None
    p = _probabilities(scores, options["from_logits"])
    if name == "energy":
        return _energies(options, labels, p)
    value = _LITERAL[name](options, labels, p)
    return None if value is None else value * (1.0 if weight is None else weight)


def _probabilities(scores: np.ndarray, from_logits: bool) -> np.ndarray:
    if scores.shape[-1] == 1:
        other = np.zeros_like(scores) if from_logits else 1 - scores
        scores = np.concatenate([other, scores], axis=-1)
    return tf.nn.softmax(scores).numpy() if from_logits else scores


def _energies(
    options: dict[str, Any],
    labels: np.ndarray,
    p: np.ndarray,
    key: str = "class_weight",
) -> np.ndarray | None:
    """The energy of each row, (B,)."""
    kind = options["heaviside"]
    if kind == "hf" and np.abs(p - 0.5).min() < 1e-3:
        return None  # on either side, as rounding has it
    if kind == "logit":
        return (
            None if options["epsilon"] != 1 else _energies_of(options, labels, p, key)
        )
    return _energies_of(options, labels, p, key)


def _energies_of(
    options: dict[str, Any], labels: np.ndarray, p: np.ndarray, key: str
) -> np.ndarray:
    energies = []
    for y, x in zip(labels, p, strict=True):
        valid = y != VOID
        energy = oracles.image_energy(
            y[valid],
            tf.constant(x[valid], tf.float64),
            kind=options["heaviside"],
            normalization=options["normalization"],
            signed=options["signed"],
            class_weight=options[key],
            epsilon=options["epsilon"],
        )
        energies.append(float(energy))
    return np.array(energies)


def _rows(
    options: dict[str, Any], labels: np.ndarray, p: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What has sums of its own: the images, or the batch as one."""
    if options.get("per_image", True):
        return labels, p
    return labels.reshape(1, -1), p.reshape(1, -1, p.shape[-1])


def _level_set(options: dict[str, Any], labels: np.ndarray, p: np.ndarray) -> Any:
    energies = _energies(options, *_rows(options, labels, p))
    return None if energies is None else energies.mean()


def _cross_entropies(
    options: dict[str, Any], labels: np.ndarray, p: np.ndarray
) -> np.ndarray:
    """−log p of the true class of each valid pixel, times its class's weight, (n,)."""
    valid = labels != VOID
    ids = labels[valid]
    # As Keras has it, of probabilities that are made to add up to one.
    own = p[valid][np.arange(len(ids)), ids] / p[valid].sum(-1)
    return -np.log(own) * np.array(_weights(options, p))[ids]


def _weights(options: dict[str, Any], p: np.ndarray) -> Sequence[float]:
    return options.get("class_weight") or [1.0] * p.shape[-1]


def _cross_entropy_level_set(
    options: dict[str, Any], labels: np.ndarray, p: np.ndarray
) -> Any:
    cross_entropies = _cross_entropies(options, labels, p)
    total = cross_entropies.mean() if cross_entropies.size else 0.0
    if options["level_set_weight"] == 0:
        return total
    key = "level_set_class_weight"
    key = "class_weight" if options[key] is None else key
    energies = _energies(options, *_rows(options, labels, p), key)
    if energies is None:
        return None
    return total + options["level_set_weight"] * energies.mean()


def _focal(options: dict[str, Any], labels: np.ndarray, p: np.ndarray) -> Any:
    plain = _cross_entropies({}, labels, p)
    if not plain.size:
        return 0.0
    doubt = (1 - np.exp(-plain)) ** options["gamma"]
    return np.mean(options["alpha"] * doubt * _cross_entropies(options, labels, p))


def _max_pooling(options: dict[str, Any], labels: np.ndarray, p: np.ndarray) -> Any:
    values = []
    for y, x in zip(*_rows(options, labels, p), strict=True):
        costs = _cross_entropies(options, y, x)
        if costs.size > 20 or (costs.size and costs.max() < 1e-3):
            return None  # more than the general solver is good for
        values.append(
            oracles.max_pooling(costs, options["ratio"], options["p"])
            if costs.size
            else 0.0
        )
    return np.mean(values)


def _locally_adaptive(
    options: dict[str, Any], labels: np.ndarray, p: np.ndarray
) -> Any:
    if options["merge"] == "logits" or options["class_weight"] is not None:
        return None
    names = ("patch_size", "stride", "sigma", "merge")
    costs = [
        oracles.locally_adaptive_costs(
            np.where(y == VOID, -1, y), x, **{n: options[n] for n in names}
        )
        for y, x in zip(labels, p / p.sum(-1, keepdims=True), strict=True)
    ]
    pools = costs if options["per_image"] else [[c for image in costs for c in image]]
    k = options["k"]
    means = [np.mean(np.array(pool) ** k) ** (1 / k) if pool else 0.0 for pool in pools]
    return np.mean(means)


def _mean_over_classes(
    options: dict[str, Any],
    labels: np.ndarray,
    p: np.ndarray,
    of_classes: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> float:
    """The mean over rows of the mean over the classes that are asked for."""
    values = []
    for y, x in zip(labels, p, strict=True):
        if not (y != VOID).any():
            values.append(0.0)
            continue
        present = sorted(set(y[y != VOID].tolist()))
        everything = list(range(p.shape[-1]))
        wanted = options["classes"]
        chosen = {"present": present, "all": everything}.get(str(wanted), wanted)
        losses = np.array(of_classes(y, x)) * np.array(_weights(options, p))
        values.append(losses[chosen].mean())
    return float(np.mean(values))


def _dice(options: dict[str, Any], labels: np.ndarray, p: np.ndarray) -> Any:
    def of_classes(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        valid = y != VOID
        squared, smooth = options["squared"], options["smooth"]
        return np.array(oracles.dice_losses(y[valid], x[valid], squared, smooth))

    return _mean_over_classes(options, *_rows(options, labels, p), of_classes)


def _lovasz(options: dict[str, Any], labels: np.ndarray, p: np.ndarray) -> Any:
    def of_classes(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        valid = y != VOID
        return np.array(oracles.lovasz_losses(y[valid], x[valid]))

    return _mean_over_classes(options, *_rows(options, labels, p), of_classes)


def _boundary(options: dict[str, Any], labels: np.ndarray, p: np.ndarray) -> Any:
    def of_classes(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        distances = oracles.signed_distances(np.where(y == VOID, -1, y), x.shape[-1])
        if options["normalize"]:
            distances = distances / np.sqrt(np.sum(np.square(y.shape)))
        return (distances * x)[y != VOID].mean(axis=0)

    return _mean_over_classes(options, labels, p, of_classes)


def _active_contour(options: dict[str, Any], labels: np.ndarray, p: np.ndarray) -> Any:
    def of_classes(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        length, region = oracles.active_contour_losses(
            np.where(y == VOID, -1, y), x, mu=options["inside_weight"]
        )
        return options["length_weight"] * length + options["region_weight"] * region

    return _mean_over_classes(options, labels, p, of_classes)


_LITERAL: dict[str, Callable[[dict[str, Any], np.ndarray, np.ndarray], Any]] = {
    "level_set": _level_set,
    "cross_entropy_level_set": _cross_entropy_level_set,
    "focal": _focal,
    "lmp": _max_pooling,
    "lad": _locally_adaptive,
    "dice": _dice,
    "lovasz": _lovasz,
    "boundary": _boundary,
    "active_contour": _active_contour,
    "sum": lambda options, labels, p: (
        _focal({**options, "gamma": 2.0, "alpha": 0.25}, labels, p)
        + 0.5
        * _dice(
            {**options, "squared": False, "smooth": 0.0, "classes": "present"},
            labels,
            p,
        )
    ),
}


# --- Scores ---


def literal_confusion(
    labels: np.ndarray, predictions: np.ndarray, num_classes: int
) -> np.ndarray:
    """Counts pixels one by one: rows the truth, columns the predictions."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    for truth, predicted in zip(labels.ravel(), predictions.ravel(), strict=True):
        if truth != VOID:
            counts[truth, predicted] += 1
    return counts


def literal_scores(confusion: np.ndarray) -> dict[str, float]:
    """The scores of a confusion matrix, class by class; 0 where nothing is counted."""
    n, t = np.diag(confusion), confusion.sum(axis=1)
    union = t + confusion.sum(axis=0) - n
    classes = range(len(confusion))
    ious = [n[i] / union[i] for i in classes if union[i]]
    recalls = [n[i] / t[i] for i in classes if t[i]]
    total = int(confusion.sum()) or 1
    weighted = [t[i] * n[i] / union[i] for i in classes if union[i]]
    return {
        "MeanIoU": float(np.mean(ious)) if ious else 0.0,
        "PixelAccuracy": float(n.sum()) / total,
        "MeanAccuracy": float(np.mean(recalls)) if recalls else 0.0,
        "FrequencyWeightedIoU": float(np.sum(weighted)) / total,
    }


def literal_mean_of_ratios(pairs: np.ndarray) -> float:
    """The mean of the quotients whose denominator is not zero; 0 if there is none."""
    quotients = [a / b for a, b in pairs if b]
    return float(np.mean(quotients)) if quotients else 0.0
