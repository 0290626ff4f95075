"""Segmentation networks as functional Keras models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from tf_levelset.checks import call_with_options
from tf_levelset.models.deeplab import (
    deeplab_largefov,
    deeplab_resnet101,
    scaled_rates,
)
from tf_levelset.models.fcn import (
    fcn8s_resnet101,
    fcn8s_vgg16,
    fcn16s_resnet101,
    fcn16s_vgg16,
    fcn32s_resnet101,
    fcn32s_vgg16,
)
from tf_levelset.models.msc import (
    deeplab_msc_largefov,
    deeplab_msc_resnet101,
    multi_scale,
)
from tf_levelset.models.outputs import at_input_size, output_stride

__all__ = [
    "at_input_size",
    "create_model",
    "deeplab_largefov",
    "deeplab_msc_largefov",
    "deeplab_msc_resnet101",
    "deeplab_resnet101",
    "fcn8s_resnet101",
    "fcn8s_vgg16",
    "fcn16s_resnet101",
    "fcn16s_vgg16",
    "fcn32s_resnet101",
    "fcn32s_vgg16",
    "list_models",
    "multi_scale",
    "output_stride",
    "scaled_rates",
]

_MODELS: dict[str, Callable[..., keras.Model]] = {
    "deeplab_largefov": deeplab_largefov,
    "deeplab_resnet101": deeplab_resnet101,
    "deeplab_msc_largefov": deeplab_msc_largefov,
    "deeplab_msc_resnet101": deeplab_msc_resnet101,
    "fcn32s_resnet101": fcn32s_resnet101,
    "fcn16s_resnet101": fcn16s_resnet101,
    "fcn8s_resnet101": fcn8s_resnet101,
    "fcn32s_vgg16": fcn32s_vgg16,
    "fcn16s_vgg16": fcn16s_vgg16,
    "fcn8s_vgg16": fcn8s_vgg16,
}


def list_models() -> tuple[str, ...]:
    """Returns the names that `create_model` knows."""
    return tuple(_MODELS)


def create_model(name: str, /, num_classes: int, **options: Any) -> keras.Model:
    """Returns a net by its name.

    Args:
        name: one of `list_models()`.
        num_classes: number of classes.
        **options: further arguments of the net's own function.

    Raises:
        ValueError: for an unknown name or option.
    """
    if name not in _MODELS:
        raise ValueError(f"Expected a model of {list_models()}. Received: {name!r}")
    return call_with_options(name, _MODELS[name], num_classes, **options)
