"""Seconds per image: the exported model over Keras and ONNX Runtime.

Each runtime has two threads and answers for the same image. Its answers are compared
with Keras' before anything is timed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import harness

THREADS = 2
LARGEST_DIFFERENCE = 1e-2
"""Largest difference of a probability from Keras' that counts as the same answer."""

MODELS: dict[str, tuple[tuple[int, int], int, dict[str, Any], int]] = {
    "full": ((321, 321), 21, {}, 8),
    "narrow": ((360, 480), 11, {"width": 0.25, "batch_norm": True, "dilation": 4}, 40),
}
"""Height and width of the image, classes, options of LargeFOV, and rounds."""


def measure(quick: bool) -> dict[str, Any]:
    """Measures the runtimes on both models.

    Args:
        quick: Whether tiny sizes will do, to see that it runs.

    Returns:
        `sizes`, `cases` and `targets`, see `benchmarks`.
    """
    result: dict[str, Any] = {"sizes": {}, "cases": {}, "targets": []}
    for name, (size, classes, options, rounds) in MODELS.items():
        if quick and name == "full":
            continue
        if quick:
            size, options, rounds = (
                (65, 81),
                {**options, "width": 0.05, "depth": 0.05},
                2,
            )
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), size, classes, options)
            samples = compare(Path(folder), rounds)
        result["sizes"][name] = f"{size[0]}×{size[1]} pixels, {classes} classes"
        result["cases"] |= {
            f"{name}: {case}": values
            for case, values in harness.described(samples).items()
        }
        result["targets"] += [
            harness.ratio_target(
                f"{name}: saved_model over {other}",
                harness.ratio(samples, ["saved_model"], [other]),
                1.2,
            )
            for other in ("keras_predict", "onnx")
        ]
    return result


def image(size: tuple[int, int]) -> np.ndarray:
    """Returns a synthetic scene, uint8 (H, W, 3)."""
    from tf_levelset.datasets import load_dataset
    from tf_levelset.datasets.pipeline import evaluation_dataset

    source = load_dataset("synthetic", "val")
    scene, _ = next(evaluation_dataset(source).as_numpy_iterator())
    return np.asarray(cv2.resize(scene, size[::-1]))


def prepare(
    folder: Path, size: tuple[int, int], classes: int, options: dict[str, Any]
) -> None:
    """Writes image.npy and a network of random weights in all formats."""
    import keras

    from tf_levelset.export.onnx import export_onnx
    from tf_levelset.export.saved_model import export
    from tf_levelset.models import at_input_size, create_model

    keras.utils.set_random_seed(0)
    images = image(size)[np.newaxis].astype(np.float32)
    np.save(folder / "image.npy", images)
    net = create_model("deeplab_largefov", classes, upsample=False, **options)
    # The logits of a new network are nearly constant: spread them around zero.
    logits = np.asarray(net(images, training=False))
    mean, deviation = logits.mean((0, 1, 2)), logits.std((0, 1, 2))
    last = net.get_layer("fc8")
    kernel, bias = last.get_weights()
    last.set_weights([kernel / deviation, (bias - mean) / deviation])
    model = at_input_size(net)
    model.save(folder / "model.keras")
    export_onnx(export(model, folder, portable=True), folder / "model.onnx")


def compare(folder: Path, rounds: int) -> harness.Samples:
    """Times every runtime, once their answers are the same.

    Raises:
        ValueError: If a runtime answers differently.
    """
    images = np.load(folder / "image.npy")
    runtimes = {name: make(folder) for name, make in RUNTIMES.items()}
    answers = {name: answer(images) for name, answer in runtimes.items()}
    for name, probabilities in answers.items():
        difference = float(np.abs(probabilities - answers["keras_predict"]).max())
        if not difference < LARGEST_DIFFERENCE:
            raise ValueError(
                f"Expected {name} to answer as Keras does. Received: a probability "
                f"that differs by {difference:.2g}"
            )

    def timed(answer: Callable[[np.ndarray], np.ndarray]) -> Callable[[], None]:
        def work() -> None:
            answer(images)

        return work

    cases = {name: timed(answer) for name, answer in runtimes.items()}
    return harness.alternate(cases, rounds)


def saved_model(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The endpoint `serving_default` of the exported model."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder / "1"))

    def answer(images: np.ndarray) -> np.ndarray:
        outputs = loaded.signatures["serving_default"](images=tf.constant(images))
        return np.asarray(outputs["probabilities"])

    return answer


def keras_predict(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """`predict` of Keras, and a softmax."""
    import keras
    import tensorflow as tf

    import tf_levelset  # noqa: F401

    model = keras.models.load_model(folder / "model.keras", compile=False)
    return lambda images: np.asarray(tf.nn.softmax(model.predict(images, verbose=0)))


def onnx(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """ONNX Runtime on the exported file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    # Its threads would wait actively, and so disturb the other runtimes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    return lambda images: np.asarray(
        session.run(["probabilities"], {"images": images})[0]
    )


RUNTIMES: dict[str, Callable[[Path], Callable[[np.ndarray], np.ndarray]]] = {
    "saved_model": saved_model,
    "keras_predict": keras_predict,
    "onnx": onnx,
}
