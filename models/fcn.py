"""FCN-32s, 16s and 8s (Long et al. 2015) on VGG16, their own, and on ResNet101.

The original pads images by 100 pixels and crops the upsampled scores accordingly. Ours
pads to 32k + 1, where the outputs of every stage lie at multiples of its stride:
upsampling by 2 leads from n to 2n − 1 positions, which are those of the stage before,
and nothing is cropped.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from os import PathLike

import keras

from tf_levelset import compat
from tf_levelset.checks import check_num_classes, expect, plain_options
from tf_levelset.models.building import (
    check_dropout,
    finished_model,
    logits_at_stride,
    preprocessed_input,
    scaled_filters,
)
from tf_levelset.models.layers import Upsample2x
from tf_levelset.models.resnet import resnet101
from tf_levelset.models.vgg import convolution, vgg16

COARSEST_STRIDE = 32

OUTPUT_STRIDES = (32, 16, 8)


@plain_options
def fcn_vgg16(
    num_classes: int,
    *,
    stride: int,
    width: float = 1.0,
    depth: float = 1.0,
    batch_norm: bool = False,
    dropout: float = 0.5,
    learnable_upsampling: bool = True,
    upsample: bool = True,
    input_scale: float = 1.0,
    weights: str | PathLike[str] | None = None,
    name: str | None = None,
) -> keras.Model:
    """FCN on VGG16, whose fully connected layers become 7×7 and 1×1 convolutions.

    Preprocessing is part of the model, and images of any size are accepted: a size that
    is not 32k + 1 is padded to it and the outputs are cropped. Outputs at stride s
    lie at the pixels 0, s, 2s, …, so that their labels are `labels[::s, ::s]`.

    Args:
        num_classes: Number of classes C.
        stride: Output stride s: 32 scores fc7 alone, 16 adds the scores of pool4 and 8
            those of pool3.
        width: Multiplies the number of filters of every layer but the scores; 1 is the
            net of 134.3 million parameters at stride 32 and 21 classes.
        depth: Multiplies the number of convolutions of every block of VGG16.
        batch_norm: Whether to normalise after each convolution, for training from
            scratch.
        dropout: Rate after fc6 and fc7.
        learnable_upsampling: Whether the upsampling of the scores by 2, initially
            bilinear, is learned. The last one, to the image, is always bilinear
            (Section 4.3).
        upsample: Whether the logits have the size of the image, bilinear and corner to
            corner; otherwise they are at the output stride.
        input_scale: Factor that images are resized by first, with `upsample` only.
        weights: None, "imagenet", or the path of a weights file.
        name: Name of the model; by default as `fcn8s_vgg16`.

    Returns:
        A functional model from RGB images in 0–255, float32 (B, H, W, 3), to
        logits, float32 under every dtype policy: (B, H, W, C), or
        (B, ⌈H/s⌉, ⌈W/s⌉, C) if `upsample` is False.

    Raises:
        ValueError: For arguments out of range, or weights of another architecture.
    """
    _check(num_classes, stride)
    check_dropout(dropout)
    # --- Backbone ---
    images, x = preprocessed_input(COARSEST_STRIDE)
    features = vgg16(
        x,
        output_stride=COARSEST_STRIDE,
        width=width,
        depth=depth,
        batch_norm=batch_norm,
    )
    filters = scaled_filters(4096, width)
    x = convolution(
        features["pool5"], filters, "fc6", kernel_size=7, batch_norm=batch_norm
    )
    x = compat.dropout(dropout, "drop6")(x)
    x = convolution(x, filters, "fc7", kernel_size=1, batch_norm=batch_norm)
    features["fc7"] = compat.dropout(dropout, "drop7")(x)

    # --- Head ---
    x = _fused_scores(
        features, ("fc7", "pool4", "pool3"), num_classes, stride, learnable_upsampling
    )

    # --- Model ---
    return finished_model(
        logits_at_stride(images, x, stride, name or f"fcn{stride}s_vgg16"),
        backbone="vgg16",
        weights=weights,
        upsample=upsample,
        input_scale=input_scale,
    )


@plain_options
def fcn_resnet101(
    num_classes: int,
    *,
    stride: int,
    width: float = 1.0,
    depth: float = 1.0,
    freeze_batch_norm: bool = True,
    learnable_upsampling: bool = True,
    upsample: bool = True,
    input_scale: float = 1.0,
    weights: str | PathLike[str] | None = None,
    name: str | None = None,
) -> keras.Model:
    """FCN on ResNet101 (Kim et al. 2019, Section 4).

    Sizes, padding and the places of the outputs are as in `fcn_vgg16`.

    Args:
        num_classes: Number of classes C.
        stride: Output stride s: 32 scores conv5 alone, 16 adds the scores of conv4 and
            8 those of conv3.
        width: Multiplies the number of filters of every layer but the scores; 1 is a
            net of 42.7 million parameters at stride 32 and 21 classes.
        depth: Multiplies the number of blocks of every stage of ResNet101.
        freeze_batch_norm: Whether to keep the batch normalisation of trained weights as
            it is; False trains it, from scratch.
        learnable_upsampling: See `fcn_vgg16`.
        upsample: See `fcn_vgg16`.
        input_scale: See `fcn_vgg16`.
        weights: None, "imagenet", or the path of a weights file.
        name: Name of the model; by default as `fcn8s_resnet101`.

    Returns:
        A functional model as of `fcn_vgg16`.

    Raises:
        ValueError: For arguments out of range, or weights of another architecture.
    """
    _check(num_classes, stride)
    # --- Backbone ---
    images, x = preprocessed_input(COARSEST_STRIDE)
    features = resnet101(
        x,
        output_stride=COARSEST_STRIDE,
        width=width,
        depth=depth,
        freeze_batch_norm=freeze_batch_norm,
    )

    # --- Head ---
    x = _fused_scores(
        features,
        ("conv5", "conv4", "conv3"),
        num_classes,
        stride,
        learnable_upsampling,
    )

    # --- Model ---
    return finished_model(
        logits_at_stride(images, x, stride, name or f"fcn{stride}s_resnet101"),
        backbone="resnet101",
        weights=weights,
        upsample=upsample,
        input_scale=input_scale,
    )


def _fused_scores(
    features: dict[str, keras.KerasTensor],
    stages: tuple[str, str, str],
    num_classes: int,
    stride: int,
    learnable: bool,
) -> keras.KerasTensor:
    """Sums the scores of the stages of stride 32, 16 and 8, down to `stride`.

    The scores are initially zero (Section 4.3: random initialisation gave neither
    better performance nor faster convergence).
    """

    def score(stage: str) -> keras.KerasTensor:
        return keras.layers.Conv2D(
            num_classes,
            1,
            data_format="channels_last",
            kernel_initializer="zeros",
            name=f"score_{stage}",
        )(features[stage])

    used = stages[: OUTPUT_STRIDES.index(stride) + 1]
    x = score(used[0])
    for coarse, fine in pairwise(used):
        x = Upsample2x(learnable, name=f"upscore_{coarse}")(x)
        x = keras.layers.Add(name=f"fuse_{fine}")([x, score(fine)])
    return x


def _check(num_classes: int, stride: int) -> None:
    check_num_classes(num_classes)
    known = stride in OUTPUT_STRIDES
    expect(known, f"`stride` to be one of {OUTPUT_STRIDES}", stride)


fcn32s_vgg16 = partial(fcn_vgg16, stride=32)
fcn16s_vgg16 = partial(fcn_vgg16, stride=16)
fcn8s_vgg16 = partial(fcn_vgg16, stride=8)
fcn32s_resnet101 = partial(fcn_resnet101, stride=32)
fcn16s_resnet101 = partial(fcn_resnet101, stride=16)
fcn8s_resnet101 = partial(fcn_resnet101, stride=8)
