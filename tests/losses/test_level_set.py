"""The level set losses against the energy and Keras' cross-entropies."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_tester import (
    NAN,
    ON_LOGITS,
    LossTester,
    batch,
    pixel_weights,
    value_and_gradient,
)

from tf_levelset import level_set_energy
from tf_levelset.energy.options import EnergyOptions
from tf_levelset.losses import CrossEntropyLevelSetLoss, LevelSetLoss

OPTIONS: dict[str, Any] = {
    "heaviside": "ahf",
    "epsilon": 0.1,
    "normalization": "scale_free",
    "signed": True,
    "per_image": False,
}
BAD_OPTIONS: dict[str, list[Any]] = {
    "heaviside": ["tanh"],
    "epsilon": [-1.0, "small"],
    "normalization": ["none"],
    "signed": ["False"],
    "per_image": [1],
}
# The gradient is a difference of region means, which takes digits.
TOLERANCE: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-6}


class TestLevelSetLoss(LossTester):
    loss = LevelSetLoss
    graph_tolerance = TOLERANCE
    options: ClassVar[dict[str, Any]] = OPTIONS
    bad_options: ClassVar[dict[str, list[Any]]] = BAD_OPTIONS

    def test_is_the_mean_energy_of_the_images(self) -> None:
        labels, logits = batch()
        expected = np.mean(level_set_energy(labels, logits, **ON_LOGITS))
        np.testing.assert_allclose(self.make()(labels, logits), expected, rtol=1e-6)

    def test_xla_keeps_the_digits_of_many_pixels(self) -> None:
        # XLA adds the pixels one by one, and the gradient has differences of such sums.
        labels, logits = batch((1, 1024, 2048))

        def gradient(logits: tf.Tensor) -> tf.Tensor:
            loss = self.make(
                heaviside="ahf",
                epsilon=0.2,
                normalization="scale_free",
                dtype=logits.dtype.name,
            )
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = loss(labels, logits)
            return tape.gradient(value, logits)

        expected = gradient(tf.constant(logits, tf.float64)).numpy()
        found = tf.function(gradient, jit_compile=True)(tf.constant(logits))
        np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


class TestCrossEntropyLevelSetLoss(LossTester):
    loss = CrossEntropyLevelSetLoss
    graph_tolerance = TOLERANCE
    options: ClassVar[dict[str, Any]] = {
        **OPTIONS,
        "level_set_weight": 0.25,
        "level_set_class_weight": [2.0, 1.0, 0.0, 1.0],
        "jit_compile": False,
    }
    bad_options: ClassVar[dict[str, list[Any]]] = {
        **BAD_OPTIONS,
        "level_set_weight": [-1.0, NAN, "heavy", None],
        "jit_compile": [2],
    }
    averages_images = False

    def test_defaults_are_those_of_the_paper(self) -> None:
        loss = CrossEntropyLevelSetLoss()
        assert loss.level_set_weight == 4e-4
        assert loss.options == EnergyOptions("mahf", 1 / 20, None, "sum", False)

    @pytest.mark.parametrize(
        "options",
        [
            {"normalization": "correlation", "signed": True},
            {"heaviside": "logit", "epsilon": 2.0},
            {"level_set_class_weight": [1.0, -1.0]},
        ],
    )
    def test_bad_combinations_raise(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="Expected"):
            CrossEntropyLevelSetLoss(**options)

    def test_equation_8(self) -> None:
        labels, logits = batch()
        theirs = keras.losses.SparseCategoricalCrossentropy(**ON_LOGITS)
        energy = LevelSetLoss(**ON_LOGITS)(labels, logits)
        expected = theirs(labels, logits) + 0.3 * energy
        found = self.make(level_set_weight=0.3)(labels, logits)
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    @pytest.mark.parametrize("from_logits", [True, False])
    @pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "none"])
    @pytest.mark.parametrize("weight", [None, 0.7, pixel_weights()])
    def test_without_level_set_it_is_keras_cross_entropy(
        self, from_logits: bool, reduction: str, weight: Any
    ) -> None:
        labels, scores = batch()
        if not from_logits:
            scores = tf.nn.softmax(scores).numpy()
        options = {**ON_LOGITS, "from_logits": from_logits, "reduction": reduction}
        ours = CrossEntropyLevelSetLoss(0.0, **options)
        theirs = keras.losses.SparseCategoricalCrossentropy(**options)
        found = value_and_gradient(ours, labels, scores, weight)
        expected = value_and_gradient(theirs, labels, scores, weight)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)

    def test_half_precision_dtypes_keep_labels(self) -> None:
        # bfloat16 would turn label 459 into 460, and float16 cannot sum an image.
        labels = np.full((1, 4, 4), 459)
        labels[0, 0] = 458
        logits = np.random.default_rng(0).normal(size=(1, 4, 4, 460)).astype(np.float32)
        expected = CrossEntropyLevelSetLoss(from_logits=True)(labels, logits)
        for dtype in ("bfloat16", "float16", "mixed_bfloat16"):
            loss = CrossEntropyLevelSetLoss(from_logits=True, dtype=dtype)
            assert loss.get_config()["dtype"] == dtype
            np.testing.assert_allclose(loss(labels, logits), expected, rtol=1e-6)

    @pytest.mark.parametrize("heaviside", ["mahf", "ahf"])
    def test_energies_have_class_weights_of_their_own(self, heaviside: str) -> None:
        # Only one of the two is computed in one pass with the cross-entropy.
        labels, logits = batch()
        ours, theirs = [2.0, 0.5, 1.0, 3.0], [0.0, 1.0, 4.0, 1.0]
        options: dict[str, Any] = {**ON_LOGITS, "heaviside": heaviside}
        both = CrossEntropyLevelSetLoss(
            0.3, class_weight=ours, level_set_class_weight=theirs, **options
        )
        cross_entropy = CrossEntropyLevelSetLoss(0.0, class_weight=ours, **options)
        energy = LevelSetLoss(class_weight=theirs, **options)
        expected = cross_entropy(labels, logits) + 0.3 * energy(labels, logits)
        np.testing.assert_allclose(both(labels, logits), expected, rtol=1e-6)
        wrong = CrossEntropyLevelSetLoss(0.3, level_set_class_weight=[1.0], **options)
        with pytest.raises(ValueError, match="4 numbers, one per class"):
            wrong(labels, logits)
