"""Keras layers that the nets need and Keras does not have.

All of them accept images of any size, and their outputs lie at the same pixels as
Caffe's. TensorFlow's SAME padding is asymmetric on even sizes and would shift the
outputs of a stride-8 net from pixel 8i to 8i + 7.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import plain_options
from tf_levelset.constants import IMAGENET_MEAN_RGB


def batch_normalization(
    name: str, *, epsilon: float = 1e-3, trainable: bool = True
) -> keras.layers.BatchNormalization:
    """Returns batch normalisation with the statistics of the whole batch.

    Under a distribution strategy they are summed over all replicas, so that several
    train the same net as one.
    """
    return keras.layers.BatchNormalization(
        momentum=0.9,
        epsilon=epsilon,
        # Keras also freezes the statistics of a layer that is not trainable.
        trainable=trainable,
        synchronized=tf.distribute.get_strategy().num_replicas_in_sync > 1,
        name=name,
    )


@compat.register
class CaffePreprocessing(keras.layers.Layer):
    """Turns RGB images in 0–255 into BGR with ImageNet's mean subtracted."""

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Maps (B, H, W, 3) to the same shape."""
        return tf.reverse(images - tf.constant(IMAGENET_MEAN_RGB, images.dtype), [-1])


class _OutputStrideLayer(keras.layers.Layer):
    """A layer with a stride; each subclass says which."""

    @plain_options
    def __init__(self, stride: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stride = stride

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this layer."""
        return {**super().get_config(), "stride": self.stride}


@compat.register
class PadToStride(_OutputStrideLayer):
    """Pads with zeros at the bottom and right until H and W are stride·k + 1.

    The stride is that of the net's coarsest stage. The outputs then lie at pixels 0,
    stride, …, including both corners.
    """

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Maps (B, H, W, C) to (B, ⌈(H−1)/stride⌉·stride + 1, …, C)."""
        return tf.pad(images, _paddings(images, self.stride))


@compat.register
class PadWithMean(PadToStride):
    """As `PadToStride`, but with the colour that `CaffePreprocessing` makes zero."""

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Maps RGB (B, H, W, 3) to (B, ⌈(H−1)/stride⌉·stride + 1, …, 3)."""
        paddings = _paddings(images, self.stride)
        outside = 1 - tf.pad(tf.ones_like(images[..., :1]), paddings)
        mean = tf.constant(IMAGENET_MEAN_RGB, images.dtype)
        return tf.pad(images, paddings) + outside * mean


@compat.register
class ScaleToStride(_OutputStrideLayer):
    """Shrinks images of size stride·k + 1 to stride·k′ + 1, corner to corner.

    The stride is that of the net's coarsest stage. k′ is scale·k, rounded half to even,
    and at least 1 if k ≥ 1. Corners stay on corners (align_corners), so that the
    outputs of a net on the smaller image lie at pixels of the larger one. 321 becomes
    241 and 161 at the scales 0.75 and 0.5, as in DeepLab v2, and without antialiasing,
    as there.
    """

    def __init__(self, stride: int, scale: float, **kwargs: Any) -> None:
        super().__init__(stride, **kwargs)
        self.scale = scale

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Maps (B, stride·k + 1, …, C) to (B, stride·k′ + 1, …, C), float32."""
        steps = (tf.stack(_size(images)) - 1) // self.stride
        scaled = tf.cast(tf.round(tf.cast(steps, tf.float32) * self.scale), tf.int32)
        scaled = tf.maximum(scaled, tf.minimum(steps, 1))
        return tf.raw_ops.ResizeBilinear(
            images=images, size=scaled * self.stride + 1, align_corners=True
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this layer."""
        return {**super().get_config(), "scale": self.scale}


@compat.register
class ResizeLike(keras.layers.Layer):
    """Bilinear resize of a map, corner to corner, to the size of another."""

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Maps [(B, h, w, C), (B, H, W, D)] to (B, H, W, C), float32."""
        x, like = inputs
        return tf.raw_ops.ResizeBilinear(
            images=x, size=tf.stack(_size(like)), align_corners=True
        )


class _SymmetricPooling2D(keras.layers.Layer):
    """3×3 pooling with one position of padding on every side, as in Caffe."""

    @plain_options
    def __init__(self, strides: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.strides = strides

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this layer."""
        return {**super().get_config(), "strides": self.strides}


@compat.register
class SymmetricMaxPooling2D(_SymmetricPooling2D):
    """3×3 max pooling of the positions 0, strides, …, without those outside the map."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps (B, H, W, C) to (B, ⌈H/strides⌉, ⌈W/strides⌉, C)."""
        # SAME leaves out what is outside, and is symmetric where H and W are
        # strides·k + 1. A padding by the lowest value has the same outputs, but its
        # range cannot be quantized to 8 bits.
        padded = tf.pad(x, _paddings(x, self.strides))
        pooled = tf.nn.max_pool2d(padded, 3, self.strides, "SAME")
        return _cropped(pooled, x, self.strides)


@compat.register
class SymmetricAveragePooling2D(_SymmetricPooling2D):
    """3×3 mean with padding 1 on every side; divides by 9 at the border too."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps (B, H, W, C) to (B, ⌈H/strides⌉, ⌈W/strides⌉, C)."""
        return tf.nn.avg_pool2d(tf.pad(x, _ONE_AROUND), 3, self.strides, "VALID")


@compat.register
class CropToStride(_OutputStrideLayer):
    """Crops the outputs of a padded net to those at `labels[::stride, ::stride]`.

    The stride is that of the outputs.
    """

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Maps [(B, h, w, C), images (B, H, W, 3)] to (B, ⌈H/stride⌉, …, C)."""
        x, images = inputs
        return _cropped(x, images, self.stride)


@compat.register
class UpsampleToImage(_OutputStrideLayer):
    """Upsamples to the size of the padded image, bilinear, and crops the padding.

    The stride is that of the outputs.
    """

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Maps [(B, h, w, C), images (B, H, W, 3)] to (B, H, W, C), float32."""
        x, images = inputs
        map_height, map_width = _size(x)
        padded = [(n - 1) * self.stride + 1 for n in (map_height, map_width)]
        x = tf.raw_ops.ResizeBilinear(
            images=tf.cast(x, tf.float32), size=tf.stack(padded), align_corners=True
        )
        height, width = _size(images)
        return x[:, :height, :width]


@compat.register
class Upsample2x(keras.layers.Layer):
    """Upsampling by 2, corner to corner: n positions become 2n − 1.

    The kernel [½, 1, ½]⊗[½, 1, ½] keeps the values and puts the mean of neighbours
    between them, which is bilinear interpolation with align_corners. If `learnable`,
    this is the initial (3, 3, C, C) kernel of a transposed convolution (FCN, Long et
    al. 2015, Section 3.3) whose output is cropped by one position on every side.
    """

    def __init__(self, learnable: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.learnable = learnable

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the kernel, if it is learned."""
        if self.learnable:
            channels = input_shape[-1]
            self.kernel = self.add_weight(
                name="kernel",
                shape=(3, 3, channels, channels),
                initializer=BilinearKernel(),
            )
        super().build(input_shape)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps (B, h, w, C) to (B, 2h − 1, 2w − 1, C)."""
        height, width = (2 * n - 1 for n in _size(x))
        if not self.learnable:
            upsampled = tf.raw_ops.ResizeBilinear(
                images=x, size=tf.stack([height, width]), align_corners=True
            )
            return tf.cast(upsampled, x.dtype)
        # SAME crops one position on every side where the output has 2n − 1 positions.
        shape = tf.stack([tf.shape(x)[0], height, width, x.shape[-1]])
        return tf.nn.conv2d_transpose(x, self.kernel, shape, 2, "SAME")

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this layer."""
        return {**super().get_config(), "learnable": self.learnable}


@compat.register
class BilinearKernel(keras.initializers.Initializer):
    """The kernel [½, 1, ½]⊗[½, 1, ½] from each channel to itself."""

    def __call__(
        self, shape: tuple[int, ...], dtype: Any = None, **kwargs: Any
    ) -> tf.Tensor:
        """Returns a kernel (3, 3, C, C)."""
        taps = tf.constant([0.5, 1.0, 0.5])
        kernel = tf.einsum("i,j,cd->ijcd", taps, taps, tf.eye(shape[-1]))
        return tf.cast(kernel, tf.as_dtype(dtype or "float32"))


@compat.register
class ScaleImage(keras.layers.Layer):
    """Resizes images by a factor, bilinear and antialiased.

    Attributes:
        portable: Whether to use only operations that other runtimes have, too. They do
            not have TensorFlow's antialiased resize, which is faster.
    """

    def __init__(self, scale: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self.portable = False
        # XLA has no antialiased resize. Keras 3 reads this for jit_compile="auto".
        self.supports_jit = False

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Maps (B, H, W, 3) to (B, max(1, round(scale·H)), …, 3), float32."""
        lengths = tf.shape(images)[1:3]
        size = tf.round(tf.cast(lengths, tf.float32) * self.scale)
        size = tf.maximum(tf.cast(size, tf.int32), 1)
        if not self.portable:
            return tf.image.resize(images, size, antialias=True)
        images = tf.cast(images, tf.float32)
        # The output length is m = max(1, round(scale·n)), so n/m < 1.5/scale: this
        # bounds the kernel's radius.
        taps = 2 * math.ceil(max(1.5 / self.scale, 1.0)) + 1
        for axis in (1, 2):
            images = _resampled(images, axis, size[axis - 1], taps)
        return images

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this layer."""
        return {**super().get_config(), "scale": self.scale}


def _resampled(images: tf.Tensor, axis: int, size: tf.Tensor, taps: int) -> tf.Tensor:
    """Resizes an axis with a triangular kernel.

    Its radius is one output pixel, or one input pixel when enlarging.

    Args:
        images: float32 (B, H, W, C).
        axis: 1 or 2.
        size: The new length of the axis.
        taps: The number of input pixels that a kernel covers, at most.
    """
    length = tf.shape(images)[axis]
    ratio = tf.cast(length, tf.float32) / tf.cast(size, tf.float32)
    width = tf.maximum(ratio, 1.0)
    centres = (tf.range(tf.cast(size, tf.float32)) + 0.5) * ratio - 0.5
    first = tf.math.ceil(centres - width)
    last = tf.cast(length - 1, tf.float32)
    shape = [1, -1, 1, 1] if axis == 1 else [1, 1, -1, 1]
    total, weights = 0.0, 0.0
    for tap in range(taps):
        place = first + tap
        weight = tf.maximum(1 - tf.abs(place - centres) / width, 0.0)
        inside = tf.clip_by_value(place, 0.0, last)
        weight = tf.where(place == inside, weight, 0.0)
        taken = tf.gather(images, tf.cast(inside, tf.int32), axis=axis)
        total += taken * tf.reshape(weight, shape)
        weights += weight
    return total / tf.reshape(weights, shape)


@compat.register
class ResizeToImage(keras.layers.Layer):
    """Resizes the map of a scaled image to the size of the image, bilinear."""

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Maps [(B, h, w, C), images (B, H, W, 3)] to (B, H, W, C), float32."""
        x, images = inputs
        return tf.image.resize(x, tf.shape(images)[1:3])


_ONE_AROUND = [[0, 0], [1, 1], [1, 1], [0, 0]]


def _paddings(images: tf.Tensor, stride: int) -> list[list[Any]]:
    """Returns what brings H and W to stride·k + 1, at the bottom and on the right."""
    # Divides only non-negative numbers, as `_cropped` does.
    bottom, right = ((stride - (n - 1) % stride) % stride for n in _size(images))
    return [[0, 0], [0, bottom], [0, right], [0, 0]]


def _cropped(x: tf.Tensor, images: tf.Tensor, stride: int) -> tf.Tensor:
    """Crops a map of padded images to the positions of `images[:, ::stride, ::stride]`.

    Divides only non-negative numbers: runtimes differ in how they round negative
    quotients.
    """
    height, width = ((n + stride - 1) // stride for n in _size(images))
    return x[:, :height, :width]


def _size(x: tf.Tensor) -> tuple[Any, Any]:
    """Returns height and width, as integers where they are known, else as tensors."""
    dynamic = tf.shape(x)
    height, width = x.shape[1:3]
    return (
        dynamic[1] if height is None else height,
        dynamic[2] if width is None else width,
    )
