"""The options of the level set energy, checked and documented once.

TensorFlow is not loaded with this file: the command line lists these names too.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tf_levelset.checks import check_positive, class_weights, expect, plain_options

HEAVISIDES = ("mahf", "ahf", "logit", "hf")
"""Names of the Heaviside functions, see `energy.heaviside`."""

NORMALIZATIONS = ("sum", "mean", "scale_free", "correlation", "balanced")
"""Names of the normalisations, see `EnergyOptions`."""

SIGNED_NORMALIZATIONS = ("correlation", "balanced")
"""The normalisations that distinguish c1 < c2 from c1 > c2 by themselves."""

SMALLEST_LOGIT_EPSILON = 1 / 60
"""Down to this ε, the powers (½)^(2/ε) of "logit" are normal numbers in float32."""


@plain_options
@dataclasses.dataclass(frozen=True)
class EnergyOptions:
    """Options of the level set energy (Eq. 4–7).

    Args:
        heaviside: The Heaviside function H: "mahf" (the paper's, Eq. 6), "ahf" (Chan
            and Vese's), "hf" (sharp; its gradient uses the δ of "mahf", a
            straight-through estimator), or "logit" (ours: of the log odds instead of
            the probability; at ε = 1, δ reaches every pixel).
        epsilon: Width ε of the Heaviside function, positive. In units of probability;
            for "logit" in units of log odds and within [1/60, 1], where ε = 1 makes H
            the probability itself.
        class_weight: C numbers that multiply the energies of the classes, or None.
            Two numbers, background and foreground, for a sigmoid output.
        normalization: "sum" over the pixels of the image (the paper's, which grows
            with the resolution); "mean" over its valid pixels, E/n; "scale_free", the
            mean of E_l/T_l in [0, 1] over the classes with 0 < S_g < n, which weighs
            a rare class like a common one; "correlation", the mean of 1 − ρ_l in
            [0, 2], where E_l/T_l = 1 − ρ_l² and the gradient does not vanish while a
            class is not found yet; "balanced", the mean of these two. All but "sum"
            are ours.
        signed: Whether a class with c1 < c2, whose prediction is anticorrelated with
            its truth, costs 2 T_l − E_l (ours). Only for "sum", "mean" and
            "scale_free", since the others are signed by themselves.

    Raises:
        ValueError: For an unknown name or a number out of its range.
    """

    heaviside: str = "mahf"
    epsilon: float = 1 / 20
    class_weight: Any = None
    normalization: str = "sum"
    signed: bool = False

    def __post_init__(self) -> None:
        _check_name("heaviside", self.heaviside, HEAVISIDES)
        _check_name("normalization", self.normalization, NORMALIZATIONS)
        _check_epsilon(self.epsilon, self.heaviside)
        expect(
            not (self.has_sign and self.signed),
            f"`signed` to be False for {self.normalization!r}, which is signed anyway",
            self.signed,
        )
        # A frozen dataclass is written to like this while it is being built.
        object.__setattr__(self, "epsilon", float(self.epsilon))
        object.__setattr__(self, "class_weight", class_weights(self.class_weight))

    @property
    def has_sign(self) -> bool:
        """Whether the normalisation is signed by itself."""
        return self.normalization in SIGNED_NORMALIZATIONS

    def config(self) -> dict[str, Any]:
        """Returns the options as Keras' `get_config` does, with lists for tuples."""
        weights = self.class_weight
        return {
            **dataclasses.asdict(self),
            "class_weight": None if weights is None else list(weights),
        }


def _check_name(option: str, name: Any, names: tuple[str, ...]) -> None:
    expect(name in names, f"`{option}` to be one of {names}", name)


def _check_epsilon(epsilon: Any, heaviside: str) -> None:
    check_positive(epsilon=epsilon)
    if heaviside == "logit":
        expect(
            epsilon <= 1,
            '`epsilon` to be at most 1 for "logit", whose δ would be infinite at a '
            "probability of 0",
            epsilon,
        )
        expect(
            epsilon >= SMALLEST_LOGIT_EPSILON,
            '`epsilon` to be 1/60 or more for "logit", whose powers underflow below it',
            epsilon,
        )
