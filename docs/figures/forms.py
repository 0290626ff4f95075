"""Draws docs/forms.png: the forms of the energy over the correlation of the regions.

    python docs/figures/forms.py docs/forms.png

The values are the package's own, of a class of a tenth of an image's pixels and
predictions of every correlation with it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tf_levelset.energy.energy import level_set_energy

PIXELS = 100
CLASS_PIXELS = 10

FORMS: dict[str, dict[str, Any]] = {
    "E/T, the scale-free form": {"normalization": "scale_free"},
    "the same, signed": {"normalization": "scale_free", "signed": True},
    "correlation": {"normalization": "correlation"},
    "balanced": {"normalization": "balanced"},
}


def predictions(count: int = 81) -> np.ndarray:
    """Probabilities (count, PIXELS) of the class, from its opposite to itself."""
    truth = np.arange(PIXELS) < CLASS_PIXELS
    right = np.linspace(0, 1, count)[:, np.newaxis]
    return np.where(truth, right, 1 - right)


def correlations(probabilities: np.ndarray) -> np.ndarray:
    """How far each prediction goes with the truth, in [-1, 1].

    H is the probability here: ρ = (c1 − c2) √(V/T).
    """
    inside, own = probabilities, probabilities[:, :CLASS_PIXELS]
    total = inside.sum(1)
    c1 = own.sum(1) / total
    c2 = (CLASS_PIXELS - own.sum(1)) / (PIXELS - total)
    variance = total * (1 - total / PIXELS)
    truth = CLASS_PIXELS * (1 - CLASS_PIXELS / PIXELS)
    return (c1 - c2) * np.sqrt(variance / truth)


def energies(probabilities: np.ndarray, **options: Any) -> np.ndarray:
    """The form's value for each prediction, of the class and its background."""
    labels = (np.arange(PIXELS) < CLASS_PIXELS).astype(np.int32)
    labels = np.repeat(labels[np.newaxis], len(probabilities), axis=0)
    scores = np.stack([1 - probabilities, probabilities], axis=-1)
    found = level_set_energy(labels, scores, heaviside="logit", epsilon=1.0, **options)
    return np.asarray(found)


def draw() -> Figure:
    """Draws every form over the correlation."""
    probabilities = predictions()
    drawing = Figure((6.0, 3.4), layout="constrained")
    axes = drawing.add_subplot()
    for (title, options), style in zip(
        FORMS.items(), ("-", "--", "-.", ":"), strict=True
    ):
        values = energies(probabilities, **options)
        axes.plot(correlations(probabilities), values, style, label=title)
    axes.set_xlabel("correlation ρ of truth and region")
    axes.set_ylabel("energy of a class")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return drawing


def main() -> None:
    """Writes the drawing to the path that is given."""
    draw().savefig(sys.argv[1], dpi=110)


if __name__ == "__main__":
    main()
