"""Training that goes on, bit for bit, where it was cut off."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.training.checkpoints import Checkpoints, Unkept
from tf_levelset.training.distribution import all_the_same, any_worker, is_chief
from tf_levelset.training.interrupts import Interrupts

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
"""What TensorFlow puts behind the name of a variable in a checkpoint."""

Part = tuple[int, dict[str, int]]


class ExactResume(keras.callbacks.Callback):
    """Checkpoints all that training changes, and goes on from the newest checkpoint.

    Weights, optimizer, random states of the layers, batch statistics, and what metrics
    and the loss have summed up within the epoch: a run that was killed at any moment,
    and started again, ends with the same bits as one that was not, if its batches are a
    function of the step and its operations are deterministic
    (`tf.config.experimental.enable_op_determinism`)::

        resume = tf_levelset.ExactResume(
            model, "run/checkpoint", steps=10_000, steps_per_epoch=500
        )
        for start, span in resume.parts():
            batches = training_dataset(source, batch_size=8, seed=0, start_step=start)
            model.fit(batches, callbacks=[..., resume], **span)

    It stands last among the callbacks, so that what the others do at the end of an
    epoch is done before the epoch counts as finished. Their own state, such as the
    patience of early stopping, is theirs to keep.

    Training ends where the loss is not finite, with the newest checkpoint from before.
    No checkpoint is written of weights that are not.

    Under `MultiWorkerMirroredStrategy` every worker has one, all on the same folder,
    which the chief writes. A worker that is told to stop writes its checkpoint, and the
    others do with it.

    Args:
        model: built and compiled, with `steps_per_execution` of 1.
        folder: of the checkpoints, see `tf_levelset.training.checkpoints`.
        steps: number of steps of the whole run.
        steps_per_epoch: number of steps an epoch; the last may be shorter.
        seconds: how much work may be lost: within an epoch, a checkpoint is written
            where the last is older. Zero writes one after every step.
        keep: how many checkpoints to keep.
        names: from a step to the names of its samples, for errors, such as
            `tf_levelset.datasets.pipeline.batch_names` with its other arguments set.
        interrupts: where signals are noted that are to stop training after a step and
            its checkpoint, by `KeyboardInterrupt`.

    Attributes:
        step: number of steps done.
        history: a row for each epoch done: `epoch` and `step`, both counted from 1, its
            `steps`, the `seconds` of its training, and Keras' values.

    Raises:
        ValueError: for arguments out of range, or other ones than the run was begun
            with; a model without optimizer, or with one that has `use_ema` or is not
            of `keras.optimizers` (legacy ones and most of tensorflow-addons' are not);
            workers that do not see the same checkpoints; a folder with the checkpoints
            of another model, and one where none is whole; in `fit`, for a loss or
            weights that are not finite, and for an epoch that is not the next one.
        OSError: in `fit`, if a checkpoint cannot be written.
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
        if steps < 1 or steps_per_epoch < 1 or not 0 <= seconds < float("inf"):
            raise ValueError(
                "Expected `steps` and `steps_per_epoch` of at least 1, and `seconds` "
                f"of zero or more. Received: steps={steps!r}, "
                f"steps_per_epoch={steps_per_epoch!r}, seconds={seconds!r}"
            )
        if not model.built or getattr(model, "optimizer", None) is None:
            raise ValueError(
                "Expected a model that is built and compiled with an optimizer. "
                f"Received: {model.name}"
            )
        if not isinstance(model.optimizer, keras.optimizers.Optimizer):
            raise ValueError(
                "Expected an optimizer of keras.optimizers, whose state is known. "
                f"Received: {type(model.optimizer)}"
            )
        if getattr(model.optimizer, "use_ema", False):
            raise ValueError(
                "Expected an optimizer without `use_ema`, whose averages Keras writes "
                "over the weights at the end of every `fit`. "
                f"Received: {model.optimizer.name}"
            )
        self.strategy = model.distribute_strategy
        checkpoints = Checkpoints if is_chief(self.strategy) else Unkept
        self.checkpoints = checkpoints(Path(folder), keep)
        self.steps, self.steps_per_epoch = steps, steps_per_epoch
        self.seconds, self.names, self.interrupts = seconds, names, interrupts
        self.step = 0
        self.history: list[dict[str, float]] = []
        self._trained = model
        self.set_model(model)
        self._epoch_seconds = self._epoch_began = 0.0
        self._first = self._again = 0
        self._in_step = False
        with self.strategy.scope():
            model.optimizer.build(model.trainable_variables)
        with tf.device("CPU:0"):  # where strings can be
            self._progress = tf.Variable("", dtype=tf.string, trainable=False)
        self._state = {
            "progress": [self._progress],
            "model": compat.state_of(model),
            "optimizer": compat.variables_of(model.optimizer),
        }
        self._restore()
        self._saved = time.perf_counter()

    def parts(self) -> list[Part]:
        """Returns what is still to be done, in calls of `fit`.

        Returns:
            Up to three pairs: the step that the batches begin with, and arguments of
            `fit`. First the rest of an epoch that was cut off, then whole epochs, then
            the beginning of one that the run ends in. The rest of an epoch begins with
            its last step again: Keras makes some of what sums up an epoch within the
            first step of `fit`, so the checkpoint is taken up whole after that one.
        """
        size, parts, step = self.steps_per_epoch, [], self.step
        whole = self.steps // size * size
        while step < self.steps:
            again = int(step == self.step and step % size > 0)
            if again or step >= whole:
                stop = min(self.steps, (step // size + 1) * size)
                length = stop - step + again
            else:
                stop, length = whole, size
            span = {
                "initial_epoch": step // size,
                "epochs": -(-stop // size),
                "steps_per_epoch": length,
            }
            parts.append((step - again, span))
            step = stop
        return parts

    @contextlib.contextmanager
    def naming_samples(self) -> Iterator[None]:
        """Around `fit`, names the samples of a step that fails inside its graph.

        Raises:
            ValueError: instead of `tf.errors.InvalidArgumentError`.
        """
        try:
            yield
        except tf.errors.InvalidArgumentError as error:
            if not self._in_step:
                raise
            where = f"At {self._place(self.step - self._again)}. {self._kept()}"
            raise ValueError(f"{graph_message(error)} {where}") from error

    def save(self) -> None:
        """Writes a checkpoint.

        Raises:
            ValueError: for weights that are not finite.
            OSError: if it cannot be written.
        """
        self._check_state()
        progress = {
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "epoch_seconds": self._epoch_seconds,
            "history": self.history,
        }
        self._progress.assign(json.dumps(progress))
        state = tf.train.Checkpoint(**self._state_in_epoch())
        self.checkpoints.write(state, self.step)
        self._saved = time.perf_counter()

    def row(self, epoch: int, logs: dict[str, Any]) -> dict[str, float]:
        """Returns the history's row of an epoch; what a subclass may change."""
        return {
            "epoch": epoch + 1,
            "step": self.step,
            "steps": self.step - epoch * self.steps_per_epoch,
            "seconds": round(self._epoch_seconds, 3),
            **{key: float(value) for key, value in logs.items()},
        }

    # --- What Keras calls ---

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sees whether the epoch goes on, or begins."""
        # Keras up to 3.11 says nothing of the steps in between.
        steps = compat.steps_per_execution(self.model)
        if steps > 1:
            raise ValueError(_unseen(steps))
        done = self.step - epoch * self.steps_per_epoch
        if self.model is not self._trained or not 0 <= done < self.steps_per_epoch:
            raise ValueError(
                f"Expected epoch {self.step // self.steps_per_epoch} of "
                f"{self._trained.name}, by the arguments that `parts` gives. Received: "
                f"epoch {epoch} of {self.model.name}"
            )
        self._again = int(done > 0)
        self._first = self.step - self._again
        self._epoch_began = time.perf_counter() - self._epoch_seconds

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Notes that what fails from here on is the step."""
        self._in_step = True

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Judges the loss, and saves where it is time to."""
        self._in_step = False
        if self._first + batch != self.step - self._again:
            raise ValueError(_unseen(batch + 1))
        if self._again:
            self._take_up()
            return
        loss = float((logs or {}).get("loss", 0.0))
        if not np.isfinite(loss):
            raise ValueError(
                f"Expected a finite loss. Received: {loss} at "
                f"{self._place(self.step)}. {self._kept()}"
            )
        self.step += 1
        self._epoch_seconds = time.perf_counter() - self._epoch_began
        if self.step % self.steps_per_epoch == 0 or self.step >= self.steps:
            self._check_state()  # before validation fails of it
            return
        # Checkpoints are written by all workers at one step.
        is_old = time.perf_counter() - self._saved >= self.seconds
        save, stop = any_worker(self.strategy, is_old, self._requested())
        if save or stop:
            self.save()
        self._stop(stop)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the epoch's row to the history, and saves."""
        self.history.append(self.row(epoch, logs or {}))
        self._epoch_seconds = 0.0
        self.save()
        self._stop(*any_worker(self.strategy, self._requested()))

    # --- How ---

    def _restore(self) -> None:
        self._read_newest()
        if not all_the_same(self.strategy, self.step):
            raise ValueError(
                "Expected every worker to go on from the same checkpoint, in a folder "
                f"that all of them share. Received: step {self.step} here, in "
                f"{self.checkpoints.folder}, and another one elsewhere"
            )

    def _read_newest(self) -> None:
        self.checkpoints.clear()
        step = self.checkpoints.newest()
        if step is None:
            return
        self._read(step, self._state)
        progress = json.loads(self._progress.numpy())
        self.step, self.history = progress["step"], progress["history"]
        self._epoch_seconds = progress["epoch_seconds"]
        if self.steps_per_epoch != progress["steps_per_epoch"]:
            raise ValueError(
                f"Expected steps_per_epoch={progress['steps_per_epoch']}, with which "
                f"the run was begun. Received: {self.steps_per_epoch}"
            )
        ended = self.step % self.steps_per_epoch and self.history
        if ended and self.history[-1]["step"] == self.step < self.steps:
            raise ValueError(
                f"Expected steps={self.step}, with which the run ended inside an "
                f"epoch. Received: {self.steps}"
            )

    def _take_up(self) -> None:
        """Puts all in its place, once all is there: of this step nothing stays."""
        self._read(self.step, self._state_in_epoch())
        self._again = 0
        self._epoch_began = time.perf_counter() - self._epoch_seconds
        self._stop(*any_worker(self.strategy, self._requested()))

    def _state_in_epoch(self) -> dict[str, list[tf.Variable]]:
        return {**self._state, "metrics": compat.metric_variables(self._trained)}

    def _read(self, step: int, state: dict[str, list[tf.Variable]]) -> None:
        """Reads a part of a checkpoint."""
        prefix = str(self.checkpoints.prefix(step))
        expected = {
            f"{key}/{index}{_VALUE}": variable.shape.as_list()
            for key, variables in state.items()
            for index, variable in enumerate(variables)
        }
        found = {
            name: shape
            for name, shape in tf.train.list_variables(prefix)
            if name.endswith(_VALUE) and name.partition("/")[0] in state
        }
        if found != expected:
            raise ValueError(
                f"Expected the {', '.join(state)} of {self._trained.name}, variable by "
                f"variable. Received: another's, in {prefix}"
            )
        status = tf.train.Checkpoint(**state).read(prefix)
        status.assert_existing_objects_matched().expect_partial()

    def _check_state(self) -> None:
        """Raises unless the weights and the optimizer's variables are finite."""
        for variable in (*self._state["model"], *self._state["optimizer"]):
            if variable.dtype.is_floating and not np.isfinite(variable.numpy()).all():
                raise ValueError(
                    "Expected finite weights. Received: NaN or infinity after "
                    f"{self._place(self.step - 1)}. {self._kept()}"
                )

    def _place(self, step: int) -> str:
        """A step, and the names of its samples where they are known."""
        if self.names is None:
            return f"step {step}"
        return f"step {step}, of the samples {', '.join(self.names(step))}"

    def _kept(self) -> str:
        steps = self.checkpoints.steps()
        if not steps:
            return "No checkpoint was written before."
        return f"{self.checkpoints.prefix(steps[-1])} is the last checkpoint before."

    def _requested(self) -> bool:
        return self.interrupts is not None and self.interrupts.requested

    def _stop(self, requested: bool) -> None:
        if requested:
            raise KeyboardInterrupt


def _unseen(steps: int) -> str:
    return (
        "Expected a model whose every step is seen, steps_per_execution=1. Received: "
        f"{steps} steps at once"
    )


def graph_message(error: tf.errors.OpError) -> str:
    """Returns what was found wrong inside a graph, without the graph's own account."""
    lines = [line for line in error.message.splitlines() if "Expected" in line]
    return " ".join(lines) or str(error.message)
