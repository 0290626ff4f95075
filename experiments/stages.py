"""Anneals a number of a loss, such as its weight or ε, as a run trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


class Stages(keras.callbacks.Callback):
    """Gives an attribute of the model's loss one value after the other.

    A number of a loss is a constant of the traced step, which each new value has traced
    anew. Which value an epoch has depends on its number alone: a run that was cut off
    goes on as it would have.

    Args:
        attribute: of the compiled loss.
        values: in equal parts of the epochs.
        epochs: of the whole run, at least one a value.

    Raises:
        ValueError: for a loss without the attribute.
    """

    def __init__(self, attribute: str, values: Sequence[float], epochs: int) -> None:
        super().__init__()
        self.attribute, self.values, self.epochs = attribute, values, epochs

    def value(self, epoch: int) -> float:
        """Of an epoch, counted from zero."""
        return self.values[epoch * len(self.values) // self.epochs]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Sets the epoch's value."""
        loss = self.model.loss
        if not hasattr(loss, self.attribute):
            raise ValueError(
                f"Expected a loss with {self.attribute!r}. Received: {loss!r}"
            )
        if getattr(loss, self.attribute) != self.value(epoch):
            setattr(loss, self.attribute, self.value(epoch))
            self.model.make_train_function(force=True)
