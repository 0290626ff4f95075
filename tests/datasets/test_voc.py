from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from made_up_files import (
    assert_unlabelled,
    real_data,
    samples,
    save,
    write_lines,
)
from scipy.io import savemat

from tf_levelset.datasets.files.labels import palette_png
from tf_levelset.datasets.pipeline import Source
from tf_levelset.datasets.voc import (
    CLASSES,
    read_voc_labels,
    trainaug_ids,
    voc,
    voc_palette,
)

# The label of each image is a constant that tells where it was read from.
FROM_VOC, FROM_SBD = 3, 7
VOC_TRAIN, VOC_VAL = ("2007_000001", "2007_000002"), ("2007_000003",)
SBD_TRAIN, SBD_VAL = ("2008_000001", "2007_000001"), ("2008_000002", "2007_000003")
LISTS = {"train": VOC_TRAIN, "val": VOC_VAL, "trainval": (*VOC_TRAIN, *VOC_VAL)}
IMAGE = np.zeros((4, 6, 3), np.uint8)


def write_sbd_mat(path: Path, labels: np.ndarray) -> None:
    """Writes labels in SBD's format: a struct GTcls with its three fields."""
    struct = {
        "Boundaries": np.zeros((20, 1)),
        "Segmentation": labels.astype(np.uint8),
        "CategoriesPresent": np.unique(labels).reshape(-1, 1),
    }
    savemat(path, {"GTcls": struct})


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """The layout of the devkit, with all images and VOC's own labels."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for i in {*VOC_TRAIN, *VOC_VAL, *SBD_TRAIN, *SBD_VAL}:
        save(root / "JPEGImages" / f"{i}.jpg", IMAGE)
    labels = np.full((4, 6), FROM_VOC)
    labels[0] = 255
    (root / "SegmentationClass").mkdir()
    for i in LISTS["trainval"]:
        path = root / "SegmentationClass" / f"{i}.png"
        path.write_bytes(palette_png(labels, voc_palette(21)))
    for split, ids in LISTS.items():
        write_lines(root / "ImageSets" / "Segmentation" / f"{split}.txt", ids)
    return root


@pytest.fixture
def sbd(tmp_path: Path) -> Path:
    """The layout of SBD, as its archive unpacks."""
    root = tmp_path / "sbd" / "benchmark_RELEASE" / "dataset"
    write_lines(root / "train.txt", SBD_TRAIN)
    write_lines(root / "val.txt", SBD_VAL)
    (root / "cls").mkdir()
    for i in (*SBD_TRAIN, *SBD_VAL):
        save(root / "img" / f"{i}.jpg", IMAGE)
        write_sbd_mat(root / "cls" / f"{i}.mat", np.full((4, 6), FROM_SBD))
    return root


def last_labels(source: Source) -> dict[str, int]:
    """The label of each sample's last pixel."""
    return {name: int(pair[1][-1, -1]) for name, pair in samples(source).items()}


class TestSplits:
    @pytest.mark.parametrize("split", LISTS)
    def test_own_lists(self, devkit: Path, split: str) -> None:
        source = voc(devkit, split)
        assert source.name == f"voc/{split}"
        assert source.num_classes == 21
        assert last_labels(source) == dict.fromkeys(LISTS[split], FROM_VOC)
        _, labels = source.load(tf.constant(0, tf.int64))
        np.testing.assert_array_equal(labels[0], [255] * 6)

    @pytest.mark.parametrize("up", [0, 1, 2])
    def test_trainaug_of_folders_or_their_parents(
        self, devkit: Path, sbd: Path, up: int
    ) -> None:
        root, sbd_dir = ((p, *p.parents)[up] for p in (devkit, sbd))
        source = voc(root, "trainaug", sbd_dir=sbd_dir)
        # VOC's own labels where there are, and nothing of VOC val.
        assert last_labels(source) == {
            "2007_000001": FROM_VOC,
            "2007_000002": FROM_VOC,
            "2008_000001": FROM_SBD,
            "2008_000002": FROM_SBD,
        }

    def test_images_may_be_in_sbd_alone(self, devkit: Path, sbd: Path) -> None:
        (devkit / "JPEGImages" / "2008_000001.jpg").unlink()
        source = voc(devkit, "trainaug", sbd_dir=sbd)
        assert last_labels(source)["2008_000001"] == FROM_SBD

    def test_list_file(self, devkit: Path, sbd: Path, tmp_path: Path) -> None:
        own = tmp_path / "own.txt"
        write_lines(own, ["2007_000002"])
        assert voc(devkit, list_file=own).sample_names == ("2007_000002",)
        write_lines(own, ["2008_000002", "2007_000002"])
        source = voc(devkit, "trainaug", sbd_dir=sbd, list_file=own)
        expected = {"2008_000002": FROM_SBD, "2007_000002": FROM_VOC}
        assert last_labels(source) == expected

    def test_the_test_split_has_no_labels(self, devkit: Path) -> None:
        # These images have labels here, which are not read.
        ids = ("2007_000002", "2008_000001")
        write_lines(devkit / "ImageSets" / "Segmentation" / "test.txt", ids)
        source = voc(devkit, "test")
        assert_unlabelled(source)
        assert (source.name, source.sample_names) == ("voc/test", ids)
        assert source.num_classes == 21

    def test_errors(self, devkit: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="`split` to be one of"):
            voc(devkit, "trainset")
        with pytest.raises(ValueError, match="Expected `sbd_dir`"):
            voc(devkit, "trainaug")
        with pytest.raises(FileNotFoundError, match="SBD's folder cls"):
            voc(devkit, "trainaug", sbd_dir=tmp_path)
        with pytest.raises(FileNotFoundError, match="VOC's folder JPEGImages"):
            voc(tmp_path / "nowhere")
        with pytest.raises(FileNotFoundError, match=r"image ids at .*test\.txt"):
            voc(devkit, "test")


class TestTrainaugIds:
    def test_is_the_union_without_val(self) -> None:
        ids = trainaug_ids(["b", "a"], ["c", "b"], ["d", "v"], ["v", "w"])
        assert ids == ("a", "b", "c", "d")

    def test_rebuilds_the_published_list(self) -> None:
        train, trainaug, val = (
            (real_data() / "lists" / f"voc2012_{name}.txt").read_text().split()
            for name in ("train", "trainaug", "val")
        )
        assert (len(train), len(trainaug), len(val)) == (1464, 10582, 1449)
        assert set(train) <= set(trainaug)
        assert not set(val) & set(trainaug)
        # SBD holds images of VOC val too; some are put into both of its lists.
        others = sorted(set(trainaug) - set(train))
        sbd_train, sbd_val = others[::2] + val[:700], others[1::2] + val[700:900]
        assert trainaug_ids(train, sbd_train, sbd_val, val) == tuple(sorted(trainaug))


def test_palette() -> None:
    palette = voc_palette()
    assert palette.shape == (256, 3)
    for name, color in (
        ("background", [0, 0, 0]),
        ("aeroplane", [128, 0, 0]),
        ("person", [192, 128, 128]),
        ("tvmonitor", [0, 64, 128]),
    ):
        assert palette[CLASSES.index(name)].tolist() == color
    assert palette[255].tolist() == [224, 224, 192]  # void
    assert len(np.unique(palette, axis=0)) == 256
    assert len(voc_palette(len(CLASSES))) == 21


class TestLabelFiles:
    def test_all_formats_give_the_same_labels(self, tmp_path: Path) -> None:
        labels = np.array([*range(21), 255], np.uint8).reshape(2, 11)
        (tmp_path / "palette.png").write_bytes(palette_png(labels, voc_palette(21)))
        save(tmp_path / "grey.png", labels)
        save(tmp_path / "colors.png", voc_palette()[labels])
        write_sbd_mat(tmp_path / "sbd.mat", labels)
        for path in tmp_path.iterdir():
            np.testing.assert_array_equal(read_voc_labels(str(path)), labels)
