"""Masks, overlays and probabilities of files, folders and videos."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from bad_files import png_bomb
from PIL import Image

from tf_levelset.inference.inputs import Input, find_inputs, other_files
from tf_levelset.inference.prediction import (
    Outputs,
    claim,
    predict,
    write_video,
)
from tf_levelset.inference.tiling import Tiling

PALETTE = np.array([(200, 0, 0), (0, 0, 200)], np.uint8)
SIZE = (24, 32)


class Bright:
    """A predictor of two classes, the second where an image is bright; counts calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.calls += 1
        second = image[..., :1].astype(np.float32) / 255
        return np.concatenate([1 - second, second], axis=-1)


def half_bright(bright_columns: int = 16) -> np.ndarray:
    picture = np.zeros((*SIZE, 3), np.uint8)
    picture[:, SIZE[1] - bright_columns :] = 255
    return picture


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def video(path: Path, frames: int = 5) -> Path:
    size = SIZE[1], SIZE[0]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, size)
    for i in range(frames):
        writer.write(half_bright(4 + 4 * i))
    writer.release()
    return path


def outputs(folder: Path, **options: bool) -> Outputs:
    return Outputs(folder, PALETTE, **options)


# --- Inputs ---


def test_folders_are_searched(tmp_path: Path) -> None:
    save(tmp_path / "in/b.png", half_bright())
    save(tmp_path / "in/deep/a.JPG", half_bright())
    video(tmp_path / "in/v.avi")
    (tmp_path / "in/notes.txt").write_text("")
    save(tmp_path / "in/.hidden/c.png", half_bright())
    single = save(tmp_path / "d.png", half_bright())
    save(tmp_path / "disk/e.tif", half_bright())
    (tmp_path / "in/linked").symlink_to(tmp_path / "disk")
    found = find_inputs([tmp_path / "in", single])
    assert [item.name for item in found] == ["b", "deep/a", "linked/e", "v", "d"]
    assert [item.is_video for item in found] == [False, False, False, True, False]
    assert other_files([tmp_path / "in", single]) == [tmp_path / "in/notes.txt"]
    (tmp_path / "in/gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"gone\.png.*leads to no file"):
        find_inputs([tmp_path / "in"])


def test_inputs_of_no_use_raise(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_inputs([tmp_path / "nowhere.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"images or videos in .*empty"):
        find_inputs([tmp_path / "empty"])
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match=r"files of \.jpg.*a\.txt"):
        find_inputs([tmp_path / "a.txt"])
    first = save(tmp_path / "1/a.png", half_bright())
    second = save(tmp_path / "2/a.jpg", half_bright())
    with pytest.raises(ValueError, match="both be named a"):
        find_inputs([first, second])


# --- Outputs ---


def test_an_image_has_a_mask_an_overlay_and_probabilities(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", half_bright())
    out = outputs(tmp_path / "out", probabilities=True)
    assert predict(Bright(), find_inputs([path]), out) == []
    with Image.open(tmp_path / "out/masks/a.png") as mask:
        expected = half_bright()[..., 0] // 255
        np.testing.assert_array_equal(np.array(mask), expected)
        np.testing.assert_array_equal(np.array(mask.convert("RGB")), PALETTE[expected])
    probabilities = np.load(tmp_path / "out/probabilities/a.npy")
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (*SIZE, 2))
    np.testing.assert_allclose(probabilities[..., 1], expected)
    drawn = np.array(Image.open(tmp_path / "out/overlays/a.jpg")).astype(int)
    assert np.abs(drawn[:, 2] - (100, 0, 0)).max() < 30
    assert np.abs(drawn[:, -3] - (128, 128, 228)).max() < 30
    assert drawn[4, 15].min() > 180  # the contour
    # Nothing else, and nothing half done.
    files = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert len(files) == 3
    # What is not asked for is not written.
    predict(Bright(), find_inputs([path]), outputs(tmp_path / "few", overlays=False))
    files = [p for p in (tmp_path / "few").rglob("*") if p.is_file()]
    assert files == [tmp_path / "few/masks/a.png"]


def test_tiles_give_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = save(tmp_path / "a.png", rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    found = []
    for name, tiling in (("whole", None), ("tiles", Tiling(20, 25, 5))):
        model = Bright()
        out = outputs(tmp_path / name, probabilities=True)
        predict(model, find_inputs([path]), out, tiling)
        found.append(np.load(tmp_path / name / "probabilities/a.npy"))
        assert model.calls == (1 if tiling is None else 3 * 4)
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / f"in/{name}.png", half_bright())
    out = outputs(tmp_path / "out")
    told: list[tuple[int, int]] = []

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Stopped

    inputs = find_inputs([tmp_path / "in"])
    with pytest.raises(Stopped):
        predict(Bright(), inputs, out, progress=stop)
    model = Bright()
    predict(model, inputs, out, progress=lambda *both: told.append(both))
    assert model.calls == 1
    assert told == [(1, 3), (2, 3), (3, 3)]
    # Where one of its files is gone, the image is predicted again.
    out.overlay("b").unlink()
    predict(model, inputs, out)
    assert model.calls == 2


def test_unreadable_inputs_are_told_and_the_others_done(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", half_bright())
    (tmp_path / "in/b.png").write_bytes(b"no picture")
    (tmp_path / "in/c.mp4").write_bytes(b"no video")
    save(tmp_path / "in/d.png", half_bright())
    (tmp_path / "in/e.png").write_bytes(png_bomb(20_000, 20_000, 1, whole=False))
    faults = predict(
        Bright(), find_inputs([tmp_path / "in"]), outputs(tmp_path / "out")
    )
    assert [Path(fault.path).name for fault in faults] == ["b.png", "c.mp4", "e.png"]
    assert faults[0].message.startswith("Expected a whole image file. Received:")
    assert faults[2].message == (
        "Expected an image of at most 178956970 pixels. Received: 400000000"
    )
    masks = sorted(path.name for path in (tmp_path / "out/masks").glob("*"))
    assert masks == ["a.png", "d.png"]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_images_are_turned_upright(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(half_bright()).save(path, exif=exif)
    assert predict(Bright(), find_inputs([path]), outputs(tmp_path / "out")) == []
    with Image.open(tmp_path / "out/masks/a.png") as mask:
        labels = np.array(mask)
    # The bright columns on the right become the rows at the bottom.
    expected = np.rot90(half_bright()[..., 0] > 127, -1)
    assert labels.shape == expected.shape
    assert (labels != expected).mean() < 0.05


def test_a_colour_for_each_class(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", half_bright())
    out = Outputs(tmp_path / "out", np.zeros((3, 3), np.uint8))
    with pytest.raises(ValueError, match=r"model's 2 classes.*3 colours"):
        predict(Bright(), find_inputs([path]), out)


# --- Videos ---


def test_a_video_has_masks_of_its_frames_and_an_overlay(tmp_path: Path) -> None:
    path = video(tmp_path / "v.avi")
    out = outputs(tmp_path / "out")
    model = Bright()
    told: list[tuple[int, int]] = []
    inputs = find_inputs([path])
    predict(model, inputs, out, progress=lambda *both: told.append(both))
    assert told[-1] == (5, 5)
    for index in range(5):
        with Image.open(tmp_path / f"out/masks/v/{index:06}.png") as mask:
            bright = np.array(mask).sum() / SIZE[0]
        assert bright == pytest.approx(4 + 4 * index, abs=1)
    written = Input("v", tmp_path / "out/overlays/v.mp4")
    shapes = [read().shape for _, read in written.images()]
    assert shapes == [(*SIZE, 3)] * 5
    assert written.frame_rate == 10
    # Again: no frame is predicted; the video is made from the masks alone.
    (tmp_path / "out/overlays/v.mp4").unlink()
    predict(model, inputs, out)
    assert model.calls == 5
    assert write_video(inputs[0], out).exists()


# --- Settings ---


def test_predictions_made_otherwise_are_not_mixed(tmp_path: Path) -> None:
    claim(tmp_path, {"model": "a", "flip": False})
    claim(tmp_path, {"model": "a", "flip": False})
    with pytest.raises(ValueError, match=r"another flip\. Choose a new folder"):
        claim(tmp_path, {"model": "a", "flip": True})


def test_other_files_of_the_same_name_are_not_taken_for_done(tmp_path: Path) -> None:
    for folder in "ab":
        save(tmp_path / folder / "0.png", half_bright())
    save(tmp_path / "b/1.png", half_bright())
    first, second = (find_inputs([tmp_path / folder]) for folder in "ab")
    out = tmp_path / "out"
    claim(out, {"model": "a"}, first)
    claim(out, {"model": "a"}, first)
    with pytest.raises(ValueError, match=r"another file .*b/0\.png\. Choose"):
        claim(out, {"model": "a"}, second)
    # Further images may be added.
    claim(out, {"model": "a"}, second[1:])
    save(tmp_path / "a/0.png", half_bright(3))
    with pytest.raises(ValueError, match=r"another file .*a/0\.png"):
        claim(out, {"model": "a"}, first)
    (out / "predict.json").write_text('{"model": "a", "inputs": 3}')
    claim(out, {"model": "a"}, first)
