"""A net as a function from images of any size to class probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import expect, reason
from tf_levelset.constants import OUTPUTS
from tf_levelset.models.outputs import (
    guessed_outputs,
    outputs_of,
    probabilities_of,
    within_0_and_1,
)

MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128)
"""The sides that a net with poolings needs are multiples of one of these."""

FAILURES = (ValueError, TypeError, tf.errors.InvalidArgumentError)
"""What Keras and TensorFlow raise for an image of a size that a net does not take."""


class AnySize:
    """A net of this package or another, for images of any size.

    Images are padded at the bottom and on the right to the multiple that the net needs,
    and the outputs are cropped. The padding repeats the last row and column: it adds no
    edges, and exists for images of a single pixel, too. For a net of fixed input size,
    images are resized, and the probabilities are resized back.

    Args:
        model: Maps RGB images in [0, 255], (B, H, W, 3), to outputs (B, H, W, C). C = 1
            is the foreground of a binary task.
        outputs: What these are: "logits", "softmax" or "sigmoid". With "auto" they are
            read from the model's graph. Where the graph does not say it, they are
            guessed from the values for the first image, with a warning if these are
            taken for probabilities.

    Attributes:
        outputs: What `scores` returns, as the argument; None while it is unknown.
        multiple: The multiple that images are padded to.
        size: Height and width that the net takes; None where it takes any.
        antialias: Whether images are resized with antialiasing, which runtimes other
            than TensorFlow lack.

    Raises:
        ValueError: For another value of `outputs`, or a net of other inputs.
    """

    def __init__(self, model: keras.Model, outputs: str = "auto") -> None:
        expect(outputs in OUTPUTS, f"`outputs` to be one of {OUTPUTS}", outputs)
        self.model = model
        self._is_auto = outputs == "auto"
        self._known = self.outputs = outputs_of(model) if self._is_auto else outputs
        self._is_checked = not self._is_auto or self._known is None
        self.multiple, self.antialias = 1, True
        self._is_announced = False
        unknown = [tf.TensorSpec([None] * 4)]
        shapes = [tuple(x.shape) for x in getattr(model, "inputs", None) or unknown]
        expected = f"{model.name!r} to take RGB images (B, H, W, 3)"
        fits = len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][-1] in (3, None)
        expect(fits, expected, shapes)
        _check_one_output(getattr(model, "outputs", None) or unknown)
        batch, *self._declared, _ = shapes[0]
        # A known batch size is that of the data which a model was first called with,
        # and so is the size of the images.
        self.size = self._declared if batch is None else [None, None]

    @property
    def num_classes(self) -> int:
        """The number of classes, two for a single channel."""
        outputs = getattr(self.model, "outputs", None)
        channels = outputs[0].shape[-1] if outputs else self.probe().shape[-1]
        return max(2, int(channels))

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Maps images, float32 (B, H, W, 3), to probabilities (B, H, W, C)."""
        return self.probabilities(self.scores(images), images)

    def scores(self, images: tf.Tensor) -> tf.Tensor:
        """Maps images, float32 (B, H, W, 3), to the net's outputs, still padded.

        With "auto", where an activation of Keras comes last, its logits are returned.
        """
        if self.size != [None, None]:
            size = [n or m for n, m in zip(self.size, _sides(images), strict=True)]
            images = tf.image.resize(images, size, antialias=self.antialias)
        if self.multiple > 1:
            for axis, side in enumerate(self._padded(*_sides(images)), 1):
                last = tf.shape(images)[axis] - 1
                images = tf.gather(images, tf.minimum(tf.range(side), last), axis=axis)
        try:
            with compat.upsampling_to_unknown_sizes(self.model):
                outputs = tf.nest.flatten(self.model(images, training=False))
        except FAILURES as error:
            raise ValueError(
                f"Expected {self.model.name!r} to take images of any size, or of sides "
                f"that are multiples of a power of two up to {MULTIPLES[-1]}. "
                f"Received: for {images.shape}, {reason(error):.200}"
            ) from error
        _check_one_output(outputs)
        logits = getattr(outputs[0], "_keras_logits", None) if self._is_auto else None
        self.outputs = self._known if logits is None else "logits"
        return outputs[0] if logits is None else logits

    def probabilities(self, scores: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        """Returns the images' probabilities, float32, given what `scores` returned."""
        if tf.executing_eagerly():
            self.check_values(scores)
        assert self.outputs is not None
        result = probabilities_of(scores, self.outputs)
        if self.size != [None, None]:
            height, width = (
                n or m for n, m in zip(self.size, _sides(images), strict=True)
            )
            return tf.image.resize(result[:, :height, :width], tf.shape(images)[1:3])
        height, width = _sides(images)
        return result[:, :height, :width] if self.multiple > 1 else result

    def probe(self) -> tf.Tensor:
        """Finds the multiple that images must be padded to, with images of noise.

        Returns:
            The net's outputs for such an image.

        Raises:
            ValueError: If the net works for no multiple.
        """
        attempts = [(self.size, multiple) for multiple in MULTIPLES]
        if self._declared != self.size:
            attempts.append((self._declared, 1))
        failure: ValueError | None = None
        for attempt in attempts:
            self.size, self.multiple = attempt
            odd = 64 // self.multiple | 1  # A net may take all odd or all even sides.
            shape = (1, odd * self.multiple, (odd + 1) * self.multiple, 3)
            noise = np.random.default_rng(0).uniform(0, 255, shape)
            images = tf.constant(noise, tf.float32)
            try:
                scores = self.scores(images)
                self.check_size(scores, images)
            except ValueError as error:
                failure = failure or error
            else:
                return scores
        self.size, self.multiple = attempts[0]
        assert failure is not None
        raise failure

    def announce(self, size: Sequence[int] | None = None) -> None:
        """Warns, once, if images of a size, or of most sizes, are resized."""
        sizes = zip(size or (0, 0), self.size, strict=True)
        if not self._is_announced and any(n not in (None, own) for own, n in sizes):
            self._is_announced = True
            needed = "×".join(str(n or "any") for n in self.size)
            warnings.warn(
                f"{self.model.name!r} takes images of {needed} pixels only. Others "
                "are resized to this size, and their probabilities back; "
                "`predict --tile` cuts larger ones into tiles instead.",
                stacklevel=3,
            )

    def _padded(self, height: Any, width: Any) -> list[Any]:
        """Returns the sides, integers or tensors, of the images that the net sees."""
        multiple = self.multiple
        return [
            fixed or (side + multiple - 1) // multiple * multiple
            for fixed, side in zip(self.size, (height, width), strict=True)
        ]

    def check_size(self, scores: tf.Tensor, images: tf.Tensor) -> None:
        """Raises unless the net's outputs for images have the images' size."""
        expected, received = self._padded(*_sides(images)), list(scores.shape[1:3])
        if received != expected:
            raise ValueError(
                f"Expected outputs of the image's size, {expected}. Received: "
                f"{received}. Apply tf_levelset.models.at_input_size "
                "to a network of this package that was created with upsample=False; "
                "add a layer Resizing or UpSampling2D to another."
            )

    def check_values(self, scores: tf.Tensor) -> None:
        """Checks outputs that the graph does not explain; guesses what they are."""
        if not self._is_checked or self.outputs == "logits":
            return
        values = tf.cast(scores, tf.float32).numpy()
        if self.outputs is None:
            self._known = self.outputs = guessed_outputs(values)
            if self.outputs != "logits":
                warnings.warn(
                    f"The outputs of {self.model.name!r} lie in [0, 1], and its graph "
                    "does not say what they are. They are taken for those of "
                    f"{self.outputs}. To change this, set `outputs` (--outputs).",
                    stacklevel=2,
                )
        elif not within_0_and_1(values, 0.01):
            raise ValueError(
                f"Expected outputs of {self.outputs}, within [0, 1]. Received: values "
                f"from {values.min():g} to {values.max():g}. Set `outputs` (--outputs) "
                "to 'logits'."
            )


def _check_one_output(outputs: list[Any]) -> None:
    shapes = [tuple(each.shape) for each in outputs]
    expect(
        len(shapes) == 1 and len(shapes[0]) == 4,
        "a net with one output (B, H, W, C), for example "
        "keras.Model(net.inputs, net.outputs[0]) of a net with several",
        shapes,
    )


def _sides(images: tf.Tensor) -> list[Any]:
    """Returns height and width, as integers where they are known, else as tensors."""
    return [
        tf.shape(images)[axis] if images.shape[axis] is None else images.shape[axis]
        for axis in (1, 2)
    ]
