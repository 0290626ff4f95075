"""VGG16 against Keras' own, hand arithmetic and its undilated self."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest

from tf_levelset.models import vgg


def backbone(**options: Any) -> keras.Model:
    """The features of the last three stages as a model."""
    x = keras.Input((None, None, 3))
    return keras.Model(x, vgg.vgg16(x, **options))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 100, shape).astype(np.float32)


def test_names_and_numbers_are_those_of_keras_applications(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = keras.applications.VGG16(include_top=False, weights=None)
    # The original pools 2×2, without padding.
    monkeypatch.setattr(vgg, "SymmetricMaxPooling2D", keras.layers.MaxPooling2D)
    ours = backbone(output_stride=32)
    channels = [3, 64, 64, 128, 128, 256, 256, 256, *[512] * 6]
    by_hand = sum(9 * a * b + b for a, b in pairwise(channels))
    assert ours.count_params() == theirs.count_params() == by_hand == 14_714_688
    for layer in theirs.layers:
        if layer.weights:
            block, convolution = layer.name.split("_")
            name = block.replace("block", "conv") + convolution.replace("conv", "_")
            ours.get_layer(name).set_weights(layer.get_weights())
    image = noise(1, 64, 96, 3)
    np.testing.assert_allclose(
        ours(image)["pool5"], theirs(image), rtol=1e-5, atol=1e-5
    )


def test_sizes_and_dilations() -> None:
    # 65 → 33 → 17 → 9 → 5 → 3
    image = np.zeros((1, 65, 65, 3), np.float32)
    for stride, sizes, rate in [
        (8, (9, 9, 9), 2),
        (16, (9, 5, 5), 1),
        (32, (9, 5, 3), 1),
    ]:
        net = backbone(output_stride=stride, width=0.02)
        features = net(image)
        assert list(features) == ["pool3", "pool4", "pool5"]
        assert tuple(x.shape[1] for x in features.values()) == sizes
        rates = [net.get_layer(f"conv{i}_1").dilation_rate[0] for i in range(1, 6)]
        assert rates == [1, 1, 1, 1, rate]


def test_dilated_features_hold_the_plain_ones() -> None:
    # Up to conv5: pool5 itself is not dilated (DeepLab's is not).
    def conv5(stride: int) -> keras.Model:
        net = backbone(output_stride=stride, width=0.1)
        return keras.Model(net.inputs[0], net.get_layer("conv5_3_relu").output)

    dilated, plain = conv5(8), conv5(32)
    plain.set_weights(dilated.get_weights())
    image = noise(1, 65, 97, 3)
    expected = plain(image).numpy()
    np.testing.assert_allclose(
        dilated(image)[:, ::2, ::2], expected, rtol=1e-4, atol=1e-5 * expected.max()
    )


def test_width_and_depth() -> None:
    net = backbone(width=0.25, depth=0.5)
    convolutions = [x.name for x in net.layers if isinstance(x, keras.layers.Conv2D)]
    # Half of 2, 2, 3, 3 and 3, halves to even: 1, 1, 2, 2, 2.
    assert convolutions == [
        *("conv1_1", "conv2_1", "conv3_1", "conv3_2"),
        *("conv4_1", "conv4_2", "conv5_1", "conv5_2"),
    ]
    assert [x.shape[-1] for x in net.outputs] == [64, 128, 128]
