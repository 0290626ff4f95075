"""Small files of data sets, and what sources read from them, for tests."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_levelset.datasets import Source, evaluation_dataset


def real_data() -> Path:
    """The folder of real data sets; without it the test is skipped."""
    root = os.environ.get("TF_LEVELSET_DATA")
    if root is None:
        pytest.skip("needs data: set TF_LEVELSET_DATA to the folder that holds it")
    return Path(root)


def save(path: Path, pixels: np.ndarray) -> Path:
    """Writes an image file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes a text file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def samples(source: Source) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every image and its labels, by the name of the sample."""
    pairs = evaluation_dataset(source).as_numpy_iterator()
    return dict(zip(source.sample_names, pairs, strict=True))


def assert_raises(source: Source, index: int, message: str) -> None:
    """A bad sample raises one error from a dataset, and another one eagerly."""
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        list(evaluation_dataset(source))
    with pytest.raises(ValueError, match=message):
        source.load(tf.constant(index, tf.int64))


def assert_unlabelled(source: Source) -> None:
    """The labels of a test split are void, and it is not for evaluation."""
    assert not source.has_labels
    for index in range(source.num_samples):
        image, labels = source.load(tf.constant(index, tf.int64))
        assert labels.dtype == tf.uint8
        np.testing.assert_array_equal(labels, np.full(image.shape[:2], 255))
    with pytest.raises(ValueError, match=rf"with labels\. Received: '{source.name}'"):
        evaluation_dataset(source)
