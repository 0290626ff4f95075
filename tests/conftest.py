"""Fixtures that several test files share."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tf_levelset.compat import KERAS_3

if TYPE_CHECKING:
    from tf_levelset.training.recipe import Recipe

# No deadlines, because the machine may be busy. `--hypothesis-profile=deep` searches
# longer.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.register_profile("deep", deadline=None, max_examples=10_000)
hypothesis.settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """Lets the garbage collector look at what tests make, not at all of TensorFlow.

    Tracing makes so many objects that a fifth of the time went into collections.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def tfa() -> Any:
    """The package tensorflow_addons."""
    if KERAS_3:
        pytest.skip("tensorflow-addons imports only with Keras 2")
    with warnings.catch_warnings():
        # It raises deprecation warnings, also of its dependencies.
        warnings.simplefilter("ignore")
        return pytest.importorskip("tensorflow_addons")


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """The recipe of a run that takes seconds."""
    from tf_levelset.datasets.augmentation import Augmentation
    from tf_levelset.training.recipe import Recipe

    return Recipe(
        dataset="synthetic",
        name="synthetic",
        dataset_options={"num_samples": 10, "size": [33, 40]},
        model_options={
            "width": 0.05,
            "depth": 0.05,
            "batch_norm": True,
            "dilation": 1,
            "dropout": 0.5,
        },
        level_set={"level_set_weight": 0.67, "normalization": "mean"},
        epochs=2,
        batch_size=3,
        augmentation=Augmentation(flip=True),
    )


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Recipe) -> Path:
    """The run folder of an uninterrupted `tf-levelset train`; not to be changed."""
    from tf_levelset.commands.main import main
    from tf_levelset.training import recipes

    folder = tmp_path_factory.mktemp("runs") / "finished"
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(recipes.RECIPES, "synthetic", tiny_recipe)
        assert main(["train", "--output", str(folder)]) == 0
    return folder


# --- Commands ---


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """A folder with five images and masks of two classes."""
    import numpy as np
    from PIL import Image

    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(5):
        image = rng.integers(0, 256, (33, 40, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / f"images/{i}.jpg")
        labels = rng.choice(np.array([0, 1, 1, 255], np.uint8), (33, 40))
        Image.fromarray(labels).save(root / f"masks/{i}.png")
    (root / "classes.txt").write_text("ground\ntree\n")
    return root


@pytest.fixture
def constant_model(tmp_path: Path) -> Callable[[Sequence[float]], str]:
    """Saves a model with the same logits for each pixel, and returns its path."""
    import keras

    def save(logits: Sequence[float]) -> str:
        inputs = keras.Input((None, None, 3))
        layer = keras.layers.Conv2D(
            len(logits),
            1,
            kernel_initializer="zeros",
            bias_initializer=keras.initializers.Constant(logits[0]),
        )
        path = tmp_path / "model.keras"
        keras.Model(inputs, layer(inputs)).save(path)
        return str(path)

    return save


@pytest.fixture
def error_of(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that fails with exit code 1, and returns what it prints."""
    from tf_levelset.commands.main import main

    def run(*arguments: str | Path) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 1
        error = capsys.readouterr().err
        assert error.startswith("tf-levelset: error: ")
        return error

    return run
