"""What a training run is made of, as plain data, and the runs that have a name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from tf_levelset.datasets.augment import Augmentation
from tf_levelset.models.deeplab import LARGEFOV_MULTIPLIERS

LOSSES = ("ce", "ls")
"""Cross-entropy alone, and with the level set energy beside it (Eq. 8)."""

Multipliers = tuple[tuple[str, float, float], ...]

FROM_SCRATCH: Multipliers = (("/(bias|gamma|beta)", 1.0, 0.0),)
"""One rate for all, where no layer was trained before; no decay but on the kernels."""


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Args:
        dataset: a name of `tf_levelset.datasets.list_datasets()`.
        train_split: the split to train on.
        val_split: the split to judge on.
        dataset_options: further arguments of `load_dataset`.
        model: a name of `tf_levelset.models.list_models()`.
        model_options: further arguments of `create_model`.
        losses: of "ce" and "ls"; each is trained from the same start, on the same
            batches.
        level_set: further arguments of `CrossEntropyLevelSetLoss` for "ls".
        loss_stride: 8 takes the loss at the net's output stride, as DeepLab does; 1 at
            the pictures' size.
        epochs: passes over the training split.
        batch_size: pictures a step.
        learning_rate: at the start; it falls as (1 − step/steps)^power.
        power: of that schedule, "poly".
        momentum: of SGD.
        l2: coupled weight decay.
        multipliers: learning rate and decay multipliers of `CaffeSGD`.
        input_scale: factor that pictures are resized by before the net sees them, in
            training and for ever after; the answer has the picture's size.
        augmentation: what is done with the resized pictures in training.
        seed: of the initial weights, the order and the augmentation.
    """

    dataset: str
    train_split: str = "train"
    val_split: str = "val"
    dataset_options: dict[str, Any] = field(default_factory=dict)
    model: str = "deeplab_largefov"
    model_options: dict[str, Any] = field(default_factory=dict)
    losses: tuple[str, ...] = LOSSES
    level_set: dict[str, Any] = field(default_factory=dict)
    loss_stride: int = 8
    epochs: int = 1
    batch_size: int = 8
    learning_rate: float = 0.1
    power: float = 0.9
    momentum: float = 0.9
    l2: float = 2e-4
    multipliers: Multipliers = FROM_SCRATCH
    input_scale: float = 1.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "input_scale"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"Expected `{name}` to be positive. "
                    f"Received: {getattr(self, name)!r}"
                )
        unknown = set(self.losses) - set(LOSSES)
        if unknown or not self.losses:
            raise ValueError(
                f"Expected `losses` of {LOSSES}. Received: {self.losses!r}"
            )
        if self.loss_stride not in (1, 8):
            raise ValueError(
                f"Expected `loss_stride` 1 or 8. Received: {self.loss_stride!r}"
            )

    def to_json(self) -> dict[str, Any]:
        """Returns the recipe as JSON's types; `from_json` takes it back."""
        return _plain(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        """Returns the recipe that `to_json` wrote.

        Raises:
            ValueError: for anything that `to_json` did not write.
        """
        unknown = set(values) - {f.name for f in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(
                f"Expected the fields of a recipe. Received: {sorted(unknown)}"
            )
        try:
            return cls(
                **{
                    **values,
                    "augmentation": Augmentation(**values["augmentation"]),
                    "losses": tuple(values["losses"]),
                    "multipliers": tuple(tuple(m) for m in values["multipliers"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"Expected the fields of a recipe. Received: {values!r}"
            ) from error


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return (
        [_plain(item) for item in value] if isinstance(value, list | tuple) else value
    )


RECIPES = {
    # A few minutes on two cores, without a file: the first run on any machine. The loss
    # is taken at the pictures' size: at stride 8 the thin shapes would be lost.
    "synthetic": Recipe(
        dataset="synthetic",
        model_options={
            "width": 0.25,
            "batch_norm": True,
            "dilation": 2,
            "dropout": 0.0,
        },
        level_set={"level_set_weight": 0.67, "normalization": "mean"},
        loss_stride=1,
        epochs=3,
        batch_size=8,
        augmentation=Augmentation(flip=True),
    ),
    # Half an hour a loss on two cores, from scratch, judged at 480×360. The weight of
    # the level set is the paper's at its own size: λ·n = 4·10⁻⁴ · 41².
    "camvid": Recipe(
        dataset="camvid",
        model_options={
            "width": 0.25,
            "batch_norm": True,
            "dilation": 4,
            "dropout": 0.0,
        },
        level_set={"level_set_weight": 0.67, "normalization": "mean"},
        epochs=45,
        batch_size=8,
        l2=5e-4,
        input_scale=0.5,
        augmentation=Augmentation(scale=(0.75, 1.5), crop=(180, 240), flip=True),
    ),
    # DeepLab-LargeFOV as in Kim et al. 2019, Section 4.2, for a machine with a GPU and
    # weights to start from (--weights).
    "voc": Recipe(
        dataset="voc",
        level_set={"level_set_weight": 4e-4},
        epochs=20,
        batch_size=10,
        learning_rate=0.004,
        l2=1e-4,
        multipliers=LARGEFOV_MULTIPLIERS,
        augmentation=Augmentation(crop=(512, 512), flip=True),
    ),
}
"""The default run of each data set."""
