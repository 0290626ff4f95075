"""The example's gRPC client; its REST client is tested in test_server.py."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from serving_client import mask_over_grpc

from tf_levelset.export.saved_model import export
from tf_levelset.models import create_model


def test_grpc(tmp_path: Path) -> None:
    grpc = pytest.importorskip("grpc")
    pytest.importorskip("tensorflow_serving")
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    net = create_model("deeplab_largefov", 3, width=0.02, depth=0.01, dilation=1)
    endpoints = tf.saved_model.load(str(export(net, tmp_path))).signatures
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    content = tf.io.encode_png(pixels).numpy()

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request: Any, context: Any) -> Any:
            assert request.model_spec.name == "camvid"
            files = tf.constant(tf.make_ndarray(request.inputs["encoded"]))
            outputs = endpoints[request.model_spec.signature_name](encoded=files)
            response = predict_pb2.PredictResponse()
            for name in request.output_filter:
                tensor = tf.make_tensor_proto(outputs[name].numpy())
                response.outputs[name].CopyFrom(tensor)
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
    expected = endpoints["encoded"](encoded=tf.constant([content]))["mask"][0]
    np.testing.assert_array_equal(mask, expected)
