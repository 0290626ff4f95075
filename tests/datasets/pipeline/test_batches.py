from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from noise_source import noise_source

from tf_levelset.datasets.augmentation import Augmentation
from tf_levelset.datasets.pipeline import (
    Source,
    batch_names,
    evaluation_dataset,
    image_dataset,
    sample_index,
    training_dataset,
)

Batches = list[tuple[np.ndarray, np.ndarray]]

EVERYTHING = Augmentation(
    resize=(20, 24), scale=(0.5, 1.5), crop=(17, 17), flip=True, photometric=True
)


def batches(source: Source | None = None, **options: Any) -> Batches:
    options = {"batch_size": 3, "seed": 5, "num_steps": 9, **options}
    dataset = training_dataset(source or noise_source(), **options)
    return list(dataset.as_numpy_iterator())


def ids(run: Batches) -> list[int]:
    """The indices of the samples, which are stored in the first pixel."""
    return [int(i) for images, _ in run for i in images[:, 0, 0, 0]]


def assert_same(left: Batches, right: Batches) -> None:
    assert len(left) == len(right)
    for (images, labels), (other_images, other_labels) in zip(left, right, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


class TestOrder:
    def test_every_epoch_shows_each_sample_once(self) -> None:
        # 5 samples in batches of 3: batches span epochs.
        epochs = np.reshape(ids(batches(num_steps=10)), (6, 5))
        np.testing.assert_array_equal(np.sort(epochs, axis=1), [[0, 1, 2, 3, 4]] * 6)
        assert len({tuple(epoch) for epoch in epochs}) > 3

    def test_depends_on_the_seed(self) -> None:
        orders = {
            tuple(int(sample_index(i, seed, 20)) for i in range(20))
            for seed in (0, 1, 2**32, 2**63 - 1)
        }
        assert len(orders) == 4

    @settings(deadline=None, max_examples=30)
    @given(
        num_samples=st.integers(1, 60),
        seed=st.integers(0, 2**63 - 1),
        epoch=st.integers(0, 10**9),
    )
    def test_is_a_permutation(self, num_samples: int, seed: int, epoch: int) -> None:
        places = range(epoch * num_samples, (epoch + 1) * num_samples)
        order = [int(sample_index(i, seed, num_samples)) for i in places]
        assert sorted(order) == list(range(num_samples))


@pytest.mark.parametrize("num_workers", [1, 3])
def test_the_names_of_a_batch_are_those_of_its_samples(num_workers: int) -> None:
    # 5 samples in batches of 3: the batch of step 1 spans two epochs.
    source = noise_source()
    for step in (1, 17):
        options: dict[str, Any] = {"start_step": step, "num_steps": 1}
        options["num_workers"] = num_workers
        shown = [ids(batches(worker=w, **options)) for w in range(num_workers)]
        order = tuple(f"s{i}" for i in np.transpose(shown).ravel())
        assert batch_names(source, step, batch_size=3, seed=5) == order


class TestResuming:
    @pytest.mark.parametrize("step", [1, 7])
    def test_is_starting_at_that_step(self, step: int) -> None:
        whole = batches(augmentation=EVERYTHING)
        rest = batches(augmentation=EVERYTHING, start_step=step, num_steps=9 - step)
        assert_same(whole[step:], rest)

    def test_without_num_steps_there_is_no_end(self) -> None:
        options: dict[str, Any] = {"batch_size": 2, "seed": 0, "start_step": 3}
        endless = training_dataset(noise_source(), **options)
        assert int(endless.cardinality()) == tf.data.INFINITE_CARDINALITY
        first = list(itertools.islice(endless.as_numpy_iterator(), 4))
        assert_same(first, batches(num_steps=4, **options))

    def test_a_sample_is_augmented_anew_in_every_epoch(self) -> None:
        augmentation = Augmentation(crop=(8, 8))
        run = batches(noise_source(1), batch_size=1, augmentation=augmentation)
        assert len({images.tobytes() for images, _ in run}) > 5


def test_the_union_of_the_workers_is_the_global_batch() -> None:
    options: dict[str, Any] = {
        "batch_size": 6,
        "augmentation": EVERYTHING,
        "start_step": 2,
        "num_steps": 3,
    }
    whole = batches(**options)
    shares = [batches(num_workers=3, worker=worker, **options) for worker in range(3)]
    for step in range(3):
        for part in (0, 1):  # images, labels
            stacked = np.stack([share[step][part] for share in shares], axis=1)
            together = stacked.reshape(6, *stacked.shape[2:])
            np.testing.assert_array_equal(together, whole[step][part])


class TestBatches:
    def test_shapes_dtypes_and_ranges(self) -> None:
        dataset = training_dataset(
            noise_source(), batch_size=4, seed=0, augmentation=EVERYTHING
        )
        assert dataset.element_spec == (
            tf.TensorSpec((4, 17, 17, 3), tf.float32),
            tf.TensorSpec((4, 17, 17), tf.int32),
        )
        for images, labels in dataset.take(5).as_numpy_iterator():
            assert images.min() >= 0
            assert images.max() <= 255
            assert set(np.unique(labels)) <= {0, 1, 2, 3, 255}

    def test_without_augmentation_samples_stay_as_they_are(self) -> None:
        source = noise_source()
        ((images, labels),) = batches(source, batch_size=5, num_steps=1)
        for image, label, i in zip(images, labels, images[:, 0, 0, 0], strict=True):
            expected_image, expected_labels = source.load(int(i))
            np.testing.assert_array_equal(image, expected_image)
            np.testing.assert_array_equal(label, expected_labels)


class TestLabelStride:
    def test_takes_the_labels_that_the_outputs_lie_on(self) -> None:
        # 33 pixels and 5 outputs, corner to corner: output k lies on pixel 8k.
        rows, columns = np.mgrid[:33, :33].astype(np.uint8)
        labels = tf.constant(rows + 33 * (columns // 8))
        source = Source(
            name="ramp",
            class_names=("a",),
            palette=[(0, 0, 0)],
            num_samples=1,
            load=lambda _: (tf.zeros((33, 33, 3), tf.uint8), labels),
            sample_names=("s",),
            image_size=(33, 33),
        )
        ((_, strided),) = batches(source, batch_size=1, label_stride=8, num_steps=1)
        points = np.linspace(0, 32, 5).astype(int)
        expected = labels.numpy()[np.ix_(points, points)]
        np.testing.assert_array_equal(strided[0], expected)
        assert strided[0, :, 0].tolist() == [0, 8, 16, 24, 32]


def test_evaluation_gives_every_sample_in_order_as_it_is() -> None:
    source = noise_source()
    dataset = evaluation_dataset(source)
    assert int(dataset.cardinality()) == 5
    for index, (image, labels) in enumerate(dataset):
        assert (image.dtype, labels.dtype) == (tf.uint8, tf.int32)
        expected_image, expected_labels = source.load(index)
        np.testing.assert_array_equal(image, expected_image)
        np.testing.assert_array_equal(labels, expected_labels)


def test_images_need_no_labels() -> None:
    expected = [image for image, _ in evaluation_dataset(noise_source())]
    for has_labels in (True, False):
        source = replace(noise_source(), has_labels=has_labels)
        images = list(image_dataset(source))
        assert [image.dtype for image in images] == [tf.uint8] * 5
        np.testing.assert_array_equal(images, expected)
    message = "a source with labels. Received: 'noise'"
    with pytest.raises(ValueError, match=message):
        training_dataset(source, batch_size=2, seed=0)
    with pytest.raises(ValueError, match=message):
        evaluation_dataset(source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "`batch_size` to be at least 1. Received: 0"),
        ({"seed": 2**63}, "`seed`"),
        ({"start_step": -1}, "`start_step`"),
        ({"num_steps": 0}, "`num_steps`"),
        ({"label_stride": 0}, "`label_stride`"),
        ({"num_workers": 0}, "`num_workers`"),
        ({"num_workers": 3, "worker": 3}, r"`worker` to be in \[0, 3\)"),
        ({"num_workers": 2}, "multiple of num_workers=2. Received: 3"),
    ],
)
def test_rejects_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches(**options)


@pytest.mark.parametrize(
    ("augmentation", "image_size"),
    [
        (None, None),
        (Augmentation(resize_scale=0.5), None),
        (Augmentation(resize=(8, 8), scale=(0.5, 2.0)), (16, 20)),
    ],
)
def test_images_of_different_sizes_make_no_batch(
    augmentation: Augmentation | None, image_size: tuple[int, int] | None
) -> None:
    source = noise_source(image_size=image_size)
    with pytest.raises(ValueError, match="images of one size"):
        batches(source, batch_size=2, augmentation=augmentation)
    assert len(batches(source, batch_size=1, augmentation=augmentation)) == 9
