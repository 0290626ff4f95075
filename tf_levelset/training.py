"""Runs of `fit`: from a recipe to a folder with all that was learned.

A run folder holds

    config.json                 the recipe
    report.json  report.md  panel.png        the losses side by side
    ce/  ls/                    one folder a loss:
        checkpoint/             weights, optimizer and step, to resume from
        history.csv  history.json            one row an epoch
        events/                 TensorBoard, with pictures
        model.keras             logits at the picture's size, preprocessing inside
        classes.json            the names of its classes
        evaluation.json         judged at the pictures' own size
        export/1/               the SavedModel

and the command that made it resumes it: batches, augmentation and learning rate are
functions of the step, which the checkpoint holds.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.datasets import load_dataset
from tf_levelset.datasets.augment import Augmentation, augment
from tf_levelset.datasets.pipeline import (
    Source,
    evaluation_dataset,
    training_dataset,
)
from tf_levelset.evaluation import (
    KerasPredictor,
    Predictor,
    evaluate,
    report_rows,
    table,
)
from tf_levelset.export import export, numbered_versions
from tf_levelset.files import read_json, write_json, write_text
from tf_levelset.interrupts import Interrupts
from tf_levelset.losses import CrossEntropyLevelSetLoss
from tf_levelset.metrics import LevelSetEnergy, MeanIoU
from tf_levelset.models import at_input_size, create_model
from tf_levelset.optimizers import CaffeSGD
from tf_levelset.recipes import Recipe
from tf_levelset.visualize import panel, write_png

PANEL_SAMPLES = 4
CLASSES_FILE = "classes.json"

TITLES = {"ce": "cross-entropy", "ls": "with level set loss"}


def train(recipe: Recipe, run_dir: Path, data_dir: str | None = None) -> dict[str, Any]:
    """Trains every loss of a recipe, or goes on where the folder stands.

    Args:
        recipe: what to run.
        run_dir: folder of the run; made if missing.
        data_dir: folder of the data set's files, where it has any.

    Returns:
        The report, as in report.json.

    Raises:
        ValueError: if the folder holds the run of another recipe.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, once the step at hand is finished and
            saved. The same call resumes.
    """
    train_source = load_dataset(
        recipe.dataset, recipe.train_split, data_dir, **recipe.dataset_options
    )
    val_source = load_dataset(
        recipe.dataset, recipe.val_split, data_dir, **recipe.dataset_options
    )
    _check_same(run_dir, recipe)
    # Bad options of any loss are found before the first of them is trained, and before
    # the folder is claimed for them.
    for name in recipe.losses:
        build_loss(recipe, name, train_source.ignore_class)
    first = recipe.losses[0]
    Run(recipe, first, run_dir / first, train_source, val_source).check()
    write_json(run_dir / "config.json", recipe.to_json())
    for name in recipe.losses:
        run = Run(recipe, name, run_dir / name, train_source, val_source)
        with Interrupts() as interrupts:
            run.fit(interrupts)
        run.finish()
    return _report(recipe, run_dir, val_source)


def _check_same(run_dir: Path, recipe: Recipe) -> None:
    """Raises if the folder holds the run of another recipe."""
    path = run_dir / "config.json"
    values = recipe.to_json()
    if not path.exists():
        return
    found = read_json(path)
    differ = sorted(k for k in values | found if values.get(k) != found.get(k))
    if differ:
        changes = "; ".join(
            f"{key}: {found.get(key)!r} there, {values.get(key)!r} asked for"
            for key in differ
        )
        raise ValueError(
            f"Expected the recipe that {run_dir} was begun with, to resume it. "
            f"Received: another ({changes}). Name a new folder, or remove that one."
        )


def build_loss(recipe: Recipe, name: str, ignore_class: int) -> keras.losses.Loss:
    """The loss called "ce" or "ls" in a recipe."""
    options: dict[str, Any] = (
        {"level_set_weight": 0.0} if name == "ce" else recipe.level_set
    )
    return CrossEntropyLevelSetLoss(
        **options, from_logits=True, ignore_class=ignore_class
    )


def build_optimizer(recipe: Recipe, steps: int) -> CaffeSGD:
    """SGD with the poly schedule: lr · (1 − step/steps)^power."""
    schedule = keras.optimizers.schedules.PolynomialDecay(
        recipe.learning_rate, steps, end_learning_rate=0.0, power=recipe.power
    )
    return CaffeSGD(
        schedule,
        momentum=recipe.momentum,
        l2=recipe.l2,
        multipliers=recipe.multipliers,
    )


class Run:
    """One loss of a recipe, with its model, its folder and its place in time."""

    def __init__(
        self,
        recipe: Recipe,
        name: str,
        folder: Path,
        train_source: Source,
        val_source: Source,
    ) -> None:
        self.recipe, self.name, self.folder = recipe, name, folder
        self.train_source, self.val_source = train_source, val_source
        self.steps_per_epoch = max(1, train_source.num_samples // recipe.batch_size)
        self.steps = self.steps_per_epoch * recipe.epochs
        self.history: list[dict[str, float]] = []

        # The same seed for every loss: they start from the same weights.
        keras.utils.set_random_seed(recipe.seed)
        net = create_model(
            recipe.model,
            train_source.num_classes,
            upsample=False,
            **recipe.model_options,
        )
        self.trained = net if recipe.loss_stride > 1 else at_input_size(net)
        self.model = at_input_size(net, recipe.input_scale)
        self.predictor = KerasPredictor(self.model)
        self.trained.compile(
            build_optimizer(recipe, self.steps),
            build_loss(recipe, name, train_source.ignore_class),
            metrics=_metrics(train_source),
        )
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        # What an epoch that was interrupted had taken.
        self.seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self.checkpoints = self._restore()

    def _restore(self) -> tf.train.CheckpointManager:
        """Takes up the folder's newest checkpoint and the history up to it."""
        optimizer = self.trained.optimizer
        optimizer.build(self.trained.trainable_variables)
        state = tf.train.Checkpoint(
            step=self.step,
            seconds=self.seconds,
            model=compat.state_of(self.trained),
            optimizer=compat.variables_of(optimizer),
        )
        manager = tf.train.CheckpointManager(
            state, str(self.folder / "checkpoint"), max_to_keep=2
        )
        if manager.latest_checkpoint:
            state.restore(manager.latest_checkpoint).assert_consumed()
            if (self.folder / "history.json").exists():
                rows = read_json(self.folder / "history.json")
                self.history = [r for r in rows if r["step"] <= int(self.step)]
        return manager

    def check(self) -> None:
        """Takes one batch, so that data that cannot be trained on raise early."""
        next(iter(self._batches(0, 1)))

    def save(self, step: int, seconds: float = 0.0) -> None:
        """Checkpoints weights, optimizer and step.

        Args:
            step: number of steps done.
            seconds: what the steps of an unfinished epoch have taken.
        """
        self.step.assign(step)
        self.seconds.assign(seconds)
        self.checkpoints.save(step)

    def fit(self, interrupts: Interrupts) -> None:
        """Trains from the checkpoint's step to the last."""
        start = int(self.step)
        if start >= self.steps:
            return
        print(
            f"{TITLES[self.name]}: steps {start} to {self.steps}, {self.folder}",
            flush=True,
        )
        recorder = _Recorder(self, interrupts)
        epoch, done = divmod(start, self.steps_per_epoch)
        common = {
            "validation_data": self._validation(),
            "validation_freq": _some_epochs(self.recipe.epochs, 20),
            "shuffle": False,  # the pipeline's order is the order
            "callbacks": [
                recorder,
                _Pictures(self),
                keras.callbacks.TensorBoard(
                    str(self.folder / "events"), write_graph=False
                ),
            ],
        }
        if done:  # first the rest of an epoch that was interrupted
            rest = self.steps_per_epoch - done
            self._fit(start, rest, epoch, epoch + 1, common)
            epoch, start = epoch + 1, start + rest
        if epoch < self.recipe.epochs:
            self._fit(start, self.steps_per_epoch, epoch, self.recipe.epochs, common)

    def _fit(
        self,
        start: int,
        steps_per_epoch: int,
        initial_epoch: int,
        epochs: int,
        common: dict[str, Any],
    ) -> None:
        steps = steps_per_epoch * (epochs - initial_epoch)
        self.trained.fit(
            self._batches(start, steps),
            initial_epoch=initial_epoch,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            **common,
        )

    def _batches(self, start: int, steps: int) -> tf.data.Dataset:
        return training_dataset(
            self.train_source,
            batch_size=self.recipe.batch_size,
            seed=self.recipe.seed,
            augmentation=self._augmentation(),
            start_step=start,
            num_steps=steps,
            label_stride=self.recipe.loss_stride,
        )

    def _augmentation(self) -> Augmentation:
        if self.recipe.input_scale == 1:
            return self.recipe.augmentation
        return dataclasses.replace(
            self.recipe.augmentation, resize_scale=self.recipe.input_scale
        )

    def _validation(self) -> tf.data.Dataset:
        """Val pictures as the net sees them, one by one, for the history's curves."""
        stride, scale = self.recipe.loss_stride, self.recipe.input_scale

        def scaled(image: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image, labels = augment(
                image, labels, tf.zeros(2, tf.int32), Augmentation(resize_scale=scale)
            )
            return image, labels[::stride, ::stride]

        return evaluation_dataset(self.val_source).map(scaled).batch(1).prefetch(2)

    def finish(self) -> None:
        """Saves, judges and exports the trained model, as far as not yet done."""
        path = self.folder / "model.keras"
        if not path.exists():
            # Under another name until it is whole.
            partial = path.with_name("partial.keras")
            self.model.save(partial)
            partial.replace(path)
        if not (self.folder / "evaluation.json").exists():
            result = evaluate(self.predictor, self.val_source)
            write_json(self.folder / "evaluation.json", result)
        write_json(self.folder / CLASSES_FILE, list(self.val_source.class_names))
        exported = self.folder / "export"
        if not numbered_versions(exported):
            export(self.model, exported, self.val_source.class_names)


def _metrics(source: Source) -> list[keras.metrics.Metric]:
    return [
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


class _Recorder(keras.callbacks.Callback):
    """Writes history and checkpoint after each epoch, and stops between steps.

    A row's `seconds` are those of the epoch's training, without validation. Its means
    are over its `steps`: fewer than an epoch's, where the run was resumed inside it.
    """

    def __init__(self, run: Run, interrupts: Interrupts) -> None:
        super().__init__()
        self.run, self.interrupts = run, interrupts
        self.done = self.first = int(run.step)
        self.began = self.seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.first = self.done
        self.began = time.perf_counter() - float(self.run.seconds)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self.done += 1
        self.seconds = time.perf_counter() - self.began
        if self.interrupts.requested and self.done % self.run.steps_per_epoch:
            self.run.save(self.done, self.seconds)
            self.interrupts.raise_if_requested()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row = {
            "epoch": epoch + 1,
            "step": self.done,
            "steps": self.done - self.first,
            "seconds": round(self.seconds, 3),
            **{key: float(value) for key, value in (logs or {}).items()},
        }
        # Before the checkpoint: rows beyond it are dropped, but none can be made up.
        self.run.history.append(row)
        write_json(self.run.folder / "history.json", self.run.history)
        write_text(self.run.folder / "history.csv", _csv(self.run.history))
        self.run.save(self.done)
        self.interrupts.raise_if_requested()


class _Pictures(keras.callbacks.Callback):
    """Shows TensorBoard some of val's pictures, ten times a run."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.epochs = _some_epochs(run.recipe.epochs, 10)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch + 1 not in self.epochs:
            return
        run = self.run
        picture = panel(run.val_source, {run.name: run.predictor}, samples=2)
        writer = tf.summary.create_file_writer(str(run.folder / "events"))
        with writer.as_default():
            tf.summary.image("val", picture[np.newaxis], step=epoch + 1)
        writer.close()


def _some_epochs(epochs: int, times: int) -> list[int]:
    """About so many epochs, evenly spread and with the last, counted from 1."""
    every = max(1, epochs // times)
    return sorted({*range(every, epochs + 1, every), epochs})


def _csv(rows: list[dict[str, float]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [",".join(str(row.get(column, "")) for column in columns) for row in rows]
    return "\n".join([",".join(columns), *lines]) + "\n"


def _report(recipe: Recipe, run_dir: Path, val_source: Source) -> dict[str, Any]:
    """Writes the losses side by side: numbers, table and pictures."""
    results = {
        name: read_json(run_dir / name / "evaluation.json") for name in recipe.losses
    }
    seconds = {
        name: round(
            sum(r["seconds"] for r in read_json(run_dir / name / "history.json")), 1
        )
        for name in recipe.losses
    }
    report = {
        "versions": compat.versions(),
        "training_seconds": seconds,
        "evaluation": results,
    }
    write_json(run_dir / "report.json", report)
    write_text(run_dir / "report.md", table(report_rows(results, seconds, TITLES)))
    predictors: dict[str, Predictor] = {
        TITLES[name]: KerasPredictor.load(run_dir / name / "model.keras")
        for name in recipe.losses
    }
    write_png(run_dir / "panel.png", panel(val_source, predictors, PANEL_SAMPLES))
    return report


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
