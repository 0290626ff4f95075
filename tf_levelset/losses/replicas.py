"""Losses of a batch that is split over the replicas that train together.

Keras reports a mean of the losses of the replicas, and trains with the sum of their
gradients, divided by the number of replicas. Both are those of the whole batch if each
replica returns the loss of the whole batch as the value, and the gradient of its own
part times the number of replicas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_levelset.labels import Labels


def _one_of_several() -> Any:
    """Returns the context of this replica, or None if it is alone."""
    replica = tf.distribute.get_replica_context()
    return None if replica is None or replica.num_replicas_in_sync == 1 else replica


def mean_of_replicas(numbers: tf.Tensor) -> tf.Tensor:
    """Returns the means of numbers over the replicas."""
    replica = _one_of_several()
    if replica is None:
        return numbers
    return replica.all_reduce(tf.distribute.ReduceOp.MEAN, numbers)


def loss_of_all(loss: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns the loss of the whole batch, with the gradient of the replica's own part.

    Args:
        loss: The mean or the sum over the part of the batch on this replica, a scalar.
        size: What the mean divides by, up to a common factor; 1 for a sum.
    """
    if _one_of_several() is None:
        return loss
    size = tf.cast(size, loss.dtype)
    # A batch of 3 is split 2 + 1: the first part counts twice.
    loss *= tf.math.divide_no_nan(size, mean_of_replicas(size))

    @tf.custom_gradient
    def of_all(own: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return mean_of_replicas(own), tf.identity

    return of_all(loss)


def on_whole_batch(
    pixel_losses: Callable[[Labels, tf.Tensor], tf.Tensor],
    labels: Labels,
    scores: tf.Tensor,
) -> tf.Tensor:
    """Returns the losses (B, N) of this replica's pixels as parts of the whole batch.

    Each replica gets the labels and the scores of all others, for a loss that is not a
    mean over images. The arguments are those of `SegmentationLoss.pixel_losses`.
    """
    replica = _one_of_several()
    if replica is None:
        return pixel_losses(labels, scores)
    everything = replica.all_gather(scores, axis=0)
    everything = tf.ensure_shape(everything, [None, *scores.shape[1:]])
    size = tf.shape(scores)[:1]
    # Apart from the scores, because integers have no gradient. Collective operations do
    # not take booleans.
    integers = [size, *(tf.cast(part, tf.int32) for part in labels)]
    sizes, ids, valid, invalid = replica.all_gather(integers, axis=0)
    gathered = Labels(ids, tf.cast(valid, tf.bool), tf.cast(invalid, tf.bool))
    begin = tf.reduce_sum(sizes[: replica.replica_id_in_sync_group])
    return pixel_losses(gathered, everything)[begin : begin + size[0]]
