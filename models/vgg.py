"""The VGG16 backbone (Simonyan and Zisserman 2015) in DeepLab's dilated form."""

from __future__ import annotations

import keras

from tf_levelset.models.layers import SymmetricMaxPooling2D

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Filters and number of 3×3 convolutions of each of VGG16's blocks."""

STRIDES = (2, 2, 2, 1, 1)
"""Strides of pool1 to pool5: the last two are taken out for an output stride of 8."""

DILATIONS = (1, 1, 1, 1, 2)
"""Dilations of the blocks: conv5 makes up for pool4's stride."""

OUTPUT_STRIDE = 8


def convolution(
    x: keras.KerasTensor,
    filters: int,
    name: str,
    *,
    kernel_size: int = 3,
    dilation: int = 1,
    batch_norm: bool = False,
) -> keras.KerasTensor:
    """A convolution at stride 1 with ReLU and, before it, optional normalisation.

    At stride 1 an odd kernel's SAME padding is symmetric.
    """
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        padding="same",
        dilation_rate=dilation,
        use_bias=not batch_norm,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    if batch_norm:
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def scaled_filters(filters: int, width: float) -> int:
    """Number of filters under a width multiplier, at least 1.

    Raises:
        ValueError: if `width` is not positive.
    """
    if not width > 0:
        raise ValueError(f"Expected `width` to be positive. Received: {width!r}")
    return max(1, round(filters * width))


def dilated_vgg16(
    x: keras.KerasTensor, *, width: float = 1.0, batch_norm: bool = False
) -> keras.KerasTensor:
    """VGG16 up to pool5 at output stride 8 (DeepLab-LargeFOV's body).

    Args:
        x: preprocessed pictures (B, H, W, 3).
        width: multiplies the number of filters of every layer.
        batch_norm: normalise after each convolution, for training from scratch.

    Returns:
        Features (B, ⌈H/8⌉, ⌈W/8⌉, 512·width).
    """
    for block, ((filters, depth), strides, dilation) in enumerate(
        zip(BLOCKS, STRIDES, DILATIONS, strict=True), start=1
    ):
        for index in range(1, depth + 1):
            x = convolution(
                x,
                scaled_filters(filters, width),
                f"conv{block}_{index}",
                dilation=dilation,
                batch_norm=batch_norm,
            )
        x = SymmetricMaxPooling2D(strides, name=f"pool{block}")(x)
    return x
