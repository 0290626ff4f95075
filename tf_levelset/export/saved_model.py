"""A SavedModel for serving: preprocessing inside, any size in, masks out."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from tf_levelset.datasets.files.images import decode_image
from tf_levelset.export.warmup import WARMUP_FILE, write_warmup
from tf_levelset.models.layers import ScaleImage
from tf_levelset.models.safe_loading import write_sums

MAX_CLASSES = 256
"""Masks are uint8."""


def numbered_versions(folder: Path) -> dict[int, Path]:
    """Returns the version folders of a served model by their numbers."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return {int(path.name): path for path in entries if path.name.isdecimal()}


class Serving(tf.Module):
    """A model's endpoints, in TensorFlow's own operations, its weights constants."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self._answer = _frozen(model)

    def answer(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Maps float32 (B, H, W, 3) in 0–255 to `mask` and `probabilities`."""
        mask, probabilities = self._answer(images)
        return {"mask": mask, "probabilities": probabilities}

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, "images")]
    )
    def serving_default(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Pictures as floats in 0–255."""
        return self.answer(images)

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, "images")]
    )
    def uint8(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Pictures as bytes."""
        return self.answer(tf.cast(images, tf.float32))

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "encoded")])
    def encoded(self, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        """JPEG or PNG files; those of one call must have one size."""
        images = tf.map_fn(
            decode_image,
            encoded,
            fn_output_signature=tf.TensorSpec((None, None, 3), tf.uint8),
        )
        return self.answer(tf.cast(images, tf.float32))


def _frozen(model: keras.Model) -> Callable[[tf.Tensor], Sequence[tf.Tensor]]:
    """A model as a function of pictures to masks and probabilities, without variables.

    Of constants TensorFlow folds normalisations into convolutions, and oneDNN lays
    their kernels out once instead of in every call. The net is traced, and saved, once
    for all endpoints.
    """

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)])
    def answer(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = tf.cast(model(images, training=False), tf.float32)
        return tf.cast(tf.argmax(logits, axis=-1), tf.uint8), tf.nn.softmax(logits)

    return convert_variables_to_constants_v2(answer.get_concrete_function())


def export(
    model: keras.Model,
    folder: Path,
    class_names: Sequence[str] = (),
    version: int | None = None,
    *,
    portable: bool = False,
    warmup_size: tuple[int, int] = (129, 129),
) -> Path:
    """Writes a model as a SavedModel, whole or not at all.

    It needs neither this package nor Keras where it is loaded. The weights are
    constants of its graph: a copy to serve, not to train on. The sums of its files are
    in assets.extra/SHA256SUMS, for `sha256sum --check` and for us. Endpoints, each to
    `mask`, uint8 (B, H, W), and `probabilities`, float32 (B, H, W, C), at the
    pictures' size: `serving_default` (`images`, float32 (B, H, W, 3) in 0–255),
    `uint8` (`images`) and `encoded` (`encoded`, (B,) JPEG or PNG files of one size).

    Args:
        model: from RGB pictures in 0–255 (B, H, W, 3) to logits (B, H, W, C).
        folder: the model's folder; the version becomes a folder in it, as TensorFlow
            Serving expects.
        class_names: written beside the model as assets.extra/classes.json, if given.
        version: positive number; by default the next after those that are there.
        portable: leave out what other runtimes than TensorFlow cannot read: OpenVINO
            then reads the SavedModel, and tf2onnx converts it. A model that shrinks its
            pictures first (`input_scale`) does so more slowly.
        warmup_size: height and width of the picture that TensorFlow Serving sends to
            each endpoint before a version takes its first request.

    Returns:
        The version's folder.

    Raises:
        FileExistsError: if that version is there already.
        ValueError: if the model's outputs are not at the pictures' size, or it has
            more classes than a uint8 mask can name; or for a version below 1.
    """
    if version is not None and version < 1:
        raise ValueError(f"Expected `version` to be positive. Received: {version}")
    _check(model, class_names)
    folder.mkdir(parents=True, exist_ok=True)
    if version is None:
        version = max(numbered_versions(folder), default=0) + 1
    target = folder / str(version)
    if target.exists():
        raise FileExistsError(f"Expected a new version. Received: {target}, which is.")
    # Written beside its place under a name that no server reads, then renamed. Not by
    # `tempfile`, whose folders only their owner may read, whatever the umask says.
    partial = folder / f".partial-{secrets.token_hex(8)}"
    partial.mkdir()
    try:
        with traced_for(model, portable):
            serving = Serving(model)
        signatures = {
            "serving_default": serving.serving_default,
            "uint8": serving.uint8,
            "encoded": serving.encoded,
        }
        tf.saved_model.save(serving, str(partial), signatures=signatures)
        extra = partial / "assets.extra"
        write_warmup(extra / WARMUP_FILE, warmup_size)
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
    """Has a model's layers traced for other runtimes, or not, for a while."""
    layers = [layer for layer in _layers(model) if isinstance(layer, ScaleImage)]
    for layer in layers:
        layer.portable = portable
    try:
        yield
    finally:
        for layer in layers:
            layer.portable = False


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """A model's layers, and those of models in it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def _check(model: keras.Model, class_names: Sequence[str]) -> None:
    """Raises unless the model maps a picture to logits of its size."""
    logits = model(tf.zeros((1, 17, 23, 3)), training=False)
    classes = logits.shape[-1]
    if logits.shape[1:3] != (17, 23):
        raise ValueError(
            "Expected logits at the pictures' size, (1, 17, 23, C) for a picture of "
            f"17×23. Received: {logits.shape}. A net made with upsample=False is "
            "brought to it by tf_levelset.models.at_input_size."
        )
    if not 2 <= classes <= MAX_CLASSES:
        raise ValueError(f"Expected 2 to {MAX_CLASSES} classes. Received: {classes}")
    if class_names and len(class_names) != classes:
        raise ValueError(
            f"Expected {classes} class names. Received: {len(class_names)}"
        )
