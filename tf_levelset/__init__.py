"""The level set loss for semantic segmentation, for TensorFlow and Keras.

Importing the package registers its losses, metrics, layers and optimizer with Keras,
so that saved models load without `custom_objects`.
"""

from tf_levelset import datasets, models
from tf_levelset._version import __version__
from tf_levelset.boundary_metrics import BoundaryIoU, SmallObjectRecall, TrimapIoU
from tf_levelset.callbacks import WeightRamp
from tf_levelset.comparison_losses import (
    ActiveContourLoss,
    BoundaryLoss,
    DiceLoss,
    FocalLoss,
    LocallyAdaptiveLoss,
    LossMaxPooling,
    LossSum,
    LovaszSoftmaxLoss,
)
from tf_levelset.energy import level_set_energy
from tf_levelset.losses import CrossEntropyLevelSetLoss, LevelSetLoss
from tf_levelset.metrics import (
    FrequencyWeightedIoU,
    LevelSetEnergy,
    MeanAccuracy,
    MeanIoU,
    PixelAccuracy,
)
from tf_levelset.optimizers import CaffeSGD
from tf_levelset.resume import ExactResume

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
