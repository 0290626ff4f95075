"""A SavedModel for serving: images of any size in, masks and probabilities out."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from tf_levelset.checks import expect
from tf_levelset.datasets.files.images import decode_image
from tf_levelset.export.versions import numbered_versions
from tf_levelset.export.warmup import WARMUP_FILE, write_warmup
from tf_levelset.models.any_size import FAILURES, AnySize
from tf_levelset.models.layers import ScaleImage
from tf_levelset.models.safe_loading import write_sums

MAX_CLASSES = 256
"""Largest number of classes: masks are uint8."""


class Serving(tf.Module):
    """The endpoints of a model in TensorFlow operations, with constant weights.

    Args:
        net: Maps images to probabilities.
        size: Height and width of the images; None where they may vary.
    """

    def __init__(self, net: AnySize, size: Sequence[int | None] = (None, None)) -> None:
        super().__init__()
        self._size = tuple(size)
        self._answer = _frozen(net, self._size)

    def signatures(self) -> dict[str, Any]:
        """Returns the endpoints by name, traced for the size of the images."""
        shape = (None, *self._size, 3)
        inputs = {
            "serving_default": tf.TensorSpec(shape, tf.float32, "images"),
            "uint8": tf.TensorSpec(shape, tf.uint8, "images"),
            "encoded": tf.TensorSpec((None,), tf.string, "encoded"),
        }
        return {
            name: getattr(self, name).get_concrete_function(spec)
            for name, spec in inputs.items()
        }

    def answer(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Maps float32 (B, H, W, 3) in [0, 255] to `mask` and `probabilities`."""
        mask, probabilities = self._answer(images)
        return {"mask": mask, "probabilities": probabilities}

    @tf.function
    def serving_default(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predicts images given as floats in [0, 255]."""
        return self.answer(images)

    @tf.function
    def uint8(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predicts images given as bytes."""
        return self.answer(tf.cast(images, tf.float32))

    @tf.function
    def encoded(self, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predicts JPEG or PNG files; the images of one call must have one size."""
        images = tf.map_fn(
            decode_image,
            encoded,
            fn_output_signature=tf.TensorSpec((*self._size, 3), tf.uint8),
        )
        return self.answer(tf.cast(images, tf.float32))


def _frozen(
    net: AnySize, size: Sequence[int | None]
) -> Callable[[tf.Tensor], Sequence[tf.Tensor]]:
    """Returns a function from images to masks and probabilities, without variables.

    With constant weights, TensorFlow folds normalisations into convolutions, and oneDNN
    rearranges the kernels once instead of in every call. The network is traced and
    saved once for all endpoints.
    """

    @tf.function(input_signature=[tf.TensorSpec((None, *size, 3), tf.float32)])
    def answer(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        probabilities = net(images)
        return tf.cast(tf.argmax(probabilities, axis=-1), tf.uint8), probabilities

    return convert_variables_to_constants_v2(answer.get_concrete_function())


def export(
    model: keras.Model,
    folder: Path,
    class_names: Sequence[str] = (),
    version: int | None = None,
    *,
    outputs: str = "auto",
    portable: bool = False,
    size: Sequence[int] | None = None,
    warmup_size: tuple[int, int] = (129, 129),
) -> Path:
    """Writes a model as a SavedModel, atomically.

    The SavedModel can be loaded without this package and without Keras. Its weights are
    constants, so that it cannot be trained further. The checksums of its files are in
    assets.extra/SHA256SUMS, in the format of `sha256sum --check`.

    It has three endpoints: `serving_default` with the input `images`, float32
    (B, H, W, 3) in [0, 255]; `uint8` with the input `images`, uint8 (B, H, W, 3); and
    `encoded` with the input `encoded`, (B,) JPEG or PNG files of one size. Each returns
    `mask`, uint8 (B, H, W), and `probabilities`, float32 (B, H, W, C).

    Args:
        model: Maps RGB images in [0, 255], (B, H, W, 3), to logits or probabilities
            (B, H, W, C). The padding or resizing that it needs becomes a part of the
            SavedModel; see `AnySize`. One channel becomes two classes.
        folder: The model's folder. Each version is a folder in it, as TensorFlow
            Serving expects.
        class_names: Names of the classes, written to assets.extra/classes.json.
        version: Positive number of the version; the next free one by default.
        outputs: "logits", "softmax", "sigmoid", or "auto" to read it from the model.
        portable: Whether to avoid operations that only TensorFlow has. OpenVINO can
            then read the SavedModel and tf2onnx can convert it, but a model with
            `input_scale` resizes its images more slowly, and one of a fixed input size
            without antialiasing.
        size: Height and width of the images, if all have one size, which TFLite and
            some compilers need. By default, images may have any size.
        warmup_size: Height and width of the image that TensorFlow Serving sends to
            each endpoint before it puts the version into service, without `size`.

    Returns:
        The version's folder.

    Raises:
        FileExistsError: If the version exists already.
        ValueError: If `version` or `size` is below 1, the model cannot take such images
            or its outputs are not of their size, or the number of classes is above
            `MAX_CLASSES` or not that of the names.
    """
    if version is not None and version < 1:
        raise ValueError(f"Expected `version` to be positive. Received: {version}")
    if size is not None:
        expect(len(size) == 2 and min(size) >= 1, "`size` to be positive", size)
    net = AnySize(model, outputs)
    net.antialias = not portable
    _check(net, class_names, size)
    folder.mkdir(parents=True, exist_ok=True)
    if version is None:
        version = max(numbered_versions(folder), default=0) + 1
    target = folder / str(version)
    if target.exists():
        raise FileExistsError(
            f"Expected a version that {folder} does not hold yet. Received: {version}, "
            "which is there. Without --version, the next number is taken."
        )
    # Written under a name that servers ignore, then renamed. A folder of `tempfile`
    # would be readable only by its owner, whatever the umask.
    partial = folder / f".partial-{secrets.token_hex(8)}"
    partial.mkdir()
    try:
        with traced_for(model, portable):
            serving = _serving(net, size or (None, None))
        tf.saved_model.save(serving, str(partial), signatures=serving.signatures())
        extra = partial / "assets.extra"
        write_warmup(extra / WARMUP_FILE, size or warmup_size)
        if class_names:
            (extra / "classes.json").write_text(json.dumps(list(class_names)))
        write_sums(partial)
        os.rename(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target


@contextlib.contextmanager
def traced_for(model: keras.Model, portable: bool) -> Iterator[None]:
    """Within the context, layers are traced for other runtimes if `portable`."""
    layers = [layer for layer in _layers(model) if isinstance(layer, ScaleImage)]
    for layer in layers:
        layer.portable = portable
    try:
        yield
    finally:
        for layer in layers:
            layer.portable = False


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields the layers of a model and of the models inside it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def _serving(net: AnySize, size: Sequence[int | None]) -> Serving:
    try:
        return Serving(net, size)
    except FAILURES as error:
        raise ValueError(
            f"Expected {net.model.name!r} to take images of unknown size when it is "
            f"traced. Received: {type(error).__name__}. Build the network with an "
            "input of fixed size, such as keras.Input((512, 512, 3))."
        ) from error


def _check(
    net: AnySize, class_names: Sequence[str], size: Sequence[int] | None
) -> None:
    """Raises unless the net maps images to outputs of their size and of all classes."""
    net.check_values(net.probe())
    net.announce(size)
    classes = net.num_classes
    if classes > MAX_CLASSES:
        raise ValueError(f"Expected at most {MAX_CLASSES} classes. Received: {classes}")
    if class_names and len(class_names) != classes:
        raise ValueError(
            f"Expected {classes} class names. Received: {len(class_names)}"
        )
