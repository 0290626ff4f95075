"""Nets that take images of some sizes only, at images of all sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from made_up_nets import Own, u_net

from tf_levelset.compat import KERAS_3
from tf_levelset.export.saved_model import export
from tf_levelset.inference.predictor import KerasPredictor, SavedModelPredictor
from tf_levelset.inference.tiling import Tiling, bands
from tf_levelset.models.any_size import AnySize


def picture(*size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)


def softmax(logits: Any) -> np.ndarray:
    return tf.nn.softmax(logits).numpy()


def autoencoder() -> keras.Model:
    """Without skips, its outputs are smaller than images of odd sizes."""
    steps = [layers.MaxPooling2D(16), layers.UpSampling2D(16), layers.Conv2D(2, 1)]
    return keras.Sequential([keras.Input((None, None, 3)), *steps])


def fixed(height: int, width: int) -> keras.Model:
    """A net of images of one size, by its input and by a dense layer."""
    inputs = keras.Input((height, width, 3))
    x = layers.Conv2D(2, 1, kernel_initializer="random_normal")(inputs)
    bias = layers.Dense(2)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Add()([x, layers.Reshape((1, 1, 2))(bias)]))


@pytest.fixture(autouse=True)
def seed() -> None:
    keras.utils.set_random_seed(0)


# --- Nets that need a multiple ---


@pytest.mark.parametrize(
    ("net", "multiple"),
    [(u_net(3), 4), (u_net(1, depth=3, mode="bilinear"), 8), (autoencoder(), 16)],
)
def test_images_are_padded_and_cropped(
    net: keras.Model, multiple: int, tmp_path: Path
) -> None:
    predictor = KerasPredictor(net)
    exported = SavedModelPredictor(export(net, tmp_path))
    for size in [(120, 160), (100, 150), (33, 33), (1, 2)]:
        image = picture(*size)
        height, width = size
        margins = [(0, -height % multiple), (0, -width % multiple), (0, 0)]
        padded = np.pad(image, margins, "edge").astype(np.float32)
        logits = np.asarray(net(padded[np.newaxis]))[0, :height, :width]
        if logits.shape[-1] == 1:
            logits = np.concatenate([0 * logits, logits], axis=-1)
        np.testing.assert_allclose(predictor(image), softmax(logits), atol=1e-5)
        np.testing.assert_allclose(exported(image), softmax(logits), atol=1e-5)


def test_no_more_is_padded_than_needed() -> None:
    for depth, multiple in [(1, 2), (3, 8), (5, 32)]:
        net = AnySize(u_net(2, depth))
        net.probe()
        assert net.multiple == multiple


class Halved(layers.Layer):
    """A layer that has to know the size of its input when it is traced."""

    def call(self, x: Any) -> Any:
        return tf.image.resize(x, [int(x.shape[1]) // 2, int(x.shape[2]) // 2])


def test_layers_that_cannot_be_traced_for_an_unknown_size(tmp_path: Path) -> None:
    double = layers.UpSampling2D(2, interpolation="bilinear")
    net = Own(Halved(), double, layers.Conv2D(2, 1))
    for size in [(6, 8), (12, 10)]:
        image = picture(*size)
        expected = softmax(net(image[np.newaxis].astype(np.float32)))[0]
        np.testing.assert_allclose(KerasPredictor(net)(image), expected, atol=1e-5)
    with pytest.raises(ValueError, match="unknown size when it is traced"):
        export(net, tmp_path)


# --- Nets of one size ---


def test_images_are_resized_to_a_fixed_size(tmp_path: Path) -> None:
    net = fixed(12, 16)
    predictor = KerasPredictor(net)
    own = picture(12, 16)
    expected = softmax(net(own[np.newaxis].astype(np.float32)))[0]
    np.testing.assert_allclose(predictor(own), expected, atol=1e-6)
    # Resizing changes nothing in an image of one colour.
    grey = np.full((12, 16, 3), 7, np.uint8)
    plain = softmax(net(grey[np.newaxis].astype(np.float32)))[0, 0, 0]
    for portable in (False, True):
        with pytest.warns(UserWarning, match="images of 12×16 pixels only"):
            version = export(net, tmp_path, portable=portable)
        for size in [(12, 16), (33, 20), (5, 50)]:
            answer = SavedModelPredictor(version)(np.full((*size, 3), 7, np.uint8))
            np.testing.assert_allclose(answer, np.full((*size, 2), plain), atol=1e-5)
    with pytest.warns(UserWarning, match="images of 12×16 pixels only") as warned:
        answer = predictor(np.full((33, 20, 3), 7, np.uint8))
    np.testing.assert_allclose(answer, np.full((33, 20, 2), plain), atol=1e-5)
    predictor(picture(33, 20))
    assert len(warned) == 1  # It is said once.


def test_tiles_of_the_fixed_size_are_not_resized() -> None:
    net = fixed(12, 16)
    image = picture(24, 32)
    tiles = image.reshape(2, 12, 2, 16, 3).swapaxes(1, 2).reshape(4, 12, 16, 3)
    expected = softmax(net(tiles.astype(np.float32)))
    answer = np.concatenate(
        [band for _, band in bands(KerasPredictor(net), image, Tiling(12, 16, 0))]
    )
    answer = answer.reshape(2, 12, 2, 16, 2).swapaxes(1, 2).reshape(4, 12, 16, 2)
    np.testing.assert_allclose(answer, expected, atol=1e-6)


@pytest.mark.skipif(not KERAS_3, reason="Keras 2 refuses other sizes afterwards")
def test_the_size_of_the_first_batch_is_no_fixed_size() -> None:
    net = keras.Sequential([layers.Conv2D(2, 1)])
    net(np.zeros((2, 5, 6, 3)))
    image = picture(7, 9)
    expected = softmax(net(image[np.newaxis].astype(np.float32)))[0]
    np.testing.assert_allclose(KerasPredictor(net)(image), expected, atol=1e-6)


# --- What cannot be predicted ---


def test_other_nets_raise() -> None:
    inputs = keras.Input((None, None, 3))
    first, second = layers.Conv2D(2, 1)(inputs), layers.Conv2D(2, 1)(inputs)
    for outputs in ([first, second], {"a": first, "b": second}):
        with pytest.raises(ValueError, match=r"one output.*Model\(net.inputs"):
            KerasPredictor(keras.Model(inputs, outputs))
    grey = keras.Input((None, None, 1))
    with pytest.raises(ValueError, match="to take RGB images"):
        KerasPredictor(keras.Model(grey, layers.Conv2D(2, 1)(grey)))
    smaller = keras.Model(inputs, layers.Conv2D(2, 3)(inputs))
    with pytest.raises(ValueError, match=r"outputs of the image's size.*Resizing"):
        KerasPredictor(smaller)(picture(9, 9))
    odd = keras.Model(inputs, layers.Add()([first, layers.ZeroPadding2D(1)(second)]))
    with pytest.raises(ValueError, match=r"multiples of a power of two.*Received"):
        KerasPredictor(odd)(picture(9, 9))


# --- Nets of other libraries ---


@pytest.mark.parametrize("name", ["Unet", "FPN"])
def test_nets_of_segmodels(name: str, tmp_path: Path) -> None:
    make = getattr(pytest.importorskip("segmodels_keras"), name)
    options = {"classes": 3, "activation": "softmax", "encoder_weights": None}
    check_other(make("resnet18", **options), tmp_path)


def test_a_net_of_keras_hub(tmp_path: Path) -> None:
    models = pytest.importorskip("keras_hub").models
    free = {"image_shape": (None, None, 3)}
    encoder = models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 8, 8, 8],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        **free,
    )
    backbone = models.DeepLabV3Backbone(
        encoder,
        spatial_pyramid_pooling_key="P4",
        low_level_feature_key="P2",
        upsampling_size=4,
        dilation_rates=[2, 4],
        **free,
    )
    net = models.DeepLabV3ImageSegmenter(backbone, 3, activation="softmax")
    check_other(net, tmp_path)


def check_other(net: keras.Model, folder: Path) -> None:
    """An image whose sides 32 divides gets the net's own probabilities."""
    image = picture(64, 96)
    images = image[np.newaxis].astype(np.float32)
    # Without `training`, KerasHub's normalization takes the statistics of the batch.
    expected = np.asarray(net(images, training=False))[0]
    np.testing.assert_allclose(KerasPredictor(net)(image), expected, atol=1e-4)
    exported = SavedModelPredictor(export(net, folder))
    np.testing.assert_allclose(exported(image), expected, atol=1e-4)
    assert exported(picture(50, 70)).shape == (50, 70, 3)
