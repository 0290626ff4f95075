"""Loads every class that Keras knows by name, so that saved models load.

After this import, `keras.saving.load_model` needs no `custom_objects`.
"""

from tf_levelset import losses, metrics
from tf_levelset.models import layers
from tf_levelset.optimizers import caffe_sgd

__all__ = ["caffe_sgd", "layers", "losses", "metrics"]
