"""Compares a trained model in Keras with its SavedModel in a bare TensorFlow process.

    python experiments/compare_export.py runs/camvid/ls PICTURE [--output FILE.json]

The picture is brought to seven sizes. The other process cannot import this package; it
answers through the endpoint `uint8`. Prints, for each size, the number of pixels whose
class differs and the largest difference of a probability.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import keras
import numpy as np

from tf_levelset import compat
from tf_levelset.export.saved_model import export
from tf_levelset.files import write_json
from tf_levelset.inference.predictor import KerasPredictor

SIZES = ((360, 480), (361, 481), (180, 240), (123, 457), (97, 64), (33, 33), (8, 5))
"""Heights and widths."""

BARE_PROCESS = """
import sys
sys.modules["tf_levelset"] = None  # any import of it fails
import numpy as np, tensorflow as tf
model, pictures, answers = sys.argv[1:]
endpoint = tf.saved_model.load(model).signatures["uint8"]
results = {}
for name, image in np.load(pictures).items():
    outputs = endpoint(images=tf.constant(image[np.newaxis]))
    results["mask" + name] = outputs["mask"][0].numpy()
    results["probabilities" + name] = outputs["probabilities"][0].numpy()
np.savez(answers, **results)
"""


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a loss's folder, with model.keras")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()

    read = cv2.imread(str(options.picture))
    if read is None:
        raise ValueError(f"Expected a picture. Received: {options.picture}")
    picture = cv2.cvtColor(read, cv2.COLOR_BGR2RGB)
    images = {f"{h}x{w}": cv2.resize(picture, (w, h)) for h, w in SIZES}
    model = keras.models.load_model(options.run / "model.keras", compile=False)
    predictor = KerasPredictor(model)
    with tempfile.TemporaryDirectory() as folder:
        pictures, answers = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(pictures, **images)  # type: ignore[arg-type]
        saved_model = export(model, Path(folder) / "served")
        command = [sys.executable, "-c", BARE_PROCESS]
        files = [str(path) for path in (saved_model, pictures, answers)]
        subprocess.run([*command, *files], check=True)
        answered = dict(np.load(answers))
    sizes = {}
    for name, image in images.items():
        expected = predictor(image)
        difference = np.abs(answered[f"probabilities{name}"] - expected).max()
        sizes[name] = {
            "pixels": int(image.shape[0] * image.shape[1]),
            "pixels_that_differ": int(
                np.sum(answered[f"mask{name}"] != expected.argmax(-1))
            ),
            "largest_difference_of_a_probability": float(difference),
        }
        print(name, sizes[name])
    if options.output is not None:
        write_json(options.output, {"versions": compat.versions(), "sizes": sizes})


if __name__ == "__main__":
    main()
