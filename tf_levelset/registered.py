"""Loads every class that Keras knows by name, so that saved models load.

Importing it is all that it is for: `keras.saving.load_model` then needs no
`custom_objects`.
"""

from tf_levelset import losses, metrics, optimizers
from tf_levelset.models import layers

__all__ = ["layers", "losses", "metrics", "optimizers"]
