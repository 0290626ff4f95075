"""Conversion of an exported model to ONNX."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from tf_levelset.checks import optional_library
from tf_levelset.files import write_bytes
from tf_levelset.models.safe_loading import load_saved_model

OPSET = 18


def export_onnx(saved_model: Path, path: Path) -> Path:
    """Converts the endpoint `serving_default` of an exported model.

    The input of the ONNX model is `images`, float32 (B, H, W, 3) in [0, 255]; its
    outputs are `mask` and `probabilities`. B, H and W may vary.

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
    loaded = load_saved_model(saved_model)
    endpoint = loaded.signatures["serving_default"]

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, "images")]
    )
    def serving(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(endpoint(images=images))

    operations = _operations(serving.get_concrete_function().graph.as_graph_def())
    if "ScaleAndTranslate" in operations:
        raise ValueError(
            f"Expected an export with `portable=True`. Received: {saved_model}"
        )
    model, _ = tf2onnx.convert.from_function(
        serving, input_signature=serving.input_signature, opset=OPSET
    )
    write_bytes(path, model.SerializeToString())
    return path


def _operations(graph: tf.compat.v1.GraphDef) -> set[str]:
    """Returns the types of the operations in a graph and in the functions it calls."""
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    return {node.op for nodes in bodies for node in nodes}
