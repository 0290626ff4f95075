"""A folder of images and masks: classes, pairs, splits, and what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from made_up_files import samples, save
from PIL import Image

from tf_levelset.datasets import load_dataset
from tf_levelset.datasets.files.faults import DataSetError, MissingFilesError
from tf_levelset.datasets.image_folder import image_folder

SIZE = (6, 8)
RED, BLUE = (200, 0, 0), (0, 0, 200)


def add(root: Path, name: str, mask: np.ndarray, suffix: str = ".png") -> None:
    """Adds an image and its mask."""
    value = sum(name.encode()) % 256
    image = np.full((*mask.shape[:2], 3), value, np.uint8)
    save(root / "images" / f"{name}{suffix}", image)
    save(root / "masks" / f"{name}.png", mask)


def ids(seed: int = 0, values: tuple[int, ...] = (0, 1, 255)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.choice(np.array(values, np.uint8), SIZE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten images of two classes, two of them in a folder of their own."""
    for i in range(8):
        add(tmp_path, f"p{i}", ids(i))
    add(tmp_path, "drive/q 0", ids(8), ".jpg")
    add(tmp_path, "drive/q.1", ids(9))
    (tmp_path / "classes.txt").write_text("ground\nbig tree  # of any kind\n\n")
    return tmp_path


def test_pairs_are_found_by_their_paths(root: Path) -> None:
    source = load_dataset("folder", "train", root, val_fraction=0.2)
    val = load_dataset("folder", "val", root, val_fraction=0.2)
    assert (source.num_samples, val.num_samples) == (8, 2)
    assert source.class_names == ("ground", "big tree")
    names = {*source.sample_names, *val.sample_names}
    assert names == {*(f"p{i}" for i in range(8)), "drive/q 0", "drive/q.1"}
    for each in (source, val):
        for name, (image, labels) in samples(each).items():
            assert abs(int(image[0, 0, 0]) - sum(name.encode()) % 256) <= 1
            with Image.open(root / "masks" / f"{name}.png") as mask:
                np.testing.assert_array_equal(labels, np.array(mask))


def test_a_split_by_fraction_is_of_the_names_alone(root: Path) -> None:
    def val(**options: Any) -> set[str]:
        return set(image_folder(root, "val", val_fraction=0.3, **options).sample_names)

    before = val()
    assert len(before) == 3
    assert val() == before
    assert any(val(seed=seed) != before for seed in range(1, 5))
    # A further image moves at most one of the old ones.
    add(root, "further", ids())
    assert len(before - val()) <= 1


def test_lists_are_splits(root: Path) -> None:
    (root / "train.txt").write_text("p0\np1.png\n\ndrive/q 0\n")
    (root / "val.txt").write_text("p2\n")
    (root / "all.txt").write_text("p0\np2\n")
    assert image_folder(root, "train").sample_names == ("p0", "p1", "drive/q 0")
    assert image_folder(root, "val").sample_names == ("p2",)
    assert image_folder(root, "all").sample_names == ("p0", "p2")
    with pytest.raises(FileNotFoundError, match="list of 'test' at"):
        image_folder(root, "test")


def test_masks_in_colours(root: Path) -> None:
    colors = np.array([RED, BLUE, (9, 9, 9), (0, 0, 0)], np.uint8)
    for path in (root / "masks").rglob("*.png"):
        save(path, colors[ids(values=(0, 1, 2, 3))])
    (root / "classes.txt").write_text(
        "tree 200 0 0\nvoid 9 9 9\npond 0 0 200\nvoid 0 0 0\n"
    )
    source = image_folder(root)
    np.testing.assert_array_equal(source.palette, [RED, BLUE])
    expected = np.array([0, 1, 255, 255], np.uint8)[ids(values=(0, 1, 2, 3))]
    for _, labels in samples(source).values():
        np.testing.assert_array_equal(labels, expected)
    # The same as options.
    classes = {"tree": list(RED), "pond": list(BLUE), "void": [9, 9, 9]}
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"such as .*0, 0, 0"):
        samples(image_folder(root, classes=classes))


def test_classes_as_options(root: Path) -> None:
    with pytest.raises(ValueError, match=r"entries with \[2\] values"):
        image_folder(root, classes={"a": [0, 1], "b": [1, 2]})
    for classes in (["a", "b"], {"a": 0, "b": 1}, {"a": 0, "void": 255, "b": 1}):
        source = image_folder(root, classes=classes)
        assert source.class_names == ("a", "b")
        assert {*np.unique(next(iter(samples(source).values()))[1])} <= {0, 1, 255}


def test_what_is_not_there_raises(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"list of classes at .*names\.txt"):
        image_folder(root, classes="names.txt")
    with pytest.raises(FileNotFoundError, match=r"no folder .*labels"):
        image_folder(root, masks="labels")
    with pytest.raises(ValueError, match=r"`split` to be one of \('train', 'val'\)"):
        image_folder(root, "test")
    for fraction in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="`val_fraction`"):
            image_folder(root, val_fraction=fraction)


def faults(root: Path, split: str = "train") -> list[str]:
    with pytest.raises(DataSetError) as raised:
        image_folder(root, split)
    assert isinstance(raised.value, MissingFilesError) == any(
        fault.missing for fault in raised.value.faults
    )
    return [str(fault).replace(str(root), "") for fault in raised.value.faults]


def test_files_without_a_pair_are_named(root: Path) -> None:
    (root / "masks/p0.png").unlink()
    (root / "images/p1.png").unlink()
    save(root / "images/p2.jpg", np.zeros((*SIZE, 3), np.uint8))
    save(root / "masks/p3.gif", ids())
    (root / "images/readme.txt").write_text("")
    (root / "images/.DS_Store").write_text("")
    found = faults(root)
    assert sorted(fault.split(":")[0] for fault in found) == [
        "/images/p0.png",
        "/images/p2.png",
        "/images/readme.txt",
        "/masks/p1.png",
        "/masks/p3.png",
    ]
    assert "Expected its mask, such as /masks/p0.png" in "".join(found)


def test_what_is_wrong_with_lists_is_named(root: Path) -> None:
    (root / "train.txt").write_text("p0\np1\np0\nnobody\n")
    (root / "val.txt").write_text("p1.png\np2\n")
    assert faults(root) == [
        "/train.txt: Expected each image once. Received: p0 2 times",
        "/train.txt: Expected an image and a mask of nobody. Received: not both",
        "/train.txt: Expected no image of /val.txt. Received: p1",
    ]
    assert faults(root, "val") == [
        "/val.txt: Expected no image of /train.txt. Received: p1"
    ]


def test_no_fault_is_lost_where_no_pair_is_left(root: Path) -> None:
    for path in (root / "masks").rglob("*.png"):
        path.rename(path.with_suffix(".jpg"))
    found = faults(root)
    assert (
        sum("whose compression has changed the labels" in line for line in found) == 10
    )
    assert sum("Expected its mask" in line for line in found) == 10


# --- Splits by folder ---


@pytest.mark.parametrize("names", [("train", "val"), ("Training", "validation")])
def test_folders_are_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in (f"{names[0]}/a", f"{names[0]}/deep/b", f"{names[1]}/a", "test/c"):
        add(tmp_path, name, ids())
    (tmp_path / "classes.txt").write_text("ground\ntree\n")

    def found(split: str) -> tuple[str, ...]:
        return image_folder(tmp_path, split).sample_names

    assert found("train") == (f"{names[0]}/a", f"{names[0]}/deep/b")
    assert (found("val"), found("test")) == ((f"{names[1]}/a",), ("test/c",))
    add(tmp_path, "other/d", ids())
    assert faults(tmp_path) == [
        ": Expected all images in the folders of the splits. Received: 1 elsewhere, "
        "such as other/d"
    ]
    # Lists take precedence.
    (tmp_path / "val.txt").write_text("other/d\n")
    assert found("val") == ("other/d",)


def test_the_folder_of_a_split_is_required_beside_others(tmp_path: Path) -> None:
    add(tmp_path, "train/a", ids())
    add(tmp_path, "test/b", ids())
    with pytest.raises(FileNotFoundError, match=r"'val'.*\['test', 'train'\]"):
        image_folder(tmp_path, "val", classes=["a", "b"])


# --- Orientation ---


def test_a_mask_is_turned_by_its_own_orientation(root: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    mask, turned = ids(), np.rot90(ids(), -1)
    image = np.arange(48, dtype=np.uint8).reshape(SIZE)
    Image.fromarray(image).save(root / "images/p0.png", exif=exif)
    for stored, tag in ((mask, exif), (turned, Image.Exif())):
        stored = np.ascontiguousarray(stored)
        Image.fromarray(stored).save(root / "masks/p0.png", exif=tag)
        (root / "all.txt").write_text("p0")
        source = image_folder(root, "all")
        assert source.image_size == turned.shape
        found, labels = samples(source)["p0"]
        np.testing.assert_array_equal(found[..., 0], np.rot90(image, -1))
        np.testing.assert_array_equal(labels, turned)
    save(root / "masks/p0.png", mask)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\(8, 6\).*\(6, 8\)"):
        samples(image_folder(root, "all"))
