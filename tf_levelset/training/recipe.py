"""What a training run is made of, as plain data, and the runs that have a name."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from tf_levelset.checks import is_number
from tf_levelset.datasets.augmentation import Augmentation
from tf_levelset.datasets.camvid import CLASSES as CAMVID_CLASSES
from tf_levelset.datasets.cityscapes import CLASSES as CITYSCAPES_CLASSES
from tf_levelset.datasets.pascal_context import CLASSES as PASCAL_CONTEXT_CLASSES
from tf_levelset.datasets.voc import CLASSES as VOC_CLASSES
from tf_levelset.models.catalog import (
    FCN_MULTIPLIERS,
    LARGEFOV_MULTIPLIERS,
    RESNET101_MULTIPLIERS,
    scaled_rates,
)
from tf_levelset.optimizers.schedules import SCHEDULES

LOSSES = {
    "ce": "cross-entropy",
    "ls": "with level set loss",
    "lad": "locally adaptive learning",
    "lmp": "loss max-pooling",
    "focal": "focal loss",
    "dice": "with Dice loss",
    "lovasz": "with Lovász-softmax",
    "boundary": "with boundary loss",
    "active_contour": "with active contour loss",
}
"""The losses that a recipe can train with, and their titles. "With" is beside the
cross-entropy; "ls" is Eq. 8."""

PLACES = ("sbd_dir", "context_dir")
"""Options of data sets that say where files lie, not what they are."""

Multipliers = tuple[tuple[str, float, float], ...]

FROM_SCRATCH: Multipliers = (("/(bias|gamma|beta)", 1.0, 0.0),)
"""One rate for all, where no layer was trained before; no decay but on the kernels."""


_INTEGERS = ("epochs", "iterations", "batch_size", "step_size", "loss_stride", "seed")
_NUMBERS = ("learning_rate", "power", "gamma", "momentum", "l2", "input_scale")
_POSITIVE = ("epochs", "batch_size", "learning_rate", "input_scale", "step_size")
_TEXTS = ("dataset", "name", "train_split", "val_split", "model")
_OPTIONS = ("dataset_options", "model_options", "level_set", "loss_options")


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Args:
        name: of `RECIPES`; empty for a recipe that is not there.
        dataset: a name of `tf_levelset.datasets.list_datasets()`.
        train_split: the split to train on.
        val_split: the split to judge on.
        dataset_options: further arguments of `load_dataset`.
        model: a name of `tf_levelset.models.list_models()`.
        model_options: further arguments of `create_model`.
        losses: of `LOSSES`; each is trained from the same start, on the same batches.
        level_set: further arguments of `CrossEntropyLevelSetLoss` for "ls".
        loss_options: further arguments of the other losses, by their names; `weight`
            is a loss's weight beside the cross-entropy.
        loss_stride: the net's output stride takes the loss there, as DeepLab does (8);
            1 at the pictures' size.
        epochs: passes over the training split.
        iterations: number of steps; instead of `epochs`, if given.
        batch_size: pictures a step.
        learning_rate: at the start.
        schedule: "poly", "step" or "constant", see `tf_levelset.optimizers.schedules`.
        power: of "poly".
        step_size: of "step".
        gamma: of "step".
        momentum: of SGD.
        l2: coupled weight decay.
        multipliers: learning rate and decay multipliers of `CaffeSGD`.
        input_scale: factor that pictures are resized by before the net sees them, in
            training and for ever after; the answer has the picture's size.
        augmentation: what is done with the resized pictures in training.
        seed: of the initial weights, the order and the augmentation.
    """

    dataset: str
    name: str = ""
    train_split: str = "train"
    val_split: str = "val"
    dataset_options: dict[str, Any] = field(default_factory=dict)
    model: str = "deeplab_largefov"
    model_options: dict[str, Any] = field(default_factory=dict)
    losses: tuple[str, ...] = ("ce", "ls")
    level_set: dict[str, Any] = field(default_factory=dict)
    loss_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    loss_stride: int = 8
    epochs: int = 1
    iterations: int | None = None
    batch_size: int = 8
    learning_rate: float = 0.1
    schedule: str = "poly"
    power: float = 0.9
    step_size: int = 2000
    gamma: float = 0.1
    momentum: float = 0.9
    l2: float = 2e-4
    multipliers: Multipliers = FROM_SCRATCH
    input_scale: float = 1.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in _INTEGERS:
            value = getattr(self, name)
            given = value is not None or name != "iterations"
            whole = type(value) is int and abs(value) < 2**31
            self._require(name, not given or whole, "to be an integer of 32 bits")
        for name in _NUMBERS:
            value = getattr(self, name)
            finite = is_number(value) and abs(value) < math.inf
            self._require(name, finite, "to be a finite number")
        for name in _TEXTS:
            self._require(name, isinstance(getattr(self, name), str), "to be a text")
        for name in _OPTIONS:
            self._require(name, isinstance(getattr(self, name), dict), "to be a dict")
        for name in _POSITIVE:
            self._require(name, getattr(self, name) > 0, "to be positive")
        for name in ("l2", "power", "gamma", "seed"):
            self._require(name, getattr(self, name) >= 0, "to be zero or more")
        self._require("momentum", 0 <= self.momentum <= 1, "in [0, 1]")
        positive = self.iterations is None or self.iterations > 0
        self._require("iterations", positive, "to be positive")
        known = bool(self.losses) and all(name in tuple(LOSSES) for name in self.losses)
        self._require("losses", known, f"of {tuple(LOSSES)}")
        known = set(self.loss_options) <= set(LOSSES) - {"ce", "ls"}
        self._require("loss_options", known, f"by losses of {tuple(LOSSES)[2:]}")
        dicts = all(isinstance(value, dict) for value in self.loss_options.values())
        self._require("loss_options", dicts, "to hold dicts")
        augmentation = isinstance(self.augmentation, Augmentation)
        self._require("augmentation", augmentation, "to be an Augmentation")
        self._require("schedule", self.schedule in SCHEDULES, f"of {SCHEDULES}")
        strides = (1, 8, 16, 32)
        self._require("loss_stride", self.loss_stride in strides, f"of {strides}")

    def _require(self, name: str, condition: bool, expected: str) -> None:
        if not condition:
            raise ValueError(
                f"Expected `{name}` {expected}. Received: {getattr(self, name)!r}"
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
        if not isinstance(values, dict):
            raise ValueError(f"Expected the fields of a recipe. Received: {values!r}")
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


# --- Kim et al. 2019, Section 4.2: for a machine with a GPU ---

_ITERATIONS = 20_000
"""Those of DeepLab's second version at batch 10, whose scheme the paper takes."""

_DATASETS: dict[str, dict[str, Any]] = {
    "voc": {"train_split": "trainaug"},
    "pascal_context": {},
    "cityscapes": {},
}

_ALL: dict[str, Any] = {
    # The paper starts the ResNets from MS-COCO (`--weights PATH`); ImageNet is what
    # everybody can have.
    "model_options": {"weights": "imagenet"},
    "iterations": _ITERATIONS,
    "batch_size": 10,
}
_FCN_AND_VGG16: dict[str, Any] = {
    **_ALL,
    "learning_rate": 0.004,
    # Section 4.2 names it for ResNet101 alone; DeepLab's second version trains
    # LargeFOV by it too.
    "schedule": "poly",
    "l2": 1e-4,
    "augmentation": Augmentation(crop=(512, 512), flip=True),
}
_FCN: dict[str, Any] = {
    **_FCN_AND_VGG16,
    # At the pictures' size, as FCN does. The weight is the paper's at stride 8 of a
    # crop of 512, λ·n = 4·10⁻⁴ · 64².
    "loss_stride": 1,
    "level_set": {"level_set_weight": 1.64, "normalization": "mean"},
    "multipliers": FCN_MULTIPLIERS,
}
_LARGEFOV: dict[str, Any] = {
    **_FCN_AND_VGG16,
    "level_set": {"level_set_weight": 4e-4},
    "multipliers": LARGEFOV_MULTIPLIERS,
}
_RESNET101: dict[str, Any] = {
    **_ALL,
    "level_set": {"level_set_weight": 4e-4},
    "learning_rate": 0.00025,
    "schedule": "poly",
    "l2": 5e-4,
    "multipliers": RESNET101_MULTIPLIERS,
    # The paper names crop and flip; the scales are those of the scheme it takes.
    "augmentation": Augmentation(scale=(0.5, 1.5), crop=(321, 321), flip=True),
}
_NETS: dict[str, dict[str, Any]] = {
    "fcn32s_resnet101": _FCN,
    "fcn16s_resnet101": _FCN,
    "fcn8s_resnet101": _FCN,
    "deeplab_largefov": _LARGEFOV,
    "deeplab_msc_largefov": _LARGEFOV,
    "deeplab_resnet101": _RESNET101,
    "deeplab_msc_resnet101": _RESNET101,
}


def with_model(recipe: Recipe, model: str) -> Recipe:
    """Returns a recipe on another net.

    What only the old net understands falls away: its own options, and its per-layer
    rates, for which the new net's stand in.

    Args:
        recipe: any.
        model: a name of `tf_levelset.models.list_models()`.
    """
    if model == recipe.model:
        return recipe
    kept = ("width", "depth", "weights")
    options = {k: v for k, v in recipe.model_options.items() if k in kept}
    multipliers = recipe.multipliers
    if multipliers != FROM_SCRATCH:
        multipliers = _NETS.get(model, _FCN)["multipliers"]
    return dataclasses.replace(
        recipe, model=model, model_options=options, multipliers=multipliers
    )


def _paper(dataset: str, model: str, **changes: Any) -> Recipe:
    """The recipe of a row: a data set and a net."""
    options = {**_DATASETS[dataset], **_NETS[model], **changes}
    return Recipe(dataset, name=f"{dataset}-{model}", model=model, **options)


_PAPER = (
    *(_paper("voc", model) for model in _NETS),  # Tables 1 and 4
    *(
        _paper(dataset, model)  # Tables 2 and 3
        for dataset in ("pascal_context", "cityscapes")
        for model in ("fcn8s_resnet101", "deeplab_largefov", "deeplab_resnet101")
    ),
    dataclasses.replace(  # Table 5
        _paper("voc", "deeplab_resnet101", losses=("ce", "lad", "lmp", "ls")),
        name="voc-deeplab_resnet101-losses",
    ),
)

# --- Two cores ---

# The weight of the level set is the paper's at its own size, λ·n = 4·10⁻⁴ · 41².
_SMALL_LEVEL_SET = {"level_set_weight": 0.67, "normalization": "mean"}

# A few minutes, without a file: the first run on any machine. The loss is taken at the
# pictures' size: at stride 8 the thin shapes would be lost.
_SYNTHETIC = Recipe(
    dataset="synthetic",
    name="synthetic",
    model_options={"width": 0.25, "batch_norm": True, "dilation": 2, "dropout": 0.0},
    level_set=_SMALL_LEVEL_SET,
    loss_stride=1,
    epochs=3,
    batch_size=8,
    augmentation=Augmentation(flip=True),
)

# Half an hour a loss, from scratch, judged at 480×360.
_CAMVID = Recipe(
    dataset="camvid",
    name="camvid",
    model_options={"width": 0.25, "batch_norm": True, "dilation": 4, "dropout": 0.0},
    level_set=_SMALL_LEVEL_SET,
    epochs=45,
    batch_size=8,
    l2=5e-4,
    input_scale=0.5,
    augmentation=Augmentation(scale=(0.75, 1.5), crop=(180, 240), flip=True),
)

# One's own pictures: a start that makes sense of most, to be changed by flags.
_FOLDER = dataclasses.replace(
    _CAMVID,
    dataset="folder",
    name="folder",
    loss_stride=1,
    input_scale=1.0,
    augmentation=Augmentation(scale=(0.75, 1.5), crop=(240, 240), flip=True),
)

# Some minutes a loss, to see each kind of net on real pictures.
_SHORT: dict[str, Any] = {
    "level_set": _SMALL_LEVEL_SET,
    "epochs": 12,
    "batch_size": 8,
    "l2": 5e-4,
    "input_scale": 1 / 3,
    "augmentation": Augmentation(crop=(120, 160), flip=True),
}
_NARROW_RESNET = {"width": 0.125, "depth": 0.5, "freeze_batch_norm": False}
_RESNET_RATE = 0.02  # at 0.1, which is LargeFOV's, FCN-8s diverges
_CAMVID_SHORT = (
    Recipe(
        dataset="camvid",
        name="camvid-deeplab_largefov",
        model_options={
            "width": 0.25,
            "batch_norm": True,
            "dilation": 4,
            "dropout": 0.0,
        },
        **_SHORT,
    ),
    Recipe(
        dataset="camvid",
        name="camvid-deeplab_resnet101",
        model="deeplab_resnet101",
        model_options={
            **_NARROW_RESNET,
            "rates": [*scaled_rates((6, 12, 18, 24), 160)],
        },
        learning_rate=_RESNET_RATE,
        **_SHORT,
    ),
    Recipe(
        dataset="camvid",
        name="camvid-fcn8s_resnet101",
        model="fcn8s_resnet101",
        model_options=_NARROW_RESNET,
        learning_rate=_RESNET_RATE,
        **_SHORT,
    ),
)

RECIPES = {
    recipe.name: recipe
    for recipe in (_SYNTHETIC, _CAMVID, _FOLDER, *_CAMVID_SHORT, *_PAPER)
}
"""The runs that have a name."""

DEFAULTS = {
    "synthetic": "synthetic",
    "camvid": "camvid",
    "voc": "voc-deeplab_largefov",
    "pascal_context": "pascal_context-deeplab_largefov",
    "cityscapes": "cityscapes-deeplab_largefov",
    "folder": "folder",
}
"""The recipe of each data set, where none is named."""

# --- Smoke tests ---

_NUM_CLASSES = {
    "camvid": len(CAMVID_CLASSES),
    "cityscapes": len(CITYSCAPES_CLASSES),
    "pascal_context": len(PASCAL_CONTEXT_CLASSES),
    "voc": len(VOC_CLASSES),
}


def smoke(recipe: Recipe) -> Recipe:
    """The same recipe in seconds: a tiny net, two steps, made pictures.

    Losses, optimizer, rates and schedule are the recipe's own; so are the number of
    classes and the kinds of augmentation.

    Args:
        recipe: any.

    Returns:
        A recipe without a name, on synthetic scenes.
    """
    options: dict[str, Any] = {"num_samples": 4, "size": [33, 41]}
    if recipe.dataset in _NUM_CLASSES:
        options["num_classes"] = _NUM_CLASSES[recipe.dataset]
    tiny: dict[str, Any] = {"width": 0.02, "depth": 0.01}
    if "largefov" in recipe.model:
        tiny["dilation"] = 1
    else:
        # Statistics that were never learned would let a random net's logits explode.
        tiny["freeze_batch_norm"] = False
    if "deeplab" in recipe.model and "resnet" in recipe.model:
        tiny["rates"] = [1, 1, 2, 2]
    model_options = {**recipe.model_options, **tiny}
    model_options.pop("weights", None)
    return dataclasses.replace(
        recipe,
        name="",
        dataset="synthetic",
        train_split="train",
        val_split="val",
        dataset_options=options,
        model_options=model_options,
        iterations=2,
        batch_size=2,
        input_scale=1.0,
        augmentation=dataclasses.replace(recipe.augmentation, crop=(33, 33)),
    )
