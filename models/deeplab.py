"""DeepLab nets (Chen et al. 2015, 2017), as Kim et al. 2019 train them."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import keras

from tf_levelset import compat
from tf_levelset.checks import check_num_classes, is_number, is_whole
from tf_levelset.models.building import (
    finished_model,
    logits_at_stride,
    preprocessed_input,
    scaled_filters,
)
from tf_levelset.models.catalog import ASPP_RATES
from tf_levelset.models.layers import SymmetricAveragePooling2D
from tf_levelset.models.resnet import resnet101
from tf_levelset.models.vgg import convolution, vgg16

OUTPUT_STRIDE = 8


def deeplab_largefov(
    num_classes: int,
    *,
    width: float = 1.0,
    depth: float = 1.0,
    dilation: int = 12,
    batch_norm: bool = False,
    dropout: float = 0.5,
    upsample: bool = True,
    input_scale: float = 1.0,
    weights: str | PathLike[str] | None = None,
    name: str = "deeplab_largefov",
) -> keras.Model:
    """DeepLab-LargeFOV on VGG16 (Chen et al. 2015; Kim et al. 2019, Section 4).

    Preprocessing is inside. Heights and widths are free: a size that is not 8k + 1 is
    padded to it and the outputs are cropped back. Outputs at stride 8 stand on the
    pixels 0, 8, 16, …, so their labels are `labels[::8, ::8]`.

    Args:
        num_classes: number of classes C.
        width: multiplies the number of filters of every layer but the last; 1 is
            DeepLab's net of 20.5 million parameters at 21 classes.
        depth: multiplies the number of convolutions of every block of VGG16.
        dilation: of fc6. 12 is DeepLab's, for maps of 41×41; on a map smaller than
            about twice the dilation most of its taps see only padding (`scaled_rates`).
        batch_norm: normalise after each convolution, for training from scratch.
        dropout: rate after fc6 and fc7.
        upsample: logits at the picture's size, bilinear corner to corner; otherwise
            at stride 8, where DeepLab takes its loss.
        input_scale: factor that pictures are first resized by, with `upsample` only.
        weights: None, "imagenet", or the path of a weights file.
        name: name of the model.

    Returns:
        A functional model from RGB pictures in 0–255, float32 (B, H, W, 3), to
        logits, float32 under every dtype policy: (B, H, W, C), or
        (B, ⌈H/8⌉, ⌈W/8⌉, C) where `upsample` is False.

    Raises:
        ValueError: for arguments out of range, or weights of another architecture.
    """
    check_num_classes(num_classes)
    whole = is_whole(dilation) and dilation >= 1
    if not whole or not (is_number(dropout) and 0 <= dropout < 1):
        raise ValueError(
            "Expected a whole dilation ≥ 1 and 0 ≤ dropout < 1. Received: "
            f"dilation={dilation!r}, dropout={dropout!r}"
        )
    # --- Body ---
    images, x = preprocessed_input(OUTPUT_STRIDE)
    x = vgg16(
        x,
        output_stride=OUTPUT_STRIDE,
        width=width,
        depth=depth,
        batch_norm=batch_norm,
    )["pool5"]
    x = SymmetricAveragePooling2D(name="pool5a")(x)

    # --- Head: the fully connected layers of VGG16 as dilated convolutions ---
    filters = scaled_filters(1024, width)
    x = convolution(x, filters, "fc6", dilation=dilation, batch_norm=batch_norm)
    x = compat.dropout(dropout, "drop6")(x)
    x = convolution(x, filters, "fc7", kernel_size=1, batch_norm=batch_norm)
    x = compat.dropout(dropout, "drop7")(x)
    x = keras.layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        name="fc8",
    )(x)

    # --- Model ---
    return finished_model(
        logits_at_stride(images, x, OUTPUT_STRIDE, name),
        backbone="vgg16",
        weights=weights,
        upsample=upsample,
        input_scale=input_scale,
    )


def deeplab_resnet101(
    num_classes: int,
    *,
    width: float = 1.0,
    depth: float = 1.0,
    rates: Sequence[int] = ASPP_RATES,
    freeze_batch_norm: bool = True,
    upsample: bool = True,
    input_scale: float = 1.0,
    weights: str | PathLike[str] | None = None,
    name: str = "deeplab_resnet101",
) -> keras.Model:
    """DeepLab v2 on ResNet101 (Chen et al. 2017; Kim et al. 2019, Section 4).

    The head, ASPP, is a 3×3 convolution to the classes at each of four dilations, and
    their sum. Sizes, padding and the places of the outputs are `deeplab_largefov`'s.

    Args:
        num_classes: number of classes C.
        width: multiplies the number of filters of every layer but the last; 1 is a net
            of 44.2 million parameters at 21 classes.
        depth: multiplies the number of blocks of every stage of ResNet101.
        rates: dilations of ASPP. The default is DeepLab's, for maps of 41×41; smaller
            pictures need smaller ones (`scaled_rates`).
        freeze_batch_norm: keep the normalisation of trained weights as it is, which is
            the paper's recipe; False trains it, from scratch.
        upsample: logits at the picture's size, bilinear corner to corner; otherwise
            at stride 8, where DeepLab takes its loss.
        input_scale: factor that pictures are first resized by, with `upsample` only.
        weights: None, "imagenet", or the path of a weights file.
        name: name of the model.

    Returns:
        A functional model as of `deeplab_largefov`.

    Raises:
        ValueError: for arguments out of range, or weights of another architecture.
    """
    rates = tuple(rates) if isinstance(rates, Sequence) else ()
    whole = all(is_whole(rate) and rate >= 1 for rate in rates)
    check_num_classes(num_classes)
    if len(rates) < 2 or not whole:
        raise ValueError(f"Expected two or more rates ≥ 1. Received: {rates}")
    # --- Body ---
    images, x = preprocessed_input(OUTPUT_STRIDE)
    x = resnet101(
        x,
        output_stride=OUTPUT_STRIDE,
        width=width,
        depth=depth,
        freeze_batch_norm=freeze_batch_norm,
    )["conv5"]

    # --- Head: atrous spatial pyramid pooling ---
    branches = [
        keras.layers.Conv2D(
            num_classes,
            3,
            padding="same",
            dilation_rate=rate,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            name=f"aspp{index}",
        )(x)
        for index, rate in enumerate(rates, start=1)
    ]
    x = keras.layers.Add(name="aspp")(branches)

    # --- Model ---
    return finished_model(
        logits_at_stride(images, x, OUTPUT_STRIDE, name),
        backbone="resnet101",
        weights=weights,
        upsample=upsample,
        input_scale=input_scale,
    )
