from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_files import assert_unlabelled, samples, save

from tf_levelset.datasets.cityscapes import (
    CLASS_IDS,
    CLASSES,
    LABELS,
    cityscapes,
)
from tf_levelset.datasets.pipeline import image_dataset

# Out of order, so that sorting shows; the images of a city come together.
NAMES = ("ulm_000001_000019", "aachen_000002_000019", "aachen_000001_000019")
SORTED = ("aachen_000001_000019", "aachen_000002_000019", "ulm_000001_000019")
# Each id once, and its class by the official table, spelled out.
IDS = np.arange(34, dtype=np.uint8).reshape(2, 17)
TRAIN_IDS = np.full((2, 17), 255, np.uint8)
for train_id, label_id in enumerate(
    [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
):
    TRAIN_IDS[np.equal(IDS, label_id)] = train_id


def image_path(root: Path, split: str, name: str) -> Path:
    city = name.split("_")[0]
    return root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"


def label_path(root: Path, split: str, name: str, kind: str = "labelIds") -> Path:
    city = name.split("_")[0]
    return root / "gtFine" / split / city / f"{name}_gtFine_{kind}.png"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """The official layout, with the other files that lie beside the label ids."""
    for split in ("train", "val", "test"):
        for i, name in enumerate(NAMES):
            save(image_path(tmp_path, split, name), np.full((2, 17, 3), i, np.uint8))
            # In the test split, everything but 0 is "out of roi".
            ids = IDS if split != "test" else np.minimum(IDS, 3)
            save(label_path(tmp_path, split, name), np.roll(ids, i, axis=1))
            ids = np.roll(TRAIN_IDS, i, axis=1)
            save(label_path(tmp_path, split, name, "labelTrainIds"), ids)
            color = np.zeros((2, 17, 4), np.uint8)
            save(label_path(tmp_path, split, name, "color"), color)
    return tmp_path


class TestTable:
    def test_is_the_official_one(self) -> None:
        official = pytest.importorskip(
            "cityscapesscripts.helpers.labels",
            reason="needs cityscapesscripts: pip install cityscapesscripts",
        )
        rows = [(row.id, row.trainId, row.name, row.color) for row in official.labels]
        assert [tuple(label) for label in LABELS] == rows
        judged = [row for row in official.labels if not row.ignoreInEval]
        assert [row.name for row in judged] == list(CLASSES)
        assert [row.id for row in judged] == list(CLASS_IDS)
        assert [row.trainId for row in judged] == list(range(19))


class TestLabels:
    @pytest.mark.parametrize("labels", ["labelIds", "labelTrainIds"])
    @pytest.mark.parametrize("split", ["train", "val"])
    def test_every_id(self, data_dir: Path, split: str, labels: str) -> None:
        source = cityscapes(data_dir, split, labels)
        assert source.name == f"cityscapes/{split}"
        assert source.class_names == tuple(CLASSES)
        assert source.sample_names == SORTED
        assert source.image_size == (2, 17)
        for name, (image, classes) in samples(source).items():
            i = NAMES.index(name)
            np.testing.assert_array_equal(image, np.full((2, 17, 3), i))
            np.testing.assert_array_equal(classes, np.roll(TRAIN_IDS, i, axis=1))


def test_the_test_split_has_no_labels_and_needs_no_label_files(data_dir: Path) -> None:
    for path in (data_dir / "gtFine" / "test").glob("*/*"):
        path.unlink()
    source = cityscapes(data_dir, "test")
    assert_unlabelled(source)
    assert source.sample_names == SORTED
    assert source.num_classes == 19
    first = [int(image[0, 0, 0]) for image in image_dataset(source)]
    assert first == [NAMES.index(name) for name in SORTED]


def test_errors(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`split` to be one of"):
        cityscapes(data_dir, "train_extra")
    with pytest.raises(ValueError, match="`labels` to be one of"):
        cityscapes(data_dir, labels="color")
    with pytest.raises(FileNotFoundError, match=r"leftImg8bit\.png in .*nowhere"):
        cityscapes(tmp_path / "nowhere")
    for path in (data_dir / "gtFine" / "val").glob("*/*labelTrainIds.png"):
        path.unlink()
    assert cityscapes(data_dir, "val").num_samples == 3
    with pytest.raises(FileNotFoundError, match=r"_gtFine_labelTrainIds\.png in"):
        cityscapes(data_dir, "val", "labelTrainIds")
    label_path(data_dir, "train", NAMES[1]).unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 fault:\n.*{NAMES[1]}_gtFine"):
        cityscapes(data_dir)
    image_path(data_dir, "train", NAMES[0]).unlink()
    with pytest.raises(FileNotFoundError, match=rf"2 faults:\n.*{NAMES[0]}_left"):
        cityscapes(data_dir)
