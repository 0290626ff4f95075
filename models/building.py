"""How every net begins, ends, and is made narrower or shallower.

A net is a function that calls, in this order, `preprocessed_input`, its own layers,
`logits_at_stride` and `finished_model`.
"""

from __future__ import annotations

from os import PathLike

import keras

from tf_levelset.checks import check_positive, expect, is_number, plain_options
from tf_levelset.models.layers import (
    CaffePreprocessing,
    CropToStride,
    PadToStride,
    ResizeToImage,
    ScaleImage,
    UpsampleToImage,
)
from tf_levelset.models.weights import load_weights

# --- Beginning ---


def preprocessed_input(stride: int) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Begins a functional net.

    Images are padded at the bottom and on the right until both sides are stride·k + 1.
    On such sizes the outputs of every stage lie at the pixels 0, s, 2s, …, where s is
    the stride of the stage, provided that its layers pad symmetrically:

    - `SymmetricMaxPooling2D(2)` maps 2n + 1 positions to n + 1, those at 0, 2, 4, …;
    - `Upsample2x` maps n + 1 positions back to 2n + 1, so that skip connections fit
      without a crop.

    (`MaxPooling2D(2)` and `UpSampling2D(2)` of Keras would lose the last position and
    move the others.)

    Args:
        stride: The stride of the coarsest stage, 2^k after k poolings or convolutions
            of stride 2.

    Returns:
        The input (B, H, W, 3), RGB in 0–255, and the same as BGR with ImageNet's mean
        subtracted, padded with zeros.
    """
    images = keras.Input((None, None, 3), name="images")
    x = CaffePreprocessing(dtype="float32", name="preprocessing")(images)
    return images, PadToStride(stride, name="padding")(x)


def scaled_filters(filters: int, width: float) -> int:
    """Returns the number of filters × `width`, rounded, at least 1.

    Raises:
        ValueError: If `width` is not positive and finite.
    """
    check_positive(width=width)
    return max(1, round(filters * width))


def scaled_depth(layers: int, depth: float) -> int:
    """Returns the number of layers or blocks of a stage × `depth`, at least 1.

    Raises:
        ValueError: If `depth` is not positive and finite.
    """
    check_positive(depth=depth)
    return max(1, round(layers * depth))


def check_dropout(rate: float) -> None:
    """Raises `ValueError` unless a dropout rate is in [0, 1)."""
    expect(is_number(rate) and 0 <= rate < 1, "`dropout` to be in [0, 1)", rate)


# --- End ---


def logits_at_stride(
    images: keras.KerasTensor, logits_map: keras.KerasTensor, stride: int, name: str
) -> keras.Model:
    """Ends a functional net at its output stride.

    Args:
        images: The net's input (B, H, W, 3).
        logits_map: Logits (B, h, w, C) of the padded image.
        stride: Output stride of the net, 1 where the logits have the image's size.
        name: Name of the model.

    Returns:
        A model with float32 logits (B, ⌈H/stride⌉, ⌈W/stride⌉, C).
    """
    logits_map = keras.layers.Activation("linear", dtype="float32", name="logits")(
        logits_map
    )
    crop = CropToStride(stride, dtype="float32", name="crop_to_stride")
    return keras.Model(images, crop([logits_map, images]), name=name)


def finished_model(
    model: keras.Model,
    *,
    upsample: bool,
    input_scale: float,
    weights: str | PathLike[str] | None = None,
    backbone: str = "",
) -> keras.Model:
    """Gives a net the weights and the outputs that the user asked for.

    Args:
        model: A net with logits at its output stride.
        upsample: Whether the logits are brought to the size of the image.
        input_scale: Factor that images are resized by first; 1 unless `upsample`.
        weights: None, "imagenet" or a path, as `weights.load_weights` takes them.
        backbone: "vgg16" or "resnet101", for `weights`.

    Returns:
        `model` itself, or with `upsample` the model of `at_input_size`.

    Raises:
        ValueError: If `input_scale` is not positive or is given without `upsample`, or
            if the weights do not fit.
    """
    expect(
        upsample or input_scale == 1,
        "`input_scale` to be 1 where `upsample` is False, because outputs at a stride "
        "belong to the image as it is",
        input_scale,
    )
    if weights is not None:
        load_weights(model, weights, backbone=backbone)
    return at_input_size(model, input_scale) if upsample else model


def output_stride(model: keras.Model) -> int:
    """Returns the distance in pixels between the outputs of a net.

    The labels that belong to the outputs are `labels[::stride, ::stride]`.

    Args:
        model: A net of this package, made with `upsample=False`.

    Raises:
        ValueError: If the model has no logits at an output stride.
    """
    return _crop_layer(model).stride


@plain_options
def at_input_size(model: keras.Model, input_scale: float = 1.0) -> keras.Model:
    """Returns the same net, sharing its weights, with logits at the size of the images.

    Args:
        model: A net of this package, made with `upsample=False`. If it has several
            outputs, the last one is taken: the fused one of a net over several scales.
        input_scale: Factor that images are resized by before the net sees them, for a
            net that was trained on images of that size. The logits are resized back, so
            that they always have the size of the input.

    Returns:
        A model from images (B, H, W, 3) to float32 logits (B, H, W, C).

    Raises:
        ValueError: If `input_scale` is not positive, or the model has no logits at an
            output stride.
    """
    check_positive(input_scale=input_scale)
    crop = _crop_layer(model)
    logits_map, inner_images = crop.input
    upsample = UpsampleToImage(crop.stride, dtype="float32", name="upsample")
    if input_scale == 1:
        logits = upsample([logits_map, inner_images])
        return keras.Model(inner_images, logits, name=model.name)
    images = keras.Input((None, None, 3), name="images")
    scaled = ScaleImage(input_scale, dtype="float32", name="scale")(images)
    net = keras.Model(inner_images, logits_map, name=f"{model.name}_net")
    logits = upsample([net(scaled), scaled])
    logits = ResizeToImage(dtype="float32", name="resize")([logits, images])
    return keras.Model(images, logits, name=model.name)


def _crop_layer(model: keras.Model) -> CropToStride:
    """Returns the layer that puts out the last logits at the output stride."""
    # Sequential models have no names of outputs in Keras 3.
    names = getattr(model, "output_names", ())
    layer = model.get_layer(names[-1]) if names else None
    if isinstance(layer, CropToStride):
        return layer
    raise ValueError(
        "Expected a net with logits at its output stride (upsample=False). Received: "
        f"{model.name!r}, which has none."
    )
