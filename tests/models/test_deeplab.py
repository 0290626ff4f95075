"""The DeepLab nets against hand arithmetic."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from model_tester import TINY, Branch, ModelTester, made_images, spread

from tf_levelset import compat
from tf_levelset.models import (
    deeplab_largefov,
    deeplab_resnet101,
    scaled_rates,
)
from tf_levelset.models.catalog import (
    ASPP_RATES,
    LARGEFOV_MULTIPLIERS,
    RESNET101_MULTIPLIERS,
)
from tf_levelset.optimizers.caffe_sgd import CaffeSGD

# Layer, output stride of its map, channels: 321 → 161 → 81 → 41 at the strides 1, 2,
# 4, 8, with ⌊(n + 2 − 3)/2⌋ + 1 = (n + 1)/2 for odd n at each pooling of stride 2.
SIZES = {1: 321, 2: 161, 4: 81, 8: 41}
LAYERS = [
    *[(f"conv1_{i}", 1, 64) for i in (1, 2)],
    ("pool1", 2, 64),
    *[(f"conv2_{i}", 2, 128) for i in (1, 2)],
    ("pool2", 4, 128),
    *[(f"conv3_{i}", 4, 256) for i in (1, 2, 3)],
    ("pool3", 8, 256),
    *[(f"conv4_{i}", 8, 512) for i in (1, 2, 3)],
    ("pool4", 8, 512),
    *[(f"conv5_{i}", 8, 512) for i in (1, 2, 3)],
    ("pool5", 8, 512),
    ("pool5a", 8, 512),
    ("fc6", 8, 1024),
    ("fc7", 8, 1024),
    ("fc8", 8, 21),
]


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
        # ResNet101's own are held against hand arithmetic in test_resnet.py.
        return 42_658_176 + 4 * (9 * 2048 * classes + classes)


def narrow(**options: object) -> keras.Model:
    """A net of a twentieth of the filters."""
    return deeplab_largefov(5, width=0.05, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def largefov() -> keras.Model:
    return deeplab_largefov(21, upsample=False)


def test_size_of_every_layer(largefov: keras.Model) -> None:
    outputs = {name: largefov.get_layer(name).output for name, _, _ in LAYERS}
    probe = tf.function(keras.Model(largefov.inputs, outputs))
    shapes = probe.get_concrete_function(
        tf.TensorSpec((1, 321, 321, 3))
    ).structured_outputs
    for name, stride, channels in LAYERS:
        size = SIZES[stride]
        assert shapes[name].shape == (1, size, size, channels), name


def test_dilations_and_strides_are_deeplabs(largefov: keras.Model) -> None:
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


@pytest.mark.parametrize("upsample", [True, False])
def test_logits_are_float32_under_bfloat16(upsample: bool) -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        net = narrow(upsample=upsample, batch_norm=True)
        output = net(tf.ones((1, 33, 33, 3)))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert output.dtype == tf.float32
    assert np.isfinite(output).all()


def test_per_layer_rates_are_deeplabs(largefov: keras.Model) -> None:
    optimizer = CaffeSGD(multipliers=LARGEFOV_MULTIPLIERS)
    rates = {
        compat.variable_path(v): optimizer.multiplier(v)
        for v in largefov.trainable_variables
    }
    expected = {"kernel": (1.0, 1.0), "bias": (2.0, 0.0)}
    for path, rate in rates.items():
        layer, kind = path.split("/")[-2:]
        if layer == "fc8":
            assert rate == {"kernel": (10.0, 1.0), "bias": (20.0, 0.0)}[kind]
        else:
            assert rate == expected[kind]


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


def test_per_layer_rates_of_resnet101_are_deeplabs() -> None:
    net = deeplab_resnet101(3, freeze_batch_norm=False, **TINY)
    optimizer = CaffeSGD(multipliers=RESNET101_MULTIPLIERS)
    for variable in net.trainable_variables:
        layer, kind = compat.variable_path(variable).split("/")[-2:]
        decay = 1.0 if kind == "kernel" else 0.0
        rate = {"kernel": 10.0, "bias": 20.0}[kind] if "aspp" in layer else 1.0
        assert optimizer.multiplier(variable) == (rate, decay), layer


def test_rates_are_scaled_with_the_image() -> None:
    # 12 · 160 / 321 = 5.98, 18 · 160 / 321 = 8.97, 24 · 160 / 321 = 11.96
    assert scaled_rates(ASPP_RATES, 321) == (6, 12, 18, 24)
    assert scaled_rates(ASPP_RATES, 160) == (3, 6, 9, 12)
    assert scaled_rates((12,), 20) == (1,)
    assert scaled_rates([12], 513, reference=513) == (12,)


@given(
    rates=st.lists(st.integers(1, 40), max_size=6),
    size=st.integers(1, 2000),
    reference=st.integers(1, 2000),
)
def test_rates_stay_rates(rates: list[int], size: int, reference: int) -> None:
    scaled = scaled_rates(rates, size, reference)
    assert len(scaled) == len(rates)
    for rate, result in zip(rates, scaled, strict=True):
        assert result >= 1
        assert abs(result - max(1, rate * size / reference)) <= 0.5


@pytest.mark.parametrize(
    ("rates", "size", "reference"), [((0,), 321, 321), ((6,), 0, 321), ((6,), 321, 0)]
)
def test_bad_rates_raise(rates: tuple[int, ...], size: int, reference: int) -> None:
    with pytest.raises(ValueError, match=r"Expected rates .* Received"):
        scaled_rates(rates, size, reference)


@pytest.mark.parametrize("rates", [(), (6,), (6, 0, 12)])
def test_bad_aspp_raises(rates: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Expected .*two or more `rates`.* Received"):
        deeplab_resnet101(3, rates=rates, **TINY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": "3"}, "num_classes"),
        ({"num_classes": 2.5}, "num_classes"),
        ({"dilation": 0}, "dilation"),
        ({"dilation": 1.5}, "dilation"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": "some"}, "dropout"),
        ({"input_scale": "half"}, "input_scale"),
    ],
)
def test_bad_arguments_raise(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=rf"Expected .*{message}.* Received"):
        deeplab_largefov(**{"num_classes": 5, "width": 0.05, **options})  # type: ignore[arg-type]
