"""Weights from elsewhere, against the nets that they are of."""

from __future__ import annotations

import logging
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tf_levelset.constants import IMAGENET_MEAN_RGB
from tf_levelset.models import (
    deeplab_largefov,
    deeplab_msc_largefov,
    deeplab_resnet101,
    fcn16s_vgg16,
    fcn32s_vgg16,
)
from tf_levelset.models.layers import CaffePreprocessing
from tf_levelset.models.resnet import BATCH_NORM_EPSILON, resnet101
from tf_levelset.models.vgg import vgg16
from tf_levelset.models.weights import (
    WeightsReport,
    as_convolution,
    keras_name,
    load_weights,
)

VGG16 = {
    # Keras' layer: ours, its kernel
    "block1_conv1": ("conv1_1", (3, 3, 3, 64)),
    "block1_conv2": ("conv1_2", (3, 3, 64, 64)),
    "block2_conv1": ("conv2_1", (3, 3, 64, 128)),
    "block2_conv2": ("conv2_2", (3, 3, 128, 128)),
    "block3_conv1": ("conv3_1", (3, 3, 128, 256)),
    "block3_conv2": ("conv3_2", (3, 3, 256, 256)),
    "block3_conv3": ("conv3_3", (3, 3, 256, 256)),
    "block4_conv1": ("conv4_1", (3, 3, 256, 512)),
    "block4_conv2": ("conv4_2", (3, 3, 512, 512)),
    "block4_conv3": ("conv4_3", (3, 3, 512, 512)),
    "block5_conv1": ("conv5_1", (3, 3, 512, 512)),
    "block5_conv2": ("conv5_2", (3, 3, 512, 512)),
    "block5_conv3": ("conv5_3", (3, 3, 512, 512)),
    "fc1": ("fc6", (7 * 7 * 512, 4096)),
    "fc2": ("fc7", (4096, 4096)),
    "predictions": ("", (4096, 1000)),
}
CONVOLUTIONS = tuple(ours for ours, shape in VGG16.values() if len(shape) == 4)

NARROW = 0.02  # of VGG16: 1, 3, 5, 10 and 10 filters, and 82 or 20 in fc6 and fc7


def random_vgg16(layers: int) -> dict[str, list[np.ndarray]]:
    """Kernel and bias of the first layers."""
    rng = np.random.default_rng(0)

    def uniform(shape: tuple[int, ...], variance: float) -> np.ndarray:
        x = rng.random(shape, np.float32)
        x -= np.float32(0.5)
        x *= np.float32((12 * variance) ** 0.5)
        return x

    return {
        # He et al.'s variance keeps the size of activations.
        name: [uniform(shape, 2 / np.prod(shape[:-1])), uniform(shape[-1:], 0.01)]
        for name, (_, shape) in list(VGG16.items())[:layers]
    }


def write_legacy(
    path: Path,
    layers: Mapping[str, Sequence[np.ndarray]],
    suffixes: Sequence[str],
    pieces: int = 1,
) -> None:
    """Writes the layout of the HDF5 files that Keras publishes."""
    with h5py.File(path, "w") as file:
        names = np.array([b"input_1", *(name.encode() for name in layers)])
        for piece, part in enumerate(np.array_split(names, pieces)):
            # HDF5 holds no more than 64 KiB in an attribute.
            file.attrs["layer_names" if pieces == 1 else f"layer_names{piece}"] = part
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.1.6"
        file.create_group("input_1").attrs["weight_names"] = np.zeros(0, "S1")
        for name, arrays in layers.items():
            group = file.create_group(name)
            weights = [name + suffix for suffix in suffixes[: len(arrays)]]
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, array in zip(weights, arrays, strict=True):
                group.create_dataset(weight, data=array)


def values(model: keras.Model) -> dict[str, list[np.ndarray]]:
    """All weights, by their layer."""
    found: dict[str, list[np.ndarray]] = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found.update(values(layer))
        elif layer.weights:
            found[layer.name] = layer.get_weights()
    return found


def randomize(model: keras.Model, seed: int) -> None:
    """Moves every weight; variances, which are 1, stay positive."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        noise = rng.random(tuple(variable.shape), np.float32) - np.float32(0.5)
        variable.assign_add(noise * np.float32(0.4 if noise.ndim == 1 else 0.04))


def assert_layer_equal(
    actual: Sequence[np.ndarray], desired: Sequence[np.ndarray]
) -> None:
    for ours, theirs in zip(actual, desired, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def assert_close(actual: Any, desired: Any, relative: float) -> None:
    """Relative to the largest value: in small ones thousands of terms cancel."""
    actual, desired = np.asarray(actual), np.asarray(desired)
    assert actual.shape == desired.shape
    assert np.abs(desired).max() > 0
    assert np.abs(actual - desired).max() <= relative * np.abs(desired).max()


def assert_accounts_for(report: WeightsReport, model: keras.Model) -> None:
    """Every layer of ours is either loaded or as it was, and no layer is both."""
    assert sorted((*report.loaded, *report.initial)) == sorted(values(model))
    assert {name for name, _, _ in report.mismatched} <= set(report.initial)
    assert not {*report.unused} & {*report.loaded, *report.initial}


def features(backbone: Callable[..., Any], **options: Any) -> keras.Model:
    """A backbone alone, from preprocessed pictures to its maps by name."""
    images = keras.Input((None, None, 3))
    return keras.Model(images, backbone(images, **options))


# --- VGG16 ---


@pytest.fixture(scope="module")
def published_vgg16(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, np.ndarray, list[np.ndarray]]]:
    """A file in the published layout, a picture, and what Keras makes of it."""
    name = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
    path = tmp_path_factory.mktemp("vgg16") / name
    write_legacy(path, random_vgg16(16), ("_W_1:0", "_b_1:0"))
    net = keras.applications.VGG16(weights=str(path))
    maps = ("block3_pool", "block4_pool", "block5_pool", "fc1", "fc2")
    probe = keras.Model(net.input, [net.get_layer(name).output for name in maps])
    images = np.random.default_rng(1).normal(0, 50, (1, 224, 224, 3)).astype("float32")
    outputs = [np.asarray(output) for output in probe(images)]
    del net, probe
    yield path, images, outputs
    path.unlink()  # pytest keeps its folders, and this is half a gigabyte


def test_vgg16_computes_what_keras_does(
    published_vgg16: tuple[Path, np.ndarray, list[np.ndarray]],
) -> None:
    path, images, expected = published_vgg16
    inputs = keras.Input((None, None, 3))
    maps = vgg16(inputs, output_stride=32, pool_size=2)
    fc6, fc7 = (
        # To draw 120 million numbers would take seconds.
        keras.layers.Conv2D(
            4096, size, padding="same", kernel_initializer="zeros", name=name
        )
        for name, size in (("fc6", 7), ("fc7", 1))
    )
    fc6 = keras.layers.ReLU()(fc6(maps["pool5"]))
    fc7 = keras.layers.ReLU()(fc7(fc6))
    net = keras.Model(inputs, [maps["pool3"], maps["pool4"], maps["pool5"], fc6, fc7])
    report = load_weights(net, path, backbone="vgg16")
    assert report == WeightsReport(
        str(path), (*CONVOLUTIONS, "fc6", "fc7"), unused=("predictions",)
    )
    *pools, fc6, fc7 = net(images)
    # At the middle of the 7×7 map the 7×7 kernel sees all of it and no padding.
    for actual, desired in zip(
        [*pools, fc6[:, 3, 3], fc7[:, 3, 3]], expected, strict=True
    ):
        assert_close(actual, desired, 1e-4)


def test_largefov_takes_every_third_tap_and_fourth_filter(
    published_vgg16: tuple[Path, np.ndarray, list[np.ndarray]],
) -> None:
    path = published_vgg16[0]
    net = deeplab_largefov(21, upsample=False)
    fc8 = net.get_layer("fc8").get_weights()
    report = load_weights(net, path, backbone="vgg16")
    assert report.loaded == (*CONVOLUTIONS, "fc6", "fc7")
    assert report.initial == ("fc8",)
    assert_accounts_for(report, net)
    ours = values(net)
    assert_layer_equal(ours["fc8"], fc8)
    kernel, bias = ours["fc6"]
    with h5py.File(path) as file:
        for row in range(3):
            for column in range(3):
                tap = 512 * (7 * 3 * row + 3 * column)
                np.testing.assert_array_equal(
                    kernel[row, column], file["fc1/fc1_W_1:0"][tap : tap + 512][:, ::4]
                )
        np.testing.assert_array_equal(bias, file["fc1/fc1_b_1:0"][::4])
        fc2 = file["fc2/fc2_W_1:0"][()]
        np.testing.assert_array_equal(ours["fc7"][0][0, 0], fc2[::4, ::4])
        np.testing.assert_array_equal(ours["fc7"][1], file["fc2/fc2_b_1:0"][::4])


@pytest.fixture(scope="module")
def published_body(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same without top, which Keras reads."""
    name = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    path = tmp_path_factory.mktemp("vgg16") / name
    write_legacy(path, random_vgg16(13), ("_W_1:0", "_b_1:0"))
    keras.applications.VGG16(weights=str(path), include_top=False)
    yield path
    path.unlink()


@pytest.fixture
def body() -> keras.Model:
    return features(vgg16)


def assert_is_published(model: keras.Model) -> None:
    ours = values(model)
    for name, arrays in random_vgg16(13).items():
        assert_layer_equal(ours[VGG16[name][0]], arrays)


def test_without_top_fc6_and_fc7_are_left_and_reported(published_body: Path) -> None:
    net = deeplab_largefov(3, upsample=False)
    before = values(net)
    report = load_weights(net, str(published_body), backbone="vgg16")
    assert report == WeightsReport(
        str(published_body), CONVOLUTIONS, initial=("fc6", "fc7", "fc8")
    )
    assert_is_published(net)
    for name in report.initial:
        assert_layer_equal(values(net)[name], before[name])


def test_layers_of_other_names_are_taken_by_their_order(
    tmp_path: Path, body: keras.Model
) -> None:
    path = tmp_path / "vgg16.h5"
    arrays = random_vgg16(13)
    renamed = {f"conv2d_{13 - i}": a for i, a in enumerate(arrays.values())}
    write_legacy(path, renamed, ("/kernel:0", "/bias:0"), pieces=3)
    keras.applications.VGG16(weights=str(path), include_top=False)
    load_weights(body, path, backbone="vgg16")
    assert_is_published(body)


def test_weights_h5_of_keras_vgg16(tmp_path: Path, body: keras.Model) -> None:
    path = tmp_path / "vgg16.weights.h5"
    net = keras.applications.VGG16(weights=None, include_top=False)
    net.save_weights(path)
    report = load_weights(body, path, backbone="vgg16")
    assert report == WeightsReport(str(path), CONVOLUTIONS)
    theirs = values(net)
    for name in theirs:
        assert_layer_equal(values(body)[VGG16[name][0]], theirs[name])


def narrow_vgg16(
    weights: str | None = None, include_top: bool = True, classes: int = 1000
) -> keras.Model:
    """Stands in for `keras.applications.VGG16`, whose top is half a gigabyte."""
    x = images = keras.Input((224, 224, 3))
    for block, (filters, depth) in enumerate(
        ((1, 2), (3, 2), (5, 3), (10, 3), (10, 3)), start=1
    ):
        for index in range(1, depth + 1):
            name = f"block{block}_conv{index}"
            x = keras.layers.Conv2D(filters, 3, padding="same", name=name)(x)
        x = keras.layers.MaxPooling2D()(x)
    if include_top:
        x = keras.layers.Flatten()(x)
        x = keras.layers.Dense(80, name="fc1")(x)
        x = keras.layers.Dense(80, name="fc2")(x)
        x = keras.layers.Dense(classes, name="predictions")(x)
    return keras.Model(images, x)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.applications, "VGG16", narrow_vgg16)


def narrow_largefov(**options: Any) -> keras.Model:
    return deeplab_largefov(
        **{"num_classes": 5, "width": NARROW, "upsample": False, **options}
    )


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("layout", ["legacy", "weights", "keras"])
def test_every_layout_of_a_file_with_top(tmp_path: Path, layout: str) -> None:
    net = narrow_vgg16()
    randomize(net, 0)
    if layout == "legacy":
        path = tmp_path / "vgg16.h5"
        write_legacy(path, values(net), ("_W_1:0", "_b_1:0"))
    elif layout == "weights":
        path = tmp_path / "vgg16.weights.h5"
        net.save_weights(path)
    else:
        path = tmp_path / "vgg16.keras"
        net.save(path)
    ours = narrow_largefov()
    report = load_weights(ours, path, backbone="vgg16")
    assert report == WeightsReport(
        str(path), (*CONVOLUTIONS, "fc6", "fc7"), ("fc8",), ("predictions",)
    )
    found, theirs = values(ours), values(net)
    for name, (name_of_ours, shape) in VGG16.items():
        if len(shape) == 4:
            assert_layer_equal(found[name_of_ours], theirs[name])
    fc1 = theirs["fc1"][0].reshape(7, 7, 10, 80)
    np.testing.assert_array_equal(found["fc6"][0], fc1[::3, ::3, :, ::4])
    np.testing.assert_array_equal(found["fc7"][0][0, 0], theirs["fc2"][0][::4, ::4])


@pytest.mark.usefixtures("narrow")
def test_a_top_that_no_decimation_fits_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "vgg16.h5"
    write_legacy(path, values(narrow_vgg16()), ("_W_1:0", "_b_1:0"))
    net = fcn32s_vgg16(5, width=NARROW, upsample=False)  # with 82 filters of 80
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
        return  # the same number of taps lie closer
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


@pytest.mark.parametrize("shape", [(7, 7, 2, 5), (9, 9, 2, 8), (7, 7, 3, 8)])
def test_what_is_no_decimation_raises(shape: tuple[int, ...]) -> None:
    kernel, bias = np.zeros((98, 8), np.float32), np.zeros(8, np.float32)
    with pytest.raises(ValueError, match="Expected a decimation of"):
        as_convolution(kernel, bias, 7, shape)


def test_colours_are_in_the_order_of_keras_weights() -> None:
    # Both BGR less a mean; Keras has 103.939, 116.779, 123.68 for it, DeepLab's own is
    # within 1.01 of that. In the other order they would be up to 255 apart.
    images = np.random.default_rng(0).uniform(0, 255, (1, 5, 7, 3)).astype("float32")
    difference = [103.939, 116.779, 123.68] - np.array(IMAGENET_MEAN_RGB[::-1])
    assert np.abs(difference).max() < 1.01
    for module in (keras.applications.vgg16, keras.applications.resnet):
        theirs = module.preprocess_input(images.copy())
        np.testing.assert_allclose(
            CaffePreprocessing()(images) - theirs,
            np.broadcast_to(difference, images.shape),
            atol=1e-4,  # of numbers to 255, in float32
        )


# --- ResNet101 ---

LAST_BLOCKS = {"conv2": 3, "conv3": 4, "conv4": 23, "conv5": 3}


@pytest.fixture(scope="module")
def keras_resnet101() -> keras.Model:
    net = keras.applications.ResNet101(weights=None, include_top=False)
    randomize(net, 0)
    return net


@pytest.fixture(scope="module")
def published_resnet101(
    tmp_path_factory: pytest.TempPathFactory, keras_resnet101: keras.Model
) -> Iterator[Path]:
    """A file in the published layout, which Keras reads."""
    name = "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5"
    path = tmp_path_factory.mktemp("resnet101") / name
    arrays = values(keras_resnet101)
    write_legacy(path, arrays, ("_0", "_1", "_2", "_3"))
    for variable in keras_resnet101.weights:
        variable.assign(tf.zeros(variable.shape))
    keras_resnet101.load_weights(path)  # as Keras does for weights=path
    for name, layer in values(keras_resnet101).items():
        assert_layer_equal(layer, arrays[name])
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def strided(published_resnet101: Path) -> keras.Model:
    net = features(resnet101, output_stride=32)
    report = load_weights(net, published_resnet101, backbone="resnet101")
    assert report.initial == report.unused == report.mismatched == ()
    assert len(report.loaded) == 208  # 1 + 33 × 3 + 4 convolutions, normalised
    return net


def test_resnet101_computes_what_keras_does_at_every_stage(
    strided: keras.Model, keras_resnet101: keras.Model
) -> None:
    outs = [f"{stage}_block{last}_out" for stage, last in LAST_BLOCKS.items()]
    probe = keras.Model(
        keras_resnet101.input, [keras_resnet101.get_layer(name).output for name in outs]
    )
    images = np.random.default_rng(1).normal(0, 50, (1, 65, 54, 3)).astype("float32")
    ours = strided(images)
    for stage, expected in zip(LAST_BLOCKS, probe(images), strict=True):
        assert_close(ours[stage], expected, 1e-4)


def test_the_dilated_net_has_the_strided_one_inside(
    published_resnet101: Path, strided: keras.Model
) -> None:
    # At stride 8 conv4 reads every position instead of every second one and dilates by
    # 2 what it reads after that; position 2i then sees 2i ± 2 where the strided net's i
    # sees i ± 1. Both see padding from the same i on, on every size: 2i + 2 ≥ n where
    # i + 1 ≥ ⌈n/2⌉. Likewise 4i in conv5, for ⌈⌈n/2⌉/2⌉ = ⌈n/4⌉.
    dilated = features(resnet101, output_stride=8)
    load_weights(dilated, published_resnet101, backbone="resnet101")
    for size in ((64, 65), (48, 49)):  # 8, 9, 6, 7 positions at stride 8
        images = np.random.default_rng(1).normal(0, 50, (1, *size, 3)).astype("float32")
        small, large = strided(images), dilated(images)
        for stage in ("conv2", "conv3"):
            np.testing.assert_array_equal(large[stage], small[stage])
        assert_close(large["conv4"][:, ::2, ::2], small["conv4"], 1e-5)
        assert_close(large["conv5"][:, ::4, ::4], small["conv5"], 1e-5)


# --- "imagenet" ---


def replace_download(
    monkeypatch: pytest.MonkeyPatch, replacement: Callable[..., str]
) -> None:
    """Puts a function that is given Keras' own first where VGG16 downloads."""
    module: Any = sys.modules[keras.applications.VGG16.__module__]
    tools = getattr(module, "file_utils", None) or module.data_utils
    own = tools.get_file
    monkeypatch.setattr(
        tools, "get_file", lambda *args, **options: replacement(own, *args, **options)
    )


def test_imagenet_is_what_keras_fetches(
    monkeypatch: pytest.MonkeyPatch, published_body: Path, body: keras.Model
) -> None:
    fetched = []

    def fetch(own: Any, name: str, origin: str, **options: Any) -> str:
        fetched.append(name)
        return str(published_body)

    replace_download(monkeypatch, fetch)
    report = load_weights(body, "imagenet", backbone="vgg16")
    assert fetched == [published_body.name]
    assert report == WeightsReport("imagenet", CONVOLUTIONS)
    assert_is_published(body)


def test_imagenet_without_a_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fetch(own: Any, name: str, origin: str, **options: Any) -> str:
        # Nothing listens at the port "discard".
        path = own(name, "http://127.0.0.1:9/", cache_dir=str(tmp_path), **options)
        return str(path)

    replace_download(monkeypatch, fetch)
    with pytest.raises(OSError, match=r"Expected Keras to fetch VGG16.* Received: .*"):
        load_weights(features(vgg16, width=NARROW), "imagenet", backbone="vgg16")


def test_imagenet_comes_with_top_where_it_has_a_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tops = []

    def application(weights: str, include_top: bool) -> keras.Model:
        assert weights == "imagenet"
        tops.append(include_top)
        return narrow_vgg16(include_top=include_top)

    monkeypatch.setattr(keras.applications, "VGG16", application)
    net = features(vgg16, width=NARROW)
    assert load_weights(net, "imagenet", backbone="vgg16").loaded == CONVOLUTIONS
    report = load_weights(narrow_largefov(), "imagenet", backbone="vgg16")
    assert report.loaded == (*CONVOLUTIONS, "fc6", "fc7")
    assert tops == [False, True]


# --- Nets of this package ---


def saved(net: keras.Model, folder: Path) -> Path:
    path = folder / "net.keras"
    net.save(path)
    return path


def test_another_number_of_classes_leaves_the_head(tmp_path: Path) -> None:
    theirs = narrow_largefov(num_classes=4)
    ours = narrow_largefov(num_classes=5)
    fc8 = values(ours)["fc8"]
    path = saved(theirs, tmp_path)
    report = load_weights(ours, path, backbone="vgg16")
    assert report == WeightsReport(
        str(path),
        (*CONVOLUTIONS, "fc6", "fc7"),
        initial=("fc8",),
        mismatched=(("fc8", ((1, 1, 20, 5), (5,)), ((1, 1, 20, 4), (4,))),),
    )
    for name in report.loaded:
        assert_layer_equal(values(ours)[name], values(theirs)[name])
    assert_layer_equal(values(ours)["fc8"], fc8)


def test_fcn32s_starts_fcn16s(tmp_path: Path) -> None:
    theirs = fcn32s_vgg16(5, width=NARROW)
    randomize(theirs, 0)
    ours = fcn16s_vgg16(5, width=NARROW, weights=saved(theirs, tmp_path))
    report = load_weights(ours, tmp_path / "net.keras", backbone="vgg16")
    assert report.loaded == (*CONVOLUTIONS, "fc6", "fc7", "score_fc7")
    assert set(report.initial) == {"upscore_fc7", "score_pool4"}
    assert report.unused == report.mismatched == ()
    assert_accounts_for(report, ours)
    for name in report.loaded:
        assert_layer_equal(values(ours)[name], values(theirs)[name])


@pytest.mark.parametrize("source", ["scaled", "msc"])
def test_nets_inside_of_nets(tmp_path: Path, source: str) -> None:
    theirs = (
        narrow_largefov(upsample=True, input_scale=0.5)
        if source == "scaled"
        else deeplab_msc_largefov(5, width=NARROW)
    )
    ours = narrow_largefov()
    path = saved(theirs, tmp_path)
    report = load_weights(ours, path, backbone="vgg16")
    assert report == WeightsReport(str(path), (*CONVOLUTIONS, "fc6", "fc7", "fc8"))
    for name, arrays in values(theirs).items():
        assert_layer_equal(values(ours)[name], arrays)
    # And the other way, into the net inside.
    randomize(ours, 0)
    load_weights(theirs, saved(ours, tmp_path), backbone="vgg16")
    for name, arrays in values(ours).items():
        assert_layer_equal(values(theirs)[name], arrays)


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_files_of_nets_inside_of_nets_raise(tmp_path: Path) -> None:
    # They have the same arrays at other places; a .keras file does it.
    path = tmp_path / "msc.weights.h5"
    deeplab_msc_largefov(5, width=NARROW).save_weights(path)
    ours = narrow_largefov()
    before = values(ours)
    with pytest.raises(ValueError, match=r"Expected .* comes from a \.keras file"):
        load_weights(ours, path, backbone="vgg16")
    for name, arrays in values(ours).items():
        assert_layer_equal(before[name], arrays)


def test_weights_of_this_very_net_after_training(tmp_path: Path) -> None:
    # Such a file holds the optimizer's and the metrics' variables too.
    theirs, ours = narrow_largefov(), narrow_largefov()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metric = keras.metrics.MeanIoU(5, sparse_y_pred=False)
    theirs.compile(optimizer="adam", loss=loss, metrics=[metric], run_eagerly=True)
    theirs.train_on_batch(np.ones((2, 17, 17, 3)), np.zeros((2, 3, 3)))
    path = tmp_path / "net.weights.h5"
    theirs.save_weights(path)
    report = load_weights(ours, path, backbone="vgg16")
    assert report == WeightsReport(str(path), (*CONVOLUTIONS, "fc6", "fc7", "fc8"))
    for name, arrays in values(theirs).items():
        assert_layer_equal(values(ours)[name], arrays)


@pytest.mark.parametrize("classes", [5, 4])
def test_legacy_weights_of_our_own(tmp_path: Path, classes: int) -> None:
    theirs, ours = narrow_largefov(num_classes=classes), narrow_largefov()
    path = tmp_path / "net.h5"
    write_legacy(path, values(theirs), ("/kernel:0", "/bias:0"))
    report = load_weights(ours, path, backbone="vgg16")
    assert report.initial == (() if classes == 5 else ("fc8",))
    for name in report.loaded:
        assert_layer_equal(values(ours)[name], values(theirs)[name])


# --- A checkpoint of DeepLab-ResNet101 ---

BLOCKS = {
    "2": ("a", "b", "c"),
    "3": ("a", "b1", "b2", "b3"),
    "4": ("a", *(f"b{index}" for index in range(1, 23))),
    "5": ("a", "b", "c"),
}


def caffe_convolutions() -> dict[str, str]:
    """Names of Caffe's convolutions, and of ours."""
    names = {"conv1": "conv1_conv"}
    for stage, blocks in BLOCKS.items():
        for index, block in enumerate(blocks, start=1):
            for place, branch in enumerate(("1", "2a", "2b", "2c")):
                if branch != "1" or block == "a":
                    name = f"conv{stage}_block{index}_{place}_conv"
                    names[f"res{stage}{block}_branch{branch}"] = name
    return names


def normalisation_of(convolution: str) -> str:
    """conv1 → bn_conv1, res2a_branch1 → bn2a_branch1."""
    if convolution == "conv1":
        return "bn_conv1"
    return convolution.replace("res", "bn")


@pytest.fixture(scope="module")
def narrow_resnet101() -> keras.Model:
    return deeplab_resnet101(21, width=0.03, upsample=False)


def random_checkpoint(net: keras.Model, classes: int = 21) -> dict[str, np.ndarray]:
    """Variables as the checkpoint has them, in the shapes of a net."""
    rng = np.random.default_rng(0)
    arrays = values(net)

    def normal(shape: tuple[int, ...], mean: float, deviation: float) -> np.ndarray:
        return rng.normal(mean, deviation, shape).astype("float32")

    variables = {}
    for caffe, ours in caffe_convolutions().items():
        shape = arrays[ours][0].shape
        scale = float(np.prod(shape[:-1])) ** -0.5
        variables[f"{caffe}/weights"] = normal(shape, 0, scale)
        bn = normalisation_of(caffe)
        variables[f"{bn}/gamma"] = normal(shape[-1:], 1, 0.1)
        variables[f"{bn}/beta"] = normal(shape[-1:], 0, 0.1)
        variables[f"{bn}/moving_mean"] = normal(shape[-1:], 0, 0.1)
        variables[f"{bn}/moving_variance"] = normal(shape[-1:], 1, 0.1)
    channels = arrays["aspp1"][0].shape[2]
    for index in range(4):
        shape = (3, 3, channels, classes)
        variables[f"fc1_voc12_c{index}/weights"] = normal(shape, 0, 0.01)
        variables[f"fc1_voc12_c{index}/biases"] = normal((classes,), 0, 0.1)
    return variables


def save_checkpoint(path: Path, variables: Mapping[str, np.ndarray]) -> Path:
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=list(variables.values()),
    )
    return path


def caffe_deeplab(x: tf.Tensor, variables: Mapping[str, np.ndarray]) -> tf.Tensor:
    """DeepLab-ResNet101 as its Caffe net is written down."""

    def conv(x: tf.Tensor, name: str, stride: int = 1, dilation: int = 1) -> tf.Tensor:
        kernel = variables[f"{name}/weights"]
        border = dilation * (kernel.shape[0] // 2)
        x = tf.pad(x, [[0, 0], [border] * 2, [border] * 2, [0, 0]])
        return tf.nn.conv2d(x, kernel, stride, "VALID", dilations=dilation)

    def bn(x: tf.Tensor, name: str) -> tf.Tensor:
        mean, variance = (variables[f"{name}/moving_{k}"] for k in ("mean", "variance"))
        x = (x - mean) / np.sqrt(variance + 1e-5)
        return x * variables[f"{name}/gamma"] + variables[f"{name}/beta"]

    x = tf.nn.relu(bn(conv(x, "conv1", 2), "bn_conv1"))
    x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])  # of what is not negative
    x = tf.nn.max_pool2d(x, 3, 2, "VALID")
    for stage, stride, dilation in (("2", 1, 1), ("3", 2, 1), ("4", 1, 2), ("5", 1, 4)):
        for block in BLOCKS[stage]:
            name = f"{stage}{block}_branch"
            step = stride if block == "a" else 1
            shortcut = x
            if block == "a":
                shortcut = bn(conv(x, f"res{name}1", step), f"bn{name}1")
            x = tf.nn.relu(bn(conv(x, f"res{name}2a", step), f"bn{name}2a"))
            x = conv(x, f"res{name}2b", dilation=dilation)
            x = tf.nn.relu(bn(x, f"bn{name}2b"))
            x = tf.nn.relu(shortcut + bn(conv(x, f"res{name}2c"), f"bn{name}2c"))
    return tf.add_n(
        [
            conv(x, f"fc1_voc12_c{index}", dilation=rate)
            + variables[f"fc1_voc12_c{index}/biases"]
            for index, rate in enumerate((6, 12, 18, 24))
        ]
    )


def test_checkpoint_computes_what_caffe_does(
    tmp_path: Path, narrow_resnet101: keras.Model
) -> None:
    variables = random_checkpoint(narrow_resnet101)
    path = save_checkpoint(tmp_path / "deeplab_resnet_init.ckpt", variables)
    randomize(narrow_resnet101, 0)
    report = load_weights(narrow_resnet101, path, backbone="resnet101")
    assert report.initial == report.unused == report.mismatched == ()
    assert len(report.loaded) == 212
    ours = values(narrow_resnet101)
    for caffe, name in caffe_convolutions().items():
        kernel, bias = ours[name]
        np.testing.assert_array_equal(kernel, variables[f"{caffe}/weights"])
        assert not bias.any()
    images = np.random.default_rng(1).uniform(0, 255, (2, 33, 41, 3)).astype("float32")
    expected = caffe_deeplab(CaffePreprocessing()(images), variables)
    assert_close(narrow_resnet101(images), expected, 1e-4)


def test_checkpoint_of_other_classes_and_with_momentum(
    tmp_path: Path, narrow_resnet101: keras.Model
) -> None:
    variables = random_checkpoint(narrow_resnet101, classes=19)
    variables["conv1/weights/Momentum"] = variables["conv1/weights"]
    variables["global_step"] = np.int64(7)
    path = tmp_path / "model.ckpt-7"
    # In TensorFlow's first format, a single file, as the published one is.
    tf.raw_ops.Save(
        filename=str(path), tensor_names=list(variables), data=list(variables.values())
    )
    before = values(narrow_resnet101)
    report = load_weights(narrow_resnet101, path, backbone="resnet101")
    aspp = ("aspp1", "aspp2", "aspp3", "aspp4")
    assert report.initial == aspp
    assert report.unused == ("conv1/weights/Momentum", "global_step")
    channels = before["aspp1"][0].shape[2]
    assert report.mismatched == tuple(
        (name, ((3, 3, channels, 21), (21,)), ((3, 3, channels, 19), (19,)))
        for name in aspp
    )
    assert_accounts_for(report, narrow_resnet101)
    for name in aspp:
        assert_layer_equal(values(narrow_resnet101)[name], before[name])


def test_checkpoint_without_a_layer_raises_and_changes_nothing(
    tmp_path: Path, narrow_resnet101: keras.Model
) -> None:
    variables = random_checkpoint(narrow_resnet101)
    del variables["bn4b22_branch2a/moving_mean"]
    path = save_checkpoint(tmp_path / "model.ckpt", variables)
    randomize(narrow_resnet101, 0)
    before = values(narrow_resnet101)
    with pytest.raises(ValueError, match=r"conv4_block23_1_bn, ours .* missing"):
        load_weights(narrow_resnet101, path, backbone="resnet101")
    for name, arrays in values(narrow_resnet101).items():
        assert_layer_equal(arrays, before[name])


@pytest.mark.parametrize(
    ("caffe", "name"),
    [
        ("conv1", "conv1_conv"),
        ("bn_conv1", "conv1_bn"),
        ("res2c_branch2b", "conv2_block3_2_conv"),
        ("bn3b3_branch2c", "conv3_block4_3_bn"),
        ("res4b22_branch2a", "conv4_block23_1_conv"),
        ("bn5a_branch1", "conv5_block1_0_bn"),
        ("fc1_voc12_c3", "aspp4"),
        ("fc1_voc12_c4", None),
        ("res2d_branch1", None),
        ("res4b22_branch2a/Momentum", None),
        ("", None),
    ],
)
def test_names_of_caffe(caffe: str, name: str | None) -> None:
    assert keras_name(caffe) == name


@given(st.floats(0, 1e4))
def test_what_the_other_epsilon_does(variance: float) -> None:
    scale = np.sqrt((variance + 1e-5) / (variance + BATCH_NORM_EPSILON))
    # √(1 + a) ≤ 1 + a/2; float64 rounds to 1.1e-16.
    assert 0 <= 1 - scale <= 5.0e-9 / (variance + 1e-5) + 2.3e-16
    assert 1 - scale <= 5e-4
    assert variance < 1e-3 or 1 - scale < 5e-6


# --- What does not fit ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0.05}, r"conv1_1, ours \(3, 3, 3, 3\) and \(3,\), the source's"),
        ({"batch_norm": True}, r"conv1_1_bn, ours .* the source's missing"),
        ({"depth": 2.0}, r"conv1_3, ours .* the source's missing"),
        ({"depth": 0.5}, r"conv1_2, ours missing, the source's \(3, 3, 1, 1\)"),
    ],
)
@pytest.mark.parametrize("layout", ["legacy", "keras", "imagenet"])
@pytest.mark.usefixtures("narrow")
def test_another_backbone_raises_and_changes_nothing(
    tmp_path: Path, options: dict[str, Any], message: str, layout: str
) -> None:
    theirs = narrow_vgg16()
    if layout == "legacy":
        path = tmp_path / "vgg16.h5"
        write_legacy(path, values(theirs), ("_W_1:0", "_b_1:0"))
    else:
        path = saved(theirs, tmp_path)
    ours = narrow_largefov(**options)
    before = values(ours)
    source = "imagenet" if layout == "imagenet" else path
    with pytest.raises(ValueError, match=f"Expected weights .* Received.*{message}"):
        load_weights(ours, source, backbone="vgg16")
    for name, arrays in values(ours).items():
        assert_layer_equal(arrays, before[name])


def make_text(path: Path) -> None:
    path.write_text("weights")


def make_truncated(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(1000)
    path.write_bytes(path.read_bytes()[:4000])


def make_other_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(1000)


def make_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x", "y")


def make_damaged_hdf5(path: Path) -> None:
    """Zeros in the place of what tells where the arrays are."""
    make_other_hdf5(path)
    content = bytearray(path.read_bytes())
    content[600:1200] = bytes(600)
    path.write_bytes(content)


@pytest.mark.parametrize("weights", [3, [], None, b"imagenet"])
def test_weights_are_a_name_or_a_path(weights: Any) -> None:
    with pytest.raises(ValueError, match="Expected 'imagenet' or the path"):
        load_weights(narrow_largefov(), weights, backbone="vgg16")


@pytest.mark.parametrize("backbone", ["vgg16", "resnet101"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("notes.txt", make_text),
        ("damaged.weights.h5", make_damaged_hdf5),
        ("broken.h5", make_truncated),
        ("other.h5", make_other_hdf5),
        ("other.weights.h5", make_other_hdf5),
        ("other.keras", make_zip),
        ("other.npz", make_zip),
        ("folder", Path.mkdir),
    ],
)
@pytest.mark.usefixtures("narrow")
def test_a_file_of_another_kind_raises(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    backbone: str,
    name: str,
    make: Callable[[Path], None],
) -> None:
    monkeypatch.setattr(keras.applications, "ResNet101", narrow_vgg16)
    path = tmp_path / name
    make(path)
    message = f"Expected .*{name} to be a weights file of this net; or .* Received: "
    with pytest.raises(ValueError, match=message):
        load_weights(narrow_largefov(), path, backbone=backbone)


def test_a_checkpoint_of_another_net_raises(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "model", {"dense/kernel": np.zeros((2, 2))})
    for backbone in ("vgg16", "resnet101"):
        with pytest.raises(ValueError, match=r"Expected .*model to be a weights file"):
            load_weights(narrow_largefov(), path, backbone=backbone)


def test_no_file_and_no_backbone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.h5"):
        load_weights(narrow_largefov(), tmp_path / "none.h5", backbone="vgg16")
    with pytest.raises(FileNotFoundError, match="'coco'"):
        load_weights(narrow_largefov(), "coco", backbone="vgg16")
    with pytest.raises(ValueError, match=r"Expected `backbone` .* Received: 'vgg19'"):
        load_weights(narrow_largefov(), "imagenet", backbone="vgg19")


# --- The report ---


def test_report_is_a_paragraph() -> None:
    report = WeightsReport(
        "vgg.h5",
        tuple("abcdefghi"),
        initial=("fc8", "z"),
        mismatched=(("fc8", ((1, 5), (5,)), ((1, 4), (4,))),),
    )
    assert str(report) == (
        "Loaded 9 layers from vgg.h5: a, b, c, d, … 3 more …, h, i. "
        "Left as initialised: fc8, z. Unused in the source: none. "
        "Of other shapes: fc8, ours (1, 5) and (5,), the source's (1, 4) and (4,)."
    )


@pytest.mark.parametrize("same", [True, False])
def test_report_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, same: bool
) -> None:
    net = narrow_largefov()
    path = tmp_path / "net.weights.h5" if same else tmp_path / "net.keras"
    (net.save_weights if same else net.save)(path)
    with caplog.at_level(logging.INFO, "tf_levelset"):
        report = load_weights(net, path, backbone="vgg16")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("tf_levelset", "INFO")
    assert record.getMessage() == str(report)
