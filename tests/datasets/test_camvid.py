from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tf_levelset.datasets.camvid import CLASSES, camvid
from tf_levelset.datasets.pipeline import Source, evaluation_dataset, subset

NAMES = ("0001TP_006690", "0006R0_f00930", "0016E5_00390")


def sequences(source: Source) -> list[str]:
    return [name.split("_")[0] for name in source.sample_names]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Three pictures in the layout of SegNet, with every label 0 to 11."""
    lines = []
    for folder in ("train", "trainannot"):
        (tmp_path / folder).mkdir()
    for i, name in enumerate(NAMES):
        picture = np.full((4, 6, 3), 10 * i, np.uint8)
        Image.fromarray(picture).save(tmp_path / "train" / f"{name}.png")
        labels = (np.arange(24).reshape(4, 6) + i).astype(np.uint8) % 12
        Image.fromarray(labels).save(tmp_path / "trainannot" / f"{name}.png")
        lines.append(f"train/{name}.png trainannot/{name}.png")
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def real_dir() -> Path:
    root = os.environ.get("TF_LEVELSET_DATA")
    if root is None or not Path(root, "camvid").is_dir():
        pytest.skip("needs CamVid: set TF_LEVELSET_DATA to the folder that holds it")
    return Path(root, "camvid")


def test_maps_void_to_255(data_dir: Path) -> None:
    source = camvid(data_dir)
    for i, (image, labels) in enumerate(evaluation_dataset(source)):
        expected = (np.arange(24).reshape(4, 6) + i) % 12
        expected[expected == 11] = 255
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_array_equal(image, np.full((4, 6, 3), 10 * i))


def test_describes_itself(data_dir: Path) -> None:
    source = camvid(data_dir, "train")
    assert source.name == "camvid/train"
    assert source.num_classes == 11
    assert source.ignore_class == 255
    assert source.class_names[0] == "sky"
    assert source.class_names[10] == "bicyclist"
    assert source.sample_names == NAMES
    assert source.image_size == (4, 6)
    np.testing.assert_array_equal(source.palette[3], CLASSES["road"])


def test_takes_the_original_lists(data_dir: Path) -> None:
    relative = camvid(data_dir).sample_names
    lines = (data_dir / "train.txt").read_text().split()
    absolute = [f"/SegNet/CamVid/{path}" for path in lines]
    text = "\n".join(
        " ".join(pair) for pair in zip(absolute[::2], absolute[1::2], strict=True)
    )
    (data_dir / "train.txt").write_text(text + "\n\n")
    source = camvid(data_dir)
    assert source.sample_names == relative
    assert len(list(evaluation_dataset(source))) == 3


def test_missing_split_is_named(data_dir: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"CamVid's val images at .*val\.txt"):
        camvid(data_dir, "val")


def test_missing_file_is_named(data_dir: Path) -> None:
    (data_dir / "trainannot" / f"{NAMES[1]}.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 fault:\n.*{NAMES[1]}"):
        camvid(data_dir)


def test_rejects_an_unknown_split(data_dir: Path) -> None:
    with pytest.raises(ValueError, match="Received: 'training'"):
        camvid(data_dir, "training")


def test_rejects_a_malformed_list(data_dir: Path) -> None:
    (data_dir / "train.txt").write_text("train/a.png\n")
    with pytest.raises(ValueError, match=r"Received: 'train/a\.png'"):
        camvid(data_dir)


class TestRealData:
    @pytest.mark.parametrize(("split", "num_samples"), [("train", 367), ("val", 101)])
    def test_sizes(self, real_dir: Path, split: str, num_samples: int) -> None:
        source = camvid(real_dir, split)
        assert source.num_samples == num_samples
        assert source.image_size == (360, 480)

    def test_drives(self, real_dir: Path) -> None:
        train = sequences(camvid(real_dir, "train"))
        counts = {drive: train.count(drive) for drive in set(train)}
        assert counts == {"0001TP": 62, "0006R0": 101, "0016E5": 204}
        assert set(sequences(camvid(real_dir, "val"))) == {"0016E5"}

    def test_class_shares(self, real_dir: Path) -> None:
        # The known shares of the classes in train tell their order. Every 8th
        # picture is enough for that.
        source = camvid(real_dir, "train")
        counts = np.zeros(256)
        for _, labels in evaluation_dataset(subset(source, range(0, 367, 8))):
            counts += np.bincount(labels.numpy().ravel(), minlength=256)
        assert counts[11:255].sum() == 0
        assert counts[255] > 0
        known = [0.17, 0.23, 0.01, 0.32, 0.04, 0.10, 0.012, 0.011, 0.06, 0.006, 0.003]
        shares = counts[:11] / counts[:11].sum()
        np.testing.assert_allclose(shares, known, rtol=0.4, atol=0.003)


@pytest.mark.parametrize("fold", ["0001TP", "0006R0", "0016E5"])
def test_a_fold_validates_on_one_drive(data_dir: Path, fold: str) -> None:
    train, val = (camvid(data_dir, split, fold) for split in ("train", "val"))
    assert (train.name, val.name) == (f"camvid-{fold}/train", f"camvid-{fold}/val")
    assert set(sequences(val)) == {fold}
    assert fold not in sequences(train)
    assert sorted(train.sample_names + val.sample_names) == sorted(NAMES)


def test_tails_are_the_last_pictures_of_every_drive(data_dir: Path) -> None:
    names = [f"0001TP_{i:06d}" for i in (300, 30, 60, 90, 120, 150, 180, 210, 240, 270)]
    names += ["0016E5_00390", "0016E5_00420", "0006R0_f00930"]
    for name in names:
        for folder in ("train", "trainannot"):
            source = data_dir / folder / f"{NAMES[0]}.png"
            (data_dir / folder / f"{name}.png").write_bytes(source.read_bytes())
    lines = [f"train/{name}.png trainannot/{name}.png" for name in names]
    (data_dir / "train.txt").write_text("\n".join(lines) + "\n")
    train, val = (camvid(data_dir, split, "tails") for split in ("train", "val"))
    # A fifth of ten is two; of two and of one, one at least.
    assert val.sample_names == (names[0], names[9], names[11], names[12])
    assert set(train.sample_names) == set(names) - set(val.sample_names)


def test_unknown_folds_raise(data_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"`fold` to be one of \('0001TP'.*'0005VD'"):
        camvid(data_dir, "val", "0005VD")
    with pytest.raises(ValueError, match=r"`split` to be one of \('train', 'val'\)"):
        camvid(data_dir, "test", "0001TP")


def test_real_folds(real_dir: Path) -> None:
    folds = ("0001TP", "0006R0", "0016E5")
    sizes = [camvid(real_dir, "val", fold).num_samples for fold in folds]
    assert sizes == [62, 101, 204]
    tails = camvid(real_dir, "val", "tails")
    assert tails.num_samples == 12 + 20 + 41
    assert tails.sample_names[-1] == camvid(real_dir).sample_names[-1]
    assert camvid(real_dir, "train", "tails").num_samples == 367 - 73
