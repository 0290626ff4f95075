"""The nets by their names."""

from __future__ import annotations

import inspect

import keras
import pytest
from model_tester import TINY

from tf_levelset import models
from tf_levelset.models import create_model, list_models, output_stride

NAMES = (
    "deeplab_largefov",
    "deeplab_resnet101",
    "deeplab_msc_largefov",
    "deeplab_msc_resnet101",
    "fcn32s_resnet101",
    "fcn16s_resnet101",
    "fcn8s_resnet101",
    "fcn32s_vgg16",
    "fcn16s_vgg16",
    "fcn8s_vgg16",
)


def test_the_nets_of_the_paper_are_there() -> None:
    assert list_models() == NAMES
    for name in NAMES:
        assert name in models.__all__


@pytest.mark.parametrize("name", [n for n in NAMES if "resnet" not in n])
def test_models_have_the_names_that_are_asked_for(name: str) -> None:
    assert getattr(models, name)(3, name="other", **TINY).name == "other"


@pytest.mark.parametrize("name", NAMES)
def test_nets_over_scales_take_the_options_of_the_single_net(name: str) -> None:
    options = inspect.signature(getattr(models, name)).parameters
    assert {"width", "depth", "upsample", "input_scale", "weights"} <= set(options)
    if "_msc_" in name:
        single = inspect.signature(getattr(models, name.replace("_msc", "")))
        assert list(options) == list(single.parameters)
        for key, parameter in single.parameters.items():
            assert key == "name" or options[key] == parameter


def test_the_stride_in_a_name_is_no_option() -> None:
    with pytest.raises(ValueError, match="options that 'fcn8s_vgg16' takes"):
        create_model("fcn8s_vgg16", 3, stride=32, **TINY)


def test_unknown_names_raise() -> None:
    with pytest.raises(
        ValueError, match=r"Expected `name` to be one of .* Received: 'unet'"
    ):
        create_model("unet", 3)


def test_models_of_others_have_no_output_stride() -> None:
    x = keras.Input((None, None, 3), name="images")
    for model in (
        keras.Model(x, keras.layers.Conv2D(3, 1)(x)),
        keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(3, 1)]),
        create_model("deeplab_largefov", 3, **TINY),
    ):
        with pytest.raises(ValueError, match=r"Expected a net .*upsample=False.*"):
            output_stride(model)
