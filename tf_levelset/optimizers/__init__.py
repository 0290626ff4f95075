"""The optimizer of the paper’s recipes, and learning rate schedules."""

from tf_levelset.optimizers.caffe_sgd import CaffeSGD

__all__ = ["CaffeSGD"]
