"""Checkpoints that are whole or not there, the newest of them kept.

A folder holds, for each step that was saved,

    step-12.index  step-12.data-00000-of-00001      as `tf.train.Checkpoint` writes them
    step-12.sha256                                  their checksums

The checksums are written last: a checkpoint without them was cut off while it was
written, one with others was damaged since. `sha256sum -c` reads them too.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from pathlib import Path

import tensorflow as tf

from tf_levelset.files import sync, write_text
from tf_levelset.training.distribution import WORKER_LOST

_OURS = re.compile(
    r"step-(\d+)(\.index|\.data-\d+-of-\d+|\.sha256|_temp)"
    r"|\.step-\d+\.sha256\.\d+\.partial"
)
"""The files and, in `_temp`, the folders that writing a checkpoint makes."""

_OPERATION = re.compile(r"^\{\{.*?\}\} *| *\[Op:\w+\]$")


class Checkpoints:
    """The checkpoints of a folder.

    Args:
        folder: of the checkpoints; made with the first. Files with other names may be
            in it.
        keep: how many of them to keep, at least 1. With 1, none stands in for a damaged
            one.

    Raises:
        ValueError: for a `keep` below 1.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"Expected `keep` to be at least 1. Received: {keep!r}")
        self.folder, self.keep = folder, keep

    def steps(self) -> list[int]:
        """The steps of all that were written to their end, damaged or not, rising."""
        return sorted(
            int(match[1])
            for path in self.folder.glob("step-*.sha256")
            if (match := _OURS.fullmatch(path.name))
        )

    def prefix(self, step: int) -> Path:
        """What `tf.train.load_checkpoint` takes as the name of a checkpoint."""
        return self.folder / f"step-{step}"

    def newest(self) -> int | None:
        """Returns the step of the newest checkpoint that is whole.

        It says so where newer ones are damaged.

        Returns:
            The step, or None where no checkpoint was written to its end.

        Raises:
            ValueError: if there are checkpoints, but none is whole.
        """
        damaged: list[str] = []
        for step in reversed(self.steps()):
            fault = self.fault(step)
            if fault is None:
                for line in damaged:
                    print(f"Warning: {line} Going on from step {step}.", flush=True)
                return step
            damaged.append(fault)
        if damaged:
            raise ValueError(
                f"{' '.join(damaged)} No other is whole: remove {self.folder} to "
                "train from the first step."
            )
        if (self.folder / "checkpoint").exists():  # of tf.train.CheckpointManager
            raise ValueError(
                "Expected checkpoints with checksums beside them, step-*.sha256. "
                f"Received: others in {self.folder}, as earlier versions of this "
                "package wrote them. Name a new folder, or remove that one."
            )
        return None

    def write(self, state: tf.train.Checkpoint, step: int) -> None:
        """Writes a checkpoint and removes those that are too many.

        Args:
            state: what to write.
            step: its step. Checkpoints of later steps are removed, too: they were
                passed over as damaged.

        Raises:
            OSError: if it cannot be written, as on a full disk. Nothing is removed
                then but what was begun.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove(step)
        prefix = self.prefix(step)
        try:
            state.write(str(prefix))
            files = self._files(step)
            for path in files:
                sync(path)
            lines = [f"{_sha256(path)}  {path.name}\n" for path in files]
            write_text(self._checksums(step), "".join(lines))
            sync(self.folder)
        except (OSError, tf.errors.OpError) as error:
            self._remove(step)
            if isinstance(error, WORKER_LOST):
                raise
            raise OSError(self._not_written(step, error)) from error
        kept = [other for other in self.steps() if other <= step][-self.keep :]
        for other in set(self.steps()) - set(kept):
            self._remove(other)

    def unfinished(self) -> list[Path]:
        """Returns what was begun and not finished, as by a process that was killed."""
        finished = set(self.steps())
        matches = ((p, _OURS.fullmatch(p.name)) for p in self.folder.glob("*step-*"))
        return [
            path
            for path, match in matches
            if match and (match[2] in (None, "_temp") or int(match[1]) not in finished)
        ]

    def clear(self) -> None:
        """Removes what is not finished."""
        for path in self.unfinished():
            _remove(path)

    def _files(self, step: int) -> list[Path]:
        name = self.prefix(step).name
        return sorted(
            [*self.folder.glob(f"{name}.index"), *self.folder.glob(f"{name}.data-*")]
        )

    def _checksums(self, step: int) -> Path:
        return self.folder / f"step-{step}.sha256"

    def fault(self, step: int) -> str | None:
        """What is wrong with a checkpoint, None if it is whole."""
        prefix = self.prefix(step)
        expected = self._checksums(step).read_text("utf-8", errors="replace")
        found = "".join(f"{_sha256(path)}  {path.name}\n" for path in self._files(step))
        if found and found == expected:
            return None
        return (
            f"Expected the files of checkpoint {prefix} as they were written. "
            f"Received: others than {self._checksums(step).name} says."
        )

    def _not_written(self, step: int, error: OSError | tf.errors.OpError) -> str:
        # TensorFlow says in which of its operations, too.
        message = _OPERATION.sub("", getattr(error, "message", None) or str(error))
        whole = self.steps()
        intact = f"That of step {whole[-1]} is intact. " if whole else ""
        return (
            f"Expected to write checkpoint {self.prefix(step)}. Received: {message}. "
            f"{intact}With room on the disk, the same command goes on."
        )

    def _remove(self, step: int) -> None:
        # First what makes it a checkpoint: a kill in between leaves no damaged one.
        self._checksums(step).unlink(missing_ok=True)
        for path in (*self._files(step), self.folder / f"step-{step}_temp"):
            _remove(path)


class Unkept(Checkpoints):
    """The checkpoints of a folder that another worker writes.

    Writing sums up what each worker has for itself, which takes all of them.
    """

    def write(self, state: tf.train.Checkpoint, step: int) -> None:
        """Takes part in writing a checkpoint, and keeps nothing of it."""
        with tempfile.TemporaryDirectory() as folder:
            state.write(str(Path(folder) / self.prefix(step).name))

    def clear(self) -> None:
        """Removes nothing, which is the other's."""


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
