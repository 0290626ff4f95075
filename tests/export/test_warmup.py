"""Warm-up requests are what TensorFlow Serving's own messages read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tf_levelset.export.saved_model import export
from tf_levelset.export.warmup import WARMUP_FILE, write_warmup
from tf_levelset.models import create_model

SIZE = (20, 30)


@pytest.fixture
def requests(tmp_path: Path) -> list[Any]:
    log = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    write_warmup(tmp_path / "extra" / WARMUP_FILE, SIZE)
    records = tf.data.TFRecordDataset(str(tmp_path / "extra" / WARMUP_FILE))
    return [
        log.PredictionLog.FromString(record).predict_log.request
        for record in records.as_numpy_iterator()
    ]


def test_the_export_answers_them(tmp_path: Path, requests: list[Any]) -> None:
    model = create_model("deeplab_largefov", 3, width=0.02, depth=0.01, dilation=1)
    folder = export(model, tmp_path / "served", warmup_size=SIZE)
    assert (folder / "assets.extra" / WARMUP_FILE).stat().st_size > np.prod(SIZE) * 15
    loaded = tf.saved_model.load(str(folder))
    names = {request.model_spec.signature_name for request in requests}
    assert names == {"serving_default", "uint8", "encoded"}
    for request in requests:
        spec = request.model_spec
        inputs = {
            name: tf.constant(tf.make_ndarray(tensor))
            for name, tensor in request.inputs.items()
        }
        answer = loaded.signatures[spec.signature_name](**inputs)
        assert answer["mask"].shape == (1, *SIZE)
