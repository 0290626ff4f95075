"""The level set loss for semantic segmentation, for TensorFlow and Keras.

Importing the package registers its losses, metrics, layers and optimizer with Keras,
so that saved models load without `custom_objects`. Networks and data sets are loaded
when they are first used.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_levelset._version import __version__

if TYPE_CHECKING:
    from tf_levelset import datasets, models
    from tf_levelset.energy import level_set_energy
    from tf_levelset.losses import (
        ActiveContourLoss,
        BoundaryLoss,
        CrossEntropyLevelSetLoss,
        DiceLoss,
        FocalLoss,
        LevelSetLoss,
        LocallyAdaptiveLoss,
        LossMaxPooling,
        LossSum,
        LovaszSoftmaxLoss,
    )
    from tf_levelset.metrics import (
        BoundaryIoU,
        FrequencyWeightedIoU,
        LevelSetEnergy,
        MeanAccuracy,
        MeanIoU,
        PixelAccuracy,
        SmallObjectRecall,
        TrimapIoU,
    )
    from tf_levelset.optimizers import CaffeSGD
    from tf_levelset.training import ExactResume, WeightRamp

__all__ = [
    "ActiveContourLoss",
    "BoundaryIoU",
    "BoundaryLoss",
    "CaffeSGD",
    "CrossEntropyLevelSetLoss",
    "DiceLoss",
    "ExactResume",
    "FocalLoss",
    "FrequencyWeightedIoU",
    "LevelSetEnergy",
    "LevelSetLoss",
    "LocallyAdaptiveLoss",
    "LossMaxPooling",
    "LossSum",
    "LovaszSoftmaxLoss",
    "MeanAccuracy",
    "MeanIoU",
    "PixelAccuracy",
    "SmallObjectRecall",
    "TrimapIoU",
    "WeightRamp",
    "__version__",
    "datasets",
    "level_set_energy",
    "models",
]

_HOMES = ("energy", "losses", "metrics", "optimizers", "training")
_SUBPACKAGES = (*_HOMES, "datasets", "export", "inference", "models", "reporting")
_COMMANDS = ("tf-levelset", "train_keras")


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used (PEP 562)."""
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in __all__:
        for subpackage in _HOMES:
            module = importlib.import_module(f"{__name__}.{subpackage}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


# The command line loads Keras only once a command runs: its help need not wait.
if Path(sys.argv[0] if sys.argv else "").stem not in _COMMANDS:
    importlib.import_module(f"{__name__}.registered")
