"""Metrics and their functions: exact counts, and all that must not be counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import oracles
import tensorflow as tf

import tf_levelset
from fuzzing.case import Case, pick
from fuzzing.literal import (
    VOID,
    literal_confusion,
    literal_mean_of_ratios,
    literal_scores,
)
from tf_levelset.metrics.boundary_iou import boundary_counts
from tf_levelset.metrics.confusion import confusion_matrix
from tf_levelset.metrics.iou import scores
from tf_levelset.metrics.small_objects import small_object_counts
from tf_levelset.metrics.trimap_iou import trimap_confusions

CONFUSIONS = ("MeanIoU", "PixelAccuracy", "MeanAccuracy", "FrequencyWeightedIoU")
OF_PICTURES = ("BoundaryIoU", "TrimapIoU", "SmallObjectRecall")
METRICS = (*CONFUSIONS, *OF_PICTURES, "LevelSetEnergy")
FUNCTIONS = (
    "confusion_matrix",
    "boundary_counts",
    "trimap_confusions",
    "small_objects",
)
RELATIVE = 2e-6
"""Counts are exact; a float32 quotient of them is rounded once."""


@dataclass
class Problem:
    """What a metric, or one of the functions, is given."""

    name: str
    options: dict[str, Any]
    labels: Any
    predictions: Any
    """Ids (B, H, W), or scores with the classes last."""
    weight: Any = None
    mode: str = "eager"
    changes: list[str] = field(default_factory=list)

    @property
    def classes(self) -> int:
        """Number of classes of a sound problem."""
        return int(self.options["num_classes"])

    def described(self) -> dict[str, Any]:
        """Returns JSON's types."""
        return {
            "metric": self.name,
            "options": repr(self.options),
            "labels": _shape(self.labels),
            "predictions": _shape(self.predictions),
            "sample_weight": None if self.weight is None else repr(self.weight)[:200],
            "mode": self.mode,
            "changes": self.changes,
        }


def _shape(array: Any) -> str:
    return f"{getattr(array, 'dtype', type(array))} {np.shape(array)}"


# --- Sound problems ---


def sound(rng: np.random.Generator) -> Problem:
    """Makes what every metric has an exact answer to."""
    name = pick(rng, (*METRICS, *METRICS, *FUNCTIONS))
    classes = int(rng.integers(2, 6))
    shape = tuple(rng.integers(1, 9, 3).tolist())
    labels = rng.integers(0, classes, shape)
    blocks = rng.integers(0, classes, (shape[0], 3, 3))
    large = np.kron(blocks, np.ones((1, 3, 3), int))[:, : shape[1], : shape[2]]
    if rng.random() < 0.6:
        labels = large.copy()
    labels[rng.random(shape) < pick(rng, [0.0, 0.1, 0.5, 1.0])] = VOID
    predictions = np.where(
        rng.random(shape) < 0.3, rng.integers(0, classes, shape), large
    )
    options = {"num_classes": classes, "ignore_class": VOID, **_options(rng, name)}
    problem = Problem(name, options, labels, predictions)
    if name == "LevelSetEnergy":
        del options["num_classes"]
        problem.predictions = rng.normal(size=(*shape, classes)).astype(np.float32)
    elif name not in FUNCTIONS:
        _make_scores(rng, problem)
        problem.mode = "graph" if rng.random() < 0.1 else "eager"
        if rng.random() < 0.25:
            sizes = pick(rng, [shape, shape[:1], (*shape, 1)])
            problem.weight = rng.integers(0, 2, sizes).astype(
                pick(rng, ["float32", "bool", "int64"])
            )
    problem.labels = labels.astype(pick(rng, ["uint8", "int32", "int64", "float32"]))
    if name not in FUNCTIONS and rng.random() < 0.2:
        problem.labels = problem.labels[..., np.newaxis]
    return problem


def _options(rng: np.random.Generator, name: str) -> dict[str, Any]:
    options: dict[str, dict[str, Any]] = {
        "BoundaryIoU": {"ratio": pick(rng, [0.001, 0.1, 0.4, 3.0])},
        "TrimapIoU": {
            "width": pick(rng, [1, 2, 2.5, 1024]),
            "boundaries": pick(rng, ["all", "class", "void"]),
        },
        "SmallObjectRecall": {
            "max_share": pick(rng, [0.005, 0.1, 1.0]),
            "hit": pick(rng, [0.1, 0.5, 1.0]),
            "min_pixels": pick(rng, [1, 2, 10]),
        },
        "LevelSetEnergy": {"from_logits": True},
    }
    options["boundary_counts"] = options["BoundaryIoU"]
    options["small_objects"] = options["SmallObjectRecall"]
    trimap = options["TrimapIoU"]
    options["trimap_confusions"] = {
        "widths": [trimap["width"]],
        "boundaries": trimap["boundaries"],
    }
    return options.get(name, {})


def _make_scores(rng: np.random.Generator, problem: Problem) -> None:
    """Gives a metric the predictions' ids, or scores whose greatest is there."""
    ids, classes = problem.predictions, problem.classes
    kind = pick(rng, ["ids", "scores", "threshold"])
    if kind == "ids":
        problem.predictions = ids.astype(pick(rng, ["uint8", "int64", "float32"]))
        return
    problem.options["sparse_y_pred"] = False
    if kind == "threshold" and classes == 2:
        problem.options["threshold"] = 0.5
        problem.predictions = np.where(ids == 1, 0.75, 0.5)[..., np.newaxis]
    else:
        noise = rng.uniform(0, 1, (*ids.shape, classes))
        problem.predictions = noise + 2 * (ids[..., np.newaxis] == np.arange(classes))
    dtype = pick(rng, ["float32", "float64", "float16"])
    problem.predictions = problem.predictions.astype(dtype)


# --- Unsound ones ---


def _foreign_label(rng: np.random.Generator, problem: Problem) -> str:
    labels = problem.labels.astype(np.int64)
    foreign = pick(rng, [-1, 200, 254, 2**31, 2**40])
    labels.flat[rng.integers(labels.size)] = foreign
    problem.labels, problem.weight = labels, None
    return "error"


def _fractional_label(rng: np.random.Generator, problem: Problem) -> str:
    labels = problem.labels.astype(np.float32)
    value = pick(rng, [0.5, np.nan, np.inf, -0.5])
    labels.flat[rng.integers(labels.size)] = value
    problem.labels, problem.weight = labels, None
    return "error"


def _foreign_prediction(rng: np.random.Generator, problem: Problem) -> str:
    if not (problem.labels != VOID).any():
        return "finite"
    predictions = problem.predictions.astype(np.float64)
    place = pick(rng, np.argwhere(_flat_labels(problem) != VOID)[:, 0].tolist())
    of_scores = "sparse_y_pred" in problem.options or problem.name == "LevelSetEnergy"
    if not of_scores:
        foreign = pick(rng, [-1, problem.classes, 0.5, np.nan, np.inf])
        predictions.flat[place] = foreign
        problem.predictions, problem.weight = predictions, None
        return "error"
    channels = predictions.shape[-1]
    predictions.reshape(-1, channels)[place, rng.integers(channels)] = pick(
        rng, [np.nan, np.inf, -np.inf] if problem.name != "LevelSetEnergy" else [np.nan]
    )
    problem.predictions, problem.weight = predictions, None
    return "nan" if problem.name == "LevelSetEnergy" else "error"


def _flat_labels(problem: Problem) -> np.ndarray:
    return np.asarray(problem.labels).reshape(-1)


def _other_shape(rng: np.random.Generator, problem: Problem) -> str:
    labels = problem.labels
    problem.labels = pick(
        rng,
        [
            np.concatenate([labels, labels], axis=1),
            labels[np.newaxis],
            labels.reshape(-1),
            labels.flat[0],
            np.concatenate([labels, labels]),
        ],
    )
    problem.weight = None
    # One picture and one label may be a batch of (B,).
    return "error" if labels.size > 1 else "any"


def _odd_dtype(rng: np.random.Generator, problem: Problem) -> str:
    dtype = pick(rng, ["U4", "complex64"])
    if rng.random() < 0.5:
        problem.labels = problem.labels.astype(dtype)
    else:
        problem.predictions = problem.predictions.astype(dtype)
    return "error"


def _empty(rng: np.random.Generator, problem: Problem) -> str:
    axis = int(rng.integers(3))
    problem.labels = problem.labels.take([], axis)
    problem.predictions = problem.predictions.take([], axis)
    problem.weight = None
    return "finite"


def _odd_weight(rng: np.random.Generator, problem: Problem) -> str:
    if problem.name in FUNCTIONS:
        return _odd_option(rng, problem)
    images = len(problem.labels)
    kind = pick(rng, ["shape", "fraction", "nan", "string", "rank"])
    problem.weight = {
        "shape": np.ones(images + 1),
        "fraction": np.full(images, 0.5),
        "nan": np.full(images, np.nan),
        "string": "heavy",
        "rank": np.ones((images, 1, 1, 1, 1, 1)),
    }[kind]
    if problem.name == "LevelSetEnergy":
        return {"fraction": "finite", "nan": "any"}.get(kind, "error")
    return "error"


NOT_NUMBERS: tuple[Any, ...] = ("a", "1", None, [1.0], {}, float("nan"), 1j)
ODD_OPTIONS: dict[str, tuple[Any, ...]] = {
    "num_classes": (0, -1, 1.5, "3", None, [3]),
    "ignore_class": ("255", 1.5, [255], {}),
    "ratio": (0.0, -1.0, float("inf"), *NOT_NUMBERS),
    "width": (0, -1.0, 2000, *NOT_NUMBERS),
    "widths": ([], [0], [2000], ["a"], None, 3),
    "boundaries": ("none", None, 1, ["all"]),
    "max_share": (0.0, 1.5, *NOT_NUMBERS),
    "hit": (0.0, 1.5, *NOT_NUMBERS),
    "min_pixels": (0, -1, *NOT_NUMBERS),
    "average": ("mean", None, 1),
    "threshold": ("a", None, [0.5], {}, float("nan")),
    "class_names": (["a"], ["a"] * 5, 3),
    "axis": (9, "last", 1.5, None),
    "epsilon": (0.0, *NOT_NUMBERS),
    "heaviside": ("step", None, ["mahf"]),
    "normalization": ("max", ["sum"]),
    "class_weight": ([-1.0], "ab", {0: 1.0}),
}


def _odd_option(rng: np.random.Generator, problem: Problem) -> str:
    own = [name for name in problem.options if name in ODD_OPTIONS]
    if problem.name == "LevelSetEnergy":
        own += ["epsilon", "heaviside", "normalization", "class_weight"]
    elif problem.name == "SmallObjectRecall":
        own.append("average")
    if problem.name in CONFUSIONS:
        own.append("class_names")
        if problem.options.get("sparse_y_pred", True) is False:
            own += ["threshold", "axis"]
    name = pick(rng, own)
    problem.options[name] = pick(rng, ODD_OPTIONS[name])
    problem.changes.append(f"{name}={problem.options[name]!r}")
    if name == "threshold" and problem.options[name] is None:
        return "error" if problem.predictions.shape[-1] == 1 else "finite"
    return "error"


Change = Callable[[np.random.Generator, Problem], str]
CHANGES: tuple[Change, ...] = (
    _foreign_label,
    _fractional_label,
    _foreign_prediction,
    _other_shape,
    _odd_dtype,
    _empty,
    _odd_weight,
    _odd_option,
)


# --- Cases ---


def make(rng: np.random.Generator) -> Case:
    """Makes a case: two in five are sound."""
    problem = sound(rng)
    if rng.random() < 0.4:
        return Case(
            problem.described(),
            "answer",
            lambda folder: run(problem),
            lambda answer: np.testing.assert_allclose(
                answer, expected(problem), rtol=RELATIVE, atol=0
            ),
        )
    change = pick(rng, CHANGES)
    demand = change(rng, problem)
    problem.changes.insert(0, change.__name__.strip("_"))

    def check(answer: Any) -> None:
        if demand == "nan":
            assert np.isnan(answer).all(), f"{answer} instead of NaN"
        if demand == "finite":
            assert np.isfinite(answer).all(), f"{answer}"

    return Case(
        problem.described(),
        {"error": "error", "finite": "answer"}.get(demand, "either"),  # type: ignore[arg-type]
        lambda folder: run(problem),
        check,
    )


def run(problem: Problem) -> Any:
    """Returns a metric's result after one batch, or a function's counts."""
    if problem.name in FUNCTIONS:
        return _run_function(problem)
    metric = getattr(tf_levelset, problem.name)(**problem.options)

    def update(labels: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
        metric.update_state(labels, predictions, problem.weight)
        return metric.result()

    if problem.mode == "graph":
        update = tf.function(update)
    labels, predictions = tf.constant(problem.labels), tf.constant(problem.predictions)
    result = update(labels, predictions).numpy()
    if problem.mode == "eager" and problem.name in CONFUSIONS:
        metric.scores()
    return result


def _run_function(problem: Problem) -> np.ndarray:
    functions: dict[str, Callable[..., Any]] = {
        "confusion_matrix": confusion_matrix,
        "boundary_counts": boundary_counts,
        "trimap_confusions": trimap_confusions,
        "small_objects": small_object_counts,
    }
    function = functions[problem.name]
    counts = np.array(function(problem.labels, problem.predictions, **problem.options))
    if problem.name == "confusion_matrix":
        scores(counts)
    return counts


def expected(problem: Problem) -> Any:
    """The answer to a sound problem, by the definitions as they are read."""
    labels = _whole(problem.labels)
    if problem.name == "LevelSetEnergy":
        return _energy(labels, problem.predictions)
    predictions = _predicted(problem)
    if problem.weight is not None:
        weight = np.asarray(problem.weight).reshape(-1, *[1] * 2)
        if problem.weight.size == labels.size:
            weight = np.asarray(problem.weight).reshape(labels.shape)
        labels = np.where(weight == 0, VOID, labels)
    counts = sum(
        _counts(problem, *pair) for pair in zip(labels, predictions, strict=True)
    )
    if problem.name in FUNCTIONS:
        return counts
    if problem.name in CONFUSIONS:
        return literal_scores(np.array(counts))[problem.name]
    if problem.name == "TrimapIoU":
        return literal_scores(np.array(counts))["MeanIoU"]
    return literal_mean_of_ratios(np.array(counts))


def _whole(labels: np.ndarray) -> np.ndarray:
    labels = labels.astype(np.int64)
    return labels[..., 0] if labels.ndim == 4 else labels


def _predicted(problem: Problem) -> np.ndarray:
    predictions = problem.predictions
    if predictions.ndim == 3:
        return predictions.astype(np.int64)
    if predictions.shape[-1] == 1:
        return (predictions[..., 0] > 0.5).astype(np.int64)
    return predictions.argmax(-1)


def _counts(problem: Problem, labels: np.ndarray, predictions: np.ndarray) -> Any:
    """The counts of a picture."""
    classes, options = problem.classes, problem.options
    if problem.name in ("BoundaryIoU", "boundary_counts"):
        return oracles.boundary_counts(labels, predictions, classes, options["ratio"])
    if problem.name in ("SmallObjectRecall", "small_objects"):
        shares = (options[name] for name in ("max_share", "hit", "min_pixels"))
        return oracles.small_objects(labels, predictions, classes, *shares)
    if problem.name in ("TrimapIoU", "trimap_confusions"):
        width = options["width"] if "width" in options else options["widths"][0]
        confusion = oracles.trimap_confusion(
            labels, predictions, classes, width, options["boundaries"]
        )
        return confusion if "width" in options else confusion[np.newaxis]
    return literal_confusion(labels, predictions, classes)


def _energy(labels: np.ndarray, logits: np.ndarray) -> float:
    energies = []
    for y, x in zip(labels, logits.astype(np.float64), strict=True):
        p = tf.nn.softmax(x).numpy()[y != VOID]
        energies.append(float(oracles.image_energy(y[y != VOID], tf.constant(p))))
    return float(np.mean(energies))
