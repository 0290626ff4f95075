"""Asks TensorFlow Serving for the mask of a picture, over REST or gRPC.

    python docs/examples/serving_client.py picture.jpg mask.png
    python docs/examples/serving_client.py picture.jpg mask.png --grpc localhost:8500

REST needs nothing but NumPy and Pillow; gRPC needs tensorflow-serving-api.
"""

from __future__ import annotations

import argparse
import base64
import json
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image


def mask_over_rest(url: str, content: bytes, timeout: float = 30.0) -> np.ndarray:
    """Sends a JPEG or PNG file to the endpoint `encoded`.

    Args:
        url: of the model, such as "http://localhost:8501/v1/models/camvid".
        content: the file.
        timeout: in seconds.

    Returns:
        uint8 (H, W).

    Raises:
        ValueError: with the server's message, for what it refuses.
    """
    encoded = {"b64": base64.b64encode(content).decode()}
    body = {"signature_name": "encoded", "inputs": {"encoded": [encoded]}}
    request = urllib.request.Request(
        f"{url}:predict",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            outputs = json.load(response)["outputs"]
    except urllib.error.HTTPError as error:
        raise ValueError(
            f"Expected a mask. Received: {error.code}, {error.read().decode()}"
        ) from error
    return np.array(outputs["mask"][0], np.uint8)


def mask_over_grpc(
    address: str, model: str, content: bytes, timeout: float = 30.0
) -> np.ndarray:
    """Sends a JPEG or PNG file to the endpoint `encoded`.

    Only the mask comes back: over REST the probabilities come with it, as text.

    Args:
        address: of the server, such as "localhost:8500".
        model: its name there.
        content: the file.
        timeout: in seconds.

    Returns:
        uint8 (H, W).

    Raises:
        grpc.RpcError: with the server's message, for what it refuses.
    """
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest(output_filter=["mask"])
    request.model_spec.name = model
    request.model_spec.signature_name = "encoded"
    request.inputs["encoded"].CopyFrom(tf.make_tensor_proto([content]))
    with grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.Predict(request, timeout)
    return tf.make_ndarray(response.outputs["mask"])[0]


def main() -> None:
    """Writes the mask of a picture as a greyscale PNG."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("mask", type=Path)
    parser.add_argument("--model", default="camvid", help="its name on the server")
    parser.add_argument("--rest", default="http://localhost:8501")
    parser.add_argument("--grpc", help="host:port, instead of REST")
    options = parser.parse_args()
    content = options.picture.read_bytes()
    if options.grpc:
        mask = mask_over_grpc(options.grpc, options.model, content)
    else:
        mask = mask_over_rest(f"{options.rest}/v1/models/{options.model}", content)
    Image.fromarray(mask).save(options.mask)


if __name__ == "__main__":
    main()
