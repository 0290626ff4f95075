"""The optimizers of tensorflow-addons, with our losses and compared with ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tf_levelset import CrossEntropyLevelSetLoss, MeanIoU
from tf_levelset.optimizers.caffe_sgd import CaffeSGD

# Both TFA and Keras' HDF5 files raise deprecation warnings.
pytestmark = pytest.mark.filterwarnings("ignore")


def batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four images and labels that follow from them; one row of each is void."""
    images = np.random.default_rng(seed).normal(size=(4, 6, 7, 3)).astype(np.float32)
    labels = (images[..., 0] > 0).astype(np.int32)
    labels[:, 0] = 255
    return images, labels


def small_net(l2: float = 0.0) -> keras.Model:
    """Three layers; their L2 regularisers add `l2` times the weights to gradients."""

    def conv(filters: int, size: int, **options: Any) -> keras.layers.Layer:
        # Keras has no ½ in its L2. Each weight has a regulariser of its own.
        decay = {
            f"{weight}_regularizer": keras.regularizers.L2(l2 / 2) if l2 else None
            for weight in ("kernel", "bias")
        }
        return keras.layers.Conv2D(filters, size, padding="same", **decay, **options)

    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6, 7, 3)),
            conv(4, 3, activation="tanh", name="conv1"),
            conv(4, 1, activation="tanh", name="conv2"),
            conv(2, 1, name="head"),
        ]
    )


def our_loss() -> CrossEntropyLevelSetLoss:
    return CrossEntropyLevelSetLoss(0.01, from_logits=True, ignore_class=255)


Make = Callable[[Any, keras.Model], Any]

OPTIMIZERS: dict[str, Make] = {
    "SGDW": lambda tfa, model: tfa.optimizers.SGDW(1e-4, 0.1, momentum=0.9),
    "AdamW": lambda tfa, model: tfa.optimizers.AdamW(1e-4, 0.01),
    "LAMB": lambda tfa, model: tfa.optimizers.LAMB(0.01),
    "Lookahead": lambda tfa, model: tfa.optimizers.Lookahead(
        keras.optimizers.legacy.SGD(0.1), sync_period=2
    ),
    "MovingAverage": lambda tfa, model: tfa.optimizers.MovingAverage(
        keras.optimizers.legacy.SGD(0.1, momentum=0.9)
    ),
    "MultiOptimizer": lambda tfa, model: tfa.optimizers.MultiOptimizer(
        [
            (keras.optimizers.legacy.SGD(0.1, momentum=0.9), model.layers[:2]),
            (keras.optimizers.legacy.SGD(0.5, momentum=0.9), model.layers[2]),
        ]
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_addons_optimizers_train_our_loss(tfa: Any, name: str) -> None:
    model = small_net()
    model.compile(
        OPTIMIZERS[name](tfa, model),
        our_loss(),
        metrics=[MeanIoU(2, ignore_class=255, sparse_y_pred=False)],
    )
    losses = model.fit(*batch(), epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("file", ["model.keras", "model.h5"])
@pytest.mark.parametrize("name", ["SGDW", "MovingAverage", "MultiOptimizer"])
def test_saved_models_load(tfa: Any, name: str, file: str, tmp_path: Path) -> None:
    model = small_net()
    model.compile(OPTIMIZERS[name](tfa, model), our_loss())
    images, labels = batch()
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / file)
    loaded = keras.models.load_model(tmp_path / file)
    assert type(loaded.optimizer) is type(model.optimizer)
    assert loaded.loss.get_config() == model.loss.get_config()
    np.testing.assert_array_equal(loaded(images), model(images))
    loaded.train_on_batch(images, labels)


def test_our_rates_equal_multi_optimizer_update_for_update(tfa: Any) -> None:
    """MultiOptimizer's layers and our multipliers are one thing, decay included."""
    steps, rate, l2 = 25, 0.02, 0.01
    rates = {"conv1": 0.5, "conv2": 1.0, "head": 10.0}

    def poly(multiplier: float) -> keras.optimizers.schedules.PolynomialDecay:
        return keras.optimizers.schedules.PolynomialDecay(
            rate * multiplier, 2 * steps, 0.0, power=0.9
        )

    ours, theirs = small_net(), small_net(l2)
    rng = np.random.default_rng(0)
    start = [0.5 * rng.normal(size=weight.shape) for weight in ours.get_weights()]
    for model in (ours, theirs):
        model.set_weights(start)
    ours.compile(
        CaffeSGD(
            poly(1.0),
            momentum=0.9,
            l2=l2,
            multipliers=[(f"^{layer}/", m, 1.0) for layer, m in rates.items()],
        ),
        our_loss(),
    )
    theirs.compile(
        tfa.optimizers.MultiOptimizer(
            [
                (
                    keras.optimizers.legacy.SGD(poly(m), momentum=0.9),
                    theirs.get_layer(layer),
                )
                for layer, m in rates.items()
            ]
        ),
        our_loss(),
    )
    for step in range(steps):
        for model in (ours, theirs):
            model.train_on_batch(*batch(seed=step))
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            # lr · (m · g) and (lr · m) · g differ by roundings of float32.
            assert np.abs(a - b).max() < 1e-6 * np.abs(b).max()
    for before, after in zip(start, ours.get_weights(), strict=True):
        assert np.abs(after - before).max() > 0.01
