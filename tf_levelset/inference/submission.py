"""Predictions as files for the evaluation servers of PASCAL VOC and Cityscapes.

The servers hold the labels of the test splits, which are not public. Predictions for
a split with labels can be written too, for the official evaluation scripts.

Example:
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
from tf_levelset.datasets.files.labels import grey_png, palette_png
from tf_levelset.datasets.pipeline import Source, arrays_of, image_dataset
from tf_levelset.datasets.voc import CLASSES as VOC_CLASSES
from tf_levelset.datasets.voc import voc_palette
from tf_levelset.files import inside, write_bytes
from tf_levelset.inference.predictor import Predictor


@dataclass(frozen=True)
class _Format:
    """The files that an evaluation server accepts.

    Attributes:
        class_names: The classes, in the order of their indices.
        place: Path of a sample's file in the submission folder.
        encode: Maps class indices (H, W) to the content of the file.
    """

    class_names: tuple[str, ...]
    place: str
    encode: Callable[[np.ndarray], bytes]


_FORMATS = {
    "voc": _Format(
        VOC_CLASSES,
        "results/VOC2012/Segmentation/comp6_test_cls/{name}.png",
        lambda classes: palette_png(classes, voc_palette()),
    ),
    "cityscapes": _Format(
        tuple(CITYSCAPES_CLASSES),
        "{name}_labelIds.png",
        lambda classes: grey_png(np.array(CLASS_IDS, np.uint8)[classes]),
    ),
}


def write_submission(
    predictor: Predictor, source: Source, folder: str | os.PathLike[str], format: str
) -> tuple[Path, ...]:
    """Writes the predicted classes of every image of a data set, at its original size.

    One image is in memory at a time. Files of the same names are replaced, each of
    them atomically; other files in the folder stay.

    Args:
        predictor: See `load_predictors` in `tf_levelset.inference.predictor` and
            `augmented` in `tf_levelset.inference.augmented`.
        source: The data set. Its labels are not used.
        folder: The submission folder, created if missing.
        format: `"voc"` writes palette PNGs in VOC's colours, for example
            `results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png`. VOC's server
            accepts the folder `results` as a .tar.gz file. `"cityscapes"` writes grey
            PNGs of label ids, not train ids, for example
            `berlin_000000_000019_labelIds.png`. Cityscapes' server accepts them in a
            .zip file.

    Returns:
        The paths of the files, in the order of the data set.

    Raises:
        ValueError: If `format` is unknown; if the data set has other classes, repeated
            sample names or a name that leads out of the folder; or if probabilities
            are not finite or not of shape (H, W, C).
    """
    if format not in _FORMATS:
        raise ValueError(
            f"Expected `format` to be one of {tuple(_FORMATS)}. Received: {format!r}"
        )
    chosen = _FORMATS[format]
    _check_source(source, format, chosen.class_names)
    paths = tuple(
        # A link in the folder could lead out of it, too.
        inside(Path(folder), Path(folder, chosen.place.format(name=name)))
        for name in source.sample_names
    )
    images = arrays_of(image_dataset(source), source)
    for path, name, image in zip(paths, source.sample_names, images, strict=True):
        probabilities = np.asarray(predictor(image))
        expected = (*image.shape[:2], source.num_classes)
        if probabilities.shape != expected:
            raise ValueError(
                f"Expected probabilities of shape {expected} for {name!r}. "
                f"Received: {probabilities.shape}"
            )
        if not np.isfinite(probabilities).all():
            raise ValueError(
                f"Expected finite probabilities for {name!r}. Received: "
                f"{np.count_nonzero(~np.isfinite(probabilities))} not finite"
            )
        write_bytes(path, chosen.encode(probabilities.argmax(-1)))
    return paths


def _check_source(source: Source, format: str, class_names: tuple[str, ...]) -> None:
    if source.class_names != class_names:
        raise ValueError(
            f"Expected a data set with the {len(class_names)} classes of {format!r}. "
            f"Received: {source.name!r} with {len(source.class_names)}, "
            f"{', '.join(source.class_names[:3])} and so on"
        )
    names = source.sample_names
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"Expected the sample names of {source.name!r} to differ from each other. "
            f"Received: {twice!r} more than once"
        )
