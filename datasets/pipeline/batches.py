"""The batches of a training run, as a function of the step and not of hidden state.

Sample i of a run follows from the seed alone: its epoch is i // N, its place in that
epoch's order is a stateless permutation, and its augmentation is seeded by (seed, i).
A run that is resumed at step k therefore reads what the uninterrupted run would have
read, workers share the samples by striding them, and no shuffle buffer holds images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tf_levelset.checks import expect, plain_options
from tf_levelset.datasets.augmentation import Augmentation, output_size
from tf_levelset.datasets.files.faults import error_of
from tf_levelset.datasets.pipeline.source import Source
from tf_levelset.datasets.pipeline.transform import augment_compactly, to_float

# The two uses of a run's seed, kept apart so that no random number serves both.
_ORDER, _AUGMENTATION = 0, 1


@plain_options
def training_dataset(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    augmentation: Augmentation | None = None,
    start_step: int = 0,
    num_steps: int | None = None,
    label_stride: int = 1,
    num_workers: int = 1,
    worker: int = 0,
) -> tf.data.Dataset:
    """Returns the batches of a training run from `start_step` on.

    The batch of a step depends on `seed` and the step only: starting at step k gives
    exactly the batches of the uninterrupted run from its step k on. Every epoch shows
    each sample once, in an order of its own; a batch may span two epochs.

    Args:
        source: Where the samples come from.
        batch_size: The global batch size, over all workers.
        seed: The run's seed, an integer in [0, 2**63).
        augmentation: The augmentation of each sample; None leaves it unchanged.
        start_step: The first step, at least 0.
        num_steps: The number of batches; None for an endless dataset.
        label_stride: The output stride s of the model. The labels are then
            `labels[::s, ::s]`, those of the pixels that the outputs lie on where the
            corners of output and image coincide (DeepLab's sizes s·k + 1).
        num_workers: How many workers share each global batch; divides `batch_size`.
        worker: The index of this worker, in [0, num_workers). Worker w takes the
            samples w, w + num_workers, … of every global batch.

    Returns:
        A dataset of (images, labels): float32 (B, h, w, 3) in [0, 255] and int32
        (B, ⌈h/s⌉, ⌈w/s⌉), void being `source.ignore_class`, with
        B = batch_size / num_workers.

    Raises:
        ValueError: If an argument is out of range, if the images of a batch would
            differ in size, or if the source has no labels.
    """
    _require_labels(source)
    expect(batch_size >= 1, "`batch_size` to be at least 1", batch_size)
    expect(0 <= seed < 2**63, "`seed` to be in [0, 2**63)", seed)
    expect(start_step >= 0, "`start_step` to be at least 0", start_step)
    has_steps = num_steps is None or num_steps >= 1
    expect(has_steps, "`num_steps` to be at least 1", num_steps)
    expect(label_stride >= 1, "`label_stride` to be at least 1", label_stride)
    expect(num_workers >= 1, "`num_workers` to be at least 1", num_workers)
    expect(0 <= worker < num_workers, f"`worker` to be in [0, {num_workers})", worker)
    multiple = f"`batch_size` to be a multiple of num_workers={num_workers}"
    expect(batch_size % num_workers == 0, multiple, batch_size)
    augmentation = augmentation or Augmentation()
    size = output_size(augmentation, source.image_size)
    if size is None and batch_size > num_workers:
        raise ValueError(
            "Expected images of one size, to stack them in batches: set `crop` in the "
            f"augmentation, or `resize` without `scale`. Received: {augmentation} for "
            f"source {source.name!r} of image_size={source.image_size}"
        )

    def sample(i: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        image, labels = source.load(sample_index(i, seed, source.num_samples))
        image, labels, inside = augment_compactly(
            image, labels, sample_seed(i, seed), augmentation
        )
        if size is not None:
            image = tf.ensure_shape(image, (*size, 3))
            labels = tf.ensure_shape(labels, size)
        return image, labels[::label_stride, ::label_stride], inside

    def finish(
        images: tf.Tensor, labels: tf.Tensor, insides: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return to_float(images, insides), tf.cast(labels, tf.int32)

    first = start_step * batch_size + worker
    if num_steps is None:
        samples = tf.data.Dataset.counter(first, num_workers)
    else:
        stop = (start_step + num_steps) * batch_size
        samples = tf.data.Dataset.range(first, stop, num_workers)
    return (
        samples.map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size // num_workers, drop_remainder=True)
        .map(finish)
        .prefetch(tf.data.AUTOTUNE)
    )


@plain_options
def batch_names(
    source: Source, step: int, *, batch_size: int, seed: int
) -> tuple[str, ...]:
    """Returns the names of the samples that `training_dataset` gives at a step.

    Args:
        source: The source that the batches are made from.
        step: The step, at least 0.
        batch_size: The global batch size.
        seed: The run's seed.

    Returns:
        `batch_size` names, in the batch's order.
    """
    first = step * batch_size
    indices = (
        sample_index(i, seed, source.num_samples)
        for i in range(first, first + batch_size)
    )
    return tuple(source.sample_names[int(index)] for index in indices)


def evaluation_dataset(source: Source) -> tf.data.Dataset:
    """Returns every sample once, in order, one by one at its original size.

    Args:
        source: Where the samples come from.

    Returns:
        A dataset of `source.num_samples` pairs (image, labels): uint8 (H, W, 3) and
        int32 (H, W), void being `source.ignore_class`.

    Raises:
        ValueError: If the source has no labels.
    """
    _require_labels(source)

    def sample(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, labels = source.load(index)
        return image, tf.cast(labels, tf.int32)

    return _each_in_order(source, sample)


def arrays_of(dataset: tf.data.Dataset, source: Source) -> Iterator[Any]:
    """Yields the elements of a dataset as NumPy arrays.

    Args:
        dataset: `evaluation_dataset` or `image_dataset` of the source.
        source: Where the samples come from.

    Raises:
        DataSetError: For a sample whose files cannot be read; it names them.
    """
    elements = dataset.as_numpy_iterator()
    for index in range(source.num_samples):
        try:
            element = next(elements)
        except tf.errors.OpError as error:
            faults = source.inspect(index).faults if source.inspect else ()
            if not faults:
                raise
            raise error_of(source.name, faults) from error
        yield element


def image_dataset(source: Source) -> tf.data.Dataset:
    """Returns every image once, in order, one by one at its original size.

    Args:
        source: Where the images come from; it needs no labels.

    Returns:
        A dataset of `source.num_samples` images, uint8 (H, W, 3).
    """
    return _each_in_order(source, lambda index: source.load(index)[0])


def sample_index(i: tf.Tensor | int, seed: int, num_samples: int) -> tf.Tensor:
    """Returns the index, in the source, of sample i of a run.

    Args:
        i: The sample's place in the run, an int64 scalar of at least 0.
        seed: The run's seed.
        num_samples: N, the size of the source.

    Returns:
        An int64 scalar in [0, N). Over epoch e, i = e·N … e·N + N − 1, it takes each
        value once.
    """
    i = tf.cast(i, tf.int64)
    epoch, position = i // num_samples, i % num_samples
    return tf.random.experimental.index_shuffle(
        position,
        seed=_fold(seed, _ORDER, epoch),
        max_index=tf.constant(num_samples - 1, tf.int64),
    )


def sample_seed(i: tf.Tensor | int, seed: int) -> tf.Tensor:
    """Returns the seed of the augmentation of sample i of a run.

    Args:
        i: The sample's place in the run, an int64 scalar of at least 0.
        seed: The run's seed.

    Returns:
        int64 (2,).
    """
    return _fold(seed, _AUGMENTATION, tf.cast(i, tf.int64))


def _fold(seed: int, use: int, data: tf.Tensor) -> tf.Tensor:
    """Returns the int64 (2,) seed of one epoch or one sample, for one use."""
    base = tf.constant([seed, use], tf.int64)
    return tf.random.experimental.stateless_fold_in(base, data)


def _each_in_order(
    source: Source, sample: Callable[[tf.Tensor], Any]
) -> tf.data.Dataset:
    """Returns a dataset of `sample(index)` for each index of the source."""
    return (
        tf.data.Dataset.range(source.num_samples)
        .map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def _require_labels(source: Source) -> None:
    expect(source.has_labels, "a source with labels", source.name)
