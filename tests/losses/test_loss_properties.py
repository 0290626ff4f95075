"""Every loss on drawn batches: the value is that of the literal formula in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import oracles
import pytest
import tensorflow as tf
from bad_input import examples
from hypothesis import given
from hypothesis import strategies as st

from tf_levelset.losses import (
    ActiveContourLoss,
    BoundaryLoss,
    CrossEntropyLevelSetLoss,
    DiceLoss,
    FocalLoss,
    LocallyAdaptiveLoss,
    LossMaxPooling,
    LossSum,
    LovaszSoftmaxLoss,
)

VOID = 255
LOSSES: dict[str, Callable[..., Any]] = {
    "focal": FocalLoss,
    "lmp": LossMaxPooling,
    "lad": LocallyAdaptiveLoss,
    "dice": DiceLoss,
    "lovasz": LovaszSoftmaxLoss,
    "boundary": BoundaryLoss,
    "active_contour": ActiveContourLoss,
    "level_set": CrossEntropyLevelSetLoss,
    "sum": lambda **o: LossSum([FocalLoss(**o), DiceLoss(**o)], weights=[1.0, 0.5]),
}

ROWS: dict[str, list[Any]] = {"per_image": [True, False]}
CLASSES: dict[str, list[Any]] = {"classes": ["present", "all", [0], [1, 0]]}
OPTIONS: dict[str, dict[str, list[Any]]] = {
    "level_set": {
        "heaviside": ["mahf", "ahf", "hf", "logit"],
        "epsilon": [1 / 20, 1 / 60, 0.5, 1.0],
        "normalization": ["sum", "mean", "scale_free", "correlation", "balanced"],
        "level_set_weight": [0.0, 4e-4, 0.67, 5.0],
        "signed": [False],
        **ROWS,
    },
    "focal": {"gamma": [0.0, 0.5, 2.0, 5.0], "alpha": [0.25, 1.0]},
    "lmp": {"ratio": [0.05, 0.3, 1.0], "p": [1.3, 1.7, 3.0], **ROWS},
    "lad": {
        "patch_size": [1, 3, 5],
        "stride": [1, 2, 7],
        "sigma": [0.3, 1.0],
        "k": [1.0, 5.0, 20.0],
        "merge": ["logits", "probabilities"],
        **ROWS,
    },
    "dice": {"squared": [True, False], "smooth": [0.0, 1.0], **ROWS, **CLASSES},
    "lovasz": {**ROWS, **CLASSES},
    "boundary": {"normalize": [True, False], **CLASSES},
    "active_contour": {
        "length_weight": [0.0, 0.3, 1.0],
        "region_weight": [0.0, 2.0],
        "inside_weight": [0.0, 0.6],
        **CLASSES,
    },
    "sum": {},
}


@dataclass
class Batch:
    """What a loss is given: labels (B, …) and scores (B, …, C), in float64."""

    name: str
    options: dict[str, Any]
    labels: np.ndarray
    scores: np.ndarray
    dtype: str
    in_graph: bool


@st.composite
def batches(draw: st.DrawFn, name: str) -> Batch:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    axes = 2 if name == "lad" else draw(st.integers(1, 3))
    # Small volumes: some formulas compare all pairs of pixels.
    sizes = st.integers(1, 3 if axes == 3 else 5)
    shape = (draw(st.integers(1, 3)), *(draw(sizes) for _ in range(axes)))
    classes = draw(st.integers(2, 5))
    labels = rng.integers(0, draw(st.sampled_from([1, 2, classes])), shape)
    labels[rng.random(shape) < draw(st.sampled_from([0, 0, 0.2, 0.9, 1]))] = VOID
    options = {n: draw(st.sampled_from(v)) for n, v in OPTIONS[name].items()}
    if name != "sum" and draw(st.booleans()):
        options["class_weight"] = rng.uniform(0, 3, classes).tolist()
    options |= {"ignore_class": VOID, "from_logits": draw(st.booleans())}
    dtype = draw(st.sampled_from(["float32", "float32", "float64", "float16"]))
    if dtype == "float64" and name != "sum":
        options["dtype"] = "float64"
    scores = draw(st.sampled_from([0.1, 1.0, 3.0])) * rng.normal(size=(*shape, classes))
    if not options["from_logits"]:
        scores = tf.nn.softmax(scores).numpy()
    if classes == 2 and draw(st.booleans()):
        # One channel: the softmax of (0, z) is the sigmoid of z.
        scores = scores[..., 1:]
    scores = scores.astype(dtype).astype(np.float64)
    return Batch(name, options, labels, scores, dtype, draw(st.integers(0, 9)) == 0)


def value_and_gradient(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Returns the loss and its gradient, where `in_graph` with unknown sizes."""
    loss = LOSSES[batch.name](**batch.options)
    scores = tf.constant(batch.scores.astype(batch.dtype))
    labels = tf.constant(batch.labels)

    def both(labels: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(scores)
            value = loss(labels, scores)
        zero = tf.UnconnectedGradients.ZERO
        return value, tape.gradient(value, scores, unconnected_gradients=zero)

    if batch.in_graph:
        specs = [
            tf.TensorSpec([*[None] * (t.shape.rank - 1), *t.shape[-1:]], t.dtype)
            for t in (labels, scores)
        ]
        both = tf.function(both, input_signature=specs)
    value, gradient = both(labels, scores)
    return value.numpy(), gradient.numpy().astype(float)


# --- Sound batches ---


@pytest.mark.parametrize("name", sorted(LOSSES))
@examples(20)
@given(
    data=st.data(),
    form=st.sampled_from(["sparse", "axis", "one_hot"]),
    dtype=st.sampled_from(["uint8", "int64", "uint16", "float32"]),
    on_void=st.sampled_from([1.0, np.nan]),
)
def test_losses_equal_the_literal_formulas(
    name: str, data: st.DataObject, form: str, dtype: str, on_void: float
) -> None:
    batch = data.draw(batches(name))
    batch.scores[batch.labels == VOID] *= on_void
    ids, channels = batch.labels, batch.scores.shape[-1]
    if form == "axis":
        batch.labels = ids[..., np.newaxis]
    elif form == "one_hot" and channels > 1:
        batch.labels = ids[..., np.newaxis] == np.arange(channels)
    batch.labels = batch.labels.astype(dtype)
    value, gradient = value_and_gradient(batch)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    expected = literal_loss(batch.name, batch.options, ids, probabilities(batch))
    if expected is not None:
        # Losses are computed in float32; their terms are of the order of one.
        assert value == pytest.approx(expected, rel=2e-5, abs=2e-6)


def probabilities(batch: Batch) -> np.ndarray:
    scores, from_logits = batch.scores, batch.options["from_logits"]
    if scores.shape[-1] == 1:
        other = 0 * scores if from_logits else 1 - scores
        scores = np.concatenate([other, scores], axis=-1)
    return tf.nn.softmax(scores).numpy() if from_logits else scores


def literal_loss(name: str, options: dict[str, Any], labels: Any, p: Any) -> Any:
    """The loss of a batch in float64; None where `oracles` has no formula for it."""
    if name == "sum" or options.get("merge") == "logits":
        return None  # test_locally_adaptive.py holds merged logits to loops
    weights = np.array(options.get("class_weight") or [1.0] * p.shape[-1])
    costs = [cross_entropies(y, x, weights) for y, x in zip(labels, p, strict=True)]
    if name == "focal":
        even = np.ones_like(weights)
        doubt = 1 - np.exp(-cross_entropies(labels, p, even))
        return mean(
            options["alpha"] * doubt ** options["gamma"] * np.concatenate(costs)
        )
    rows = [*zip(labels, p, strict=True)]
    if name == "level_set":
        if not options["per_image"]:
            rows = [(labels, p)]
        energies = [energy(options, y, x) for y, x in rows]
        cost = mean(np.concatenate(costs))
        return cost + options["level_set_weight"] * mean(energies)
    if name == "lad":
        own = {n: options[n] for n in ("patch_size", "stride", "sigma", "merge")}
        if (weights != 1).any():
            return None
        merged = p / p.sum(-1, keepdims=True)
        ids = np.where(labels == VOID, -1, labels)
        costs = [
            np.array(oracles.locally_adaptive_costs(y, x, **own))
            for y, x in zip(ids, merged, strict=True)
        ]
    if not options.get("per_image", True):
        rows = [(labels.reshape(-1), p.reshape(-1, p.shape[-1]))]
        costs = [np.concatenate(costs)]
    if name == "lad":
        k = options["k"]
        return mean([mean(pool**k) ** (1 / k) for pool in costs])
    if name == "lmp":
        if any(len(pool) > 20 or pool.max(initial=1) < 1e-3 for pool in costs):
            return None  # beyond the general solver's accuracy
        own = {n: options[n] for n in ("ratio", "p")}
        return mean([oracles.max_pooling(c, **own) if len(c) else 0.0 for c in costs])
    return mean([loss_of_classes(name, options, weights, *row) for row in rows])


def energy(options: dict[str, Any], y: Any, p: Any) -> float:
    """The level set energy of one row."""
    value = oracles.image_energy(
        y[y != VOID],
        tf.constant(p[y != VOID], tf.float64),
        kind=options["heaviside"],
        normalization=options["normalization"],
        class_weight=options.get("class_weight"),
        epsilon=options["epsilon"],
    )
    return float(value)


def mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def cross_entropies(y: Any, p: Any, weights: np.ndarray) -> np.ndarray:
    """−log p of each valid pixel's class, weighted, (n,)."""
    ids, p = y[y != VOID], p[y != VOID]
    # Keras too divides probabilities by their sum.
    return -np.log(p[np.arange(len(ids)), ids] / p.sum(-1)) * weights[ids]


def loss_of_classes(
    name: str, options: dict[str, Any], weights: np.ndarray, y: Any, p: Any
) -> float:
    """The mean over the chosen classes of one row's losses."""
    valid, losses = y != VOID, np.zeros(0)
    if not valid.any():
        return 0.0
    if name == "dice":
        squared, smooth = options["squared"], options["smooth"]
        losses = np.array(oracles.dice_losses(y[valid], p[valid], squared, smooth))
    elif name == "lovasz":
        losses = np.array(oracles.lovasz_losses(y[valid], p[valid]))
    elif name == "boundary":
        distances = oracles.signed_distances(np.where(valid, y, -1), p.shape[-1])
        diagonal = np.sqrt(np.sum(np.square(y.shape))) if options["normalize"] else 1
        losses = (distances / diagonal * p)[valid].mean(axis=0)
    elif name == "active_contour":
        ids, mu = np.where(valid, y, -1), options["inside_weight"]
        length, region = oracles.active_contour_losses(ids, p, mu)
        losses = options["length_weight"] * length + options["region_weight"] * region
    known = {"present": np.unique(y[valid]), "all": range(p.shape[-1])}
    chosen = known.get(str(options["classes"]), options["classes"])
    return mean((losses * weights)[np.array(chosen)])
