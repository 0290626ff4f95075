"""The ResNet101 backbone (He et al. 2016), and DeepLab's dilated form of it.

Layers, names, biases and epsilon are those of `keras.applications.ResNet101`, so that
its ImageNet weights load by name. Dilation changes no weight's shape.
"""

from __future__ import annotations

import keras

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
"""A block's last convolution has so many times the filters of its bottleneck."""

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
    v2, Chen et al. 2017). What a dilated stage gives at every second (fourth) position
    is what the plain one gives, where sizes are stride·k + 1.

    Args:
        x: preprocessed pictures (B, H, W, 3).
        output_stride: 8, 16 or 32.
        width: multiplies the number of filters of every layer.
        depth: multiplies the number of blocks of every stage, at least 1.
        freeze_batch_norm: keep statistics, gamma and beta as they are, as DeepLab does
            with trained weights. False trains them: from random weights, a net of this
            depth needs it.

    Returns:
        Features after "conv2" to "conv5", (B, ⌈H/s⌉, ⌈W/s⌉, C·width) with C of 256,
        512, 1024, 2048 and s of 4, 8, 16, 32, but at most `output_stride`.

    Raises:
        ValueError: for another output stride, or a multiplier that is not positive.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(
            f"Expected `output_stride` of {OUTPUT_STRIDES}. Received: {output_stride!r}"
        )
    # TensorFlow's SAME is asymmetric at stride 2: pad alike on both sides.
    x = keras.layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = _convolution(
        x,
        scaled_filters(64, width),
        "conv1",
        kernel_size=7,
        strides=2,
        padding="valid",
        frozen=freeze_batch_norm,
    )
    x = keras.layers.ReLU(name="conv1_relu")(x)
    x = SymmetricMaxPooling2D(2, name="pool1_pool")(x)
    features = {}
    plain = reached = 4
    for name, filters, blocks, strides in STAGES:
        plain *= strides
        strides = min(strides, output_stride // reached)
        reached *= strides
        for index in range(1, scaled_depth(blocks, depth) + 1):
            x = _block(
                x,
                scaled_filters(filters, width),
                scaled_filters(EXPANSION * filters, width),
                f"{name}_block{index}",
                strides=strides if index == 1 else 1,
                dilation=plain // reached,
                project=index == 1,
                frozen=freeze_batch_norm,
            )
        features[name] = x
    return features


def _block(
    x: keras.KerasTensor,
    filters: int,
    expanded: int,
    name: str,
    *,
    strides: int,
    dilation: int,
    project: bool,
    frozen: bool,
) -> keras.KerasTensor:
    """A bottleneck: 1×1 (which takes the stride), 3×3, 1×1, and the shortcut."""
    shortcut = x
    if project:
        shortcut = _convolution(
            x, expanded, f"{name}_0", strides=strides, frozen=frozen
        )
    x = _convolution(x, filters, f"{name}_1", strides=strides, frozen=frozen)
    x = keras.layers.ReLU(name=f"{name}_1_relu")(x)
    x = _convolution(
        x, filters, f"{name}_2", kernel_size=3, dilation=dilation, frozen=frozen
    )
    x = keras.layers.ReLU(name=f"{name}_2_relu")(x)
    x = _convolution(x, expanded, f"{name}_3", frozen=frozen)
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
    """A convolution with bias and its normalisation.

    SAME is symmetric here: an odd kernel at stride 1, or 1×1, which takes every second
    position from the first on.
    """
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        dilation_rate=dilation,
        padding=padding,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    normalization = batch_normalization(
        f"{name}_bn", epsilon=BATCH_NORM_EPSILON, trainable=not frozen
    )
    return normalization(x)
