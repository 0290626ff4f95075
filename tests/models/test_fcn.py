"""FCN against hand arithmetic and bilinear interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_tester import (
    TINY,
    Branch,
    ModelTester,
    listed,
    made_images,
    spread,
)

from tf_levelset import compat
from tf_levelset.models import create_model

# Fields of view with all of VGG16's convolutions and with a block a stage of
# ResNet101: (pixels to either side, stride) of each layer.
VGG16: Branch = (
    *[(1, 1)] * 2,
    (1, 2),
    *[(2, 2)] * 2,
    (2, 4),
    *[(4, 4)] * 3,
    (4, 8),  # pool3
    *[(8, 8)] * 3,
    (8, 16),  # pool4
    *[(16, 16)] * 3,
    (16, 32),  # pool5
    (3 * 32, 32),  # fc6
)
POOL3, POOL4 = VGG16[:10], VGG16[:14]
RESNET101: Branch = (
    (3, 2),
    (2, 4),
    (4, 4),  # conv2
    (0, 8),
    (8, 8),  # conv3
    (0, 16),
    (16, 16),  # conv4
    (0, 32),
    (32, 32),  # conv5
)
CONV3, CONV4 = RESNET101[:5], RESNET101[:7]
UP_TO_16 = (16, 16)
UP_TO_8 = (8, 8)

RESNET101_PARAMETERS = 42_658_176  # held against Keras' own in test_resnet.py
# 14,714,688 of VGG16 (test_vgg.py), fc6 and fc7.
VGG16_PARAMETERS = 14_714_688 + (7 * 7 * 512 * 4096 + 4096) + (4096 * 4096 + 4096)


def score(channels: int, classes: int) -> int:
    """Parameters of a 1×1 convolution."""
    return channels * classes + classes


def upscore(classes: int) -> int:
    """Parameters of a 3×3 transposed convolution without bias."""
    return 9 * classes * classes


class TestFcn32sVgg16(ModelTester):
    name = "fcn32s_vgg16"
    options = {"dropout": 0.0}  # noqa: RUF012
    stride = padded = 32
    branches: Sequence[Branch] = (VGG16,)
    impulse_options = {"depth": 1.0}  # noqa: RUF012

    def parameters(self, classes: int) -> int:
        assert VGG16_PARAMETERS + score(4096, 21) == 134_346_581
        return VGG16_PARAMETERS + score(4096, classes)


class TestFcn16sVgg16(TestFcn32sVgg16):
    name = "fcn16s_vgg16"
    stride = 16
    branches: Sequence[Branch] = ((*VGG16, UP_TO_16), POOL4)

    def parameters(self, classes: int) -> int:
        return super().parameters(classes) + upscore(classes) + score(512, classes)


class TestFcn8sVgg16(TestFcn16sVgg16):
    name = "fcn8s_vgg16"
    stride = 8
    branches = ((*VGG16, UP_TO_16, UP_TO_8), (*POOL4, UP_TO_8), POOL3)

    def parameters(self, classes: int) -> int:
        return super().parameters(classes) + upscore(classes) + score(256, classes)


class TestFcn32sResnet101(ModelTester):
    name = "fcn32s_resnet101"
    stride = padded = 32
    branches: Sequence[Branch] = (RESNET101,)

    def parameters(self, classes: int) -> int:
        return RESNET101_PARAMETERS + score(2048, classes)


class TestFcn16sResnet101(TestFcn32sResnet101):
    name = "fcn16s_resnet101"
    stride = 16
    branches: Sequence[Branch] = ((*RESNET101, UP_TO_16), CONV4)

    def parameters(self, classes: int) -> int:
        return super().parameters(classes) + upscore(classes) + score(1024, classes)


class TestFcn8sResnet101(TestFcn16sResnet101):
    name = "fcn8s_resnet101"
    stride = 8
    branches = ((*RESNET101, UP_TO_16, UP_TO_8), (*CONV4, UP_TO_8), CONV3)

    def parameters(self, classes: int) -> int:
        return super().parameters(classes) + upscore(classes) + score(512, classes)


NETS = ["fcn8s_vgg16", "fcn8s_resnet101"]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("learnable", [True, False])
def test_scores_are_interpolated_and_summed(name: str, learnable: bool) -> None:
    net = create_model(name, 3, upsample=False, learnable_upsampling=learnable, **TINY)
    kernels = [np.asarray(v) for v in _upsampling(net)]
    assert len(kernels) == 2 * learnable
    spread(net)
    for variable, value in zip(_upsampling(net), kernels, strict=True):
        variable.assign(value)  # as it was made
    scores = {
        layer.name: layer.output
        for layer in net.layers
        if layer.name.startswith("score_")
    }
    image = made_images(97, 65)
    found = keras.Model(net.inputs[0], scores)(image)
    coarse, middle, fine = (found[key] for key in scores)
    assert [x.shape[1] for x in (coarse, middle, fine)] == [4, 7, 13]
    fused = doubled(doubled(coarse) + middle) + fine
    np.testing.assert_allclose(net(image), fused, rtol=1e-4, atol=1e-5)


def doubled(x: tf.Tensor) -> tf.Tensor:
    size = [2 * n - 1 for n in x.shape[1:3]]
    return tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True)


def _upsampling(net: keras.Model) -> list[Any]:
    return [v for v in net.weights if "upscore" in compat.variable_path(v)]


@pytest.mark.parametrize("name", NETS)
def test_fresh_scores_are_zero(name: str) -> None:
    net = create_model(name, 3, upsample=False, **TINY)
    assert not listed(net(made_images(33, 33)))[0].any()
