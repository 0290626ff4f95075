"""The DeepLab nets against hand arithmetic."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from model_tester import TINY, Branch, ModelTester, picture, spread

from tf_levelset import compat
from tf_levelset.constants import IMAGENET_MEAN_RGB
from tf_levelset.models import (
    at_input_size,
    create_model,
    deeplab_largefov,
    deeplab_resnet101,
    scaled_rates,
)
from tf_levelset.models.catalog import (
    ASPP_RATES,
    LARGEFOV_MULTIPLIERS,
    RESNET101_MULTIPLIERS,
)
from tf_levelset.models.layers import (
    CaffePreprocessing,
    SymmetricAveragePooling2D,
    SymmetricMaxPooling2D,
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
        fc6, fc7 = 9 * 512 * 1024 + 1024, 1024 * 1024 + 1024
        return 14_714_688 + fc6 + fc7 + 1024 * classes + classes


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


def test_parameters_by_hand(largefov: keras.Model) -> None:
    # 3×3 convolutions of cin → cout channels: 9·cin·cout + cout.
    channels = [3, 64, 64, 128, 128, 256, 256, 256, *[512] * 6]
    vgg = sum(9 * a * b + b for a, b in pairwise(channels))
    assert vgg == 14_714_688  # VGG16 without its fully connected layers
    fc6 = 9 * 512 * 1024 + 1024
    fc7 = 1024 * 1024 + 1024
    fc8 = 1024 * 21 + 21
    assert largefov.count_params() == vgg + fc6 + fc7 + fc8 == 20_505_429


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


@pytest.mark.parametrize("height", [513, 512, 509])
@pytest.mark.parametrize("row", [200, 208, 256])
def test_outputs_stand_at_8i(height: int, row: int) -> None:
    # With ones for weights, an impulse at row 8i reaches the outputs i − 16 to i + 16
    # (the field of view is 259 rows at dilation 1). TensorFlow's SAME padding would
    # move the outputs to 8i + 7 on even sizes.
    net = deeplab_largefov(1, width=0.01, dilation=1, upsample=False)
    for variable in net.trainable_variables:
        value = np.zeros if "bias" in compat.variable_path(variable) else np.ones
        variable.assign(value(variable.shape, np.float32))
    image = np.full((1, height, 16, 3), IMAGENET_MEAN_RGB, np.float32)
    assert not net(image).numpy().any()
    image[:, row, 8] += 100
    reached = np.flatnonzero(net(image).numpy()[0, :, 1, 0])
    assert (reached[0], reached[-1]) == (row // 8 - 16, row // 8 + 16)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((321, 321), 41), ((240, 180), 30), ((33, 17), 5), ((1, 1), 1)],
)
def test_sizes_are_padded_and_cropped_back(
    size: tuple[int, int], expected: int
) -> None:
    image = tf.zeros((2, *size, 3))
    assert narrow(upsample=False)(image).shape[1:3] == (expected, -(-size[1] // 8))
    assert narrow()(image).shape == (2, *size, 5)
    assert narrow(input_scale=0.5)(image).shape == (2, *size, 5)


def test_positions_are_those_of_strided_labels() -> None:
    for size in (33, 40, 41, 47):
        labels = np.zeros((size, size))[::8, ::8]
        output = narrow(upsample=False)(tf.zeros((1, size, size, 3)))
        assert output.shape[1:3] == labels.shape


def test_upsampling_meets_the_outputs_where_they_stand() -> None:
    # Corner to corner: at the pixels 8i the upsampled logits are the net's own.
    net = narrow(upsample=False)
    full = at_input_size(net)
    rng = np.random.default_rng(0)
    for size in (33, 36):
        image = rng.uniform(0, 255, (1, size, size, 3)).astype(np.float32)
        np.testing.assert_allclose(
            full(image)[:, ::8, ::8], net(image), rtol=1e-4, atol=1e-6
        )


def test_weights_are_shared_with_the_model_at_input_size() -> None:
    net = narrow(upsample=False)
    for scale in (1.0, 0.5):
        full = at_input_size(net, scale)
        assert len(full.weights) == len(net.weights)
        ours = {id(variable) for variable in net.weights}
        assert all(id(variable) in ours for variable in full.weights)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("upsample", [True, False])
def test_logits_are_float32_under_every_policy(policy: str, upsample: bool) -> None:
    keras.mixed_precision.set_global_policy(policy)
    try:
        net = narrow(upsample=upsample, batch_norm=True)
        output = net(tf.ones((1, 33, 33, 3)))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert output.dtype == tf.float32
    assert np.isfinite(output).all()


@pytest.mark.parametrize("input_scale", [1.0, 0.5])
def test_saved_model_loads_without_custom_objects(
    tmp_path: Path, input_scale: float
) -> None:
    net = narrow(batch_norm=True, input_scale=input_scale)
    image = np.random.default_rng(0).uniform(0, 255, (1, 30, 41, 3)).astype("float32")
    net.save(tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras")
    np.testing.assert_allclose(loaded(image), net(image), rtol=1e-6)


def test_weights_by_path(tmp_path: Path) -> None:
    net = narrow()
    net.save_weights(tmp_path / "net.weights.h5")
    loaded = narrow(weights=tmp_path / "net.weights.h5")
    image = tf.ones((1, 33, 33, 3))
    np.testing.assert_array_equal(loaded(image), net(image))
    with warnings.catch_warnings():
        # Keras 3 warns that it skips a layer, before it raises.
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(ValueError, match="shape"):
            deeplab_largefov(5, width=0.1, weights=tmp_path / "net.weights.h5")


def test_max_pooling_pads_with_what_never_wins() -> None:
    x = -tf.ones((1, 5, 5, 1))
    np.testing.assert_array_equal(SymmetricMaxPooling2D(2)(x), -np.ones((1, 3, 3, 1)))


def test_average_pooling_divides_by_nine_at_the_border() -> None:
    pooled = SymmetricAveragePooling2D()(tf.ones((1, 3, 3, 1)))[0, :, :, 0]
    np.testing.assert_allclose(
        pooled, np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]]) / 9, rtol=1e-6
    )


def test_preprocessing_is_caffes() -> None:
    red = tf.constant([[[[255.0, 0.0, 0.0]]]])
    np.testing.assert_allclose(
        CaffePreprocessing()(red)[0, 0, 0], [-104.008, -116.669, 255 - 122.675]
    )


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
    x = keras.Model(net.inputs[0], features)(picture(65, 49, batch=1)).numpy()
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
    output = net(picture(65, 49, batch=1))[0]
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


def test_rates_in_proportion_to_the_picture() -> None:
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
    with pytest.raises(ValueError, match=r"Expected .*two or more rates.* Received"):
        deeplab_resnet101(3, rates=rates, **TINY)


def test_xla_equals_eager() -> None:
    net = narrow(upsample=True)
    image = np.random.default_rng(0).uniform(0, 255, (1, 36, 41, 3)).astype("float32")
    compiled = tf.function(net, jit_compile=True)
    np.testing.assert_allclose(compiled(image), net(image), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes"),
        ({"num_classes": "3"}, "num_classes"),
        ({"num_classes": 2.5}, "num_classes"),
        ({"dilation": 0}, "dilation"),
        ({"dilation": 1.5}, "dilation"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": "some"}, "dropout"),
        ({"width": 0.0}, "width"),
        ({"input_scale": 0.0}, "input_scale"),
        ({"input_scale": "half"}, "input_scale"),
        ({"input_scale": 0.5, "upsample": False}, "input_scale"),
    ],
)
def test_bad_arguments_raise(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=rf"Expected .*{message}.* Received"):
        deeplab_largefov(**{"num_classes": 5, "width": 0.05, **options})  # type: ignore[arg-type]


def test_create_model_by_name() -> None:
    net = create_model("deeplab_largefov", 5, width=0.05)
    assert net.output_shape[-1] == 5
    with pytest.raises(ValueError, match="Expected `name` to be one of"):
        create_model("unet", 5)
    with pytest.raises(ValueError, match="Expected options that 'deeplab_largefov'"):
        create_model("deeplab_largefov", 5, rates=3)


def test_upsampling_twice_raises() -> None:
    with pytest.raises(ValueError, match="upsample=False"):
        at_input_size(narrow())
