"""Label files: reading indices and colours, the classes they mean, writing PNGs."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageOps

from tf_levelset.checks import expect
from tf_levelset.constants import IGNORE_CLASS
from tf_levelset.datasets.files.faults import message_of
from tf_levelset.datasets.files.images import as_rgb, open_single

LabelReader = Callable[[str], np.ndarray]
"""Reads the label file at a path into an integer array (H, W)."""

LABEL_FORMATS = ("PNG", "BMP", "GIF", "TIFF")
"""The accepted formats, by Pillow's names."""

_VOID_COLOR = (224, 224, 192)  # as in PASCAL VOC


@contextlib.contextmanager
def open_labels(path: str) -> Iterator[Image.Image]:
    """Opens a PNG, BMP, GIF or TIFF file of labels and verifies its checksums.

    Raises:
        Exception: For a damaged file, of whatever type Pillow raises.
        ValueError: For an animation or several pages.
    """
    # Pillow does not verify the checksums of a PNG's pixels while it reads them.
    with Image.open(path, formats=LABEL_FORMATS) as image:
        image.verify()
    with open_single(path, LABEL_FORMATS) as image:
        yield image


def read_index_labels(path: str) -> np.ndarray:
    """Reads the labels of a palette or greyscale image file.

    Pillow returns the indices of a palette PNG, whereas `tf.io.decode_png` returns its
    colours or their luminance.

    Args:
        path: An image file of mode P, whose palette indices are the labels, or of mode
            L and 8 bits, whose grey values are.

    Returns:
        uint8 (H, W), turned upright as the file's EXIF orientation says.

    Raises:
        ValueError: If the file has another mode.
    """
    with open_labels(path) as image:
        # Pillow would stretch grey values of 2 or 4 bits to [0, 255].
        tiles = str(getattr(image, "tile", ""))
        has_few_bits = "L;2" in tiles or "L;4" in tiles
        if image.mode not in ("P", "L") or has_few_bits:
            mode = f"{image.mode}, of 2 or 4 bits," if has_few_bits else image.mode
            raise ValueError(
                "Expected a label image of mode P (palette), or of mode L (greyscale) "
                f"and 8 bits. Received: mode {mode} in {path}"
            )
        return np.array(ImageOps.exif_transpose(image))


def color_label_reader(colors: Mapping[tuple[int, int, int], int]) -> LabelReader:
    """Returns a reader of label images that show each class in a colour.

    Args:
        colors: The label of each RGB colour.

    Returns:
        A function of a path. It accepts an image of any mode that Pillow converts to
        RGB, returns int32 (H, W), and raises `ValueError` for a colour that is not in
        `colors`.
    """
    # Sorted, so that a binary search finds the place of a colour.
    known = sorted((_code(np.array(color)), label) for color, label in colors.items())
    codes = np.array([code for code, _ in known], dtype=np.int32)
    labels = np.array([label for _, label in known], dtype=np.int32)

    def read(path: str) -> np.ndarray:
        with open_labels(path) as image:
            rgb = as_rgb(ImageOps.exif_transpose(image))
        pixels = _code(rgb)
        places = np.searchsorted(codes, pixels).clip(max=len(codes) - 1)
        unknown = rgb[codes[places] != pixels]
        if unknown.size:
            examples = np.unique(unknown, axis=0)[:3].tolist()
            raise ValueError(
                f"Expected only the {len(codes)} known label colours in {path}. "
                f"Received: {len(unknown)} pixels of other colours, such as {examples}"
            )
        return labels[places]

    return read


def _code(rgb: np.ndarray) -> np.ndarray:
    """Returns (..., 3) colours as the (...) integers 0xRRGGBB."""
    return rgb.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)


class ClassReader:
    """Reads label files and maps the ids in them to classes.

    Args:
        read_labels: Reads the ids of a file.
        label_ids: The class in [0, num_classes), or void, 255, of each id. By default
            ids are the classes themselves and 255 is void.
        num_classes: The number of classes, C.

    Raises:
        ValueError: If an id is negative, or means neither a class nor void.
    """

    def __init__(
        self,
        read_labels: LabelReader,
        label_ids: Mapping[int, int] | None,
        num_classes: int,
    ) -> None:
        self._read_labels = read_labels
        if not label_ids:
            label_ids = {**{c: c for c in range(num_classes)}, 255: IGNORE_CLASS}
        known = {*range(num_classes), IGNORE_CLASS}
        wrong = {i: c for i, c in label_ids.items() if i < 0 or c not in known}
        expected = f"classes in [0, {num_classes}) or {IGNORE_CLASS}"
        expect(not wrong, f"ids of at least 0 that stand for {expected}", wrong)
        # The class of each id, and −1 for ids without a meaning.
        self._table = np.full(max(256, max(label_ids) + 1), -1, np.int16)
        self._table[list(label_ids)] = list(label_ids.values())

    def ids(self, path: str) -> np.ndarray:
        """Reads the ids in a file, integers (H, W).

        Raises:
            ValueError: For anything that is wrong with the file.
        """
        try:
            ids = self._read_labels(path)
        # For a damaged file, libraries raise errors of any type.
        except Exception as error:
            raise ValueError(f"{message_of(error, path)} in {path}") from error
        if ids.ndim != 2 or not ids.size or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(
                f"Expected labels (H, W), integers, in {path}. "
                f"Received: {ids.dtype} {ids.shape}"
            )
        return ids

    def classes(self, ids: np.ndarray, path: str) -> np.ndarray:
        """Maps the ids of a file, integers (H, W), to uint8 classes.

        Raises:
            ValueError: If an id means neither a class nor void; it names the file.
        """
        if ids.dtype == np.uint8:  # OpenCV is the fastest
            classes = cv2.LUT(ids, self._table[:256])
        else:
            inside = (ids >= 0) & (ids < len(self._table))
            classes = np.where(inside, self._table[np.where(inside, ids, 0)], -1)
        unknown = np.unique(ids[classes < 0])[:10].tolist()
        expect(not unknown, f"only label ids of a class or of void in {path}", unknown)
        return classes.astype(np.uint8)


def palette_png(
    labels: np.ndarray, palette: np.ndarray | Sequence[Sequence[int]]
) -> bytes:
    """Encodes labels as a palette PNG, which `read_index_labels` reads back.

    Args:
        labels: Integers (H, W) in [0, C), or 255 for void.
        palette: (C, 3), RGB in [0, 255]. Void is shown in the cream of PASCAL VOC.

    Returns:
        The content of the file.

    Raises:
        ValueError: If a label is neither in the palette nor 255.
    """
    colors = np.asarray(palette, dtype=np.uint8)
    known = np.isin(labels, [*range(len(colors)), IGNORE_CLASS])
    wrong = np.unique(labels[~known])[:3].tolist()
    expect(not wrong, f"labels in [0, {len(colors)}) or {IGNORE_CLASS}", wrong)
    full = np.zeros((256, 3), dtype=np.uint8)
    full[IGNORE_CLASS] = _VOID_COLOR
    full[: len(colors)] = colors
    image = Image.fromarray(np.asarray(labels, dtype=np.uint8))
    image.putpalette(full.tobytes())
    return _png(image)


def grey_png(labels: np.ndarray) -> bytes:
    """Encodes uint8 (H, W) labels as a greyscale PNG of 8 bits a pixel."""
    return _png(Image.fromarray(labels))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
