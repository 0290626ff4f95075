"""The VGG16 backbone (Simonyan and Zisserman 2015), plain and dilated as DeepLab's."""

from __future__ import annotations

import keras

from tf_levelset.checks import expect
from tf_levelset.models.building import scaled_depth, scaled_filters
from tf_levelset.models.layers import SymmetricMaxPooling2D, batch_normalization

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Filters and number of 3×3 convolutions of each of VGG16's blocks."""

OUTPUT_STRIDES = (8, 16, 32)


def convolution(
    x: keras.KerasTensor,
    filters: int,
    name: str,
    *,
    kernel_size: int = 3,
    dilation: int = 1,
    batch_norm: bool = False,
) -> keras.KerasTensor:
    """A convolution with ReLU and, if asked for, batch normalisation before it."""
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        padding="same",
        dilation_rate=dilation,
        use_bias=not batch_norm,
        data_format="channels_last",
        kernel_initializer="he_normal",
        name=name,
    )(x)
    if batch_norm:
        x = batch_normalization(f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def vgg16(
    x: keras.KerasTensor,
    *,
    output_stride: int = 8,
    width: float = 1.0,
    depth: float = 1.0,
    batch_norm: bool = False,
) -> dict[str, keras.KerasTensor]:
    """VGG16 up to pool5, without its fully connected layers.

    The poolings are DeepLab's, 3×3 with padding 1, so that outputs lie at multiples
    of the stride; those of the original are 2×2 without padding.

    A pooling whose stride would exceed `output_stride` has stride 1, and the
    convolutions after it are dilated instead: at 8, conv5 by 2 (DeepLab-LargeFOV's
    body, Chen et al. 2015).

    Args:
        x: Preprocessed images (B, H, W, 3).
        output_stride: 8, 16 or 32.
        width: Multiplies the number of filters of every layer.
        depth: Multiplies the number of convolutions of every block, at least 1.
        batch_norm: Whether to normalise after each convolution.

    Returns:
        Features after "pool3", "pool4" and "pool5", (B, ⌈H/s⌉, ⌈W/s⌉, C·width) with C
        of 256, 512, 512 and s of 8, 16, 32, but at most `output_stride`.

    Raises:
        ValueError: For another output stride, or a multiplier that is not positive.
    """
    known = output_stride in OUTPUT_STRIDES
    expect(known, f"`output_stride` of {OUTPUT_STRIDES}", output_stride)
    features = {}
    plain = reached = 1
    for block, (filters, convolutions) in enumerate(BLOCKS, start=1):
        for index in range(1, scaled_depth(convolutions, depth) + 1):
            x = convolution(
                x,
                scaled_filters(filters, width),
                f"conv{block}_{index}",
                dilation=plain // reached,
                batch_norm=batch_norm,
            )
        strides = min(2, output_stride // reached)
        plain, reached = 2 * plain, reached * strides
        x = SymmetricMaxPooling2D(strides, name=f"pool{block}")(x)
        features[f"pool{block}"] = x
    return {name: features[name] for name in ("pool3", "pool4", "pool5")}
