"""Pictures that runs keep, and the panels that are drawn from them alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from experiments import pictures
from tf_levelset.datasets import Source, load_dataset
from tf_levelset.inference.panels import colourize
from tf_levelset.inference.predictor import Predictor

WIDTH = pictures.WIDTH
GAP, HEADER = 4, 22


@pytest.fixture
def source() -> Source:
    return load_dataset("synthetic", "val", num_samples=2, size=(60, WIDTH))


def always(label: int, confidence: float) -> Predictor:
    """A predictor of one class."""

    def predict(image: np.ndarray) -> np.ndarray:
        probabilities = np.full((*image.shape[:2], 6), (1 - confidence) / 5, np.float32)
        probabilities[..., label] = confidence
        return probabilities

    return predict


def test_keeps_labels_and_probabilities(source: Source, tmp_path: Path) -> None:
    pictures.write_pictures(always(2, 0.7), source, tmp_path / "run")
    name = source.sample_names[0]
    labels = cv2.imread(str(tmp_path / f"run/{name}.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(labels, np.full((60, WIDTH), 2))
    grey = cv2.imread(
        str(tmp_path / f"run/{name}-probability.png"), cv2.IMREAD_GRAYSCALE
    )
    # Of the first class, where there is no pedestrian: 0.3 / 5.
    np.testing.assert_array_equal(grey, np.full((60, WIDTH), round(255 * 0.06)))


def test_panels_are_made_of_what_was_kept(source: Source, tmp_path: Path) -> None:
    for label in (1, 2):
        pictures.write_pictures(always(label, 0.9), source, tmp_path / str(label))
    runs = {"one": tmp_path / "1", "two": tmp_path / "2"}
    panel = pictures.label_panel(source, runs)
    assert panel.shape == (HEADER + 60 + GAP, 4 * (WIDTH + GAP) - GAP, 3)
    for column, label in ((2, 1), (3, 2)):
        cell = panel[HEADER : HEADER + 60, column * (WIDTH + GAP) :][:, :WIDTH]
        colours = colourize(np.full((60, WIDTH), label), source.palette)
        np.testing.assert_array_equal(cell, colours)
    grey = pictures.probability_panel(source, runs)
    cell = grey[HEADER : HEADER + 60, 2 * (WIDTH + GAP) :][:, :WIDTH]
    np.testing.assert_array_equal(cell, round(255 * 0.02))


def test_panels_are_written_small(source: Source, tmp_path: Path) -> None:
    pictures.write_pictures(always(1, 0.9), source, tmp_path / "run")
    pictures.write_panels(source, {"run": tmp_path / "run"}, tmp_path / "out")
    for name in ("labels", "probabilities"):
        panel = cv2.imread(str(tmp_path / f"out/camvids_own_split-{name}.png"))
        assert panel is not None
        assert panel.shape == (HEADER + 60 + GAP, 3 * (WIDTH + GAP) - GAP, 3)


def test_missing_pictures_raise(source: Source, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="what a run wrote at"):
        pictures.label_panel(source, {"one": tmp_path})


def test_samples_are_taken_by_name(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pictures.chosen(source).sample_names == source.sample_names[:1]
    monkeypatch.setattr(pictures, "SAMPLES", (source.sample_names[1],))
    assert pictures.chosen(source).sample_names == source.sample_names[1:]
