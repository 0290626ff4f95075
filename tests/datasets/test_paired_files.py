from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from bad_files import png_bomb, png_text_bomb, tiff_bomb
from made_up_files import assert_raises, assert_unlabelled
from PIL import Image

from tf_levelset.datasets.files.faults import DataSetError
from tf_levelset.datasets.files.labels import palette_png
from tf_levelset.datasets.paired_files import paired_files_source
from tf_levelset.datasets.pipeline import Source, evaluation_dataset, image_dataset

NAMES = ("a", "b", "c")
PALETTE = ((0, 0, 0), (200, 0, 0), (0, 200, 0))

Pairs = tuple[list[Path], list[Path]]


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    """Two images, a PNG and a JPEG, and their labels."""
    rng = np.random.default_rng(0)
    images, labels = [], []
    for name, size in (("one.png", (6, 8)), ("two.jpg", (8, 16))):
        images.append(tmp_path / name)
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images[-1])
        labels.append(tmp_path / f"{name}.labels.png")
        ids = rng.choice(np.array([0, 1, 2, 255], np.uint8), size)
        labels[-1].write_bytes(palette_png(ids, PALETTE))
    return images, labels


def make(pairs: Pairs, **options: Any) -> Source:
    return paired_files_source("toy", *pairs, NAMES, PALETTE, **options)


def make_unlabelled(images: list[Path], **options: Any) -> Source:
    return paired_files_source("toy", images, None, NAMES, PALETTE, **options)


def test_reads_images_and_labels(pairs: Pairs) -> None:
    source = make(pairs)
    assert source.sample_names == ("one", "two")
    assert source.image_size is None
    assert source.files == tuple(str(path) for part in pairs for path in part)
    samples = list(evaluation_dataset(source))
    for (image, labels), image_path, label_path in zip(samples, *pairs, strict=True):
        with Image.open(label_path) as expected:
            np.testing.assert_array_equal(labels, np.array(expected))
        with Image.open(image_path) as expected:
            difference = np.abs(image.numpy().astype(int) - np.array(expected))
        # JPEG decoders may round differently; PNG is lossless.
        assert difference.max() <= (0 if image_path.suffix == ".png" else 4)


def test_takes_names_ids_and_another_reader(pairs: Pairs) -> None:
    source = make(
        (pairs[0][:1], pairs[1][:1]),
        sample_names=["first"],
        label_ids={459: 1},
        read_labels=lambda path: np.full((6, 8), 459, np.uint16),
    )
    assert source.sample_names == ("first",)
    assert source.image_size == (6, 8)
    _, labels = source.load(tf.constant(0, tf.int64))
    np.testing.assert_array_equal(labels, np.ones((6, 8)))


def test_without_labels(pairs: Pairs) -> None:
    source = make_unlabelled(pairs[0])
    assert_unlabelled(source)
    assert source.sample_names == ("one", "two")
    labelled = evaluation_dataset(make(pairs))
    for image, (expected, _) in zip(image_dataset(source), labelled, strict=True):
        np.testing.assert_array_equal(image, expected)


def test_missing_files_are_named(pairs: Pairs) -> None:
    for path in (*pairs[1], pairs[0][0]):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"3 faults?:\n.*one\.png"):
        make(pairs)
    with pytest.raises(FileNotFoundError, match=r"1 fault:\n.*one\.png"):
        make_unlabelled(pairs[0])


def test_labels_of_another_size_are_named(pairs: Pairs) -> None:
    pairs[1][1].write_bytes(palette_png(np.zeros((8, 15)), PALETTE))
    message = r"(?s)\(8, 16\) in .*two\.jpg.*\(8, 15\) in .*two\.jpg\.labels\.png"
    assert_raises(make(pairs), 1, message)


@pytest.mark.parametrize("bad", [3, 254])
def test_labels_with_an_unknown_id_are_named(pairs: Pairs, bad: int) -> None:
    ids = np.zeros((6, 8), np.uint8)
    ids[2, 2] = bad
    Image.fromarray(ids).save(pairs[1][0])
    assert_raises(make(pairs), 0, rf"one\.png\.labels\.png.*\[{bad}\]")


def encoded(mode: str) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (5, 4), 1).save(stream, format="PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an image",
        png_bomb(20_000, 20_000, 1, whole=True),
        png_text_bomb(encoded("L"), 2**26),
        tiff_bomb(20_000, 20_000),
    ],
)
def test_damaged_labels_are_one_type_of_error_and_a_fault(
    pairs: Pairs, content: bytes
) -> None:
    pairs[1][1].write_bytes(content)
    source = make(pairs)
    message = r"Expected a whole image file\. Received: .* in .*two\.jpg"
    assert_raises(source, 1, message)
    assert source.inspect is not None
    (fault,) = source.inspect(1).faults
    assert fault.path == str(pairs[1][1])
    assert fault.message.startswith("Expected a whole image file. Received: ")


def test_an_image_that_is_too_large_is_a_fault(pairs: Pairs) -> None:
    pairs[0][0].write_bytes(png_bomb(20_000, 20_000, 1, whole=False))
    message = r"1 fault:\n.*one\.png: Expected an image of at most"
    with pytest.raises(DataSetError, match=message):
        make(pairs)
