"""Data sets with a damaged file: read as they were written, or refused with a reason.

They are read in a child process, so that a decoder may crash, hang or fill the memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_files import (
    damaged,
    encoded,
    gif_bomb,
    mat,
    mat_bomb,
    png_bomb,
    png_text_bomb,
    tiff_bomb,
    with_size,
)
from bad_input import Refused, bounded_answer_of, examples
from hypothesis import given
from hypothesis import strategies as st

from tf_levelset.datasets import (
    Augmentation,
    evaluation_dataset,
    load_dataset,
    training_dataset,
)
from tf_levelset.datasets.verification import load_verified

VOID = 255
IMAGE = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
LABELS = IMAGE[..., 0] % 2
PNG, MASK = encoded(IMAGE), encoded(LABELS)

Files = dict[str, bytes | str | None]
"""Contents by path: the target of a symbolic link as text, None for no file."""

LAYOUTS: dict[str, Files] = {
    "folder": {
        "classes.txt": b"first\nsecond\n",
        "train.txt": b"0\n1",
        **{f"images/{n}.png": PNG for n in (0, 1)},
        **{f"masks/{n}.png": MASK for n in (0, 1)},
    },
    "camvid": {
        "train.txt": b"\n".join(
            f"/SegNet/CamVid/train/{n}.png /SegNet/CamVid/trainannot/{n}.png".encode()
            for n in (0, 1)
        ),
        **{f"train/{n}.png": PNG for n in (0, 1)},
        **{f"trainannot/{n}.png": MASK for n in (0, 1)},
    },
    "cityscapes": {
        "leftImg8bit/train/aachen/aachen_000000_000000_leftImg8bit.png": PNG,
        # The ids of the classes road and sidewalk.
        "gtFine/train/aachen/aachen_000000_000000_gtFine_labelIds.png": encoded(
            LABELS + np.uint8(7)
        ),
    },
    "pascal_context": {
        "ImageSets/Main/train.txt": b"2008_000000",
        "JPEGImages/2008_000000.jpg": encoded(IMAGE, "JPEG"),
        # The ids of the background and of the class aeroplane.
        "trainval/2008_000000.mat": mat(LabelMap=LABELS.astype(np.uint16) * 2),
    },
    "voc": {
        "ImageSets/Segmentation/train.txt": b"2007_000000",
        "ImageSets/Segmentation/val.txt": b"",
        "sbd/train.txt": b"2007_000001",
        "sbd/val.txt": b"",
        **{f"JPEGImages/2007_00000{n}.jpg": encoded(IMAGE, "JPEG") for n in (0, 1)},
        "SegmentationClass/2007_000000.png": encoded(LABELS, mode="P"),
        "sbd/cls/2007_000001.mat": mat(
            GTcls={"Segmentation": LABELS, "Boundaries": 0},
        ),
    },
}


def read(name: str, files: Files, verified: bool) -> list[Any]:
    """Writes a data set and reads it; returns pairs of images and labels."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "data")
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                (root / path).symlink_to(content)
            elif content is not None:
                (root / path).write_bytes(content)
        split, options = "train", {}
        if name == "voc":
            split, options = "trainaug", {"sbd_dir": str(root / "sbd")}
        if verified:
            source = load_verified(name, [split], root, options).sources[0]
        else:
            source = load_dataset(name, split, root, **options)
        pairs = list(evaluation_dataset(source).as_numpy_iterator())
        crops = Augmentation(scale=(0.5, 1.5), crop=(9, 9), flip=True)
        arguments: dict[str, Any] = {"seed": 0, "num_steps": 1, "augmentation": crops}
        for images, _ in training_dataset(source, batch_size=2, **arguments):
            assert images.shape == (2, 9, 9, 3)
            assert np.isfinite(images).all()
        for image, labels in pairs:
            assert image.dtype == np.uint8
            assert image.shape == (*labels.shape, 3)
            assert ((labels < source.num_classes) | (labels == VOID)).all()
        return pairs


def check(pairs: list[Any], name: str) -> None:
    """Asserts that all that was written has been read."""
    assert len(pairs) == (1 if name in ("cityscapes", "pascal_context") else 2)
    for image, labels in pairs:
        np.testing.assert_array_equal(labels, LABELS)
        if name not in ("voc", "pascal_context"):  # whose images are JPEG files
            np.testing.assert_array_equal(image, IMAGE)


@pytest.mark.parametrize("name", LAYOUTS)
def test_sound_data_sets_are_read(name: str) -> None:
    check(read(name, LAYOUTS[name], verified=True), name)


LARGE: list[Callable[[], bytes]] = [
    lambda: png_bomb(13400, 13400, 1, whole=True),
    lambda: png_bomb(2**31 - 1, 2**31 - 1, 3, whole=False),
    lambda: gif_bomb(3000, 3000, 2000),
    lambda: tiff_bomb(13400, 13400),
    lambda: mat_bomb("GTcls", 2**15),
    lambda: mat_bomb("LabelMap", 2**15),
]
"""Small files of large images, which no data set may hold."""


def others(path: str, content: bytes) -> list[bytes | str | None]:
    """Contents that a file may have by mistake, of its own type."""
    links = [None, "/nowhere", "/etc/passwd", "/", Path(path).name]
    if path.endswith(".txt"):
        lines = [b"../../../etc/passwd", b"a" * 5000, b"a\0b", b"\xff\xfe\0", b"x 1 2"]
        return [*links, *(content + b"\n" + line for line in [*lines, b"x 300"])]
    if path.endswith(".mat"):
        fractions = mat(GTcls={"Segmentation": LABELS * 0.5})
        unknown = mat(LabelMap=LABELS + np.uint16(460))
        texts = mat(Other=1), mat(LabelMap="text"), mat(GTcls=3.0)
        return [*links, fractions, unknown, *texts]
    images = [encoded(IMAGE, mode=mode) for mode in ("1", "L", "P", "RGBA")]
    images += [
        encoded(LABELS + np.uint8(253)),
        encoded(IMAGE[1:]),
        encoded(IMAGE, "BMP"),
    ]
    sizes = [with_size(content, *size) for size in ((0, 9), (30, 9), (5000, 1))]
    return [*links, *images, *sizes, png_text_bomb(PNG, 2**20)]


@examples(30)
@given(st.sampled_from(sorted(LAYOUTS)), st.booleans(), st.data())
def test_a_damaged_file_is_read_or_refused(
    name: str, verified: bool, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(sorted(LAYOUTS[name])))
    before = LAYOUTS[name][path]
    assert isinstance(before, bytes)
    kind = data.draw(st.sampled_from(["damaged", "damaged", "other", "large"]))
    content: bytes | str | None
    if kind == "damaged":
        content = data.draw(damaged(before))
    elif kind == "other":
        content = data.draw(st.sampled_from(others(path, before)))
    else:
        content = data.draw(st.sampled_from(LARGE))()
    files: Files = {**LAYOUTS[name], path: content}
    answer = bounded_answer_of(read, name, files, verified)
    if isinstance(answer, Refused):
        assert content != before
        return
    assert kind != "large"
    # A folder without lists of its splits makes them.
    assert content is not None or (name, path) == ("folder", "train.txt")
    if kind == "damaged" and path.endswith(".png"):
        # Checksums tell of every damaged bit.
        check(answer, name)
