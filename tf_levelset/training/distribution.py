"""Training on several replicas, in one process or in several (`tf.distribute`).

A step on R replicas is the step of one process with the same global batch: each replica
has its part of the batch, gradients are added up, and losses divide by the valid pixels
of the whole batch (`SegmentationLoss`). `fit` is Keras' own but for one case: Keras 3's
does not run under `MultiWorkerMirroredStrategy`, whose loop is therefore here.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_levelset import compat

Batches = Any
"""A `tf.data.Dataset`, or one that is distributed already."""


WORKER_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
"""What TensorFlow raises in the workers that are left."""


def strategy_named(name: str | None) -> tf.distribute.Strategy:
    """Returns a strategy by its name on the command line.

    Args:
        name: "mirrored" for all GPUs of this machine, "workers" for all processes that
            the environment variable TF_CONFIG names, None for one device. To be
            called before TensorFlow has done anything else.

    Raises:
        ValueError: for another name, or "workers" without TF_CONFIG.
    """
    if name is None:
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name != "workers":
        raise ValueError(f'Expected "mirrored", "workers" or None. Received: {name!r}')
    if not os.environ.get("TF_CONFIG"):
        raise ValueError(
            "Expected the environment variable TF_CONFIG, with the addresses of all "
            "workers and the index of this one. Received: none"
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Returns how many processes train together."""
    resolver = strategy.cluster_resolver
    if resolver is None:
        return 1
    cluster = resolver.cluster_spec()
    jobs = [job for job in ("chief", "worker") if job in cluster.jobs]
    return max(1, sum(cluster.num_tasks(job) for job in jobs))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether this process is the one that writes files."""
    if num_workers(strategy) == 1:
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().jobs:
        return bool(resolver.task_type == "chief")
    return bool(resolver.task_id == 0)


def replicas_here(strategy: tf.distribute.Strategy) -> int:
    """Returns how many of a strategy's replicas are in this process."""
    return int(strategy.num_replicas_in_sync) // num_workers(strategy)


def check_batch_size(batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Raises `ValueError` unless every replica has as large a part of a batch."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            f"Expected a batch size that {replicas} replicas share evenly. "
            f"Received: {batch_size}"
        )


def distribute(
    strategy: tf.distribute.Strategy,
    batches: Callable[[int, int], tf.data.Dataset],
) -> Batches:
    """Returns batches for `fit`, each worker making its own part of each of them.

    Args:
        strategy: whose replicas are to have them.
        batches: from the number of workers and a worker's index to its batches of one
            fixed size, such as `training_dataset` with its other arguments set.

    Returns:
        A dataset of global batches, which Keras splits, or of this worker's parts.
    """
    if num_workers(strategy) == 1:
        return batches(1, 0)
    replicas = replicas_here(strategy)

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        mine = batches(context.num_input_pipelines, context.input_pipeline_id)
        if replicas == 1:
            return mine
        return mine.unbatch().batch(_batch_size(mine) // replicas, drop_remainder=True)

    return strategy.distribute_datasets_from_function(of_worker)


def to_every_replica(
    strategy: tf.distribute.Strategy, pictures: tf.data.Dataset
) -> Batches:
    """Returns batches of one picture of which every replica has the same.

    So metrics over pictures of any number are those of one process, on any number of
    replicas.

    Args:
        strategy: whose replicas are to have them.
        pictures: single samples, not batched. To several workers they come again and
            again.
    """
    replicas = replicas_here(strategy)
    copies = pictures.flat_map(
        lambda *sample: tf.data.Dataset.from_tensors(sample).repeat(replicas)
    )
    if num_workers(strategy) == 1:
        # Keras warns at the end of data whose number it does not know.
        number = tf.data.experimental.assert_cardinality(
            pictures.cardinality() * replicas
        )
        return copies.apply(number).batch(replicas).prefetch(2)
    return strategy.distribute_datasets_from_function(
        lambda _: copies.batch(1).repeat().prefetch(2)
    )


def any_worker(strategy: tf.distribute.Strategy, *flags: bool) -> tuple[bool, ...]:
    """Tells of each flag whether it is set in any worker; all must ask at once."""
    if num_workers(strategy) == 1:
        return flags
    sums = _sum_over_workers(strategy, tf.constant(flags, tf.float32))
    return tuple((sums > 0).numpy().tolist())


def all_the_same(strategy: tf.distribute.Strategy, number: int) -> bool:
    """Tells whether every worker has the same number; all must ask at once."""
    if num_workers(strategy) == 1:
        return True
    total = int(_sum_over_workers(strategy, tf.constant(number, tf.int64)))
    (differs,) = any_worker(strategy, total != number * strategy.num_replicas_in_sync)
    return not differs


@tf.function
def _sum_over_workers(strategy: tf.distribute.Strategy, values: tf.Tensor) -> tf.Tensor:
    everywhere = strategy.run(lambda: tf.identity(values))
    return strategy.reduce(tf.distribute.ReduceOp.SUM, everywhere, axis=None)


@contextlib.contextmanager
def naming_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Around training, says in this process that another one has ended.

    Raises:
        ConnectionError: instead of what TensorFlow raises.
    """
    try:
        yield
    except WORKER_LOST as error:
        if num_workers(strategy) == 1:
            raise
        raise ConnectionError(
            "Expected every worker to train to the end. Received: "
            f"{error.message.strip()}\nStart all of them again with the same command: "
            "they go on from the last checkpoint."
        ) from error


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Returns once every worker has come here: whoever left earlier would end all."""
    any_worker(strategy, False)


def fit(
    model: keras.Model,
    batches: Batches,
    *,
    steps_per_epoch: int,
    epochs: int = 1,
    initial_epoch: int = 0,
    validation_data: Batches | None = None,
    validation_steps: int | None = None,
    validation_freq: int | Sequence[int] = 1,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = "auto",
) -> keras.callbacks.History:
    """`model.fit`, under every strategy that the model was made in.

    Args:
        model: compiled.
        batches: see `distribute`. In Keras 3 under `MultiWorkerMirroredStrategy`, at
            least of all steps that are asked for.
        steps_per_epoch: number of steps of an epoch.
        epochs: the epoch to end with, counted from 1.
        initial_epoch: the epoch to begin with, counted from 0.
        validation_data: see `to_every_replica`.
        validation_steps: number of its batches, each time from the first; several
            workers need it, whose validation data have no end.
        validation_freq: how many epochs from one validation to the next, or after which
            epochs, counted from 1.
        callbacks: as Keras'. Each process calls its own; those that write files belong
            to the chief (`is_chief`).
        verbose: as in Keras.

    Returns:
        What `model.fit` returns.

    Raises:
        ValueError: for the validation data of several workers without their number.
    """
    is_alone = num_workers(model.distribute_strategy) == 1
    if validation_data is not None:
        if validation_steps is None and not is_alone:
            raise ValueError(
                "Expected `validation_steps` with the validation data of several "
                "workers, which have no end. Received: None"
            )
        if validation_steps is not None and is_alone:
            # With the number itself, Keras goes on where it was the last time.
            validation_data = validation_data.take(validation_steps)
            validation_steps = None
    if not is_alone and compat.KERAS_3:
        fit_model = _fit_workers
    else:
        # The pipeline's order is the order.
        fit_model = functools.partial(keras.Model.fit, shuffle=False)
    history: keras.callbacks.History = fit_model(
        model,
        batches,
        steps_per_epoch=steps_per_epoch,
        epochs=epochs,
        initial_epoch=initial_epoch,
        validation_data=validation_data,
        validation_steps=validation_steps,
        validation_freq=validation_freq,
        callbacks=list(callbacks),
        verbose=verbose,
    )
    return history


def _fit_workers(
    model: keras.Model,
    batches: Batches,
    *,
    steps_per_epoch: int,
    epochs: int,
    initial_epoch: int,
    validation_data: Batches | None,
    validation_steps: int | None,
    validation_freq: int | Sequence[int],
    callbacks: list[keras.callbacks.Callback],
    verbose: int | str,
) -> keras.callbacks.History:
    """The loop of `fit` around Keras 3's own `train_step` and `test_step`."""
    strategy = model.distribute_strategy
    train_step = _on_replicas(strategy, model.train_step)
    test_step = _on_replicas(strategy, model.test_step)
    first = tf.nest.map_structure(
        lambda part: strategy.experimental_local_results(part)[0], next(iter(batches))
    )
    compat.build_metrics(model, first)
    iterator = iter(batches)
    history = keras.callbacks.History()
    called = keras.callbacks.CallbackList(
        [*callbacks, history],
        add_progbar=verbose != 0,
        verbose=1 if verbose == "auto" else verbose,
        epochs=epochs,
        steps=steps_per_epoch,
        model=model,
    )
    model.stop_training = False
    called.on_train_begin()
    logs: dict[str, Any] = {}
    for epoch in range(initial_epoch, epochs):
        model.reset_metrics()
        called.on_epoch_begin(epoch)
        for step in range(steps_per_epoch):
            called.on_train_batch_begin(step)
            called.on_train_batch_end(step, _numbers(train_step(next(iterator))))
            if model.stop_training:
                break
        logs = _numbers(model.get_metrics_result())
        if validation_data is not None and _validates(epoch, validation_freq):
            model.reset_metrics()
            called.on_test_begin()
            judged = iter(validation_data)
            for step in range(validation_steps or 0):
                called.on_test_batch_begin(step)
                called.on_test_batch_end(step, _numbers(test_step(next(judged))))
            found = _numbers(model.get_metrics_result())
            called.on_test_end(found)
            logs |= {f"val_{name}": value for name, value in found.items()}
        called.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    if epochs > 0:
        # Of an optimizer that averages: the averages.
        model.optimizer.finalize_variable_values(model.trainable_weights)
    called.on_train_end(logs)
    return history


def _on_replicas(
    strategy: tf.distribute.Strategy, step: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """A step as a graph that every replica runs; its results are their means."""

    @tf.function(reduce_retracing=True)
    def everywhere(batch: Any) -> Any:
        results = strategy.run(step, args=(batch,))
        return tf.nest.map_structure(
            lambda value: strategy.reduce(
                tf.distribute.ReduceOp.MEAN, tf.cast(value, tf.float32), axis=None
            ),
            results,
        )

    return everywhere


def _numbers(logs: dict[str, Any]) -> dict[str, Any]:
    return {name: float(value) for name, value in logs.items()}


def _validates(epoch: int, frequency: int | Sequence[int]) -> bool:
    if isinstance(frequency, int):
        return (epoch + 1) % frequency == 0
    return epoch + 1 in frequency


def _batch_size(batches: tf.data.Dataset) -> int:
    return int(tf.nest.flatten(batches.element_spec)[0].shape[0])
