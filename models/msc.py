"""Nets over several scales of an image (MSC; Chen et al. 2017, Section 3.1).

Kim et al. 2019 (Section 2.2) call them DeepLab-MSC-*. DeepLab v1's MSc-LargeFOV is
another net, of multi-scale features.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import keras

from tf_levelset.checks import expect, plain_options
from tf_levelset.models.building import finished_model, output_stride
from tf_levelset.models.catalog import ASPP_RATES
from tf_levelset.models.deeplab import deeplab_largefov, deeplab_resnet101
from tf_levelset.models.layers import (
    CropToStride,
    PadWithMean,
    ResizeLike,
    ScaleToStride,
)

SCALES = (1.0, 0.75, 0.5)
"""Those of DeepLab v2."""


@plain_options
def multi_scale(
    net: keras.Model,
    *,
    scales: Sequence[float] = SCALES,
    upsample: bool = True,
    input_scale: float = 1.0,
    name: str | None = None,
) -> keras.Model:
    """Applies a net to several scales of an image and takes the largest logits.

    The image is padded to 8k + 1, as the net would do, and shrunk to the sizes 8k′ + 1
    nearest to the scales, corner to corner, so that all logits lie at pixels of the
    image. The logits of the smaller images are resized to those of the first, bilinear
    and corner to corner. (For a net that pads to 32k + 1, read 32 instead of 8.)

    Args:
        net: A net with logits at its output stride (`upsample=False`). It becomes a
            part of the model, its weights shared, and can still be used on its own.
        scales: The first is 1, the others lie between 0 and 1.
        upsample: Whether to return the fused logits at the size of the image. If False,
            as for training, the logits of every scale and the fused ones are returned,
            and their losses are summed.
        input_scale: Factor that images are resized by first, with `upsample` only.
        name: Name of the model; by default the net's with `_msc`.

    Returns:
        A model from RGB images in 0–255, float32 (B, H, W, 3), to float32 logits
        (B, H, W, C). If `upsample` is False, a list of logits (B, ⌈H/s⌉, ⌈W/s⌉, C),
        where s is the net's output stride: one for each of `scales`, and the fused ones
        last. All of them belong to `labels[::s, ::s]`.

    Raises:
        ValueError: For other scales, a net with several outputs or with its logits at
            the size of the image, or a bad `input_scale`.
    """
    _check_scales(scales)
    stride = output_stride(net)
    expect(len(net.outputs) == 1, "a net with one output", net.output_names)
    # --- The net on every scale ---
    images = keras.Input((None, None, 3), name="images")
    padding = net.get_layer("padding").stride
    padded = PadWithMean(padding, dtype="float32", name="padding")(images)
    first = net(padded)
    maps = [first]
    for scale in scales[1:]:
        shrink = ScaleToStride(
            padding, scale, dtype="float32", name=f"scale_{_percent(scale)}"
        )
        resize = ResizeLike(dtype="float32", name=f"resize_{_percent(scale)}")
        maps.append(resize([net(shrink(padded)), first]))

    # --- Fusion ---
    maximum = keras.layers.Maximum(dtype="float32", name="maximum")
    maps.append(maximum(maps) if len(maps) > 1 else first)

    # --- Model ---
    names = [*(f"logits_{_percent(scale)}" for scale in scales), "fused"]
    outputs = [
        CropToStride(stride, dtype="float32", name=output)([x, images])
        for output, x in zip(names, maps, strict=True)
    ]
    return finished_model(
        keras.Model(images, outputs, name=name or f"{net.name}_msc"),
        upsample=upsample,
        input_scale=input_scale,
    )


def _check_scales(scales: Sequence[float]) -> None:
    first, others = tuple(scales[:1]), tuple(scales[1:])
    between = all(0 < scale < 1 for scale in others)
    expect(
        first == (1,) and between and len(set(others)) == len(others),
        "`scales` to begin with 1 and continue with different numbers between 0 and 1",
        tuple(scales),
    )


def _percent(scale: float) -> str:
    """Returns a scale as a part of a layer's name."""
    return f"{100 * scale:g}".replace(".", "_")


@plain_options
def deeplab_msc_largefov(
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
    name: str = "deeplab_msc_largefov",
) -> keras.Model:
    """DeepLab-LargeFOV over the scales 1, 0.75 and 0.5.

    The arguments are those of `deeplab_largefov`, and `weights` are those of the single
    net; `upsample`, `input_scale` and the model are as in `multi_scale`. If
    `batch_norm`, the three scales update the statistics one after another.
    """
    net = deeplab_largefov(
        num_classes,
        width=width,
        depth=depth,
        dilation=dilation,
        batch_norm=batch_norm,
        dropout=dropout,
        upsample=False,
        weights=weights,
    )
    return multi_scale(net, upsample=upsample, input_scale=input_scale, name=name)


@plain_options
def deeplab_msc_resnet101(
    num_classes: int,
    *,
    width: float = 1.0,
    depth: float = 1.0,
    rates: Sequence[int] = ASPP_RATES,
    freeze_batch_norm: bool = True,
    upsample: bool = True,
    input_scale: float = 1.0,
    weights: str | PathLike[str] | None = None,
    name: str = "deeplab_msc_resnet101",
) -> keras.Model:
    """DeepLab v2 on ResNet101 over the scales 1, 0.75 and 0.5.

    The arguments are those of `deeplab_resnet101`, and `weights` are those of the
    single net; `upsample`, `input_scale` and the model are as in `multi_scale`. Unless
    `freeze_batch_norm`, the three scales update the statistics one after another.
    """
    net = deeplab_resnet101(
        num_classes,
        width=width,
        depth=depth,
        rates=rates,
        freeze_batch_norm=freeze_batch_norm,
        upsample=False,
        weights=weights,
    )
    return multi_scale(net, upsample=upsample, input_scale=input_scale, name=name)
