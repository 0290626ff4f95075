"""Tiles cover every pixel, and their answers are blended without a seam."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_levelset.inference.tiling import Tiling, bands, starts


def by_colour(image: np.ndarray) -> np.ndarray:
    """Probabilities of two classes that depend on the pixel alone."""
    first = image[..., :1].astype(np.float32) / 255
    return np.concatenate([first, 1 - first], axis=-1)


def whole(predictor: object, image: np.ndarray, tiling: Tiling | None) -> np.ndarray:
    rows = list(bands(predictor, image, tiling))  # type: ignore[arg-type]
    tops = [top for top, _ in rows]
    heights = [len(band) for _, band in rows]
    assert tops == [0, *np.cumsum(heights)[:-1]]
    return np.concatenate([band for _, band in rows])


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int]:
    tile = draw(st.integers(1, 20))
    return draw(st.integers(tile, 90)), tile, draw(st.integers(0, tile // 2))


@given(axes())
def test_tiles_cover_an_axis_with_their_overlap(axis: tuple[int, int, int]) -> None:
    size, tile, overlap = axis
    found = starts(size, tile, overlap)
    assert (found[0], found[-1]) == (0, size - tile)
    steps = np.diff(found)
    assert (steps <= tile - overlap).all()
    assert (steps > 0).all()
    # No more tiles than it takes.
    assert len(found) == 1 or (len(found) - 2) * (tile - overlap) + tile < size


@settings(deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 16),
    st.integers(1, 16),
    st.data(),
)
def test_what_depends_on_the_pixel_alone_is_the_same(
    height: int, width: int, tile_height: int, tile_width: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, min(tile_height, tile_width) // 2))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = whole(by_colour, image, Tiling(tile_height, tile_width, overlap))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_colour(image), atol=1e-6)
    # Without tiles the image is seen at once.
    ((top, band),) = bands(by_colour, image, None)
    assert top == 0
    np.testing.assert_array_equal(band, by_colour(image))


def test_overlaps_are_blended_by_the_distance_from_the_edge() -> None:
    answers = iter([0.0, 1.0])

    def constant(image: np.ndarray) -> np.ndarray:
        return np.full((*image.shape[:2], 1), next(answers), np.float32)

    found = whole(constant, np.zeros((1, 8, 3), np.uint8), Tiling(1, 5, 0))
    np.testing.assert_allclose(found[0, :, 0], [0, 0, 0, 0.5, 0.5, 1, 1, 1])
    answers = iter([0.0, 1.0])
    found = whole(constant, np.zeros((6, 9, 3), np.uint8), Tiling(6, 6, 3))
    # Over the three shared columns: weights ¾, ½, ¼ against ¼, ½, ¾.
    np.testing.assert_allclose(found[0, 3:6, 0], [0.25, 0.5, 0.75])


def test_a_row_of_tiles_is_held_and_no_more() -> None:
    held = []
    for top, band in bands(
        by_colour, np.zeros((100, 30, 3), np.uint8), Tiling(10, 10, 2)
    ):
        held.append(band.nbytes)
        assert top <= 90
    assert max(held) <= 10 * 30 * 2 * 4


@pytest.mark.parametrize("tiling", [(0, 5, 0), (5, 5, 3), (5, 5, -1)])
def test_bad_tilings_raise(tiling: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        Tiling(*tiling)
