"""All that is wrong with a data set is found in one pass, each with its path."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from made_up_files import save
from PIL import Image

from tf_levelset.datasets import load_dataset, subset
from tf_levelset.datasets.files.faults import DataSetError, Fault
from tf_levelset.datasets.paired_files import paired_files_source
from tf_levelset.datasets.verification import Verified, load_verified, verify

SIZE = (12, 16)
NAMES = ("ground", "tree", "pond")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Sixty images, every second one a JPEG, in lists."""
    rng = np.random.default_rng(0)
    names = [f"{i:02}" for i in range(60)]
    for i, name in enumerate(names):
        image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        save(tmp_path / f"images/{name}{('.png', '.jpg')[i % 2]}", image)
        labels = rng.choice(np.array([0, 1, 2, 255], np.uint8), SIZE)
        save(tmp_path / f"masks/{name}.png", labels)
    (tmp_path / "train.txt").write_text("\n".join(names[:45]))
    (tmp_path / "val.txt").write_text("\n".join(names[45:]))
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    return tmp_path


def truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def plant(root: Path) -> dict[Path, str]:
    """Plants fifty faults, and says where and what is to be found of each."""
    rng = np.random.default_rng(1)
    planted: dict[Path, str] = {}

    def image_path(i: int) -> Path:
        return root / f"images/{i:02}{('.png', '.jpg')[i % 2]}"

    def mask(i: int) -> Path:
        return root / f"masks/{i:02}.png"

    for i in range(6):
        mask(i).unlink()
        planted[image_path(i)] = "Expected its mask"
    for i in range(6, 12):
        image_path(i).unlink()
        planted[mask(i)] = "Expected its image"
    for i in range(12, 20):
        truncate(image_path(i))
        planted[image_path(i)] = "Expected a whole image file"
    for i in range(20, 28):
        truncate(mask(i))
        planted[mask(i)] = "Expected a whole image file"
    for i in range(28, 34):
        save(mask(i), rng.integers(0, 3, (SIZE[0], SIZE[1] + i), dtype=np.uint8))
        planted[mask(i)] = f"its image's size, {SIZE}. Received: (12, {16 + i})"
    for i in range(34, 40):
        labels = rng.integers(0, 3, SIZE, dtype=np.uint8)
        labels[0, :3] = 100 + i
        save(mask(i), labels)
        planted[mask(i)] = f"Received: [{100 + i}]"
    for i in range(40, 44):
        save(mask(i), rng.integers(0, 3, (*SIZE, 3), dtype=np.uint8))
        planted[mask(i)] = "Received: mode RGB"
    # The same in val, whose faults are told beside train's.
    image_path(50).write_bytes(b"")
    planted[image_path(50)] = "Expected a whole image file"
    mask(51).write_bytes(b"not an image")
    planted[mask(51)] = "Expected a whole image file"
    save(mask(52), np.zeros(SIZE, np.uint16))
    planted[mask(52)] = "Received: mode I"
    (root / "images/notes.doc").write_text("")
    planted[root / "images/notes.doc"] = "Expected images .jpg"
    save(root / "images/53.bmp", np.zeros((*SIZE, 3), np.uint8))
    planted[image_path(53)] = "Expected one image named 53"
    with (root / "val.txt").open("a") as lines:
        lines.write("\nnobody\n")
    planted[root / "val.txt"] = "an image and a mask of nobody"
    return planted


def test_fifty_planted_faults_are_all_reported(root: Path) -> None:
    planted = plant(root)
    assert len(planted) == 50
    with pytest.raises(DataSetError, match="fault") as raised:
        load_verified("folder", ["train", "val"], root)
    told = [str(fault) for fault in raised.value.faults]
    for path, message in planted.items():
        found = [line for line in told if line.startswith(f"{path}: ")]
        assert any(message in line for line in found), (path, message, found)
    # Nothing but these, and the lists' lines about the twelve that lack their other.
    rest = [line for line in told if not line.startswith(tuple(map(str, planted)))]
    assert len(rest) == 12
    assert all("train.txt: Expected an image and a mask of" in line for line in rest)


def test_pixels_are_counted(root: Path) -> None:
    source = load_dataset("folder", "train", root)
    found = verify(source)
    assert found.faults == ()
    masks = [
        np.array(Image.open(root / f"masks/{name}.png")) for name in source.sample_names
    ]
    counts = [int((np.array(masks) == label).sum()) for label in (0, 1, 2, 255)]
    assert [*found.pixels, found.void] == counts
    assert verify(source, threads=1).pixels.tolist() == counts[:3]


def test_a_subset_is_read_alone(root: Path) -> None:
    save(root / "masks/03.png", np.full(SIZE, 9, np.uint8))
    source = load_dataset("folder", "train", root)
    assert len(verify(source).faults) == 1
    assert verify(subset(source, [2, 4])).faults == ()
    assert len(verify(subset(source, [4, 3])).faults) == 1


def test_classes_without_a_pixel_are_told(root: Path) -> None:
    (root / "classes.txt").write_text("\n".join([*NAMES, "boat"]))
    expected = Fault("folder/val", "Expected pixels of class 'boat'. Received: none")
    assert load_verified("folder", ["val"], root).empty_classes() == [expected]


def test_generated_images_are_not_read() -> None:
    source = load_dataset("synthetic", "val")
    found = verify(source)
    assert (found.faults, found.pixels.sum()) == ((), 0)
    assert load_verified("synthetic", ["train", "val"]).empty_classes() == []


def test_what_was_sound_is_read_again_once_it_changes(root: Path) -> None:
    first = load_verified("folder", ["train", "val"], root, known={})
    assert len(first.found) == 2
    path = root / "masks/00.png"
    os.utime(path, ns=(0, 0))
    again = load_verified("folder", ["train", "val"], root, known=first.content)
    assert (again.found, again.content) == ((), first.content)
    save(path, np.full(SIZE, 9, np.uint8))
    with pytest.raises(DataSetError, match=r"1 fault:\n.*00\.png: .*\[9\]"):
        load_verified("folder", ["train", "val"], root, known=first.content)


def test_images_without_labels_are_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / f"{name}.png", np.zeros((*SIZE, 3), np.uint8))
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    source = paired_files_source("toy", paths, None, ["x"], [(0, 0, 0)])
    found = verify(source)
    assert (found.faults, found.pixels.tolist()) == ((), [0])
    assert Verified((source,), (found,), {}).empty_classes() == []
    truncate(tmp_path / "b.png")
    assert [Path(fault.path).stem for fault in verify(source).faults] == ["b"]
