"""The level set energy as a metric, the curve of Figure 4b of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import check_ignore_class, check_numeric
from tf_levelset.energy import level_set_energy
from tf_levelset.energy.options import EnergyOptions
from tf_levelset.metrics.base import StreamingMetric, as_written


@compat.register
class LevelSetEnergy(StreamingMetric):
    """Mean over images of the level set energy (Eq. 4), the curve of Figure 4b.

    An image without valid pixels has energy 0 and counts as an image.

    Args:
        from_logits: Whether predictions are logits rather than probabilities.
        heaviside: Name of the Heaviside function (Eq. 6).
        epsilon: Width ε of the Heaviside function. The paper uses 1/20.
        ignore_class: The label of void pixels, which are outside of the image.
        class_weight: C factors of the energies of the classes, or None.
        normalization: See `tf_levelset.energy.options.EnergyOptions`.
        signed: See `tf_levelset.energy.options.EnergyOptions`.
        name: Name of the metric.
        dtype: Dtype of the result: float32, unless it is float64.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        Two pixels are of class 0 and two of class 1. With P = 1/2, both level sets are
        zero, H = 1/2 everywhere and c1 = c2 = 1/2. Each class has the energy
        4 · 1/4 = 1:

        >>> metric = LevelSetEnergy()
        >>> undecided = tf.fill([1, 2, 2, 2], 0.5)
        >>> metric.update_state([[[0, 0], [1, 1]]], undecided)
        >>> round(float(metric.result()), 4)
        2.0
    """

    _direction = "down"

    def __init__(
        self,
        from_logits: bool = False,
        heaviside: str = "mahf",
        epsilon: float = 1 / 20,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        normalization: str = "sum",
        signed: bool = False,
        name: str | None = "level_set_energy",
        dtype: Any = None,
    ) -> None:
        check_ignore_class(ignore_class)
        super().__init__(name=name, dtype=dtype)
        self.from_logits = from_logits
        self.ignore_class = ignore_class
        self.options = EnergyOptions(
            heaviside, epsilon, class_weight, normalization, signed
        )
        # A float32 total of a long run would lose the digits of what is added to it.
        self._total = self._add_total("total", dtype="float64")
        self._weight = self._add_total("weight", dtype="float64")

    @as_written
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds the energies of a batch.

        Args:
            y_true: Labels of shape (B, H, W) or (B, H, W, 1).
            y_pred: Logits or probabilities of shape (B, H, W, C).
            sample_weight: Weights of the images, a scalar or of shape (B,) or (B, 1).

        Raises:
            ValueError: If the shapes do not fit, when the function is traced.
            tf.errors.InvalidArgumentError: If a label is neither a class nor void.
                Under XLA, `result` is NaN instead.
        """
        energies = level_set_energy(
            y_true,
            y_pred,
            from_logits=self.from_logits,
            ignore_class=self.ignore_class,
            **self.options.config(),
        )
        energies = tf.cast(energies, tf.float64)
        if compat.keras_mask(y_pred) is not None:
            sample_weight = _without_mask(sample_weight, compat.keras_mask(y_pred))
        weights = _image_weights(sample_weight, energies)
        self._total.assign_add(tf.reduce_sum(weights * energies))
        self._weight.assign_add(tf.reduce_sum(weights))

    @as_written
    def result(self) -> tf.Tensor:
        """Returns the weighted mean energy of an image, 0.0 before the first image."""
        total, weight = map(tf.convert_to_tensor, (self._total, self._weight))
        return self._in_result_dtype(tf.math.divide_no_nan(total, weight))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this metric."""
        return {
            **super().get_config(),
            **self.options.config(),
            "from_logits": self.from_logits,
            "ignore_class": self.ignore_class,
        }


def _without_mask(sample_weight: Any, mask: tf.Tensor) -> Any:
    """Returns the weights of the images.

    Keras 2 passes the mask of the outputs as weights, times those of the images.
    """
    if sample_weight is None or sample_weight is mask:
        return None
    weights = tf.convert_to_tensor(sample_weight)
    return tf.reduce_max(weights, axis=range(1, max(1, weights.shape.rank)))


def _image_weights(sample_weight: Any, energies: tf.Tensor) -> tf.Tensor:
    """Returns one float64 weight for each image, of shape (B,)."""
    if sample_weight is None:
        return tf.ones_like(energies)
    weights = tf.convert_to_tensor(sample_weight)
    check_numeric("sample_weight", weights)
    weights = tf.cast(weights, tf.float64)
    if weights.shape.rank == 2 and weights.shape[1] == 1:
        weights = tf.squeeze(weights, 1)
    if weights.shape.rank == 0:
        return tf.fill(tf.shape(energies), weights)
    if weights.shape.rank != 1 or not weights.shape.is_compatible_with(energies.shape):
        raise ValueError(
            "Expected `sample_weight` to be a scalar or of shape (B,). Received: shape "
            f"{weights.shape} for energies of shape {energies.shape}. If they come "
            "from `class_weight` of `fit`, pass it to the loss instead."
        )
    # A broadcast would accept a single weight for many images, which is a mistake.
    return tf.reshape(weights, tf.shape(energies))
