"""A `Source` of image files and their label files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_levelset.checks import expect
from tf_levelset.constants import IGNORE_CLASS
from tf_levelset.datasets.files.faults import (
    Fault,
    Inspection,
    error_of,
    inspect_all,
    message_of,
    missing_files,
)
from tf_levelset.datasets.files.images import common_size, read_image
from tf_levelset.datasets.files.labels import (
    ClassReader,
    LabelReader,
    read_index_labels,
)
from tf_levelset.datasets.pipeline import Source

Paths = Sequence[str | os.PathLike[str]]


def paired_files_source(
    name: str,
    image_paths: Paths,
    label_paths: Paths | None,
    class_names: Sequence[str],
    palette: np.ndarray | Sequence[Sequence[int]],
    *,
    sample_names: Sequence[str] | None = None,
    label_ids: Mapping[int, int] | None = None,
    read_labels: LabelReader = read_index_labels,
    faults: Sequence[Fault] = (),
) -> Source:
    """Returns a source of image files and their label files.

    Args:
        name: The source's name, such as `"camvid/train"`.
        image_paths: N image files, see `read_image`.
        label_paths: N label files in the same order, each of the size of its image; or
            None for a test split whose labels are withheld.
        class_names: The C names.
        palette: The colours of the classes, (C, 3), RGB in [0, 255].
        sample_names: The N names; the stems of the image files by default.
        label_ids: The class in [0, C), or void, 255, that each id in the label files
            means. By default ids are classes and 255 is void. Any other id is an error
            when its file is read.
        read_labels: Reads the label file at a path into an integer array (H, W).
        faults: Faults that the caller has found already, reported with all others.

    Returns:
        A `Source`, with `has_labels=False` if `label_paths` is None. Reading a sample
        whose label file has a wrong size or unknown ids raises an error that names the
        file: `tf.errors.InvalidArgumentError` from a dataset, `ValueError` eagerly.

    Raises:
        DataSetError: If files are missing or the header of one cannot be read. All
            files are then read and all faults listed; if a file is missing, the error
            is a `FileNotFoundError` too.
        ValueError: If there are no files, or not as many label files as images.
    """
    images = [os.fspath(path) for path in image_paths]
    labels = None if label_paths is None else [os.fspath(path) for path in label_paths]
    count, label_count = len(images), len(images if labels is None else labels)
    as_many = f"{count} label files, as many as images, in {name!r}"
    expect(label_count == count, as_many, label_count)
    if not images and faults:
        raise error_of(name, faults)
    expect(count >= 1, f"{name!r} to have at least 1 image", count)
    reader = ClassReader(read_labels, label_ids, len(class_names))
    inspect = _inspector(images, labels, reader, len(class_names))
    files = (*images, *(labels or ()))
    faults = [*faults, *missing_files(files)]
    return Source(
        name=name,
        class_names=tuple(class_names),
        palette=palette,
        num_samples=len(images),
        load=_loader(images, labels, reader),
        sample_names=tuple(sample_names or (Path(path).stem for path in images)),
        image_size=_size_of_sound(name, images, inspect, faults),
        has_labels=labels is not None,
        inspect=inspect,
        files=files,
    )


def _loader(
    images: Sequence[str], labels: Sequence[str] | None, reader: ClassReader
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns the function that loads a sample by its index."""
    table = tf.constant([os.fsencode(path) for path in images])

    def read_classes(index: np.ndarray, shape: np.ndarray) -> np.ndarray:
        if labels is None:
            return np.full(shape[:2], IGNORE_CLASS, np.uint8)
        image_path, path = images[int(index)], labels[int(index)]
        ids = reader.ids(path)
        size = tuple(np.asarray(shape)[:2].tolist())
        if ids.shape != size:
            raise ValueError(
                f"Expected labels of the size of their image, {size} in {image_path}. "
                f"Received: {ids.shape} in {path}"
            )
        return reader.classes(ids, path)

    def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = read_image(table[index])
        # Not stateful, since it is a function of the files: under op determinism
        # TensorFlow would run a stateful function on a single thread.
        classes = tf.numpy_function(
            read_classes, [index, tf.shape(image)], tf.uint8, stateful=False
        )
        return image, tf.ensure_shape(classes, (None, None))

    return load


def _inspector(
    images: Sequence[str],
    labels: Sequence[str] | None,
    reader: ClassReader,
    num_classes: int,
) -> Callable[[int], Inspection]:
    """Returns the function that reads a sample's files and reports their faults.

    Missing files are reported once, by `missing_files`, and not here.
    """

    def inspect(index: int) -> Inspection:
        size, faults = _inspected_size(images[index])
        pixels, void = np.zeros(num_classes, np.int64), 0
        if labels is None or not os.path.isfile(labels[index]):
            return Inspection(tuple(faults), pixels)
        path = labels[index]
        try:
            ids = reader.ids(path)
            if size not in (None, ids.shape):
                message = f"Expected labels of its image's size, {size}. Received: "
                faults.append(Fault(path, f"{message}{ids.shape}"))
            classes = reader.classes(ids, path)
            counts = np.bincount(classes.ravel(), minlength=IGNORE_CLASS + 1)
            pixels, void = counts[:num_classes], int(counts[IGNORE_CLASS])
        except ValueError as error:
            faults.append(Fault(path, message_of(error, path)))
        return Inspection(tuple(faults), pixels, void)

    return inspect


def _inspected_size(path: str) -> tuple[tuple[int, int] | None, list[Fault]]:
    """Returns an image's (height, width), or None and why it cannot be read."""
    if not os.path.isfile(path):
        return None, []
    try:
        height, width, _ = read_image(tf.constant(os.fsencode(path))).shape
    except Exception as error:
        return None, [Fault(path, message_of(error, path))]
    return (height, width), []


def _size_of_sound(
    name: str,
    images: Sequence[str],
    inspect: Callable[[int], Inspection],
    faults: Sequence[Fault],
) -> tuple[int, int] | None:
    """Returns the (height, width) that all images share, or None.

    Raises:
        DataSetError: If there are faults or a header cannot be read; all files are then
            read, and all their faults are listed too.
    """
    if not faults:
        # For a file that is no image, Pillow raises errors of any type.
        with contextlib.suppress(Exception):
            return common_size(images)
    inspections = inspect_all(inspect, len(images))
    faults = [*faults, *(fault for found in inspections for fault in found.faults)]
    if faults:
        raise error_of(name, faults)
    # Pillow refused a file that TensorFlow, which will read it, accepts.
    sizes = {_inspected_size(path)[0] for path in images}
    return sizes.pop() if len(sizes) == 1 else None
