from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_files import real_data, samples, save, write_lines

from tf_levelset.datasets.camvid import CLASSES, camvid
from tf_levelset.datasets.pipeline import Source, subset

NAMES = ("0001TP_006690", "0006R0_f00930", "0016E5_00390")
LABELS = np.arange(24, dtype=np.uint8).reshape(4, 6)


def pair(name: str) -> str:
    return f"train/{name}.png trainannot/{name}.png"


def sequences(source: Source) -> list[str]:
    return [name.split("_")[0] for name in source.sample_names]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Three images in the layout of SegNet, with every label 0 to 11."""
    for i, name in enumerate(NAMES):
        save(tmp_path / f"train/{name}.png", np.full((4, 6, 3), 10 * i, np.uint8))
        save(tmp_path / f"trainannot/{name}.png", (LABELS + i) % 12)
    write_lines(tmp_path / "train.txt", map(pair, NAMES))
    return tmp_path


def test_maps_void_to_255(data_dir: Path) -> None:
    for i, (image, labels) in enumerate(samples(camvid(data_dir)).values()):
        expected = (LABELS + i) % 12
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


def test_errors(data_dir: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"CamVid's val images at .*val\.txt"):
        camvid(data_dir, "val")
    with pytest.raises(ValueError, match="Received: 'training'"):
        camvid(data_dir, "training")
    with pytest.raises(ValueError, match=r"`fold` to be one of \('0001TP'.*'0005VD'"):
        camvid(data_dir, "val", "0005VD")
    with pytest.raises(ValueError, match=r"`split` to be one of \('train', 'val'\)"):
        camvid(data_dir, "test", "0001TP")
    (data_dir / "trainannot" / f"{NAMES[1]}.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 fault:\n.*{NAMES[1]}"):
        camvid(data_dir)
    write_lines(data_dir / "train.txt", ["train/a.png"])
    with pytest.raises(ValueError, match=r"Received: \['train/a\.png'\]"):
        camvid(data_dir)


@pytest.mark.parametrize("fold", ["0001TP", "0006R0", "0016E5"])
def test_a_fold_validates_on_one_sequence(data_dir: Path, fold: str) -> None:
    train, val = (camvid(data_dir, split, fold) for split in ("train", "val"))
    assert (train.name, val.name) == (f"camvid-{fold}/train", f"camvid-{fold}/val")
    assert set(sequences(val)) == {fold}
    assert fold not in sequences(train)
    assert sorted(train.sample_names + val.sample_names) == sorted(NAMES)


def test_tails_are_the_last_images_of_every_sequence(data_dir: Path) -> None:
    names = [f"0001TP_{i:06d}" for i in (300, 30, 60, 90, 120, 150, 180, 210, 240, 270)]
    names += ["0016E5_00390", "0016E5_00420", "0006R0_f00930"]
    for name in names:
        for folder in ("train", "trainannot"):
            source = data_dir / folder / f"{NAMES[0]}.png"
            (data_dir / folder / f"{name}.png").write_bytes(source.read_bytes())
    write_lines(data_dir / "train.txt", map(pair, names))
    train, val = (camvid(data_dir, split, "tails") for split in ("train", "val"))
    # A fifth of ten is two; of two and of one, at least one.
    assert val.sample_names == (names[0], names[9], names[11], names[12])
    assert set(train.sample_names) == set(names) - set(val.sample_names)


class TestRealData:
    def test_sizes(self) -> None:
        train, val = (camvid(real_data() / "camvid", s) for s in ("train", "val"))
        assert (train.num_samples, val.num_samples) == (367, 101)
        assert train.image_size == val.image_size == (360, 480)
        names = sequences(train)
        counts = {name: names.count(name) for name in set(names)}
        assert counts == {"0001TP": 62, "0006R0": 101, "0016E5": 204}
        assert set(sequences(val)) == {"0016E5"}

    def test_class_shares(self) -> None:
        # The known shares of the classes in train determine their order; every 8th
        # image is enough for that.
        source = subset(camvid(real_data() / "camvid"), range(0, 367, 8))
        counts = np.zeros(256)
        for _, labels in samples(source).values():
            counts += np.bincount(labels.ravel(), minlength=256)
        assert counts[11:255].sum() == 0
        assert counts[255] > 0
        known = [0.17, 0.23, 0.01, 0.32, 0.04, 0.10, 0.012, 0.011, 0.06, 0.006, 0.003]
        shares = counts[:11] / counts[:11].sum()
        np.testing.assert_allclose(shares, known, rtol=0.4, atol=0.003)
