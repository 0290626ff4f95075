"""The level set loss for semantic segmentation, for TensorFlow and Keras."""

from tf_levelset._version import __version__
from tf_levelset.losses import CrossEntropyLevelSetLoss, LevelSetLoss

__all__ = ["CrossEntropyLevelSetLoss", "LevelSetLoss", "__version__"]
