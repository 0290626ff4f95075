"""Training that continues from its last checkpoint, bit for bit.

`ExactResume` decides when a checkpoint is written and what it holds. `Checkpoints`
writes the files.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count, pairwise, takewhile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import expect, plain_options, reason
from tf_levelset.training.checkpoints import Checkpoints
from tf_levelset.training.distribution import all_the_same, any_worker, is_chief
from tf_levelset.training.interrupts import Interrupts

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
"""The suffix that TensorFlow appends to a variable's name in a checkpoint."""


@plain_options
class ExactResume(keras.callbacks.Callback):
    """Writes checkpoints of everything that training changes, and resumes from them.

    A run that is killed at any moment and started again ends with the same bits as an
    undisturbed one, if its batches are a function of the step and its operations are
    deterministic (`tf.config.experimental.enable_op_determinism`)::

        resume = tf_levelset.ExactResume(
            model, "run/checkpoint", steps=10_000, steps_per_epoch=500
        )
        for start, span in resume.parts():
            batches = training_dataset(source, batch_size=8, seed=0, start_step=start)
            model.fit(batches, callbacks=[..., resume], **span)

    A checkpoint holds the variables of model and optimizer, the random states of
    dropout layers, the history, and the metrics' totals since the start of the epoch,
    which must be sums over batches, as those of Keras and of this package are. The
    state of other callbacks is not saved. Put this one last, so that an epoch counts as
    completed only after all others have handled its end.

    In distributed training, every worker creates one on the same folder, and the chief
    writes the files. All workers write a checkpoint when one of them is told to stop.

    Args:
        model: A built and compiled model, with `steps_per_execution` of 1.
        folder: Folder of the checkpoints.
        steps: Number of steps of the whole run. A run that ended with a whole epoch
            goes on if there are more now; a schedule that depends on them then changes.
        steps_per_epoch: Number of steps per epoch; the last epoch may be shorter.
        seconds: Seconds between checkpoints. One is written at the end of every epoch,
            and after any step once the last is older than this. With zero, one is
            written after every step.
        keep: Number of checkpoints to keep.
        names: A function from a step to the names of its samples, which error messages
            quote; for example `tf_levelset.datasets.pipeline.batch_names` with its
            other arguments fixed.
        interrupts: Signals that stop training. After the current step and its
            checkpoint, `KeyboardInterrupt` is raised.

    Attributes:
        step: Number of completed steps.
        history: A row for each completed epoch, with `epoch` and `step`, both counted
            from 1, its number of `steps`, the `seconds` that training took, and the
            metrics of Keras.

    Raises:
        ValueError: If an argument is out of range or differs from the one that the run
            was started with; if the model is not compiled with an optimizer of
            `keras.optimizers` without `use_ema`; if workers do not see the same
            checkpoints; if the checkpoints are of another model, or all damaged. In
            `fit`, if the loss or a weight is not finite, or if the epoch is not the
            next one. The last checkpoint was written before that step.
        OSError: In `fit`, if a checkpoint cannot be written.
    """

    def __init__(
        self,
        model: keras.Model,
        folder: str | Path,
        *,
        steps: int,
        steps_per_epoch: int,
        seconds: float = 600.0,
        keep: int = 2,
        names: Callable[[int], Sequence[str]] | None = None,
        interrupts: Interrupts | None = None,
    ) -> None:
        super().__init__()
        expect(
            steps >= 1 and steps_per_epoch >= 1 and 0 <= seconds < float("inf"),
            "`steps` and `steps_per_epoch` of at least 1, `seconds` of zero or more",
            (steps, steps_per_epoch, seconds),
        )
        optimizer = getattr(model, "optimizer", None)
        known = isinstance(optimizer, keras.optimizers.Optimizer)
        expect(
            # At the end of every `fit`, `use_ema` replaces the weights by averages.
            model.built and known and not getattr(optimizer, "use_ema", False),
            "a model that is built and compiled with an optimizer of keras.optimizers, "
            "without `use_ema`",
            (model.name, getattr(optimizer, "name", None), type(optimizer)),
        )
        self.strategy = model.distribute_strategy
        self.checkpoints = Checkpoints(
            Path(folder), keep, is_chief=is_chief(self.strategy)
        )
        self.steps, self.steps_per_epoch = steps, steps_per_epoch
        self.seconds, self.names = seconds, names
        self.interrupts = interrupts or Interrupts()
        self.step = 0
        self.history: list[dict[str, float]] = []
        self._trained = model
        self.set_model(model)
        self._epoch_seconds = self._epoch_began = 0.0
        self._earlier_sums: list[np.ndarray] = []
        self._in_step = False
        with self.strategy.scope():
            model.optimizer.build(model.trainable_variables)
        with tf.device("CPU:0"):  # the only device that holds strings
            self._progress = tf.Variable("", dtype=tf.string, trainable=False)
        self._state = {
            "progress": [self._progress],
            "model": compat.state_of(model),
            "optimizer": compat.variables_of(model.optimizer),
        }
        self._restore()
        self._saved_at = time.perf_counter()

    def parts(self) -> list[tuple[int, dict[str, int]]]:
        """Returns the calls of `fit` that are left to do.

        Returns:
            Up to three pairs (first step, arguments of `fit`), for: the rest of an
            interrupted epoch; all whole epochs; a last, shorter epoch.
        """
        size = self.steps_per_epoch
        end_of_epoch = min(-(-self.step // size) * size, self.steps)
        end_of_whole_epochs = max(self.steps // size * size, end_of_epoch)
        stops = {self.step, end_of_epoch, end_of_whole_epochs, self.steps}
        return [
            (
                start,
                {
                    "initial_epoch": start // size,
                    "epochs": -(-stop // size),
                    "steps_per_epoch": min(size, stop - start),
                },
            )
            for start, stop in pairwise(sorted(stops))
        ]

    @contextlib.contextmanager
    def naming_samples(self) -> Iterator[None]:
        """Adds the samples' names to an error raised inside the graph.

        This is a context manager around `fit`.

        Raises:
            ValueError: Instead of `tf.errors.InvalidArgumentError`.
        """
        try:
            yield
        except tf.errors.InvalidArgumentError as error:
            if not self._in_step:
                raise
            message = f"{reason(error)} At {self._where(self.step)}"
            raise ValueError(message) from error

    def save(self) -> None:
        """Writes a checkpoint.

        Raises:
            ValueError: If a weight is not finite.
            OSError: If the checkpoint cannot be written.
        """
        self._check_finite()
        progress = {
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "epoch_seconds": self._epoch_seconds,
            "history": self.history,
        }
        self._progress.assign(json.dumps(progress))
        sums = compat.metric_variables(self._trained)
        state = tf.train.Checkpoint(**self._state, metrics=sums)
        self.checkpoints.write(state, self.step)
        self._saved_at = time.perf_counter()

    def row(self, epoch: int, logs: dict[str, Any]) -> dict[str, float]:
        """Returns the row of an epoch in the history; subclasses may override it."""
        return {
            "epoch": epoch + 1,
            "step": self.step,
            "steps": self.step - epoch * self.steps_per_epoch,
            "seconds": round(self._epoch_seconds, 3),
            **{key: float(value) for key, value in logs.items()},
        }

    # --- Called by Keras ---

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks that the epoch is the next one, or the one that was interrupted."""
        steps = compat.steps_per_execution(self.model)
        expected = (
            "steps_per_execution=1, so that callbacks are called after every step"
        )
        expect(steps <= 1, expected, steps)
        done = self.step - epoch * self.steps_per_epoch
        if self.model is not self._trained or not 0 <= done < self.steps_per_epoch:
            raise ValueError(
                f"Expected epoch {self.step // self.steps_per_epoch} of "
                f"{self._trained.name}, by the arguments that `parts` gives. Received: "
                f"epoch {epoch} of {self.model.name}"
            )
        self._earlier_sums = self._read_sums() if done else []
        self._epoch_began = time.perf_counter() - self._epoch_seconds

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Records that a step is running."""
        self._in_step = True

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Checks the loss, and writes a checkpoint if it is time to."""
        self._in_step = False
        if self._earlier_sums:
            self._add_earlier_sums()
        loss = float((logs or {}).get("loss", 0.0))
        if not np.isfinite(loss):
            raise ValueError(
                f"Expected a finite loss. Received: {loss} at {self._where(self.step)}"
            )
        self.step += 1
        self._epoch_seconds = time.perf_counter() - self._epoch_began
        if self.step % self.steps_per_epoch == 0 or self.step >= self.steps:
            # `on_epoch_end` writes the checkpoint, but runs after validation, where
            # weights that are not finite would already raise another error.
            self._check_finite()
            return
        # All workers write their checkpoints at the same step.
        is_old = time.perf_counter() - self._saved_at >= self.seconds
        save, stop = any_worker(self.strategy, is_old, self.interrupts.requested)
        if save or stop:
            self.save()
        if stop:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the row of the epoch to the history, and writes a checkpoint."""
        self.history.append(self.row(epoch, logs or {}))
        self._epoch_seconds = 0.0
        self.save()
        if any(any_worker(self.strategy, self.interrupts.requested)):
            raise KeyboardInterrupt

    # --- Reading a checkpoint ---

    def _restore(self) -> None:
        self.checkpoints.clear()
        step = self.checkpoints.newest()
        if step is not None:
            self._read(str(self.checkpoints.prefix(step)))
            self._check_steps()
        if not all_the_same(self.strategy, self.step):
            raise ValueError(
                "Expected every worker to resume from the same checkpoint, in a folder "
                f"that all of them share. Received: step {self.step} here, in "
                f"{self.checkpoints.folder}, and another step elsewhere"
            )

    def _read(self, prefix: str) -> None:
        expected = {
            f"{part}/{index}{_VALUE}": variable.shape.as_list()
            for part, variables in self._state.items()
            for index, variable in enumerate(variables)
        }
        found = {
            name: shape
            for name, shape in tf.train.list_variables(prefix)
            if name.endswith(_VALUE) and name.partition("/")[0] in self._state
        }
        self._check_same_model(found == expected, prefix)
        status = tf.train.Checkpoint(**self._state).read(prefix)
        status.assert_existing_objects_matched().expect_partial()
        progress = json.loads(self._progress.numpy())
        self.step, self.history = progress["step"], progress["history"]
        self._epoch_seconds = progress["epoch_seconds"]
        size = progress["steps_per_epoch"]
        started = f"steps_per_epoch={size}, with which the run was started"
        expect(self.steps_per_epoch == size, started, self.steps_per_epoch)

    def _check_steps(self) -> None:
        taken = f"`steps` of {self.step} or more, which the run has taken"
        expect(self.steps >= self.step, taken, self.steps)
        if self.history and self.history[-1]["step"] == self.step < self.steps:
            expected = f"steps={self.step}, with which the run ended inside an epoch"
            expect(self.step % self.steps_per_epoch == 0, expected, self.steps)

    def _read_sums(self) -> list[np.ndarray]:
        """Reads the metrics' totals in the epoch that was interrupted."""
        reader = tf.train.load_checkpoint(str(self.checkpoints.prefix(self.step)))
        names = (f"metrics/{index}{_VALUE}" for index in count())
        return [reader.get_tensor(n) for n in takewhile(reader.has_tensor, names)]

    def _add_earlier_sums(self) -> None:
        """Adds the earlier sums to the metrics, after the first step of `fit`.

        Keras creates some of these variables only within that step.
        """
        variables = compat.metric_variables(self._trained)
        same = [v.shape for v in variables] == [s.shape for s in self._earlier_sums]
        self._check_same_model(same, str(self.checkpoints.prefix(self.step)))
        if self.checkpoints.is_chief:
            # On one replica only: Keras sums the replicas' values.
            for variable, value in zip(variables, self._earlier_sums, strict=True):
                self.strategy.experimental_local_results(variable)[0].assign_add(value)
        self._earlier_sums = []

    def _check_same_model(self, same: bool, prefix: str) -> None:
        expected = f"a checkpoint of {self._trained.name}, with the same variables"
        expect(same, expected, f"that of another model, in {prefix}")

    # --- Checks and messages ---

    def _check_finite(self) -> None:
        for variable in (*self._state["model"], *self._state["optimizer"]):
            if variable.dtype.is_floating and not np.isfinite(variable.numpy()).all():
                raise ValueError(
                    "Expected finite weights. Received: NaN or infinity after "
                    f"{self._where(self.step - 1)}"
                )

    def _where(self, step: int) -> str:
        """Returns a step, its samples and the last checkpoint, for error messages."""
        names = f", of the samples {', '.join(self.names(step))}" if self.names else ""
        last = "No checkpoint was written before."
        if steps := self.checkpoints.steps():
            last = (
                f"{self.checkpoints.prefix(steps[-1])} is the last checkpoint before."
            )
        return f"step {step}{names}. {last}"
