"""Exported models in other runtimes than TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from made_up_nets import u_net

from tf_levelset.export.onnx import export_onnx
from tf_levelset.export.saved_model import export
from tf_levelset.inference.predictor import KerasPredictor
from tf_levelset.models import create_model

SIZES = [(97, 129), (40, 33), (9, 50)]
SAME = 0.999
"""The share of pixels on which masks have to agree."""

MODELS = ["shrunk", "fcn8s", "msc"]


def model_of(name: str) -> keras.Model:
    """A network whose masks hold several classes, unlike those of a fresh one."""
    net = fresh(name)
    logits = np.asarray(net(picture(SIZES[0]), training=False))
    spread = keras.layers.Normalization(
        mean=logits.mean((0, 1, 2)), variance=logits.var((0, 1, 2))
    )
    return keras.Model(net.inputs[0], spread(net.outputs[0]))


def fresh(name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    if name == "fcn8s":
        options = {"width": 0.05, "depth": 0.1, "freeze_batch_norm": False}
        fcn = create_model("fcn8s_resnet101", 4, **options)
        rng = np.random.default_rng(0)
        for layer in fcn.layers:  # what begins as zeros
            layer.set_weights(
                [
                    w if w.any() else rng.normal(size=w.shape)
                    for w in layer.get_weights()
                ]
            )
        return fcn
    net = "deeplab_msc_largefov" if name == "msc" else "deeplab_largefov"
    options = {"width": 0.05, "depth": 0.05, "dilation": 2}
    if name == "shrunk":
        options["input_scale"] = 1 / 3
    return create_model(net, 4, **options)


@pytest.fixture(scope="module", params=MODELS)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[keras.Model, Path]:
    model = model_of(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    return model, export(model, folder, portable=True)


def picture(size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(0)
    squares = rng.uniform(0, 255, (2, -(-size[0] // 6), -(-size[1] // 6), 3))
    large = squares.repeat(6, axis=1).repeat(6, axis=2)
    return large[:, : size[0], : size[1]].astype(np.float32)


def assert_same(
    model: keras.Model, mask: np.ndarray, probabilities: np.ndarray
) -> None:
    """Holds answers for `picture(size)` against the Keras model's."""
    size = mask.shape[1:]
    expected = tf.nn.softmax(model(picture(size), training=False)).numpy()
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    # Of small images a net may say the same everywhere.
    assert len(np.unique(mask)) > 1 or size != SIZES[0]
    assert (mask == expected.argmax(-1)).mean() >= SAME


@pytest.fixture
def openvino(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package OpenVINO, which sends no telemetry where `CI` is set."""
    monkeypatch.setenv("CI", "true")
    return pytest.importorskip("openvino")


def test_openvino_reads_the_saved_model(
    exported: tuple[keras.Model, Path], openvino: Any
) -> None:
    model, folder = exported
    # The CPU's default precision is half where it has it.
    compiled = openvino.Core().compile_model(
        openvino.convert_model(str(folder)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    for size in SIZES:
        outputs = compiled(picture(size))
        assert_same(model, outputs["mask"], outputs["probabilities"])


def test_onnx_runtime_runs_the_converted_model(
    exported: tuple[keras.Model, Path], tmp_path: Path
) -> None:
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, folder = exported
    path = export_onnx(folder, tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    for size in SIZES:
        answers = session.run(["mask", "probabilities"], {"images": picture(size)})
        assert_same(model, *answers)


def test_padding_is_a_part_of_the_onnx_model(tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    keras.utils.set_random_seed(0)
    net = u_net(2)
    net = keras.Model(net.inputs, keras.layers.Activation("sigmoid")(net.outputs[0]))
    path = export_onnx(export(net, tmp_path, portable=True), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(path))
    image = picture((33, 50))[0].round().astype(np.uint8)
    images = {"images": image[np.newaxis].astype(np.float32)}
    (answer,) = session.run(["probabilities"], images)
    np.testing.assert_allclose(answer[0], KerasPredictor(net)(image), atol=1e-4)


def test_what_onnx_does_not_have_raises(tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx")
    folder = export(model_of("shrunk"), tmp_path)
    with pytest.raises(ValueError, match="an export with `portable=True`"):
        export_onnx(folder, tmp_path / "model.onnx")
