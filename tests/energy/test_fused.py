"""Eq. 8 in one go, against the paper's formulas in float64 and the parts it is of."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import oracles
import pytest
import tensorflow as tf
from bad_input import examples
from hypothesis import assume, given
from hypothesis import strategies as st

from tf_levelset import CrossEntropyLevelSetLoss, LevelSetLoss, xla
from tf_levelset.energy.options import NORMALIZATIONS, SIGNED_NORMALIZATIONS
from tf_levelset.losses.level_set import SegmentationLoss

VOID = 255
PLAIN: dict[str, Any] = {
    "level_set_weight": 0.67,
    "normalization": "mean",
    "signed": False,
    "class_weight": None,
}


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Labels (B, …), logits (B, …, C) and options of random batches."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = draw(st.integers(2, 7))
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    shape = (draw(st.integers(1, 3)), *sizes)
    scale = draw(st.sampled_from([0.1, 1.0, 5.0, 20.0, 80.0]))
    logits = rng.uniform(-scale, scale, (*shape, classes)).astype(np.float32)
    kind = draw(st.sampled_from(["random", "one", "right", "wrong", "collapsed"]))
    labels = rng.integers(0, classes, shape)
    if kind == "one":
        labels[:] = classes - 1
    elif kind == "collapsed":  # one class is predicted everywhere
        logits[..., 0] += 2 * scale
    elif kind != "random":
        labels = (logits if kind == "right" else -logits).argmax(-1)
    void = draw(st.sampled_from([0.0, 0.3, 1.0]))
    labels = np.where(rng.uniform(size=shape) < void, VOID, labels)
    weights = [None, rng.uniform(0, 3, classes).tolist()]
    normalization = draw(st.sampled_from(NORMALIZATIONS))
    heaviside, epsilon = draw(st.sampled_from([("mahf", 1 / 20), ("logit", 1.0)]))
    options: dict[str, Any] = {
        "level_set_weight": draw(st.sampled_from([4e-4, 0.67, 5.0])),
        "heaviside": heaviside,
        "epsilon": epsilon,
        "normalization": normalization,
        "signed": normalization not in SIGNED_NORMALIZATIONS and draw(st.booleans()),
        "class_weight": draw(st.sampled_from(weights)),
    }
    return labels.astype(np.int32), logits, options


def literal(
    labels: np.ndarray, logits: np.ndarray, options: dict[str, Any]
) -> tuple[float, np.ndarray]:
    """The loss of a batch and its gradient by the literal formulas in float64."""
    options = dict(options)
    level_set_weight = options.pop("level_set_weight")
    options["kind"] = options.pop("heaviside", "mahf")
    weights = options["class_weight"] or [1.0] * logits.shape[-1]
    batch, classes = len(labels), logits.shape[-1]
    scores = tf.constant(logits.reshape(batch, -1, classes), tf.float64)
    labels = labels.reshape(batch, -1)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        cross_entropies, energies = [], []
        for image in range(batch):
            valid = labels[image] != VOID
            kept = labels[image][valid]
            logs = tf.boolean_mask(tf.nn.log_softmax(scores[image]), valid)
            truth = np.eye(classes)[kept] * np.array(weights)
            cross_entropies.append(-tf.reduce_sum(truth * logs))
            energies.append(oracles.image_energy(kept, tf.exp(logs), **options))
        count = max((labels != VOID).sum(), 1)
        loss = tf.add_n(cross_entropies) / count
        loss += level_set_weight * tf.add_n(energies) / batch
    gradient = tape.gradient(loss, scores)
    return float(loss), gradient.numpy().reshape(logits.shape)


def value_and_gradient_tensors(
    loss: SegmentationLoss, labels: tf.Tensor, logits: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, logits)
    return value, tape.gradient(value, logits)


def value_and_gradient(
    loss: SegmentationLoss, labels: np.ndarray, logits: np.ndarray
) -> tuple[float, np.ndarray]:
    value, gradient = value_and_gradient_tensors(
        loss, tf.constant(labels), tf.constant(logits)
    )
    return float(value), gradient.numpy()


@examples(40)
@given(cases())
def test_equals_the_literal_formula_and_its_gradient(
    case: tuple[np.ndarray, np.ndarray, dict[str, Any]],
) -> None:
    labels, logits, options = case
    loss = CrossEntropyLevelSetLoss(from_logits=True, ignore_class=VOID, **options)
    value, gradient = value_and_gradient(loss, labels, logits)
    expected, expected_gradient = literal(labels, logits, options)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(gradient).all()
    # The formula itself has none where a class is certain all over, even in float64.
    assume(np.isfinite(expected_gradient).all())
    # P − G is a difference of numbers near one, known to 1e-7 of the pixel's weight.
    largest = max(options["class_weight"] or [1.0])
    rounding = 3e-7 * largest / np.sqrt(max((labels != VOID).sum(), 1))
    error = np.linalg.norm(gradient - expected_gradient)
    assert error <= 1e-4 * np.linalg.norm(expected_gradient) + rounding


@pytest.mark.parametrize("normalization", SIGNED_NORMALIZATIONS)
def test_a_certain_class_keeps_the_digits_of_its_force(normalization: str) -> None:
    # One class leads everywhere: 1 − H is next to nothing, not so the correlation's.
    margins = np.linspace(2.5, 12, 8, dtype=np.float32)
    logits = np.stack([margins, -margins / 4], axis=-1)[np.newaxis]
    labels = np.array([[1, 0] * 4], np.int32)
    options = {**PLAIN, "normalization": normalization, "level_set_weight": 5.0}
    loss = CrossEntropyLevelSetLoss(from_logits=True, ignore_class=VOID, **options)
    _, gradient = value_and_gradient(loss, labels, logits)
    _, expected = literal(labels, logits, options)
    error = np.linalg.norm(gradient - expected)
    assert error <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("normalization", ["scale_free", *SIGNED_NORMALIZATIONS])
@pytest.mark.parametrize("epsilon", [1.0, 0.4])
def test_logit_is_the_sum_of_its_parts(normalization: str, epsilon: float) -> None:
    rng = np.random.default_rng(6)
    labels = rng.choice([0, 1, 2, VOID], (2, 5, 6)).astype(np.int32)
    logits = 2 * rng.normal(size=(2, 5, 6, 3))
    options: dict[str, Any] = {
        "from_logits": True,
        "ignore_class": VOID,
        "heaviside": "logit",
        "epsilon": epsilon,
        "normalization": normalization,
        "class_weight": [1.0, 0.5, 2.0],
        "dtype": "float64",
    }
    both = value_and_gradient(CrossEntropyLevelSetLoss(3.0, **options), labels, logits)
    without = CrossEntropyLevelSetLoss(0.0, **options)
    parts = [
        value_and_gradient(loss, labels, logits)
        for loss in (without, LevelSetLoss(**options))
    ]
    np.testing.assert_allclose(both[0], parts[0][0] + 3 * parts[1][0], rtol=1e-12)
    expected = parts[0][1] + 3 * parts[1][1]
    np.testing.assert_allclose(both[1], expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("mode", ["eager", "graph", "compiled"])
@pytest.mark.parametrize("confidence", [0.67, 0.75])
def test_many_pixels_add_up(mode: str, confidence: float) -> None:
    # One class is predicted everywhere: d is what b leaves of 70 % of the pixels, a
    # hundredth of a percent of them, which adding them one by one would lose.
    rng = np.random.default_rng(3)
    labels = (rng.random((1, 400, 400)) > 0.3).astype(np.int32)
    logits = np.zeros((1, 400, 400, 2), np.float32)
    logits[..., 0] = np.log(confidence / (1 - confidence))
    logits += rng.normal(scale=0.05, size=logits.shape).astype(np.float32)
    options = {**PLAIN, "normalization": "scale_free"}
    loss = CrossEntropyLevelSetLoss(
        from_logits=True, jit_compile=mode == "compiled", **options
    )
    run = functools.partial(value_and_gradient_tensors, loss)
    value, gradient = (run if mode == "eager" else tf.function(run))(
        tf.constant(labels), tf.constant(logits)
    )
    expected, expected_gradient = literal(labels, logits, options)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    # The cross-entropy would hide the forces, of which c2 is the delicate part.
    without, _ = literal(labels, logits, {**options, "level_set_weight": 0.0})
    np.testing.assert_allclose(value - without, expected - without, rtol=1e-4)
    error = np.linalg.norm(gradient - expected_gradient)
    assert error <= 1e-5 * np.linalg.norm(expected_gradient)


def test_float64() -> None:
    rng = np.random.default_rng(4)
    labels = rng.choice([0, 1, 2, VOID], (2, 5, 6)).astype(np.int32)
    logits = 3 * rng.normal(size=(2, 5, 6, 3))
    loss = CrossEntropyLevelSetLoss(
        from_logits=True, ignore_class=VOID, dtype="float64", **PLAIN
    )
    value, gradient = value_and_gradient(loss, labels, logits)
    expected, expected_gradient = literal(labels, logits, PLAIN)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-9, atol=1e-15)


def test_weights_of_pixels_hold_the_means_fixed_as_in_the_general_form() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, (2, 5, 6)).astype(np.int32)
    logits = rng.normal(size=(2, 5, 6, 3)).astype(np.float32)
    weights = rng.uniform(size=(2, 5, 6)).astype(np.float32)

    def gradient(from_logits: bool) -> np.ndarray:
        # Probabilities take the general form: no joint one exists for them.
        loss = CrossEntropyLevelSetLoss(0.5, from_logits=from_logits)
        scores = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(scores)
            y_pred = scores if from_logits else tf.nn.softmax(scores)
            value = loss(labels, y_pred, sample_weight=weights)
        return tape.gradient(value, scores).numpy()

    np.testing.assert_allclose(gradient(True), gradient(False), rtol=1e-3, atol=1e-6)


def compiled_parts(loss: SegmentationLoss, shape: tuple[int | None, ...]) -> int:
    """How many functions of a loss's graph XLA is told to compile."""
    graph = (
        tf.function(lambda labels, logits: loss(labels, logits))
        .get_concrete_function(
            tf.TensorSpec(shape[:-1], tf.int32), tf.TensorSpec(shape, tf.float32)
        )
        .graph.as_graph_def()
    )
    return sum(
        function.attr["_XlaMustCompile"].b for function in graph.library.function
    )


@pytest.mark.parametrize(
    ("jit_compile", "shape", "compiles"),
    [
        ("auto", (None, 128, 128, 3), True),
        ("auto", (2, 127, 128, 3), False),
        (False, (2, 128, 128, 3), False),
        (True, (2, None, None, 3), True),
    ],
)
def test_what_is_compiled(
    jit_compile: bool | str,
    shape: tuple[int | None, ...],
    compiles: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(xla, "on_cpu", lambda: True)
    loss = CrossEntropyLevelSetLoss(from_logits=True, jit_compile=jit_compile)
    assert (compiled_parts(loss, shape) > 0) == compiles


def test_foreign_labels_raise_where_compiled() -> None:
    loss = CrossEntropyLevelSetLoss(from_logits=True, jit_compile=True)
    function = tf.function(lambda labels, logits: loss(labels, logits))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected labels"):
        function(tf.constant([[[0, 7]]]), tf.zeros((1, 1, 2, 3)))
