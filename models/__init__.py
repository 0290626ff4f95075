"""Segmentation networks as functional Keras models."""

from __future__ import annotations

from typing import Any

import keras

from tf_levelset.models.deeplab import deeplab_largefov
from tf_levelset.models.outputs import at_input_size
from tf_levelset.registry import call_with_options

__all__ = ["at_input_size", "create_model", "deeplab_largefov", "list_models"]

_MODELS = {"deeplab_largefov": deeplab_largefov}


def list_models() -> tuple[str, ...]:
    """Returns the names that `create_model` knows."""
    return tuple(_MODELS)


def create_model(name: str, num_classes: int, **options: Any) -> keras.Model:
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
