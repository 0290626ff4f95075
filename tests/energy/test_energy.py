"""The energy against the paper's formulas in float64, on random cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import oracles
import pytest
import tensorflow as tf
from bad_input import examples
from hypothesis import assume, given
from hypothesis import strategies as st

from tf_levelset.energy.energy import energy_density, level_set_energy
from tf_levelset.energy.options import (
    NORMALIZATIONS,
    SIGNED_NORMALIZATIONS,
    EnergyOptions,
)
from tf_levelset.labels import parse_labels
from tf_levelset.scores import floating_scores

VOID = 255


@dataclass(frozen=True)
class Case:
    """A batch of random images and the options to judge them with."""

    labels: np.ndarray
    logits: np.ndarray
    options: dict[str, Any]

    def valid(self, image: int) -> np.ndarray:
        return self.labels[image].reshape(-1) != VOID


@st.composite
def cases(draw: st.DrawFn, kinds: tuple[str, ...] = ("mahf", "ahf")) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.lists(st.integers(1, 9), min_size=2, max_size=3))
    classes = draw(st.integers(2, 7))
    shape = (draw(st.integers(1, 3)), *sizes)
    scale = draw(st.sampled_from([0.1, 1.0, 5.0, 20.0, 80.0]))
    logits = rng.uniform(-scale, scale, (*shape, classes)).astype(np.float32)
    kind = draw(st.sampled_from(["random", "few", "one", "right", "wrong"]))
    if kind == "random":
        labels = rng.integers(0, classes, shape)
    elif kind == "few":
        labels = rng.choice(rng.permutation(classes)[:2], shape)
    elif kind == "one":
        labels = np.full(shape, rng.integers(0, classes))
    else:
        labels = (logits if kind == "right" else -logits).argmax(-1)
    void = draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    labels = np.where(rng.uniform(size=shape) < void, VOID, labels)
    weights = [None, rng.uniform(0, 3, classes).tolist()]
    normalization = draw(st.sampled_from(NORMALIZATIONS))
    options = {
        "heaviside": draw(st.sampled_from(kinds)),
        "normalization": normalization,
        "signed": normalization not in SIGNED_NORMALIZATIONS and draw(st.booleans()),
        "class_weight": draw(st.sampled_from(weights)),
    }
    return Case(labels.astype(np.int32), logits, options)


def run(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Energies (B,) and the gradient of their sum with respect to the logits."""
    logits = tf.constant(case.logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        energy = level_set_energy(
            case.labels, logits, from_logits=True, ignore_class=VOID, **case.options
        )
    return energy.numpy(), tape.gradient(energy, logits).numpy()


def literal(case: Case, image: int) -> tuple[float, np.ndarray]:
    """Energy and gradient of one image by the literal formula in float64."""
    classes = case.logits.shape[-1]
    logits = tf.constant(case.logits[image].reshape(-1, classes), tf.float64)
    valid = case.valid(image)
    options = {**case.options, "kind": case.options["heaviside"]}
    del options["heaviside"]
    with tf.GradientTape() as tape:
        tape.watch(logits)
        probabilities = tf.boolean_mask(tf.nn.softmax(logits), valid)
        labels = case.labels[image].reshape(-1)[valid]
        energy = oracles.image_energy(labels, probabilities, **options)
    gradient = tape.gradient(
        energy, logits, unconnected_gradients=tf.UnconnectedGradients.ZERO
    ).numpy()
    return float(energy), gradient.reshape(case.logits[image].shape)


def rounding_floor(case: Case, image: int) -> float:
    """What rounding alone may put into an image's gradient, in norm.

    Both gradients are differences: of squares that agree where c1 = c2, in float32
    (8 units in the last place), and of the softmax's products, which the float64
    oracle too knows only to 1e-16.
    """
    classes = case.logits.shape[-1]
    valid = case.valid(image)
    if not valid.any():
        return 0.0
    logits = case.logits[image].reshape(-1, classes)[valid].astype(np.float64)
    labels = case.labels[image].reshape(-1)[valid]
    probabilities = tf.nn.softmax(tf.constant(logits)).numpy()
    terms = oracles.uncancelled_gradient(
        labels, probabilities, case.options["heaviside"], case.options["normalization"]
    )
    terms = terms * (np.bincount(labels, minlength=classes) > 0)
    if case.options["class_weight"] is not None:
        terms = terms * np.array(case.options["class_weight"])
    jacobian = probabilities * (1 - probabilities)
    return float(
        1e-6 * np.linalg.norm(jacobian * terms.sum(axis=-1, keepdims=True))
        + 1e-15 * np.linalg.norm(terms)
    )


@examples(80)
@given(cases())
def test_equals_the_literal_formula_and_its_gradient(case: Case) -> None:
    energies, gradients = run(case)
    assert np.isfinite(energies).all()
    assert np.isfinite(gradients).all()
    for image, (energy, gradient) in enumerate(zip(energies, gradients, strict=True)):
        expected, expected_gradient = literal(case, image)
        np.testing.assert_allclose(energy, expected, rtol=1e-5, atol=1e-12)
        error = np.linalg.norm(gradient - expected_gradient)
        bound = 1e-3 * np.linalg.norm(expected_gradient) + rounding_floor(case, image)
        assert error <= bound


@examples(40)
@given(cases(kinds=("logit",)), st.sampled_from([1.0, 0.5, 0.3]))
def test_logit_equals_the_literal_formula(case: Case, epsilon: float) -> None:
    # In float64: in float32 the odds of a certain net are lost with 1 − P.
    assume(np.abs(case.logits).max() < 10)
    options = {**case.options, "epsilon": epsilon}
    case = Case(case.labels, case.logits.astype(np.float64), options)
    energies, gradients = run(case)
    for image, (energy, gradient) in enumerate(zip(energies, gradients, strict=True)):
        expected, expected_gradient = literal(case, image)
        np.testing.assert_allclose(energy, expected, rtol=1e-8, atol=1e-12)
        error = np.linalg.norm(gradient - expected_gradient)
        assert error <= 1e-7 * np.linalg.norm(expected_gradient) + 1e-13


@examples(80)
@given(cases(kinds=("hf",)))
def test_hf_equals_the_literal_formula(case: Case) -> None:
    energies, gradients = run(case)
    assert np.isfinite(energies).all()
    assert np.isfinite(gradients).all()
    for image, energy in enumerate(energies):
        classes = case.logits.shape[-1]
        logits = tf.constant(case.logits[image].reshape(-1, classes), tf.float64)
        if np.abs(tf.nn.softmax(logits).numpy() - 0.5).min() > 1e-6:
            expected, _ = literal(case, image)
            np.testing.assert_allclose(energy, expected, rtol=1e-5, atol=1e-6)


def test_hf_trains_by_equation_7_with_the_delta_of_mahf() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 60)
    logits = 2 * rng.normal(size=(60, 3)) + 2 * np.eye(3)[labels]
    probabilities = tf.nn.softmax(logits).numpy()
    truth, h = np.eye(3)[labels], (probabilities >= 0.5).astype(float)
    c1 = (truth * h).sum(0) / h.sum(0)
    c2 = (truth * (1 - h)).sum(0) / (1 - h).sum(0)
    expected = oracles.mahf_delta(probabilities - 0.5) * (
        (truth - c1) ** 2 - (truth - c2) ** 2
    )
    p = tf.constant(probabilities[np.newaxis], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(p)
        energy = level_set_energy(labels[np.newaxis], p, heaviside="hf")
    np.testing.assert_allclose(tape.gradient(energy, p)[0], expected, rtol=1e-4)


def test_by_hand() -> None:
    # Two pixels of the classes 0 and 1, P_0 = 0.9 and 0.5. To 1e-6, H_0 = 1 and 0.5:
    # class 0: a = 1, b = 0.5, c = 0, d = 0.5: E = 1·0.5/1.5 + 0 = 1/3;
    # class 1: a = 0.5, b = 0, c = 0.5, d = 1: E = 0 + 0.5·1/1.5 = 1/3.
    labels = np.array([[[0, 1]]])
    probabilities = np.array([[[[0.9, 0.1], [0.5, 0.5]]]], np.float32)
    np.testing.assert_allclose(
        level_set_energy(labels, probabilities), [2 / 3], rtol=1e-6
    )
    # n = 2, and T = 1·(1 − 1/2) = 1/2 for both classes.
    np.testing.assert_allclose(
        level_set_energy(labels, probabilities, normalization="mean"),
        [1 / 3],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        level_set_energy(labels, probabilities, normalization="scale_free"),
        [2 / 3],
        rtol=1e-6,
    )


@pytest.mark.parametrize("from_logits", [True, False])
def test_binary_output_equals_two_classes(from_logits: bool) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (2, 5, 6))
    z = rng.normal(size=(2, 5, 6, 1)).astype(np.float32)
    pair = np.concatenate([0 * z, z], axis=-1)
    if not from_logits:
        z, pair = tf.sigmoid(z).numpy(), tf.nn.softmax(pair).numpy()
    one = level_set_energy(labels, z, from_logits=from_logits)
    two = level_set_energy(labels, pair, from_logits=from_logits)
    np.testing.assert_allclose(one, two, rtol=1e-6)


def test_absent_class_has_neither_energy_nor_gradient() -> None:
    labels = np.array([[[0, 1, 0, 1]]])
    p = tf.constant([[[[0.4, 0.3, 0.3], [0.2, 0.3, 0.5], [0.3, 0.1, 0.6]] * 2][:1]])
    p = p[:, :, :4]
    with tf.GradientTape() as tape:
        tape.watch(p)
        energy = level_set_energy(labels, p)
    np.testing.assert_array_equal(tape.gradient(energy, p)[..., 2], 0)


def test_unsigned_energy_rewards_the_wrong_answer_and_signed_does_not() -> None:
    labels = np.array([[[0, 0, 1, 1]]])
    wrong = tf.constant([[[[0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.8, 0.2]]]])
    plain = level_set_energy(labels, wrong, normalization="scale_free")
    signed = level_set_energy(labels, wrong, normalization="scale_free", signed=True)
    assert plain < 0.1
    assert signed > 1.9


def test_correlation_of_a_sharp_prediction_is_that_of_matthews() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, (3, 7, 8))
    predicted = np.where(rng.random(labels.shape) < 0.3, 1 - labels, labels)
    p = np.eye(2, dtype=np.float32)[predicted]
    losses = level_set_energy(labels, p, normalization="correlation")
    for loss, truth, guess in zip(losses, labels, predicted, strict=True):
        coefficient = np.corrcoef(truth.ravel(), guess.ravel())[0, 1]
        np.testing.assert_allclose(loss, 1 - coefficient, rtol=1e-5)


def test_correlation_finds_a_class_that_is_not_found_yet() -> None:
    # Nothing tells class 1 from class 0: c1 = c2, where Eq. 7 is zero.
    labels = np.array([[[0, 0, 0, 1]]])
    p = tf.fill((1, 1, 4, 2), 0.5)
    gradients = {}
    for normalization in ("scale_free", "correlation"):
        with tf.GradientTape() as tape:
            tape.watch(p)
            energy = level_set_energy(
                labels,
                p,
                heaviside="logit",
                epsilon=1.0,
                normalization=normalization,
            )
        gradients[normalization] = tape.gradient(energy, p)[0, 0, :, 1]
    np.testing.assert_allclose(gradients["scale_free"], 0, atol=1e-7)
    # T = 3/4, V = 1, c1 = c2 = 1/4: ∓(2 G − 1/2) / (2 √(3/4)), halved: two classes.
    expected = -0.5 * np.array([-0.5, -0.5, -0.5, 1.5]) / np.sqrt(3)
    np.testing.assert_allclose(gradients["correlation"], expected, rtol=1e-6)


def test_scale_free_does_not_depend_on_the_resolution() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, (1, 4, 5))
    p = tf.nn.softmax(rng.normal(size=(1, 4, 5, 3)).astype(np.float32))
    doubled = np.repeat(labels, 2, axis=1), np.repeat(p, 2, axis=1)
    ratios = {"sum": 2, **dict.fromkeys(NORMALIZATIONS[1:], 1)}
    for normalization, ratio in ratios.items():
        small = level_set_energy(labels, p, normalization=normalization)
        large = level_set_energy(*doubled, normalization=normalization)
        np.testing.assert_allclose(large, ratio * small, rtol=1e-5)


def test_float16_scores_are_summed_in_float32() -> None:
    # 321² undecided pixels: their sums are beyond float16's 65,504.
    labels = np.zeros((1, 321, 321), np.int32)
    labels[:, :160] = 1
    p = tf.fill((1, 321, 321, 2), tf.constant(0.5, tf.float16))
    energy = level_set_energy(labels, p)
    assert energy.dtype == tf.float32
    # c1 = c2 = the share of the class, so E_l = T_l = S_g (1 − S_g/n), twice.
    pixels, n = 160 * 321, 321 * 321
    np.testing.assert_allclose(energy, [2 * pixels * (1 - pixels / n)], rtol=1e-5)


def test_saturated_logits_keep_their_gradient() -> None:
    # P = 1 − 1e-13 for one class is exactly 1 in float32, and P (g − Σ P g) would be
    # rounding error; in float64 it is the truth.
    labels = np.array([[[0, 1, 1]]])
    logits = np.array([[[[30.0, 0.0, 1.0], [29.0, 2.0, 0.0], [-0.3, 0.2, 0.1]]]])
    gradients = []
    for dtype in (tf.float32, tf.float64):
        z = tf.constant(logits, dtype)
        with tf.GradientTape() as tape:
            tape.watch(z)
            energy = level_set_energy(labels, z, from_logits=True)
        gradients.append(tape.gradient(energy, z).numpy()[0, 0, :2])
    assert np.abs(gradients[1]).min() > 0
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-3)


def test_pixel_weights_hold_the_means_fixed() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, (1, 40))
    logits = rng.normal(size=(1, 40, 3)).astype(np.float32)
    weight = rng.uniform(size=(1, 40)).astype(np.float32)
    p = tf.nn.softmax(logits.astype(np.float64))[0].numpy()
    truth = np.eye(3)[labels[0]]
    h = oracles.heaviside("mahf", tf.constant(p - 0.5)).numpy()
    c1 = (truth * h).sum(0) / h.sum(0)
    c2 = (truth * (1 - h)).sum(0) / (1 - h).sum(0)
    force = oracles.mahf_delta(p - 0.5) * ((truth - c1) ** 2 - (truth - c2) ** 2)
    force *= weight[0][:, np.newaxis]
    expected = p * (force - (p * force).sum(1, keepdims=True))
    z = floating_scores(tf.constant(logits), True)
    with tf.GradientTape() as tape:
        tape.watch(z)
        density = energy_density(
            parse_labels(tf.constant(labels), z, None),
            z,
            EnergyOptions(),
            from_logits=True,
        )
        total = tf.reduce_sum(weight * density)
    gradient = tape.gradient(total, z)[0]
    assert np.linalg.norm(gradient - expected) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weight": [1.0]}, "hold 2 numbers"),
        ({"heaviside": "step"}, "Expected `heaviside`"),
        ({"ignore_class": "255"}, "Expected `ignore_class`"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        level_set_energy(np.zeros((1, 2, 2), int), np.zeros((1, 2, 2, 2)), **options)


@pytest.mark.parametrize("from_logits", [True, False])
def test_the_smallest_width_of_logit_is_finite(from_logits: bool) -> None:
    # At P = ½ the powers of both sides are smallest.
    options: dict[str, Any] = {"heaviside": "logit", "epsilon": 1 / 60}
    values = np.full((1, 3, 4, 2), 0.0 if from_logits else 0.5, np.float32)
    values[0, 0] = np.array([[0, 1], [1, 0], [0.25, 0.75], [0.5, 0.5]])
    labels = np.arange(12).reshape(1, 3, 4) % 2
    scores = tf.constant(values)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        energy = level_set_energy(labels, scores, from_logits=from_logits, **options)
    assert np.isfinite(energy).all()
    assert np.isfinite(tape.gradient(energy, scores)).all()


@pytest.mark.parametrize("kind", ["mahf", "ahf", "hf", "logit"])
def test_a_pixel_of_nan_is_not_passed_over(kind: str) -> None:
    scores = np.full((1, 2, 2, 2), 0.5, np.float32)
    scores[0, 1, 1, 0] = np.nan
    labels = np.array([[[0, 1], [1, 0]]])
    assert np.isnan(level_set_energy(labels, scores, heaviside=kind)).all()


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        (np.zeros((1, 2), int), np.float32(0.5)),
        (np.zeros((1, 2), int), np.zeros((1, 2, 0), np.float32)),
        (np.int64(0), np.zeros((1, 2, 3), np.float32)),
        (np.zeros((1, 2), complex), np.zeros((1, 2, 3), np.float32)),
        (np.zeros((1, 2), int), np.zeros((1, 2, 3), complex)),
        (np.full((1, 2), "a"), np.zeros((1, 2, 3), np.float32)),
    ],
)
def test_what_is_no_batch_raises(labels: Any, scores: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected `?y_\w+`? .*Received"):
        level_set_energy(labels, scores)
