"""SGD with the update rule of Caffe, which DeepLab and the paper trained with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import check_not_negative, is_number, plain


@compat.register
class CaffeSGD(keras.optimizers.SGD):
    """SGD with momentum, coupled L2 decay and per-layer learning rates.

    Decay and learning rate are applied before the momentum:
    v ← momentum · v − lr · m · (g + d · wd · w) and w ← w + v, where m and d are the
    multipliers of the variable (Caffe's `lr_mult` and `decay_mult`). Keras' own
    `weight_decay` is decoupled and outside of the momentum, so that with momentum 0.9
    it decays ten times less. Keras has no per-layer learning rates.

    Args:
        learning_rate: Float or `keras.optimizers.schedules.LearningRateSchedule`.
        momentum: Momentum, in [0, 1].
        l2: The weight decay wd, zero or more.
        multipliers: Triples of a regular expression, a learning rate multiplier and a
            decay multiplier. The first expression that is found in a variable's path
            (such as `deeplab_largefov/fc8/kernel`) applies; without any, both
            multipliers are 1.
        nesterov: Whether to use Nesterov momentum.
        name: Name of the optimizer.
        **kwargs: Further arguments of `keras.optimizers.SGD`, except `weight_decay`.

    Raises:
        ValueError: If `momentum` or `l2` is out of range, a multiplier is malformed, or
            `weight_decay` is given.

    Example:
    >>> optimizer = CaffeSGD(
    ...     0.004, momentum=0.9, l2=1e-4, multipliers=[("/bias", 2.0, 0.0)]
    ... )
    >>> model.compile(optimizer, loss)  # doctest: +SKIP
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        l2: float = 0.0,
        multipliers: Sequence[tuple[str, float, float]] = (),
        nesterov: bool = False,
        name: str = "caffe_sgd",
        **kwargs: Any,
    ) -> None:
        if kwargs.pop("weight_decay", None):
            raise ValueError(
                "Expected the weight decay as `l2`, which is coupled. Received: "
                "`weight_decay`, which in Keras is decoupled and outside the momentum."
            )
        check_not_negative(l2=l2)
        if not (is_number(momentum) and 0 <= momentum <= 1):
            raise ValueError(f"Expected `momentum` in [0, 1]. Received: {momentum!r}")
        checked = [_checked(multiplier) for multiplier in multipliers]
        super().__init__(
            learning_rate=learning_rate,
            momentum=float(momentum),  # Keras rejects integers.
            nesterov=nesterov,
            name=name,
            **kwargs,
        )
        self.l2 = l2
        self.multipliers = checked

    def multiplier(self, variable: Any) -> tuple[float, float]:
        """Returns the learning rate and decay multipliers of a variable."""
        path = compat.variable_path(variable)
        for pattern, rate, decay in self.multipliers:
            if re.search(pattern, path):
                return rate, decay
        return 1.0, 1.0

    def update_step(
        self, gradient: tf.Tensor, variable: Any, *learning_rate: Any
    ) -> None:
        """Updates one variable; Keras 3 passes the learning rate, Keras 2 does not."""
        rate, decay = self.multiplier(variable)
        if self.l2 * decay:
            weight = tf.cast(tf.convert_to_tensor(variable), gradient.dtype)
            gradient = gradient + self.l2 * decay * weight
        if rate != 1:
            gradient = gradient * rate
        super().update_step(gradient, variable, *learning_rate)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this optimizer."""
        config = super().get_config()
        # Keras 2.15 lists arguments that this constructor does not accept, and NumPy's
        # learning rate.
        config.pop("weight_decay", None)
        multipliers = [list(multiplier) for multiplier in self.multipliers]
        return plain({**config, "l2": self.l2, "multipliers": multipliers})


def _checked(multiplier: Sequence[Any]) -> tuple[str, float, float]:
    """Returns a valid triple of `multipliers`; raises `ValueError` for others."""
    if len(multiplier) != 3 or not isinstance(multiplier[0], str):
        raise ValueError(
            "Expected multipliers of (pattern, learning rate ×, decay ×). Received: "
            f"{multiplier!r}"
        )
    pattern, rate, decay = multiplier
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(
            "Expected multipliers that begin with a regular expression. Received: "
            f"{multiplier!r} ({error})"
        ) from error
    if not all(is_number(m) and 0 <= m < float("inf") for m in (rate, decay)):
        raise ValueError(
            f"Expected multipliers of zero or more. Received: {multiplier!r}"
        )
    return pattern, float(rate), float(decay)
