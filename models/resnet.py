"""The ResNet101 backbone (He et al. 2016), and DeepLab's dilated form of it.

Layers, names, biases and epsilon are those of `keras.applications.ResNet101`, so that
its ImageNet weights load by name. Dilation changes the shape of no weight.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import keras

from tf_levelset.checks import expect
from tf_levelset.models.building import scaled_depth, scaled_filters
from tf_levelset.models.layers import SymmetricMaxPooling2D, batch_normalization

STAGES = (
    ("conv2", 64, 3, 1),
    ("conv3", 128, 4, 2),
    ("conv4", 256, 23, 2),
    ("conv5", 512, 3, 2),
)
"""Name, filters of the bottleneck, number of blocks and stride of each stage."""

EXPANSION = 4
"""How many times the filters of its bottleneck the last convolution of a block has."""

BATCH_NORM_EPSILON = 1.001e-5
"""Keras' own; Caffe's is 1e-5."""

OUTPUT_STRIDES = (8, 16, 32)


def resnet101(
    x: keras.KerasTensor,
    *,
    output_stride: int = 8,
    width: float = 1.0,
    depth: float = 1.0,
    freeze_batch_norm: bool = True,
) -> dict[str, keras.KerasTensor]:
    """ResNet101 up to conv5, without its classifier.

    A stage whose stride would exceed `output_stride` keeps the stride of the one before
    and dilates its 3×3 convolutions instead: at 8, conv4 by 2 and conv5 by 4 (DeepLab
    v2, Chen et al. 2017). On sizes stride·k + 1, every second (fourth) output of a
    dilated stage is an output of the stage without dilation.

    Args:
        x: Preprocessed images (B, H, W, 3).
        output_stride: 8, 16 or 32.
        width: Multiplies the number of filters of every layer.
        depth: Multiplies the number of blocks of every stage, at least 1.
        freeze_batch_norm: Whether statistics, gamma and beta stay as they are, as
            DeepLab does with trained weights. From random weights, a net of this depth
            needs False, which trains them.

    Returns:
        Features after "conv2" to "conv5", (B, ⌈H/s⌉, ⌈W/s⌉, C·width) with C of 256,
        512, 1024, 2048 and s of 4, 8, 16, 32, but at most `output_stride`.

    Raises:
        ValueError: For another output stride, or a multiplier that is not positive.
    """
    known = output_stride in OUTPUT_STRIDES
    expect(known, f"`output_stride` of {OUTPUT_STRIDES}", output_stride)
    convolution = partial(_convolution, frozen=freeze_batch_norm)

    # --- conv1: padded alike on both sides, unlike TensorFlow's SAME at stride 2 ---
    filters = scaled_filters(64, width)
    padded = keras.layers.ZeroPadding2D(
        3, data_format="channels_last", name="conv1_pad"
    )
    x = padded(x)
    x = convolution(x, filters, "conv1", kernel_size=7, strides=2, padding="valid")
    x = keras.layers.ReLU(name="conv1_relu")(x)
    x = SymmetricMaxPooling2D(2, name="pool1_pool")(x)

    # --- conv2 to conv5 ---
    features = {}
    plain = reached = 4
    for stage, filters, blocks, strides in STAGES:
        plain *= strides
        strides = min(strides, output_stride // reached)
        reached *= strides
        for index in range(1, scaled_depth(blocks, depth) + 1):
            x = _block(
                x,
                scaled_filters(filters, width),
                scaled_filters(EXPANSION * filters, width),
                f"{stage}_block{index}",
                convolution,
                strides=strides if index == 1 else 1,
                dilation=plain // reached,
                project=index == 1,
            )
        features[stage] = x
    return features


def _block(
    x: keras.KerasTensor,
    filters: int,
    expanded: int,
    name: str,
    convolution: Callable[..., keras.KerasTensor],
    *,
    strides: int,
    dilation: int,
    project: bool,
) -> keras.KerasTensor:
    """A bottleneck: 1×1 (which takes the stride), 3×3, 1×1, and the shortcut."""
    shortcut = x
    if project:
        shortcut = convolution(x, expanded, f"{name}_0", strides=strides)
    x = convolution(x, filters, f"{name}_1", strides=strides)
    x = keras.layers.ReLU(name=f"{name}_1_relu")(x)
    x = convolution(x, filters, f"{name}_2", kernel_size=3, dilation=dilation)
    x = keras.layers.ReLU(name=f"{name}_2_relu")(x)
    x = convolution(x, expanded, f"{name}_3")
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return keras.layers.ReLU(name=f"{name}_out")(x)


def _convolution(
    x: keras.KerasTensor,
    filters: int,
    name: str,
    *,
    kernel_size: int = 1,
    strides: int = 1,
    dilation: int = 1,
    padding: str = "same",
    frozen: bool,
) -> keras.KerasTensor:
    """A convolution with bias, and its batch normalisation.

    SAME pads alike on both sides here: with an odd kernel at stride 1, and with a 1×1
    kernel, which reads every second position from the first on at stride 2.
    """
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        dilation_rate=dilation,
        padding=padding,
        data_format="channels_last",
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    normalization = batch_normalization(
        f"{name}_bn", epsilon=BATCH_NORM_EPSILON, trainable=not frozen
    )
    return normalization(x)
