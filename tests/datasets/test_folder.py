from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fuzzing.files import chunk, gif_bomb, png_bomb, png_text_bomb, tiff_bomb
from tf_levelset.datasets import folder
from tf_levelset.datasets.faults import DataSetError
from tf_levelset.datasets.folder import (
    color_label_reader,
    common_size,
    decode_picture,
    grey_png,
    image_files_source,
    label_table,
    paired_files_source,
    read_index_labels,
    write_palette_png,
)
from tf_levelset.datasets.pipeline import Source, evaluation_dataset, image_dataset

NAMES = ("a", "b", "c")
PALETTE = ((0, 0, 0), (200, 0, 0), (0, 200, 0))


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """Two pictures, a PNG and a JPEG, and their labels."""
    rng = np.random.default_rng(0)
    images, labels = [], []
    for name, size in (("one.png", (6, 8)), ("two.jpg", (8, 16))):
        images.append(tmp_path / name)
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images[-1])
        labels.append(tmp_path / f"{name}.labels.png")
        ids = rng.choice(np.array([0, 1, 2, 255], np.uint8), size)
        write_palette_png(labels[-1], ids, PALETTE)
    return images, labels


def false_header(png: bytes) -> bytes:
    """A PNG file behind whose start a chunk that is skipped tells a small size."""
    return png[:8] + chunk(b"abCd", bytes([0, 0, 0, 1, 0, 0, 0, 1])) + png[8:]


def make(pairs: tuple[list[Path], list[Path]], **options: Any) -> Source:
    return paired_files_source("toy", *pairs, NAMES, PALETTE, **options)


class TestPairedFilesSource:
    def test_reads_pictures_and_labels(
        self, pairs: tuple[list[Path], list[Path]]
    ) -> None:
        source = make(pairs)
        assert source.sample_names == ("one", "two")
        assert source.image_size is None
        samples = list(evaluation_dataset(source))
        for (image, labels), image_path, label_path in zip(
            samples, *pairs, strict=True
        ):
            with Image.open(label_path) as expected:
                np.testing.assert_array_equal(labels, np.array(expected))
            with Image.open(image_path) as expected:
                difference = np.abs(image.numpy().astype(int) - np.array(expected))
            # JPEG decoders may round differently; PNG is lossless.
            assert difference.max() <= (0 if image_path.suffix == ".png" else 4)

    def test_reads_grey_pictures_as_rgb(self, tmp_path: Path) -> None:
        Image.fromarray(np.full((2, 3), 77, np.uint8)).save(tmp_path / "grey.png")
        write_palette_png(tmp_path / "l.png", np.zeros((2, 3)), PALETTE)
        source = make(([tmp_path / "grey.png"], [tmp_path / "l.png"]))
        image, _ = source.load(tf.constant(0, tf.int64))
        np.testing.assert_array_equal(image, np.full((2, 3, 3), 77))

    def test_maps_ids(self, tmp_path: Path) -> None:
        Image.fromarray(np.zeros((1, 4, 3), np.uint8)).save(tmp_path / "i.png")
        ids = np.array([[7, 8, 11, 0]], np.uint8)
        Image.fromarray(ids).save(tmp_path / "l.png")
        source = make(
            ([tmp_path / "i.png"], [tmp_path / "l.png"]),
            label_ids={7: 0, 8: 2, 11: 255, 0: 255},
        )
        _, labels = source.load(tf.constant(0, tf.int64))
        assert labels.numpy().tolist() == [[0, 2, 255, 255]]

    def test_takes_as_many_classes_as_bytes_tell_apart(self, tmp_path: Path) -> None:
        # 255 classes and void: no byte is left over.
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "i.png")
        ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
        Image.fromarray(ids).save(tmp_path / "l.png")
        source = paired_files_source(
            "toy",
            [tmp_path / "i.png"],
            [tmp_path / "l.png"],
            [str(c) for c in range(255)],
            np.zeros((255, 3)),
        )
        _, labels = source.load(tf.constant(0, tf.int64))
        np.testing.assert_array_equal(labels, ids)

    @pytest.mark.parametrize("dtype", [np.uint16, np.int64])
    def test_takes_another_reader(
        self, pairs: tuple[list[Path], list[Path]], dtype: Any
    ) -> None:
        source = make(
            ([pairs[0][0]], [pairs[1][0]]),
            label_ids={459: 1},
            read_labels=lambda path: np.full((6, 8), 459, dtype),
        )
        _, labels = source.load(tf.constant(0, tf.int64))
        np.testing.assert_array_equal(labels, np.ones((6, 8)))

    def test_names_missing_files(self, pairs: tuple[list[Path], list[Path]]) -> None:
        for path in (*pairs[1], pairs[0][0]):
            path.unlink()
        with pytest.raises(FileNotFoundError, match=r"3 faults?:\n.*one\.png"):
            make(pairs)

    def test_names_the_file_of_another_size(
        self, pairs: tuple[list[Path], list[Path]]
    ) -> None:
        write_palette_png(pairs[1][1], np.zeros((8, 15)), PALETTE)
        source = make(pairs)
        message = r"(?s)\(8, 16\) in .*two\.jpg.*\(8, 15\) in .*two\.jpg\.labels\.png"
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            list(evaluation_dataset(source))
        with pytest.raises(ValueError, match=message):
            source.load(tf.constant(1, tf.int64))

    @pytest.mark.parametrize("bad", [3, 254])
    def test_names_the_file_of_an_unknown_id(
        self, pairs: tuple[list[Path], list[Path]], bad: int
    ) -> None:
        ids = np.zeros((6, 8), np.uint8)
        ids[2, 2] = bad
        Image.fromarray(ids).save(pairs[1][0])
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=rf"one\.png\.labels\.png.*\[{bad}\]"
        ):
            list(evaluation_dataset(make(pairs)))

    def test_rejects_unequal_lists_and_none_at_all(
        self, pairs: tuple[list[Path], list[Path]]
    ) -> None:
        with pytest.raises(ValueError, match="2 pictures and 1 label files"):
            make((pairs[0], pairs[1][:1]))
        with pytest.raises(ValueError, match="at least 1 picture"):
            make(([], []))


class TestImageFilesSource:
    def test_reads_pictures_and_has_no_labels(
        self, pairs: tuple[list[Path], list[Path]]
    ) -> None:
        source = image_files_source("toy", pairs[0], NAMES, PALETTE)
        assert source.sample_names == ("one", "two")
        assert source.image_size is None
        assert not source.has_labels
        labelled = evaluation_dataset(make(pairs))
        for image, (expected, _) in zip(image_dataset(source), labelled, strict=True):
            np.testing.assert_array_equal(image, expected)
        _, labels = source.load(tf.constant(1, tf.int64))
        assert labels.dtype == tf.uint8
        np.testing.assert_array_equal(labels, np.full((8, 16), 255))

    def test_takes_names_and_finds_the_common_size(
        self, pairs: tuple[list[Path], list[Path]]
    ) -> None:
        source = image_files_source(
            "toy", pairs[0][:1], NAMES, PALETTE, sample_names=["first"]
        )
        assert source.sample_names == ("first",)
        assert source.image_size == (6, 8)

    def test_names_missing_files(self, pairs: tuple[list[Path], list[Path]]) -> None:
        pairs[0][1].unlink()
        with pytest.raises(FileNotFoundError, match=r"1 faults?:\n.*two\.jpg"):
            image_files_source("toy", pairs[0], NAMES, PALETTE)

    def test_rejects_none_at_all(self) -> None:
        with pytest.raises(ValueError, match="at least 1 picture"):
            image_files_source("toy", [], NAMES, PALETTE)


class TestReadIndexLabels:
    def test_rejects_colours(self, tmp_path: Path) -> None:
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "rgb.png")
        with pytest.raises(ValueError, match=r"mode RGB in .*rgb\.png"):
            read_index_labels(str(tmp_path / "rgb.png"))


class TestColorLabelReader:
    def test_maps_colours_to_labels(self, tmp_path: Path) -> None:
        colors = {(0, 0, 0): 0, (255, 1, 2): 1, (1, 2, 255): 2, (224, 224, 192): 255}
        labels = np.array([[0, 1, 2], [255, 1, 0]])
        table = {label: color for color, label in colors.items()}
        pixels = np.array([[table[label] for label in row] for row in labels.tolist()])
        path = tmp_path / "rgb.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        np.testing.assert_array_equal(color_label_reader(colors)(str(path)), labels)

    @pytest.mark.parametrize("color", [(0, 0, 1), (255, 255, 255), (128, 0, 1)])
    def test_rejects_an_unknown_colour(
        self, tmp_path: Path, color: tuple[int, int, int]
    ) -> None:
        path = tmp_path / "rgb.png"
        pixels = np.zeros((2, 2, 3), np.uint8)
        pixels[1, 1] = color
        Image.fromarray(pixels).save(path)
        read = color_label_reader({(0, 0, 0): 0, (128, 0, 0): 1})
        with pytest.raises(ValueError, match=r"rgb\.png.*1 pixels of other colours"):
            read(str(path))


def encoded(format: str, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (5, 4), 1).save(stream, format=format)
    return stream.getvalue()


class TestDecodePicture:
    @pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP"])
    @pytest.mark.parametrize("in_graph", [True, False])
    def test_takes_pictures(self, format: str, in_graph: bool) -> None:
        decode = tf.function(decode_picture) if in_graph else decode_picture
        assert decode(tf.constant(encoded(format))).shape == (4, 5, 3)

    @pytest.mark.parametrize("in_graph", [True, False])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (png_bomb(13400, 13400, 1, whole=True), "at most 178956970 pixels"),
            (png_bomb(2**31 - 1, 2**31 - 1, 3, whole=False), "at most 178956970"),
            (false_header(png_bomb(13400, 13400, 1, whole=True)), "without its header"),
            (encoded("GIF", "P"), "a JPEG, PNG or BMP file"),
            (gif_bomb(3000, 3000, 1000), "a JPEG, PNG or BMP file"),
        ],
    )
    def test_refuses_bombs_before_it_unpacks_them(
        self, content: bytes, message: str, in_graph: bool
    ) -> None:
        decode = tf.function(decode_picture) if in_graph else decode_picture
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            decode(tf.constant(content))

    @pytest.mark.parametrize("content", [b"", b"\x89PNG", b"BM", b"\xff\xd8\xff"])
    def test_refuses_what_is_cut_off(self, content: bytes) -> None:
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode_picture(tf.constant(content))

    def test_a_picture_of_all_pixels_is_taken(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(folder, "MAX_PIXELS", 20)
        decode_picture(tf.constant(encoded("PNG")))
        monkeypatch.setattr(folder, "MAX_PIXELS", 19)
        with pytest.raises(tf.errors.InvalidArgumentError, match="Received: 20"):
            decode_picture(tf.constant(encoded("PNG")))


class TestDamagedLabels:
    def test_a_flipped_bit_of_a_png_never_passes(self, tmp_path: Path) -> None:
        # Pillow reads pixels past their checksum.
        ids = np.kron(np.arange(9).reshape(3, 3) % 3, np.ones((8, 8), int))
        write_palette_png(tmp_path / "l.png", ids, PALETTE)
        whole = (tmp_path / "l.png").read_bytes()
        start, stop = whole.index(b"IDAT"), whole.index(b"IEND")
        for place in range(start, stop - 4):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            (tmp_path / "l.png").write_bytes(damaged)
            with pytest.raises(Exception, match=r"."):
                read_index_labels(str(tmp_path / "l.png"))

    @pytest.mark.parametrize("format", ["EPS", "JPEG", "WEBP", "PPM", "ICO"])
    def test_formats_that_labels_do_not_have_are_not_opened(
        self, tmp_path: Path, format: str
    ) -> None:
        # Of PostScript Pillow would have another program make a picture.
        (tmp_path / "l.png").write_bytes(encoded(format))
        with pytest.raises(Image.UnidentifiedImageError):
            read_index_labels(str(tmp_path / "l.png"))
        with pytest.raises(Image.UnidentifiedImageError):
            color_label_reader({(1, 1, 1): 0})(str(tmp_path / "l.png"))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"no picture",
            png_bomb(20_000, 20_000, 1, whole=True),
            png_text_bomb(encoded("PNG", "L"), 2**26),
            tiff_bomb(20_000, 20_000),
        ],
    )
    def test_whatever_is_wrong_is_one_kind_of_error_and_a_fault(
        self, pairs: tuple[list[Path], list[Path]], content: bytes
    ) -> None:
        pairs[1][1].write_bytes(content)
        source = make(pairs)
        message = r"Expected a whole image file\. Received: .* in .*two\.jpg"
        with pytest.raises(ValueError, match=message):
            source.load(tf.constant(1, tf.int64))
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            list(evaluation_dataset(source))
        assert source.inspect is not None
        (fault,) = source.inspect(1).faults
        assert fault.path == str(pairs[1][1])
        assert fault.message.startswith("Expected a whole image file. Received: ")

    @pytest.mark.parametrize(
        "ids",
        [
            np.zeros((6, 8)),
            np.zeros((6, 8, 1), int),
            np.zeros((0, 8), int),
            np.int64(3),
        ],
    )
    def test_labels_are_integers_of_pixels(
        self, pairs: tuple[list[Path], list[Path]], ids: np.ndarray
    ) -> None:
        source = make(
            ([pairs[0][0]], [pairs[1][0]]), read_labels=lambda path: np.asarray(ids)
        )
        with pytest.raises(ValueError, match=r"Expected labels \(H, W\), integers"):
            source.load(tf.constant(0, tf.int64))


class TestOddHeaders:
    def test_a_bomb_is_a_fault_of_the_data_set(
        self, pairs: tuple[list[Path], list[Path]]
    ) -> None:
        pairs[0][0].write_bytes(png_bomb(20_000, 20_000, 1, whole=False))
        with pytest.raises(
            DataSetError, match=r"1 fault:\n.*one\.png: Expected a pict"
        ):
            make(pairs)

    def test_what_only_pillow_refuses_has_a_size(self, tmp_path: Path) -> None:
        # A text of 64 MiB beside the pixels is too much for Pillow alone.
        content = png_text_bomb(encoded("PNG"), 2**26)
        (tmp_path / "a.png").write_bytes(content)
        source = image_files_source("toy", [tmp_path / "a.png"], NAMES, PALETTE)
        assert source.image_size == (4, 5)


class TestWritePalettePng:
    @settings(deadline=None, max_examples=20)
    @given(
        num_classes=st.integers(1, 255),
        size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
        seed=st.integers(0, 1000),
    )
    def test_round_trip(
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
        write_palette_png(path, labels, palette)
        np.testing.assert_array_equal(read_index_labels(str(path)), labels)
        with Image.open(path) as image:
            shown = np.array(image.convert("RGB"))
        inside = labels != 255
        np.testing.assert_array_equal(shown[inside], palette[labels[inside]])

    def test_rejects_a_label_without_colour(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"in \[0, 3\) or 255. Received: \[3\]"):
            write_palette_png(tmp_path / "l.png", np.array([[0, 3]]), PALETTE)


def test_grey_png_is_lossless() -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    with Image.open(io.BytesIO(grey_png(labels))) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        np.testing.assert_array_equal(np.array(image), labels)


class TestLabelTable:
    def test_marks_ids_without_meaning(self) -> None:
        table = label_table({0: 1, 3: 255, 4: 0}, num_classes=2)
        assert table.tolist() == [1, -1, -1, 255, 0]

    @pytest.mark.parametrize("label_ids", [{-1: 0}, {0: 2}, {0: -1}, {0: 254}])
    def test_rejects(self, label_ids: dict[int, int]) -> None:
        with pytest.raises(ValueError, match=r"classes in \[0, 2\) or 255"):
            label_table(label_ids, num_classes=2)


class TestCommonSize:
    def test_is_none_where_sizes_differ(
        self, pairs: tuple[list[Path], list[Path]]
    ) -> None:
        first, second = (str(path) for path in pairs[0])
        assert common_size([first, first]) == (6, 8)
        assert common_size([first, second]) is None
