"""The DeepLab nets against hand arithmetic."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from model_tester import TINY, Branch, ModelTester, made_images, spread

from tf_levelset import models
from tf_levelset.models import (
    deeplab_largefov,
    deeplab_resnet101,
    scaled_rates,
)
from tf_levelset.models.catalog import (
    ASPP_RATES,
)

# Fields of view with all of VGG16's convolutions and with a block a stage of ResNet101:
# (pixels to either side, stride) of each layer.
LARGEFOV: Branch = (
    *[(1, 1)] * 2,
    (1, 2),
    *[(2, 2)] * 2,
    (2, 4),
    *[(4, 4)] * 3,
    (4, 8),
    *[(8, 8)] * 4,  # conv4, pool4
    *[(16, 8)] * 3,  # conv5
    *[(8, 8)] * 2,  # pool5, pool5a
    (5 * 8, 8),  # fc6
)
RESNET101: Branch = (
    (3, 2),
    (2, 4),
    (4, 4),  # conv2
    (0, 8),
    (8, 8),  # conv3
    (16, 8),  # conv4
    (32, 8),  # conv5
    (7 * 8, 8),  # aspp
)


class TestDeeplabLargefov(ModelTester):
    name = "deeplab_largefov"
    options = {"dilation": 2, "dropout": 0.0}  # noqa: RUF012
    branches = (LARGEFOV,)
    impulse_options = {"depth": 1.0, "dilation": 5}  # noqa: RUF012

    def parameters(self, classes: int) -> int:
        # VGG16's own are counted by hand in test_vgg.py.
        fc6, fc7 = 9 * 512 * 1024 + 1024, 1024 * 1024 + 1024
        body = 14_714_688 + fc6 + fc7
        assert body + 1024 * 21 + 21 == 20_505_429
        return body + 1024 * classes + classes


class TestDeeplabResnet101(ModelTester):
    name = "deeplab_resnet101"
    options = {"rates": (1, 2, 3)}  # noqa: RUF012
    branches = (RESNET101,)
    impulse_options = {"rates": (1, 7, 2, 3)}  # noqa: RUF012

    def parameters(self, classes: int) -> int:
        # ResNet101's own are held against Keras' in test_resnet.py.
        return 42_658_176 + 4 * (9 * 2048 * classes + classes)


def test_dilations_are_deeplabs() -> None:
    largefov = deeplab_largefov(5, width=0.05)
    dilations = {
        layer.name: layer.dilation_rate
        for layer in largefov.layers
        if isinstance(layer, keras.layers.Conv2D)
    }
    dilated = {name: rate for name, rate in dilations.items() if rate != (1, 1)}
    assert dilated == {
        "conv5_1": (2, 2),
        "conv5_2": (2, 2),
        "conv5_3": (2, 2),
        "fc6": (12, 12),
    }


def test_aspp_is_the_sum_of_four_dilated_convolutions() -> None:
    # Each output of a 3×3 convolution of dilation r reads the rows i − r, i and i + r.
    net = spread(deeplab_resnet101(3, rates=(1, 2, 3, 5), upsample=False, **TINY))
    features = net.get_layer("conv5_block1_out").output
    x = keras.Model(net.inputs[0], features)(made_images(65, 49, batch=1)).numpy()
    height, width = x.shape[1:3]
    expected = np.zeros((height, width, 3))
    for index, rate in enumerate((1, 2, 3, 5), start=1):
        kernel, bias = net.get_layer(f"aspp{index}").get_weights()
        padded = np.pad(x[0].astype(np.float64), [(rate, rate), (rate, rate), (0, 0)])
        expected += bias
        for row in range(3):
            for column in range(3):
                top, left = row * rate, column * rate
                window = padded[top : top + height, left : left + width]
                expected += window @ kernel[row, column]
    output = net(made_images(65, 49, batch=1))[0]
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


def test_aspp_is_drawn_as_in_deeplab() -> None:
    net = deeplab_resnet101(21, width=0.2, depth=0.05)
    for index, rate in enumerate(ASPP_RATES, start=1):
        layer = net.get_layer(f"aspp{index}")
        assert layer.dilation_rate == (rate, rate)
        kernel, bias = layer.get_weights()
        # 9 · 410 · 21 = 77,490 draws: the deviation's own error is 1/√(2n) = 0.25 %.
        assert kernel.std() == pytest.approx(0.01, rel=0.02)
        assert not bias.any()


def test_rates_are_scaled_with_the_image() -> None:
    # 12 · 160 / 321 = 5.98, 18 · 160 / 321 = 8.97, 24 · 160 / 321 = 11.96
    assert scaled_rates(ASPP_RATES, 321) == (6, 12, 18, 24)
    assert scaled_rates(ASPP_RATES, 160) == (3, 6, 9, 12)
    assert scaled_rates((12,), 20) == (1,)
    assert scaled_rates([12], 513, reference=513) == (12,)
    for bad in (((0,), 321, 321), ((6,), 0, 321), ((6,), 321, 0)):
        with pytest.raises(ValueError, match=r"Expected rates .* Received"):
            scaled_rates(*bad)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("deeplab_largefov", {"num_classes": "3"}, "num_classes"),
        ("deeplab_largefov", {"dilation": 0}, "dilation"),
        ("deeplab_largefov", {"dropout": 1.0}, "dropout"),
        ("deeplab_largefov", {"input_scale": "half"}, "input_scale"),
        ("deeplab_resnet101", {"rates": (6,)}, "two or more `rates`"),
        ("deeplab_resnet101", {"rates": (6, 0, 12)}, "two or more `rates`"),
    ],
)
def test_bad_arguments_raise(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"Expected .*{message}.* Received"):
        getattr(models, name)(**{"num_classes": 5, **TINY, **options})
