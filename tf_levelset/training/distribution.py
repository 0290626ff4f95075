"""Training on several replicas, in one process or in several (`tf.distribute`).

A step on R replicas equals the step of one process with the same global batch: each
replica gets its part of the batch, gradients are summed, and losses divide by the
number of valid pixels of the whole batch (`SegmentationLoss`). `fit` does what
`keras.Model.fit` does; Keras 3's own does not run under `MultiWorkerMirroredStrategy`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import expect, reason

Batches = Any
"""A `tf.data.Dataset`, or a distributed dataset."""

WORKER_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
"""The errors that TensorFlow raises in the remaining workers when one has ended."""

# --- Strategies and workers ---


def strategy_named(name: str | None) -> tf.distribute.Strategy:
    """Returns a strategy by its name on the command line.

    Args:
        name: "mirrored" for all GPUs of this machine, "workers" for all processes in
            the environment variable TF_CONFIG, or None for one device. To be called
            before TensorFlow is used for anything else.

    Raises:
        ValueError: If the name is unknown, or TF_CONFIG is not set for "workers".
    """
    if name is None:
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    expect(name == "workers", '"mirrored", "workers" or None', name)
    if not os.environ.get("TF_CONFIG"):
        raise ValueError(
            "Expected the environment variable TF_CONFIG, with the addresses of all "
            "workers and the index of this one. Received: none"
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of processes that train together."""
    resolver = strategy.cluster_resolver
    if resolver is None:
        return 1
    cluster = resolver.cluster_spec()
    jobs = [job for job in ("chief", "worker") if job in cluster.jobs]
    return max(1, sum(cluster.num_tasks(job) for job in jobs))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process is the one that writes files."""
    if num_workers(strategy) == 1:
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().jobs:
        return bool(resolver.task_type == "chief")
    return bool(resolver.task_id == 0)


def replicas_here(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of replicas in this process."""
    return int(strategy.num_replicas_in_sync) // num_workers(strategy)


@contextlib.contextmanager
def naming_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Around training, says in this process that another worker has ended.

    Raises:
        ConnectionError: Instead of TensorFlow's errors.
    """
    try:
        yield
    except WORKER_LOST as error:
        if num_workers(strategy) == 1:
            raise
        raise ConnectionError(
            "Expected every worker to train to the end. Received: "
            f"{reason(error)}\nStart all of them again with the same command: "
            "they resume from the last checkpoint."
        ) from error


# --- Agreement between workers: all of them must ask at the same time ---


def any_worker(strategy: tf.distribute.Strategy, *flags: bool) -> tuple[bool, ...]:
    """Returns for each flag whether it is set in any worker."""
    if num_workers(strategy) == 1:
        return flags
    sums = sum_over_replicas(strategy, tf.constant(flags, tf.float32))
    return tuple((sums > 0).numpy().tolist())


def all_the_same(strategy: tf.distribute.Strategy, number: int) -> bool:
    """Returns whether every worker has the same number."""
    if num_workers(strategy) == 1:
        return True
    total = int(sum_over_replicas(strategy, tf.constant(number, tf.int64)))
    (differs,) = any_worker(strategy, total != number * strategy.num_replicas_in_sync)
    return not differs


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Waits for every worker, because one that ends earlier would end the others."""
    any_worker(strategy, False)


@tf.function
def sum_over_replicas(strategy: tf.distribute.Strategy, values: tf.Tensor) -> tf.Tensor:
    """Returns the sum of a tensor over all replicas of all workers."""
    everywhere = strategy.run(lambda: tf.identity(values))
    return strategy.reduce(tf.distribute.ReduceOp.SUM, everywhere, axis=None)


# --- Data ---


def check_batch_size(batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Raises `ValueError` if the replicas cannot share a batch evenly."""
    replicas = strategy.num_replicas_in_sync
    expected = f"a batch size that {replicas} replicas share evenly"
    expect(batch_size % replicas == 0, expected, batch_size)


def distribute(
    strategy: tf.distribute.Strategy,
    batches: Callable[[int, int], tf.data.Dataset],
) -> Batches:
    """Returns batches for `fit`, of which each worker makes its own part.

    Args:
        strategy: The strategy of training.
        batches: A function from the number of workers and the index of a worker to its
            parts of the batches, all of one size; for example `training_dataset` with
            its other arguments fixed.

    Returns:
        A dataset of global batches, which Keras splits, or of the parts of this worker.
    """
    if num_workers(strategy) == 1:
        return batches(1, 0)
    replicas = replicas_here(strategy)

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        mine = batches(context.num_input_pipelines, context.input_pipeline_id)
        if replicas == 1:
            return mine
        size = int(tf.nest.flatten(mine.element_spec)[0].shape[0])
        return mine.unbatch().batch(size // replicas, drop_remainder=True)

    return strategy.distribute_datasets_from_function(of_worker)


def to_every_replica(
    strategy: tf.distribute.Strategy, images: tf.data.Dataset
) -> Batches:
    """Returns batches of one image, the same for every replica.

    Metrics over any number of images are thereby those of one process.

    Args:
        strategy: The strategy of training.
        images: Samples that are not batched. With several workers they are repeated
            without end.
    """
    replicas = replicas_here(strategy)
    copies = images.flat_map(
        lambda *sample: tf.data.Dataset.from_tensors(sample).repeat(replicas)
    )
    if num_workers(strategy) == 1:
        # Keras warns at the end of data of unknown size.
        size = images.cardinality() * replicas
        copies = copies.apply(tf.data.experimental.assert_cardinality(size))
        return copies.batch(replicas).prefetch(2)
    return strategy.distribute_datasets_from_function(
        lambda _: copies.batch(1).repeat().prefetch(2)
    )


# --- Training ---


def fit(
    model: keras.Model,
    batches: Batches,
    *,
    validation_data: Batches | None = None,
    validation_steps: int | None = None,
    **options: Any,
) -> keras.callbacks.History:
    """Does what `model.fit` does, under every strategy that the model was made in.

    Args:
        model: A compiled model.
        batches: See `distribute`. With Keras 3 under `MultiWorkerMirroredStrategy`,
            there must be as many batches as steps.
        validation_data: See `to_every_replica`.
        validation_steps: Number of validation batches, from the first one each time.
            Required with several workers, whose validation data have no end.
        **options: `steps_per_epoch`, and optionally `epochs`, `initial_epoch`,
            `validation_freq`, `callbacks` and `verbose`, as in `keras.Model.fit`. Each
            process calls its own callbacks; those that write files are for the chief
            only (`is_chief`).

    Returns:
        The history, as `model.fit` returns it.

    Raises:
        ValueError: If `validation_steps` is missing with several workers.
    """
    is_alone = num_workers(model.distribute_strategy) == 1
    if validation_data is not None:
        if validation_steps is None and not is_alone:
            raise ValueError(
                "Expected `validation_steps` with the validation data of several "
                "workers, which have no end. Received: None"
            )
        if validation_steps is not None and is_alone:
            # Given the number, Keras would go on where the last validation ended.
            validation_data = validation_data.take(validation_steps)
            validation_steps = None
    options |= {"validation_data": validation_data}
    options |= {"validation_steps": validation_steps}
    if compat.KERAS_3 and not is_alone:
        return fit_on_workers(model, batches, **options)
    # The order of the batches is that of the pipeline.
    return keras.Model.fit(model, batches, shuffle=False, **options)


def fit_on_workers(
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
    """The loop of `fit`, around Keras 3's own `train_step` and `test_step`."""
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
        # Keras averages the weights now, if the optimizer has `use_ema`.
        model.optimizer.finalize_variable_values(model.trainable_weights)
    called.on_train_end(logs)
    return history


def _on_replicas(
    strategy: tf.distribute.Strategy, step: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """Returns a step as a graph that every replica runs, and that returns the means."""

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
