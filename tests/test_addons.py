"""The addons lane: tensorflow-addons' optimizers beside ours, on our losses."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest

from tf_levelset import CrossEntropyLevelSetLoss, MeanIoU
from tf_levelset.compat import KERAS_3


@pytest.fixture(scope="module")
def tfa() -> Any:
    if KERAS_3:
        pytest.skip("tensorflow-addons imports only with Keras 2")
    with warnings.catch_warnings():
        # It announces the end of its life, and is older than its dependencies.
        warnings.simplefilter("ignore")
        return pytest.importorskip("tensorflow_addons")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["SGDW", "AdamW", "LAMB", "Lookahead"])
def test_addons_optimizers_train_our_loss(tfa: Any, name: str) -> None:
    optimizers = {
        "SGDW": lambda: tfa.optimizers.SGDW(1e-4, 0.1, momentum=0.9),
        "AdamW": lambda: tfa.optimizers.AdamW(1e-4, 0.01),
        "LAMB": lambda: tfa.optimizers.LAMB(0.01),
        "Lookahead": lambda: tfa.optimizers.Lookahead(
            keras.optimizers.legacy.SGD(0.1), sync_period=2
        ),
    }
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 6, 7, 3)).astype(np.float32)
    labels = (images[..., 0] > 0).astype(np.int32)
    labels[:, 0] = 255
    model = keras.Sequential(
        [keras.Input((6, 7, 3)), keras.layers.Conv2D(2, 1, name="conv")]
    )
    model.compile(
        optimizers[name](),
        CrossEntropyLevelSetLoss(0.01, from_logits=True, ignore_class=255),
        metrics=[MeanIoU(2, ignore_class=255, sparse_y_pred=False)],
    )
    losses = model.fit(images, labels, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
