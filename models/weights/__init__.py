"""Pretrained weights: ImageNet's, a DeepLab checkpoint's, or those of another net."""

from tf_levelset.models.weights.loading import load_weights
from tf_levelset.models.weights.report import WeightsReport

__all__ = ["WeightsReport", "load_weights"]
