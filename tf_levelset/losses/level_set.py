"""Keras losses over the level set energy (Kim et al. 2019, Eq. 4–8)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import (
    check_not_negative,
    check_one_weight_per_class,
    class_weights,
    expect,
)
from tf_levelset.energy import fused
from tf_levelset.energy.energy import energy_density
from tf_levelset.energy.options import EnergyOptions
from tf_levelset.labels import Labels
from tf_levelset.losses.base import (
    SegmentationLoss,
    flattened,
    rows,
    scaled,
)
from tf_levelset.xla import is_debugging, is_worth_compiling


@compat.register
class LevelSetLoss(SegmentationLoss):
    """The level set energy as a loss (Kim et al. 2019, Eq. 4–7).

    For each image it is the Chan–Vese energy of the probability map of every class
    against the binary ground truth of the class; the loss is its mean over the images
    of the batch. It acts at boundaries and on undecided pixels: pixels whose
    probability differs from ½ by more than about 3ε get almost no gradient. It is meant
    to be added to a cross-entropy, as `CrossEntropyLevelSetLoss` does.

    Args:
        from_logits: Whether `y_pred` holds logits rather than probabilities. As in
            Keras, the loss reads the logits of a softmax, or of a sigmoid with one
            channel, if `y_pred` is its output.
        heaviside: Heaviside function: "mahf" (the paper's), "ahf", "hf" or "logit".
            This and the next options are those of `EnergyOptions`, which says more.
        epsilon: Width ε of the Heaviside function, in units of probability; for
            "logit", in units of log odds and at most 1.
        ignore_class: Label of void pixels, which do not belong to the image.
        class_weight: C numbers that multiply the energies of the classes. Two,
            background and foreground, for a sigmoid output.
        normalization: "sum" over the image (the paper's), "mean" over its valid
            pixels, "scale_free", "correlation" or "balanced".
        signed: Whether a class whose prediction is anticorrelated with its truth
            costs more than one that is not found at all.
        per_image: Whether each image has regions of its own, as in the paper.
            Otherwise the images of the batch share theirs.
        reduction: As in Keras. The loss of a pixel is scaled so that the plain mean
            over all positions is the loss.
        name: Name of the loss.
        dtype: Dtype of the computation; below 32 bits, float32 is used.

    Call arguments:
        y_true: Labels (B, …) or (B, …, 1) of any integer dtype, or one-hot (B, …, C),
            with any number of spatial axes. A one-hot row of zeros is void.
        y_pred: (B, …, C), or (B, …, 1) for a binary task with a sigmoid. What a Keras
            mask of the outputs leaves out is void.
        sample_weight: Scalar, (B,) or (B, …). Where it varies inside an image, c1 and
            c2 are held fixed in the gradient.

    Raises:
        ValueError: For unknown options and for shapes that do not match.
        tf.errors.InvalidArgumentError: For a label that is neither a class nor
            `ignore_class`. XLA drops assertions: the loss is NaN there.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> round(float(LevelSetLoss()(labels, probabilities)), 4)
    0.6667

    >>> model.compile("sgd", LevelSetLoss(from_logits=True))  # doctest: +SKIP
    """

    def __init__(
        self,
        from_logits: bool = False,
        heaviside: str = "mahf",
        epsilon: float = 1 / 20,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        normalization: str = "sum",
        signed: bool = False,
        per_image: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "level_set_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            from_logits=from_logits,
            ignore_class=ignore_class,
            class_weight=class_weight,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
        self.options = EnergyOptions(
            heaviside, epsilon, class_weight, normalization, signed
        )
        self.per_image = per_image

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns energies (B, N) whose mean over all positions is the mean energy."""
        regions = self._regions(labels, scores)
        density = energy_density(*regions, self.options, self.from_logits)
        return scaled(density, labels)

    def _regions(self, labels: Labels, scores: tf.Tensor) -> tuple[Labels, tf.Tensor]:
        """Returns labels and scores with one row for each set of regions."""
        if self.per_image:
            return labels, scores
        return (
            Labels(*(rows(tensor, per_image=False) for tensor in labels)),
            rows(flattened(labels, scores), per_image=False),
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **self.options.config(),
            **super().get_config(),
            "per_image": self.per_image,
        }


@compat.register
class CrossEntropyLevelSetLoss(LevelSetLoss):
    """Cross-entropy plus λ times the level set energy (Kim et al. 2019, Eq. 8).

    The paper's λ = 4·10⁻⁴ multiplies an energy that is summed over the image, so its
    effect depends on the resolution. It holds at output stride 8, where DeepLab takes
    its loss: a crop of 321 gives n = 41·41 positions and λ·n = 0.67, one of 512 gives
    64·64 and 1.64. At full resolution the same λ weighs 41 and 105. The form that does
    not depend on the resolution is `normalization="mean"` with a `level_set_weight` of
    λ·n.

    Args:
        level_set_weight: λ, zero or more. With 0, the loss is Keras'
            `SparseCategoricalCrossentropy(from_logits, ignore_class)`, or for one
            channel `BinaryCrossentropy(from_logits)`, except that a batch of void
            alone is 0.0 in every version of Keras. A variable of
            TensorFlow or Keras 3 is read at each step (see `WeightRamp`); the
            configuration holds its value of the moment.
        from_logits: See `LevelSetLoss`, as for the other options.
        heaviside: "mahf", "ahf", "hf" or "logit".
        epsilon: Width ε of the Heaviside function.
        ignore_class: Label of void pixels. The cross-entropy is a mean over the others.
        class_weight: C numbers that multiply the cross-entropy at the pixels of the
            class and the energy of the class.
        level_set_class_weight: C numbers that multiply the energies instead.
        normalization: "sum", "mean", "scale_free", "correlation" or "balanced".
        signed: Whether an anticorrelated class costs 2 T_l − E_l.
        per_image: Whether each image has regions of its own.
        reduction: As in Keras. "sum" and "none", which are no means, hold the
            cross-entropy of each pixel as it is.
        jit_compile: Whether XLA compiles the loss where it is part of a graph, as in
            `fit`, even if the model is not compiled. This is faster on a CPU, and
            compiles anew for each shape of a batch. "auto" does so on machines
            without accelerators, for logits of 128² pixels or more whose height and
            width are known. Probabilities without known logits, "ahf" and "hf" are
            not compiled.
        name: Name of the loss.
        dtype: Dtype of the computation; below 32 bits, float32 is used.

    Call arguments and errors: As `LevelSetLoss`.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> logits = tf.constant([[[[3.0, 0.0], [0.0, 1.0]]]])
    >>> loss = CrossEntropyLevelSetLoss(level_set_weight=0.5, from_logits=True)
    >>> round(float(loss(labels, logits)), 4)
    0.181

    >>> model.compile("sgd", loss, metrics=["accuracy"])  # doctest: +SKIP
    """

    def __init__(
        self,
        level_set_weight: float | tf.Variable | Any = 4e-4,
        from_logits: bool = False,
        heaviside: str = "mahf",
        epsilon: float = 1 / 20,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        level_set_class_weight: Sequence[float] | None = None,
        normalization: str = "sum",
        signed: bool = False,
        per_image: bool = True,
        reduction: str | None = "sum_over_batch_size",
        jit_compile: bool | str = "auto",
        name: str | None = "cross_entropy_level_set_loss",
        dtype: Any = None,
    ) -> None:
        level_set_weight = compat.tensor_variable(level_set_weight)
        check_not_negative(level_set_weight=level_set_weight)
        holds = isinstance(jit_compile, bool) or jit_compile == "auto"
        expect(holds, '`jit_compile` to be True, False or "auto"', jit_compile)
        super().__init__(
            from_logits=from_logits,
            heaviside=heaviside,
            epsilon=epsilon,
            ignore_class=ignore_class,
            class_weight=class_weight,
            normalization=normalization,
            signed=signed,
            per_image=per_image,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
        self.level_set_weight = level_set_weight
        self.level_set_class_weight = class_weights(level_set_class_weight)
        if self.level_set_class_weight is not None:
            self.options = dataclasses.replace(
                self.options, class_weight=self.level_set_class_weight
            )
        self.jit_compile = jit_compile

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns losses (B, N) whose mean over all positions is Eq. 8."""
        is_fused = self.from_logits and self.options.heaviside in fused.HEAVISIDES
        if is_fused and not self._is_cross_entropy():
            return self._fused_losses(labels, scores)
        losses = self._cross_entropy(labels, scores)
        losses = self._mean_of_valid(self._weigh_classes(losses, labels), labels)
        if not self._is_cross_entropy():
            weight = self._weight(losses.dtype)
            losses += weight * super().pixel_losses(labels, scores)
        return losses

    def _is_cross_entropy(self) -> bool:
        """Whether λ is the number 0, so that no energy needs to be computed."""
        is_fixed = not isinstance(self.level_set_weight, tf.Variable)
        return is_fixed and self.level_set_weight == 0

    def _weight(self, dtype: tf.DType) -> tf.Tensor:
        """Returns λ at this step; a number keeps all of its digits."""
        if isinstance(self.level_set_weight, tf.Variable):
            return tf.cast(self.level_set_weight, dtype)
        return tf.constant(self.level_set_weight, dtype)

    def _fused_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns the same losses from one softmax."""
        weights = self._weigh_classes(tf.cast(labels.valid, scores.dtype), labels)
        weights = self._mean_of_valid(weights, labels)
        check_one_weight_per_class(self.options.class_weight, scores.shape[-1])
        losses = fused.fused_losses(
            *self._regions(labels, scores),
            rows(weights, self.per_image),
            fused.FusedOptions(self.options, self._weight(tf.float64)),
            jit_compile=self._compiles(scores.shape),
        )
        return tf.reshape(losses, tf.shape(labels.ids))

    def _compiles(self, shape: tf.TensorShape) -> bool:
        """Whether XLA is to compile the loss of logits of a shape."""
        if tf.executing_eagerly() or is_debugging():
            return False
        if self.jit_compile == "auto":
            return is_worth_compiling(shape[:-1])
        return bool(self.jit_compile)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        weights = self.level_set_class_weight
        return {
            **super().get_config(),
            "level_set_weight": float(self.level_set_weight),
            "level_set_class_weight": None if weights is None else list(weights),
            "jit_compile": self.jit_compile,
        }
