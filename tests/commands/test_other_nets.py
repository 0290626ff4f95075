"""Commands on a net of other people: a U-Net, for images whose sides 4 divides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from made_up_nets import u_net
from PIL import Image

from tf_levelset.commands.main import main


def saved(folder: Path, activation: str) -> str:
    """Saves the same net with and without an activation."""
    keras.utils.set_random_seed(0)
    net = u_net(1)
    last = keras.layers.Activation(activation)
    path = folder / f"{activation}.keras"
    keras.Model(net.inputs, last(net.outputs[0])).save(path)
    return str(path)


def test_a_sigmoid_changes_no_result(own_data: Path, tmp_path: Path) -> None:
    image = own_data / "images/0.jpg"  # 33×40
    data = ["--dataset", "folder", "--data-dir", str(own_data)]
    results: list[dict[str, Any]] = []
    for activation in ("linear", "sigmoid"):
        model, out = saved(tmp_path, activation), tmp_path / activation
        assert main(["evaluate", model, *data, "--output", str(out), "--flip"]) == 0
        assert main(["figures", model, *data, "--output", str(out)]) == 0
        predict = ["predict", model, str(image), "--output", str(out)]
        assert main([*predict, "--probabilities"]) == 0
        assert main(["export", model, str(out / "served")]) == 0
        (scores,) = json.loads((out / "evaluation-val-flip.json").read_text()).values()
        endpoint = tf.saved_model.load(str(out / "served/1")).signatures["encoded"]
        served = endpoint(encoded=tf.constant([image.read_bytes()]))
        results.append(
            {
                "scores": [scores["mean_iou"], scores["level_set_energy"]],
                "predicted": np.load(out / "probabilities/0.npy"),
                "served": served["probabilities"].numpy()[0],
            }
        )
        with Image.open(out / "masks/0.png") as mask:
            np.testing.assert_array_equal(mask, served["mask"][0])
    for name, without in results[0].items():
        np.testing.assert_allclose(results[1][name], without, rtol=1e-4, atol=1e-5)
    assert results[0]["predicted"].shape == (33, 40, 2)


def test_told_outputs(own_data: Path, tmp_path: Path, error_of: Any) -> None:
    model, image = saved(tmp_path, "linear"), str(own_data / "images/0.jpg")
    out = str(tmp_path / "out")
    said = error_of("predict", model, image, "--output", out, "--outputs", "sigmoid")
    assert "Expected outputs of sigmoid, within [0, 1]" in said
    # The folder belongs to predictions with the other setting.
    said = error_of("predict", model, image, "--output", out, "--outputs", "logits")
    assert "another outputs" in said


@pytest.mark.parametrize("command", ["predict", "evaluate", "export"])
def test_a_fixed_size_is_said_in_one_line(
    command: str, own_data: Path, tmp_path: Path
) -> None:
    inputs = keras.Input((8, 8, 3))
    model = str(tmp_path / "model.keras")
    keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs)).save(model)
    arguments = {
        "predict": [str(own_data / "images"), "--output", str(tmp_path / "out")],
        "evaluate": ["--dataset", "folder", "--data-dir", str(own_data)],
        "export": [str(tmp_path / "served")],
    }[command]
    if command == "evaluate":
        arguments += ["--output", str(tmp_path)]
    with pytest.warns(UserWarning, match="takes images of 8×8 pixels only") as said:
        assert main([command, model, *arguments]) == 0
    assert sum("takes images of" in str(warning.message) for warning in said) == 1
