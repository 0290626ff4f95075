"""The level set loss for semantic segmentation, for TensorFlow and Keras.

Importing the package registers its losses, metrics, layers and optimizer with Keras,
so that saved models load without `custom_objects`. Networks and data sets are loaded
when they are first used.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tf_levelset._version import __version__
from tf_levelset.lazy import loader

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

_METRICS = ("MeanAccuracy", "PixelAccuracy", "SmallObjectRecall", "LevelSetEnergy")
_HOMES = {
    **{name: ".losses" for name in __all__ if "Loss" in name},
    **{name: ".metrics" for name in __all__ if name.endswith("IoU")},
    **dict.fromkeys(_METRICS, ".metrics"),
    "CaffeSGD": ".optimizers",
    "ExactResume": ".training",
    "WeightRamp": ".training",
    "level_set_energy": ".energy",
}
_SUBPACKAGES = (
    *("datasets", "energy", "export", "inference", "losses", "metrics", "models"),
    *("optimizers", "reporting", "training"),
)
__getattr__ = loader(
    __name__, {**_HOMES, **{name: f".{name}" for name in _SUBPACKAGES}}
)


def _is_command_line() -> bool:
    """Whether this process is `tf-levelset`, by any of its names."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # while `python -m` looks for the module
        return ("-m", __name__) in itertools.pairwise(sys.orig_argv)
    return Path(program).stem in ("tf-levelset", "train_keras")


# The command line, whose help must not wait for Keras, registers when a command runs.
if not _is_command_line():
    importlib.import_module(f"{__name__}.registered")
