"""Reading of ground truth: shapes, dtypes, void and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tf_levelset.labels import parse_labels
from tf_levelset.scores import floating_scores

SCORES = tf.zeros((2, 3, 4, 5))
IDS = np.arange(24).reshape(2, 3, 4) % 5


DTYPES = [np.dtype(code).name for code in "BbHhiIqQfd"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("trailing", [(), (1,)])
def test_sparse_labels_of_every_dtype(dtype: str, trailing: tuple[int, ...]) -> None:
    labels = parse_labels(
        tf.constant(IDS.reshape(2, 3, 4, *trailing).astype(dtype)), SCORES, None
    )
    np.testing.assert_array_equal(labels.ids, IDS.reshape(2, 12))
    assert labels.valid.numpy().all()


@pytest.mark.parametrize("void", [255, -1, 0, 4])
def test_void_pixels_are_not_valid(void: int) -> None:
    ids = IDS.copy()
    ids[1] = void
    labels = parse_labels(tf.constant(ids), SCORES, void)
    np.testing.assert_array_equal(labels.valid, (ids != void).reshape(2, 12))
    assert not labels.invalid.numpy().any()


@pytest.mark.parametrize("foreign", [5, -1, 255, 2**32, 2**63 - 1, 0.5])
def test_foreign_labels_raise(foreign: float) -> None:
    ids = IDS.astype(type(foreign))
    ids[0, 0, 0] = foreign
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Expected labels in"):
        parse_labels(tf.constant(ids), SCORES, 7)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "uint64", "bfloat16"])
@pytest.mark.parametrize("graph", [False, True])
def test_the_values_found_their_place_and_the_remedies_are_named(
    dtype: str, graph: bool
) -> None:
    scores = tf.zeros((2, 3, 4, 2))  # of a sigmoid
    mask = np.zeros((2, 3, 4, 1), int)
    mask[1, 2, 1:] = 255
    parse = tf.function(parse_labels) if graph else parse_labels
    text = (
        r"Expected labels in \[0, 2\)\. Received: 255 at index \[1 2 1\]; 3 of 24 "
        r"pixels are wrong, and the labels found are \[0 255\]\. .* `mask > 0`, or "
        r"divide by 255\. .*`ignore_class=255`\."
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        parse(tf.cast(mask, dtype), scores, None)


@pytest.mark.parametrize(
    ("row", "shown"), [((0.25, 0.75), "0.25 0.75"), ((1, 1), "1 1")]
)
def test_soft_and_multi_label_targets_are_named(row: Any, shown: str) -> None:
    one_hot = np.eye(2, dtype=type(row[0]))[np.zeros((2, 3, 4), int)]
    one_hot[1, 0, 2] = row
    text = (
        rf"Expected labels in one-hot rows: .* \[{shown}\] at index \[1 0 2\]; 1 of 24"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=text + ".* tf.argmax"):
        parse_labels(tf.constant(one_hot), tf.zeros((2, 3, 4, 2)), None)


def test_foreign_labels_are_marked_under_xla() -> None:
    ids = IDS.copy()
    ids[0, 0, 0] = 9

    @tf.function(jit_compile=True)
    def invalid(ids: tf.Tensor) -> tf.Tensor:
        return parse_labels(ids, SCORES, None).invalid

    np.testing.assert_array_equal(invalid(tf.constant(ids)), (ids == 9).reshape(2, 12))


@pytest.mark.parametrize(
    "shape", [(2, 3), (2, 3, 3), (2, 3, 4, 2), (2, 4, 3, 1), (2, 3, 4, 5, 1)]
)
def test_shapes_that_do_not_belong_together_raise(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Expected y_true of shape .* Received"):
        parse_labels(tf.zeros(shape, tf.int32), SCORES, None)


def test_a_last_axis_that_is_not_known_is_not_guessed() -> None:
    @tf.function(input_signature=[tf.TensorSpec((None, None, None, None), tf.int32)])
    def parse(labels: tf.Tensor) -> tf.Tensor:
        return parse_labels(labels, SCORES, None).ids

    with pytest.raises(ValueError, match="known last axis"):
        parse(tf.constant(IDS[..., np.newaxis], tf.int32))


@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 1, 1), (2, 3, 1), (1, 3, 4)])
def test_sizes_known_only_at_run_time_are_compared(shape: tuple[int, ...]) -> None:
    signature = [
        tf.TensorSpec((None, None, None), tf.int32),
        tf.TensorSpec((None, None, None, 5)),
    ]

    def invalid(labels: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        return parse_labels(labels, scores, None).invalid

    labels = tf.zeros(shape, tf.int32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="one size"):
        tf.function(invalid, input_signature=signature)(labels, SCORES)
    compiled = tf.function(invalid, input_signature=signature, jit_compile=True)
    assert compiled(labels, SCORES).numpy().all()


# --- Channels first ---


@pytest.mark.parametrize("mask", [np.zeros((3, 4)), np.eye(3, 4), np.ones((3, 4))])
def test_masks_with_channels_first_are_not_one_hot(mask: np.ndarray) -> None:
    masks = tf.constant(np.stack([mask, np.zeros((3, 4))])[:, np.newaxis])
    scores = tf.zeros(masks.shape)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="Channels are on the last"
    ):
        parse_labels(masks, scores, None, from_logits=False)
    # Images of height 1, with a void pixel.
    one_hot = tf.one_hot([[[0, 1, 3]], [[2, 255, 1]]], 4)
    labels = parse_labels(one_hot, scores + 1 / 4, None, from_logits=False)
    np.testing.assert_array_equal(labels.ids, [[0, 1, 3], [2, 0, 1]])
    np.testing.assert_array_equal(labels.valid, [[True] * 3, [True, False, True]])


@pytest.mark.parametrize("labels", [(2, 4, 6), (2, 4, 6, 1), (2, 1, 4, 6)])
@pytest.mark.parametrize("channels", [1, 3])
def test_outputs_with_channels_first_raise(
    labels: tuple[int, ...], channels: int
) -> None:
    ids, scores = tf.zeros(labels, tf.int32), tf.zeros((2, channels, 4, 6))
    errors = ValueError, tf.errors.InvalidArgumentError
    with pytest.raises(errors, match="Channels are on the last axis"):
        parse_labels(ids, scores, None, from_logits=False)
    spec = tf.TensorSpec((None, channels, None, None))
    function = tf.function(lambda scores: floating_scores(scores, True).shape)
    with pytest.raises(ValueError, match="Channels are on the last axis"):
        function.get_concrete_function(spec)
