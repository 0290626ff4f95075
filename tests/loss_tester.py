"""The contract of every loss, as a class of tests; the file of a loss names it."""

from __future__ import annotations

import doctest
import inspect
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
from bad_input import Refused, answer_of

from tf_levelset import losses, xla
from tf_levelset.losses import SegmentationLoss

VOID = 255
CLASSES = 4
WEIGHTS = [1.0, 2.0, 0.5, 3.0]
"""Weights of the four classes."""
ON_LOGITS: dict[str, Any] = {"from_logits": True, "ignore_class": VOID}
NAN, INFINITY = float("nan"), float("inf")
JUNK: tuple[Any, ...] = ("other", {}, 1j, [[]], NAN)


def batch(
    shape: tuple[int, ...] = (3, 6, 7), void: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels (B, …), of which a share is void, and logits (B, …, C)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, shape)
    labels = np.where(rng.uniform(size=shape) < void, VOID, labels)
    return labels, rng.normal(size=(*shape, CLASSES)).astype(np.float32)


def pixel_weights() -> np.ndarray:
    """Returns one sample weight for each pixel of `batch`."""
    return np.random.default_rng(2).uniform(size=(3, 6, 7)).astype(np.float32)


def value_and_gradient(
    loss: Callable[..., tf.Tensor], labels: Any, logits: Any, weight: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, logits, sample_weight=weight)
    return value.numpy(), tape.gradient(value, logits).numpy()


def in_graph(loss: Callable[..., tf.Tensor], **options: Any) -> Callable[..., Any]:
    """Returns a `tf.function` from labels and logits to the loss and its gradient."""

    @tf.function(**options)
    def both(labels: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    return both


def softmax(logits: np.ndarray) -> np.ndarray:
    return tf.nn.softmax(logits.astype(np.float64)).numpy()


class LossTester:
    """Tests that every loss passes; a subclass names the loss."""

    loss: type[SegmentationLoss]
    options: ClassVar[dict[str, Any]]
    """A value other than the default for each option of the loss's own."""
    bad_options: ClassVar[dict[str, list[Any]]]
    """Values that raise `ValueError`."""
    compiles = True
    """Whether XLA can compile the loss."""
    averages_images = True
    """Whether the loss is a mean over images rather than over valid pixels."""
    graph_tolerance: ClassVar[dict[str, Any]] = {"rtol": 1e-4, "atol": 1e-7}
    """For gradients in graphs and under XLA, relative to eager ones."""

    def make(self, **options: Any) -> SegmentationLoss:
        """Returns the loss on logits, with void."""
        return self.loss(**{**ON_LOGITS, **options})

    def make_other(self, other: bool, **options: Any) -> SegmentationLoss:
        """Returns the loss with its defaults, or with the other options."""
        return self.make(**{**(self.options if other else {}), **options})

    def make_per_image(self) -> SegmentationLoss:
        """Returns the loss as a mean over the images, if it can be one."""
        pools = "per_image" in self.options
        return self.make(**({"per_image": True} if pools else {}))

    # --- Values and gradients ---

    def test_examples_of_the_docstrings(self) -> None:
        names = {**vars(losses), "tf": tf}
        found = doctest.testmod(sys.modules[self.loss.__module__], extraglobs=names)
        assert found.attempted >= 3
        assert found.failed == 0

    @pytest.mark.parametrize("other", [False, True])
    def test_gradient_equals_finite_differences(self, other: bool) -> None:
        labels, logits = batch()
        loss = self.make_other(other, dtype="float64")
        logits = logits.astype(np.float64)
        _, gradient = value_and_gradient(loss, labels, logits)
        rng = np.random.default_rng(5)
        for _ in range(3):
            direction = rng.normal(size=logits.shape)
            ahead, behind = (
                float(loss(labels, tf.constant(logits + sign * 1e-5 * direction)))
                for sign in (1, -1)
            )
            # The error of central differences is h² = 1e-10 times the third derivative,
            # and that of rounding is 1e-16/h = 1e-11.
            expected = np.sum(gradient * direction)
            found = (ahead - behind) / 2e-5
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)

    # --- Void ---

    def test_nothing_but_void_is_zero(self) -> None:
        labels, logits = batch(void=1.1)
        value, gradient = value_and_gradient(self.make(), labels, logits)
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)

    def test_an_image_of_void_adds_nothing(self) -> None:
        labels, logits = batch((2, 6, 7))
        loss = self.make_per_image()
        alone = loss(labels[:1], logits[:1])
        labels[1] = VOID
        value, gradient = value_and_gradient(loss, labels, logits)
        if self.averages_images:
            np.testing.assert_allclose(value, alone / 2, rtol=1e-6)
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient[1], 0)

    @pytest.mark.parametrize("other", [False, True])
    @pytest.mark.parametrize("graph", [False, True])
    @pytest.mark.parametrize("content", [90.0, NAN])
    def test_scores_on_void_have_no_effect(
        self, other: bool, graph: bool, content: float
    ) -> None:
        labels, logits = batch()
        void = labels == VOID
        loss = self.make_other(other)
        value, gradient = value_and_gradient(loss, labels, logits)
        np.testing.assert_array_equal(gradient[void], 0)
        changed = np.where(void[..., np.newaxis], np.float32(content), logits)
        if graph:
            found = in_graph(loss)(tf.constant(labels), tf.constant(changed))
        else:
            found = value_and_gradient(loss, labels, changed)
        np.testing.assert_allclose(found[0], value, rtol=1e-6)
        tolerance = 1e-5 if graph else 1e-6
        np.testing.assert_allclose(found[1], gradient, rtol=tolerance, atol=1e-9)

    # --- Shapes and dtypes of the arguments ---

    @pytest.mark.parametrize("shape", [(0, 6, 7), (2, 0, 7), (2, 6, 0)])
    def test_no_pixel_is_zero(self, shape: tuple[int, ...]) -> None:
        value, gradient = value_and_gradient(
            self.make(), np.zeros(shape, int), np.zeros((*shape, CLASSES), np.float32)
        )
        assert value == 0
        assert gradient.shape == (*shape, CLASSES)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
    def test_losses_are_computed_in_float32_or_float64(self, dtype: str) -> None:
        labels, logits = batch()
        scores = tf.cast(logits, dtype)
        value = self.make(dtype=dtype)(labels, scores)
        expected = self.make()(labels, tf.cast(scores, tf.float32))
        assert value.dtype == (tf.float64 if dtype == "float64" else tf.float32)
        tolerance = 1e-5 if dtype == "float64" else 0
        np.testing.assert_allclose(value, expected, rtol=tolerance)

    # --- Bad batches ---

    def test_bad_batches_are_refused(self) -> None:
        for name, given in bad_batches().items():
            answer = answer_of(self.make(), *given)
            assert isinstance(answer, Refused), name
        labels, logits = batch()
        for void in (None, 254, -1):
            answer = answer_of(self.make(ignore_class=void), labels, logits)
            assert isinstance(answer, Refused), void

    def test_a_nan_is_not_passed_over(self) -> None:
        labels, logits = batch()
        labels[0, 0, 0] = 0
        logits[0, 0, 0, 0] = NAN
        assert np.isnan(self.make()(labels, logits))

    @pytest.mark.parametrize(("dtype", "scale"), [("float16", 1e4), ("float32", 1e30)])
    def test_extreme_scores_have_finite_losses(self, dtype: str, scale: float) -> None:
        labels, logits = batch()
        extreme = (scale * logits).astype(dtype)
        value, gradient = value_and_gradient(self.make(), labels, extreme)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        for weight in (-1.0, 0.0):
            assert np.isfinite(self.make()(labels, extreme, weight))

    # --- Weights and reductions ---

    def test_call_returns_one_loss_per_pixel(self) -> None:
        # A scalar would skip Keras' reduction and its division by the replicas.
        labels, logits = batch()
        each = self.make().call(tf.constant(labels), tf.constant(logits))
        assert each.shape == (3, 6, 7)
        np.testing.assert_allclose(np.mean(each), self.make()(labels, logits), 1e-5)
        assert self.make(reduction="none")(labels, logits).shape == (3, 6, 7)

    def test_weights_of_images(self) -> None:
        # Keras broadcasts (B,) against (B, H, W) along W, here without an error: W = B.
        labels, logits = batch((3, 3, 3), void=0)
        weight = np.array([1.0, 0.0, 4.0], np.float32)
        loss = self.make_per_image()
        each = [loss(labels[i : i + 1], logits[i : i + 1]) for i in range(3)]
        expected = np.sum(weight * each) / 3
        for form in (weight, weight[:, np.newaxis], weight[:, np.newaxis, np.newaxis]):
            value = loss(labels, logits, sample_weight=form)
            np.testing.assert_allclose(value, expected, rtol=1e-5)

    def test_weights_of_pixels(self) -> None:
        labels, logits = batch(void=0)
        weight, loss = pixel_weights(), self.make()
        each = loss.call(tf.constant(labels), tf.constant(logits))
        for form in (weight, weight[..., np.newaxis]):
            value = loss(labels, logits, sample_weight=form)
            np.testing.assert_allclose(value, np.mean(weight * each), rtol=1e-5)
        twice = loss(labels, logits, sample_weight=2.0)
        np.testing.assert_allclose(twice, 2 * loss(labels, logits), rtol=1e-6)

    def test_class_weights(self) -> None:
        labels, logits = batch()
        twice = self.make(class_weight=[2.0] * CLASSES)(labels, logits)
        np.testing.assert_allclose(twice, 2 * self.make()(labels, logits), rtol=1e-5)
        with pytest.raises(ValueError, match="hold 4 numbers"):
            self.make(class_weight=[1.0, 2.0])(labels, logits)

    # --- Graphs and XLA ---

    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_graph_and_xla_equal_eager(self, jit_compile: bool) -> None:
        labels, logits = batch()
        loss = self.make()
        compiled = in_graph(loss, jit_compile=jit_compile)
        good = tf.constant(labels, tf.int32), tf.constant(logits)
        # Label 77 is neither a class nor void.
        bad = tf.constant(np.where(np.arange(7) == 3, 77, labels), tf.int32), good[1]
        if jit_compile and not self.compiles:
            with pytest.raises(tf.errors.InvalidArgumentError, match="XLA"):
                compiled(*good)
            return
        value, gradient = value_and_gradient(loss, *good)
        found = compiled(*good)
        np.testing.assert_allclose(found[0], value, rtol=1e-5)
        np.testing.assert_allclose(found[1], gradient, **self.graph_tolerance)
        if jit_compile:  # XLA drops assertions.
            assert np.isnan(compiled(*bad)[0])
            return
        for call in (compiled, loss):
            with pytest.raises(tf.errors.InvalidArgumentError, match="Expected labels"):
                call(*bad)

    @pytest.mark.parametrize("other", [False, True])
    def test_what_a_cpu_compiles_of_large_images_equals_eager(
        self, other: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(xla, "on_cpu", lambda: True)
        monkeypatch.setattr(xla, "MANY_PIXELS", 1)
        labels, logits = batch((2, 20, 30))
        loss = self.make_other(other)
        value, gradient = value_and_gradient(loss, labels, logits)
        found = in_graph(loss)(tf.constant(labels), tf.constant(logits))
        np.testing.assert_allclose(found[0], value, rtol=1e-5)
        np.testing.assert_allclose(found[1], gradient, **self.graph_tolerance)

    def test_dynamic_sizes_in_a_graph(self) -> None:
        loss = self.make(**({"stride": 2} if "stride" in self.options else {}))
        function = tf.function(
            loss,
            input_signature=[
                tf.TensorSpec((None, None, None), tf.uint8),
                tf.TensorSpec((None, None, None, CLASSES)),
                tf.TensorSpec((None,)),
            ],
        )
        for shape in ((1, 4, 5), (3, 6, 7)):
            labels, logits = batch(shape)
            weight = np.linspace(0.5, 1, shape[0], dtype=np.float32)
            value = function(labels.astype("uint8"), logits, weight)
            expected = loss(labels, logits, weight)
            np.testing.assert_allclose(value, expected, rtol=1e-5)

    # --- Configuration ---

    def test_configuration_round_trip(self) -> None:
        options = {
            **self.options,
            **ON_LOGITS,
            "class_weight": [1.0, 2.0, 3.0, 4.0],
            "reduction": "sum",
            "name": "mine",
            "dtype": "float64",
        }
        parameters = inspect.signature(self.loss).parameters
        defaults = {name: p.default for name, p in parameters.items()}
        assert set(options) == set(defaults)
        assert not any(options[name] == defaults[name] for name in options)
        assert self.loss(**options).get_config() == options
        assert self.loss().get_config() == defaults
        check_round_trip(self.loss(**options))

    def test_bad_options_raise(self) -> None:
        common: dict[str, list[Any]] = {
            "from_logits": ["False"],
            "ignore_class": ["255", 1.5],
            "class_weight": [{0: 1.0}, [-1.0], "abcd"],
            "reduction": ["SUM", "average", ["sum"]],
            "dtype": ["int32", "floaty"],
        }
        for name, values in {**common, **self.bad_options}.items():
            for value in values:
                with pytest.raises(ValueError, match=f"(?s)Expected .*`{name}`"):
                    self.loss(**{name: value})
            for junk in JUNK:
                answer = answer_of(lambda option: self.loss(**option), {name: junk})
                assert isinstance(answer, Refused), (name, junk)


def bad_batches() -> dict[str, tuple[Any, ...]]:
    """Returns labels, scores and perhaps weights that do not go together, by name."""
    labels, logits = batch((2, 4, 5), void=0)
    cases: dict[str, tuple[Any, ...]] = {"weights of text": (labels, logits, "heavy")}
    for label in (-1, 5, 254, 2**31, -(2**31), 2**32, 0.5, NAN, INFINITY, 6e4, 1.001):
        foreign = labels.astype(np.float64)
        foreign.flat[-1] = label
        cases[f"label {label}"] = foreign, logits
        if float(label).is_integer():
            cases[f"integer label {label}"] = foreign.astype(np.int64), logits
    for row in ((0.5, 0.5), (1, 1), (-1, 1), (2, 0), (NAN, 0)):
        soft = np.eye(CLASSES)[np.zeros_like(labels)]
        soft[-1, -1, -1, :2] = row
        cases[f"one-hot label {row}"] = soft, logits
    larger = [np.concatenate([labels, labels], axis) for axis in range(3)]
    wider = labels[np.newaxis, ..., np.newaxis]
    for other in (*larger, wider, labels.ravel(), labels[0, 0, 0]):
        cases[f"labels of shape {other.shape}"] = other, logits
    flat = logits.ravel()
    for other in (flat, flat[:, np.newaxis], np.float32(0), logits[..., :0]):
        cases[f"scores of shape {other.shape}"] = labels, other
    for dtype in ("U4", "complex64"):
        cases[f"labels of {dtype}"] = labels.astype(dtype), logits
        cases[f"scores of {dtype}"] = labels, tf.constant(logits.astype(dtype))
    for shape in ((3,), (5,), (2, 5), (2, 4, 4), (2, 4, 5, 2), (2, 4, 5, 1, 1)):
        cases[f"weights of shape {shape}"] = labels, logits, np.ones(shape)
    cases["weights in a list"] = labels, logits, np.ones((4, 5)).tolist()
    return cases


class ClassAverageTester(LossTester):
    """Tests that losses pass which average over classes, too."""

    def test_bad_classes_raise(self) -> None:
        for classes in ("absent", [], [1, 1], [-1], [0.5], 3, ["a"], None):
            with pytest.raises(ValueError, match="Expected `classes` to"):
                self.make(classes=classes)
        with pytest.raises(ValueError, match="Expected `classes` below 4"):
            self.make(classes=[1, 4])(*batch())


def check_round_trip(first: SegmentationLoss) -> None:
    """Compares a loss with what Keras makes of its configuration."""
    second = keras.losses.deserialize(keras.losses.serialize(first))
    assert type(second) is type(first)
    assert second.get_config() == first.get_config()
    labels, logits = batch()
    np.testing.assert_array_equal(second(labels, logits), first(labels, logits))
