"""What a net puts out: logits, or the probabilities of a softmax or of sigmoids."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.scores import two_channels

_PROBABILITIES = {
    "softmax": "softmax",
    "sparsemax": "softmax",
    "sigmoid": "sigmoid",
    "hardsigmoid": "sigmoid",
}

_KEEPING = (
    # Layers of Keras,
    *("resizing", "upsampling2d", "cropping2d", "centercrop", "averagepooling2d"),
    *("reshape", "permute", "identity", "dropout", "spatialdropout2d"),
    # operations of Keras 3, and of TensorFlow in Keras 2,
    *("resize", "cast", "transpose", "getitem", "squeeze", "expanddims"),
    # and layers of this package, whose first input is the map.
    *("croptostride", "upsampletoimage", "resizetoimage", "resizelike", "upsample2x"),
)
"""Layers and operations whose output is what their input is."""

_INPUT = "input"


def outputs_of(model: keras.Model) -> str | None:
    """Reads from a model's graph what its outputs are.

    The last activation counts, also inside a nested model and behind layers that
    resize, crop, reshape or cast.

    Returns:
        "logits", "softmax", "sigmoid", or None where the graph does not say it: of a
        model that is not functional, or one that ends in a layer or function of one's
        own.
    """
    found = _of_model(model, 0)
    return None if found == _INPUT else found


def _of_model(model: keras.Model, index: int) -> str | None:
    own_call = type(model).call.__module__.split(".")[0] != "keras"
    outputs = None if own_call else getattr(model, "outputs", None)
    return _of_tensor(outputs[index]) if outputs else None


def _of_tensor(tensor: Any) -> str | None:
    """Returns what a symbolic tensor holds; `_INPUT` for a model's input."""
    layer, inputs, index = compat.origin(tensor)
    while isinstance(layer, keras.layers.Wrapper):
        layer = layer.layer
    if isinstance(layer, keras.layers.InputLayer):
        return _INPUT
    if isinstance(layer, keras.Model):
        found = _of_model(layer, index)
        return _of_tensor(inputs[0]) if found == _INPUT else found
    name, activation = _name(layer), getattr(layer, "activation", None)
    function = _name(layer if activation is None else activation)
    if function in _PROBABILITIES:
        last = getattr(layer, "axis", -1) in (-1, len(tensor.shape) - 1)
        return _PROBABILITIES[function] if last else None
    if name in _KEEPING or (name, function) == ("activation", "linear"):
        return _of_tensor(inputs[0])
    if name in ("add", "average", "maximum"):
        kinds = {_of_tensor(each) for each in inputs}
        same = len(kinds) == 1 and (kinds == {"logits"} or name == "average")
        return kinds.pop() if same else None
    is_score = hasattr(keras.activations, getattr(activation, "__name__", " "))
    if is_score or function.endswith("elu") or name == "batchnormalization":
        return "logits"
    return None


def _name(operation: Any) -> str:
    """Returns the name of a layer's class, an operation or an activation."""
    name = getattr(operation, "symbol", getattr(operation, "__name__", None))
    name = str(name or type(operation).__name__)
    return name.split(".")[-1].removesuffix("_v2").replace("_", "").lower()


def within_0_and_1(scores: np.ndarray, tolerance: float = 1e-3) -> bool:
    """Whether all values lie in [0, 1]."""
    return bool(scores.min() >= -tolerance and scores.max() <= 1 + tolerance)


def guessed_outputs(scores: np.ndarray) -> str:
    """Guesses what the outputs of a net are from their values for an image, (…, C)."""
    if not within_0_and_1(scores):
        return "logits"
    sums = scores.astype(np.float32).sum(-1)
    # Sums of half-precision numbers differ by up to 1 %.
    sum_to_1 = scores.shape[-1] > 1 and abs(sums - 1).max() < 0.01
    return "softmax" if sum_to_1 else "sigmoid"


def probabilities_of(scores: tf.Tensor, outputs: str) -> tf.Tensor:
    """Returns class probabilities, float32 (…, max(C, 2)), which sum to 1.

    They are those of the softmax of the net's logits, whatever activation follows
    them. With sigmoids for several classes, a pixel's class is the one of the largest
    sigmoid.

    Args:
        scores: Outputs of a net (…, C). C = 1 is the foreground of a binary task.
        outputs: "logits", "softmax" or "sigmoid".
    """
    scores = tf.cast(scores, tf.float32)
    if outputs == "logits":
        single = scores.shape[-1] == 1
        return tf.nn.softmax(two_channels(scores, True) if single else scores)
    if scores.shape[-1] == 1:
        return two_channels(scores, from_logits=False)
    if outputs == "sigmoid":  # The softmax of the logits is that of the odds.
        scores = tf.maximum(scores, 1e-30) / tf.maximum(1 - scores, 2.0**-24)
    return scores / tf.reduce_sum(scores, axis=-1, keepdims=True)
