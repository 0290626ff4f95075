"""ResNet101 against Keras' own and its undilated self."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tf_levelset import compat
from tf_levelset.models import deeplab_resnet101
from tf_levelset.models.resnet import resnet101
from tf_levelset.optimizers.caffe_sgd import CaffeSGD

STAGES = ("conv2", "conv3", "conv4", "conv5")


def backbone(**options: Any) -> keras.Model:
    """The features of all stages as a model."""
    x = keras.Input((None, None, 3))
    return keras.Model(x, resnet101(x, **options))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 100, shape).astype(np.float32)


def test_names_and_numbers_are_those_of_keras_applications() -> None:
    plain = backbone(output_stride=32)
    # So that ImageNet's weights load by name; and they give what they give there.
    theirs = keras.applications.ResNet101(include_top=False, weights=None)
    assert plain.count_params() == theirs.count_params() == 42_658_176
    weighted = {layer.name: layer for layer in theirs.layers if layer.weights}
    ours = {layer.name: layer for layer in plain.layers if layer.weights}
    assert list(ours) == list(weighted)
    rng = np.random.default_rng(0)
    for name, layer in weighted.items():
        values = layer.get_weights()
        assert [v.shape for v in values] == [v.shape for v in ours[name].get_weights()]
        if name.endswith("bn"):
            # Small gammas, or 33 blocks would make numbers without end of them.
            values = [rng.uniform(0.2, 0.4, v.shape) for v in values]
            layer.set_weights(values)
        ours[name].set_weights(values)
    image = noise(1, 65, 97, 3)
    np.testing.assert_allclose(plain(image)["conv5"], theirs(image), rtol=1e-6)


def test_sizes_and_dilations() -> None:
    # 65 → 33 → 17 → 9 → 5 → 3
    image = np.zeros((1, 65, 65, 3), np.float32)
    options = {"width": 0.02, "depth": 0.05}
    for stride, sizes in [(8, (17, 9, 9, 9)), (16, (17, 9, 5, 5)), (32, (17, 9, 5, 3))]:
        net = backbone(output_stride=stride, **options)
        assert tuple(x.shape[1] for x in net(image).values()) == sizes
        rates = [
            net.get_layer(f"{stage}_block1_2_conv").dilation_rate[0] for stage in STAGES
        ]
        assert rates == [1, 1, *{8: (2, 4), 16: (1, 2), 32: (1, 1)}[stride]]


@pytest.mark.parametrize("stride", [8, 16])
def test_dilated_features_hold_the_plain_ones(stride: int) -> None:
    # The "trous" algorithm: on sizes 32k + 1 the plain net's features are the dilated
    # one's at every second (fourth) position.
    options = {"width": 0.05, "depth": 0.1}
    dilated, plain = (backbone(output_stride=s, **options) for s in (stride, 32))
    plain.set_weights(dilated.get_weights())
    image = noise(1, 65, 97, 3)
    for ours, theirs in zip(
        dilated(image).values(), plain(image).values(), strict=True
    ):
        step = (ours.shape[1] - 1) // (theirs.shape[1] - 1)
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(
            ours[:, ::step, ::step] / scale, theirs / scale, atol=1e-5
        )


def test_width_and_depth() -> None:
    net = backbone(width=0.25, depth=0.5)
    names = {layer.name for layer in net.layers}
    # Half of 3, 4, 23 and 3 blocks, halves to even: 2, 2, 12, 2.
    for stage, blocks in zip(STAGES, (2, 2, 12, 2), strict=True):
        assert f"{stage}_block{blocks}_3_conv" in names
        assert f"{stage}_block{blocks + 1}_3_conv" not in names
    assert [x.shape[-1] for x in net.outputs] == [64, 128, 256, 512]


# --- Frozen normalisation ---


def normalisation(net: keras.Model) -> dict[str, np.ndarray]:
    return {
        compat.variable_path(v): np.asarray(v)
        for v in net.weights
        if "_bn/" in compat.variable_path(v)
    }


def train(net: keras.Model) -> None:
    """One step."""
    net.compile(CaffeSGD(0.1), keras.losses.SparseCategoricalCrossentropy(True))
    image = np.random.default_rng(0).uniform(0, 255, (2, 33, 33, 3))
    net.train_on_batch(image.astype(np.float32), np.arange(50).reshape(2, 5, 5) % 3)


def tiny(freeze_batch_norm: bool) -> keras.Model:
    return deeplab_resnet101(
        3,
        width=0.1,
        depth=0.05,
        rates=(1, 2),
        freeze_batch_norm=freeze_batch_norm,
        upsample=False,
    )


@pytest.mark.parametrize("saved", [False, True])
def test_frozen_normalisation_stays(saved: bool, tmp_path: Path) -> None:
    net = tiny(freeze_batch_norm=True)
    if saved:
        net.save(tmp_path / "net.keras")
        net = keras.models.load_model(tmp_path / "net.keras")
    before, kernel = normalisation(net), np.asarray(net.trainable_variables[0])
    assert len(before) == 4 * (1 + 4 * 4)  # conv1, and four a block
    train(net)
    for path, value in normalisation(net).items():
        np.testing.assert_array_equal(value, before[path], path)
    assert np.abs(np.asarray(net.trainable_variables[0]) - kernel).max() > 0


def test_frozen_normalisation_is_the_same_in_training() -> None:
    net = tiny(freeze_batch_norm=True)
    image = noise(2, 33, 33, 3)
    np.testing.assert_array_equal(net(image, training=True), net(image))


def test_other_normalisation_is_trained() -> None:
    net = tiny(freeze_batch_norm=False)
    before = normalisation(net)
    train(net)
    for path, value in normalisation(net).items():
        assert np.abs(value - before[path]).max() > 0, path
