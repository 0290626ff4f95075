"""Colours of label maps, and the images made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_samples import source_of
from PIL import Image

from tf_levelset.datasets import Source
from tf_levelset.inference.panels import colourize, difference, panel, write_png

VOID = 255
PALETTE = [(10, 20, 30), (200, 0, 0), (0, 250, 5)]
BLACK, WHITE = [0, 0, 0], [255, 255, 255]
HEADER, GAP = 22, 4


# --- Colours ---


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_classes_have_their_colours_and_void_is_black(dtype: Any) -> None:
    labels = np.array([[0, 1, 2], [VOID, 3, 0]], dtype)
    picture = colourize(labels, PALETTE)
    assert picture.dtype == np.uint8
    assert picture[0].tolist() == [list(colour) for colour in PALETTE]
    assert picture[1].tolist() == [BLACK, BLACK, list(PALETTE[0])]
    assert colourize(np.array([[-1]]), PALETTE).tolist() == [[BLACK]]
    # 256 classes leave no byte for void.
    palette = np.stack([np.arange(256)] * 3, axis=-1)
    of_256 = colourize(np.array([[0, 7, 255]], np.uint8), palette)
    assert of_256[0, :, 0].tolist() == [0, 7, 255]


def test_difference_says_who_is_right() -> None:
    #                  agree:       differ:
    #                  right wrong  1st right  2nd right  both wrong  void
    labels = np.array([[0, 0, 1, 1, 2, VOID]])
    first = np.array([[0, 1, 1, 0, 0, 0]])
    second = np.array([[0, 1, 0, 1, 1, 1]])
    picture = difference(labels, first, second, VOID)
    assert picture.dtype == np.uint8
    red, green, grey = picture[0, 2:5]
    assert picture[0, [0, 1]].tolist() == [WHITE, WHITE]
    assert red.argmax() == 0
    assert red[0] > 2 * red[1:].max()
    assert green.argmax() == 1
    assert green[1] > 2 * green[[0, 2]].max()
    assert len(set(grey.tolist())) == 1
    assert 0 < grey[0] < 255
    assert picture[0, 5].tolist() == BLACK
    # Also where a prediction says so.
    void = np.array([[VOID]])
    assert difference(void, void, np.array([[0]]), VOID).tolist() == [[BLACK]]


# --- Panels ---


def source(count: int) -> Source:
    """Image i is all (i, i, i), its labels all class i % 3."""
    pixels = np.zeros((6, 12), np.uint8)
    pairs = [(np.dstack([pixels + i] * 3), pixels + i % 3) for i in range(count)]
    return source_of(pairs, "abc", palette=PALETTE)


def always(label: int) -> Any:
    return lambda image: np.tile(
        np.eye(3, dtype=np.float32)[label], (*image.shape[:2], 1)
    )


def cells(picture: np.ndarray, rows: int, columns: int, size: tuple[int, int]) -> Any:
    """The colours of a panel's cells, each of one colour only."""
    height, width = size
    colours: list[list[tuple[int, ...]]] = []
    for row in range(rows):
        top = HEADER + row * (height + GAP)
        colours.append([])
        for column in range(columns):
            left = column * (width + GAP)
            cell = picture[top : top + height, left : left + width].reshape(-1, 3)
            assert (cell == cell[0]).all()
            colours[-1].append(tuple(cell[0].tolist()))
    return colours


def test_panels_show_image_truth_predictions_and_difference() -> None:
    picture = panel(source(2), {"1st": always(0), "2nd": always(1)}, 2, width=24)
    first, second = cells(picture, 2, 5, (12, 24))
    assert first[:4] == [(0, 0, 0), PALETTE[0], PALETTE[0], PALETTE[1]]
    assert second[:4] == [(1, 1, 1), PALETTE[1], PALETTE[0], PALETTE[1]]
    # Only the first is right in image 0, only the second in image 1.
    assert np.argmax(first[4]) == 0
    assert np.argmax(second[4]) == 1


def test_panels_show_images_evenly_spread() -> None:
    picture = panel(source(9), {}, samples=3, width=24)
    assert [row[0][0] for row in cells(picture, 3, 2, (12, 24))] == [0, 4, 8]


# --- Files ---


def test_png_files_hold_the_image(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    path = tmp_path / "folder" / "picture.png"
    write_png(path, picture)
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(image), picture)
