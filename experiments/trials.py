"""What a sweep is made of: runs that differ in one thing, and their names."""

from __future__ import annotations

from dataclasses import dataclass

from tf_levelset.recipes import Recipe

OFFICIAL = "official"
"""The published split, as the name of a fold."""


@dataclass(frozen=True)
class Trial:
    """One run. Runs of one fold and seed are a pair: their arms alone differ.

    Args:
        arm: what is compared with other arms, a file name.
        recipe: with one loss. Its seed decides the initial weights, the batches and
            the augmentation.
        start: the arm whose model, of the same fold and seed, the weights begin with.

    Raises:
        ValueError: for a recipe with several losses.
    """

    arm: str
    recipe: Recipe
    start: str | None = None

    def __post_init__(self) -> None:
        if len(self.recipe.losses) != 1:
            raise ValueError(
                f"Expected a recipe with one loss. Received: {self.recipe.losses}"
            )

    @property
    def loss(self) -> str:
        """The recipe's loss, of `recipes.LOSSES`."""
        return self.recipe.losses[0]

    @property
    def pair(self) -> tuple[str, int]:
        """Fold and seed."""
        fold = self.recipe.dataset_options.get("fold", OFFICIAL)
        return str(fold), self.recipe.seed

    @property
    def name(self) -> str:
        """The arm, the fold and the seed: no two runs of a sweep share it."""
        return self.name_of(self.arm)

    def name_of(self, arm: str) -> str:
        """The name of another arm's run of the same pair."""
        fold, seed = self.pair
        return f"{arm}-{fold}-{seed}"
