from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow as tf
from made_up_files import samples

from tf_levelset.datasets.pipeline import Source
from tf_levelset.datasets.synthetic import (
    CLASSES,
    draw_scene,
    object_classes,
    synthetic,
)

Scene = tuple[np.ndarray, np.ndarray]


def scenes(source: Source) -> list[Scene]:
    return list(samples(source).values())


@pytest.fixture(scope="module")
def many() -> list[Scene]:
    return scenes(synthetic(num_samples=150))


def test_describes_itself() -> None:
    assert synthetic().num_samples == 1000
    assert synthetic("val").num_samples == 200
    source = synthetic("val", num_samples=3, size=(48, 64))
    assert source.name == "synthetic/val"
    assert source.class_names == tuple(CLASSES)
    np.testing.assert_array_equal(source.palette, list(CLASSES.values()))
    assert source.image_size == (48, 64)
    image, labels = source.load(tf.constant(2, tf.int64))
    assert (image.dtype, labels.dtype) == (tf.uint8, tf.uint8)
    assert (image.shape, labels.shape) == ((48, 64, 3), (48, 64))


def test_a_scene_is_always_the_same() -> None:
    few = scenes(synthetic(num_samples=3))
    more = scenes(synthetic(num_samples=6, num_classes=8))
    for (image, labels), (other_image, other_labels) in zip(few, more[:3], strict=True):
        np.testing.assert_array_equal(image, other_image)
        np.testing.assert_array_equal(labels, other_labels)


def test_splits_and_seeds_share_no_scene() -> None:
    sources = [
        synthetic(split, num_samples=5, seed=seed, size=(32, 40))
        for split in ("train", "val")
        for seed in (0, 1)
    ]
    images = {image.tobytes() for source in sources for image, _ in scenes(source)}
    assert len(images) == 20


def test_every_class_occurs_often(many: list[Scene]) -> None:
    labels = np.stack([labels for _, labels in many])
    assert labels.max() == 7
    shares = np.bincount(labels.ravel(), minlength=8) / labels.size
    present = [np.mean([(scene == c).any() for scene in labels]) for c in range(8)]
    assert shares.min() > 0.005
    assert 0.6 < shares[0] < 0.85
    assert min(present) > 0.5


@pytest.mark.parametrize(("name", "width"), [("pole", 5), ("dots", 9), ("fence", 5)])
def test_thin_classes_are_thin(many: list[Scene], name: str, width: int) -> None:
    # Erosion by a square wider than the strokes leaves only the places where several
    # of them cross or touch.
    label = list(CLASSES).index(name)
    before = after = 0
    for _, labels in many:
        mask = (labels == label).astype(np.uint8)
        before += int(mask.sum())
        after += int(cv2.erode(mask, np.ones((width, width), np.uint8)).sum())
    assert after < 0.02 * before


@pytest.mark.parametrize("size", [(32, 32), (33, 80)])
def test_small_sizes_draw_too(size: tuple[int, int]) -> None:
    for seed in range(60):
        image, labels = draw_scene(np.random.default_rng(seed), size)
        assert image.shape == (*size, 3)
        assert labels.max() <= 7


@pytest.mark.parametrize(
    ("seed", "classes"),
    [(0, [3, 2, 4, 2, 1, 4, 1, 7]), ((0, 0, 1), [2, 1, 2, 4, 5, 3, 4, 7])],
)
def test_the_default_scenes_stay_what_they_were(
    seed: int | tuple[int, ...], classes: list[int]
) -> None:
    # Recorded when there were eight classes only. Pixels may depend on the versions of
    # NumPy and OpenCV; these few draws come first.
    assert object_classes(np.random.default_rng(seed), 8) == classes


@pytest.mark.parametrize("num_classes", [2, 11, 255])
def test_all_classes_occur_and_no_others(num_classes: int) -> None:
    # A scene has some eight objects, so that every class is drawn in 800 scenes.
    rng = np.random.default_rng(0)
    drawn = [object_classes(rng, num_classes) for _ in range(800)]
    assert {c for classes in drawn for c in classes} == set(range(1, num_classes))
    source = synthetic(num_samples=4, size=(32, 40), num_classes=num_classes)
    assert source.num_classes == num_classes
    assert len(set(source.class_names)) == num_classes
    assert len(np.unique(source.palette, axis=0)) == num_classes
    labels = np.stack([labels for _, labels in scenes(source)])
    assert 0 < labels.max() < num_classes
    assert labels.min() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "`split` to be one of"),
        ({"size": (31, 64)}, "at least 32 each"),
        ({"seed": -1}, "`seed` to be at least 0"),
        ({"num_samples": 0}, "at least 1 sample"),
        ({"num_classes": 1}, r"`num_classes` in \[2, 255\]. Received: 1"),
        ({"num_classes": 256}, r"`num_classes` in \[2, 255\]. Received: 256"),
    ],
)
def test_rejects(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic(**options)
