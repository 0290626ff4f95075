"""What a net puts out, read from its graph: its probabilities are those of its logits.

Each net is compared with the same net without its last activation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from made_up_nets import Own

from tf_levelset.compat import KERAS_3
from tf_levelset.export.saved_model import export
from tf_levelset.inference.predictor import KerasPredictor, SavedModelPredictor
from tf_levelset.models.outputs import outputs_of

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)

End = Callable[[Any, str], Any]


def logits_of(channels: int) -> keras.Model:
    """A net whose logits are of size one."""
    inputs = keras.Input((None, None, 3))
    kernel = keras.initializers.RandomNormal(stddev=0.01, seed=1)
    last = layers.Conv2D(channels, 1, kernel_initializer=kernel)
    return keras.Model(inputs, last(inputs))


def ended(net: keras.Model, end: End, activation: str) -> keras.Model:
    return keras.Model(net.inputs, end(net.outputs[0], activation))


def inside(end: End, kind: str) -> End:
    """The end as a model of its own, nested in the net."""

    def nested(x: Any, activation: str) -> Any:
        inputs = keras.Input((None, None, x.shape[-1]))
        if kind == "sequential":
            return keras.Sequential([inputs, layers.Activation(activation)])(x)
        return keras.Model(inputs, end(inputs, activation))(x)

    return nested


def active(x: Any, activation: str) -> Any:
    return layers.Activation(activation)(x)


def cropped(x: Any, activation: str) -> Any:
    return layers.Cropping2D(0)(active(x, activation))


ENDS: dict[str, End] = {
    "layer": active,
    "function": lambda x, name: getattr(keras.activations, name)(x),
    "function of TensorFlow": lambda x, name: layers.Activation(getattr(tf.nn, name))(
        x
    ),
    "cast": lambda x, name: layers.Activation("linear", dtype="float32")(
        layers.Activation(name, dtype="float16")(x)
    ),
    "resized": lambda x, name: layers.UpSampling2D(2)(active(x, name))[:, ::2, ::2],
    "permuted": lambda x, name: layers.Permute((2, 1, 3))(
        active(layers.Permute((2, 1, 3))(x), name)
    ),
    "mean": lambda x, name: layers.Average()([active(x, name), cropped(x, name)]),
    "functional": inside(cropped, "functional"),
    "sequential": inside(active, "sequential"),
    "before a model": lambda x, name: inside(
        lambda y, _: layers.Cropping2D(0)(y), "functional"
    )(active(x, name), name),
}
if KERAS_3:
    ENDS |= {
        "operation": lambda x, name: getattr(keras.ops, name)(x),
        "operations": lambda x, name: keras.ops.cast(
            keras.ops.transpose(getattr(keras.ops, name)(x), (0, 1, 2, 3)), "float32"
        ),
    }


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("activation", "channels"), [("softmax", 3), ("sigmoid", 1)])
def test_the_last_activation_is_read(end: str, activation: str, channels: int) -> None:
    net = logits_of(channels)
    model = ended(net, ENDS[end], activation)
    assert outputs_of(model) == activation
    logits = np.asarray(net(IMAGE[np.newaxis].astype(np.float32)))[0]
    if channels == 1:
        logits = np.concatenate([0 * logits, logits], axis=-1)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    tolerance = 2e-3 if end == "cast" else 1e-6
    np.testing.assert_allclose(KerasPredictor(model)(IMAGE), expected, atol=tolerance)


@pytest.mark.parametrize("end", ["layer", "functional"])
def test_sigmoids_of_several_classes_give_the_softmax_of_their_logits(end: str) -> None:
    net = logits_of(3)
    expected = KerasPredictor(net)(IMAGE)
    answer = KerasPredictor(ended(net, ENDS[end], "sigmoid"))(IMAGE)
    np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_saturated_activations_lose_nothing() -> None:
    # Both sigmoids are 1 in float32, and the softmax is 1 and 0.
    net = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 1)])
    net.set_weights([np.zeros((1, 1, 3, 2)), np.array([200.0, 201.0])])
    for activation in ("softmax", "sigmoid"):
        answer = KerasPredictor(ended(net, active, activation))(IMAGE)
        np.testing.assert_allclose(answer[..., 1], 1 / (1 + np.exp(-1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("last", "outputs"),
    [
        (layers.Softmax(), "softmax"),
        (layers.Softmax(axis=3), "softmax"),
        (layers.Softmax(axis=1), None),
        (layers.Activation("hard_sigmoid"), "sigmoid"),
        (layers.Conv2D(2, 1, activation=keras.activations.softmax), "softmax"),
        (layers.Conv2D(2, 1), "logits"),
        (layers.Conv2D(2, 1, activation="tanh"), "logits"),
        (layers.TimeDistributed(layers.Dense(2, activation="sigmoid")), "sigmoid"),
        (layers.Activation("relu"), "logits"),
        (layers.ReLU(), "logits"),
        (layers.BatchNormalization(), "logits"),
        (layers.Resizing(3, 4), "logits"),
    ],
)
def test_layers_that_come_last(last: Any, outputs: str | None) -> None:
    inputs = keras.Input((3, 4, 3))
    assert outputs_of(keras.Model(inputs, last(layers.Conv2D(2, 1)(inputs)))) == outputs


# --- Nets whose graph does not say it ---


class Shares(layers.Layer):
    """Divides positive values by their sum, a softmax of one's own."""

    def call(self, x: Any) -> Any:
        x = tf.exp(x)
        return x / tf.reduce_sum(x, axis=-1, keepdims=True)


def test_unknown_outputs_are_guessed_with_a_warning(tmp_path: Path) -> None:
    net = logits_of(3)
    expected = KerasPredictor(net)(IMAGE)
    model = Own(net, Shares())
    assert outputs_of(model) is None
    predictor = KerasPredictor(model)
    with pytest.warns(UserWarning, match=r"taken for those of softmax.*--outputs"):
        np.testing.assert_allclose(predictor(IMAGE), expected, atol=1e-6)
    predictor(IMAGE)  # Once is enough.
    with pytest.warns(UserWarning, match="taken for those of softmax"):
        exported = SavedModelPredictor(export(model, tmp_path))
    np.testing.assert_allclose(exported(IMAGE), expected, atol=1e-6)
    told = KerasPredictor(model, "softmax")
    np.testing.assert_allclose(told(IMAGE), expected, atol=1e-6)
    again = np.exp(expected) / np.exp(expected).sum(-1, keepdims=True)
    np.testing.assert_allclose(KerasPredictor(model, "logits")(IMAGE), again, 1e-5)


def test_logits_of_a_model_that_is_not_functional() -> None:
    net = logits_of(1)
    expected = KerasPredictor(net)(IMAGE)
    for model in (Own(net), Own(net, layers.Activation("sigmoid"))):
        np.testing.assert_allclose(KerasPredictor(model)(IMAGE), expected, atol=1e-6)


def test_values_that_cannot_be_probabilities_raise() -> None:
    predictor = KerasPredictor(logits_of(3), "softmax")
    with pytest.raises(ValueError, match=r"within \[0, 1\].*from -.*'logits'"):
        predictor(IMAGE)
    with pytest.raises(ValueError, match="`outputs` to be one of"):
        KerasPredictor(logits_of(3), "probabilities")


# --- Exported ---


def test_a_sigmoid_is_exported_as_two_classes(tmp_path: Path) -> None:
    net = logits_of(1)
    model = ended(net, active, "sigmoid")
    exported = SavedModelPredictor(export(model, tmp_path, ["ground", "tree"]))
    assert exported.num_classes == KerasPredictor(model).num_classes == 2
    np.testing.assert_allclose(exported(IMAGE), KerasPredictor(net)(IMAGE), atol=1e-6)
