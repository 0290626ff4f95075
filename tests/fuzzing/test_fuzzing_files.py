"""The files that cases are made of: sound ones are, and bombs are what they seem."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from fuzzing import files


@pytest.mark.parametrize("count", [0, 1, 1000, 2**20, 3 * 2**20 + 17])
@pytest.mark.parametrize("before", [b"", b"abc" * 100])
def test_zeros_are_a_stream_of_zlib(count: int, before: bytes) -> None:
    packed = files.zeros(count, before)
    assert zlib.decompress(packed) == before + bytes(count)
    if count > 2**20:
        assert len(packed) < count / 500


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_bomb_is_a_picture(channels: int) -> None:
    content = files.png_bomb(300, 200, channels, whole=True)
    with Image.open(io.BytesIO(content)) as image:
        image.verify()
    array = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert array is not None
    assert array.shape[:2] == (200, 300)
    assert not array[..., :3].any()


def test_a_bomb_of_matlab_is_an_array(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(files.mat_bomb("LabelMap", 1001))
    labels = loadmat(tmp_path / "a.mat")["LabelMap"]
    assert labels.shape == (1001, 1001)
    assert labels.dtype == np.uint8
    assert not labels.any()


def test_a_bomb_of_tiff_is_a_picture() -> None:
    with Image.open(io.BytesIO(files.tiff_bomb(50, 40))) as image:
        assert np.array(image).shape == (40, 50)


def test_a_text_beside_the_pixels_is_one() -> None:
    content = files.png_text_bomb(files.encoded(np.zeros((3, 4), np.uint8)), 1000)
    with Image.open(io.BytesIO(content)) as image:
        assert image.info["Comment"] == "\0" * 1000


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP"])
def test_headers_tell_another_size(format: str) -> None:
    content = files.encoded(np.zeros((6, 7, 3), np.uint8), format)
    with Image.open(io.BytesIO(files.with_size(content, 70, 60))) as image:
        assert image.size == (70, 60)


@pytest.mark.parametrize("damage", files.DAMAGES)
def test_damage_is_a_function_of_the_seed(
    damage: Callable[[np.random.Generator, bytes], bytes],
) -> None:
    content = bytes(range(256)) * 2
    changed = [damage(np.random.default_rng(seed), content) for seed in range(20)]
    assert damage(np.random.default_rng(3), content) == changed[3]
    assert sum(c != content for c in changed) > 15


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_a_video_has_its_frames(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"video{suffix}"
    path.write_bytes(files.video(suffix, frames=3))
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    capture.release()
    assert count == 3


def test_trees_have_links_and_pipes(tmp_path: Path) -> None:
    tree = files.Tree({"a/b": b"x"}, {"c": "a/b", "d/e": ""})
    tree.write(tmp_path)
    assert (tmp_path / "c").read_bytes() == b"x"
    assert (tmp_path / "d" / "e").is_fifo()
