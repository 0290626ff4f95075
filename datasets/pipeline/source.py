"""A data set as a `Source` of samples, each reached by its index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf

from tf_levelset.checks import expect
from tf_levelset.constants import IGNORE_CLASS
from tf_levelset.datasets.files.faults import Inspection


@dataclass(frozen=True, eq=False)
class Source:
    """Images and their labels, each sample reached by its index.

    Args:
        name: The data set and its split, such as `"camvid/train"`.
        class_names: The C names, in the order of the labels.
        palette: The colours that show the classes, (C, 3), RGB in [0, 255].
        num_samples: N, at least 1.
        load: Takes a scalar int64 index in [0, N) and returns the image, uint8
            (H, W, 3) RGB, and its labels, uint8 (H, W), in [0, C) or `ignore_class`.
            It runs inside a TensorFlow graph and always gives the same answer.
        sample_names: The N names of the samples.
        ignore_class: The label of void pixels. Every data set maps its own to 255.
        image_size: The (height, width) that all images share, or None where they
            differ.
        has_labels: False where labels are withheld, as those of test splits are:
            `load` then gives labels that are all void, and only `image_dataset` takes
            the source.
        inspect: Reads the files of the sample at an index and returns everything that
            is wrong with them, without raising; None where there are no files. Several
            threads may call it at a time.
        files: The paths of all files that the source reads.
        stored_classes: By each id or colour in the label files, as text, the name of
            its class; empty where the data set's own format says so.

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
    stored_classes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, names = self.num_samples, len(self.sample_names)
        expect(count >= 1, f"source {self.name!r} to have at least 1 sample", count)
        expected = f"one name for each of the {count} samples of {self.name!r}"
        expect(names == count, expected, names)
        palette = np.array(self.palette, dtype=np.uint8)
        shape = (self.num_classes, 3)
        expected = f"a palette of shape {shape}, one RGB colour for each class"
        expect(palette.shape == shape, f"{expected} of {self.name!r}", palette.shape)
        palette.flags.writeable = False
        object.__setattr__(self, "palette", palette)

    @property
    def num_classes(self) -> int:
        """The number of classes, void not counted."""
        return len(self.class_names)


def subset(source: Source, indices: Sequence[int], name: str | None = None) -> Source:
    """Returns some samples of a source, such as the sequences of one fold.

    Args:
        source: The source to take from.
        indices: Which samples, each in [0, source.num_samples), in their new order.
        name: The new source's name; that of `source` by default.

    Returns:
        A `Source` of `len(indices)` samples.

    Raises:
        ValueError: If `indices` is empty or one is out of range.
    """
    wrong = [i for i in indices if not 0 <= i < source.num_samples]
    expect(not wrong, f"`indices` in [0, {source.num_samples})", wrong[:3])
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
    """Reads all samples once and returns a source that holds them in memory.

    For a small data set, decoding its images is most of the pipeline's work.

    Args:
        source: Samples of one size; they take N × H × W × 4 bytes.

    Returns:
        A `Source` with the same samples.

    Raises:
        ValueError: If the samples differ in size.
    """
    expected = "samples of one size, to hold them in memory"
    expect(source.image_size is not None, expected, source.name)
    indices = tf.data.Dataset.range(source.num_samples)
    samples = indices.map(source.load, num_parallel_calls=tf.data.AUTOTUNE)
    images, labels = next(iter(samples.batch(source.num_samples)))
    return replace(source, load=lambda index: (images[index], labels[index]))
