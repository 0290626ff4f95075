from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_files import real_data, samples, save, write_lines
from scipy.io import savemat

from tf_levelset.datasets.pascal_context import (
    CLASSES,
    pascal_context,
)

LISTS = {
    "train": ("2008_000002", "2008_000003"),
    "val": ("2008_000007",),
    "trainval": ("2008_000002", "2008_000003", "2008_000007"),
}
TRAIN, VAL = LISTS["train"], LISTS["val"]
# 0 is no label; each image holds every id once, in another order.
IDS = np.arange(460, dtype=np.uint16).reshape(20, 23)


def labels_of(sample_id: str) -> np.ndarray:
    return np.roll(IDS, LISTS["trainval"].index(sample_id), axis=0)


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """VOC 2010's layout, with PASCAL-Context's annotations unpacked into it."""
    root = tmp_path / "VOCdevkit" / "VOC2010"
    (root / "trainval").mkdir(parents=True)
    for i in LISTS["trainval"]:
        save(root / "JPEGImages" / f"{i}.jpg", np.zeros((20, 23, 3), np.uint8))
        savemat(root / "trainval" / f"{i}.mat", {"LabelMap": labels_of(i)})
    for split, ids in LISTS.items():
        write_lines(root / "ImageSets" / "Main" / f"{split}.txt", ids)
    return root


def read_names(path: Path) -> dict[int, str]:
    pairs = (line.split(":") for line in path.read_text().splitlines())
    return {int(number): name.strip() for number, name in pairs}


class TestTable:
    def test_is_the_published_lists(self) -> None:
        lists = real_data() / "lists"
        names = read_names(lists / "classes-59.txt")
        ids = {name: i for i, name in read_names(lists / "classes-400.txt").items()}
        assert sorted(ids.values()) == list(range(1, 460))
        renamed = {"diningtable": "table", "clothes": "cloth", "bedcloth": "bedclothes"}
        # Without these three, every name is its own: no second table hides behind one.
        assert {name for name in names.values() if name not in ids} == {
            "background",
            "diningtable",
            "bedcloth",
            "clothes",
        }
        expected = {
            name: ids[renamed.get(name, name)]
            for _, name in sorted(names.items())
            if name != "background"
        }
        assert list(CLASSES.items()) == [("background", 0), *expected.items()]


class TestLabels:
    @pytest.mark.parametrize("split", ["train", "val", "trainval"])
    def test_every_id(self, devkit: Path, split: str) -> None:
        # Some of the table in full: id, class.
        known = {0: 0, 1: 0, 2: 1, 397: 11, 427: 20, 9: 21, 80: 28, 19: 52, 458: 59}
        known |= {81: 0, 431: 0, 459: 0}  # "clothes tree", "unknown", "wool"
        source = pascal_context(devkit, split)
        assert source.name == f"pascal_context/{split}"
        assert source.num_classes == 60
        assert source.sample_names == LISTS[split]
        for name, (_, labels) in samples(source).items():
            ids = labels_of(name)
            assert {i: int(labels[ids == i].item()) for i in known} == known
            assert np.bincount(labels.ravel()).tolist() == [401, *[1] * 59]

    def test_without_background(self, devkit: Path) -> None:
        source = pascal_context(devkit, background=False)
        assert source.num_classes == 59
        assert source.class_names == tuple(CLASSES)[1:]
        whole = pascal_context(devkit)
        np.testing.assert_array_equal(source.palette, whole.palette[1:])
        expected_samples = samples(whole)
        for name, (_, labels) in samples(source).items():
            with_it = expected_samples[name][1].astype(int)
            expected = np.where(with_it == 0, 255, with_it - 1)
            np.testing.assert_array_equal(labels, expected)


class TestFiles:
    def test_annotations_may_lie_elsewhere(self, devkit: Path, tmp_path: Path) -> None:
        (tmp_path / "context").mkdir()
        (devkit / "trainval").rename(tmp_path / "context" / "trainval")
        with pytest.raises(FileNotFoundError, match="PASCAL-Context's folder trainval"):
            pascal_context(devkit)
        source = pascal_context(devkit, context_dir=tmp_path / "context")
        assert tuple(samples(source)) == TRAIN
        # Beside VOC2010, in the folder that was given, it is found.
        (tmp_path / "context" / "trainval").rename(devkit.parent / "trainval")
        assert pascal_context(devkit.parent).num_samples == 2

    def test_errors(self, devkit: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="`split` to be one of"):
            pascal_context(devkit, "test")
        with pytest.raises(FileNotFoundError, match="VOC's folder JPEGImages"):
            pascal_context(tmp_path / "nowhere")
        (devkit / "trainval" / f"{TRAIN[1]}.mat").unlink()
        with pytest.raises(FileNotFoundError, match=rf"1 fault:\n.*{TRAIN[1]}\.mat"):
            pascal_context(devkit)
