"""Metrics refuse what they cannot count, with an error that explains itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from bad_input import Refused, answer_of, examples
from hypothesis import given
from hypothesis import strategies as st

import tf_levelset

VOID, CLASSES = 255, 3
OPTIONS: dict[str, dict[str, list[Any]]] = {
    "MeanIoU": {},
    "PixelAccuracy": {},
    "MeanAccuracy": {},
    "FrequencyWeightedIoU": {},
    "BoundaryIoU": {"ratio": [0.001, 0.1, 0.4, 3.0]},
    "TrimapIoU": {"width": [1, 2.5, 1024], "boundaries": ["all", "class", "void"]},
    "SmallObjectRecall": {
        "max_share": [0.005, 0.1, 1.0],
        "hit": [0.1, 0.5, 1.0],
        "min_pixels": [1, 2, 10],
    },
    "LevelSetEnergy": {"epsilon": [1 / 20], "normalization": ["sum"]},
}


@dataclass
class Batch:
    """What a metric is given: labels (B, H, W), and ids or scores (B, H, W, C)."""

    name: str
    options: dict[str, Any]
    labels: np.ndarray
    predictions: np.ndarray
    in_graph: bool
    weight: Any = None


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    name = draw(st.sampled_from(sorted(OPTIONS)))
    options = {n: draw(st.sampled_from(v)) for n, v in OPTIONS[name].items()}
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = tuple(draw(st.integers(1, 8)) for _ in range(3))
    labels, ids = rng.integers(0, CLASSES, (2, *shape))
    labels[rng.random(shape) < draw(st.sampled_from([0, 0.5, 1]))] = VOID
    options["ignore_class"] = VOID
    predictions = ids
    if name != "LevelSetEnergy":
        options["num_classes"] = CLASSES
        options["sparse_y_pred"] = draw(st.booleans())
    if not options.get("sparse_y_pred", False):
        predictions = rng.random((*shape, CLASSES))
        predictions += 2 * (ids[..., np.newaxis] == np.arange(CLASSES))
    if name == "LevelSetEnergy":
        options["from_logits"] = True
    return Batch(name, options, labels, predictions, draw(st.integers(0, 9)) == 0)


def result_of(batch: Batch) -> Any:
    metric = getattr(tf_levelset, batch.name)(**batch.options)

    def update(labels: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
        metric.update_state(labels, predictions, batch.weight)
        return metric.result()

    if batch.in_graph:
        update = tf.function(update)
    labels, predictions = tf.constant(batch.labels), tf.constant(batch.predictions)
    return update(labels, predictions).numpy()


def foreign_label(draw: st.DrawFn, batch: Batch) -> None:
    values = [-1, 3, 254, 2**31, 2**40, 0.5, np.nan, np.inf]
    batch.labels = batch.labels.astype(np.float64)
    batch.labels.flat[-1] = draw(st.sampled_from(values))


def foreign_prediction(draw: st.DrawFn, batch: Batch) -> None:
    batch.labels.flat[-1] = 0
    batch.predictions = batch.predictions.astype(np.float64)
    batch.predictions.flat[-1] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))


def other_shape(draw: st.DrawFn, batch: Batch) -> None:
    y = batch.labels
    others = [np.concatenate([y, y], 1), np.stack([y, y]), np.concatenate([y, y])]
    batch.labels = draw(st.sampled_from(others))


def other_dtype(draw: st.DrawFn, batch: Batch) -> None:
    name = draw(st.sampled_from(["labels", "predictions"]))
    dtype = draw(st.sampled_from(["U4", "complex64"]))
    setattr(batch, name, getattr(batch, name).astype(dtype))


def other_weight(draw: st.DrawFn, batch: Batch) -> None:
    images = len(batch.labels)
    wrong = [np.ones(images + 1), "heavy", np.ones((images, 1, 1, 1, 1, 1))]
    if batch.name != "LevelSetEnergy":
        wrong += [np.full(images, 0.5), np.full(images, np.nan)]
    batch.weight = draw(st.sampled_from(wrong))


def other_option(draw: st.DrawFn, batch: Batch) -> None:
    own = set(batch.options) - {"sparse_y_pred", "from_logits"}
    batch.options[draw(st.sampled_from(sorted(own)))] = draw(
        st.sampled_from(["other", {}, 1j, [[]], float("nan")])
    )


CHANGES = (
    *(foreign_label, foreign_prediction, other_shape),
    *(other_dtype, other_weight, other_option),
)


@examples(25)
@given(batches(), st.sampled_from(CHANGES), st.data())
def test_bad_batches_are_refused(
    batch: Batch, change: Callable[..., None], data: st.DataObject
) -> None:
    assert np.isfinite(result_of(batch))
    change(data.draw, batch)
    answer = answer_of(result_of, batch)
    # A NaN score has no energy; in a mean it stays NaN.
    is_nan = batch.name == "LevelSetEnergy" and change is foreign_prediction
    assert isinstance(answer, Refused) or (is_nan and not np.isfinite(answer)), change
