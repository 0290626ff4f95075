"""The files that the pipelines read, and which batches are timed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import pipeline
from tf_levelset.datasets import load_dataset
from tf_levelset.datasets.pipeline import evaluation_dataset


def test_made_pictures_are_the_same_each_time_and_hold_every_class() -> None:
    picture, labels = pipeline.natural_pair((36, 48), 11, seed=3)
    assert (picture.shape, picture.dtype) == ((36, 48, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((36, 48), np.uint8)
    assert set(np.unique(labels)) == set(range(11))
    again, _ = pipeline.natural_pair((36, 48), 11, seed=3)
    other, _ = pipeline.natural_pair((36, 48), 11, seed=4)
    np.testing.assert_array_equal(picture, again)
    assert (picture != other).any()


@pytest.mark.parametrize(
    ("name", "size"), [("camvid", (360, 480)), ("voc", (375, 500))]
)
def test_written_files_are_a_data_set(
    name: str, size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_LEVELSET_DATA", raising=False)
    described = pipeline.write_pairs(name, tmp_path / name, 2)
    assert described["sizes"] == [size[::-1]]
    source = load_dataset(name, "train", str(tmp_path / name))
    assert source.num_samples == 2
    image, labels = next(iter(evaluation_dataset(source)))
    assert image.shape == (*size, 3)
    assert labels.shape == size
    assert np.unique(labels).max() < source.num_classes


def test_fit_is_timed_on_a_data_set_that_cannot_be_made_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    passes: list[int] = []
    batch = tf.zeros((1, 2, 2, 3)), tf.zeros((1, 2, 2))

    def training_batches(*arguments: Any, stride: int) -> tf.data.Dataset:
        lengths.append(arguments[-1])
        return tf.data.Dataset.from_tensors(batch).repeat(arguments[-1])

    def fit_seconds(model: Any, batches: Any, steps: int) -> float:
        passes.append(steps)
        return float(len(passes))

    monkeypatch.setattr(pipeline, "_training_batches", training_batches)
    monkeypatch.setattr(pipeline, "_largefov", lambda width: None)
    monkeypatch.setattr(pipeline, "_fit_seconds", fit_seconds)
    target = pipeline.waiting_in_fit(tmp_path, quick=True)["targets"][0]
    assert lengths == [max(passes) + pipeline.SPARE_STEPS]
    # Seconds by turns: reading 2, in memory 3; then in memory 4, reading 5.
    assert target["shares"] == pytest.approx([1 - 3 / 2, 1 - 4 / 5])
    assert target["quartile_1"] < target["measured"] < target["quartile_3"]


def test_only_batches_in_the_middle_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0

    def batches() -> Iterator[int]:
        nonlocal taken
        for index in range(pipeline.LEAD + 5 + pipeline.TAIL):
            taken += 1
            yield index

    # The clock shows how many batches were taken.
    monkeypatch.setattr(pipeline.time, "perf_counter", lambda: float(taken))
    assert pipeline._time_batches(batches(), 5) == {"seconds": 5.0}
    assert taken == pipeline.LEAD + 5 + pipeline.TAIL
