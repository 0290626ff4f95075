"""Keras losses for semantic segmentation."""

from tf_levelset.losses.comparison_losses import (
    COMPARISON_LOSSES,
    ActiveContourLoss,
    BoundaryLoss,
    DiceLoss,
    FocalLoss,
    LocallyAdaptiveLoss,
    LossMaxPooling,
    LossSum,
    LovaszSoftmaxLoss,
)
from tf_levelset.losses.level_set import CrossEntropyLevelSetLoss, LevelSetLoss

__all__ = [
    "COMPARISON_LOSSES",
    "ActiveContourLoss",
    "BoundaryLoss",
    "CrossEntropyLevelSetLoss",
    "DiceLoss",
    "FocalLoss",
    "LevelSetLoss",
    "LocallyAdaptiveLoss",
    "LossMaxPooling",
    "LossSum",
    "LovaszSoftmaxLoss",
]
