"""The outcome of loading weights, as data and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Shapes = tuple[tuple[int, ...], ...]
"""The shapes of a layer's arrays."""

Mismatch = tuple[str, Shapes, Shapes]
"""A layer, its shapes in the net and its shapes in the source."""


@dataclass(frozen=True)
class WeightsReport:
    """The outcome of `load_weights` for each layer that has weights.

    Attributes:
        source: "imagenet" or a path.
        loaded: Layers of the net that now hold the weights of the source.
        initial: Layers of the net that were left as they were initialised.
        unused: Layers, or variables, of the source that the net does not have.
        mismatched: Those of `initial` that the source has in other shapes.
    """

    source: str
    loaded: tuple[str, ...]
    initial: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()

    def __str__(self) -> str:
        """Returns one paragraph, in which long lists are shortened."""
        text = (
            f"Loaded {len(self.loaded)} layers from {self.source}: "
            f"{_listed(self.loaded)}. Left as initialised: {_listed(self.initial)}. "
            f"Not used from the source: {_listed(self.unused)}."
        )
        if self.mismatched:
            text += f" Different shapes: {compared(self.mismatched)}."
        return text


def compared(mismatches: Sequence[Mismatch]) -> str:
    """Returns the shapes of layers in the net and in the source as text."""
    return _listed(
        [
            f"{name} (net: {_sizes(ours)}; source: {_sizes(theirs)})"
            for name, ours, theirs in mismatches
        ]
    )


def _listed(texts: Sequence[str]) -> str:
    """Joins texts; of more than eight, the first four and the last two."""
    if len(texts) > 8:
        texts = [*texts[:4], f"… {len(texts) - 6} more …", *texts[-2:]]
    return ", ".join(texts) or "none"


def _sizes(shapes: Shapes) -> str:
    return " and ".join(map(str, shapes)) or "missing"
