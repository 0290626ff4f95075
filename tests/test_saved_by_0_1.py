"""Models saved by version 0.1 load as they were, without `custom_objects`."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import tf_levelset
from tf_levelset.compat import KERAS_3

DATA = Path(__file__).parent / "data"
SAVED = f"saved_by_0_1_keras{3 if KERAS_3 else 2}"
LOSS = 35.80860900878906 if KERAS_3 else 20.77271270751953
SCORES = {
    "mean_io_u": 0.1087365597486496,
    "boundary_io_u": 0.022426096722483635,
    "small_object_recall": 0.3333333432674408,
    "level_set_energy": 824.4328002929688,
}
"""What `evaluate` of version 0.1 returned for the images and labels of the fixture.

The network is a DeepLab-LargeFOV of width 0.02, trained for one step with the paper's
optimizer and a sum of four losses: Eq. 8, Dice, Lovász and boundary.
"""


def test_predicts_and_evaluates_as_in_0_1() -> None:
    model = keras.models.load_model(DATA / f"{SAVED}.keras")
    assert isinstance(model.loss, tf_levelset.LossSum)
    assert isinstance(model.optimizer, tf_levelset.CaffeSGD)
    with np.load(DATA / f"{SAVED}.npz") as saved:
        images, labels, logits = (saved[k] for k in ("images", "labels", "logits"))
    images = images.astype(np.float32)
    np.testing.assert_allclose(
        model.predict(images, verbose=0)[:, ::8, ::8], logits, rtol=1e-3, atol=1e-3
    )
    found = model.evaluate(images, labels, batch_size=2, verbose=0, return_dict=True)
    assert found.pop("loss") == pytest.approx(LOSS, rel=1e-4)
    assert found == pytest.approx(SCORES, rel=1e-4)


def test_goes_on_training() -> None:
    model = keras.models.load_model(DATA / f"{SAVED}.keras")
    images = np.zeros((2, 33, 40, 3), np.float32)
    labels = np.zeros((2, 33, 40), np.int32)
    history = model.fit(images, labels, batch_size=2, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
