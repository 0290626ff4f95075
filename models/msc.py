"""Nets over several scales of a picture (MSC; Chen et al. 2017, Section 3.1).

Kim et al. 2019 (Section 2.2) call them DeepLab-MSC-*. DeepLab v1's MSc-LargeFOV is
another net, of multi-scale features.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import keras

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
"""DeepLab v2's."""


def multi_scale(
    net: keras.Model,
    *,
    scales: Sequence[float] = SCALES,
    upsample: bool = True,
    input_scale: float = 1.0,
    name: str | None = None,
) -> keras.Model:
    """A net shared over scales of a picture, fused by the maximum of the logits.

    The picture is padded to 8k + 1, as the net would, and shrunk to the sizes 8k′ + 1
    nearest to the scales, corner to corner, so that all logits have their places on
    pixels of the picture; logits of the smaller pictures are brought to the size of
    the first, bilinear and corner to corner. (For a net that pads to 32k + 1, read 32.)

    Args:
        net: a net with logits at output stride (`upsample=False`). It becomes a part of
            the model, its weights shared, and can be used on its own as before.
        scales: the first is 1, the others in (0, 1).
        upsample: the fused logits at the picture's size. Otherwise, for training, the
            logits of every scale and the fused ones, whose losses are summed.
        input_scale: factor that pictures are first resized by, with `upsample` only.
        name: name of the model; by default the net's with `_msc`.

    Returns:
        A model from RGB pictures in 0–255, float32 (B, H, W, 3), to float32 logits
        (B, H, W, C); where `upsample` is False, to a list of them, all of shape
        (B, ⌈H/s⌉, ⌈W/s⌉, C) with the net's output stride s: one a scale, in the order
        of `scales`, and the fused one last. All stand on `labels[::s, ::s]`.

    Raises:
        ValueError: for other scales, a net with its logits at the picture's size, or a
            bad `input_scale`.
    """
    others = tuple(scales[1:])
    if (
        tuple(scales[:1]) != (1,)
        or not all(0 < s < 1 for s in others)
        or len(set(others)) < len(others)
    ):
        raise ValueError(
            "Expected scales that begin with 1 and go on in (0, 1), each once. "
            f"Received: {tuple(scales)}"
        )
    stride = output_stride(net)
    if len(net.outputs) != 1:
        raise ValueError(
            "Expected a net with one output. Received: "
            f"{net.name!r}, which has {len(net.outputs)}"
        )
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
    fused = (
        keras.layers.Maximum(dtype="float32", name="maximum")(maps)
        if len(maps) > 1
        else first
    )

    # --- Model ---
    names = [f"logits_{_percent(scale)}" for scale in scales]
    outputs = [
        CropToStride(stride, dtype="float32", name=name)([x, images])
        for name, x in zip([*names, "fused"], [*maps, fused], strict=True)
    ]
    return finished_model(
        keras.Model(images, outputs, name=name or f"{net.name}_msc"),
        upsample=upsample,
        input_scale=input_scale,
    )


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

    Args:
        num_classes: number of classes C.
        width: as of `deeplab_largefov`.
        depth: as of `deeplab_largefov`.
        dilation: as of `deeplab_largefov`.
        batch_norm: as of `deeplab_largefov`. The three scales move the statistics in
            turn.
        dropout: as of `deeplab_largefov`.
        upsample: as of `multi_scale`.
        input_scale: as of `multi_scale`.
        weights: None, "imagenet", or the path of a weights file, of the single net.
        name: name of the model.

    Returns:
        A model as of `multi_scale`.

    Raises:
        ValueError: for arguments out of range, or weights of another architecture.
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

    Args:
        num_classes: number of classes C.
        width: as of `deeplab_resnet101`.
        depth: as of `deeplab_resnet101`.
        rates: as of `deeplab_resnet101`.
        freeze_batch_norm: as of `deeplab_resnet101`. Where it is False, the three
            scales move the statistics in turn.
        upsample: as of `multi_scale`.
        input_scale: as of `multi_scale`.
        weights: None, "imagenet", or the path of a weights file, of the single net.
        name: name of the model.

    Returns:
        A model as of `multi_scale`.

    Raises:
        ValueError: for arguments out of range, or weights of another architecture.
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


def _percent(scale: float) -> str:
    """A scale as a part of a layer's name."""
    return f"{100 * scale:g}".replace(".", "_")
