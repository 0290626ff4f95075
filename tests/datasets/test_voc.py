from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.io import savemat

from tf_levelset.datasets.files.labels import palette_png
from tf_levelset.datasets.pipeline import Source, evaluation_dataset, image_dataset
from tf_levelset.datasets.voc import (
    CLASSES,
    read_voc_labels,
    trainaug_ids,
    voc,
    voc_palette,
)

# Each picture's label is a constant, which tells where it came from.
FROM_VOC, FROM_SBD = 3, 7
VOC_TRAIN, VOC_VAL = ("2007_000001", "2007_000002"), ("2007_000003",)
SBD_TRAIN, SBD_VAL = ("2008_000001", "2007_000001"), ("2008_000002", "2007_000003")


def write_picture(path: Path) -> None:
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path)


def write_list(path: Path, ids: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{i}\n" for i in ids))


def write_sbd_mat(path: Path, labels: np.ndarray) -> None:
    """Writes labels in SBD's form: a struct GTcls with its three fields."""
    struct = {
        "Boundaries": np.zeros((20, 1)),
        "Segmentation": labels.astype(np.uint8),
        "CategoriesPresent": np.unique(labels).reshape(-1, 1),
    }
    savemat(path, {"GTcls": struct})


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """The devkit's layout: all pictures, labels of VOC's own."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "SegmentationClass").mkdir()
    for i in {*VOC_TRAIN, *VOC_VAL, *SBD_TRAIN, *SBD_VAL}:
        write_picture(root / "JPEGImages" / f"{i}.jpg")
    for i in (*VOC_TRAIN, *VOC_VAL):
        labels = np.full((4, 6), FROM_VOC)
        labels[0] = 255
        path = root / "SegmentationClass" / f"{i}.png"
        path.write_bytes(palette_png(labels, voc_palette(21)))
    lists = root / "ImageSets" / "Segmentation"
    write_list(lists / "train.txt", VOC_TRAIN)
    write_list(lists / "val.txt", VOC_VAL)
    write_list(lists / "trainval.txt", (*VOC_TRAIN, *VOC_VAL))
    return root


@pytest.fixture
def sbd(tmp_path: Path) -> Path:
    """SBD's layout, as its archive unpacks."""
    root = tmp_path / "sbd" / "benchmark_RELEASE" / "dataset"
    for folder in ("cls", "img"):
        (root / folder).mkdir(parents=True)
    for i in (*SBD_TRAIN, *SBD_VAL):
        write_picture(root / "img" / f"{i}.jpg")
        write_sbd_mat(root / "cls" / f"{i}.mat", np.full((4, 6), FROM_SBD))
    write_list(root / "train.txt", SBD_TRAIN)
    write_list(root / "val.txt", SBD_VAL)
    return root


@pytest.fixture
def data_root() -> Path:
    root = os.environ.get("TF_LEVELSET_DATA")
    if root is None or not Path(root, "voc_sample").is_dir():
        pytest.skip("needs data: set TF_LEVELSET_DATA to the folder of voc_sample/")
    return Path(root)


def last_labels(source: Source) -> dict[str, int]:
    """The label of each sample's last pixel."""
    samples = evaluation_dataset(source).as_numpy_iterator()
    return {
        name: int(labels[-1, -1])
        for name, (_, labels) in zip(source.sample_names, samples, strict=True)
    }


class TestSplits:
    @pytest.mark.parametrize(
        ("split", "ids"),
        [
            ("train", VOC_TRAIN),
            ("val", VOC_VAL),
            ("trainval", (*VOC_TRAIN, *VOC_VAL)),
        ],
    )
    def test_own_lists(self, devkit: Path, split: str, ids: tuple[str, ...]) -> None:
        source = voc(devkit, split)
        assert source.name == f"voc/{split}"
        assert source.num_classes == 21
        assert last_labels(source) == dict.fromkeys(ids, FROM_VOC)
        _, labels = source.load(tf.constant(0, tf.int64))
        np.testing.assert_array_equal(labels[0], [255] * 6)

    def test_finds_the_devkit_in_its_parents(self, devkit: Path) -> None:
        for parent in (devkit, devkit.parent, devkit.parent.parent):
            assert voc(parent).sample_names == VOC_TRAIN

    def test_trainaug(self, devkit: Path, sbd: Path) -> None:
        source = voc(devkit, "trainaug", sbd_dir=sbd)
        # VOC's own labels where there are, and nothing of VOC val.
        assert last_labels(source) == {
            "2007_000001": FROM_VOC,
            "2007_000002": FROM_VOC,
            "2008_000001": FROM_SBD,
            "2008_000002": FROM_SBD,
        }

    def test_finds_sbd_in_its_parents(self, devkit: Path, sbd: Path) -> None:
        for parent in (sbd, sbd.parent, sbd.parent.parent):
            assert voc(devkit, "trainaug", sbd_dir=parent).num_samples == 4

    def test_pictures_may_lie_in_sbd_alone(self, devkit: Path, sbd: Path) -> None:
        (devkit / "JPEGImages" / "2008_000001.jpg").unlink()
        source = voc(devkit, "trainaug", sbd_dir=sbd)
        assert last_labels(source)["2008_000001"] == FROM_SBD

    def test_list_file(self, devkit: Path, sbd: Path, tmp_path: Path) -> None:
        write_list(tmp_path / "own.txt", ["2007_000002"])
        source = voc(devkit, "train", list_file=tmp_path / "own.txt")
        assert source.sample_names == ("2007_000002",)
        write_list(tmp_path / "own.txt", ["2008_000002", "2007_000002"])
        source = voc(devkit, "trainaug", sbd_dir=sbd, list_file=tmp_path / "own.txt")
        assert last_labels(source) == {
            "2008_000002": FROM_SBD,
            "2007_000002": FROM_VOC,
        }

    def test_test_has_pictures_and_no_labels(self, devkit: Path) -> None:
        # These pictures have labels here: they are not read.
        ids = ("2007_000002", "2008_000001")
        write_list(devkit / "ImageSets" / "Segmentation" / "test.txt", ids)
        source = voc(devkit, "test")
        assert source.name == "voc/test"
        assert not source.has_labels
        assert source.sample_names == ids
        assert source.num_classes == 21
        assert len(list(image_dataset(source))) == 2
        for i in range(2):
            _, labels = source.load(tf.constant(i, tf.int64))
            np.testing.assert_array_equal(labels, np.full((4, 6), 255))
        with pytest.raises(ValueError, match=r"labels\. Received: 'voc/test'"):
            evaluation_dataset(source)

    def test_test_needs_its_list(self, devkit: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"image ids at .*test\.txt"):
            voc(devkit, "test")

    def test_errors(self, devkit: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="`split` to be one of"):
            voc(devkit, "trainset")
        with pytest.raises(ValueError, match="Expected `sbd_dir`"):
            voc(devkit, "trainaug")
        with pytest.raises(FileNotFoundError, match="SBD's folder cls"):
            voc(devkit, "trainaug", sbd_dir=tmp_path)
        with pytest.raises(FileNotFoundError, match="VOC's folder JPEGImages"):
            voc(tmp_path / "nowhere")
        (devkit / "ImageSets" / "Segmentation" / "val.txt").unlink()
        with pytest.raises(FileNotFoundError, match=r"image ids at .*val\.txt"):
            voc(devkit, "val")


class TestTrainaugIds:
    def test_is_the_union_without_val(self) -> None:
        assert trainaug_ids(["b", "a"], ["c", "b"], ["d", "v"], ["v", "w"]) == (
            "a",
            "b",
            "c",
            "d",
        )

    def test_rebuilds_the_published_list(self, data_root: Path) -> None:
        train, trainaug, val = (
            (data_root / "lists" / f"voc2012_{name}.txt").read_text().split()
            for name in ("train", "trainaug", "val")
        )
        assert (len(train), len(trainaug), len(val)) == (1464, 10582, 1449)
        assert set(train) <= set(trainaug)
        assert not set(val) & set(trainaug)
        # SBD holds pictures of VOC val too; some are put into both of its lists.
        others = sorted(set(trainaug) - set(train))
        sbd_train, sbd_val = others[::2] + val[:700], others[1::2] + val[700:900]
        assert trainaug_ids(train, sbd_train, sbd_val, val) == tuple(sorted(trainaug))


class TestPalette:
    def test_known_colours(self) -> None:
        palette = voc_palette()
        assert palette.shape == (256, 3)
        assert palette[0].tolist() == [0, 0, 0]
        assert palette[1].tolist() == [128, 0, 0]  # aeroplane
        assert palette[15].tolist() == [192, 128, 128]  # person
        assert palette[20].tolist() == [0, 64, 128]  # tvmonitor
        assert palette[255].tolist() == [224, 224, 192]  # void
        assert len(np.unique(palette, axis=0)) == 256

    def test_there_is_a_colour_a_class(self) -> None:
        assert len(voc_palette(len(CLASSES))) == 21


class TestLabelFiles:
    @pytest.mark.parametrize("form", ["palette", "greyscale", "colours"])
    def test_all_forms_give_the_same_labels(self, tmp_path: Path, form: str) -> None:
        labels = np.array([*range(21), 255], np.uint8).reshape(2, 11)
        path = tmp_path / "labels.png"
        if form == "palette":
            path.write_bytes(palette_png(labels, voc_palette(21)))
        elif form == "greyscale":
            Image.fromarray(labels).save(path)
        else:
            Image.fromarray(voc_palette()[labels]).save(path)
        np.testing.assert_array_equal(read_voc_labels(str(path)), labels)

    def test_unknown_colour_is_an_error(self, devkit: Path) -> None:
        pixels = np.zeros((4, 6, 3), np.uint8)
        pixels[0, 0] = voc_palette()[21]  # no class of VOC
        name = f"{VOC_TRAIN[0]}.png"
        Image.fromarray(pixels).save(devkit / "SegmentationClass" / name)
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=f"colours in .*{name}"
        ):
            list(evaluation_dataset(voc(devkit)))

    def test_sbd(self, tmp_path: Path) -> None:
        labels = np.arange(20).reshape(4, 5)
        write_sbd_mat(tmp_path / "a.mat", labels)
        read = read_voc_labels(str(tmp_path / "a.mat"))
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, labels)

    def test_another_mat_file_is_named(self, tmp_path: Path) -> None:
        savemat(tmp_path / "a.mat", {"GTinst": {"Segmentation": np.zeros((2, 2))}})
        with pytest.raises(ValueError, match=r"struct GTcls .*a\.mat"):
            read_voc_labels(str(tmp_path / "a.mat"))
        for odd in (np.zeros((2, 2)), "text", np.zeros(3, [("Segmentation", "O")])):
            savemat(tmp_path / "b.mat", {"GTcls": odd})
            with pytest.raises(ValueError, match=r"struct GTcls .*b\.mat"):
                read_voc_labels(str(tmp_path / "b.mat"))


class TestRealSample:
    @pytest.mark.parametrize("split", ["train", "val"])
    def test_labels_are_the_indices(self, data_root: Path, split: str) -> None:
        folder = data_root / "voc_sample"
        source = voc(folder, split)
        samples = evaluation_dataset(source).as_numpy_iterator()
        for name, (image, labels) in zip(source.sample_names, samples, strict=True):
            path = folder / "SegmentationClass" / f"{name}.png"
            with Image.open(path) as expected:
                assert expected.mode == "P"
                np.testing.assert_array_equal(labels, np.array(expected))
            assert image.shape[:2] == labels.shape
            assert set(np.unique(labels)) - {0, 255}

    def test_tensorflow_does_not_give_the_indices(self, data_root: Path) -> None:
        # The trap: decode_png turns a palette image into luminance or colours.
        path = data_root / "voc_sample" / "SegmentationClass" / "2011_000003.png"
        labels = read_voc_labels(str(path))
        contents = tf.io.read_file(str(path))
        grey = tf.io.decode_png(contents, channels=1)[..., 0].numpy()
        assert not np.array_equal(grey, labels)
        # With colours, the palette leads back.
        colors = tf.io.decode_png(contents, channels=3).numpy()
        np.testing.assert_array_equal(colors, voc_palette()[labels])
