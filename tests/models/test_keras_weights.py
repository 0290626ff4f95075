"""Weights of `keras.applications` in the nets of this package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_weights import (
    CONVOLUTIONS,
    NARROW,
    VGG16,
    assert_accounts_for,
    assert_all_equal,
    assert_equal,
    narrow_largefov,
    narrow_vgg16,
    randomize,
    saved,
    values,
    write_legacy,
)

from tf_levelset.constants import IMAGENET_MEAN_RGB
from tf_levelset.models import deeplab_largefov, fcn32s_vgg16
from tf_levelset.models.layers import CaffePreprocessing
from tf_levelset.models.resnet import resnet101
from tf_levelset.models.vgg import vgg16
from tf_levelset.models.weights import WeightsReport, load_weights
from tf_levelset.models.weights.fully_connected import as_convolution


def body(backbone: Callable[..., Any], **options: Any) -> keras.Model:
    """A backbone alone, from preprocessed images to its maps by name."""
    images = keras.Input((None, None, 3))
    return keras.Model(images, backbone(images, **options))


# --- The real nets, without their top ---


@pytest.fixture(scope="module")
def keras_vgg16() -> keras.Model:
    return randomize(keras.applications.VGG16(weights=None, include_top=False))


@pytest.fixture(scope="module")
def published_vgg16(
    tmp_path_factory: pytest.TempPathFactory, keras_vgg16: keras.Model
) -> Iterator[Path]:
    """A file of VGG16 in the published layout, which Keras reads."""
    name = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    path = tmp_path_factory.mktemp("vgg16") / name
    write_legacy(path, values(keras_vgg16), ("_W_1:0", "_b_1:0"))
    keras.applications.VGG16(weights=str(path), include_top=False)
    yield path
    path.unlink()  # pytest keeps its folders, and this one is large


def assert_is_vgg16(model: keras.Model, expected: keras.Model) -> None:
    ours = {VGG16[name]: arrays for name, arrays in values(expected).items()}
    assert_all_equal(values(model), ours)


def test_without_top_fc6_and_fc7_are_left_and_reported(
    published_vgg16: Path, keras_vgg16: keras.Model
) -> None:
    net = deeplab_largefov(3, upsample=False)
    before = values(net)
    report = load_weights(net, str(published_vgg16), backbone="vgg16")
    assert report == WeightsReport(
        str(published_vgg16), CONVOLUTIONS, initial=("fc6", "fc7", "fc8")
    )
    assert_is_vgg16(net, keras_vgg16)
    assert_all_equal(values(net), {name: before[name] for name in report.initial})


def test_resnet101_of_keras(tmp_path: Path) -> None:
    theirs = randomize(keras.applications.ResNet101(weights=None, include_top=False))
    path = tmp_path / "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5"
    write_legacy(path, values(theirs), ("_0", "_1", "_2", "_3"))
    net = body(resnet101, output_stride=8)
    report = load_weights(net, path, backbone="resnet101")
    path.unlink()
    assert report.initial == report.unused == report.mismatched == ()
    assert len(report.loaded) == 208  # 1 + 33 × 3 + 4 convolutions, normalised
    assert_all_equal(values(net), values(theirs))


def test_colours_are_in_the_order_of_keras_weights() -> None:
    # Both are BGR less a mean. Keras' mean is 103.939, 116.779, 123.68, DeepLab's own
    # is within 1.01 of it. In the other order they would be up to 255 apart.
    images = np.random.default_rng(0).uniform(0, 255, (1, 5, 7, 3)).astype("float32")
    difference = [103.939, 116.779, 123.68] - np.array(IMAGENET_MEAN_RGB[::-1])
    assert np.abs(difference).max() < 1.01
    for module in (keras.applications.vgg16, keras.applications.resnet):
        theirs = module.preprocess_input(images.copy())
        np.testing.assert_allclose(
            CaffePreprocessing()(images) - theirs,
            np.broadcast_to(difference, images.shape),
            atol=1e-4,  # of numbers up to 255, in float32
        )


# --- Fully connected layers, of a narrow VGG16 ---


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.applications, "VGG16", narrow_vgg16)


def written(net: keras.Model, folder: Path, layout: str) -> Path:
    """A file of a VGG16 with top."""
    if layout == "keras":
        return saved(net, folder)
    if layout == "weights":
        net.save_weights(folder / "vgg16.weights.h5")
        return folder / "vgg16.weights.h5"
    layers = values(net)
    if layout == "renamed":  # Keras takes layers by their order
        layers = {f"layer_{99 - i}": arrays for i, arrays in enumerate(layers.values())}
    return write_legacy(folder / "vgg16.h5", layers, ("_W_1:0", "_b_1:0"))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("layout", ["legacy", "renamed", "weights", "keras"])
def test_largefov_takes_every_third_tap_and_fourth_filter(
    tmp_path: Path, layout: str
) -> None:
    net = randomize(narrow_vgg16())
    path = written(net, tmp_path, layout)
    ours = narrow_largefov()
    fc8 = values(ours)["fc8"]
    report = load_weights(ours, path, backbone="vgg16")
    assert report == WeightsReport(
        str(path), (*CONVOLUTIONS, "fc6", "fc7"), ("fc8",), ("predictions",)
    )
    found, theirs = values(ours), values(net)
    for name in VGG16:
        assert_equal(found[VGG16[name]], theirs[name], name)
    fc1, bias = theirs["fc1"]
    decimated = fc1.reshape(7, 7, 10, 80)[::3, ::3, :, ::4]
    assert_equal(found["fc6"], [decimated, bias[::4]])
    fc2, bias = theirs["fc2"]
    assert_equal(found["fc7"], [fc2[np.newaxis, np.newaxis, ::4, ::4], bias[::4]])
    assert_equal(found["fc8"], fc8)


@pytest.mark.usefixtures("narrow")
def test_a_top_that_no_decimation_fits_is_reported(tmp_path: Path) -> None:
    net = fcn32s_vgg16(5, width=NARROW, upsample=False)  # with 82 filters, not 80
    path = written(narrow_vgg16(), tmp_path, "legacy")
    report = load_weights(net, path, backbone="vgg16")
    assert report.mismatched == (
        ("fc6", ((7, 7, 10, 82), (82,)), ((490, 80), (80,))),
        ("fc7", ((1, 1, 82, 82), (82,)), ((80, 80), (80,))),
    )
    assert_accounts_for(report, net)


@given(
    st.integers(1, 7),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_decimation_is_the_literal_loops(
    size: int, tap: int, inputs: int, input_step: int, outputs: int, output_step: int
) -> None:
    cin, cout = inputs * input_step, outputs * output_step
    kernel = np.arange(size * size * cin * cout, dtype=np.float32).reshape(-1, cout)
    bias = np.arange(cout, dtype=np.float32)
    side = -(-size // tap)
    if -(-size // side) != tap:
        return  # the same number of taps lie closer together
    result, result_bias = as_convolution(
        kernel, bias, size, (side, side, inputs, outputs)
    )
    for row in range(side):
        for column in range(side):
            for i in range(inputs):
                for o in range(outputs):
                    place = (tap * row * size + tap * column) * cin + input_step * i
                    assert result[row, column, i, o] == kernel[place, output_step * o]
    assert list(result_bias) == [output_step * o for o in range(outputs)]


# --- "imagenet" ---


def replace_download(
    monkeypatch: pytest.MonkeyPatch, replacement: Callable[..., str]
) -> None:
    """Replaces the function by which VGG16 downloads; it gets Keras' own first."""
    module: Any = sys.modules[keras.applications.VGG16.__module__]
    tools = getattr(module, "file_utils", None) or module.data_utils
    own = tools.get_file
    monkeypatch.setattr(
        tools, "get_file", lambda *args, **options: replacement(own, *args, **options)
    )


def test_imagenet_is_what_keras_fetches(
    monkeypatch: pytest.MonkeyPatch, published_vgg16: Path, keras_vgg16: keras.Model
) -> None:
    fetched = []

    def fetch(own: Any, name: str, origin: str, **options: Any) -> str:
        fetched.append(name)
        return str(published_vgg16)

    replace_download(monkeypatch, fetch)
    net = body(vgg16)
    report = load_weights(net, "imagenet", backbone="vgg16")
    assert fetched == [published_vgg16.name]
    assert report == WeightsReport("imagenet", CONVOLUTIONS)
    assert_is_vgg16(net, keras_vgg16)


def test_imagenet_without_a_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fetch(own: Any, name: str, origin: str, **options: Any) -> str:
        # Nothing listens at the port "discard".
        path = own(name, "http://127.0.0.1:9/", cache_dir=str(tmp_path), **options)
        return str(path)

    replace_download(monkeypatch, fetch)
    with pytest.raises(OSError, match=r"Expected Keras to fetch VGG16.* Received: .*"):
        load_weights(body(vgg16, width=NARROW), "imagenet", backbone="vgg16")


def test_imagenet_comes_with_top_where_the_net_has_fc6(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tops = []

    def application(weights: str, include_top: bool) -> keras.Model:
        assert weights == "imagenet"
        tops.append(include_top)
        return narrow_vgg16(include_top=include_top)

    monkeypatch.setattr(keras.applications, "VGG16", application)
    net = body(vgg16, width=NARROW)
    assert load_weights(net, "imagenet", backbone="vgg16").loaded == CONVOLUTIONS
    report = load_weights(narrow_largefov(), "imagenet", backbone="vgg16")
    assert report.loaded == (*CONVOLUTIONS, "fc6", "fc7")
    assert tops == [False, True]
