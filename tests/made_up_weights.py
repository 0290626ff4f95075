"""Nets and files of weights for the tests of loading weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from tf_levelset.models import deeplab_largefov
from tf_levelset.models.weights import WeightsReport

VGG16 = {
    f"block{block}_conv{index}": f"conv{block}_{index}"
    for block, index in [
        *[(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)],
        *[(4, 1), (4, 2), (4, 3), (5, 1), (5, 2), (5, 3)],
    ]
}
"""Keras' names of VGG16's convolutions, and ours."""

CONVOLUTIONS = tuple(VGG16.values())

NARROW = 0.02
"""A width of VGG16: 1, 3, 5, 10 and 10 filters, and 82 or 20 in fc6 and fc7."""


def values(model: keras.Model) -> dict[str, list[np.ndarray]]:
    """All weights by layer, those of a net inside the net included."""
    found: dict[str, list[np.ndarray]] = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found.update(values(layer))
        elif layer.weights:
            found[layer.name] = layer.get_weights()
    return found


def randomize(model: keras.Model) -> keras.Model:
    """Changes every weight; variances, which are 1, stay positive."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        noise = rng.random(tuple(variable.shape), np.float32) - np.float32(0.5)
        variable.assign_add(noise * np.float32(0.4 if noise.ndim == 1 else 0.04))
    return model


def assert_equal(
    actual: Sequence[np.ndarray], expected: Sequence[np.ndarray], name: str = ""
) -> None:
    """Asserts that the arrays of a layer are the same."""
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs, name)


def assert_all_equal(
    actual: Mapping[str, Sequence[np.ndarray]],
    expected: Mapping[str, Sequence[np.ndarray]],
) -> None:
    """Asserts that all layers of `expected` hold the same arrays in `actual`."""
    for name, arrays in expected.items():
        assert_equal(actual[name], arrays, name)


def assert_accounts_for(report: WeightsReport, model: keras.Model) -> None:
    """Asserts that every layer is either loaded or as it was, and none is both."""
    assert sorted((*report.loaded, *report.initial)) == sorted(values(model))
    assert {name for name, _, _ in report.mismatched} <= set(report.initial)
    assert not {*report.unused} & {*report.loaded, *report.initial}


def narrow_vgg16(
    weights: str | None = None, include_top: bool = True, classes: int = 1000
) -> keras.Model:
    """Stands in for `keras.applications.VGG16`, whose top is half a gigabyte."""
    x = images = keras.Input((224, 224, 3))
    for block, (filters, depth) in enumerate(
        ((1, 2), (3, 2), (5, 3), (10, 3), (10, 3)), start=1
    ):
        for index in range(1, depth + 1):
            name = f"block{block}_conv{index}"
            x = keras.layers.Conv2D(filters, 3, padding="same", name=name)(x)
        x = keras.layers.MaxPooling2D()(x)
    if include_top:
        x = keras.layers.Flatten()(x)
        x = keras.layers.Dense(80, name="fc1")(x)
        x = keras.layers.Dense(80, name="fc2")(x)
        x = keras.layers.Dense(classes, name="predictions")(x)
    return keras.Model(images, x)


def narrow_largefov(**options: Any) -> keras.Model:
    """DeepLab-LargeFOV that `narrow_vgg16` fits."""
    return deeplab_largefov(
        **{"num_classes": 5, "width": NARROW, "upsample": False, **options}
    )


def saved(net: keras.Model, folder: Path) -> Path:
    """A `.keras` file of a net."""
    net.save(folder / "net.keras")
    return folder / "net.keras"


def write_legacy(
    path: Path, layers: Mapping[str, Sequence[np.ndarray]], suffixes: Sequence[str]
) -> Path:
    """Writes the layout of the HDF5 files that Keras publishes."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"input_1", *(name.encode() for name in layers)]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.1.6"
        file.create_group("input_1").attrs["weight_names"] = np.zeros(0, "S1")
        for name, arrays in layers.items():
            group = file.create_group(name)
            weights = [name + suffix for suffix in suffixes[: len(arrays)]]
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, array in zip(weights, arrays, strict=True):
                group.create_dataset(weight, data=array)
    return path
