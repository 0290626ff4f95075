from __future__ import annotations

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_levelset.constants import IMAGENET_MEAN_RGB
from tf_levelset.datasets.augmentation import Augmentation, output_size
from tf_levelset.datasets.pipeline import augment, sample_window

SIDES = st.integers(1, 40)
SIZES = st.tuples(SIDES, SIDES)
MEAN = np.array(IMAGENET_MEAN_RGB, np.float32)
JITTER = Augmentation(photometric=True)
LUMINANCE = np.array([0.299, 0.587, 0.114])


def seed_of(value: int) -> tf.Tensor:
    return tf.constant([7, value], tf.int64)


def noise(height: int, width: int, seed: int = 0) -> tuple[tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    labels = rng.choice(np.array([0, 2, 9, 255], np.uint8), (height, width))
    return tf.constant(image), tf.constant(labels)


def jittered(pixels: np.ndarray, seed: int) -> np.ndarray:
    labels = tf.zeros(pixels.shape[:2], tf.uint8)
    image, same = augment(tf.constant(pixels), labels, seed_of(seed), JITTER)
    np.testing.assert_array_equal(same, labels)
    return image.numpy()


def expected_sample(
    image: np.ndarray, labels: np.ndarray, seed: tf.Tensor, augmentation: Augmentation
) -> tuple[np.ndarray, np.ndarray]:
    """One step after the other: resize, crop, mirror and pad the whole arrays."""
    draws = sample_window(labels.shape, seed, augmentation)
    size, (top, left), (height, width), flip = (d.numpy().tolist() for d in draws[:4])
    image = tf.image.resize(image, size, antialias=True).numpy()
    rows, columns = (
        [int((i + 0.5) * old / new) for i in range(new)]
        for old, new in zip(labels.shape, size, strict=True)
    )
    labels = labels[np.ix_(rows, columns)]
    image = image[top : top + height, left : left + width]
    labels = labels[top : top + height, left : left + width]
    if flip:
        image, labels = image[:, ::-1], labels[:, ::-1]
    crop = augmentation.crop or (height, width)
    padded = np.tile(MEAN, (*crop, 1))
    padded[:height, :width] = image
    void = np.full(crop, 255, labels.dtype)
    void[:height, :width] = labels
    return padded, void


@settings(deadline=None, max_examples=60)
@given(
    old=SIZES,
    resize=st.none() | SIZES,
    resize_scale=st.none() | st.floats(0.01, 3),
    scale=st.none() | st.just((0.5, 2.0)),
    crop=st.none() | SIZES,
    flip=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_is_its_steps_one_after_the_other(
    old: tuple[int, int],
    resize: tuple[int, int] | None,
    resize_scale: float | None,
    scale: tuple[float, float] | None,
    crop: tuple[int, int] | None,
    flip: bool,
    seed: int,
) -> None:
    resize_scale = None if resize else resize_scale
    augmentation = Augmentation(resize, resize_scale, scale, crop, flip)
    image, labels = noise(*old, seed=seed)
    new_image, new_labels = augment(image, labels, seed_of(seed), augmentation)
    expected_image, expected_labels = expected_sample(
        image.numpy(), labels.numpy(), seed_of(seed), augmentation
    )
    assert (new_image.dtype, new_labels.dtype) == (tf.float32, labels.dtype)
    np.testing.assert_array_equal(new_labels, expected_labels)
    np.testing.assert_allclose(new_image, expected_image, atol=1.02)
    assert output_size(augmentation, old) in (None, new_labels.shape)

    # The jitter changes no label, and no colour of the padding.
    photometric = Augmentation(resize, resize_scale, scale, crop, flip, True)
    new_image, new_labels = augment(image, labels, seed_of(seed), photometric)
    np.testing.assert_array_equal(new_labels, expected_labels)
    height, width = sample_window(old, seed_of(seed), augmentation)[2].numpy()
    assert np.all(new_image[height:] == MEAN)
    assert np.all(new_image[:, width:] == MEAN)


class TestDraws:
    def test_every_place_of_a_crop_is_reached(self) -> None:
        augmentation = Augmentation(crop=(7, 8))
        starts = set()
        for value in range(200):
            _, start, window, _, _ = sample_window(
                (9, 11), seed_of(value), augmentation
            )
            assert window.numpy().tolist() == [7, 8]
            starts.add(tuple(start.numpy().tolist()))
        assert starts == {(row, column) for row in range(3) for column in range(4)}

    def test_half_of_the_samples_are_mirrored(self) -> None:
        augmentation = Augmentation(flip=True)
        flips = [
            bool(sample_window((3, 4), seed_of(value), augmentation)[3])
            for value in range(200)
        ]
        assert 70 < sum(flips) < 130

    def test_random_scale_covers_its_range(self) -> None:
        augmentation = Augmentation(resize=(100, 10), scale=(0.5, 1.5))
        heights = [
            int(sample_window((7, 7), seed_of(value), augmentation)[0][0])
            for value in range(60)
        ]
        assert 50 <= min(heights) < 60
        assert 140 < max(heights) <= 150


class TestPhotometric:
    def test_changes_luminance_by_brightness_and_contrast_alone(self) -> None:
        # Hue and saturation keep the luminance, and contrast keeps its mean, which
        # brightness shifts. In [90, 160] nothing is clipped.
        rng = np.random.default_rng(0)
        pixels = rng.integers(90, 161, (16, 16, 3), dtype=np.uint8)
        before = pixels @ LUMINANCE
        after = np.stack([jittered(pixels, value) @ LUMINANCE for value in range(100)])
        shifts = after.mean(axis=(1, 2)) - before.mean()
        stretches = after.std(axis=(1, 2)) / before.std()
        assert -24.01 <= shifts.min() < -20
        assert 20 < shifts.max() <= 24.01
        assert 0.799 <= stretches.min() < 0.83
        assert 1.17 < stretches.max() <= 1.201

    def test_changes_saturation_and_hue(self) -> None:
        # On the plane of I and Q, a colour's length and angle vary in their ranges.
        red = np.tile(np.array([130, 100, 100], np.uint8), (2, 2, 1))

        def chrominance(image: np.ndarray) -> complex:
            _, i, q = tf.image.rgb_to_yiq(image.astype(np.float32))[0, 0].numpy()
            return complex(i, q)

        ratios = np.array([chrominance(jittered(red, value)) for value in range(100)])
        ratios /= chrominance(red)
        for values, low, high in (
            (np.abs(ratios), 0.8, 1.2),
            (np.angle(ratios), -0.1, 0.1),
        ):
            margin = 0.1 * (high - low)
            assert low - 1e-3 <= values.min() < low + margin
            assert high - margin < values.max() <= high + 1e-3
