"""Keras losses over the level set energy (Kim et al. 2019, Eq. 4–8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import check_bool, is_number
from tf_levelset.energy import fused as combined_loss
from tf_levelset.energy.energy import check_class_weight, check_options, energy_density
from tf_levelset.energy.fused import Options, combined_losses
from tf_levelset.labels import Labels
from tf_levelset.losses.base import (
    SegmentationLoss,
    cross_entropy,
    flattened,
    rows,
    scaled,
)
from tf_levelset.xla import is_worth_compiling


@compat.register
class LevelSetLoss(SegmentationLoss):
    """The level set energy as a loss (Kim et al. 2019, Eq. 4–7).

    For each image the Chan–Vese energy of every class's probability map against its
    binary ground truth, averaged over the images of the batch. It works on boundaries
    and on undecided pixels: those whose probability is further than about 3ε from ½
    get almost no gradient. It is meant to stand beside a cross-entropy; see
    `CrossEntropyLevelSetLoss`.

    Args:
        from_logits: whether y_pred holds logits rather than probabilities.
        heaviside: "mahf" (the paper's, Eq. 6), "ahf" (Chan and Vese's), "hf" (sharp;
            trained with MAHF's δ, a straight-through estimator), or "logit" (ours): of
            the log odds, whose δ reaches every pixel.
        epsilon: width ε of the Heaviside function, in units of probability; of log
            odds for "logit", at most 1, where H is the probability itself.
        ignore_class: label of void pixels, which are left out of the image.
        class_weight: C numbers; each multiplies what its class contributes. Two,
            background and foreground, for a sigmoid output.
        normalization: "sum" over the image (the paper's; grows with the resolution),
            "mean" over its valid pixels, "scale_free": the mean of E_l/T_l in [0, 1]
            over the classes that vary, which weighs a rare class like a common one, or
            "correlation": the mean of 1 − ρ_l in [0, 2], where E_l/T_l = 1 − ρ_l²,
            whose gradient does not die where a class is not found yet, or "balanced":
            the mean of these two (all three ours).
        signed: count 2 T_l − E_l where c1 < c2, so that a prediction anticorrelated
            with its class is not rewarded (ours, not the paper's). Not for
            "correlation" and "balanced", which are signed by themselves.
        per_image: whether each image has regions of its own, as in the paper, with
            the mean over the images as the loss; otherwise those of the batch are one.
        reduction: as in Keras. The loss of a pixel is scaled so that the plain mean
            over all positions is the loss.
        name: name of the loss.
        dtype: dtype of the computation; below 32 bits, float32 is used.

    Call arguments:
        y_true: labels (B, …) or (B, …, 1) of any integer dtype, or one-hot (B, …, C);
            any number of spatial axes. A one-hot row of zeros is void.
        y_pred: (B, …, C), or (B, …, 1) for a binary task with a sigmoid.
        sample_weight: scalar, (B,) or (B, …). Where it varies inside an image, c1 and
            c2 are held fixed in the gradient.

    Raises:
        ValueError: for unknown options and for shapes that do not belong together.
        tf.errors.InvalidArgumentError: for a label that is neither a class nor
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
        check_options(heaviside, epsilon, normalization, class_weight, signed)
        check_bool(signed=signed, per_image=per_image)
        super().__init__(
            from_logits=from_logits,
            ignore_class=ignore_class,
            class_weight=class_weight,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
        self.heaviside = heaviside
        self.epsilon = float(epsilon)
        self.normalization = normalization
        self.signed = bool(signed)
        self.per_image = bool(per_image)

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns energies (B, N) whose mean over all positions is the mean energy."""
        density = energy_density(
            *self._regions(labels, scores),
            from_logits=self.from_logits,
            heaviside=self.heaviside,
            epsilon=self.epsilon,
            class_weight=self._energy_class_weight(),
            normalization=self.normalization,
            signed=self.signed,
        )
        return scaled(density, labels)

    def _energy_class_weight(self) -> list[float] | None:
        return self.class_weight

    def _regions(self, labels: Labels, scores: tf.Tensor) -> tuple[Labels, tf.Tensor]:
        """What has regions of its own a row: the images, or the batch as one."""
        check_class_weight(self._energy_class_weight(), scores.shape[-1])
        if self.per_image:
            return labels, scores
        return (
            Labels(*(rows(tensor, per_image=False) for tensor in labels)),
            rows(flattened(labels, scores), per_image=False),
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **super().get_config(),
            "heaviside": self.heaviside,
            "epsilon": self.epsilon,
            "normalization": self.normalization,
            "signed": self.signed,
            "per_image": self.per_image,
        }


@compat.register
class CrossEntropyLevelSetLoss(LevelSetLoss):
    """Cross-entropy plus λ times the level set energy (Kim et al. 2019, Eq. 8).

    The paper's λ = 4·10⁻⁴ multiplies an energy summed over the image, so what it
    weighs depends on the resolution. It holds at output stride 8, where DeepLab takes
    its loss: a crop of 321 gives n = 41·41 positions and λ·n = 0.67, one of 512 gives
    64·64 and 1.64. At full resolution the same λ weighs 41 and 105. The form that does
    not depend on it is `normalization="mean"` with `level_set_weight` = λ·n.

    Args:
        level_set_weight: λ, zero or more. With 0 the loss is Keras'
            `SparseCategoricalCrossentropy(from_logits, ignore_class)`, but that a
            batch of nothing but void is 0.0 in every version of Keras. Or a
            variable, of TensorFlow or Keras 3, whose value counts in each step
            (`callbacks.WeightRamp`); the configuration has the value of the moment.
        from_logits: see `LevelSetLoss`, and so the others.
        heaviside: "mahf", "ahf", "hf" or "logit".
        epsilon: width ε of the Heaviside function.
        ignore_class: label of void pixels; the cross-entropy is a mean over the others.
        class_weight: C numbers; they multiply the cross-entropy of the class's pixels
            and the class's energy.
        level_set_class_weight: C numbers that multiply the classes' energies instead.
        normalization: "sum", "mean", "scale_free", "correlation" or "balanced".
        signed: whether an anticorrelated class costs 2 T_l − E_l.
        per_image: whether each image has regions of its own.
        reduction: as in Keras; the sum and the single losses, which are no means, hold
            each pixel's cross-entropy as it is.
        jit_compile: whether XLA compiles the loss where it is part of a graph, as in
            `fit`, also where the model is not. It is faster on a CPU, and compiled anew
            for every shape of a batch. "auto" does so on machines with CPUs alone, for
            logits of 128² pixels or more whose height and width are known.
            Probabilities, "ahf" and "hf" are not compiled.
        name: name of the loss.
        dtype: dtype of the computation; below 32 bits, float32 is used.

    Call arguments and errors: as `LevelSetLoss`. Under `tf.distribute` the mean is over
    the valid pixels of all replicas; with `per_image=False` each has regions of its
    own.

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
        if not (
            is_number(level_set_weight) and 0 <= float(level_set_weight) < float("inf")
        ):
            raise ValueError(
                "Expected `level_set_weight` to be a finite number of zero or more. "
                f"Received: {level_set_weight!r}"
            )
        if not (isinstance(jit_compile, bool) or jit_compile == "auto"):
            raise ValueError(
                'Expected `jit_compile` to be True, False or "auto". Received: '
                f"{jit_compile!r}"
            )
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
        check_options(heaviside, epsilon, normalization, level_set_class_weight, signed)
        self.level_set_weight = level_set_weight
        self.level_set_class_weight = (
            None
            if level_set_class_weight is None
            else [float(w) for w in level_set_class_weight]
        )
        self.jit_compile = jit_compile

    def pixel_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """Returns losses (B, N) whose mean over all positions is Eq. 8."""
        joint = self.from_logits and self.heaviside in combined_loss.HEAVISIDES
        if joint and not self._is_cross_entropy():
            return self._combined_losses(labels, scores)
        losses = cross_entropy(labels, scores, self.from_logits)
        losses = self._mean_of_valid(self._weigh_classes(losses, labels), labels)
        if not self._is_cross_entropy():
            weight = self._weight(losses.dtype)
            losses += weight * super().pixel_losses(labels, scores)
        return losses

    def _is_cross_entropy(self) -> bool:
        """Whether λ is 0 for ever, so that nothing of the energy is computed."""
        is_fixed = not isinstance(self.level_set_weight, tf.Variable)
        return is_fixed and self.level_set_weight == 0

    def _weight(self, dtype: tf.DType) -> tf.Tensor:
        """λ at this step; a number keeps all of its digits."""
        if isinstance(self.level_set_weight, tf.Variable):
            return tf.cast(self.level_set_weight, dtype)
        return tf.constant(self.level_set_weight, dtype)

    def _energy_class_weight(self) -> list[float] | None:
        if self.level_set_class_weight is None:
            return self.class_weight
        return self.level_set_class_weight

    def _combined_losses(self, labels: Labels, scores: tf.Tensor) -> tf.Tensor:
        """The same, from one softmax."""
        weights = self._weigh_classes(tf.cast(labels.valid, scores.dtype), labels)
        weights = self._mean_of_valid(weights, labels)
        losses = combined_losses(
            *self._regions(labels, scores),
            rows(weights, self.per_image),
            Options(
                level_set_weight=self._weight(tf.float64),
                heaviside=self.heaviside,
                epsilon=self.epsilon,
                class_weight=self._energy_class_weight(),
                normalization=self.normalization,
                signed=self.signed,
            ),
            jit_compile=self._compiles(scores.shape),
        )
        return tf.reshape(losses, tf.shape(labels.ids))

    def _compiles(self, shape: tf.TensorShape) -> bool:
        """Tells whether XLA is to compile the loss of logits of a shape."""
        if tf.executing_eagerly():
            return False
        if self.jit_compile == "auto":
            return is_worth_compiling(shape[:-1])
        return bool(self.jit_compile)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        return {
            **super().get_config(),
            "level_set_weight": float(self.level_set_weight),
            "level_set_class_weight": self.level_set_class_weight,
            "jit_compile": self.jit_compile,
        }
