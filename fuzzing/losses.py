"""Losses: sound batches against the literal formulas, and all kinds of unsound ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from fuzzing.case import Case, Expected, pick
from fuzzing.literal import VOID, literal_loss
from tf_levelset import (
    CrossEntropyLevelSetLoss,
    DiceLoss,
    FocalLoss,
    LevelSetLoss,
    LossSum,
    level_set_energy,
)
from tf_levelset.energy.options import NORMALIZATIONS, SIGNED_NORMALIZATIONS
from tf_levelset.training.compiled import COMPARISON_LOSSES

LOSSES: dict[str, Callable[..., Any]] = {
    "level_set": LevelSetLoss,
    "cross_entropy_level_set": CrossEntropyLevelSetLoss,
    **COMPARISON_LOSSES,
}
NAMES = (*LOSSES, "sum", "energy")
WITHOUT_XLA = ("boundary",)
RELATIVE, ABSOLUTE = 2e-5, 2e-6
"""What float32 may be off from the literal formula, whose terms are of order one."""

LARGEST_LOGIT = 1e30
"""Beyond, sums over a picture overflow float32, whatever the formula."""


@dataclass
class Problem:
    """What a loss is given. `scores` has the values that its `dtype` can hold."""

    name: str
    options: dict[str, Any]
    labels: Any
    scores: Any
    dtype: str = "float32"
    weight: Any = None
    mode: str = "eager"
    changes: list[str] = field(default_factory=list)

    def described(self) -> dict[str, Any]:
        """Returns JSON's types."""
        return {
            "loss": self.name,
            "options": repr(self.options),
            "labels": f"{self.labels.dtype} {self.labels.shape}",
            "scores": f"{self.dtype} {self.scores.shape}",
            "sample_weight": None if self.weight is None else repr(self.weight)[:200],
            "mode": self.mode,
            "changes": self.changes,
        }


@dataclass(frozen=True)
class Answer:
    """A loss's value and its gradient; None for an energy without one."""

    value: np.ndarray
    gradient: np.ndarray | None


# --- Sound problems ---


def sound(rng: np.random.Generator) -> Problem:
    """Makes a batch that every loss has an answer to."""
    name = pick(rng, NAMES)
    binary = rng.random() < 0.15
    classes = 2 if binary else int(rng.integers(2, 6))
    axes = 2 if name == "lad" else int(rng.integers(1, 4))
    shape = (int(rng.integers(1, 4)), *rng.integers(1, 6, axes).tolist())
    labels = _labels(rng, shape, classes)
    dtype = pick(rng, ["float32"] * 5 + ["float64"] * 2 + ["float16", "bfloat16"])
    options = {**_options(rng, name, classes), "ignore_class": VOID}
    options["from_logits"] = bool(rng.random() < 0.7)
    logits = pick(rng, [0.1, 1.0, 3.0]) * rng.normal(size=(*shape, classes))
    scores = logits if options["from_logits"] else _softmax(logits)
    if binary:
        # The softmax of (0, z) is the sigmoid of z.
        scores = logits[..., 1:] if options["from_logits"] else scores[..., 1:]
    if dtype == "float64" and name not in ("energy", "sum"):
        options["dtype"] = "float64"
    scores = tf.cast(tf.cast(scores, dtype), tf.float64).numpy()
    labels = _form(rng, labels, classes, binary)
    problem = Problem(name, options, labels, scores, dtype, mode=_mode(rng, name))
    if name != "energy" and rng.random() < 0.3:
        problem.weight = _sound_weight(rng, shape)
    return problem


def _labels(
    rng: np.random.Generator, shape: tuple[int, ...], classes: int
) -> np.ndarray:
    labels = rng.integers(0, classes, shape)
    kind = pick(rng, ["random", "random", "one", "few"])
    if kind == "one":
        labels[:] = labels.flat[0]
    elif kind == "few":
        labels = np.where(labels > 1, 0, labels)
    void = pick(rng, [0.0, 0.2, 0.9, 1.0] if rng.random() < 0.7 else [0.0])
    return np.where(rng.random(shape) < void, VOID, labels)


def _form(
    rng: np.random.Generator, labels: np.ndarray, classes: int, binary: bool
) -> np.ndarray:
    """The same labels sparse or one-hot, with a last axis or not, of any dtype."""
    form = pick(rng, ["sparse", "sparse", "axis", "one_hot"])
    if form == "one_hot" and not binary:
        one_hot = (labels[..., np.newaxis] == np.arange(classes)).astype(int)
        return one_hot.astype(pick(rng, ["uint8", "int32", "float32", "bool"]))
    if form == "axis":
        labels = labels[..., np.newaxis]
    dtypes = ["uint8", "int32", "int64", "uint16", "uint32", "float32", "float64"]
    return labels.astype(pick(rng, dtypes))


def _mode(rng: np.random.Generator, name: str) -> str:
    chance = rng.random()
    if chance < 0.015 and name not in WITHOUT_XLA:
        return "xla"
    return "graph" if chance < 0.08 else "eager"


def _sound_weight(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    kind = pick(rng, ["number", "images", "pixels", "axis"])
    if kind == "number":
        return float(rng.uniform(0, 2))
    sizes = {"images": shape[:1], "pixels": shape, "axis": (*shape, 1)}[kind]
    return rng.uniform(0, 2, sizes).astype(pick(rng, ["float32", "float64"]))


def _options(rng: np.random.Generator, name: str, classes: int) -> dict[str, Any]:
    """Sound options of a loss, but those that all losses share."""
    weights = rng.uniform(0, 3, classes).tolist() if rng.random() < 0.3 else None
    options: dict[str, Any] = {} if name == "sum" else {"class_weight": weights}
    if name not in ("sum", "energy"):
        reductions = ["sum_over_batch_size"] * 6 + ["sum", "none"]
        options["reduction"] = pick(rng, reductions)
    return options | _OPTIONS.get(name, lambda rng, classes: {})(rng, classes)


def _energy_options(rng: np.random.Generator, classes: int) -> dict[str, Any]:
    heaviside = pick(rng, ["mahf", "mahf", "ahf", "hf", "logit"])
    normalization = pick(rng, NORMALIZATIONS)
    return {
        "heaviside": heaviside,
        "epsilon": pick(rng, [1 / 20, 1 / 60, 0.5, 1.0]),
        "normalization": normalization,
        "signed": normalization not in SIGNED_NORMALIZATIONS
        and bool(rng.random() < 0.4),
    }


def _classes(rng: np.random.Generator, classes: int) -> Any:
    some = rng.permutation(classes)[: int(rng.integers(1, classes + 1))].tolist()
    return pick(rng, ["present", "all", some])


_OPTIONS: dict[str, Callable[[np.random.Generator, int], dict[str, Any]]] = {
    "energy": _energy_options,
    "level_set": lambda rng, classes: {
        **_energy_options(rng, classes),
        "per_image": bool(rng.random() < 0.7),
    },
    "cross_entropy_level_set": lambda rng, classes: {
        **_energy_options(rng, classes),
        "per_image": bool(rng.random() < 0.7),
        "level_set_weight": pick(rng, [0.0, 4e-4, 0.67, 5.0]),
        "level_set_class_weight": pick(
            rng, [None, rng.uniform(0, 3, classes).tolist()]
        ),
    },
    "focal": lambda rng, classes: {
        "gamma": pick(rng, [0.0, 0.5, 2.0, 5.0]),
        "alpha": pick(rng, [0.25, 1.0]),
    },
    "lmp": lambda rng, classes: {
        "ratio": pick(rng, [0.05, 0.3, 1.0]),
        "p": pick(rng, [1.3, 1.7, 3.0]),
        "per_image": bool(rng.random() < 0.5),
    },
    "lad": lambda rng, classes: {
        "patch_size": pick(rng, [1, 3, 5]),
        "stride": pick(rng, [1, 2, 7]),
        "sigma": pick(rng, [0.3, 1.0]),
        "k": pick(rng, [1.0, 5.0, 20.0]),
        "merge": pick(rng, ["logits", "probabilities"]),
        "per_image": bool(rng.random() < 0.5),
    },
    "dice": lambda rng, classes: {
        "squared": bool(rng.random() < 0.5),
        "smooth": pick(rng, [0.0, 1.0]),
        "per_image": bool(rng.random() < 0.5),
        "classes": _classes(rng, classes),
    },
    "lovasz": lambda rng, classes: {
        "per_image": bool(rng.random() < 0.5),
        "classes": _classes(rng, classes),
    },
    "boundary": lambda rng, classes: {
        "normalize": bool(rng.random() < 0.5),
        "classes": _classes(rng, classes),
    },
    "active_contour": lambda rng, classes: {
        "length_weight": pick(rng, [0.0, 0.3, 1.0]),
        "region_weight": pick(rng, [0.0, 2.0]),
        "inside_weight": pick(rng, [0.0, 0.6]),
        "classes": _classes(rng, classes),
    },
}


# --- Unsound ones: each changes a sound problem, and says what is to be expected ---

Change = Callable[[np.random.Generator, Problem], str]
"""Returns "error", "nan" (a NaN or an error), "finite" or "any"."""


def _foreign_label(rng: np.random.Generator, problem: Problem) -> str:
    classes = max(2, problem.scores.shape[-1])
    labels = _sparse(problem)
    foreign = pick(rng, [-1, classes, 254, 2**31 - 1, -(2**31), 2**32, 2**40 + 1])
    labels.flat[rng.integers(labels.size)] = foreign
    problem.labels = labels
    return "error"


def _void_without_ignore(rng: np.random.Generator, problem: Problem) -> str:
    labels = _sparse(problem)
    labels.flat[rng.integers(labels.size)] = VOID
    problem.labels = labels
    problem.options["ignore_class"] = pick(rng, [None, 254, -1])
    return "error"


def _fractional_label(rng: np.random.Generator, problem: Problem) -> str:
    labels = _sparse(problem).astype(pick(rng, ["float32", "float64", "float16"]))
    value = pick(rng, [0.5, float("nan"), float("inf"), -0.5, 6e4, 1 + 1e-3])
    labels.flat[rng.integers(labels.size)] = value
    problem.labels = labels
    return "error"


def _soft_labels(rng: np.random.Generator, problem: Problem) -> str:
    classes = problem.scores.shape[-1]
    if classes == 1:
        return _fractional_label(rng, problem)
    labels = np.zeros(problem.scores.shape, np.float32)
    labels[..., 0] = 1
    place = tuple(int(rng.integers(n)) for n in labels.shape[:-1])
    row = np.zeros(classes)
    row[:2] = pick(rng, [(0.5, 0.5), (1, 1), (-1, 1), (2, 0), (float("nan"), 0)])
    labels[place] = row
    problem.labels = labels
    return "error"


def _other_size(rng: np.random.Generator, problem: Problem) -> str:
    labels = _sparse(problem)
    axis = int(rng.integers(labels.ndim))
    problem.labels = np.concatenate([labels, labels.take([0], axis)], axis)
    return "error"


def _other_rank(rng: np.random.Generator, problem: Problem) -> str:
    labels = _sparse(problem)
    problem.labels = pick(
        rng, [labels[np.newaxis, ..., np.newaxis], labels.reshape(-1), labels.flat[0]]
    )
    problem.labels = np.asarray(problem.labels)
    return "error"


def _odd_dtype(rng: np.random.Generator, problem: Problem) -> str:
    if rng.random() < 0.5:
        problem.labels = problem.labels.astype(pick(rng, ["U4", "complex64"]))
    else:
        problem.dtype = pick(rng, ["string", "complex64"])
    return "error"


def _whole_scores(rng: np.random.Generator, problem: Problem) -> str:
    problem.dtype = pick(rng, ["int32", "int64", "uint8", "bool"])
    problem.scores = np.abs(np.rint(problem.scores)).clip(0, 1)
    return "finite"


def _score_rank(rng: np.random.Generator, problem: Problem) -> str:
    problem.scores = pick(
        rng,
        [problem.scores.reshape(-1), problem.scores.reshape(-1, 1), np.float64(0.5)],
    )
    return "error"


def _no_class(rng: np.random.Generator, problem: Problem) -> str:
    problem.labels = _sparse(problem)
    problem.scores = problem.scores[..., :0]
    return "error"


def _nan_score(rng: np.random.Generator, problem: Problem) -> str:
    valid = _sparse(problem) != VOID
    if not valid.any():
        return "any"
    place = pick(rng, [tuple(p) for p in np.argwhere(valid).tolist()])
    channel = int(rng.integers(problem.scores.shape[-1]))
    problem.scores[place][channel] = np.nan
    # A class that is left out of the mean does not see it, nor does a patch elsewhere.
    everywhere = problem.options.get("stride", 1) == 1
    everything = problem.options.get("classes", "all") == "all"
    return "nan" if everywhere and everything else "any"


def _infinite_score(rng: np.random.Generator, problem: Problem) -> str:
    place = int(rng.integers(problem.scores.size))
    problem.scores.flat[place] = pick(rng, [np.inf, -np.inf])
    return "any"


def _large_logits(rng: np.random.Generator, problem: Problem) -> str:
    if not problem.options["from_logits"]:
        return _no_probabilities(rng, problem)
    scale = 10 ** rng.uniform(1, np.log10(LARGEST_LOGIT))
    if problem.dtype == "float16":
        scale = min(scale, 6e4)
    problem.scores = rng.uniform(-scale, scale, problem.scores.shape)
    return "finite"


def _no_probabilities(rng: np.random.Generator, problem: Problem) -> str:
    problem.options["from_logits"] = False
    problem.scores = rng.uniform(-3, 3, problem.scores.shape)
    return "finite"


def _certain(rng: np.random.Generator, problem: Problem) -> str:
    problem.options["from_logits"] = False
    problem.scores = rng.integers(0, 2, problem.scores.shape).astype(np.float64)
    return "finite"


def _empty(rng: np.random.Generator, problem: Problem) -> str:
    labels = _sparse(problem)
    axis = int(rng.integers(labels.ndim))
    problem.labels = labels.take([], axis)
    problem.scores = problem.scores.take([], axis)
    problem.weight = None
    return "finite"


def _odd_weight(rng: np.random.Generator, problem: Problem) -> str:
    if problem.name == "energy":
        return _odd_option(rng, problem)
    shape = _sparse(problem).shape
    kind = pick(rng, ["shape", "nan", "inf", "negative", "string", "rank", "zero"])
    if kind == "shape":
        problem.weight = np.ones((shape[0] + 1,), np.float32)
        return "error"
    if kind == "rank":
        problem.weight = np.ones((*shape, 2, 1), np.float32)
        return "error"
    if kind == "string":
        problem.weight = "heavy"
        return "error"
    weights = np.ones(shape, np.float32)
    value = {"nan": np.nan, "inf": np.inf, "negative": -1.0, "zero": 0.0}[kind]
    if kind == "zero":
        weights[:] = 0
    weights.flat[rng.integers(weights.size)] = value
    problem.weight = weights
    return "finite" if kind in ("negative", "zero") else "any"


NOT_NUMBERS: tuple[Any, ...] = ("a", "0.5", None, [1.0], {}, float("nan"), 1j)
ODD_OPTIONS: dict[str, tuple[Any, ...]] = {
    "heaviside": ("MAHF", "", None, 3, ["mahf"]),
    "epsilon": (0.0, -1.0, float("inf"), *NOT_NUMBERS),
    "normalization": ("max", None, 1, ["sum"]),
    "class_weight": (
        [1.0],
        [1.0] * 40,
        {0: 1.0},
        "ab",
        3.0,
        [float("nan")] * 2,
        [-1.0],
    ),
    "level_set_weight": (-1.0, float("inf"), *NOT_NUMBERS),
    "level_set_class_weight": ([1.0], {0: 1.0}, "ab", [float("inf")] * 2),
    "ignore_class": ("255", 1.5, [255], {}),
    "reduction": ("average", 3),
    "dtype": ("int32", 7, "floaty"),
    "gamma": (-1.0, float("inf"), *NOT_NUMBERS),
    "alpha": (0.0, -1.0, *NOT_NUMBERS),
    "ratio": (0.0, 1.5, -1.0, *NOT_NUMBERS),
    "p": (1.0, 0.5, float("inf"), *NOT_NUMBERS),
    "patch_size": (2, 0, -3, 1.5, "3", None),
    "stride": (0, -1, 1.5, "2", None),
    "sigma": (0.0, -1.0, *NOT_NUMBERS),
    "k": (0.5, float("inf"), *NOT_NUMBERS),
    "merge": ("mean", None, 0),
    "smooth": (-1.0, float("inf"), *NOT_NUMBERS),
    "classes": ("some", [], [0, 0], [-1], [99], [0.5], None, 3, ["a"]),
    "length_weight": (-1.0, float("inf"), *NOT_NUMBERS),
    "region_weight": (-1.0, *NOT_NUMBERS),
    "inside_weight": (-1.0, *NOT_NUMBERS),
    "jit_compile": ("yes", None, 2),
}
"""Values that no loss of such an option takes."""


def _odd_option(rng: np.random.Generator, problem: Problem) -> str:
    own = [name for name in problem.options if name in ODD_OPTIONS]
    if problem.name not in ("sum", "energy"):
        own += ["dtype", "reduction"]
    if problem.name == "cross_entropy_level_set":
        own.append("jit_compile")
    name = pick(rng, own)
    problem.options[name] = pick(rng, ODD_OPTIONS[name])
    problem.changes.append(f"{name}={problem.options[name]!r}")
    return "error"


CHANGES: tuple[Change, ...] = (
    _foreign_label,
    _void_without_ignore,
    _fractional_label,
    _soft_labels,
    _other_size,
    _other_rank,
    _odd_dtype,
    _whole_scores,
    _score_rank,
    _no_class,
    _nan_score,
    _infinite_score,
    _large_logits,
    _no_probabilities,
    _certain,
    _empty,
    _odd_weight,
    _odd_option,
    _odd_option,
)


def _sparse(problem: Problem) -> np.ndarray:
    """A copy of a sound problem's labels, int64 (B, …), void where it is."""
    labels = problem.labels
    spatial = problem.scores.shape[:-1]
    if labels.shape == (*spatial, problem.scores.shape[-1]) and labels.shape[-1] > 1:
        ids = labels.argmax(-1)
        return np.where(labels.any(-1), ids, VOID).astype(np.int64)
    return labels.reshape(spatial).astype(np.int64)


# --- Cases ---


def make(rng: np.random.Generator) -> Case:
    """Makes a case: two in five are sound."""
    problem = sound(rng)
    if rng.random() < 0.4:
        return Case(
            problem.described(),
            "answer",
            lambda folder: run(problem),
            lambda answer: check_sound(problem, answer),
        )
    change = pick(rng, CHANGES)
    demand = change(rng, problem)
    problem.changes.insert(0, change.__name__.strip("_"))
    expected: Expected = "either"
    if demand == "error" and problem.mode != "xla":
        expected = "error"
    elif demand == "finite":
        expected = "answer"
    if problem.mode == "xla" and demand == "error":
        demand = "nan"  # XLA drops assertions

    def check(answer: Answer) -> None:
        if demand == "nan":
            assert not np.isfinite(answer.value).all(), "a number instead of NaN"
        if demand == "finite":
            check_finite(answer)

    return Case(problem.described(), expected, lambda folder: run(problem), check)


def build(problem: Problem) -> Callable[..., tf.Tensor]:
    """Returns a function of labels, scores and weights."""
    if problem.name == "energy":
        return lambda y, x, w: level_set_energy(y, x, **problem.options)
    if problem.name == "sum":
        parts = [FocalLoss(**problem.options), DiceLoss(**problem.options)]
        return LossSum(parts, weights=[1.0, 0.5])
    return LOSSES[problem.name](**problem.options)


def run(problem: Problem) -> Answer:
    """Computes a loss and its gradient."""
    loss = build(problem)
    scores = _tensor(problem.scores, problem.dtype)
    labels = tf.constant(problem.labels)

    def both(labels: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, Any]:
        with tf.GradientTape() as tape:
            tape.watch(scores)
            value = loss(labels, scores, problem.weight)
        return value, tape.gradient(
            value, scores, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    if problem.mode != "eager":
        both = tf.function(
            both,
            input_signature=[_spec(labels, scores), _spec(scores, scores)],
            jit_compile=problem.mode == "xla",
        )
    value, gradient = both(labels, scores)
    differentiable = scores.dtype.is_floating
    return Answer(value.numpy(), gradient.numpy() if differentiable else None)


def _tensor(values: np.ndarray, dtype: str) -> tf.Tensor:
    if dtype == "string":
        return tf.constant(values.astype("U8"))
    return tf.cast(values, dtype)


def _spec(tensor: tf.Tensor, scores: tf.Tensor) -> tf.TensorSpec:
    """Unknown sizes but for the last axis of scores and of what has their rank."""
    shape: list[int | None] = [None] * tensor.shape.rank
    if tensor.shape.rank and tensor.shape.rank == scores.shape.rank:
        shape[-1] = tensor.shape[-1]
    return tf.TensorSpec(shape, tensor.dtype)


def check_finite(answer: Answer) -> None:
    """Raises for a NaN or infinity."""
    assert np.isfinite(answer.value).all(), f"value {answer.value}"
    if answer.gradient is not None:
        finite = np.isfinite(answer.gradient.astype(np.float64))
        assert finite.all(), "a gradient that is not finite"


def check_sound(problem: Problem, answer: Answer) -> None:
    """Raises unless the answer is finite and what the literal formula gives."""
    check_finite(answer)
    expected = literal_loss(
        problem.name, problem.options, _sparse(problem), problem.scores, problem.weight
    )
    if expected is not None:
        np.testing.assert_allclose(
            answer.value, expected, rtol=RELATIVE, atol=ABSOLUTE, err_msg=problem.name
        )


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
