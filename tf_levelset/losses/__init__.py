"""Keras losses for semantic segmentation.

The level set loss of Kim et al. (2019) is in `level_set`; the other losses are those
that it is compared with. Each file has the loss as pure functions of tensors and as a
Keras class over them.
"""

from tf_levelset.losses.active_contour import ActiveContourLoss
from tf_levelset.losses.base import SegmentationLoss
from tf_levelset.losses.boundary import BoundaryLoss
from tf_levelset.losses.dice import DiceLoss
from tf_levelset.losses.focal import FocalLoss
from tf_levelset.losses.level_set import CrossEntropyLevelSetLoss, LevelSetLoss
from tf_levelset.losses.locally_adaptive import LocallyAdaptiveLoss
from tf_levelset.losses.loss_max_pooling import LossMaxPooling
from tf_levelset.losses.loss_sum import LossSum
from tf_levelset.losses.lovasz import LovaszSoftmaxLoss

__all__ = [
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
    "SegmentationLoss",
]
