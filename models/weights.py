"""Weights from elsewhere: ImageNet, DeepLab's MS-COCO checkpoint, another net of ours.

Arrays are read a layer at a time, after every shape of the backbone is known to fit.
"""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, takewhile
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

from tf_levelset.models.safe_loading import load_keras

Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]

APPLICATIONS = {"vgg16": "VGG16", "resnet101": "ResNet101"}
"""Our backbones, and what `keras.applications` calls the same nets."""

TOPS = {"vgg16": ("fc1", "fc2", "predictions"), "resnet101": ("predictions",)}
"""The layers that they have with `include_top`, in Keras' order."""

VGG16_NAMES = {
    **{
        f"block{block}_conv{index}": f"conv{block}_{index}"
        for block, depth in enumerate((2, 2, 3, 3, 3), start=1)
        for index in range(1, depth + 1)
    },
    "fc1": "fc6",
    "fc2": "fc7",
}
"""Keras' names of VGG16's layers, and ours, which are Caffe's. ResNet101's agree."""

MAP_SIZES = {"fc6": 7, "fc7": 1}
"""Side of the map that each fully connected layer of VGG16 sees at 224×224 pixels."""

_CONVOLUTION = ("weights", "biases")
_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")

_UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OSError,
    RuntimeError,
    tf.errors.OpError,
)
"""What Keras, h5py and TensorFlow raise for a file that is not what it seems."""


@dataclass(frozen=True)
class WeightsReport:
    """What `load_weights` did. Every layer that has weights is named.

    Attributes:
        source: "imagenet" or a path.
        loaded: layers of ours that hold the source's weights now.
        initial: layers of ours that were left as initialised.
        unused: layers, or variables, of the source without a place in ours.
        mismatched: those of `initial` that the source has in other shapes: name, shapes
            of ours, shapes in the source.
    """

    source: str
    loaded: tuple[str, ...]
    initial: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, Shapes, Shapes], ...] = ()

    def __str__(self) -> str:
        """Returns one paragraph, in which long lists are cut short."""
        text = (
            f"Loaded {len(self.loaded)} layers from {self.source}: "
            f"{_listed(self.loaded)}. Left as initialised: {_listed(self.initial)}. "
            f"Unused in the source: {_listed(self.unused)}."
        )
        if self.mismatched:
            text += f" Of other shapes: {_compared(self.mismatched)}."
        return text


def load_weights(
    model: keras.Model, weights: str | PathLike[str], *, backbone: str
) -> WeightsReport:
    """Loads trained weights into a net of this package, by the names of its layers.

    Args:
        model: a net on `backbone`.
        weights: one of

            - `"imagenet"`: Keras fetches the file of its application, once, and reads
              it. With VGG16's fully connected layers Keras takes about 2 GB of memory
              for that; the path of the fetched file takes a quarter.
            - the path of such a file, or of a `.weights.h5` file saved from
              `keras.applications`; without top, or with its 1000 classes.
            - the path of a `.keras` file of any net of this package.
            - the path of a weights file of this very net: `model.load_weights`. (A net
              inside of another, with `input_scale` or MSC, has another such file; there
              a `.keras` file serves.)
            - for ResNet101, the prefix of a TensorFlow checkpoint of DeepLab-ResNet101
              with Caffe's names (`res2a_branch1/weights`), as the weights pretrained on
              MS-COCO are published.
        backbone: "vgg16" or "resnet101".

    VGG16's fc1 and fc2 become our fc6 and fc7: whole where these have 4096 filters, as
    in FCN, decimated where they have 1024, as in DeepLab-LargeFOV (`as_convolution`).

    Of the checkpoint: its convolutions have no biases, ours become zero. Caffe's
    epsilon, with which it was trained, is 1e-5, ours is Keras', 1.001e-5; that makes a
    normalised channel of variance v smaller by a part of 5e-9 / (v + 1e-5), which is
    5e-4 at v = 0 and below 5e-6 from v = 1e-3 on. ASPP is taken where the classes
    agree, though what is published for fine-tuning holds random numbers there.

    Returns:
        What was loaded and what was not; it is logged as well, as "tf_levelset".

    Raises:
        ValueError: for a layer of the backbone that either side lacks or has in another
            shape, before anything is changed (layers of the head are left as they are,
            and reported); for a file that is none of these.
        FileNotFoundError: for a path where nothing is.
        OSError: if Keras cannot fetch the weights of ImageNet.
    """
    if backbone not in APPLICATIONS:
        raise ValueError(
            f"Expected `backbone` of {tuple(APPLICATIONS)}. Received: {backbone!r}"
        )
    if not isinstance(weights, str | PathLike):
        raise ValueError(
            f"Expected 'imagenet' or the path of a file with weights. Received: "
            f"{weights!r}"
        )
    layers = _layers(model)
    source = os.fspath(weights)
    if weights == "imagenet":
        saved = _imagenet(backbone, top="fc6" in layers)
        report = _transfer(saved, layers, source, backbone)
    elif _holds_weights_of(source, layers):
        _load_whole(model, source, backbone)
        report = WeightsReport(source, loaded=tuple(layers))
    else:
        report = _transfer(_read(source, layers, backbone), layers, source, backbone)
    logging.getLogger("tf_levelset").info("%s", report)
    return report


def as_convolution(
    kernel: np.ndarray, bias: np.ndarray, size: int, shape: Shape
) -> tuple[np.ndarray, np.ndarray]:
    """A fully connected layer on a map as a convolution, decimated to a shape.

    DeepLab makes its fc6 from VGG16's "by simple decimation" of the 7×7 taps to 3×3,
    with 1024 filters of 4096 (Chen et al. 2015, Section 3.2), and does not say which.
    Our choice: every third tap (0, 3 and 6, which span the kernel) and every fourth
    filter (0, 4, 8, …), in fc7 of its inputs too.

    Args:
        kernel: (size·size·Cin, Cout). Its rows run over the map's rows, columns and
            channels in this order, as Keras flattens.
        bias: (Cout,).
        size: height and width of the map.
        shape: of the convolution's kernel: each of (size, size, Cin, Cout) as it is, or
            as many as there are at every n-th place from the first on.

    Returns:
        The kernel, of `shape`, and the bias, (shape[3],).

    Raises:
        ValueError: for a shape that no decimation gives.
    """
    whole = (size, size, kernel.shape[0] // size**2, kernel.shape[1])
    steps = _decimation(whole, shape)
    if steps is None:
        raise ValueError(f"Expected a decimation of {whole}. Received: {shape}")
    taken = tuple(slice(None, None, step) for step in steps)
    return kernel.reshape(whole)[taken], bias[taken[-1]]


def _decimation(whole: Shape, shape: Shape) -> Shape | None:
    """Returns the steps from `whole` to `shape`, or None where there are none."""
    steps = tuple(-(-n // m) for n, m in zip(whole, shape, strict=True))
    reached = tuple(len(range(0, n, s)) for n, s in zip(whole, steps, strict=True))
    return steps if reached == shape else None


def _load_whole(model: keras.Model, source: str, backbone: str) -> None:
    """Loads a weights file of the net itself."""
    try:
        model.load_weights(source)
    except _UNREADABLE as error:
        raise ValueError(
            f"{_expected(source, backbone)} (A net that stands inside of another, as "
            f"with several scales or `input_scale`, comes from a .keras file. {error})"
        ) from error


# --- From what is saved to our layers ---


@dataclass(frozen=True)
class _Saved:
    """A layer's arrays, in Keras' order, which are read when they are wanted."""

    shapes: Shapes
    read: Callable[[], Sequence[np.ndarray]]


def _transfer(
    saved: Mapping[str, _Saved],
    layers: Mapping[str, keras.layers.Layer],
    source: str,
    backbone: str,
) -> WeightsReport:
    """Gives each layer what is saved under its name."""
    ours = {name: _shapes(layer.weights) for name, layer in layers.items()}
    saved = {**saved, **dict(_convolutions(saved, ours))}
    theirs = {name: entry.shapes for name, entry in saved.items()}
    loaded = tuple(name for name in ours if ours[name] == theirs.get(name))
    others = tuple(
        (name, ours.get(name, ()), theirs.get(name, ()))
        for name in {**ours, **theirs}
        if name not in loaded
    )
    misfits = [entry for entry in others if _is_backbone(entry[0])]
    if misfits:
        raise ValueError(
            f"Expected weights that fit the backbone {backbone!r} of this net. "
            f"Received: {source}. These layers differ: {_compared(misfits)}"
        )
    for name in loaded:
        layers[name].set_weights(saved[name].read())
    return WeightsReport(
        source,
        loaded,
        initial=tuple(name for name in ours if name not in loaded),
        unused=tuple(name for name in theirs if name not in ours),
        mismatched=tuple(o for o in others if o[0] in ours and o[0] in theirs),
    )


def _convolutions(
    saved: Mapping[str, _Saved], ours: Mapping[str, Shapes]
) -> Iterator[tuple[str, _Saved]]:
    """Yields VGG16's fully connected layers in the form that ours have, if they can."""
    for name, size in MAP_SIZES.items():
        if name in saved and name in ours and len(saved[name].shapes[0]) == 2:
            inputs, outputs = saved[name].shapes[0]
            shape = ours[name][0]
            if _decimation((size, size, inputs // size**2, outputs), shape):
                read = partial(_convert, saved[name], size, shape)
                yield name, _Saved(ours[name], read)


def _convert(saved: _Saved, size: int, shape: Shape) -> Sequence[np.ndarray]:
    kernel, bias = saved.read()
    return as_convolution(kernel, bias, size, shape)


def _layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Returns the layers that have weights, those of nets inside of the net too."""
    layers: dict[str, keras.layers.Layer] = {}
    for layer in model.layers:
        inner = (
            _layers(layer) if isinstance(layer, keras.Model) else {layer.name: layer}
        )
        layers.update((name, layer) for name, layer in inner.items() if layer.weights)
    return layers


def _is_backbone(name: str) -> bool:
    """Whether a layer is one of VGG16's or ResNet101's convolutions, or its norm."""
    pattern = r"conv\d+_\d+(_bn)?|conv\d+(_block\d+_\d+)?_(conv|bn)"
    return re.fullmatch(pattern, name) is not None


def _shapes(arrays: Iterable[np.ndarray]) -> Shapes:
    return tuple(tuple(array.shape) for array in arrays)


# --- What is saved ---


def _imagenet(backbone: str, top: bool) -> dict[str, _Saved]:
    try:
        net = _application(backbone, weights="imagenet", include_top=top)
    except Exception as error:  # Keras raises no narrower class without a network.
        raise OSError(
            f"Expected Keras to fetch {APPLICATIONS[backbone]}'s weights of ImageNet, "
            "or to find them where it fetched them before. Received: "
            f"{error}. The path of such a file does without a network."
        ) from error
    return _of_net(net)


def _read(
    source: str, layers: Mapping[str, keras.layers.Layer], backbone: str
) -> dict[str, _Saved]:
    """Reads a file that is not a weights file of the net itself."""
    if not (os.path.exists(source) or os.path.exists(f"{source}.index")):
        raise FileNotFoundError(
            f"Expected 'imagenet' or the path of a file with weights. Received: "
            f"{source!r}, where nothing is."
        )
    try:
        if h5py.is_hdf5(source):
            saved = _legacy(source, layers, backbone) or _by_keras(source, backbone)
        elif zipfile.is_zipfile(source):
            saved = _of_net(load_keras(Path(source)))
        else:
            saved = _checkpoint(source) if backbone == "resnet101" else {}
    except _UNREADABLE as error:
        raise ValueError(f"{_expected(source, backbone)} ({error})") from error
    if not saved:
        raise ValueError(_expected(source, backbone))
    return saved


def _expected(source: str, backbone: str) -> str:
    readable = [
        "a weights file of this net",
        f"one of keras.applications.{APPLICATIONS[backbone]}, without top or with 1000 "
        "classes",
        "a .keras file of a net of this package",
    ]
    if backbone == "resnet101":
        readable.append("a checkpoint of DeepLab-ResNet101 with Caffe's names")
    return (
        f"Expected {source} to be {'; or '.join(readable)}. Received: arrays of other "
        "shapes or names, or no such file."
    )


def _application(backbone: str, **options: object) -> keras.Model:
    return getattr(keras.applications, APPLICATIONS[backbone])(**options)


def _of_net(net: keras.Model) -> dict[str, _Saved]:
    return {
        VGG16_NAMES.get(name, name): _Saved(_shapes(layer.weights), layer.get_weights)
        for name, layer in _layers(net).items()
    }


def _holds_weights_of(source: str, layers: Mapping[str, keras.layers.Layer]) -> bool:
    """Whether an HDF5 file has just the arrays of a net, by their shapes."""
    ours = [shape for layer in layers.values() for shape in _shapes(layer.weights)]
    try:
        return Counter(ours) == Counter(_hdf5_shapes(source))
    except _UNREADABLE:  # no such file, or a broken one
        return False


def _hdf5_shapes(source: str) -> Shapes:
    """Shapes of the weights in an HDF5 file: without seeds, optimizers and metrics."""
    shapes: list[Shape] = []

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        state = name.startswith(("optimizer", "metrics"))
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and not state:
            shapes.append(item.shape)

    with h5py.File(source) as file:
        file.visititems(visit)
    return tuple(shapes)


def _legacy(
    source: str, layers: Mapping[str, keras.layers.Layer], backbone: str
) -> dict[str, _Saved]:
    """Reads Keras' legacy HDF5 format, which the files of its applications have.

    Keras would build the whole net first. It takes layers by their order, which here
    serves where a file has other names than ours and Keras'.
    """
    with h5py.File(source) as file:
        group = file.get("model_weights", file)  # of a whole model, or weights alone
        stored = {
            VGG16_NAMES.get(name, name): _legacy_layer(source, group[name])
            for name in _attribute(group, "layer_names")
        }
    stored = {name: saved for name, saved in stored.items() if saved.shapes}
    if not stored or all(name in stored for name in layers if _is_backbone(name)):
        return stored
    net = _application(backbone, weights=None, include_top=False)
    expected = [saved.shapes for saved in _of_net(net).values()]
    found = [saved.shapes for saved in stored.values()]
    names = [*_of_net(net), *(VGG16_NAMES.get(name, name) for name in TOPS[backbone])]
    if found[: len(expected)] != expected or len(found) not in (
        len(expected),
        len(names),
    ):
        return {}
    return dict(zip(names, stored.values(), strict=False))


def _by_keras(source: str, backbone: str) -> dict[str, _Saved]:
    """Reads a `.weights.h5` file of an application: its inside is Keras' own affair."""
    shapes = Counter(_hdf5_shapes(source))
    top = any(len(shape) == 2 for shape in shapes)
    net = _application(backbone, weights=None, include_top=top)
    if shapes != Counter(_shapes(net.weights)):
        return {}
    net.load_weights(source)
    return _of_net(net)


def _attribute(group: h5py.Group, name: str) -> list[str]:
    """Reads an attribute of the legacy format: in pieces where it would be too long."""
    keys = [name] if name in group.attrs else _numbered(group, name)
    texts = [text for key in keys for text in group.attrs[key]]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]


def _numbered(group: h5py.Group, name: str) -> list[str]:
    return list(takewhile(group.attrs.__contains__, map(f"{name}{{}}".format, count())))


def _legacy_layer(source: str, group: h5py.Group) -> _Saved:
    paths = [f"{group.name}/{name}" for name in _attribute(group, "weight_names")]
    shapes = tuple(group.file[path].shape for path in paths)
    return _Saved(shapes, partial(_read_arrays, source, paths))


def _read_arrays(source: str, paths: Sequence[str]) -> Sequence[np.ndarray]:
    with h5py.File(source) as file:
        return [file[path][()] for path in paths]


def _checkpoint(source: str) -> dict[str, _Saved]:
    """Reads a TensorFlow checkpoint of DeepLab-ResNet101 with Caffe's names.

    What is none of its layers, such as a momentum, keeps its name.
    """
    reader = tf.train.load_checkpoint(source)
    variables = reader.get_variable_to_shape_map()
    shapes = {name: tuple(variables[name]) for name in sorted(variables)}
    saved = {}
    for caffe in {variable.rpartition("/")[0]: None for variable in shapes}:
        name = keras_name(caffe)
        if name is not None:
            kinds = _BATCH_NORM if name.endswith("_bn") else _CONVOLUTION
            parts = [f"{caffe}/{kind}" for kind in kinds]
            if kinds is _CONVOLUTION and parts[0] in shapes:
                shapes.setdefault(parts[1], shapes[parts[0]][-1:])
            if all(part in shapes for part in parts):
                found = tuple(shapes.pop(part) for part in parts)
                saved[name] = _Saved(found, partial(_read_parts, reader, parts, found))
    if not saved:
        return {}
    rest = {
        n: _Saved((s,), partial(_read_parts, reader, [n], [s]))
        for n, s in shapes.items()
    }
    return saved | rest


def _read_parts(
    reader: Any, parts: Sequence[str], shapes: Sequence[Shape]
) -> Sequence[np.ndarray]:
    """Reads variables; biases that a checkpoint does not have are zero."""
    return [
        reader.get_tensor(part) if reader.has_tensor(part) else np.zeros(shape, "f")
        for part, shape in zip(parts, shapes, strict=True)
    ]


def keras_name(caffe: str) -> str | None:
    """Returns our name, which is Keras', of a layer of Caffe's DeepLab-ResNet101.

    Caffe's blocks are a, b, c in conv2 and conv5, and a, b1, b2, … in conv3 and conv4.

    Example:
    >>> keras_name("bn4b22_branch2a"), keras_name("fc1_voc12_c0"), keras_name("fc8")
    ('conv4_block23_1_bn', 'aspp1', None)
    """
    if caffe in ("conv1", "bn_conv1"):
        return {"conv1": "conv1_conv", "bn_conv1": "conv1_bn"}[caffe]
    if match := re.fullmatch(r"fc1_voc12_c([0-3])", caffe):
        return f"aspp{int(match[1]) + 1}"
    match = re.fullmatch(r"(res|bn)([2-5])([abc]|b\d+)_branch(1|2[abc])", caffe)
    if match is None:
        return None
    kind, stage, block, branch = match.groups()
    index = int(block[1:]) + 1 if block[1:] else "abc".index(block) + 1
    place = ("1", "2a", "2b", "2c").index(branch)
    return f"conv{stage}_block{index}_{place}_{'conv' if kind == 'res' else 'bn'}"


# --- Texts ---


def _listed(texts: Sequence[str]) -> str:
    """Joins texts, of many the first and the last ones."""
    if len(texts) > 8:
        texts = [*texts[:4], f"… {len(texts) - 6} more …", *texts[-2:]]
    return ", ".join(texts) or "none"


def _compared(entries: Sequence[tuple[str, Shapes, Shapes]]) -> str:
    return _listed(
        [
            f"{name}, ours {_sizes(o)}, the source's {_sizes(t)}"
            for name, o, t in entries
        ]
    )


def _sizes(shapes: Shapes) -> str:
    return " and ".join(map(str, shapes)) or "missing"
