from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_files import chunk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tf_levelset.datasets.files.labels import (
    ClassReader,
    color_label_reader,
    palette_png,
    read_index_labels,
)

PALETTE = ((0, 0, 0), (200, 0, 0), (0, 200, 0))


def save(path: Path, pixels: np.ndarray) -> str:
    Image.fromarray(pixels).save(path)
    return str(path)


def test_a_flipped_bit_of_a_png_is_always_an_error(tmp_path: Path) -> None:
    # Pillow ignores the checksum of the pixels while it reads them.
    ids = np.kron(np.arange(9).reshape(3, 3) % 3, np.ones((8, 8), int))
    path, whole = tmp_path / "l.png", palette_png(ids, PALETTE)
    start, stop = whole.index(b"IDAT"), whole.index(b"IEND")
    for place in range(start, stop - 4):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(Exception, match=r"."):
            read_index_labels(str(path))


@pytest.mark.parametrize("format", ["EPS", "JPEG", "WEBP", "PPM", "ICO"])
def test_other_formats_are_not_opened(tmp_path: Path, format: str) -> None:
    # For PostScript, Pillow would run another program.
    path = tmp_path / "l.png"
    Image.new("RGB", (5, 4), 1).save(path, format=format)
    for read in (read_index_labels, color_label_reader({(1, 1, 1): 0})):
        with pytest.raises(Image.UnidentifiedImageError):
            read(str(path))


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("is_palette", [False, True])
def test_labels_of_few_bits_are_never_stretched(
    tmp_path: Path, bits: int, is_palette: bool
) -> None:
    ids = np.arange(2**bits, dtype=np.uint8).reshape(1, -1)
    content = palette_png(ids, np.zeros((16, 3)))
    with Image.open(io.BytesIO(content)) as image:
        image.save(tmp_path / "l.png", bits=bits)
    png = bytearray((tmp_path / "l.png").read_bytes())
    if not is_palette:
        png[25] = 0  # the same bits as grey values
        png[12:33] = chunk(b"IHDR", bytes(png[16:29]))[4:]
    (tmp_path / "l.png").write_bytes(png)
    if is_palette:
        np.testing.assert_array_equal(read_index_labels(str(tmp_path / "l.png")), ids)
    else:
        with pytest.raises(ValueError, match=r"and 8 bits\. Received: mode [1L]"):
            read_index_labels(str(tmp_path / "l.png"))


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif"])
def test_indices_of_a_palette_are_labels(tmp_path: Path, suffix: str) -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(ids)
    image.putpalette(np.random.default_rng(0).bytes(768))
    image.save(tmp_path / f"l.{suffix}")
    np.testing.assert_array_equal(read_index_labels(str(tmp_path / f"l.{suffix}")), ids)


class TestClassReader:
    def test_maps_ids(self, tmp_path: Path) -> None:
        label_ids = {7: 0, 8: 2, 11: 255, 0: 255}
        reader = ClassReader(read_index_labels, label_ids, num_classes=3)
        ids = np.array([[7, 8, 11, 0]], np.uint8)
        np.testing.assert_array_equal(reader.classes(ids, "a"), [[0, 2, 255, 255]])
        for wrong in ([[1, 7, 12]], [[-1, 300, 7]]):
            with pytest.raises(ValueError, match=r"of void in a\. Received: \[") as e:
                reader.classes(np.array(wrong, np.int16), "a")
            unknown = sorted({*wrong[0]} - {7})
            assert str(e.value).endswith(f"Received: {unknown}")

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
    def test_takes_as_many_classes_as_bytes_can_distinguish(self, dtype: type) -> None:
        # 255 classes and void leave no byte to mark unknown ids with.
        ids: np.ndarray = np.arange(256).reshape(16, 16).astype(dtype)
        classes = ClassReader(read_index_labels, None, 255).classes(ids, "a")
        assert classes.dtype == np.uint8
        np.testing.assert_array_equal(classes, ids)

    @pytest.mark.parametrize(
        "ids",
        [
            np.zeros((6, 8)),
            np.zeros((6, 8, 1), int),
            np.zeros((0, 8), int),
            np.int64(3),
        ],
    )
    def test_labels_are_integers_of_pixels(self, ids: Any) -> None:
        reader = ClassReader(lambda path: np.asarray(ids), None, 3)
        with pytest.raises(ValueError, match=r"Expected labels \(H, W\), integers"):
            reader.ids("a")


class TestPngs:
    @settings(deadline=None, max_examples=20)
    @given(
        num_classes=st.integers(1, 255),
        size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
        seed=st.integers(0, 1000),
    )
    def test_palette_round_trip(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        num_classes: int,
        size: tuple[int, int],
        seed: int,
    ) -> None:
        rng = np.random.default_rng(seed)
        palette = rng.integers(0, 256, (num_classes, 3))
        labels = rng.choice([*range(num_classes), 255], size)
        path = tmp_path_factory.mktemp("palette") / "labels.png"
        path.write_bytes(palette_png(labels, palette))
        np.testing.assert_array_equal(read_index_labels(str(path)), labels)
        with Image.open(path) as image:
            shown = np.array(image.convert("RGB"))
        inside = labels != 255
        np.testing.assert_array_equal(shown[inside], palette[labels[inside]])

    def test_a_label_without_colour_is_an_error(self) -> None:
        with pytest.raises(ValueError, match=r"in \[0, 3\) or 255. Received: \[3\]"):
            palette_png(np.array([[0, 3]]), PALETTE)
