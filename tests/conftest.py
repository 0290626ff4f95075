"""What several files of tests share."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tf_levelset.compat import KERAS_3

if TYPE_CHECKING:
    from tf_levelset.training.recipe import Recipe

# A busy machine is no fault.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session")
def tfa() -> Any:
    """The package tensorflow_addons."""
    if KERAS_3:
        pytest.skip("tensorflow-addons imports only with Keras 2")
    with warnings.catch_warnings():
        # It announces the end of its life, and is older than its dependencies.
        warnings.simplefilter("ignore")
        return pytest.importorskip("tensorflow_addons")


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """A run of seconds."""
    from tf_levelset.datasets.augmentation import Augmentation
    from tf_levelset.training.recipe import Recipe

    return Recipe(
        dataset="synthetic",
        name="synthetic",
        dataset_options={"num_samples": 10, "size": [33, 40]},
        model_options={
            "width": 0.05,
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
    """The folder that `tf-levelset train` left, undisturbed; not to be changed."""
    from tf_levelset.commands.main import main
    from tf_levelset.training import recipes

    folder = tmp_path_factory.mktemp("runs") / "finished"
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(recipes.RECIPES, "synthetic", tiny_recipe)
        assert main(["train", "--output", str(folder)]) == 0
    return folder
