"""DeepLab nets (Chen et al. 2015, 2017), as Kim et al. 2019 train them."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import keras

from tf_levelset import compat
from tf_levelset.checks import check_num_classes, expect, is_whole, plain_options
from tf_levelset.models.building import (
    check_dropout,
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


@plain_options
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

    Preprocessing is part of the model, and images of any size are accepted: a size that
    is not 8k + 1 is padded to it and the outputs are cropped. Outputs at stride 8 lie
    at the pixels 0, 8, 16, …, so that their labels are `labels[::8, ::8]`.

    Args:
        num_classes: Number of classes C.
        width: Multiplies the number of filters of every layer but the last; 1 is
            DeepLab's net of 20.5 million parameters at 21 classes.
        depth: Multiplies the number of convolutions of every block of VGG16.
        dilation: Dilation rate of fc6. 12 is DeepLab's, for maps of 41×41; on a map
            smaller than about twice the rate most taps see padding (`scaled_rates`).
        batch_norm: Whether to normalise after each convolution, for training from
            scratch.
        dropout: Rate after fc6 and fc7.
        upsample: Whether the logits have the size of the image, bilinear and corner to
            corner; otherwise they are at stride 8, where DeepLab computes its loss.
        input_scale: Factor that images are resized by first, with `upsample` only.
        weights: None, "imagenet", or the path of a weights file.
        name: Name of the model.

    Returns:
        A functional model from RGB images in 0–255, float32 (B, H, W, 3), to
        logits, float32 under every dtype policy: (B, H, W, C), or
        (B, ⌈H/8⌉, ⌈W/8⌉, C) if `upsample` is False.

    Raises:
        ValueError: For arguments out of range, or weights of another architecture.
    """
    check_num_classes(num_classes)
    whole = is_whole(dilation) and dilation >= 1
    expect(whole, "`dilation` to be an integer of at least 1", dilation)
    check_dropout(dropout)
    # --- Backbone ---
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
    x = _classifier(num_classes, "fc8")(x)

    # --- Model ---
    return finished_model(
        logits_at_stride(images, x, OUTPUT_STRIDE, name),
        backbone="vgg16",
        weights=weights,
        upsample=upsample,
        input_scale=input_scale,
    )


@plain_options
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

    The head, ASPP, is the sum of 3×3 convolutions to the classes, one at each dilation
    rate. Sizes and padding are as in `deeplab_largefov`.

    Args:
        num_classes: Number of classes C.
        width: Multiplies the number of filters of every layer but the last; 1 is a net
            of 44.2 million parameters at 21 classes.
        depth: Multiplies the number of blocks of every stage of ResNet101.
        rates: Two or more dilation rates of ASPP. The default is DeepLab's four, for
            maps of 41×41; smaller images need smaller ones (`scaled_rates`).
        freeze_batch_norm: Whether to keep the batch normalisation of trained weights as
            it is, as the paper does; False trains it, from scratch.
        upsample: See `deeplab_largefov`.
        input_scale: See `deeplab_largefov`.
        weights: None, "imagenet", or the path of a weights file.
        name: Name of the model.

    Returns:
        A functional model as of `deeplab_largefov`.

    Raises:
        ValueError: For arguments out of range, or weights of another architecture.
    """
    check_num_classes(num_classes)
    rates = tuple(rates) if isinstance(rates, Sequence) else ()
    whole = all(is_whole(rate) and rate >= 1 for rate in rates)
    expect(whole and len(rates) >= 2, "two or more `rates` of at least 1", rates)
    # --- Backbone ---
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
        _classifier(num_classes, f"aspp{index}", kernel_size=3, dilation=rate)(x)
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


def _classifier(
    num_classes: int, name: str, kernel_size: int = 1, dilation: int = 1
) -> keras.layers.Conv2D:
    """Returns a convolution to the classes, initialised as DeepLab does."""
    return keras.layers.Conv2D(
        num_classes,
        kernel_size,
        padding="same",
        dilation_rate=dilation,
        data_format="channels_last",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        name=name,
    )
