"""Learning rates over a run, by the names that recipes use."""

from __future__ import annotations

import keras

from tf_levelset.checks import is_number

SCHEDULES = ("poly", "step", "constant")


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
        name: "poly", learning_rate · (1 − step/steps)^power (Kim et al. 2019,
            Section 4.2); "step", learning_rate · gamma^⌊step/step_size⌋, as DeepLab's
            first version; or "constant".
        learning_rate: at the first step, positive.
        steps: number of steps of the run.
        power: of "poly", zero or more.
        step_size: of "step": the number of steps between two falls, positive.
        gamma: of "step": the factor of a fall, positive.

    Raises:
        ValueError: for an unknown name, or a number out of range.
    """
    if name not in SCHEDULES:
        raise ValueError(f"Expected a schedule of {SCHEDULES}. Received: {name!r}")
    positive = (learning_rate, steps, step_size, gamma)
    if not all(is_number(value) and value > 0 for value in positive):
        raise ValueError(
            "Expected positive `learning_rate`, `steps`, `step_size` and `gamma`. "
            f"Received: {learning_rate!r}, {steps!r}, {step_size!r}, {gamma!r}"
        )
    if not (is_number(power) and power >= 0):
        raise ValueError(f"Expected `power` to be zero or more. Received: {power!r}")
    # TensorFlow takes no integers beyond 64 bits, and casts all to float anyway.
    learning_rate, power, gamma = float(learning_rate), float(power), float(gamma)
    if name == "constant":
        return learning_rate
    if name == "step":
        return keras.optimizers.schedules.ExponentialDecay(
            learning_rate, float(step_size), gamma, staircase=True
        )
    return keras.optimizers.schedules.PolynomialDecay(
        learning_rate, float(steps), end_learning_rate=0.0, power=power
    )
