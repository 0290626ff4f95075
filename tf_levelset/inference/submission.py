"""Predictions as files that the servers of PASCAL VOC and Cityscapes judge.

Their test splits have no public labels. A source with labels can be written too, as for
the official scripts:

    source = load_dataset("cityscapes", "test", data_dir="cityscapes")
    predictor = load_predictors(Path("runs/cityscapes/ls"))[""]
    write_submission(predictor, source, "submission", "cityscapes")
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tf_levelset.datasets.cityscapes import CLASS_IDS
from tf_levelset.datasets.cityscapes import CLASSES as CITYSCAPES_CLASSES
from tf_levelset.datasets.folder import grey_png, palette_png
from tf_levelset.datasets.pipeline import Source, image_dataset
from tf_levelset.datasets.voc import CLASSES as VOC_CLASSES
from tf_levelset.datasets.voc import voc_palette
from tf_levelset.files import inside, write_bytes
from tf_levelset.inference.evaluation import Predictor


def write_submission(
    predictor: Predictor, source: Source, folder: str | os.PathLike[str], format: str
) -> tuple[Path, ...]:
    """Writes a predictor's classes for every picture of a source, at its own size.

    One picture is in memory at a time, and each file is written whole or not at all.
    Files of the same name are replaced; others in the folder stay.

    Args:
        predictor: maps a picture, uint8 (H, W, 3), to probabilities (H, W, C); see
            `tf_levelset.inference.evaluation.load_predictors` and `augmented`.
        source: the pictures; labels are not needed.
        folder: where the files go, made if missing.
        format: `"voc"` writes palette PNGs, `results/VOC2012/Segmentation/
            comp6_test_cls/2008_000006.png` and so on, in VOC's colours: VOC's server
            takes the folder `results` as a .tar.gz. `"cityscapes"` writes greyscale
            PNGs of label ids, not train ids, such as
            `berlin_000000_000019_labelIds.png`: Cityscapes' server takes them as a
            .zip.

    Returns:
        The files, in the order of the source.

    Raises:
        ValueError: if `format` is unknown, the source has other classes than it or
            two samples of one name, or one whose file would lie outside of the
            folder, or probabilities are not of the picture's size and the number of
            classes, or not finite.
    """
    if format not in _FORMATS:
        raise ValueError(
            f"Expected `format` to be one of {tuple(_FORMATS)}. Received: {format!r}"
        )
    chosen = _FORMATS[format]
    _check_source(source, format, chosen.class_names)
    paths = tuple(
        # Also where there are links.
        inside(Path(folder), Path(folder, chosen.place.format(name=name)))
        for name in source.sample_names
    )
    images = image_dataset(source).as_numpy_iterator()
    for path, name, image in zip(paths, source.sample_names, images, strict=True):
        probabilities = np.asarray(predictor(image))
        _check_probabilities(probabilities, image, source, name)
        write_bytes(path, chosen.encode(probabilities.argmax(-1)))
    return paths


@dataclass(frozen=True)
class _Format:
    """What a server takes."""

    class_names: tuple[str, ...]
    place: str
    """The file of a sample, in the submission's folder."""
    encode: Callable[[np.ndarray], bytes]
    """From classes, (H, W), to the file's content."""


def _voc_png(classes: np.ndarray) -> bytes:
    return palette_png(classes, voc_palette())


def _cityscapes_png(classes: np.ndarray) -> bytes:
    return grey_png(np.array(CLASS_IDS, np.uint8)[classes])


_FORMATS = {
    "voc": _Format(
        VOC_CLASSES,
        "results/VOC2012/Segmentation/comp6_test_cls/{name}.png",
        _voc_png,
    ),
    "cityscapes": _Format(
        tuple(CITYSCAPES_CLASSES), "{name}_labelIds.png", _cityscapes_png
    ),
}


def _check_source(source: Source, format: str, class_names: tuple[str, ...]) -> None:
    if source.class_names != class_names:
        raise ValueError(
            f"Expected a source with the {len(class_names)} classes of {format!r}. "
            f"Received: {source.name!r} with {len(source.class_names)}, "
            f"{', '.join(source.class_names[:3])} and so on"
        )
    names = source.sample_names
    outside = [name for name in names if ".." in Path(name).parts]
    if outside:
        raise ValueError(
            f"Expected names of samples without `..`, to write their files in the "
            f"folder. Received: {outside[0]!r} of {source.name!r}"
        )
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"Expected a name of its own for each sample of {source.name!r}. "
            f"Received: {twice!r} more than once"
        )


def _check_probabilities(
    probabilities: np.ndarray, image: np.ndarray, source: Source, name: str
) -> None:
    expected = (*image.shape[:2], source.num_classes)
    if probabilities.shape != expected:
        raise ValueError(
            f"Expected probabilities of shape {expected} for {name!r}. "
            f"Received: {probabilities.shape}"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError(
            f"Expected finite probabilities for {name!r}. Received: "
            f"{np.count_nonzero(~np.isfinite(probabilities))} that are not"
        )
