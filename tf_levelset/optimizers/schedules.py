"""Learning rate schedules, by the names that recipes use.

Keras is loaded with the first schedule, not with this file: the command line lists the
names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_levelset.checks import check_not_negative, check_positive, plain_options

if TYPE_CHECKING:
    import keras

SCHEDULES = ("poly", "step", "constant")


@plain_options
def schedule(
    name: str,
    learning_rate: float,
    steps: int,
    *,
    power: float = 0.9,
    step_size: int = 2000,
    gamma: float = 0.1,
) -> keras.optimizers.schedules.LearningRateSchedule | float:
    """Returns a learning rate for `keras.optimizers`.

    Args:
        name: "poly" for learning_rate · (1 − step/steps)^power (Kim et al. 2019,
            Section 4.2); "step" for learning_rate · gamma^⌊step/step_size⌋, as in
            DeepLab's first version; or "constant".
        learning_rate: Learning rate of the first step, positive.
        steps: Number of steps of the run.
        power: Exponent of "poly", zero or more.
        step_size: Number of steps between two drops of "step", positive.
        gamma: Factor of each drop of "step", positive.

    Raises:
        ValueError: If the name is unknown or a number is out of range.
    """
    if name not in SCHEDULES:
        raise ValueError(f"Expected a schedule of {SCHEDULES}. Received: {name!r}")
    check_positive(learning_rate=learning_rate, steps=steps)
    check_positive(step_size=step_size, gamma=gamma)
    check_not_negative(power=power)
    from keras.optimizers.schedules import ExponentialDecay, PolynomialDecay

    # TensorFlow rejects integers of more than 64 bits, and casts to float anyway.
    learning_rate, power, gamma = float(learning_rate), float(power), float(gamma)
    if name == "constant":
        return learning_rate
    if name == "step":
        return ExponentialDecay(learning_rate, float(step_size), gamma, staircase=True)
    return PolynomialDecay(
        learning_rate, float(steps), end_learning_rate=0.0, power=power
    )
