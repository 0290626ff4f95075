"""Keras metrics for semantic segmentation, exact over a whole data set.

Each file holds the functions that count and score NumPy arrays, and the Keras metrics
over them. Counts are summed over all images before anything is divided.
"""

from tf_levelset.metrics.boundary_iou import BoundaryIoU
from tf_levelset.metrics.iou import (
    FrequencyWeightedIoU,
    MeanAccuracy,
    MeanIoU,
    PixelAccuracy,
)
from tf_levelset.metrics.level_set_energy import LevelSetEnergy
from tf_levelset.metrics.small_objects import SmallObjectRecall
from tf_levelset.metrics.trimap_iou import TrimapIoU

__all__ = [
    "BoundaryIoU",
    "FrequencyWeightedIoU",
    "LevelSetEnergy",
    "MeanAccuracy",
    "MeanIoU",
    "PixelAccuracy",
    "SmallObjectRecall",
    "TrimapIoU",
]
