"""Weights that Keras saved: of its applications, and of nets of this package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import h5py
import keras
import numpy as np

APPLICATIONS = {"vgg16": "VGG16", "resnet101": "ResNet101"}
"""Our backbones, and the names of the same nets in `keras.applications`."""

VGG16_NAMES = {
    **{
        f"block{block}_conv{index}": f"conv{block}_{index}"
        for block, depth in enumerate((2, 2, 3, 3, 3), start=1)
        for index in range(1, depth + 1)
    },
    "fc1": "fc6",
    "fc2": "fc7",
}
"""Keras' names of VGG16's layers, and ours, which are Caffe's. Those of ResNet101 are
the same."""


def weighted_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Returns the layers that have weights, those of nets inside the net included."""
    layers: dict[str, keras.layers.Layer] = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            layers.update(weighted_layers(layer))
        elif layer.weights:
            layers[layer.name] = layer
    return layers


def arrays_of(model: keras.Model) -> dict[str, list[np.ndarray]]:
    """Returns the weights of each layer by our name for it."""
    return {
        VGG16_NAMES.get(name, name): layer.get_weights()
        for name, layer in weighted_layers(model).items()
    }


def read_imagenet(backbone: str, include_top: bool) -> dict[str, list[np.ndarray]]:
    """Returns the weights that Keras publishes, trained on ImageNet.

    Args:
        backbone: "vgg16" or "resnet101".
        include_top: Whether the fully connected layers are wanted.

    Raises:
        OSError: If Keras cannot fetch its file.
    """
    try:
        net = _application(backbone, weights="imagenet", include_top=include_top)
    except Exception as error:  # Without a network, Keras raises no narrower class.
        raise OSError(
            f"Expected Keras to fetch {APPLICATIONS[backbone]}'s ImageNet weights, or "
            f"to find them where it stored them before. Received: {error}. Without a "
            "network, give the path of such a file instead."
        ) from error
    return arrays_of(net)


def read_application(path: str, backbone: str) -> dict[str, list[np.ndarray]]:
    """Reads an HDF5 file of an application of Keras, with or without its top.

    Both of Keras' formats are read: that of the published files and `.weights.h5`.

    Returns:
        The weights of each layer; none if the file has arrays of other shapes.
    """
    top = any(len(shape) == 2 for shape in _hdf5_shapes(path))
    net = _application(backbone, weights=None, include_top=top)
    if not has_shapes_of(path, net.weights):
        return {}
    net.load_weights(path)
    return arrays_of(net)


def has_shapes_of(path: str, weights: Iterable[keras.Variable]) -> bool:
    """Whether an HDF5 file has arrays of the shapes of these weights, in any order."""
    shapes = Counter(tuple(variable.shape) for variable in weights)
    return shapes == Counter(_hdf5_shapes(path))


def _application(backbone: str, **options: object) -> keras.Model:
    return getattr(keras.applications, APPLICATIONS[backbone])(**options)


def _hdf5_shapes(path: str) -> list[tuple[int, ...]]:
    """Returns the shapes of the weights in a file, without optimizer and metrics."""
    shapes: list[tuple[int, ...]] = []

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        state = name.startswith(("optimizer", "metrics"))
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and not state:
            shapes.append(item.shape)

    with h5py.File(path) as file:
        file.visititems(visit)
    return shapes
