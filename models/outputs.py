"""From the logits map of a net to a model, at output stride or at the input's size."""

from __future__ import annotations

from os import PathLike

import keras

from tf_levelset.checks import is_number
from tf_levelset.models.layers import (
    CropToStride,
    ResizeToImage,
    ScaleImage,
    UpsampleToImage,
)
from tf_levelset.models.weights import load_weights

_CROP = "crop_to_stride"


def logits_at_stride(
    images: keras.KerasTensor, logits_map: keras.KerasTensor, stride: int, name: str
) -> keras.Model:
    """Ends a functional net at its output stride.

    Args:
        images: the net's input (B, H, W, 3).
        logits_map: logits (B, h, w, C) of the padded picture.
        stride: output stride of the net.
        name: name of the model.

    Returns:
        A model with float32 logits (B, ⌈H/stride⌉, ⌈W/stride⌉, C).
    """
    logits_map = keras.layers.Activation("linear", dtype="float32", name="logits")(
        logits_map
    )
    logits = CropToStride(stride, dtype="float32", name=_CROP)([logits_map, images])
    return keras.Model(images, logits, name=name)


def finished(
    model: keras.Model,
    *,
    upsample: bool,
    input_scale: float,
    weights: str | PathLike[str] | None = None,
    backbone: str = "",
) -> keras.Model:
    """Gives a net the weights and the outputs that a user asked for.

    Args:
        model: a net with logits at output stride.
        upsample: whether logits are brought to the picture's size.
        input_scale: factor that pictures are resized by first; 1 unless `upsample`.
        weights: None, "imagenet", or a path, as `weights.load_weights` takes them.
        backbone: "vgg16" or "resnet101", for `weights`.

    Raises:
        ValueError: for an `input_scale` that is not positive, or without `upsample`; or
            for weights of another architecture.
    """
    if not upsample and input_scale != 1:
        raise ValueError(
            "Expected `input_scale` 1 without `upsample`: outputs at stride "
            f"{output_stride(model)} belong to the picture as it is. Received: "
            f"{input_scale!r}"
        )
    if weights is not None:
        load_weights(model, weights, backbone=backbone)
    return at_input_size(model, input_scale) if upsample else model


def output_stride(model: keras.Model) -> int:
    """The distance in pixels between the outputs of a net with `upsample=False`.

    Its labels are `labels[::stride, ::stride]`.

    Raises:
        ValueError: if the model has no logits at output stride.
    """
    return _crop_layer(model).stride


def at_input_size(model: keras.Model, input_scale: float = 1.0) -> keras.Model:
    """The same net, sharing its weights, with logits at the size of the pictures.

    Args:
        model: a net with logits at output stride, made by this package. Of several
            outputs the last is taken: the fused one of a net over several scales.
        input_scale: factor that pictures are resized by before the net sees them, for
            a net that was trained on pictures of that size. The logits are resized
            back, so that they always have the input's size.

    Returns:
        A model from (B, H, W, 3) to float32 logits (B, H, W, C).

    Raises:
        ValueError: if `input_scale` is not positive, or the model has no logits at
            output stride.
    """
    if not (is_number(input_scale) and 0 < input_scale < float("inf")):
        raise ValueError(
            f"Expected `input_scale` to be positive. Received: {input_scale!r}"
        )
    crop = _crop_layer(model)
    logits_map, inner_images = crop.input
    if input_scale == 1:
        logits = UpsampleToImage(crop.stride, dtype="float32", name="upsample")(
            [logits_map, inner_images]
        )
        return keras.Model(inner_images, logits, name=model.name)
    images = keras.Input((None, None, 3), name="images")
    scaled = ScaleImage(input_scale, dtype="float32", name="scale")(images)
    net = keras.Model(inner_images, logits_map, name=f"{model.name}_net")
    logits = UpsampleToImage(crop.stride, dtype="float32", name="upsample")(
        [net(scaled), scaled]
    )
    logits = ResizeToImage(dtype="float32", name="resize")([logits, images])
    return keras.Model(images, logits, name=model.name)


def _crop_layer(model: keras.Model) -> CropToStride:
    # Sequential models have no names of outputs in Keras 3.
    names = getattr(model, "output_names", ())
    layer = model.get_layer(names[-1]) if names else None
    if isinstance(layer, CropToStride):
        return layer
    raise ValueError(
        "Expected a net with logits at output stride (upsample=False). Received: "
        f"{model.name!r}, which has none."
    )
