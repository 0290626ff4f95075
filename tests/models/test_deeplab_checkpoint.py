"""Checkpoints of DeepLab-ResNet101 with Caffe's names, against Caffe's net."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from made_up_weights import (
    assert_accounts_for,
    assert_all_equal,
    narrow_largefov,
    randomize,
    values,
)

from tf_levelset.models import deeplab_resnet101
from tf_levelset.models.layers import CaffePreprocessing
from tf_levelset.models.weights import load_weights

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
    randomize(narrow_resnet101)
    report = load_weights(narrow_resnet101, path, backbone="resnet101")
    assert report.initial == report.unused == report.mismatched == ()
    assert len(report.loaded) == 212
    ours = values(narrow_resnet101)
    for caffe, name in caffe_convolutions().items():
        kernel, bias = ours[name]
        np.testing.assert_array_equal(kernel, variables[f"{caffe}/weights"])
        assert not bias.any()
    images = np.random.default_rng(1).uniform(0, 255, (2, 33, 41, 3)).astype("float32")
    expected = caffe_deeplab(CaffePreprocessing()(images), variables).numpy()
    # Relative to the largest value, because small ones are what is left of many terms.
    error = np.abs(narrow_resnet101(images) - expected).max()
    assert error <= 1e-4 * np.abs(expected).max()


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
    assert_all_equal(values(narrow_resnet101), {name: before[name] for name in aspp})


def test_checkpoint_without_a_layer_raises_and_changes_nothing(
    tmp_path: Path, narrow_resnet101: keras.Model
) -> None:
    variables = random_checkpoint(narrow_resnet101)
    del variables["bn4b22_branch2a/moving_mean"]
    path = save_checkpoint(tmp_path / "model.ckpt", variables)
    randomize(narrow_resnet101)
    before = values(narrow_resnet101)
    with pytest.raises(ValueError, match=r"conv4_block23_1_bn \(net: .* missing"):
        load_weights(narrow_resnet101, path, backbone="resnet101")
    assert_all_equal(values(narrow_resnet101), before)


def test_a_checkpoint_of_another_net_raises(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "model", {"dense/kernel": np.zeros((2, 2))})
    for backbone in ("vgg16", "resnet101"):
        with pytest.raises(ValueError, match=r"Expected .*model to be a weights file"):
            load_weights(narrow_largefov(), path, backbone=backbone)
