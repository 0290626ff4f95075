"""One training of a sweep, and its name."""

from __future__ import annotations

from dataclasses import dataclass

from tf_levelset.inference.crf import PRESETS
from tf_levelset.training.recipe import Recipe

OFFICIAL = "official"
"""The published split, as the name of a fold."""

STARTS = "starts"
"""The sweep of the networks that others are fine-tuned from."""


@dataclass(frozen=True)
class Trial:
    """One training. Trials of one fold and seed are a pair: only the loss differs.

    Args:
        configuration: The loss and its settings by a short name, used in file names.
        recipe: A recipe with one loss. Its seed decides the initial weights, the
            batches and the augmentation.
        start: The trial of the same fold and seed whose weights this one begins with.
        crf: One of `inference.crf.PRESETS`; the model is evaluated with it too.

    Raises:
        ValueError: For a recipe with several losses, an unknown CRF, or a start of
            another pair or with a start of its own.
    """

    configuration: str
    recipe: Recipe
    start: Trial | None = None
    crf: str | None = None

    def __post_init__(self) -> None:
        if len(self.recipe.losses) != 1:
            raise ValueError(
                f"Expected a recipe with one loss. Received: {self.recipe.losses}"
            )
        if self.crf not in (None, *PRESETS):
            raise ValueError(
                f"Expected `crf` to be None or one of {sorted(PRESETS)}. "
                f"Received: {self.crf!r}"
            )
        start = self.start
        if start is not None and (start.pair != self.pair or start.start is not None):
            raise ValueError(
                f"Expected `start` to be from scratch and of {self.pair}. "
                f"Received: {start.name}"
            )

    @property
    def loss(self) -> str:
        """The recipe's loss, one of `LOSSES` of the recipes."""
        return self.recipe.losses[0]

    @property
    def pair(self) -> tuple[str, int]:
        """Fold and seed."""
        fold = self.recipe.dataset_options.get("fold", OFFICIAL)
        return str(fold), self.recipe.seed

    @property
    def name(self) -> str:
        """Configuration, fold and seed, which are unique within a sweep."""
        fold, seed = self.pair
        return f"{self.configuration}-{fold}-{seed}"
