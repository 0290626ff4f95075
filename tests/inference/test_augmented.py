"""Averages over flipped and rescaled copies."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_samples import by_colour, samples

from tf_levelset.inference.augmented import augmented


def ramp(image: np.ndarray) -> np.ndarray:
    """A predictor that knows where it is: class 1 grows from left to right."""
    height, width = image.shape[:2]
    one = np.linspace(0, 1, width, dtype=np.float32) * image[..., 0] / 255
    return (
        np.stack([1 - one, one], axis=-1).astype(np.float32).reshape(height, width, 2)
    )


def test_flip_averages_with_the_mirror() -> None:
    image = samples()[0][0]
    expected = (ramp(image) + ramp(image[:, ::-1])[:, ::-1]) / 2
    assert not np.allclose(expected, ramp(image))
    np.testing.assert_allclose(augmented(ramp, flip=True)(image), expected, atol=1e-6)


def test_scales_average_copies_of_those_sizes() -> None:
    shapes = []

    def size(image: np.ndarray) -> np.ndarray:
        assert image.dtype == np.uint8
        shapes.append(image.shape[:2])
        return np.full((*image.shape[:2], 1), image.shape[0], np.float32)

    image = np.zeros((8, 5, 3), np.uint8)
    average = augmented(size, scales=(0.5, 1.0, 1.5))(image)
    assert shapes == [(4, 2), (8, 5), (12, 8)]
    np.testing.assert_allclose(average, np.full((8, 5, 1), (4 + 8 + 12) / 3))


def test_copies_are_brought_back_bilinearly() -> None:
    def columns(image: np.ndarray) -> np.ndarray:
        row = np.arange(image.shape[1], dtype=np.float32)
        return np.tile(row[:, np.newaxis], (image.shape[0], 1, 1))

    # Columns 0 and 1 of the half size copy, their centres at ½ and 2½ of the image.
    average = augmented(columns, scales=(0.5,))(np.zeros((2, 4, 3), np.uint8))
    np.testing.assert_allclose(average[..., 0], [[0, 0.25, 0.75, 1]] * 2)


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, -1.0)])
def test_scales_are_positive(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="one or more positive numbers"):
        augmented(by_colour, scales=scales)
