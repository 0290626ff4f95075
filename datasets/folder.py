"""Data sets that lie in folders: pairs of a picture file and a label file, mostly."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf
from PIL import Image

from tf_levelset.datasets.faults import (
    Fault,
    Inspection,
    error_of,
    inspect_all,
    missing_files,
)
from tf_levelset.datasets.pipeline import IGNORE_CLASS, Source
from tf_levelset.files import read_text

LabelReader = Callable[[str], np.ndarray]

MAX_PIXELS = 2**29 // 3
"""Of a picture: what Pillow, and TensorFlow of a JPEG, take at the most. A few hundred
kilobytes of PNG could else fill any memory."""

LABEL_FORMATS = ("PNG", "BMP", "GIF", "TIFF")
"""Pillow's names. It would take a file for whatever it begins like, PostScript too."""

_PICTURE_FORMATS = ("JPEG", "PNG", "BMP")
PNG_START, PNG_HEADER = b"\x89PNG\r\n\x1a\n", b"\0\0\0\rIHDR"


def paired_files_source(
    name: str,
    image_paths: Sequence[str | os.PathLike[str]],
    label_paths: Sequence[str | os.PathLike[str]],
    class_names: Sequence[str],
    palette: np.ndarray | Sequence[Sequence[int]],
    *,
    sample_names: Sequence[str] | None = None,
    label_ids: Mapping[int, int] | None = None,
    read_labels: LabelReader | None = None,
    faults: Sequence[Fault] = (),
) -> Source:
    """Returns a source of picture files and their label files.

    Args:
        name: The source's name, such as `"camvid/train"`.
        image_paths: N PNG or JPEG files.
        label_paths: N label files, in the same order, each of its picture's size.
        class_names: The C names.
        palette: The C colours, (C, 3), RGB in [0, 255].
        sample_names: The N names; the picture files' stems by default.
        label_ids: What the ids in the label files mean: a class in [0, C) or void,
            255. By default ids are classes and 255 is void. Any other id in a file
            is an error when that file is read.
        read_labels: Reads a label file, by path, into an integer array (H, W);
            `read_index_labels` by default.
        faults: What the caller has found wrong already; it is reported with the rest.

    Returns:
        A `Source`. Reading a sample whose label file has a wrong size or wrong ids
        raises an error that names the file: `tf.errors.InvalidArgumentError` from a
        dataset, `ValueError` eagerly.

    Raises:
        DataSetError: If files are missing, or one's header cannot be read. All files
            are read then, and all faults named; the error is a `FileNotFoundError`
            too if a file is missing.
        ValueError: If there are no files, or not as many labels as pictures.
    """
    images, labels = _strings(image_paths), _strings(label_paths)
    if len(images) != len(labels):
        raise ValueError(
            f"Expected as many label files as pictures in {name!r}. "
            f"Received: {len(images)} pictures and {len(labels)} label files"
        )
    if not images and faults:
        raise error_of(name, faults)
    _require_some(name, images)
    num_classes = len(class_names)
    table = label_table(label_ids or default_label_ids(num_classes), num_classes)
    image_table, label_file_table = tf.constant(images), tf.constant(labels)
    read_labels = read_labels or read_index_labels
    reader = _checked_label_reader(read_labels, table)
    inspect = _inspector(images, labels, read_labels, table, num_classes)
    size = _size_of_sound(name, images, labels, inspect, faults)

    def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image_path, label_path = image_table[index], label_file_table[index]
        image = read_image(image_path)
        # Not stateful: it is a function of the files, and under op determinism
        # TensorFlow would run a stateful one on one thread.
        ids = tf.numpy_function(
            reader,
            [label_path, image_path, tf.shape(image)],
            tf.uint8,
            stateful=False,
        )
        return image, tf.ensure_shape(ids, (None, None))

    return Source(
        name=name,
        class_names=tuple(class_names),
        palette=palette,
        num_samples=len(images),
        load=load,
        sample_names=_sample_names(images, sample_names),
        image_size=size,
        inspect=inspect,
        files=(*images, *labels),
    )


def image_files_source(
    name: str,
    image_paths: Sequence[str | os.PathLike[str]],
    class_names: Sequence[str],
    palette: np.ndarray | Sequence[Sequence[int]],
    *,
    sample_names: Sequence[str] | None = None,
) -> Source:
    """Returns a source of picture files without labels, as of a withheld test split.

    Args:
        name: The source's name, such as `"voc/test"`.
        image_paths: N PNG or JPEG files.
        class_names: The C names of the classes to predict.
        palette: The C colours, (C, 3), RGB in [0, 255].
        sample_names: The N names; the picture files' stems by default.

    Returns:
        A `Source` with `has_labels=False`, whose labels are all void.

    Raises:
        DataSetError: As `paired_files_source` does.
        ValueError: If there are no files.
    """
    images = _strings(image_paths)
    _require_some(name, images)
    image_table = tf.constant(images)
    inspect = _image_inspector(images)
    size = _size_of_sound(name, images, (), inspect, ())

    def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = read_image(image_table[index])
        return image, tf.fill(tf.shape(image)[:2], tf.constant(IGNORE_CLASS, tf.uint8))

    return Source(
        name=name,
        class_names=tuple(class_names),
        palette=palette,
        num_samples=len(images),
        load=load,
        sample_names=_sample_names(images, sample_names),
        image_size=size,
        has_labels=False,
        inspect=inspect,
        files=tuple(images),
    )


def read_image(path: tf.Tensor) -> tf.Tensor:
    """Reads a file by its path, a scalar string; see `decode_picture`."""
    return decode_picture(tf.io.read_file(path))


def decode_picture(content: tf.Tensor) -> tf.Tensor:
    """Decodes a picture.

    Args:
        content: a JPEG, PNG or BMP file, a scalar string.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        tf.errors.InvalidArgumentError: for anything else, an animation, a damaged
            file, or more than `MAX_PIXELS`.
    """
    # Padded, for files that are shorter.
    start = tf.strings.join([tf.strings.substr(content, 0, 24), "\0" * 24])
    is_png = tf.strings.substr(start, 0, 8) == PNG_START
    # Other chunks before it could tell another size than the one that is decoded.
    is_header = tf.strings.substr(start, 8, 8) == PNG_HEADER
    places = tf.io.decode_raw(tf.strings.substr(start, 16, 8), tf.uint8)
    places = tf.cast(tf.reshape(places, (2, 4)), tf.int64)
    size = tf.linalg.matvec(
        places, tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64)
    )
    pixels = tf.where(is_png, tf.reduce_prod(size), 0)
    # TensorFlow would read all frames of an animation to give the first. A JPEG it
    # takes up to `MAX_PIXELS`, and a BMP file is as large as its picture.
    still = tf.strings.substr(start, 0, 3) != b"GIF"
    most = f"Expected a picture of at most {MAX_PIXELS} pixels. Received:"
    kinds = "Expected a JPEG, PNG or BMP file. Received:"
    checks = [
        *_check(pixels <= MAX_PIXELS, most, pixels),
        *_check(still, kinds, tf.constant("a GIF file")),
        *_check(~is_png | is_header, kinds, tf.constant("a PNG without its header")),
    ]
    with tf.control_dependencies(checks):
        content = tf.identity(content)
    image = tf.io.decode_image(content, channels=3, expand_animations=False)
    return tf.ensure_shape(image, (None, None, 3))


def _check(holds: tf.Tensor, expected: str, received: tf.Tensor) -> list[tf.Operation]:
    """Raises in eager mode, and returns the assertion of a graph."""
    if not tf.executing_eagerly():
        return [tf.debugging.Assert(holds, [expected, received])]
    if not holds:
        text = received.numpy()
        text = text.decode() if isinstance(text, bytes) else text
        raise tf.errors.InvalidArgumentError(None, None, f"{expected} {text}")
    return []


@contextlib.contextmanager
def open_labels(path: str) -> Iterator[Image.Image]:
    """Opens a label image of one of `LABEL_FORMATS`, whose checksums are right.

    Raises:
        Exception: of a damaged file, whatever Pillow pleases.
    """
    # Pillow passes over the checksums of a PNG's pixels where it reads them.
    with Image.open(path, formats=LABEL_FORMATS) as image:
        image.verify()
    with Image.open(path, formats=LABEL_FORMATS) as image:
        yield image


def read_index_labels(path: str) -> np.ndarray:
    """Reads the labels of a palette or greyscale image file.

    Pillow gives the indices of a palette PNG; `tf.io.decode_png` gives its colours or
    their luminance instead.

    Args:
        path: An image file of mode P (its palette indices are the labels) or L (its
            values are).

    Returns:
        uint8 (H, W).

    Raises:
        ValueError: If the file has another mode.
    """
    with open_labels(path) as image:
        return index_labels(image, path)


def index_labels(image: Image.Image, path: str) -> np.ndarray:
    """Returns what `read_index_labels` reads, of a file that is open; see there."""
    if image.mode not in ("P", "L"):
        raise ValueError(
            "Expected a label image of mode P (palette) or L (greyscale). "
            f"Received: mode {image.mode} in {path}"
        )
    return np.array(image)


def color_label_reader(colors: Mapping[tuple[int, int, int], int]) -> LabelReader:
    """Returns a reader of label images that show each class in a colour.

    Args:
        colors: The label of each RGB colour.

    Returns:
        A function of a path. It takes an image of any mode that Pillow turns to RGB,
        returns int32 (H, W), and raises `ValueError` for a colour not in `colors`.
    """
    # Sorted, so that a binary search finds a colour's place.
    known = sorted((_code(np.array(color)), label) for color, label in colors.items())
    codes = np.array([code for code, _ in known], dtype=np.int32)
    labels = np.array([label for _, label in known], dtype=np.int32)

    def read(path: str) -> np.ndarray:
        with open_labels(path) as image:
            rgb = np.array(image.convert("RGB"))
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


def write_palette_png(
    path: str | os.PathLike[str],
    labels: np.ndarray,
    palette: np.ndarray | Sequence[Sequence[int]],
) -> None:
    """Writes labels as a palette PNG, which `read_index_labels` reads back.

    Args:
        path: The file to write.
        labels: Integers (H, W) in [0, C), or 255 for void.
        palette: (C, 3), RGB in [0, 255]; void is shown in the cream of PASCAL VOC.

    Raises:
        ValueError: If a label is neither in the palette nor 255.
    """
    Path(path).write_bytes(palette_png(labels, palette))


def palette_png(
    labels: np.ndarray, palette: np.ndarray | Sequence[Sequence[int]]
) -> bytes:
    """Returns what `write_palette_png` writes; see there."""
    colors = np.asarray(palette, dtype=np.uint8)
    known = np.isin(labels, [*range(len(colors)), IGNORE_CLASS])
    if not known.all():
        raise ValueError(
            f"Expected labels in [0, {len(colors)}) or {IGNORE_CLASS}. "
            f"Received: {np.unique(labels[~known])[:3].tolist()}"
        )
    full = np.zeros((256, 3), dtype=np.uint8)
    full[IGNORE_CLASS] = (224, 224, 192)
    full[: len(colors)] = colors
    image = Image.fromarray(np.asarray(labels, dtype=np.uint8))
    image.putpalette(full.tobytes())
    return _png(image)


def grey_png(labels: np.ndarray) -> bytes:
    """Returns uint8 (H, W) labels as a greyscale PNG, 8 bits a pixel."""
    return _png(Image.fromarray(labels))


def default_label_ids(num_classes: int) -> dict[int, int]:
    """Returns the usual meaning of ids: the classes themselves, and 255 for void."""
    return {**{c: c for c in range(num_classes)}, IGNORE_CLASS: IGNORE_CLASS}


def label_table(label_ids: Mapping[int, int], num_classes: int) -> np.ndarray:
    """Returns the look-up table of ids: where a data set's own void becomes 255.

    Args:
        label_ids: The class in [0, num_classes), or void, 255, of each id.
        num_classes: C.

    Returns:
        int32 (largest id + 1,): the class or 255, and −1 for ids that have no meaning.

    Raises:
        ValueError: If an id is negative, or stands for no class and not for void.
    """
    wrong = {
        i: c
        for i, c in label_ids.items()
        if i < 0 or not (0 <= c < num_classes or c == IGNORE_CLASS)
    }
    if wrong:
        raise ValueError(
            f"Expected ids of at least 0 that stand for classes in [0, {num_classes}) "
            f"or {IGNORE_CLASS}. Received: {wrong}"
        )
    table = np.full(max(label_ids) + 1, -1, dtype=np.int32)
    table[list(label_ids)] = list(label_ids.values())
    return table


def common_size(paths: Iterable[str]) -> tuple[int, int] | None:
    """Returns the (height, width) that all pictures share, or None; reads headers."""
    common: tuple[int, int] | None = None
    for path in paths:
        with Image.open(path, formats=_PICTURE_FORMATS) as image:
            size = (image.height, image.width)
        if common is not None and size != common:
            return None
        common = size
    return common


def read_ids(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Returns the ids in a list file, one a line.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no UTF-8 text.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"Expected a list of picture ids at {path}. Received: no such file"
        )
    return tuple(read_text(Path(path)).split())


def find_folder(
    folder: str | os.PathLike[str], places: Iterable[str], inside: str, whose: str
) -> Path:
    """Returns the first of some places in a folder that holds the folder `inside`.

    Args:
        folder: Where to look.
        places: Paths in it, in the order of preference; "" is the folder itself.
        inside: The name of a folder that the right place has.
        whose: Whose folder that is, for the error.

    Raises:
        FileNotFoundError: If no place has it; all are named.
    """
    candidates = [Path(folder, place) for place in places]
    for candidate in candidates:
        if (candidate / inside).is_dir():
            return candidate
    raise FileNotFoundError(
        f"Expected {whose} folder {inside} in one of "
        f"{', '.join(str(candidate) for candidate in candidates)}. Received: no such "
        "folder"
    )


def _checked_label_reader(
    read_labels: LabelReader, table: np.ndarray
) -> Callable[[Any, Any, np.ndarray], np.ndarray]:
    """Returns a reader that maps ids to classes and names the file that is wrong."""
    classes_of = _classes_of(table)

    def read(label_path: Any, image_path: Any, shape: np.ndarray) -> np.ndarray:
        path = _text(label_path)
        ids = _read_ids(read_labels, path)
        size = tuple(np.asarray(shape)[:2].tolist())
        if ids.shape != size:
            raise ValueError(
                f"Expected labels of the size of their picture, {size} in "
                f"{_text(image_path)}. Received: {ids.shape} in {path}"
            )
        return classes_of(ids, path)

    return read


def _read_ids(read_labels: LabelReader, path: str) -> np.ndarray:
    """Reads the ids of a label file.

    Raises:
        ValueError: for whatever is wrong with it.
    """
    try:
        ids = read_labels(path)
    # Of a damaged file the libraries raise what they please.
    except Exception as error:
        raise ValueError(f"{_account(error, path)} in {path}") from error
    if ids.ndim != 2 or not ids.size or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"Expected labels (H, W), integers, in {path}. "
            f"Received: {ids.dtype} {ids.shape}"
        )
    return ids


def _classes_of(table: np.ndarray) -> Callable[[np.ndarray, str], np.ndarray]:
    """Returns what maps ids (H, W), of a file to name in errors, to uint8 classes."""
    # A byte that no class has marks the bytes that have no meaning.
    unused = set(range(IGNORE_CLASS)).difference(table.tolist())
    mark = min(unused, default=None)
    known = np.flatnonzero(table[:256] >= 0)
    bytes_to_classes = np.full(256, mark or 0, dtype=np.uint8)
    bytes_to_classes[known] = table[known]

    def classes_of(ids: np.ndarray, path: str) -> np.ndarray:
        if ids.dtype == np.uint8 and mark is not None:
            classes = cv2.LUT(ids, bytes_to_classes)
            if not (classes == mark).any():
                return classes
        inside = (ids >= 0) & (ids < len(table))
        classes = table[np.where(inside, ids, 0)]
        unknown = np.unique(ids[~inside | (classes < 0)])
        if unknown.size:
            raise ValueError(
                f"Expected only label ids of a class or of void in {path}. "
                f"Received: {unknown[:10].tolist()}"
            )
        return classes.astype(np.uint8)

    return classes_of


def _code(rgb: np.ndarray) -> np.ndarray:
    """Returns (..., 3) colours as the (...) integers 0xRRGGBB."""
    return rgb.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _sample_names(
    images: Sequence[str], sample_names: Sequence[str] | None
) -> tuple[str, ...]:
    return tuple(sample_names or (Path(path).stem for path in images))


def _require_some(name: str, images: Sequence[str]) -> None:
    if not images:
        raise ValueError(f"Expected {name!r} to have at least 1 picture. Received: 0")


def _size_of_sound(
    name: str,
    images: Sequence[str],
    labels: Sequence[str],
    inspect: Callable[[int], Inspection],
    faults: Sequence[Fault],
) -> tuple[int, int] | None:
    """Returns the size that all pictures share, or None.

    Raises:
        DataSetError: for known faults, missing files and headers that cannot be read,
            and with them for all else that is wrong with the files.
    """
    faults = [*faults, *missing_files([*images, *labels])]
    if not faults:
        # Of what is no picture Pillow raises what it pleases.
        with contextlib.suppress(Exception):
            return common_size(images)
    for inspection in inspect_all(inspect, len(images)):
        faults += inspection.faults
    if faults:
        raise error_of(name, faults)
    # TensorFlow, which reads them, finds no fault.
    sizes = {_inspected_size(path)[0] for path in images}
    return sizes.pop() if len(sizes) == 1 else None


def _inspector(
    images: Sequence[str],
    labels: Sequence[str],
    read_labels: LabelReader,
    table: np.ndarray,
    num_classes: int,
) -> Callable[[int], Inspection]:
    """Returns what reads a sample's files as `load` does and tells all their faults.

    Missing files are not told again.
    """
    classes_of = _classes_of(table)

    def inspect(index: int) -> Inspection:
        size, faults = _inspected_size(images[index])
        path = labels[index]
        if not os.path.isfile(path):
            return Inspection(tuple(faults))
        try:
            ids = _read_ids(read_labels, path)
            if size not in (None, ids.shape):
                message = f"Expected labels of its picture's size, {size}. Received: "
                faults.append(Fault(path, f"{message}{ids.shape}"))
            classes = classes_of(ids, path)
        except ValueError as error:
            faults.append(Fault(path, _account(error, path)))
            return Inspection(tuple(faults))
        counts = np.bincount(classes.ravel(), minlength=IGNORE_CLASS + 1)
        return Inspection(
            tuple(faults),
            counts[:num_classes].astype(np.int64),
            int(counts[IGNORE_CLASS]),
        )

    return inspect


def _image_inspector(images: Sequence[str]) -> Callable[[int], Inspection]:
    """Returns what reads a picture without labels and tells its faults."""
    return lambda index: Inspection(tuple(_inspected_size(images[index])[1]))


def _inspected_size(path: str) -> tuple[tuple[int, int] | None, list[Fault]]:
    """Returns a picture's size, or None and why it cannot be read."""
    if not os.path.isfile(path):
        return None, []
    try:
        height, width, _ = read_image(tf.constant(path)).shape
    except Exception as error:
        return None, [Fault(path, _account(error, path))]
    return (height, width), []


def _account(error: Exception, path: str) -> str:
    """What an error says, in our words where a library raised it."""
    text = str(error)
    if text.startswith("Expected"):
        return text.replace(f" in {path}", "")
    reason = next(iter(text.splitlines()), "")
    return f"Expected a whole image file. Received: {reason or type(error).__name__}"


def _text(path: Any) -> str:
    """Returns a path from TensorFlow: bytes in a graph, an array of them eagerly."""
    return os.fsdecode(np.asarray(path).item())


def _strings(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    return [os.fspath(path) for path in paths]
