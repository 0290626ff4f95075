"""Runs of `fit`: from a recipe to a folder with all that was learned.

A run folder holds

    config.json                 the recipe
    report.json  report.md  panel.png        the losses side by side
    ce/  ls/  …                 one folder a loss:
        checkpoint/             all that training changes, to resume from
        history.csv  history.json            one row an epoch
        events/                 TensorBoard, with pictures
        model.keras             logits at the picture's size, preprocessing inside
        classes.json            the names of its classes
        evaluation.json         judged at the pictures' own size
        export/1/               the SavedModel

and the command that made it resumes it, exactly: batches, augmentation and learning
rate are functions of the step, and all else is in the checkpoint.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import call_with_options
from tf_levelset.datasets.augmentation import Augmentation
from tf_levelset.datasets.pipeline import (
    Source,
    augment,
    batch_names,
    evaluation_dataset,
    training_dataset,
)
from tf_levelset.datasets.verification import Verified, load_verified
from tf_levelset.export.saved_model import export, numbered_versions
from tf_levelset.files import (
    check_links,
    read_json,
    remove_partials,
    write_json,
    write_text,
)
from tf_levelset.inference.evaluation import evaluate
from tf_levelset.inference.panels import panel, write_png
from tf_levelset.inference.predictor import KerasPredictor, Predictor
from tf_levelset.inference.score_table import report_rows, table
from tf_levelset.losses import (
    ActiveContourLoss,
    BoundaryLoss,
    CrossEntropyLevelSetLoss,
    DiceLoss,
    FocalLoss,
    LocallyAdaptiveLoss,
    LossMaxPooling,
    LossSum,
    LovaszSoftmaxLoss,
    SegmentationLoss,
)
from tf_levelset.metrics import LevelSetEnergy, MeanIoU
from tf_levelset.models import at_input_size, create_model, output_stride
from tf_levelset.models.safe_loading import load_keras
from tf_levelset.optimizers.caffe_sgd import CaffeSGD
from tf_levelset.optimizers.schedules import schedule
from tf_levelset.training.distribution import (
    Batches,
    check_batch_size,
    distribute,
    fit,
    is_chief,
    naming_lost_workers,
    to_every_replica,
    wait_for_all,
)
from tf_levelset.training.interrupts import Interrupts
from tf_levelset.training.recipe import LOSSES, Recipe
from tf_levelset.training.resume import ExactResume
from tf_levelset.training.run_folder import read_evaluation, read_history

PANEL_SAMPLES = 4
CLASSES_FILE, PALETTE_FILE = "classes.json", "palette.json"
MODEL_FILE = "model.keras"
VERIFIED_FILE = "verified.json"
"""Of a run: the state in which its data set's files were found sound."""

COMPARISON_LOSSES: dict[str, type[SegmentationLoss]] = {
    "lmp": LossMaxPooling,
    "lad": LocallyAdaptiveLoss,
    "focal": FocalLoss,
    "dice": DiceLoss,
    "lovasz": LovaszSoftmaxLoss,
    "boundary": BoundaryLoss,
    "active_contour": ActiveContourLoss,
}
"""The losses that the level set loss is compared with, by their names in recipes."""

_REPLACES_CROSS_ENTROPY = ("lad", "lmp", "focal")
"""Losses that weigh the cross-entropy anew; the others stand beside it."""

NO_XLA = ("boundary",)
"""Losses with operations that XLA, Keras 3's choice on a GPU, does not compile."""


@dataclass(frozen=True)
class CheckpointOptions:
    """How a run keeps what it has learned; no part of what it learns.

    Args:
        seconds: how much work may be lost, see `ExactResume`.
        keep: how many checkpoints stay, see `Checkpoints`.
    """

    seconds: float = 600.0
    keep: int = 2


def train(
    recipe: Recipe,
    run_dir: Path,
    data_dir: str | None = None,
    checkpoints: CheckpointOptions | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, Any]:
    """Trains every loss of a recipe, or goes on where the folder stands.

    Args:
        recipe: what to run.
        run_dir: folder of the run; made if missing.
        data_dir: folder of the data set's files, where it has any.
        checkpoints: how often they are written, and how many stay.
        strategy: how the replicas train together, each on its part of the recipe's
            batches; by default the current one. Workers share `run_dir`, which the
            chief writes.

    Returns:
        The report, as in report.json; to the chief alone, others get an empty one.

    Raises:
        ValueError: if the folder holds the run of another recipe or a link that leads
            outside, and as soon as a loss is not finite: it names the step and its
            samples, and the last checkpoint.
        OSError: if something cannot be written, as on a full disk. The last checkpoint
            stays.
        DataSetError: for all that is wrong with the data set's files. They are read
            from end to end first, and again only once one of them has changed.
        ConnectionError: if another worker has ended.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, once the step at hand is finished and
            saved. The same call resumes.
    """
    check_links(run_dir)
    strategy = strategy or tf.distribute.get_strategy()
    check_batch_size(recipe.batch_size, strategy)
    _check_same(run_dir, recipe)
    verified = _verified(recipe, run_dir, data_dir)
    # Bad options of any loss are found before the first of them is trained, and before
    # the folder is claimed for them.
    for name in recipe.losses:
        build_loss(recipe, name, verified.sources[0].ignore_class)
    with naming_lost_workers(strategy):
        for name in recipe.losses:
            _train_one(recipe, name, run_dir, verified, checkpoints, strategy)
        report = _report(run_dir, verified.sources[-1]) if is_chief(strategy) else {}
        wait_for_all(strategy)
    return report


def _train_one(
    recipe: Recipe,
    name: str,
    run_dir: Path,
    verified: Verified,
    checkpoints: CheckpointOptions | None,
    strategy: tf.distribute.Strategy,
) -> None:
    """Trains one loss of a recipe, as far as it is not yet done."""
    run = Run(
        recipe,
        name,
        run_dir / name,
        verified.sources[0],
        verified.sources[-1],
        checkpoints=checkpoints,
        strategy=strategy,
    )
    if name == recipe.losses[0]:
        run.check()
        if is_chief(strategy):
            config = _with_earlier_losses(recipe, run_dir).to_json()
            write_json(run_dir / "config.json", config)
            write_json(run_dir / VERIFIED_FILE, verified.state)
    with Interrupts() as interrupts:
        run.fit(interrupts)
    run.save()
    if is_chief(strategy):
        run.finish()


def _verified(recipe: Recipe, run_dir: Path, data_dir: str | None) -> Verified:
    """The sources to train on and to judge on, read from end to end if need be."""
    path = run_dir / VERIFIED_FILE
    verified = load_verified(
        recipe.dataset,
        list(dict.fromkeys((recipe.train_split, recipe.val_split))),
        data_dir,
        recipe.dataset_options,
        read_json(path) if path.exists() else None,
    )
    for fault in verified.empty_classes():
        print(f"Warning: {fault}")
    return verified


def _check_same(run_dir: Path, recipe: Recipe) -> None:
    """Raises if the folder holds the run of another recipe."""
    path = run_dir / "config.json"
    if not path.exists():
        return
    try:
        # With the fields that the file does not know yet.
        found = Recipe.from_json(read_json(path)).to_json()
    except ValueError as error:
        raise ValueError(
            f"Expected {path} to be a run's, to resume it. Received: another file "
            f"({error}). Name a new folder, or remove that one."
        ) from error
    values = recipe.to_json()
    # Losses may be added, with their options: each has a folder of its own.
    common = set(values["losses"]) & set(found["losses"])
    for recipe_values in (values, found):
        options = recipe_values["loss_options"]
        recipe_values["loss_options"] = {k: options[k] for k in common & set(options)}
    differ = sorted(
        k for k in values | found if k != "losses" and values.get(k) != found.get(k)
    )
    if differ:
        changes = "; ".join(
            f"{key}: {found.get(key)!r} there, {values.get(key)!r} asked for"
            for key in differ
        )
        raise ValueError(
            f"Expected the recipe that {run_dir} was begun with, to resume it. "
            f"Received: another ({changes}). Name a new folder, or remove that one."
        )


def _with_earlier_losses(recipe: Recipe, run_dir: Path) -> Recipe:
    """The recipe with the losses that the folder was asked for before."""
    path = run_dir / "config.json"
    if not path.exists():
        return recipe
    earlier = load_recipe(run_dir)
    return dataclasses.replace(
        recipe,
        losses=tuple(dict.fromkeys([*earlier.losses, *recipe.losses])),
        loss_options={**earlier.loss_options, **recipe.loss_options},
    )


def build_loss(recipe: Recipe, name: str, ignore_class: int) -> keras.losses.Loss:
    """Returns one of a recipe's losses, on logits, by its name in `recipes.LOSSES`.

    Raises:
        ValueError: for options that the loss does not take.
    """
    common: dict[str, Any] = {"from_logits": True, "ignore_class": ignore_class}
    given = recipe.level_set if name == "ls" else recipe.loss_options.get(name, {})
    if set(common) & set(given):
        raise ValueError(
            f"Expected options of {name!r} but {tuple(common)}, which are the run's. "
            f"Received: {given!r}"
        )
    if name == "ls":
        return call_with_options(name, CrossEntropyLevelSetLoss, **given, **common)
    cross_entropy = CrossEntropyLevelSetLoss(level_set_weight=0.0, **common)
    if name == "ce":
        return cross_entropy
    options = dict(given)
    if name in _REPLACES_CROSS_ENTROPY:
        return call_with_options(name, COMPARISON_LOSSES[name], **options, **common)
    weight = options.pop("weight", 1.0)
    loss = call_with_options(name, COMPARISON_LOSSES[name], **options, **common)
    return LossSum([cross_entropy, loss], [1.0, weight])


def build_optimizer(recipe: Recipe, steps: int) -> CaffeSGD:
    """Returns a recipe's optimizer for a run of so many steps."""
    return CaffeSGD(
        schedule(
            recipe.schedule,
            recipe.learning_rate,
            steps,
            power=recipe.power,
            step_size=recipe.step_size,
            gamma=recipe.gamma,
        ),
        momentum=recipe.momentum,
        l2=recipe.l2,
        multipliers=recipe.multipliers,
    )


class Run:
    """One loss of a recipe, with its model, its folder and its place in time.

    It is judged about `validations` times as it trains, and after the last epoch.
    `callbacks` are further ones, on every worker.
    """

    def __init__(
        self,
        recipe: Recipe,
        name: str,
        folder: Path,
        train_source: Source,
        val_source: Source,
        *,
        checkpoints: CheckpointOptions | None = None,
        strategy: tf.distribute.Strategy | None = None,
        validations: int = 20,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        self.recipe, self.name, self.folder = recipe, name, folder
        self.validations = validations
        self.callbacks = callbacks
        self.strategy = strategy or tf.distribute.get_strategy()
        self.is_chief = is_chief(self.strategy)
        self.train_source, self.val_source = train_source, val_source
        self.steps_per_epoch = max(1, train_source.num_samples // recipe.batch_size)
        self.steps = recipe.iterations or self.steps_per_epoch * recipe.epochs
        self.epochs = -(-self.steps // self.steps_per_epoch)

        with self.strategy.scope():
            self._make_model()
        if self.is_chief:
            remove_partials(folder)
        self.recorder = _Recorder(self, checkpoints or CheckpointOptions())
        self.write_history()  # a kill may fall between it and the checkpoint

    def _make_model(self) -> None:
        recipe, source = self.recipe, self.train_source
        # The same seed for every loss: they start from the same weights.
        keras.utils.set_random_seed(recipe.seed)
        net = create_model(
            recipe.model, source.num_classes, upsample=False, **recipe.model_options
        )
        _check_loss_stride(recipe, net)
        self.trained = net if recipe.loss_stride > 1 else at_input_size(net)
        self.model = at_input_size(net, recipe.input_scale)
        self.predictor = KerasPredictor(self.model)
        # A multi-scale net has an output a scale, and the fused one last; its loss is
        # the sum of theirs.
        self.outputs = len(self.trained.outputs)
        losses = [
            build_loss(recipe, self.name, source.ignore_class)
            for _ in range(self.outputs)
        ]
        metrics = [*([] for _ in losses[1:]), _metrics(recipe, source)]
        self.trained.compile(
            build_optimizer(recipe, self.steps),
            losses if self.outputs > 1 else losses[0],
            metrics=metrics if self.outputs > 1 else metrics[0],
            **({"jit_compile": False} if self.name in NO_XLA else {}),
        )

    @property
    def history(self) -> list[dict[str, float]]:
        """A row for each epoch that is done."""
        return self.recorder.history

    def write_history(self) -> None:
        """Writes the rows for people and programs; the checkpoint holds them too."""
        if not self.history or not self.is_chief:
            return
        write_json(self.folder / "history.json", self.history)
        write_text(self.folder / "history.csv", _csv(self.history))

    def check(self) -> None:
        """Takes one batch, so that data that cannot be trained on raise early."""
        next(iter(self._batches(0, 1)))

    def fit(self, interrupts: Interrupts) -> None:
        """Trains from the checkpoint's step to the last."""
        recorder = self.recorder
        recorder.interrupts = interrupts
        parts = recorder.parts()
        if parts:
            print(
                f"{LOSSES[self.name]}: steps {recorder.step} to {self.steps}, "
                f"{self.folder}",
                flush=True,
            )
        for start, span in parts:
            epochs = span["epochs"] - span["initial_epoch"]
            with recorder.naming_samples():
                fit(
                    self.trained,
                    self._batches(start, epochs * span["steps_per_epoch"]),
                    validation_data=self._validation(),
                    validation_steps=self.val_source.num_samples,
                    validation_freq=_some_epochs(self.epochs, self.validations),
                    callbacks=self._callbacks(),
                    verbose=_verbosity() if self.is_chief else 0,
                    **span,
                )

    def _callbacks(self) -> list[keras.callbacks.Callback]:
        """All with what every worker takes part in; files are the chief's."""
        events = keras.callbacks.TensorBoard(
            str(self.folder / "events"), write_graph=False
        )
        own = [events] if self.is_chief else []
        return [_Pictures(self), *own, *self.callbacks, self.recorder]

    def _batches(self, start: int, steps: int) -> Batches:
        def of_worker(workers: int, worker: int) -> tf.data.Dataset:
            batches = training_dataset(
                self.train_source,
                batch_size=self.recipe.batch_size,
                seed=self.recipe.seed,
                augmentation=self._augmentation(),
                start_step=start,
                num_steps=steps,
                label_stride=self.recipe.loss_stride,
                num_workers=workers,
                worker=worker,
            )
            return self._for_every_output(batches)

        return distribute(self.strategy, of_worker)

    def _for_every_output(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Gives each of the net's outputs the labels."""
        if self.outputs == 1:
            return batches
        return batches.map(lambda images, labels: (images, (labels,) * self.outputs))

    def _augmentation(self) -> Augmentation:
        if self.recipe.input_scale == 1:
            return self.recipe.augmentation
        return dataclasses.replace(
            self.recipe.augmentation, resize_scale=self.recipe.input_scale
        )

    def _validation(self) -> Batches:
        """Val pictures as the net sees them, one by one, for the history's curves."""
        stride, scale = self.recipe.loss_stride, self.recipe.input_scale

        def scaled(image: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image, labels = augment(
                image, labels, tf.zeros(2, tf.int32), Augmentation(resize_scale=scale)
            )
            return image, labels[::stride, ::stride]

        pictures = evaluation_dataset(self.val_source).map(scaled)
        return to_every_replica(self.strategy, self._for_every_output(pictures))

    def save(self) -> None:
        """Saves the trained model, if not yet done; all workers take part."""
        path = self.folder / MODEL_FILE
        if path.exists():
            return
        if self.is_chief:
            # Under another name until it is whole.
            partial = path.with_name("partial.keras")
            self.model.save(partial)
            partial.replace(path)
            return
        with tempfile.TemporaryDirectory() as folder:
            self.model.save(Path(folder) / path.name)

    def finish(self) -> None:
        """Judges and exports the trained model, as far as not yet done."""
        model = self.model
        if self.strategy.num_replicas_in_sync > 1:
            # Of some variables each replica has a part: a copy has the whole.
            model = load_keras(self.folder / MODEL_FILE)
        if not (self.folder / "evaluation.json").exists():
            result = evaluate(KerasPredictor(model), self.val_source)
            write_json(self.folder / "evaluation.json", result)
        write_json(self.folder / CLASSES_FILE, list(self.val_source.class_names))
        palette = np.asarray(self.val_source.palette).tolist()
        write_json(self.folder / PALETTE_FILE, palette)
        exported = self.folder / "export"
        for left in exported.glob(".partial-*"):  # of an export that was killed
            shutil.rmtree(left)
        if not numbered_versions(exported):
            export(model, exported, self.val_source.class_names)


def _check_loss_stride(recipe: Recipe, net: keras.Model) -> None:
    """Raises unless the loss can be taken where the recipe says."""
    stride = output_stride(net)
    strides = (stride,) if len(net.outputs) > 1 else (1, stride)
    if recipe.loss_stride not in strides:
        raise ValueError(
            f"Expected `loss_stride` of {strides} for {recipe.model!r}. "
            f"Received: {recipe.loss_stride}"
        )


def _metrics(recipe: Recipe, source: Source) -> list[keras.metrics.Metric]:
    """What every run's curves show, whatever its loss (Fig. 4)."""
    loss = build_loss(recipe, "ce", source.ignore_class)

    def cross_entropy(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        # Not as a loss, which Keras 2 reduces on one replica alone.
        return tf.reduce_mean(loss.call(y_true, y_pred))

    return [
        keras.metrics.MeanMetricWrapper(cross_entropy, name="cross_entropy"),
        MeanIoU(
            source.num_classes,
            name="mean_iou",
            ignore_class=source.ignore_class,
            sparse_y_pred=False,
            class_names=source.class_names,
        ),
        LevelSetEnergy(
            from_logits=True,
            ignore_class=source.ignore_class,
            normalization="mean",
            name="level_set_energy_per_pixel",
        ),
    ]


class _Recorder(ExactResume):
    """Writes history and checkpoint after each epoch, and stops between steps."""

    def __init__(self, run: Run, checkpoints: CheckpointOptions) -> None:
        super().__init__(
            run.trained,
            run.folder / "checkpoint",
            steps=run.steps,
            steps_per_epoch=run.steps_per_epoch,
            seconds=checkpoints.seconds,
            keep=checkpoints.keep,
            names=lambda step: batch_names(
                run.train_source,
                step,
                batch_size=run.recipe.batch_size,
                seed=run.recipe.seed,
            ),
        )
        self.run = run

    def save(self) -> None:
        """Writes the checkpoint, and the history's files after it."""
        super().save()
        self.run.write_history()

    def row(self, epoch: int, logs: dict[str, Any]) -> dict[str, float]:
        """Keras' values. Of several outputs the fused one's metrics go by their names;
        each output's loss keeps its prefix, beside their sum, `loss`.
        """
        row = super().row(epoch, logs)
        fused = self.run.trained.output_names[-1]
        if self.run.outputs == 1:
            return row
        return {
            key if key.endswith("loss") else key.replace(f"{fused}_", "", 1): value
            for key, value in row.items()
        }


class _Pictures(keras.callbacks.Callback):
    """Shows TensorBoard some of val's pictures, ten times a run."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.epochs = _some_epochs(run.epochs, 10)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch + 1 not in self.epochs:
            return
        run = self.run
        picture = panel(run.val_source, {run.name: run.predictor}, samples=2)
        if not run.is_chief:
            return
        writer = tf.summary.create_file_writer(str(run.folder / "events"))
        with writer.as_default():
            tf.summary.image("val", picture[np.newaxis], step=epoch + 1)
        writer.close()


def _verbosity() -> int:
    """Of `fit`: a bar where somebody watches, a line an epoch in a log."""
    return 1 if sys.stdout.isatty() else 2


def _some_epochs(epochs: int, times: int) -> list[int]:
    """About so many epochs, evenly spread and with the last, counted from 1."""
    every = max(1, epochs // times)
    return sorted({*range(every, epochs + 1, every), epochs})


def _csv(rows: list[dict[str, float]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [",".join(str(row.get(column, "")) for column in columns) for row in rows]
    return "\n".join([",".join(columns), *lines]) + "\n"


def _report(run_dir: Path, val_source: Source) -> dict[str, Any]:
    """Writes the losses side by side, as far as trained: numbers, table, pictures."""
    results = {
        name: read_evaluation(run_dir / name / "evaluation.json")
        for name in load_recipe(run_dir).losses
        if (run_dir / name / "evaluation.json").exists()
    }
    seconds = {
        name: training_seconds(read_history(run_dir / name / "history.json"))
        for name in results
    }
    report = {
        "versions": compat.versions(),
        "training_seconds": seconds,
        "evaluation": results,
    }
    write_json(run_dir / "report.json", report)
    write_text(run_dir / "report.md", table(report_rows(results, seconds, LOSSES)))
    predictors: dict[str, Predictor] = {
        LOSSES[name]: KerasPredictor.load(run_dir / name / MODEL_FILE)
        for name in results
    }
    write_png(run_dir / "panel.png", panel(val_source, predictors, PANEL_SAMPLES))
    return report


def training_seconds(history: Sequence[Mapping[str, float]]) -> float:
    """Returns what the epochs of a history took together, without validation."""
    return round(sum(row["seconds"] for row in history), 1)


def load_recipe(run_dir: Path) -> Recipe:
    """Reads the recipe of a run folder.

    Raises:
        FileNotFoundError: if the folder is no run folder.
        ValueError: if its config.json is not a recipe.
    """
    path = run_dir / "config.json"
    if not path.exists():
        raise FileNotFoundError(
            f"Expected a run folder with a config.json. Received: {run_dir}"
        )
    return Recipe.from_json(read_json(path))
