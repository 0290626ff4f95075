"""Narrower and shallower forms of a net, for training from scratch and for tests."""

from __future__ import annotations

from tf_levelset.checks import is_number


def scaled_filters(filters: int, width: float) -> int:
    """Number of filters under a width multiplier, at least 1.

    Raises:
        ValueError: if `width` is not positive.
    """
    return _scaled(filters, "width", width)


def scaled_depth(layers: int, depth: float) -> int:
    """Number of convolutions or blocks of a stage under a depth multiplier, at least 1.

    Raises:
        ValueError: if `depth` is not positive.
    """
    return _scaled(layers, "depth", depth)


def _scaled(count: int, name: str, multiplier: float) -> int:
    if not (is_number(multiplier) and 0 < multiplier < float("inf")):
        raise ValueError(f"Expected `{name}` to be positive. Received: {multiplier!r}")
    return max(1, round(count * multiplier))
