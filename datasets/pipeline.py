"""One input pipeline for every data set: a function of the step, not of state.

Sample i of a run is known from the seed alone: its epoch is i // N, its place in that
epoch's order is a stateless permutation, and its augmentation is seeded by (seed, i).
So a run resumed at step k reads what the unbroken run would have read, workers share
the samples by striding them, and no shuffle buffer holds pictures in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tf_levelset.datasets.augment import (
    Augmentation,
    augment_compactly,
    output_size,
    to_float,
)
from tf_levelset.datasets.faults import Inspection

# Labels of every source use this value for void, whatever its files use.
IGNORE_CLASS = 255

# The two uses of a run's seed: no random number serves both.
_ORDER, _AUGMENTATION = 0, 1


@dataclass(frozen=True, eq=False)
class Source:
    """Pictures and their labels, each reached by its index.

    Args:
        name: The data set and its split, such as `"camvid/train"`.
        class_names: The C names, in the order of the labels.
        palette: The C colours the classes are shown in, (C, 3), RGB in [0, 255].
        num_samples: N, at least 1.
        load: Takes a scalar int64 index in [0, N) and returns the image, uint8
            (H, W, 3) RGB, and its labels, uint8 (H, W), in [0, C) or `ignore_class`.
            It runs inside a TensorFlow graph and gives the same answer every time.
        sample_names: The N names of the samples.
        ignore_class: The label of void pixels: every source maps its own to 255.
        image_size: The (height, width) that all images share, None where they differ.
        has_labels: False for pictures whose labels are withheld, as those of test
            splits are: `load` then gives labels that are all void, and only
            `image_dataset` takes the source.
        inspect: Reads the files of the sample at an index and says all that is wrong
            with them, without raising; None where there are no files. It may be called
            by several threads at a time.
        files: The paths of all files that it reads.

    Raises:
        ValueError: If the source is empty or the lengths do not agree.
    """

    name: str
    class_names: tuple[str, ...]
    palette: np.ndarray | Sequence[Sequence[int]]
    num_samples: int
    load: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    sample_names: tuple[str, ...]
    ignore_class: int = IGNORE_CLASS
    image_size: tuple[int, int] | None = None
    has_labels: bool = True
    inspect: Callable[[int], Inspection] | None = None
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(
                f"Expected source {self.name!r} to have at least 1 sample. "
                f"Received: num_samples={self.num_samples}"
            )
        if len(self.sample_names) != self.num_samples:
            raise ValueError(
                f"Expected one name for each of the {self.num_samples} samples of "
                f"{self.name!r}. Received: {len(self.sample_names)} names"
            )
        palette = np.array(self.palette, dtype=np.uint8)
        if palette.shape != (len(self.class_names), 3):
            raise ValueError(
                f"Expected a palette of shape ({len(self.class_names)}, 3), one RGB "
                f"colour for each class of {self.name!r}. Received: {palette.shape}"
            )
        palette.flags.writeable = False
        object.__setattr__(self, "palette", palette)

    @property
    def num_classes(self) -> int:
        """The number of classes, void not counted."""
        return len(self.class_names)


def subset(source: Source, indices: Sequence[int], name: str | None = None) -> Source:
    """Returns some samples of a source, such as the drives of one fold.

    Args:
        source: The source to take from.
        indices: Which samples, each in [0, source.num_samples), in the new order.
        name: The new source's name; the old one's by default.

    Returns:
        A `Source` of `len(indices)` samples.

    Raises:
        ValueError: If `indices` is empty or one is out of range.
    """
    wrong = [i for i in indices if not 0 <= i < source.num_samples]
    if wrong:
        raise ValueError(
            f"Expected `indices` in [0, {source.num_samples}). Received: {wrong[:3]}"
        )
    table = tf.constant(list(indices), tf.int64)
    inspect = source.inspect
    return replace(
        source,
        name=source.name if name is None else name,
        num_samples=len(indices),
        sample_names=tuple(source.sample_names[i] for i in indices),
        load=lambda index: source.load(table[index]),
        inspect=None if inspect is None else lambda index: inspect(indices[index]),
    )


def in_memory(source: Source) -> Source:
    """Reads all samples once, and returns a source that holds them.

    Decoding pictures is most of a small data set's pipeline.

    Args:
        source: Samples of one size; they take N × H × W × 4 bytes.

    Returns:
        A `Source` with the same samples.

    Raises:
        ValueError: If the samples differ in size.
    """
    if source.image_size is None:
        raise ValueError(
            "Expected samples of one size, to hold them in memory. "
            f"Received: {source.name!r}, whose sizes differ"
        )
    indices = tf.data.Dataset.range(source.num_samples)
    samples = indices.map(source.load, num_parallel_calls=tf.data.AUTOTUNE)
    images, labels = next(iter(samples.batch(source.num_samples)))
    return replace(source, load=lambda index: (images[index], labels[index]))


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

    The batch of a step depends on `seed` and the step only, so that starting at step
    k gives exactly the batches of the unbroken run from its step k on. Every epoch
    shows each sample once, in an order of its own; a batch may span two epochs.

    Args:
        source: Where the samples come from.
        batch_size: The global batch size, over all workers.
        seed: The run's seed, an integer in [0, 2**63).
        augmentation: What to do with each sample; None leaves it as it is.
        start_step: The first step, at least 0.
        num_steps: How many batches to give; None for no end.
        label_stride: The stride of the model's outputs in the image. At stride s the
            labels are `labels[::s, ::s]`: those of the pixels that the outputs stand
            on where they map to the image corner to corner (DeepLab's sizes s·k+1).
        num_workers: How many workers share each global batch; divides `batch_size`.
        worker: Which of them this is, in [0, num_workers). Worker w takes the samples
            w, w + num_workers, … of every global batch.

    Returns:
        A dataset of (images, labels): float32 (B, h, w, 3) in [0, 255] and int32
        (B, ⌈h/s⌉, ⌈w/s⌉), void being `source.ignore_class`, with
        B = batch_size / num_workers.

    Raises:
        ValueError: If an argument is out of range, if the images of a batch would
            differ in size, or if the source has no labels.
    """
    _require_labels(source)
    _require(batch_size >= 1, "`batch_size` to be at least 1", batch_size)
    _require(0 <= seed < 2**63, "`seed` to be in [0, 2**63)", seed)
    _require(start_step >= 0, "`start_step` to be at least 0", start_step)
    _require(
        num_steps is None or num_steps >= 1, "`num_steps` to be at least 1", num_steps
    )
    _require(label_stride >= 1, "`label_stride` to be at least 1", label_stride)
    _require(num_workers >= 1, "`num_workers` to be at least 1", num_workers)
    _require(0 <= worker < num_workers, f"`worker` to be in [0, {num_workers})", worker)
    _require(
        batch_size % num_workers == 0,
        f"`batch_size` to be a multiple of num_workers={num_workers}",
        batch_size,
    )
    augmentation = augmentation or Augmentation()
    size = output_size(augmentation, source.image_size)
    if size is None and batch_size > num_workers:
        raise ValueError(
            f"Expected images of one size, to stack them in batches: set `crop` in the "
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


def batch_names(
    source: Source, step: int, *, batch_size: int, seed: int
) -> tuple[str, ...]:
    """Returns the names of the samples that `training_dataset` gives at a step.

    Args:
        source: As there.
        step: The step, at least 0.
        batch_size: As there.
        seed: As there.

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
    """Returns every sample once, in order, alone and at its original size.

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


def image_dataset(source: Source) -> tf.data.Dataset:
    """Returns every picture once, in order, alone and at its original size.

    Args:
        source: Where the pictures come from; it needs no labels.

    Returns:
        A dataset of `source.num_samples` images, uint8 (H, W, 3).
    """
    return _each_in_order(source, lambda index: source.load(index)[0])


def sample_index(i: tf.Tensor | int, seed: int, num_samples: int) -> tf.Tensor:
    """Returns which sample of the source is sample i of a run.

    Args:
        i: The place in the run, an int64 scalar of at least 0.
        seed: The run's seed.
        num_samples: N, the size of the source.

    Returns:
        An int64 scalar in [0, N). Over i = e·N … e·N + N − 1, epoch e, it takes each
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
        i: The place in the run, an int64 scalar of at least 0.
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
    _require(source.has_labels, "a source with labels", f"{source.name!r}, without any")


def _require(condition: bool, expected: str, received: object) -> None:
    if not condition:
        raise ValueError(f"Expected {expected}. Received: {received}")
