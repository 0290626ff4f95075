"""The example's client, against servers that speak TensorFlow Serving's protocols."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from examples.serving_client import mask_over_grpc, mask_over_rest
from tf_levelset.export.saved_model import export
from tf_levelset.models import create_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    net = create_model("deeplab_largefov", 3, width=0.02, depth=0.01, dilation=1)
    folder = export(net, tmp_path_factory.mktemp("served"))
    return tf.saved_model.load(str(folder))


@pytest.fixture(scope="module")
def content() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def answer(model: Any, name: str, files: list[bytes]) -> dict[str, np.ndarray]:
    outputs = model.signatures[name](encoded=tf.constant(files))
    return {key: value.numpy() for key, value in outputs.items()}


@pytest.fixture
def rest(model: Any) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            files = [base64.b64decode(f["b64"]) for f in body["inputs"]["encoded"]]
            try:
                outputs = answer(model, body["signature_name"], files)
                found = {"outputs": {k: v.tolist() for k, v in outputs.items()}}
                self.send_response(200)
            except tf.errors.InvalidArgumentError as error:
                found = {"error": error.message}
                self.send_response(400)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/models/camvid"
    server.shutdown()
    server.server_close()
    thread.join()


def test_rest(rest: str, model: Any, content: bytes) -> None:
    mask = mask_over_rest(rest, content)
    np.testing.assert_array_equal(mask, answer(model, "encoded", [content])["mask"][0])
    assert (mask.dtype, mask.shape) == (np.uint8, (20, 30))


def test_rest_says_why_it_refuses(rest: str) -> None:
    with pytest.raises(ValueError, match=r"400, .*image"):
        mask_over_rest(rest, b"no picture")


def test_grpc(model: Any, content: bytes) -> None:
    grpc = pytest.importorskip("grpc")
    pytest.importorskip("tensorflow_serving")
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request: Any, context: Any) -> Any:
            assert request.model_spec.name == "camvid"
            files = tf.make_ndarray(request.inputs["encoded"]).tolist()
            outputs = answer(model, request.model_spec.signature_name, files)
            response = predict_pb2.PredictResponse()
            for name in request.output_filter:
                response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
            return response

    server = grpc.server(ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Service(), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        mask = mask_over_grpc(f"127.0.0.1:{port}", "camvid", content)
    finally:
        server.stop(None)
    np.testing.assert_array_equal(mask, answer(model, "encoded", [content])["mask"][0])


def test_the_example_is_a_program(rest: str, content: bytes, tmp_path: Path) -> None:
    import subprocess
    import sys

    picture, mask = tmp_path / "picture.png", tmp_path / "mask.png"
    picture.write_bytes(content)
    root = Path(__file__).parent.parent
    server, _, _ = rest.partition("/v1")
    command = [sys.executable, str(root / "examples/serving_client.py")]
    command += [str(picture), str(mask), "--rest", server]
    subprocess.run(command, check=True)
    assert np.array(Image.open(mask)).shape == (20, 30)
