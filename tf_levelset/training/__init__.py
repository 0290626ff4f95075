"""Training around `fit`: recipes, runs, checkpoints, distribution."""

from typing import TYPE_CHECKING

from tf_levelset.lazy import loader

if TYPE_CHECKING:
    from tf_levelset.training.resume import ExactResume
    from tf_levelset.training.weight_ramp import WeightRamp

__all__ = ["ExactResume", "WeightRamp"]

__getattr__ = loader(__name__, {"ExactResume": ".resume", "WeightRamp": ".weight_ramp"})
