"""The comparison losses: their formulas, and the Keras contracts of all of them."""

from __future__ import annotations

import doctest
import inspect
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from sklearn import metrics

from tf_levelset import CrossEntropyLevelSetLoss, xla
from tf_levelset import losses as all_losses
from tf_levelset.compat import KERAS_3
from tf_levelset.losses import (
    BoundaryLoss,
    DiceLoss,
    FocalLoss,
    LocallyAdaptiveLoss,
    LossSum,
    LovaszSoftmaxLoss,
    SegmentationLoss,
)
from tf_levelset.losses.boundary import signed_distances
from tf_levelset.losses.loss_max_pooling import max_pooling_weights
from tf_levelset.losses.lovasz import jaccard_steps, numpy_jaccard_steps
from tf_levelset.training.compiled import COMPARISON_LOSSES

VOID = 255
CLASSES = 4
NAMES = [*COMPARISON_LOSSES, "sum"]
COMPILED = [name for name in NAMES if name != "boundary"]
POOLED = ["lmp", "lad", "dice", "lovasz"]

OPTIONS: dict[str, dict[str, Any]] = {
    "lmp": {"ratio": 0.2, "p": 1.3, "per_image": False},
    "lad": {
        "patch_size": 5,
        "stride": 2,
        "sigma": 0.7,
        "k": 3.0,
        "merge": "probabilities",
        "per_image": True,
    },
    "focal": {"gamma": 1.5, "alpha": 0.6},
    "dice": {"squared": True, "smooth": 1.0, "per_image": False, "classes": [1, 3]},
    "lovasz": {"per_image": True, "classes": "all"},
    "boundary": {"normalize": True, "classes": [0, 2]},
    "active_contour": {
        "length_weight": 0.5,
        "region_weight": 2.0,
        "inside_weight": 3.0,
        "classes": "all",
    },
}
"""Options that are not the defaults."""


def pictures(
    shape: tuple[int, ...] = (3, 6, 7), void: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (B, …) with void, and logits (B, …, C)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, shape)
    labels = np.where(rng.uniform(size=shape) < void, VOID, labels)
    return labels, rng.normal(size=(*shape, CLASSES)).astype(np.float32)


def make(name: str, **options: Any) -> SegmentationLoss:
    """A loss on logits with void, by its name."""
    common = {"from_logits": True, "ignore_class": VOID}
    if name != "sum":
        return COMPARISON_LOSSES[name](**{**common, **options})
    own: dict[str, Any] = {k: options.pop(k) for k in ("name", "dtype") if k in options}
    parts: list[SegmentationLoss] = [
        CrossEntropyLevelSetLoss(0.0, **{**common, **options}),
        DiceLoss(**{**common, **options}),
    ]
    if "dtype" in own:
        parts = [type(p).from_config(p.get_config() | own) for p in parts]
    return LossSum(parts, [1.0, 0.5], **own)


def per_image(name: str, **options: Any) -> SegmentationLoss:
    """The same, but as the mean of what the images give one by one."""
    if name in POOLED:
        options["per_image"] = True
    return make(name, **options)


def value_and_gradient(
    loss: Callable[..., tf.Tensor], labels: Any, logits: Any, weight: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, logits, sample_weight=weight)
    return value.numpy(), tape.gradient(value, logits).numpy()


def softmax(logits: np.ndarray) -> np.ndarray:
    return tf.nn.softmax(logits.astype(np.float64)).numpy()


def present(labels: np.ndarray) -> list[int]:
    return sorted(set(labels[labels != VOID].tolist()))


# --- Values ---


def test_examples_of_the_docstrings() -> None:
    for loss in (*COMPARISON_LOSSES.values(), LossSum):
        module = sys.modules[loss.__module__]
        found = doctest.testmod(module, extraglobs={**vars(all_losses), "tf": tf})
        assert found.attempted >= 3
        assert found.failed == 0


def test_the_names() -> None:
    assert list(COMPARISON_LOSSES) == list(OPTIONS)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss(gamma: float) -> None:
    labels, logits = pictures()
    weights = [1.0, 2.0, 0.5, 3.0]
    loss = make("focal", gamma=gamma, alpha=0.7, class_weight=weights)
    valid = labels != VOID
    p = softmax(logits)[valid][np.arange(valid.sum()), labels[valid]]
    expected = np.mean(
        0.7 * np.array(weights)[labels[valid]] * (1 - p) ** gamma * -np.log(p)
    )
    np.testing.assert_allclose(loss(labels, logits), expected, rtol=1e-5)


@pytest.mark.parametrize("from_logits", [True, False])
def test_focal_loss_is_keras_own_without_void(from_logits: bool) -> None:
    labels, scores = pictures(void=0)
    if not from_logits:
        scores = tf.nn.softmax(scores).numpy()
    ours = FocalLoss(gamma=1.5, alpha=0.4, from_logits=from_logits)
    theirs = keras.losses.CategoricalFocalCrossentropy(
        gamma=1.5, alpha=0.4, from_logits=from_logits
    )
    expected = theirs(np.eye(CLASSES, dtype=np.float32)[labels], scores)
    np.testing.assert_allclose(ours(labels, scores), expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_gradient_of_the_surely_wrong_and_the_surely_right(gamma: float) -> None:
    # Of a wrong pixel the factor is 1 and the gradient that of the cross-entropy.
    logits = np.array([[[[100.0, 0.0], [0.0, 100.0]]]], np.float32)
    labels = np.array([[[1, 1]]])
    loss = FocalLoss(gamma=gamma, alpha=1.0, from_logits=True)
    value, gradient = value_and_gradient(loss, labels, logits)
    assert value == 50
    expected = np.array([[[[0.5, -0.5], [0.0, 0.0]]]])
    np.testing.assert_allclose(gradient, expected, atol=1e-12)


@pytest.mark.parametrize("p", [1.3, 1.7, 3.0])
@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("kind", ["random", "ties", "zeros", "one", "equal", "steep"])
def test_max_pooling_is_the_maximum(p: float, ratio: float, kind: str) -> None:
    rng = np.random.default_rng(0)
    losses = {
        "random": rng.exponential(size=15),
        "ties": rng.integers(1, 4, 15) / 2,
        "zeros": rng.integers(0, 2, 15) * rng.exponential(size=15),
        "one": np.eye(15)[3],
        "equal": np.full(15, 0.8),
        "steep": 10.0 ** -np.arange(15),
    }[kind]
    expected = oracles.max_pooling(losses, ratio, p)
    weights = max_pooling_weights(losses[np.newaxis], np.ones((1, 15), bool), ratio, p)
    np.testing.assert_allclose(np.sum(weights * losses), expected, rtol=1e-6)
    # Void pixels change nothing, wherever they stand.
    losses, valid = (
        np.insert(losses, [0, 7, 15], 0),
        np.insert(np.ones(15), [0, 7, 15], 0),
    )
    weights = max_pooling_weights(losses[np.newaxis], valid[np.newaxis] > 0, ratio, p)
    np.testing.assert_allclose(np.sum(weights * losses), expected, rtol=1e-6)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
    st.lists(st.floats(0, 100, allow_subnormal=False), min_size=1, max_size=30),
    st.floats(0.01, 1),
    st.floats(1.01, 8),
)
def test_max_pooling_keeps_its_constraints(
    values: list[float], ratio: float, p: float
) -> None:
    losses = np.array([values])
    n, q = len(values), p / (p - 1)
    m = max(int(ratio * n), 1)
    weights = max_pooling_weights(losses, np.ones((1, n), bool), ratio, p).numpy()
    assert np.isfinite(weights).all()
    assert weights.min() >= 0
    assert weights.max() <= n ** (-1 / q) * m ** (-1 / p) * (1 + 1e-12)
    assert np.sum(weights**p) ** (1 / p) <= n ** (-1 / q) * (1 + 1e-9)
    # Equal weights 1/n keep them too: the maximum is not below the mean.
    assert np.sum(weights * losses) >= np.mean(losses) * (1 - 1e-9)


def test_loss_max_pooling() -> None:
    labels, logits = pictures((2, 4, 5))
    losses = [
        -np.log(softmax(logits)[i][v][np.arange(v.sum()), labels[i][v]])
        for i, v in enumerate(labels != VOID)
    ]
    of_images = [oracles.max_pooling(image, 0.3, 1.7) for image in losses]
    np.testing.assert_allclose(
        make("lmp")(labels, logits), np.mean(of_images), rtol=1e-6
    )
    np.testing.assert_allclose(
        make("lmp", per_image=False)(labels, logits),
        oracles.max_pooling(np.concatenate(losses), 0.3, 1.7),
        rtol=1e-6,
    )
    weights = [1.0, 2.0, 0.5, 3.0]
    weighed = [
        oracles.max_pooling(x * np.array(weights)[y[y != VOID]], 0.3, 1.7)
        for x, y in zip(losses, labels, strict=True)
    ]
    np.testing.assert_allclose(
        make("lmp", class_weight=weights)(labels, logits), np.mean(weighed), rtol=1e-6
    )


@pytest.mark.parametrize("merge", ["logits", "probabilities"])
@pytest.mark.parametrize(("patch_size", "stride"), [(1, 1), (3, 1), (3, 2), (5, 3)])
@pytest.mark.parametrize("by_image", [True, False])
def test_locally_adaptive_loss(
    merge: str, patch_size: int, stride: int, by_image: bool
) -> None:
    labels, logits = pictures()
    labels %= 3  # larger regions; void becomes a class
    labels = np.where(pictures(seed=1)[0] == VOID, VOID, labels)
    options: dict[str, Any] = {
        "patch_size": patch_size,
        "stride": stride,
        "sigma": 0.8,
        "merge": merge,
    }
    costs = [
        oracles.locally_adaptive_costs(y, x, **options)
        for y, x in zip(
            np.where(labels == VOID, -1, labels),
            logits.astype(np.float64) if merge == "logits" else softmax(logits),
            strict=True,
        )
    ]
    loss = make("lad", per_image=by_image, **options)(labels, logits)
    pools = costs if by_image else [list(itertools.chain(*costs))]
    expected = [np.mean(np.array(pool) ** 5) ** (1 / 5) for pool in pools]
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-5)


def test_locally_adaptive_loss_of_single_pixels_is_the_cross_entropy() -> None:
    labels, logits = pictures()
    expected = CrossEntropyLevelSetLoss(0.0, from_logits=True, ignore_class=VOID)
    loss = make("lad", patch_size=1, k=1.0)
    np.testing.assert_allclose(
        loss(labels, logits), expected(labels, logits), rtol=1e-6
    )


def test_merged_probabilities_of_a_hopeless_patch_have_a_gradient() -> None:
    logits = np.zeros((1, 3, 3, 2), np.float32)
    logits[..., 0] = 300.0
    loss = LocallyAdaptiveLoss(merge="probabilities", from_logits=True)
    value, gradient = value_and_gradient(loss, np.ones((1, 3, 3), int), logits)
    np.testing.assert_allclose(value, 300, rtol=1e-6)
    np.testing.assert_allclose(gradient[..., 0].sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("classes", ["present", "all", [1, 3]])
@pytest.mark.parametrize("by_image", [True, False])
def test_dice_loss(squared: bool, smooth: float, classes: Any, by_image: bool) -> None:
    check_region_loss(
        make(
            "dice", squared=squared, smooth=smooth, classes=classes, per_image=by_image
        ),
        lambda y, p: oracles.dice_losses(y, p, squared, smooth),
        by_image,
    )


@pytest.mark.parametrize("classes", ["present", "all", [1, 3]])
@pytest.mark.parametrize("by_image", [True, False])
def test_lovasz_softmax_loss(classes: Any, by_image: bool) -> None:
    check_region_loss(
        make("lovasz", classes=classes, per_image=by_image),
        oracles.lovasz_losses,
        by_image,
    )


def check_region_loss(
    loss: Any, oracle: Callable[[np.ndarray, np.ndarray], list[float]], by_image: bool
) -> None:
    """Holds a mean over classes to its literal form; a class is absent from an image.

    Class weights multiply what the classes add.
    """
    labels, logits = pictures()
    labels[0][labels[0] == 2] = 1
    labels[:, :2][labels[:, :2] == 3] = 0
    probabilities = softmax(logits)
    rows = (
        list(zip(labels, probabilities, strict=True))
        if by_image
        else [(labels, probabilities)]
    )
    weights = [1.0, 2.0, 0.5, 3.0]
    expected, weighed = [], []
    for y, p in rows:
        valid = y != VOID
        of_classes = np.array(oracle(y[valid], p[valid]))
        chosen = {"present": present(y), "all": [0, 1, 2, 3]}.get(
            str(loss.classes), loss.classes
        )
        expected.append(np.mean(of_classes[chosen]))
        weighed.append(np.mean((of_classes * weights)[chosen]))
    np.testing.assert_allclose(loss(labels, logits), np.mean(expected), rtol=1e-5)
    config = {**loss.get_config(), "class_weight": weights}
    np.testing.assert_allclose(
        type(loss).from_config(config)(labels, logits), np.mean(weighed), rtol=1e-5
    )


def test_dice_and_lovasz_of_hard_predictions_are_f1_and_jaccard() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, CLASSES, (2, 1, 8, 9))
    hard = np.eye(CLASSES, dtype=np.float32)[predicted]
    flat = labels.ravel(), predicted.ravel()
    np.testing.assert_allclose(
        DiceLoss()(labels, hard),
        1 - metrics.f1_score(*flat, average="macro"),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        LovaszSoftmaxLoss()(labels, hard),
        1 - metrics.jaccard_score(*flat, average="macro"),
        rtol=1e-5,
    )


@pytest.mark.skipif(not KERAS_3, reason="Keras 2 has no Dice loss")
def test_dice_of_one_class_is_keras_own() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (2, 5, 6, 1))
    p = rng.uniform(size=(2, 5, 6, 1)).astype(np.float32)
    ours = DiceLoss(classes=[1], per_image=False)
    expected = keras.losses.Dice()(truth.astype(np.float32), p)
    np.testing.assert_allclose(ours(truth, p), expected, rtol=1e-5)


def test_lovasz_terms_hold_in_float32_over_many_pixels() -> None:
    # 1 − I/U of neighbours differ by 1e-5 here: as a difference in float32 the terms
    # would be wrong by 6e-8/1e-5. As written, by a few roundings of 6e-8.
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (1, 300, 300))
    logits = rng.normal(size=(1, 300, 300, 2))
    options: dict[str, Any] = {"from_logits": True}
    single = LovaszSoftmaxLoss(**options)
    double = LovaszSoftmaxLoss(dtype="float64", **options)
    rounded = logits.astype(np.float32)
    exact, gradient = value_and_gradient(double, labels, rounded.astype(np.float64))
    value, other = value_and_gradient(single, labels, rounded)
    np.testing.assert_allclose(value, exact, rtol=1e-5)
    # Pixels whose errors are equal in float32 may change places: norms, not elements.
    difference = np.linalg.norm(other - gradient)
    assert difference < 1e-4 * np.linalg.norm(gradient)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_jaccard_steps_of_numpy_are_those_of_tensorflow(dtype: str) -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(-1, 3, (2, 200)).astype(np.int32)
    classes[1] = np.minimum(classes[1], 1)  # class 2 is absent, as class 3 is from both
    # Many equal errors, zeros among them of both signs.
    errors = (rng.integers(0, 20, (2, 4, 200)) / 19).astype(dtype)
    errors[0, 0, ::7] = -0.0
    errors = np.where(classes[:, np.newaxis] < 0, 0, errors).astype(dtype)
    expected = jaccard_steps(tf.constant(errors), classes).numpy()
    wanted = np.array([[True, True, False, True], [True] * 4])
    found = numpy_jaccard_steps(tf.constant(errors), classes, wanted)
    expected[0, 2] = 0
    assert found.dtype == dtype
    # Steps of TensorFlow's float32 quotients: some roundings of 6e-8.
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("classes", ["present", "all", [1, 3]])
@pytest.mark.parametrize("shape", [(3, 6, 7), (2, 3, 4, 5)])
def test_boundary_loss(normalize: bool, classes: Any, shape: tuple[int, ...]) -> None:
    labels, logits = pictures(shape)
    labels[0][labels[0] == 2] = 1
    labels[1] = np.where(labels[1] == VOID, VOID, 3)  # a class that fills its image
    weights = np.array([1.0, 2.0, 0.5, 3.0])
    expected = []
    for y, p in zip(labels, softmax(logits), strict=True):
        distances = oracles.signed_distances(np.where(y == VOID, -1, y), CLASSES)
        if normalize:
            distances /= np.sqrt(np.sum(np.square(y.shape)))
        chosen = {"present": present(y), "all": [0, 1, 2, 3]}.get(str(classes), classes)
        of_classes = (distances * p)[y != VOID].mean(axis=0) * weights
        expected.append(of_classes[chosen].mean())
    loss = make(
        "boundary", normalize=normalize, classes=classes, class_weight=weights.tolist()
    )
    np.testing.assert_allclose(loss(labels, logits), np.mean(expected), rtol=1e-5)


def test_signs_of_the_distances() -> None:
    # A class of 3 × 3 in the middle of 5 × 5: its rim is at 0, its centre inside.
    classes = np.zeros((5, 5), int)
    classes[1:4, 1:4] = 1
    distances = signed_distances(classes, 3)
    diagonal = np.sqrt(2)
    np.testing.assert_allclose(distances[0, :, 1], [diagonal, 1, 1, 1, diagonal])
    np.testing.assert_allclose(distances[2, :, 1], [1, 0, -1, 0, 1])
    np.testing.assert_allclose(distances[2, :, 0], [0, 1, 2, 1, 0])
    np.testing.assert_array_equal(distances[..., 2], 0)


@pytest.mark.parametrize("classes", ["present", "all", [1, 3]])
@pytest.mark.parametrize("shape", [(3, 6, 7), (2, 3, 4, 5)])
def test_active_contour_loss(classes: Any, shape: tuple[int, ...]) -> None:
    labels, logits = pictures(shape)
    labels[0][labels[0] == 2] = 1
    weights = np.array([1.0, 2.0, 0.5, 3.0])
    expected = []
    for y, p in zip(labels, softmax(logits), strict=True):
        length, region = oracles.active_contour_losses(
            np.where(y == VOID, -1, y), p, mu=0.6
        )
        chosen = {"present": present(y), "all": [0, 1, 2, 3]}.get(str(classes), classes)
        expected.append(np.mean((weights * (0.3 * length + 2.0 * region))[chosen]))
    loss = make(
        "active_contour",
        length_weight=0.3,
        region_weight=2.0,
        inside_weight=0.6,
        classes=classes,
        class_weight=weights.tolist(),
    )
    np.testing.assert_allclose(loss(labels, logits), np.mean(expected), rtol=1e-5)


def test_sum_of_losses() -> None:
    labels, logits = pictures()
    parts = [make("focal"), make("dice"), make("boundary")]
    expected = parts[0](labels, logits) + 0.3 * parts[2](labels, logits)
    total = LossSum(parts, weights=[1, 0, 0.3])
    np.testing.assert_allclose(total(labels, logits), expected, rtol=1e-6)
    nested = LossSum([LossSum(parts), parts[0]], weights=[1.0, 2.0])
    expected = sum(part(labels, logits) for part in [*parts, parts[0], parts[0]])
    np.testing.assert_allclose(nested(labels, logits), expected, rtol=1e-6)


# --- Gradients ---


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other_options", [False, True])
def test_gradient_is_that_of_finite_differences(name: str, other_options: bool) -> None:
    labels, logits = pictures()
    options = OPTIONS.get(name, {}) if other_options else {}
    loss = make(name, dtype="float64", **options)
    logits = logits.astype(np.float64)
    _, gradient = value_and_gradient(loss, labels, logits)
    rng = np.random.default_rng(5)
    for _ in range(3):
        direction = rng.normal(size=logits.shape)
        ahead, behind = (
            float(loss(labels, tf.constant(logits + sign * 1e-5 * direction)))
            for sign in (1, -1)
        )
        # Central differences are off by h² = 1e-10 times the third derivative, and by
        # rounding, 1e-16/h = 1e-11.
        np.testing.assert_allclose(
            (ahead - behind) / 2e-5, np.sum(gradient * direction), rtol=1e-6, atol=1e-9
        )


# --- Void ---


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_void_is_zero(name: str) -> None:
    labels, logits = pictures(void=1.1)
    value, gradient = value_and_gradient(make(name), labels, logits)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_of_void_beside_another_adds_nothing(name: str) -> None:
    labels, logits = pictures((2, 6, 7))
    alone = per_image(name)(labels[:1], logits[:1])
    labels[1] = VOID
    value, gradient = value_and_gradient(per_image(name), labels, logits)
    if name not in ("focal", "sum"):  # means over the batch's valid pixels
        np.testing.assert_allclose(value, alone / 2, rtol=1e-6)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[1], 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other_options", [False, True])
def test_void_pixels_have_no_say(name: str, other_options: bool) -> None:
    labels, logits = pictures()
    changed = np.where((labels == VOID)[..., np.newaxis], 90.0, logits)
    function = make(name, **(OPTIONS.get(name, {}) if other_options else {}))
    value, gradient = value_and_gradient(function, labels, logits)
    np.testing.assert_allclose(function(labels, changed), value, rtol=1e-6)
    np.testing.assert_array_equal(gradient[labels == VOID], 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other_options", [False, True])
@pytest.mark.parametrize("in_graph", [False, True])
def test_no_number_on_void_is_no_harm(
    name: str, other_options: bool, in_graph: bool
) -> None:
    labels, logits = pictures()
    void = (labels == VOID)[..., np.newaxis]
    function = make(name, **(OPTIONS.get(name, {}) if other_options else {}))
    value, gradient = value_and_gradient(function, labels, logits)

    def changed_loss(labels: Any, logits: tf.Tensor, sample_weight: Any) -> tf.Tensor:
        return function(labels, logits)

    changed_value, of_changed = value_and_gradient(
        tf.function(changed_loss) if in_graph else changed_loss,
        labels,
        np.where(void, np.float32(np.nan), logits),
    )
    np.testing.assert_allclose(changed_value, value, rtol=1e-6)
    np.testing.assert_allclose(of_changed, gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_margin_of_void_is_as_good_as_none(name: str) -> None:
    labels, logits = pictures(void=0)
    function = per_image(name)
    expected, gradient = value_and_gradient(function, labels, logits)
    margin = [(0, 0), (1, 2), (3, 1)]
    wide = np.pad(labels, margin, constant_values=VOID)
    wide_logits = np.pad(logits, [*margin, (0, 0)], constant_values=5.0)
    value, wide_gradient = value_and_gradient(function, wide, wide_logits)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(
        wide_gradient[:, 1:-2, 3:-1], gradient, rtol=1e-4, atol=1e-7
    )


# --- Forms of the arguments ---


@pytest.mark.parametrize("name", NAMES)
def test_forms_of_the_same_labels_agree(name: str) -> None:
    labels, logits = pictures()
    function = make(name)
    expected = function(labels, logits)
    one_hot = np.eye(VOID + 1)[labels][..., :CLASSES]
    for form in (
        labels.astype("uint8"),
        labels[..., np.newaxis].astype("int64"),
        labels.astype("float32"),
        one_hot,
        one_hot.astype("uint8"),
    ):
        np.testing.assert_allclose(function(form, logits), expected, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other_options", [False, True])
def test_probabilities_and_logits_agree(name: str, other_options: bool) -> None:
    labels, logits = pictures()
    options = OPTIONS.get(name, {}) if other_options else {}
    np.testing.assert_allclose(
        make(name, from_logits=False, **options)(labels, tf.nn.softmax(logits)),
        make(name, **options)(labels, logits),
        rtol=1e-5,
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("from_logits", [True, False])
def test_one_channel_is_background_and_foreground(name: str, from_logits: bool) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (2, 5, 6, 1))
    logit = np.random.default_rng(1).normal(size=(2, 5, 6, 1)).astype("float32")
    two = np.concatenate([np.zeros_like(logit), logit], axis=-1)
    one = logit if from_logits else tf.sigmoid(logit)
    np.testing.assert_allclose(
        make(name, from_logits=from_logits)(labels, one),
        make(name)(labels, two),
        rtol=1e-5,
    )


@pytest.mark.parametrize("name", NAMES)
def test_volumes(name: str) -> None:
    labels, logits = pictures((2, 4, 6))
    volume = labels.reshape(2, 2, 3, 4), logits.reshape(2, 2, 3, 4, CLASSES)
    if name == "lad":
        with pytest.raises(
            ValueError, match=r"Expected y_pred of shape \(B, H, W, C\)"
        ):
            make(name)(*volume)
    elif name in ("boundary", "active_contour"):  # neighbours matter; tested above
        assert np.isfinite(make(name)(*volume))
    else:
        np.testing.assert_allclose(
            make(name)(*volume), make(name)(labels, logits), rtol=1e-6
        )


# --- Weights and reductions ---


@pytest.mark.parametrize("name", NAMES)
def test_call_returns_a_loss_a_pixel(name: str) -> None:
    # A scalar would skip Keras' reduction and its division by the replicas.
    labels, logits = pictures()
    each = make(name).call(tf.constant(labels), tf.constant(logits))
    assert each.shape == (3, 6, 7)
    np.testing.assert_allclose(np.mean(each), make(name)(labels, logits), rtol=1e-5)
    assert make(name, reduction="none")(labels, logits).shape == (3, 6, 7)


@pytest.mark.parametrize("name", NAMES)
def test_weight_of_an_image_is_the_images_even_where_width_is_batch(name: str) -> None:
    labels, logits = pictures((3, 3, 3), void=0)
    weight = np.array([1.0, 0.0, 4.0], np.float32)
    function = per_image(name)
    expected = sum(
        w * function(labels[i : i + 1], logits[i : i + 1]) for i, w in enumerate(weight)
    )
    for form in (weight, weight[:, np.newaxis], weight[:, np.newaxis, np.newaxis]):
        np.testing.assert_allclose(
            function(labels, logits, sample_weight=form), expected / 3, rtol=1e-5
        )


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_pixels_multiply_their_losses(name: str) -> None:
    labels, logits = pictures(void=0)
    weight = np.random.default_rng(2).uniform(size=labels.shape).astype(np.float32)
    function = make(name)
    each = function.call(tf.constant(labels), tf.constant(logits))
    for form in (weight, weight[..., np.newaxis]):
        np.testing.assert_allclose(
            function(labels, logits, sample_weight=form),
            np.mean(weight * each),
            rtol=1e-5,
        )
    np.testing.assert_allclose(
        function(labels, logits, sample_weight=2.0),
        2 * function(labels, logits),
        rtol=1e-6,
    )


@pytest.mark.parametrize("name", ["focal", "lmp", "lad", "lovasz", "boundary"])
def test_weights_of_pixels_multiply_their_gradients(name: str) -> None:
    # What pools and sorts the pixels is held fixed, not moved by the weights.
    options = {"patch_size": 1} if name == "lad" else {}
    labels, logits = pictures()
    weight = np.random.default_rng(2).uniform(size=labels.shape).astype(np.float32)
    function = make(name, **options)
    _, gradient = value_and_gradient(function, labels, logits)
    _, weighed = value_and_gradient(function, labels, logits, weight)
    expected = weight[..., np.newaxis] * gradient
    np.testing.assert_allclose(weighed, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", COMPARISON_LOSSES)
def test_class_weights_are_one_a_class_and_scale(name: str) -> None:
    labels, logits = pictures()
    np.testing.assert_allclose(
        make(name, class_weight=[2.0] * CLASSES)(labels, logits),
        2 * make(name)(labels, logits),
        rtol=1e-5,
    )
    with pytest.raises(ValueError, match="hold 4 numbers"):
        make(name, class_weight=[1.0, 2.0])(labels, logits)


def test_sum_checks_the_class_weights_of_its_losses() -> None:
    total = LossSum([make("dice", class_weight=[1.0, 2.0])])
    with pytest.raises(ValueError, match="hold 4 numbers"):
        total(*pictures())


# --- Dtypes ---


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(name: str, dtype: str) -> None:
    labels, logits = pictures()
    half = tf.cast(logits, dtype)
    value = make(name, dtype=dtype)(labels, half)
    assert value.dtype == tf.float32
    np.testing.assert_array_equal(value, make(name)(labels, tf.cast(half, tf.float32)))


@pytest.mark.parametrize("name", NAMES)
def test_float64_is_computed_in_float64(name: str) -> None:
    labels, logits = pictures()
    value = make(name, dtype="float64")(labels, logits.astype(np.float64))
    assert value.dtype == tf.float64
    np.testing.assert_allclose(value, make(name)(labels, logits), rtol=1e-5)


# --- Graphs, XLA, replicas ---


@pytest.mark.parametrize("name", NAMES)
def test_graph_and_xla_equal_eager(name: str) -> None:
    labels, logits = pictures()
    foreign = np.where(np.arange(7) == 3, 77, labels)
    function = make(name)

    def both(labels: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = function(labels, logits)
        return value, tape.gradient(value, logits)

    arguments = tf.constant(labels, tf.int32), tf.constant(logits)
    bad_arguments = tf.constant(foreign, tf.int32), tf.constant(logits)
    value, gradient = both(*arguments)
    for jit_compile in (False, True) if name in COMPILED else (False,):
        compiled = tf.function(both, jit_compile=jit_compile)
        other_value, other_gradient = compiled(*arguments)
        np.testing.assert_allclose(other_value, value, rtol=1e-5)
        np.testing.assert_allclose(other_gradient, gradient, rtol=1e-4, atol=1e-7)
        if jit_compile:  # which drops assertions
            assert np.isnan(compiled(*bad_arguments)[0])
        else:
            with pytest.raises(tf.errors.InvalidArgumentError, match="Expected labels"):
                compiled(*bad_arguments)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected labels in"):
        function(*bad_arguments)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other_options", [False, True])
def test_what_a_cpu_compiles_of_large_pictures_equals_eager(
    name: str, other_options: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xla, "on_cpu", lambda: True)
    monkeypatch.setattr(xla, "MANY_PIXELS", 1)
    labels, logits = pictures((2, 20, 30))
    function = make(name, **(OPTIONS.get(name, {}) if other_options else {}))
    value, gradient = value_and_gradient(function, labels, logits)

    @tf.function
    def both(labels: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = function(labels, logits)
        return value, tape.gradient(value, logits)

    other_value, other_gradient = both(labels, logits)
    np.testing.assert_allclose(other_value, value, rtol=1e-5)
    np.testing.assert_allclose(other_gradient, gradient, rtol=1e-4, atol=1e-8)


def test_boundary_loss_does_not_compile_and_says_so() -> None:
    assert "XLA cannot compile" in " ".join(str(BoundaryLoss.__doc__).split())
    labels, logits = pictures()
    compiled = tf.function(make("boundary"), jit_compile=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="XLA"):
        compiled(tf.constant(labels), tf.constant(logits))


@pytest.mark.parametrize("name", NAMES)
def test_dynamic_sizes_in_a_graph(name: str) -> None:
    options = {"stride": 2} if name == "lad" else {}
    function = tf.function(
        make(name, **options),
        input_signature=[
            tf.TensorSpec((None, None, None), tf.uint8),
            tf.TensorSpec((None, None, None, CLASSES)),
            tf.TensorSpec((None,)),
        ],
    )
    for shape in ((1, 4, 5), (3, 6, 7)):
        labels, logits = pictures(shape)
        weight = np.linspace(0.5, 1, shape[0], dtype=np.float32)
        np.testing.assert_allclose(
            function(labels.astype("uint8"), logits, weight),
            make(name, **options)(labels, logits, weight),
            rtol=1e-5,
        )


_REPLICAS = """
import keras, numpy as np, tensorflow as tf
from tf_levelset.losses import LossSum
from tf_levelset.training.compiled import COMPARISON_LOSSES
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
images = rng.normal(size=(4, 6, 7, 3)).astype("float32")
labels = rng.integers(0, 3, (4, 6, 7))
labels[:, 0] = labels[0, 1:5] = 255  # unevenly
options = dict(from_logits=True, ignore_class=255)
pooled = dict.fromkeys(("lmp", "lad", "dice", "lovasz"), {"per_image": True})
def train(strategy):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6, 7, 3)), keras.layers.Conv2D(3, 1)])
        loss = LossSum([cls(**options, **pooled.get(name, {}))
                        for name, cls in COMPARISON_LOSSES.items()])
        model.compile(keras.optimizers.SGD(1.0), loss, jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    history = model.fit(data, epochs=2, verbose=0)
    return model.get_weights(), history.history["loss"]
one, losses = train(tf.distribute.get_strategy())
two, other = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
for a, b in zip(one, two):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(losses, other, rtol=1e-4)
"""


def test_two_replicas_equal_one() -> None:
    # A process of its own: logical devices can be made only before TensorFlow starts.
    subprocess.run([sys.executable, "-W", "ignore", "-c", _REPLICAS], check=True)


# --- Training and saving ---


def segmenter_and_data(dtype: str) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A model compiled with the sum of all losses, images and labels."""
    keras.utils.set_random_seed(0)
    labels, _ = pictures()
    images = np.random.default_rng(0).normal(size=(3, 6, 7, 3)).astype(np.float32)
    model = keras.Sequential(
        [keras.Input((6, 7, 3)), keras.layers.Conv2D(CLASSES, 1, dtype=dtype)]
    )
    loss = LossSum([make(name) for name in NAMES])
    model.compile("sgd", loss, jit_compile=False)
    return model, images, labels


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_train_under_mixed_precision(policy: str) -> None:
    model, images, labels = segmenter_and_data(policy)
    assert model(images).dtype.name == policy.removeprefix("mixed_")
    history = model.fit(images, labels, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]


def test_saved_model_loads_without_custom_objects(tmp_path: Path) -> None:
    model, images, labels = segmenter_and_data("float32")
    before = model.evaluate(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    kinds = [type(loss) for loss in loaded.loss.losses]
    assert kinds == [*COMPARISON_LOSSES.values(), LossSum]
    after = loaded.evaluate(images, labels, verbose=0)
    np.testing.assert_allclose(after, before, rtol=1e-6)


@pytest.mark.parametrize("name", COMPARISON_LOSSES)
def test_configuration_round_trip(name: str) -> None:
    loss = COMPARISON_LOSSES[name]
    options = {
        **OPTIONS[name],
        "from_logits": True,
        "ignore_class": VOID,
        "class_weight": [1.0, 2.0, 3.0, 4.0],
        "reduction": "sum",
        "name": "mine",
        "dtype": "float64",
    }
    assert list(options) == list(inspect.signature(loss).parameters)
    defaults = {k: p.default for k, p in inspect.signature(loss).parameters.items()}
    assert not any(options[key] == defaults[key] for key in options)
    first = loss(**options)
    assert first.get_config() == options
    assert loss().get_config() == defaults
    check_round_trip(first)


def test_configuration_round_trip_of_a_sum() -> None:
    parts = [make(name, reduction="sum") for name in ("focal", "lovasz")]
    first = LossSum(parts, [1.0, 0.25], name="mine", dtype="float64")
    assert first.reduction == "sum"
    check_round_trip(first)
    check_round_trip(LossSum([first, *parts]))


def check_round_trip(first: SegmentationLoss) -> None:
    second = keras.losses.deserialize(keras.losses.serialize(first))
    assert type(second) is type(first)
    assert second.get_config() == first.get_config()
    labels, logits = pictures()
    np.testing.assert_array_equal(second(labels, logits), first(labels, logits))


# --- Bad arguments ---


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("focal", {"gamma": -1.0}),
        ("focal", {"gamma": float("nan")}),
        ("focal", {"alpha": 0.0}),
        ("lmp", {"ratio": 0.0}),
        ("lmp", {"ratio": 1.1}),
        ("lmp", {"p": 1.0}),
        ("lmp", {"p": float("inf")}),
        ("lad", {"patch_size": 4}),
        ("lad", {"patch_size": -1}),
        ("lad", {"stride": 0}),
        ("lad", {"stride": 1.5}),
        ("lad", {"sigma": 0.0}),
        ("lad", {"k": 0.5}),
        ("lad", {"merge": "labels"}),
        ("dice", {"smooth": -1.0}),
        ("dice", {"classes": "absent"}),
        ("dice", {"classes": []}),
        ("lovasz", {"classes": [1, 1]}),
        ("boundary", {"classes": [-1]}),
        ("active_contour", {"classes": [0.5]}),
        ("active_contour", {"length_weight": -1.0}),
        ("active_contour", {"region_weight": float("inf")}),
        ("active_contour", {"inside_weight": float("nan")}),
        *((name, {"class_weight": {0: 1.0}}) for name in COMPARISON_LOSSES),
        *((name, {"class_weight": [-1.0]}) for name in COMPARISON_LOSSES),
        *((name, {"dtype": "int32"}) for name in COMPARISON_LOSSES),
        *((name, {"reduction": "SUM"}) for name in COMPARISON_LOSSES),
    ],
)
def test_bad_arguments_raise(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected|Invalid"):
        COMPARISON_LOSSES[name](**options)


@pytest.mark.parametrize("name", ["dice", "lovasz", "boundary", "active_contour"])
def test_ids_that_are_no_class_raise(name: str) -> None:
    with pytest.raises(ValueError, match="Expected `classes` below 4"):
        make(name, classes=[1, 4])(*pictures())


@pytest.mark.parametrize(
    ("losses", "weights", "message"),
    [
        ([], None, "one or more losses"),
        ([keras.losses.BinaryCrossentropy()], None, "one or more losses"),
        ([FocalLoss(), DiceLoss()], [1.0], "hold 2 finite numbers"),
        ([FocalLoss()], [-1.0], "hold 1 finite"),
        ([FocalLoss()], [float("nan")], "hold 1 finite"),
        ([FocalLoss(), DiceLoss(from_logits=True)], None, "the same `from_logits`"),
        ([FocalLoss(), DiceLoss(ignore_class=0)], None, "the same `ignore_class`"),
        ([FocalLoss(), DiceLoss(reduction="sum")], None, "the same `reduction`"),
    ],
)
def test_bad_sums_raise(losses: Any, weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"Expected .*{message}.* Received"):
        LossSum(losses, weights)


# --- Bad input ---


def test_a_nan_is_no_empty_class() -> None:
    # The Dice coefficient of nothing and nothing is 1.
    labels, logits = pictures()
    logits[0, 0, 0, 0] = np.nan
    labels[0, 0, 0] = 1
    for classes in ("present", "all"):
        assert np.isnan(make("dice", classes=classes)(labels, logits))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0, 6, 7), (2, 0, 7), (2, 6, 0)])
def test_no_pixel_is_zero(name: str, shape: tuple[int, ...]) -> None:
    value, gradient = value_and_gradient(
        make(name), np.zeros(shape, int), np.zeros((*shape, CLASSES), np.float32)
    )
    assert value == 0
    assert gradient.size == 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("focal", {"gamma": "2"}),
        ("focal", {"alpha": None}),
        ("lmp", {"ratio": "a"}),
        ("lmp", {"p": [2.0]}),
        ("lad", {"patch_size": "3"}),
        ("lad", {"patch_size": 3.0}),
        ("lad", {"stride": None}),
        ("lad", {"sigma": 1j}),
        ("lad", {"k": "5"}),
        ("dice", {"smooth": {}}),
        ("dice", {"classes": 3}),
        ("dice", {"classes": ["a"]}),
        ("dice", {"classes": [0.5]}),
        ("lovasz", {"classes": None}),
        ("active_contour", {"length_weight": "a"}),
        ("active_contour", {"region_weight": None}),
        ("active_contour", {"inside_weight": float("nan")}),
        ("boundary", {"ignore_class": 1.5}),
    ],
)
def test_options_of_other_types_raise(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected .*Received"):
        make(name, **options)


def test_weights_of_a_sum_are_numbers() -> None:
    with pytest.raises(ValueError, match="Expected `weights`"):
        LossSum([make("focal")], weights=["a"])  # type: ignore[list-item]
