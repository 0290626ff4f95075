"""Learning rates over a run, by the names that recipes use."""

from __future__ import annotations

import keras

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
        power: of "poly".
        step_size: of "step": the number of steps between two falls, positive.
        gamma: of "step": the factor of a fall, positive.

    Raises:
        ValueError: for an unknown name, or a number out of range.
    """
    if name not in SCHEDULES:
        raise ValueError(f"Expected a schedule of {SCHEDULES}. Received: {name!r}")
    if not (learning_rate > 0 and steps > 0 and step_size > 0 and gamma > 0):
        raise ValueError(
            "Expected positive `learning_rate`, `steps`, `step_size` and `gamma`. "
            f"Received: {learning_rate!r}, {steps!r}, {step_size!r}, {gamma!r}"
        )
    if name == "constant":
        return learning_rate
    if name == "step":
        return keras.optimizers.schedules.ExponentialDecay(
            learning_rate, step_size, gamma, staircase=True
        )
    return keras.optimizers.schedules.PolynomialDecay(
        learning_rate, steps, end_learning_rate=0.0, power=power
    )
