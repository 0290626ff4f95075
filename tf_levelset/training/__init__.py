"""What `fit` needs around it: recipes, runs, checkpoints, distribution."""

from tf_levelset.training.resume import ExactResume
from tf_levelset.training.weight_ramp import WeightRamp

__all__ = ["ExactResume", "WeightRamp"]
