"""FCN-32s, 16s and 8s (Long et al. 2015) on VGG16, their own, and on ResNet101.

The original pads pictures by 100 and crops what it upsampled by numbers that follow
from it. Ours pads to 32k + 1, where every stage's outputs stand at stride·i: ×2 leads
from n to 2n − 1 positions, those of the stage before, and nothing is cropped.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from os import PathLike

import keras

from tf_levelset import compat
from tf_levelset.checks import check_num_classes, is_number
from tf_levelset.models.building import (
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

    Preprocessing is inside. Heights and widths are free: a size that is not 32k + 1 is
    padded to it and the outputs are cropped back. Outputs at stride s stand on the
    pixels 0, s, 2s, …, so their labels are `labels[::s, ::s]`.

    Args:
        num_classes: number of classes C.
        stride: output stride s: 32 scores fc7 alone, 16 adds the scores of pool4 and 8
            those of pool3.
        width: multiplies the number of filters of every layer but the scores; 1 is the
            net of 134.3 million parameters at stride 32 and 21 classes.
        depth: multiplies the number of convolutions of every block of VGG16.
        batch_norm: normalise after each convolution, for training from scratch.
        dropout: rate after fc6 and fc7.
        learnable_upsampling: learn the upsampling of the scores by 2, from bilinear on;
            otherwise it stays bilinear. The last, to the picture, is always bilinear
            (Section 4.3).
        upsample: logits at the picture's size, bilinear corner to corner; otherwise at
            the output stride.
        input_scale: factor that pictures are first resized by, with `upsample` only.
        weights: None, "imagenet", or the path of a weights file.
        name: name of the model; by default as `fcn8s_vgg16`.

    Returns:
        A functional model from RGB pictures in 0–255, float32 (B, H, W, 3), to
        logits, float32 under every dtype policy: (B, H, W, C), or
        (B, ⌈H/s⌉, ⌈W/s⌉, C) where `upsample` is False.

    Raises:
        ValueError: for arguments out of range, or weights of another architecture.
    """
    _check(num_classes, stride)
    if not (is_number(dropout) and 0 <= dropout < 1):
        raise ValueError(f"Expected 0 ≤ dropout < 1. Received: dropout={dropout!r}")
    # --- Body ---
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

    Sizes, padding and the places of the outputs are `fcn_vgg16`'s.

    Args:
        num_classes: number of classes C.
        stride: output stride s: 32 scores conv5 alone, 16 adds the scores of conv4 and
            8 those of conv3.
        width: multiplies the number of filters of every layer but the scores; 1 is a
            net of 42.7 million parameters at stride 32 and 21 classes.
        depth: multiplies the number of blocks of every stage of ResNet101.
        freeze_batch_norm: keep the normalisation of trained weights as it is; False
            trains it, from scratch.
        learnable_upsampling: as of `fcn_vgg16`.
        upsample: as of `fcn_vgg16`.
        input_scale: factor that pictures are first resized by, with `upsample` only.
        weights: None, "imagenet", or the path of a weights file.
        name: name of the model; by default as `fcn8s_resnet101`.

    Returns:
        A functional model as of `fcn_vgg16`.

    Raises:
        ValueError: for arguments out of range, or weights of another architecture.
    """
    _check(num_classes, stride)
    # --- Body ---
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
    """Scores of the stages of stride 32, 16 and 8, as far as `stride`, summed.

    Scores start from zero (Section 4.3): random ones trained neither better nor faster.
    """

    def score(stage: str) -> keras.KerasTensor:
        return keras.layers.Conv2D(
            num_classes, 1, kernel_initializer="zeros", name=f"score_{stage}"
        )(features[stage])

    used = stages[: OUTPUT_STRIDES.index(stride) + 1]
    x = score(used[0])
    for coarse, fine in pairwise(used):
        x = Upsample2x(learnable, name=f"upscore_{coarse}")(x)
        x = keras.layers.Add(name=f"fuse_{fine}")([x, score(fine)])
    return x


def _check(num_classes: int, stride: int) -> None:
    check_num_classes(num_classes)
    if stride not in OUTPUT_STRIDES:
        raise ValueError(f"Expected a stride of {OUTPUT_STRIDES}. Received: {stride!r}")


fcn32s_vgg16 = partial(fcn_vgg16, stride=32)
fcn16s_vgg16 = partial(fcn_vgg16, stride=16)
fcn8s_vgg16 = partial(fcn_vgg16, stride=8)
fcn32s_resnet101 = partial(fcn_resnet101, stride=32)
fcn16s_resnet101 = partial(fcn_resnet101, stride=16)
fcn8s_resnet101 = partial(fcn_resnet101, stride=8)
