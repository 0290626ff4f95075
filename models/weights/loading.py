"""Loads pretrained weights into a net, by the names of its layers."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from tf_levelset.checks import expect
from tf_levelset.models.safe_loading import load_keras
from tf_levelset.models.weights.deeplab_checkpoint import read_checkpoint
from tf_levelset.models.weights.fully_connected import MAP_SIZES, as_convolution
from tf_levelset.models.weights.keras_files import (
    APPLICATIONS,
    arrays_of,
    has_shapes_of,
    read_application,
    read_imagenet,
    weighted_layers,
)
from tf_levelset.models.weights.report import Shapes, WeightsReport, compared


def load_weights(
    model: keras.Model, weights: str | PathLike[str], *, backbone: str
) -> WeightsReport:
    """Loads pretrained weights into a net of this package, by the names of its layers.

    VGG16's fc1 and fc2 become fc6 and fc7: whole where these have 4096 filters, as in
    FCN, decimated where they have 1024, as in DeepLab-LargeFOV (`as_convolution`).

    Args:
        model: A net on `backbone`.
        weights: One of

            - `"imagenet"`: Keras fetches the file of its application, once, and reads
              it. With VGG16's fully connected layers it needs more than 2 GB of memory.
            - the path of such a file, or of a `.weights.h5` file that was saved from
              `keras.applications`; without top, or with its 1000 classes.
            - the path of a `.keras` file of any net of this package.
            - the path of a weights file of the same net, as `model.load_weights` takes
              it. (A net that contains another, with `input_scale` or several scales,
              needs a `.keras` file instead.)
            - for ResNet101, the prefix of a TensorFlow checkpoint of DeepLab-ResNet101
              with Caffe's names (`res2a_branch1/weights`), as the weights pretrained on
              MS-COCO are published. Its convolutions have no biases; ours become zero.
              Its epsilon is 1e-5, ours 1.001e-5, which makes a channel of variance v
              smaller by a fraction of 5e-9 / (v + 1e-5). ASPP is loaded if the number
              of classes agrees; what is published for fine-tuning is random there.
        backbone: "vgg16" or "resnet101".

    Returns:
        Which layers were loaded and which were not. The report is also logged, by the
        logger "tf_levelset".

    Raises:
        ValueError: If a layer of the backbone is missing on either side or has another
            shape, before anything is changed; or if the file has none of these formats.
            Layers of the head that do not fit are left as they are and reported.
        FileNotFoundError: If there is nothing at the path.
        OSError: If Keras cannot fetch the weights of ImageNet.
    """
    known = tuple(APPLICATIONS)
    expect(backbone in known, f"`backbone` to be one of {known}", backbone)
    is_source = isinstance(weights, str | PathLike)
    expect(is_source, "`weights` to be 'imagenet' or the path of a file", weights)
    source = os.fspath(weights)
    layers = weighted_layers(model)
    if weights == "imagenet":
        saved = read_imagenet(backbone, include_top="fc6" in layers)
    else:
        saved = _read(source, model, backbone)
    report = _transfer(saved, layers, source, backbone)
    logging.getLogger("tf_levelset").info("%s", report)
    return report


def _read(
    source: str, model: keras.Model, backbone: str
) -> dict[str, list[np.ndarray]]:
    """Reads a file of any of the formats that `load_weights` takes."""
    if not (os.path.exists(source) or os.path.exists(f"{source}.index")):
        raise FileNotFoundError(
            "Expected `weights` to be 'imagenet' or the path of a file. Received: "
            f"{source!r}, where there is none"
        )
    expected = (
        f"Expected {source} to be a weights file of this net (of a net that contains "
        "another, as with several scales or `input_scale`, a .keras file); or one of "
        f"keras.applications.{APPLICATIONS[backbone]}, without top or with 1000 "
        "classes; or a .keras file of a net of this package; or, for ResNet101, a "
        "checkpoint of DeepLab with Caffe's names. Received: another format, or arrays "
        "of other shapes or names"
    )
    try:
        if not h5py.is_hdf5(source):
            if zipfile.is_zipfile(source):
                saved = arrays_of(load_keras(Path(source)))
            else:
                saved = read_checkpoint(source) if backbone == "resnet101" else {}
        elif has_shapes_of(source, model.weights):
            model.load_weights(source)
            saved = arrays_of(model)
        else:
            saved = read_application(source, backbone)
    # The libraries raise all kinds of errors for files of other formats.
    except Exception as error:
        raise ValueError(f"{expected}. ({error})") from error
    if not any(_is_backbone(name) for name in saved):
        raise ValueError(expected)
    return saved


def _transfer(
    saved: Mapping[str, list[np.ndarray]],
    layers: Mapping[str, keras.layers.Layer],
    source: str,
    backbone: str,
) -> WeightsReport:
    """Gives each layer the weights that are saved under its name."""
    ours = {name: _shapes(layer.weights) for name, layer in layers.items()}
    saved = {name: _fitted(name, saved[name], ours.get(name)) for name in saved}
    theirs = {name: _shapes(arrays) for name, arrays in saved.items()}
    loaded = tuple(name for name in ours if ours[name] == theirs.get(name))
    others = tuple(
        (name, ours.get(name, ()), theirs.get(name, ()))
        for name in {**ours, **theirs}
        if name not in loaded
    )
    misfits = [mismatch for mismatch in others if _is_backbone(mismatch[0])]
    if misfits:
        raise ValueError(
            f"Expected weights that fit the backbone {backbone!r} of this net. "
            f"Received: {source}, whose layers differ: {compared(misfits)}"
        )
    for name in loaded:
        layers[name].set_weights(saved[name])
    return WeightsReport(
        source,
        loaded,
        initial=tuple(name for name in ours if name not in loaded),
        unused=tuple(name for name in theirs if name not in ours),
        mismatched=tuple(o for o in others if o[0] in ours and o[0] in theirs),
    )


def _fitted(
    name: str, arrays: list[np.ndarray], wanted: Shapes | None
) -> list[np.ndarray]:
    """Returns a fully connected layer of VGG16 as a convolution, where it fits."""
    if name in MAP_SIZES and wanted and arrays[0].ndim == 2:
        with contextlib.suppress(ValueError):  # no decimation gives these shapes
            kernel, bias = arrays
            return [*as_convolution(kernel, bias, MAP_SIZES[name], wanted[0])]
    return arrays


def _is_backbone(name: str) -> bool:
    """Whether a layer is a convolution of VGG16 or ResNet101, or its normalisation."""
    pattern = r"conv\d+_\d+(_bn)?|conv\d+(_block\d+_\d+)?_(conv|bn)"
    return re.fullmatch(pattern, name) is not None


def _shapes(arrays: Iterable[Any]) -> Shapes:
    return tuple(tuple(array.shape) for array in arrays)
