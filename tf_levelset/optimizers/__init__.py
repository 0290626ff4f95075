"""The optimizer of the paper's recipes, and learning rate schedules."""

from typing import TYPE_CHECKING

from tf_levelset.lazy import loader

if TYPE_CHECKING:
    from tf_levelset.optimizers.caffe_sgd import CaffeSGD

__all__ = ["CaffeSGD"]

__getattr__ = loader(__name__, {"CaffeSGD": ".caffe_sgd"})
