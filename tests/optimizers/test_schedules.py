"""Learning rates by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tf_levelset.optimizers.schedules import schedule


def rates(name: str, at: list[int], **options: Any) -> list[float]:
    rate = schedule(name, 0.004, 100, **options)
    return [float(rate(step)) if callable(rate) else rate for step in at]


def test_constant_and_poly() -> None:
    assert rates("constant", [0, 99]) == [0.004, 0.004]
    # 0.004 · (1 − step/100)^0.9
    assert rates("poly", [0, 50, 100]) == pytest.approx(
        [0.004, 0.004 * 0.5**0.9, 0.0], rel=1e-6
    )
    assert rates("poly", [75], power=2.0) == pytest.approx([0.004 / 16], rel=1e-6)


def test_step() -> None:
    # Falls by 10 after 2000, 4000, … steps.
    assert rates("step", [0, 1999, 2000, 4000]) == pytest.approx(
        [4e-3, 4e-3, 4e-4, 4e-5], rel=1e-5
    )
    assert rates("step", [29, 30], step_size=30, gamma=0.5) == pytest.approx(
        [4e-3, 2e-3], rel=1e-5
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosine", {}, "Expected a schedule of"),
        ("poly", {"learning_rate": 0.0}, "Expected `learning_rate` to be positive"),
        ("step", {"step_size": 0}, "Expected `step_size` to be positive"),
        ("poly", {"learning_rate": "high"}, "Expected `learning_rate`"),
        ("poly", {"power": -1.0}, "Expected `power` to be .* zero or more"),
        ("poly", {"power": 10**400}, "Expected `power`"),
    ],
)
def test_bad_arguments_raise(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule(name, **{"learning_rate": 0.1, "steps": 10, **options})
