"""What a sweep is made of: runs that differ in one thing, and their names."""

from __future__ import annotations

from dataclasses import dataclass

from tf_levelset.inference.crf import PRESETS
from tf_levelset.training.recipe import Recipe

OFFICIAL = "official"
"""The published split, as the name of a fold."""


STARTS = "starts"
"""The sweep, and the folder of its results, of the runs that others begin with."""


@dataclass(frozen=True)
class Trial:
    """One run. Runs of one fold and seed are a pair: their arms alone differ.

    Args:
        arm: what is compared with other arms, a file name.
        recipe: with one loss. Its seed decides the initial weights, the batches and
            the augmentation.
        start: the run, of the same fold and seed, with whose weights it begins.
        crf: of `tf_levelset.inference.crf.PRESETS`; the model is judged with it too.
        pictures: whether to keep what it makes of `pictures.SAMPLES`.
        curves: whether it is judged as it trains too, for plots over time; on two cores
            that takes as long as the training.
        stages: an attribute of the loss, as "epsilon", and its values: one after the
            other, in equal parts of the epochs. None of them changes otherwise.

    Raises:
        ValueError: for a recipe with several losses, an unknown CRF, a start of
            another pair or with a start of its own, or more stages than epochs.
    """

    arm: str
    recipe: Recipe
    start: Trial | None = None
    crf: str | None = None
    pictures: bool = False
    curves: bool = False
    stages: tuple[str, tuple[float, ...]] | None = None

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
        if self.stages is not None and len(self.stages[1]) > self.recipe.epochs:
            raise ValueError(
                f"Expected at most {self.recipe.epochs} stages, one an epoch. "
                f"Received: {self.stages}"
            )
        start = self.start
        if start is not None and (start.pair != self.pair or start.start is not None):
            raise ValueError(
                f"Expected `start` from scratch, of {self.pair}. Received: {start.name}"
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
        fold, seed = self.pair
        return f"{self.arm}-{fold}-{seed}"


def job_name(sweep: str, trial: Trial) -> str:
    """What a sweep's trial is called among those of others, but for a start.

    A start has its own name alone, since several sweeps go on from it.
    """
    return f"{sweep}~{trial.name}"
