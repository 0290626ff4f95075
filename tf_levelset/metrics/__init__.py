"""Keras metrics for semantic segmentation."""

from tf_levelset.metrics.boundary_metrics import (
    BoundaryIoU,
    SmallObjectRecall,
    TrimapIoU,
)
from tf_levelset.metrics.metrics import (
    FrequencyWeightedIoU,
    LevelSetEnergy,
    MeanAccuracy,
    MeanIoU,
    PixelAccuracy,
)

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
