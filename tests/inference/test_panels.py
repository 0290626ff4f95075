"""Colours of label maps, and the images made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
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


def test_negative_labels_are_void() -> None:
    assert colourize(np.array([[-1]]), np.array(PALETTE)).tolist() == [[BLACK]]


def test_256_classes_leave_no_byte_for_void() -> None:
    palette = np.stack([np.arange(256)] * 3, axis=-1)
    labels = np.array([[0, 7, 255]], np.uint8)
    assert colourize(labels, palette)[0, :, 0].tolist() == [0, 7, 255]


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


def test_void_is_void_where_a_prediction_says_so_too() -> None:
    labels, void = np.array([[VOID]]), np.array([[VOID]])
    assert difference(labels, void, np.array([[0]]), VOID).tolist() == [[BLACK]]


# --- Panels ---


def source(count: int, size: tuple[int, int] = (6, 12)) -> Source:
    """Image i is all (i, i, i), its labels all class i % 3."""

    def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        value = tf.cast(index, tf.uint8)
        return tf.fill((*size, 3), value), tf.fill(size, value % 3)

    return Source(
        name="made/val",
        class_names=("a", "b", "c"),
        palette=PALETTE,
        num_samples=count,
        load=load,
        sample_names=tuple(map(str, range(count))),
    )


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


@pytest.mark.parametrize("predictors", [0, 1, 2, 3])
def test_panels_have_a_column_a_predictor(predictors: int) -> None:
    named = {str(label): always(label) for label in range(predictors)}
    picture = panel(source(2), named, samples=2, width=24)
    columns = 2 + predictors + (predictors == 2)
    assert picture.dtype == np.uint8
    assert picture.shape == (HEADER + 2 * (12 + GAP), columns * (24 + GAP) - GAP, 3)


def test_panels_show_image_truth_predictions_and_difference() -> None:
    picture = panel(source(2), {"1st": always(0), "2nd": always(1)}, 2, width=24)
    first, second = cells(picture, 2, 5, (12, 24))
    assert first[:4] == [(0, 0, 0), PALETTE[0], PALETTE[0], PALETTE[1]]
    assert second[:4] == [(1, 1, 1), PALETTE[1], PALETTE[0], PALETTE[1]]
    # Only the first is right in image 0, only the second in image 1.
    assert np.argmax(first[4]) == 0
    assert np.argmax(second[4]) == 1


@pytest.mark.parametrize(
    ("samples", "chosen"),
    [(1, [0]), (2, [0, 8]), (3, [0, 4, 8]), (99, list(range(9)))],
)
def test_panels_take_images_evenly_spread(samples: int, chosen: list[int]) -> None:
    picture = panel(source(9), {}, samples, width=24)
    colours = cells(picture, len(chosen), 2, (12, 24))
    assert [row[0][0] for row in colours] == chosen


def test_panels_read_no_other_images() -> None:
    seen: list[int] = []
    plain = source(9)

    def note(index: np.ndarray) -> np.ndarray:
        seen.append(int(index))
        return index

    def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return plain.load(tf.numpy_function(note, [index], tf.int64))

    noted = Source(**{**vars(plain), "load": load})
    panel(noted, {}, samples=3, width=24)
    assert sorted(seen) == [0, 4, 8]


def test_labels_never_mix_in_shrinking() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (40, 60)).astype(np.uint8)

    def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.zeros((40, 60, 3), tf.uint8), tf.constant(labels)

    picture = panel(Source(**{**vars(source(1)), "load": load}), {}, 1, width=24)
    truth = picture[HEADER : HEADER + 16, 24 + GAP :]
    assert set(map(tuple, truth.reshape(-1, 3).tolist())) == set(PALETTE)


def test_titles_are_written() -> None:
    picture = panel(source(1), {"net": always(0)}, 1, width=100)
    for column in range(3):
        left = column * (100 + GAP)
        assert picture[:HEADER, left : left + 100].min() < 100


# --- Files ---


def test_png_files_hold_the_image(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    path = tmp_path / "folder" / "picture.png"
    write_png(path, picture)
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(image), picture)
