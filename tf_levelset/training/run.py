"""Training one loss of a recipe, from its first step to the exported model."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_levelset.datasets.augmentation import Augmentation
from tf_levelset.datasets.pipeline import (
    Source,
    augment,
    batch_names,
    evaluation_dataset,
    training_dataset,
)
from tf_levelset.export.saved_model import export
from tf_levelset.export.versions import numbered_versions
from tf_levelset.files import remove_partials, write_json, write_text
from tf_levelset.inference.evaluation import evaluate
from tf_levelset.inference.panels import panel
from tf_levelset.inference.predictor import KerasPredictor
from tf_levelset.models.safe_loading import load_keras
from tf_levelset.training.compiled import REPLACES_CROSS_ENTROPY, build_model
from tf_levelset.training.distribution import (
    Batches,
    distribute,
    fit,
    is_chief,
    to_every_replica,
)
from tf_levelset.training.interrupts import Interrupts
from tf_levelset.training.recipe import LOSSES, Recipe
from tf_levelset.training.resume import ExactResume
from tf_levelset.training.run_folder import (
    CLASSES_FILE,
    EVALUATION_FILE,
    MODEL_FILE,
    PALETTE_FILE,
)

PANELS = 10
"""About how often TensorBoard is shown images of the validation split."""

FIRST_STEPS, DWARFED = 10, 10
"""In so many steps a warning is printed if an added loss is so many times the
cross-entropy."""


class Run:
    """The training of one loss of a recipe, in its own folder.

    If the folder holds a checkpoint, the run continues from it.

    Args:
        recipe: The recipe.
        name: Name of the loss, from `LOSSES`.
        folder: Folder of this loss's files.
        train_source: The training data.
        val_source: The validation data.
        checkpoints: The options `seconds` and `keep` of `ExactResume`.
        strategy: How replicas train together; by default the current strategy.
        validations: About how often the net is validated, spread evenly over the
            epochs; always after the last epoch.

    Attributes:
        trained: The compiled model that `fit` trains.
        model: The model with the same variables that maps images to logits of their
            size.
        predictor: `model` as a predictor of class probabilities.
        recorder: The callback that writes the history and the checkpoints.
    """

    def __init__(
        self,
        recipe: Recipe,
        name: str,
        folder: Path,
        train_source: Source,
        val_source: Source,
        *,
        checkpoints: Mapping[str, Any] | None = None,
        strategy: tf.distribute.Strategy | None = None,
        validations: int = 20,
    ) -> None:
        self.recipe, self.name, self.folder = recipe, name, folder
        self.validations = validations
        self.strategy = strategy or tf.distribute.get_strategy()
        self.is_chief = is_chief(self.strategy)
        self.train_source, self.val_source = train_source, val_source
        self.steps_per_epoch, self.steps = recipe.steps(train_source.num_samples)
        self.epochs = -(-self.steps // self.steps_per_epoch)
        with self.strategy.scope():
            self.trained, self.model = build_model(
                recipe, name, train_source, self.steps
            )
        self.outputs = len(self.trained.outputs)
        self.predictor = KerasPredictor(self.model)
        if self.is_chief:
            remove_partials(folder)
        self.recorder = Recorder(self, **(checkpoints or {}))
        # The last run may have been killed between its checkpoint and these files.
        self.write_history()

    @property
    def history(self) -> list[dict[str, float]]:
        """One row per completed epoch."""
        return self.recorder.history

    def write_history(self) -> None:
        """Writes history.json and history.csv; the checkpoint holds the rows too."""
        if self.history and self.is_chief:
            write_json(self.folder / "history.json", self.history)
            write_text(self.folder / "history.csv", _csv(self.history))

    # --- Data ---

    def batches(self, start: int, steps: int) -> Batches:
        """Returns the training batches of `steps` steps, from step `start` on."""
        augmentation = self.recipe.augmentation
        if self.recipe.input_scale != 1:
            augmentation = dataclasses.replace(
                augmentation, resize_scale=self.recipe.input_scale
            )

        def of_worker(workers: int, worker: int) -> tf.data.Dataset:
            batches = training_dataset(
                self.train_source,
                batch_size=self.recipe.batch_size,
                seed=self.recipe.seed,
                augmentation=augmentation,
                start_step=start,
                num_steps=steps,
                label_stride=self.recipe.loss_stride,
                num_workers=workers,
                worker=worker,
            )
            return self._for_every_output(batches)

        return distribute(self.strategy, of_worker)

    def _validation_data(self) -> Batches:
        """The validation images at the scale that the net is trained at, one by one."""
        stride, scale = self.recipe.loss_stride, self.recipe.input_scale

        def scaled(image: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image, labels = augment(
                image, labels, tf.zeros(2, tf.int32), Augmentation(resize_scale=scale)
            )
            return image, labels[::stride, ::stride]

        images = evaluation_dataset(self.val_source).map(scaled)
        return to_every_replica(self.strategy, self._for_every_output(images))

    def _for_every_output(self, data: tf.data.Dataset) -> tf.data.Dataset:
        """Repeats the labels for each output of a multi-scale net."""
        if self.outputs == 1:
            return data
        return data.map(lambda images, labels: (images, (labels,) * self.outputs))

    # --- Training ---

    def check(self) -> None:
        """Takes one batch, so that unsuitable data raise an error early."""
        next(iter(self.batches(0, 1)))

    def fit(self) -> None:
        """Trains from the step of the checkpoint to the last one.

        Raises:
            KeyboardInterrupt: On Ctrl-C or SIGTERM, once the current step is saved.
        """
        recorder = self.recorder
        parts = recorder.parts()
        if parts:
            print(
                f"{LOSSES[self.name]}: steps {recorder.step} to {self.steps}, "
                f"{self.folder}",
                flush=True,
            )
        for start, span in parts:
            epochs = span["epochs"] - span["initial_epoch"]
            with Interrupts() as recorder.interrupts, recorder.naming_samples():
                fit(
                    self.trained,
                    self.batches(start, epochs * span["steps_per_epoch"]),
                    validation_data=self._validation_data(),
                    validation_steps=self.val_source.num_samples,
                    validation_freq=_some_epochs(self.epochs, self.validations),
                    callbacks=self._callbacks(),
                    verbose=_verbosity() if self.is_chief else 0,
                    **span,
                )

    def _callbacks(self) -> list[keras.callbacks.Callback]:
        """The callbacks of `fit`. Only the chief writes TensorBoard's files."""
        events = keras.callbacks.TensorBoard(
            str(self.folder / "events"), write_graph=False
        )
        # The recorder is last: an epoch counts once all others have handled its end.
        return [*([events] if self.is_chief else []), self.recorder]

    # --- Results ---

    def write_panel(self, epoch: int) -> None:
        """Writes some validation images and their predictions for TensorBoard."""
        image = panel(self.val_source, {self.name: self.predictor}, samples=2)
        if not self.is_chief:
            return
        writer = tf.summary.create_file_writer(str(self.folder / "events"))
        with writer.as_default():
            tf.summary.image("val", image[np.newaxis], step=epoch)
        writer.close()

    def save(self) -> None:
        """Saves the trained model, unless it is saved; every worker takes part."""
        path = self.folder / MODEL_FILE
        names = list(self.val_source.class_names)
        palette = np.asarray(self.val_source.palette).tolist()
        for name, values in ((CLASSES_FILE, names), (PALETTE_FILE, palette)):
            if self.is_chief and not (self.folder / name).exists():
                write_json(self.folder / name, values)
        if path.exists():
            return
        if self.is_chief:
            # Under another name until it is complete.
            partial = path.with_name("partial.keras")
            self.model.save(partial)
            partial.replace(path)
            return
        with tempfile.TemporaryDirectory() as folder:
            self.model.save(Path(folder) / path.name)

    def finish(self) -> None:
        """Evaluates and exports the trained model, as far as this is not yet done."""
        model = self.model
        if self.strategy.num_replicas_in_sync > 1:
            # Each replica holds a part of some variables; the saved model has all.
            model = load_keras(self.folder / MODEL_FILE)
        path, exported = self.folder / EVALUATION_FILE, self.folder / "export"
        is_new = not path.exists()
        result = evaluate(KerasPredictor(model), self.val_source) if is_new else None
        for left in exported.glob(".partial-*"):  # by an export that was killed
            shutil.rmtree(left)
        # A run that was made longer exports a further version.
        if is_new or not numbered_versions(exported):
            export(model, exported, self.val_source.class_names)
        if is_new:
            write_json(path, result)


class Recorder(ExactResume):
    """Writes the history's files beside each checkpoint, and images of some epochs."""

    def __init__(self, run: Run, **checkpoints: Any) -> None:
        super().__init__(
            run.trained,
            run.folder / "checkpoint",
            steps=run.steps,
            steps_per_epoch=run.steps_per_epoch,
            names=lambda step: batch_names(
                run.train_source,
                step,
                batch_size=run.recipe.batch_size,
                seed=run.recipe.seed,
            ),
            **checkpoints,
        )
        self.run, self.warned = run, False
        self.panels = _some_epochs(run.epochs, PANELS)

    def save(self) -> None:
        """Writes a checkpoint and then the history's files."""
        if self.step >= self.steps and self.checkpoints.is_chief:
            # Of the run before it was made longer: the last step makes new ones.
            for name in (MODEL_FILE, EVALUATION_FILE):
                (self.run.folder / name).unlink(missing_ok=True)
        super().save()
        self.run.write_history()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Says once if, in the first steps, an added loss dwarfs the cross-entropy."""
        if self.step < FIRST_STEPS and self.run.is_chief and not self.warned:
            self._compare_terms(logs or {})
        super().on_train_batch_end(batch, logs)

    def _compare_terms(self, logs: dict[str, Any]) -> None:
        run = self.run
        (entropy,) = (v for name, v in logs.items() if name.endswith("cross_entropy"))
        added = float(logs["loss"]) / run.outputs - float(entropy)
        self.warned = added > DWARFED * float(entropy)
        if self.warned and run.name not in REPLACES_CROSS_ENTROPY:
            print(
                f"\nWarning: in step {self.step}, what {run.name!r} adds to the cross-"
                f"entropy is {added / float(entropy):.3g} times as large and may drown "
                "it. Lower its weight: --level-set-weight, whose help names one for "
                "each normalization, or that in `loss_options`.",
                flush=True,
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Shows some images in TensorBoard, after some of the epochs."""
        if epoch + 1 in self.panels:
            self.run.write_panel(epoch + 1)
        super().on_epoch_end(epoch, logs)

    def row(self, epoch: int, logs: dict[str, Any]) -> dict[str, float]:
        """Returns the row of an epoch.

        Of a net with several outputs, the metrics are those of the fused output and
        are named without its prefix. The loss of each output keeps its prefix, beside
        their sum, `loss`.
        """
        row = super().row(epoch, logs)
        if self.run.outputs == 1:
            return row
        fused = self.run.trained.output_names[-1]
        return {
            key if key.endswith("loss") else key.replace(f"{fused}_", "", 1): value
            for key, value in row.items()
        }


def _verbosity() -> int:
    """Returns 1, a progress bar, in a terminal and 2, a line per epoch, in a log."""
    return 1 if sys.stdout.isatty() else 2


def _some_epochs(epochs: int, times: int) -> list[int]:
    """Returns about `times` epochs, counted from 1, evenly spread up to the last."""
    every = max(1, epochs // times)
    return sorted({*range(every, epochs + 1, every), epochs})


def _csv(rows: list[dict[str, float]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, *([str(row.get(name, "")) for name in columns] for row in rows)]
    return "".join(",".join(line) + "\n" for line in lines)
