"""Every loss on drawn batches: the literal formula or an error that explains itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import oracles
import pytest
import tensorflow as tf
from bad_input import Refused, answer_of, examples
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
    weight: Any = None


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    name = draw(st.sampled_from(sorted(LOSSES)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    axes = 2 if name == "lad" else draw(st.integers(1, 3))
    shape = (draw(st.integers(1, 3)), *(draw(st.integers(1, 5)) for _ in range(axes)))
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
    as_text = batch.dtype == "string"
    scores = tf.constant(batch.scores.astype("U8" if as_text else batch.dtype))
    labels = tf.constant(batch.labels)

    def both(labels: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(scores)
            value = loss(labels, scores, sample_weight=batch.weight)
        zero = tf.UnconnectedGradients.ZERO
        return value, tape.gradient(value, scores, unconnected_gradients=zero)

    if batch.in_graph:
        specs = [
            tf.TensorSpec([*[None] * (t.shape.rank - 1), *t.shape[-1:]], t.dtype)
            for t in (labels, scores)
        ]
        both = tf.function(both, input_signature=specs)
    value, gradient = both(labels, scores)
    floating = scores.dtype.is_floating
    return value.numpy(), gradient.numpy().astype(float) if floating else np.zeros(())


# --- Sound batches ---


@examples(60)
@given(
    batches(),
    st.sampled_from(["sparse", "axis", "one_hot"]),
    st.sampled_from(["uint8", "int64", "uint16", "float32"]),
)
def test_losses_equal_the_literal_formulas(batch: Batch, form: str, dtype: str) -> None:
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
    if name in ("level_set", "sum") or options.get("merge") == "logits":
        return None  # tests/energy/ has properties of the level set loss
    weights = np.array(options.get("class_weight") or [1.0] * p.shape[-1])
    costs = [cross_entropies(y, x, weights) for y, x in zip(labels, p, strict=True)]
    if name == "focal":
        even = np.ones_like(weights)
        doubt = 1 - np.exp(-cross_entropies(labels, p, even))
        return mean(
            options["alpha"] * doubt ** options["gamma"] * np.concatenate(costs)
        )
    rows = [*zip(labels, p, strict=True)]
    if name == "lad":
        own = {n: options[n] for n in ("patch_size", "stride", "sigma", "merge")}
        if (weights != 1).any():
            return None
        costs = [
            np.array(oracles.locally_adaptive_costs(y, x / x.sum(-1)[..., None], **own))
            for y, x in zip(np.where(labels == VOID, -1, labels), p, strict=True)
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


# --- Bad batches: each change returns what is expected ---

FOREIGN = (-1, 5, 254, 2**31, -(2**31), 2**32, 0.5, np.nan, np.inf, 6e4, 1.001)
JUNK: tuple[Any, ...] = ("other", {}, 1j, [[]], float("nan"))


def foreign_label(draw: st.DrawFn, batch: Batch) -> str:
    value = draw(st.sampled_from(FOREIGN))
    batch.labels = batch.labels.astype(np.float64)
    batch.labels.flat[-1] = value
    if float(value).is_integer():
        batch.labels = batch.labels.astype(np.int64)
    return "error"


def void_that_is_not_ignored(draw: st.DrawFn, batch: Batch) -> str:
    batch.labels.flat[-1] = VOID
    batch.options["ignore_class"] = draw(st.sampled_from([None, 254, -1]))
    return "error"


def soft_label(draw: st.DrawFn, batch: Batch) -> str:
    rows = [(0.5, 0.5), (1, 1), (-1, 1), (2, 0), (float("nan"), 0)]
    if batch.scores.shape[-1] == 1:
        return foreign_label(draw, batch)
    batch.labels = np.eye(batch.scores.shape[-1])[np.zeros_like(batch.labels)]
    batch.labels.reshape(-1, batch.labels.shape[-1])[-1, :2] = draw(
        st.sampled_from(rows)
    )
    return "error"


def other_shape(draw: st.DrawFn, batch: Batch) -> str:
    y, x = batch.labels, batch.scores
    larger = np.concatenate([y, y], draw(st.integers(0, y.ndim - 1)))
    labels = [larger, y[np.newaxis, ..., np.newaxis], y.reshape(-1), y.reshape(-1)[0]]
    scores = [x.reshape(-1), x.reshape(-1, 1), np.float64(0.5), x[..., :0]]
    pairs = [*((y, x) for y in labels), *((y, x) for x in scores)]
    batch.labels, batch.scores = map(np.asarray, draw(st.sampled_from(pairs)))
    return "error"


def other_dtype(draw: st.DrawFn, batch: Batch) -> str:
    batch.dtype = draw(st.sampled_from(["string", "complex64", "int32", "uint8"]))
    batch.scores = np.abs(np.rint(batch.scores)).clip(0, 1)
    return "error" if batch.dtype in ("string", "complex64") else "finite"


def nan_score(draw: st.DrawFn, batch: Batch) -> str:
    batch.labels.flat[0] = 0
    batch.scores.flat[0] = np.nan
    # A class outside the mean does not see it.
    return "nan" if batch.options.get("classes", "all") == "all" else "any"


def extreme_scores(draw: st.DrawFn, batch: Batch) -> str:
    largest = 6e4 if batch.dtype == "float16" else 1e30
    batch.options["from_logits"] = draw(st.booleans())
    scale = draw(st.floats(10, largest)) if batch.options["from_logits"] else 3.0
    batch.scores *= scale / np.abs(batch.scores).max()
    return "finite"


def other_weight(draw: st.DrawFn, batch: Batch) -> str:
    ones = np.ones(batch.labels.shape, np.float32)
    wrong = [np.ones(len(ones) + 1), ones[..., np.newaxis, np.newaxis], "heavy"]
    demand = draw(st.sampled_from(["error", "any", "finite"]))
    values = {"any": [np.nan, np.inf], "finite": [-1.0, 0.0]}.get(demand, [])
    batch.weight = draw(st.sampled_from([ones * v for v in values] or wrong))
    return demand


def other_option(draw: st.DrawFn, batch: Batch) -> str:
    own = {*batch.options, "reduction"} - {"squared", "normalize", "per_image"}
    if batch.name == "sum":
        own -= {"reduction"}
    batch.options[draw(st.sampled_from(sorted(own)))] = draw(st.sampled_from(JUNK))
    return "error"


CHANGES = (
    *(foreign_label, void_that_is_not_ignored, soft_label, other_shape, other_dtype),
    *(nan_score, extreme_scores, other_weight, other_option),
)


@examples(90)
@given(batches(), st.sampled_from(CHANGES), st.data())
def test_bad_batches_are_refused_or_answered(
    batch: Batch, change: Callable[..., str], data: st.DataObject
) -> None:
    demand = change(data.draw, batch)
    answer = answer_of(value_and_gradient, batch)
    if demand == "error":
        assert isinstance(answer, Refused), f"{change.__name__}: {answer}"
    elif demand == "finite":
        assert not isinstance(answer, Refused), f"{change.__name__}: {answer}"
        assert all(np.isfinite(values).all() for values in answer)
    elif demand == "nan" and not isinstance(answer, Refused):
        assert not np.isfinite(answer[0])
