from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_levelset.constants import IMAGENET_MEAN_RGB
from tf_levelset.datasets.augment import (
    Augmentation,
    augment,
    output_size,
    pad,
    random_crop,
    random_flip,
    random_photometric,
    resize,
    resize_image,
    resize_labels,
)

SIDES = st.integers(1, 40)
SIZES = st.tuples(SIDES, SIDES)


def seed_of(value: int) -> tf.Tensor:
    return tf.constant([7, value], tf.int64)


def coordinates(height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """A picture whose channels hold (row, column, label), and its labels.

    Labels number the pixels, 1000·row + column; the third channel is theirs as well.
    """
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    labels = 1000 * rows + columns
    image = np.stack([rows, columns, labels], axis=-1)
    return tf.constant(image), tf.constant(labels.astype(np.int32))


def noise(height: int, width: int, seed: int = 0) -> tuple[tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    labels = rng.choice(np.array([0, 2, 9, 255], np.uint8), (height, width))
    return tf.constant(image), tf.constant(labels)


class TestResize:
    @settings(deadline=None, max_examples=40)
    @given(old=SIZES, new=SIZES)
    def test_labels_are_those_under_the_new_centres(
        self, old: tuple[int, int], new: tuple[int, int]
    ) -> None:
        _, labels = noise(*old)
        resized = resize_labels(labels, new)
        rows, columns = (
            np.array([int((i + 0.5) * o / n) for i in range(n)])
            for o, n in zip(old, new, strict=True)
        )
        np.testing.assert_array_equal(resized, labels.numpy()[np.ix_(rows, columns)])

    def test_labels_by_hand(self) -> None:
        # Centres of 3 pixels on a row of 6: 1, 3, 5, which begin pixels 1, 3 and 5.
        labels = tf.constant([[0, 1, 2, 3, 4, 5]])
        assert resize_labels(labels, (1, 3)).numpy().tolist() == [[1, 3, 5]]
        assert resize_labels(labels, (1, 2)).numpy().tolist() == [[1, 4]]

    @pytest.mark.parametrize("new", [(10, 8), (13, 17), (40, 32), (97, 61), (160, 96)])
    def test_image_and_labels_stay_aligned(self, new: tuple[int, int]) -> None:
        # The ramp image holds each pixel's index at its centre, i at i + ½. A new
        # centre at x then reads x − ½ in the image, and its label is ⌊x⌋.
        height, width = 40, 32
        image, labels = coordinates(height, width)
        # In range, for the image's clipping to leave it alone.
        image, labels = resize(image[..., :2], labels, new)
        for axis, label in ((0, labels // 1000), (1, labels % 1000)):
            difference = image[..., axis] - tf.cast(label, tf.float32)
            # The border's own extrapolation is left out.
            inner = difference[5:-5, 5:-5] if min(new) > 30 else difference[1:-1, 1:-1]
            assert float(tf.reduce_min(inner)) >= -0.5 - 1e-4
            assert float(tf.reduce_max(inner)) <= 0.5 + 1e-4
            assert abs(float(tf.reduce_mean(inner))) < 0.51

    def test_image_shrinks_antialiased(self) -> None:
        # Every third pixel of these stripes is in turn black and white; their mean
        # over a third of the size is grey.
        stripes = np.zeros((9, 63, 3), np.uint8)
        stripes[:, ::2] = 200
        shrunk = resize_image(tf.constant(stripes), (3, 21))
        np.testing.assert_allclose(shrunk[:, 1:-1], 100, atol=15)

    def test_same_size_changes_nothing(self) -> None:
        image, labels = noise(7, 9)
        resized_image, resized_labels = resize(image, labels, (7, 9))
        np.testing.assert_array_equal(resized_image, image)
        np.testing.assert_array_equal(resized_labels, labels)

    def test_image_stays_in_range(self) -> None:
        white = tf.fill((23, 31, 3), tf.constant(255, tf.uint8))
        resized = resize_image(white, (11, 17))
        assert float(tf.reduce_max(resized)) <= 255
        np.testing.assert_allclose(resized, 255, atol=1e-3)


class TestRandomCrop:
    def test_cuts_one_window_of_both(self) -> None:
        image, labels = coordinates(9, 11)
        starts = set()
        for value in range(200):
            window, window_labels = random_crop(image, labels, seed_of(value), (7, 8))
            np.testing.assert_array_equal(window[..., 2], window_labels)
            row, column = divmod(int(window_labels[0, 0]), 1000)
            expected = labels[row : row + 7, column : column + 8]
            np.testing.assert_array_equal(window_labels, expected)
            starts.add((row, column))
        # Every place is reached: rows 0 to 2, columns 0 to 3.
        assert starts == {(row, column) for row in range(3) for column in range(4)}

    def test_leaves_a_smaller_side_alone(self) -> None:
        image, labels = coordinates(5, 9)
        window, window_labels = random_crop(image, labels, seed_of(0), (8, 4))
        assert window.shape == (5, 4, 3)
        assert window_labels.shape == (5, 4)


class TestPad:
    def test_fills_with_the_mean_colour_and_void(self) -> None:
        image, labels = noise(3, 4)
        padded, padded_labels = pad(tf.cast(image, tf.float32), labels, (5, 6))
        np.testing.assert_array_equal(padded[:3, :4], image)
        np.testing.assert_array_equal(padded_labels[:3, :4], labels)
        outside = np.ones((5, 6), bool)
        outside[:3, :4] = False
        mean = np.array(IMAGENET_MEAN_RGB, np.float32)
        np.testing.assert_array_equal(padded.numpy()[outside], np.tile(mean, (18, 1)))
        assert set(padded_labels.numpy()[outside]) == {255}

    def test_leaves_a_larger_picture_alone(self) -> None:
        image, labels = noise(5, 6)
        padded, padded_labels = pad(tf.cast(image, tf.float32), labels, (3, 6))
        np.testing.assert_array_equal(padded, image)
        np.testing.assert_array_equal(padded_labels, labels)


class TestRandomFlip:
    def test_mirrors_both_or_neither_half_of_the_time(self) -> None:
        image, labels = coordinates(3, 4)
        flipped = 0
        for value in range(200):
            new_image, new_labels = random_flip(image, labels, seed_of(value))
            np.testing.assert_array_equal(new_image[..., 2], new_labels)
            if int(new_labels[0, 0]):
                flipped += 1
                np.testing.assert_array_equal(new_labels, labels[:, ::-1])
            else:
                np.testing.assert_array_equal(new_labels, labels)
        assert 70 < flipped < 130


class TestRandomPhotometric:
    def test_stays_a_picture_and_changes_mildly(self) -> None:
        image, labels = noise(16, 16)
        image = tf.cast(image, tf.float32)
        for value in range(20):
            changed, new_labels = random_photometric(image, labels, seed_of(value))
            np.testing.assert_array_equal(new_labels, labels)
            assert float(tf.reduce_min(changed)) >= 0
            assert float(tf.reduce_max(changed)) <= 255
            difference = float(tf.reduce_mean(tf.abs(changed - image)))
            assert 0.5 < difference < 50

    def test_grey_stays_grey(self) -> None:
        grey = tf.tile(tf.reshape(tf.range(60.0, 180.0), (10, 12, 1)), (1, 1, 3))
        labels = tf.zeros((10, 12), tf.uint8)
        changed, _ = random_photometric(grey, labels, seed_of(1))
        np.testing.assert_allclose(changed, changed[..., :1] * tf.ones(3), atol=1e-3)

    def test_changes_luminance_by_brightness_and_contrast_alone(self) -> None:
        # Hue and saturation leave luminance alone, and so contrast's stretching
        # around the mean leaves brightness as the only change of its mean.
        rng = np.random.default_rng(0)
        image = tf.constant(rng.uniform(90, 160, (16, 16, 3)), tf.float32)
        labels = tf.zeros((16, 16), tf.uint8)
        weights = np.array([0.299, 0.587, 0.114])
        luminance = image.numpy() @ weights
        shifts, stretches = [], []
        for value in range(100):
            changed, _ = random_photometric(image, labels, seed_of(value))
            new_luminance = changed.numpy() @ weights
            shifts.append(new_luminance.mean() - luminance.mean())
            stretches.append(new_luminance.std() / luminance.std())
        assert -24.01 <= min(shifts) < -20
        assert 20 < max(shifts) <= 24.01
        assert 0.799 <= min(stretches) < 0.83
        assert 1.17 < max(stretches) <= 1.201

    def test_changes_saturation_and_hue(self) -> None:
        # On the plane of I and Q, a colour's length and angle vary in their ranges.
        red = tf.fill((2, 2, 3), 100.0) + tf.constant([30.0, 0.0, 0.0])
        labels = tf.zeros((2, 2), tf.uint8)

        def chrominance(image: tf.Tensor) -> complex:
            _, i, q = tf.image.rgb_to_yiq(image)[0, 0].numpy().tolist()
            return complex(i, q)

        ratios = np.array(
            [
                chrominance(random_photometric(red, labels, seed_of(value))[0])
                / chrominance(red)
                for value in range(100)
            ]
        )
        for values, low, high in (
            (np.abs(ratios), 0.8, 1.2),
            (np.angle(ratios), -0.1, 0.1),
        ):
            margin = 0.1 * (high - low)
            assert low - 1e-3 <= values.min() < low + margin
            assert high - margin < values.max() <= high + 1e-3


class TestAugment:
    @settings(deadline=None, max_examples=40)
    @given(
        old=SIZES,
        resized=st.none() | SIZES,
        scale=st.none() | st.just((0.5, 2.0)),
        crop=st.none() | SIZES,
        flip=st.booleans(),
        photometric=st.booleans(),
        seed=st.integers(0, 1000),
    )
    def test_no_new_label_appears(
        self,
        old: tuple[int, int],
        resized: tuple[int, int] | None,
        scale: tuple[float, float] | None,
        crop: tuple[int, int] | None,
        flip: bool,
        photometric: bool,
        seed: int,
    ) -> None:
        image, labels = noise(*old, seed=seed)
        augmentation = Augmentation(resized, None, scale, crop, flip, photometric)
        new_image, new_labels = augment(image, labels, seed_of(seed), augmentation)
        allowed = set(np.unique(labels)) | ({255} if crop else set())
        assert set(np.unique(new_labels)) <= allowed
        assert new_labels.dtype == labels.dtype
        assert new_image.shape == (*new_labels.shape, 3)
        assert float(tf.reduce_min(new_image)) >= 0
        assert float(tf.reduce_max(new_image)) <= 255
        size = output_size(augmentation, old)
        assert size is None or new_labels.shape == size

    @pytest.mark.parametrize("seed", range(6))
    def test_image_and_labels_stay_aligned_through_all_of_it(self, seed: int) -> None:
        # A picture of broad vertical bands whose colour tells their label, but for
        # rounding at the edges. A shift of one pixel would show at 5 of 90 columns.
        band = np.repeat(np.arange(6, dtype=np.uint8), 20)
        labels = np.tile(band, (80, 1))
        image = np.repeat(40 * labels[..., np.newaxis], 3, axis=-1)
        augmentation = Augmentation(
            resize=(64, 96), scale=(0.8, 1.25), crop=(60, 90), flip=True
        )
        new_image, new_labels = augment(
            tf.constant(image), tf.constant(labels), seed_of(seed), augmentation
        )
        valid = new_labels.numpy() != 255
        read = np.rint(new_image.numpy()[..., 0] / 40)
        agreement = np.mean(read[valid] == new_labels.numpy()[valid])
        assert agreement > 0.98
        assert valid.mean() > 0.5

    @pytest.mark.parametrize("photometric", [False, True])
    @pytest.mark.parametrize("crop", [(15, 17), (40, 12), (60, 60)])
    @pytest.mark.parametrize("resized", [None, (22, 31)])
    def test_is_its_steps_one_after_the_other(
        self, resized: tuple[int, int] | None, crop: tuple[int, int], photometric: bool
    ) -> None:
        image, labels = noise(30, 24)
        augmentation = Augmentation(
            resized, crop=crop, flip=True, photometric=photometric
        )
        for value in range(6):
            seed = seed_of(value)
            seeds = tf.random.experimental.stateless_split(seed, 4)
            step = (tf.cast(image, tf.float32), labels)
            step = resize(*step, resized) if resized else step
            step = random_crop(*step, seeds[1], crop)
            step = random_flip(*step, seeds[2])
            step = random_photometric(*step, seeds[3]) if photometric else step
            expected_image, expected_labels = pad(*step, crop)
            new_image, new_labels = augment(image, labels, seed, augmentation)
            # Resized pictures are bytes, within 1; the jitter stretches by 1.2 twice.
            rounding = (1.0 if resized else 0.0) * (1.44 if photometric else 1.0)
            np.testing.assert_allclose(new_image, expected_image, atol=rounding + 0.02)
            np.testing.assert_array_equal(new_labels, expected_labels)

    def test_rejects_other_images_than_bytes(self) -> None:
        image, labels = coordinates(3, 4)
        with pytest.raises(ValueError, match=r"uint8 image. Received: float32"):
            augment(image, labels, seed_of(0), Augmentation())

    def test_padding_keeps_its_colour_under_the_jitter(self) -> None:
        image, labels = noise(4, 4)
        augmentation = Augmentation(crop=(6, 6), photometric=True)
        new_image, _ = augment(image, labels, seed_of(0), augmentation)
        np.testing.assert_array_equal(
            new_image[5, 5], np.array(IMAGENET_MEAN_RGB, np.float32)
        )

    def test_same_seed_same_result(self) -> None:
        image, labels = noise(20, 20)
        augmentation = Augmentation(
            scale=(0.5, 1.5), crop=(15, 15), flip=True, photometric=True
        )
        first, again, other = (
            augment(image, labels, seed_of(seed), augmentation)[0] for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_nothing_is_nothing(self) -> None:
        image, labels = noise(5, 6)
        new_image, new_labels = augment(image, labels, seed_of(0), Augmentation())
        assert new_image.dtype == tf.float32
        np.testing.assert_array_equal(new_image, image)
        np.testing.assert_array_equal(new_labels, labels)

    def test_random_scale_covers_its_range(self) -> None:
        image, labels = noise(100, 10)
        augmentation = Augmentation(scale=(0.5, 1.5))
        heights = [
            augment(image, labels, seed_of(seed), augmentation)[1].shape[0]
            for seed in range(60)
        ]
        assert 50 <= min(heights) < 60
        assert 140 < max(heights) <= 150


class TestOutputSize:
    @settings(deadline=None, max_examples=40)
    @given(old=SIZES, factor=st.floats(0.01, 3))
    def test_agrees_with_what_a_factor_gives(
        self, old: tuple[int, int], factor: float
    ) -> None:
        augmentation = Augmentation(resize_scale=factor)
        _, labels = augment(*noise(*old), seed_of(0), augmentation)
        assert output_size(augmentation, old) == labels.shape

    @pytest.mark.parametrize(
        ("augmentation", "image_size", "expected"),
        [
            (Augmentation(), (3, 4), (3, 4)),
            (Augmentation(), None, None),
            (Augmentation(resize=(5, 6)), None, (5, 6)),
            (Augmentation(resize_scale=0.5), (6, 8), (3, 4)),
            (Augmentation(resize_scale=0.5), None, None),
            (Augmentation(scale=(1, 2)), (3, 4), None),
            (Augmentation(resize=(5, 6), scale=(1, 2)), (3, 4), None),
            (Augmentation(scale=(1, 2), crop=(7, 8)), None, (7, 8)),
        ],
    )
    def test_cases(
        self,
        augmentation: Augmentation,
        image_size: tuple[int, int] | None,
        expected: tuple[int, int] | None,
    ) -> None:
        assert output_size(augmentation, image_size) == expected


class TestAugmentation:
    def test_survives_json(self) -> None:
        augmentation = Augmentation(
            resize=(4, 5), scale=(0.5, 1.5), crop=(3, 3), flip=True, photometric=True
        )
        data = json.loads(json.dumps(asdict(augmentation)))
        assert Augmentation(**data) == augmentation

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"resize": (4, 4), "resize_scale": 0.5}, "one of `resize`"),
            ({"resize": (0, 4)}, "`resize` to be"),
            ({"crop": (4,)}, "`crop` to be"),
            ({"crop": (4.0, 4)}, "`crop` to be"),
            ({"resize_scale": 0.0}, "`resize_scale` to be above 0"),
            ({"scale": (0.0, 1.0)}, "0 < low <= high"),
            ({"scale": (2.0, 1.0)}, "0 < low <= high"),
            ({"crop": 4}, "`crop` to be"),
            ({"resize": "ab"}, "`resize` to be"),
            ({"resize_scale": "a"}, "`resize_scale` to be above 0"),
            ({"resize_scale": float("inf")}, "`resize_scale` to be above 0"),
            ({"scale": 3}, "0 < low <= high"),
            ({"scale": ("a", "b")}, "0 < low <= high"),
            ({"scale": (0.5, float("inf"))}, "0 < low <= high"),
            ({"flip": "False"}, "`flip` to be True or False"),
            ({"photometric": 1}, "`photometric` to be True or False"),
        ],
    )
    def test_rejects(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Augmentation(**options)
