"""Requests that TensorFlow Serving runs before it puts a version into service.

They are `PredictionLog` messages of TensorFlow Serving's API. They are encoded here,
field by field, because its Python package pins the version of TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

WARMUP_FILE = "tf_serving_warmup_requests"
"""Name of the file in the folder `assets.extra` of a version."""

# Numbers of fields in prediction_log.proto, predict.proto and model.proto.
_PREDICT_LOG, _REQUEST, _MODEL_SPEC, _INPUTS = 6, 1, 1, 2
_SIGNATURE_NAME, _KEY, _VALUE = 3, 1, 2


def write_warmup(path: Path, size: Sequence[int]) -> None:
    """Writes a request with a black image to each endpoint of an exported model.

    Args:
        path: The file. Its folder is created if missing.
        size: Height and width of the image.
    """
    image = np.zeros((1, *size, 3), np.uint8)
    requests = {
        "serving_default": {"images": tf.make_tensor_proto(image.astype(np.float32))},
        "uint8": {"images": tf.make_tensor_proto(image)},
        "encoded": {
            "encoded": tf.make_tensor_proto([tf.io.encode_png(image[0]).numpy()])
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            values = {k: v.SerializeToString() for k, v in inputs.items()}
            writer.write(_prediction_log(signature, values))


def _prediction_log(signature: str, inputs: Mapping[str, bytes]) -> bytes:
    """Encodes a `PredictionLog` of a request whose tensors are encoded already."""
    request = _field(_MODEL_SPEC, _field(_SIGNATURE_NAME, signature.encode()))
    for name, tensor in inputs.items():
        entry = _field(_KEY, name.encode()) + _field(_VALUE, tensor)
        request += _field(_INPUTS, entry)
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    """Encodes a field of bytes: its tag (wire type 2), its length and the bytes."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Encodes a non-negative integer, seven bits per byte, lowest bits first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
