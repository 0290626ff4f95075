"""Segmentation networks as functional Keras models.

Importing this package loads none of them: each is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_levelset.lazy import loader
from tf_levelset.models.catalog import NETS, create_model, list_models, scaled_rates

if TYPE_CHECKING:
    from tf_levelset.models.building import at_input_size, output_stride
    from tf_levelset.models.deeplab import deeplab_largefov, deeplab_resnet101
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

__getattr__ = loader(
    __name__,
    {
        **NETS,
        "at_input_size": ".building",
        "multi_scale": ".msc",
        "output_stride": ".building",
    },
)
