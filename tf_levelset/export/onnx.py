"""Conversion of an exported model to ONNX."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from tf_levelset.checks import optional_library
from tf_levelset.export.versions import image_size, load_portable
from tf_levelset.files import write_bytes

OPSET = 18


def export_onnx(saved_model: Path, path: Path) -> Path:
    """Converts the endpoint `serving_default` of an exported model.

    The input of the ONNX model is `images`, float32 (B, H, W, 3) in [0, 255]; its
    outputs are `mask` and `probabilities`. B, H and W may vary, unless the model was
    exported with `size`.

    Args:
        saved_model: Folder of a version, written by `export(…, portable=True)`.
        path: The ONNX file.

    Returns:
        `path`.

    Raises:
        ImportError: If tf2onnx is not installed.
        ValueError: If the model was exported without `portable=True` and has an
            operation that ONNX lacks.
    """
    tf2onnx = optional_library("tf2onnx", "tf2onnx")
    # The endpoint lives only as long as the loaded object.
    loaded = load_portable(saved_model)
    endpoint = loaded.signatures["serving_default"]
    shape = (None, *image_size(loaded), 3)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, "images")])
    def serving(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(endpoint(images=images))

    model, _ = tf2onnx.convert.from_function(
        serving, input_signature=serving.input_signature, opset=OPSET
    )
    write_bytes(path, model.SerializeToString())
    return path
