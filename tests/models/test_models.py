"""The nets by their names."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
from model_tester import TINY, made_images

from tf_levelset import compat, models
from tf_levelset.models import create_model
from tf_levelset.models.catalog import (
    FCN_MULTIPLIERS,
    LARGEFOV_MULTIPLIERS,
    NETS,
    RESNET101_MULTIPLIERS,
    supported_options,
)
from tf_levelset.optimizers.caffe_sgd import CaffeSGD

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


def loaded(code: str, program: str = "") -> set[str]:
    """The modules that are loaded once Python has run some code."""
    code = f"import sys, json; sys.argv = [{program!r}]; {code}; "
    code += "print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_package_registers_the_layers_and_loads_no_net() -> None:
    modules = loaded("import tf_levelset")
    ours = {name for name in modules if name.startswith("tf_levelset.models.")}
    assert ours == {"tf_levelset.models.catalog", "tf_levelset.models.layers"}


def test_models_are_listed_without_tensorflow() -> None:
    code = "import tf_levelset; assert tf_levelset.models.list_models()"
    modules = loaded(code, program="tf-levelset")
    assert "tf_levelset.models.catalog" in modules
    assert not modules & {"keras", "tensorflow", "h5py", "numpy"}


def test_every_public_name_is_there() -> None:
    assert set(NETS) <= set(models.__all__)
    for name in models.__all__:
        assert callable(getattr(models, name))
    # Python sets a loaded file as an attribute of its folder: it would hide the net.
    assert not {f".{name}" for name in NETS} & set(NETS.values())
    with pytest.raises(AttributeError, match="has no attribute 'no_net'"):
        _ = models.no_net


@pytest.mark.parametrize("name", NAMES)
def test_nets_over_scales_take_the_options_of_the_single_net(name: str) -> None:
    options = inspect.signature(getattr(models, name)).parameters
    assert {"width", "depth", "upsample", "input_scale", "weights"} <= set(options)
    if "_msc_" in name:
        single = inspect.signature(getattr(models, name.replace("_msc", "")))
        assert list(options) == list(single.parameters)
        for key, parameter in single.parameters.items():
            assert key == "name" or options[key] == parameter


@pytest.mark.parametrize("name", ["deeplab_msc_resnet101", "fcn8s_vgg16"])
def test_nets_have_channels_last_whatever_keras_default_is(name: str) -> None:
    outputs = []
    for default in ("channels_last", "channels_first"):
        keras.backend.set_image_data_format(default)
        try:
            keras.utils.set_random_seed(0)
            net = create_model(name, 3, **supported_options(name, TINY))
            outputs.append(net(made_images(9, 17)))
        finally:
            keras.backend.set_image_data_format("channels_last")
    assert outputs[0].shape == (2, 9, 17, 3)
    np.testing.assert_array_equal(*outputs)


def test_supported_options_are_those_that_the_net_takes() -> None:
    options = {"width": 0.5, "rates": (6, 12), "dilation": 2}
    assert supported_options("deeplab_resnet101", options) == {
        "width": 0.5,
        "rates": (6, 12),
    }
    assert supported_options("fcn8s_vgg16", options) == {"width": 0.5}


@pytest.mark.parametrize(
    ("name", "multipliers", "kernel", "bias", "special"),
    [
        ("deeplab_largefov", LARGEFOV_MULTIPLIERS, 1.0, 2.0, "fc8"),
        ("deeplab_msc_largefov", LARGEFOV_MULTIPLIERS, 1.0, 2.0, "fc8"),
        ("deeplab_resnet101", RESNET101_MULTIPLIERS, 1.0, 1.0, "aspp"),
        ("fcn8s_vgg16", FCN_MULTIPLIERS, 1.0, 2.0, "upscore"),
        ("fcn8s_resnet101", FCN_MULTIPLIERS, 1.0, 2.0, "upscore"),
    ],
)
def test_rates_of_the_layers_are_the_papers(
    name: str, multipliers: Any, kernel: float, bias: float, special: str
) -> None:
    # New layers learn 10 (kernels) and 20 times (biases) as fast, and learned
    # upsampling does not decay. Normalisation has the rate 1 without decay.
    options = {"freeze_batch_norm": False} if "resnet" in name else {}
    net = create_model(name, 3, **TINY, **options)
    optimizer, seen = CaffeSGD(multipliers=multipliers), False
    for variable in net.trainable_variables:
        layer, kind = compat.variable_path(variable).split("/")[-2:]
        expected = {"kernel": (kernel, 1.0), "bias": (bias, 0.0)}.get(kind, (1.0, 0.0))
        if layer.startswith(special):
            new = {"kernel": (10.0, 1.0), "bias": (20.0, 0.0)}[kind]
            expected = (1.0, 0.0) if special == "upscore" else new
            seen = True
        assert optimizer.multiplier(variable) == expected, layer
    assert seen


@pytest.mark.parametrize("function", [create_model, supported_options])
def test_unknown_names_raise(function: object) -> None:
    with pytest.raises(ValueError, match=r"Expected `name` .* Received: 'unet'"):
        function("unet", {})  # type: ignore[operator]
