"""TensorFlow Lite files against the Keras model, in floats and in 8 bits."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_levelset.commands.main import main
from tf_levelset.export.saved_model import export
from tf_levelset.export.tflite import export_tflite
from tf_levelset.export.versions import load_version, predict_bytes
from tf_levelset.models import create_model

SIZE = (65, 57)
CLASSES = 3
NETS = {
    # Resizes the images first, with operations that TensorFlow Lite has.
    "deeplab_largefov": ({"dilation": 2, "input_scale": 0.5}, 2),
    "deeplab_resnet101": ({"depth": 0.1, "freeze_batch_norm": False}, 3),
    "fcn8s_resnet101": ({"depth": 0.1, "freeze_batch_norm": False}, 2.8),
}
"""The options of networks, and how far the logits of the first class are raised.

The unit is their deviation. Otherwise the classes of a network with random weights
would meet in more places than those of a trained one.
"""


def images(count: int, seed: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Images of large rectangles, uint8 (H, W, 3), few of whose pixels are edges."""
    rng = np.random.default_rng(seed)
    tiles = rng.integers(0, 256, (count, 2, 2, 3), np.uint8)
    large = tiles.repeat(size[0] // 2 + 1, 1).repeat(size[1] // 2 + 1, 2)
    return list(large[:, : size[0], : size[1]])


def net(name: str) -> keras.Model:
    """A network with random weights that predicts the first class for most pixels."""
    keras.utils.set_random_seed(0)
    options, ahead = NETS[name]
    model = create_model(name, CLASSES, width=0.05, **options)
    rng = np.random.default_rng(0)
    for layer in model.layers:  # Scores of an FCN begin as zeros.
        weights = layer.get_weights()
        layer.set_weights([w if w.any() else rng.normal(size=w.shape) for w in weights])
    logits = np.asarray(model(np.stack(images(8, 1)).astype(np.float32)))
    deviation = logits.std((0, 1, 2)) / 5
    mean = logits.mean((0, 1, 2)) - deviation * [5 * ahead, 0, 0]
    spread = keras.layers.Normalization(mean=mean, variance=deviation**2)
    return keras.Model(model.inputs[0], spread(model.outputs[0]))


def runner(path: Path) -> Any:
    """The file as a function of `images`, as docs/serving.md runs it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return tf.lite.Interpreter(str(path)).get_signature_runner()


@pytest.mark.parametrize("name", NETS)
def test_agrees_with_keras(name: str, tmp_path: Path) -> None:
    model = net(name)
    version = export(model, tmp_path / "served", portable=True, size=SIZE)
    checked = images(6, 2)
    outputs = model(np.stack(checked).astype(np.float32), training=False)
    probabilities = tf.nn.softmax(outputs).numpy()
    masks = probabilities.argmax(-1)
    assert (masks > 0).mean() > 0.01  # more than a constant output could miss
    for kind, calibration in (("float", []), ("int8", images(30, 3))):
        path = tmp_path / f"{kind}.tflite"
        found, difference = export_tflite(
            version, path, checked, calibration=calibration
        )
        run = runner(path)
        answers = [run(images=image[np.newaxis]) for image in checked]
        share = np.mean([a["mask"] for a in answers] == masks[:, np.newaxis])
        assert found == pytest.approx(share)
        assert share >= 0.99
        assert {a["mask"].dtype for a in answers} == {np.dtype(np.uint8)}
        got = np.concatenate([a["probabilities"] for a in answers])
        largest = np.abs(got - probabilities).max()
        assert difference == pytest.approx(largest, abs=1e-4)
        assert difference < 1e-4 or kind == "int8"
    sizes = [(tmp_path / f"{kind}.tflite").stat().st_size for kind in ("float", "int8")]
    assert sizes[1] < 0.6 * sizes[0]


def small(tmp_path: Path, **options: Any) -> Path:
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs))
    return export(model, tmp_path / "served", **options)


def test_what_does_not_agree_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match="Expected an export for images of one size"):
        export_tflite(small(tmp_path), path, images(1, 0))
    dark = [np.zeros((9, 9, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"at least 100\.10% .* Received: \d+\.\d+%"):
        export_tflite(small(tmp_path, size=SIZE), path, dark, min_agreement=1.001)
    assert not path.exists()


def test_a_saved_model_of_one_size_refuses_others(tmp_path: Path) -> None:
    model = load_version(small(tmp_path, size=SIZE))
    for endpoint in ("serving_default", "uint8"):
        inputs = model.signatures[endpoint].structured_input_signature[1]
        assert inputs["images"].shape.as_list() == [None, *SIZE, 3]
    assert predict_bytes(model, np.stack(images(2, 0)))["mask"].shape == (2, *SIZE)
    other = np.stack(images(1, 0, (65, 65)))
    with pytest.raises(
        ValueError, match=r"the size \(65, 57\) .* Received: \(65, 65\)"
    ):
        predict_bytes(model, other)
    files = tf.io.encode_png(other[0])[tf.newaxis]
    with pytest.raises(tf.errors.InvalidArgumentError):
        model.signatures["encoded"](encoded=files)


def test_command(
    constant_model: Any, tmp_path: Path, error_of: Any, capsys: Any
) -> None:
    path, served = tmp_path / "model.tflite", tmp_path / "served"
    command = ["export", constant_model([1.0] * 2), str(served), "--size", "33", "40"]
    command += ["--tflite", str(path)]
    assert main(command) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == str(served / "1")
    assert said[1].startswith(f"{path}: predicts the network's class for 100.00% of")
    assert "Expected --dataset" in error_of(*command, "--int8")
    assert main([*command, "--int8", "--dataset", "synthetic"]) == 0
    answer = runner(path)(images=np.zeros((1, 33, 40, 3), np.uint8))
    assert answer["mask"].shape == (1, 33, 40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tflite", "x"], "Expected --size together with --tflite"),
        (["--int8"], "Expected --tflite together with --int8"),
        (["--size", "0", "33"], "`size` to be positive"),
    ],
)
def test_options_that_need_others(
    constant_model: Any,
    tmp_path: Path,
    error_of: Any,
    options: list[str],
    message: str,
) -> None:
    out = tmp_path / "x"
    assert message in error_of("export", constant_model([0.0, 0.0]), out, *options)
    assert not out.exists()
