"""Runs of `fit`: from a recipe to a folder with all that was learned.

A run folder holds

    config.json                 the recipe
    report.json  report.md  panel.png        the losses side by side
    ce/  ls/  …                 one folder a loss:
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
from tf_levelset.comparison_losses import COMPARISON_LOSSES, LossSum
from tf_levelset.datasets.augment import Augmentation, augment
from tf_levelset.datasets.pipeline import (
    Source,
    evaluation_dataset,
    training_dataset,
)
from tf_levelset.datasets.verification import Verified, load_verified
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
from tf_levelset.models import at_input_size, create_model, output_stride
from tf_levelset.optimizers import CaffeSGD
from tf_levelset.recipes import LOSSES, Recipe
from tf_levelset.registry import call_with_options
from tf_levelset.schedules import schedule
from tf_levelset.visualize import panel, write_png

PANEL_SAMPLES = 4
CLASSES_FILE, PALETTE_FILE = "classes.json", "palette.json"
VERIFIED_FILE = "verified.json"
"""Of a run: the state in which its data set's files were found sound."""

_REPLACES_CROSS_ENTROPY = ("lad", "lmp", "focal")
"""Losses that weigh the cross-entropy anew; the others stand beside it."""

_NO_XLA = ("boundary",)
"""Losses with operations that XLA, Keras 3's choice on a GPU, does not compile."""


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
        DataSetError: for all that is wrong with the data set's files. They are read
            from end to end first, and again only once one of them has changed.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, once the step at hand is finished and
            saved. The same call resumes.
    """
    _check_same(run_dir, recipe)
    verified = _verified(recipe, run_dir, data_dir)
    train_source, val_source = verified.sources[0], verified.sources[-1]
    # Bad options of any loss are found before the first of them is trained, and before
    # the folder is claimed for them.
    for name in recipe.losses:
        build_loss(recipe, name, train_source.ignore_class)
    for name in recipe.losses:
        run = Run(recipe, name, run_dir / name, train_source, val_source)
        if name == recipe.losses[0]:
            run.check()
            config = _with_earlier_losses(recipe, run_dir).to_json()
            write_json(run_dir / "config.json", config)
            write_json(run_dir / VERIFIED_FILE, verified.state)
        with Interrupts() as interrupts:
            run.fit(interrupts)
        run.finish()
    return _report(run_dir, val_source)


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
    values, found = recipe.to_json(), _with_defaults(read_json(path))
    # Losses may be added, with their options: each has a folder of its own.
    common = set(values["losses"]) & set(found.get("losses", ()))
    for recipe_values in (values, found):
        options = recipe_values.get("loss_options", {})
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


def _with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """What a recipe's file says, with the fields that it does not know yet."""
    try:
        return Recipe.from_json(values).to_json()
    except ValueError:
        return values


def build_loss(recipe: Recipe, name: str, ignore_class: int) -> keras.losses.Loss:
    """Returns one of a recipe's losses, on logits, by its name in `recipes.LOSSES`.

    Raises:
        ValueError: for options that the loss does not take.
    """
    common: dict[str, Any] = {"from_logits": True, "ignore_class": ignore_class}
    if name == "ls":
        return call_with_options(
            name, CrossEntropyLevelSetLoss, **recipe.level_set, **common
        )
    cross_entropy = CrossEntropyLevelSetLoss(level_set_weight=0.0, **common)
    if name == "ce":
        return cross_entropy
    options = dict(recipe.loss_options.get(name, {}))
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
        self.steps = recipe.iterations or self.steps_per_epoch * recipe.epochs
        self.epochs = -(-self.steps // self.steps_per_epoch)
        self.history: list[dict[str, float]] = []

        # The same seed for every loss: they start from the same weights.
        keras.utils.set_random_seed(recipe.seed)
        net = create_model(
            recipe.model,
            train_source.num_classes,
            upsample=False,
            **recipe.model_options,
        )
        _check_loss_stride(recipe, net)
        self.trained = net if recipe.loss_stride > 1 else at_input_size(net)
        self.model = at_input_size(net, recipe.input_scale)
        self.predictor = KerasPredictor(self.model)
        # A multi-scale net has an output a scale, and the fused one last; its loss is
        # the sum of theirs.
        self.outputs = len(self.trained.outputs)
        losses = [
            build_loss(recipe, name, train_source.ignore_class)
            for _ in range(self.outputs)
        ]
        metrics = [*([] for _ in losses[1:]), _metrics(recipe, train_source)]
        self.trained.compile(
            build_optimizer(recipe, self.steps),
            losses if self.outputs > 1 else losses[0],
            metrics=metrics if self.outputs > 1 else metrics[0],
            **({"jit_compile": False} if name in _NO_XLA else {}),
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
            f"{LOSSES[self.name]}: steps {start} to {self.steps}, {self.folder}",
            flush=True,
        )
        recorder = _Recorder(self, interrupts)
        epoch, done = divmod(start, self.steps_per_epoch)
        common = {
            "validation_data": self._validation(),
            "validation_freq": _some_epochs(self.epochs, 20),
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
            stop = min(self.steps, start - done + self.steps_per_epoch)
            self._fit(start, stop - start, epoch, epoch + 1, common)
            epoch, start = epoch + 1, stop
        whole = self.steps // self.steps_per_epoch
        if epoch < whole:
            self._fit(start, self.steps_per_epoch, epoch, whole, common)
            epoch, start = whole, whole * self.steps_per_epoch
        if start < self.steps:  # the run ends inside an epoch
            self._fit(start, self.steps - start, epoch, epoch + 1, common)

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
        batches = training_dataset(
            self.train_source,
            batch_size=self.recipe.batch_size,
            seed=self.recipe.seed,
            augmentation=self._augmentation(),
            start_step=start,
            num_steps=steps,
            label_stride=self.recipe.loss_stride,
        )
        return self._for_every_output(batches)

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

    def _validation(self) -> tf.data.Dataset:
        """Val pictures as the net sees them, one by one, for the history's curves."""
        stride, scale = self.recipe.loss_stride, self.recipe.input_scale

        def scaled(image: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image, labels = augment(
                image, labels, tf.zeros(2, tf.int32), Augmentation(resize_scale=scale)
            )
            return image, labels[::stride, ::stride]

        pictures = evaluation_dataset(self.val_source).map(scaled).batch(1).prefetch(2)
        return self._for_every_output(pictures)

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
        palette = np.asarray(self.val_source.palette).tolist()
        write_json(self.folder / PALETTE_FILE, palette)
        exported = self.folder / "export"
        if not numbered_versions(exported):
            export(self.model, exported, self.val_source.class_names)


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
    return [
        keras.metrics.MeanMetricWrapper(
            build_loss(recipe, "ce", source.ignore_class), name="cross_entropy"
        ),
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
        inside = self.done % self.run.steps_per_epoch and self.done < self.run.steps
        if self.interrupts.requested and inside:
            self.run.save(self.done, self.seconds)
            self.interrupts.raise_if_requested()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row = {
            "epoch": epoch + 1,
            "step": self.done,
            "steps": self.done - self.first,
            "seconds": round(self.seconds, 3),
            **self._values(logs or {}),
        }
        # Before the checkpoint: rows beyond it are dropped, but none can be made up.
        self.run.history.append(row)
        write_json(self.run.folder / "history.json", self.run.history)
        write_text(self.run.folder / "history.csv", _csv(self.run.history))
        self.run.save(self.done)
        self.interrupts.raise_if_requested()

    def _values(self, logs: dict[str, Any]) -> dict[str, float]:
        """Keras' values. Of several outputs the fused one's metrics go by their names;
        each output's loss keeps its prefix, beside their sum, `loss`.
        """
        fused = self.run.trained.output_names[-1]
        values = {key: float(value) for key, value in logs.items()}
        if self.run.outputs == 1:
            return values
        return {
            key if key.endswith("loss") else key.replace(f"{fused}_", "", 1): value
            for key, value in values.items()
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


def _report(run_dir: Path, val_source: Source) -> dict[str, Any]:
    """Writes the losses side by side, as far as trained: numbers, table, pictures."""
    results = {
        name: read_json(run_dir / name / "evaluation.json")
        for name in load_recipe(run_dir).losses
        if (run_dir / name / "evaluation.json").exists()
    }
    seconds = {
        name: round(
            sum(r["seconds"] for r in read_json(run_dir / name / "history.json")), 1
        )
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
        LOSSES[name]: KerasPredictor.load(run_dir / name / "model.keras")
        for name in results
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
