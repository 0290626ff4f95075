"""The checkpoints in a folder: each is complete or ignored, and the newest are kept.

For each step that was saved, the folder holds

    step-12.index  step-12.data-00000-of-00001      as `tf.train.Checkpoint` writes them
    step-12.sha256                                  their checksums

The checksums are written last. A checkpoint without them was interrupted while it was
written; one whose files do not match them was damaged later. `sha256sum -c` reads them.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import tensorflow as tf

from tf_levelset.checks import expect, reason
from tf_levelset.files import sha256, sync, write_text
from tf_levelset.training.distribution import WORKER_LOST


class Checkpoints:
    """The checkpoints in a folder.

    Args:
        folder: The folder, created with the first checkpoint. It may hold other files,
            if their names do not begin with "step-".
        keep: Number of checkpoints to keep, at least 1. With 1, there is no older one
            to fall back on if the newest is damaged.
        is_chief: Whether this process keeps what it writes. In distributed training
            all workers take part in writing, because values that each replica holds for
            itself are summed up, but only the chief keeps the files.

    Raises:
        ValueError: If `keep` is below 1.
    """

    def __init__(self, folder: Path, keep: int = 2, *, is_chief: bool = True) -> None:
        expect(keep >= 1, "`keep` to be at least 1", keep)
        self.folder, self.keep, self.is_chief = folder, keep, is_chief

    def steps(self) -> list[int]:
        """Returns the steps of all completed checkpoints, damaged or not, ascending."""
        names = (path.stem for path in self.folder.glob("step-*.sha256"))
        return sorted(int(name[5:]) for name in names if name[5:].isdigit())

    def prefix(self, step: int) -> Path:
        """Returns the name by which TensorFlow knows the checkpoint of a step."""
        return self.folder / f"step-{step}"

    def newest(self) -> int | None:
        """Returns the step of the newest undamaged checkpoint.

        A warning is printed for each damaged one that is passed over.

        Returns:
            The step, or None if no checkpoint was completed.

        Raises:
            ValueError: If all checkpoints are damaged.
        """
        faults: list[str] = []
        for step in reversed(self.steps()):
            if (fault := self.fault(step)) is None:
                for line in faults:
                    print(f"Warning: {line} Resuming from step {step}.", flush=True)
                return step
            faults.append(fault)
        if faults:
            raise ValueError(
                f"{' '.join(faults)} All checkpoints are damaged: remove {self.folder} "
                "to train from the first step."
            )
        return None

    def fault(self, step: int) -> str | None:
        """Returns what is wrong with a completed checkpoint, or None."""
        checksums, files = self._checksum_file(step), self._files(step)
        if files and _checksums(files).encode() == checksums.read_bytes():
            return None
        return (
            f"Expected the files of checkpoint {self.prefix(step)} as they were "
            f"written. Received: other files than {checksums.name} lists."
        )

    def write(self, state: tf.train.Checkpoint, step: int) -> None:
        """Writes a checkpoint, and removes those that are not to be kept any longer.

        Args:
            state: The variables to write.
            step: Its step. Checkpoints of later steps are removed as well, because
                training did not resume from them: they are damaged.

        Raises:
            OSError: If the checkpoint cannot be written, for example because the disk
                is full. The earlier checkpoints stay.
        """
        if not self.is_chief:
            with tempfile.TemporaryDirectory() as folder:
                state.write(str(Path(folder) / self.prefix(step).name))
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove(step)
        try:
            state.write(str(self.prefix(step)))
            files = self._files(step)
            for path in files:
                sync(path)
            write_text(self._checksum_file(step), _checksums(files))
            sync(self.folder)
        except (OSError, tf.errors.OpError) as error:
            self._remove(step)
            if isinstance(error, WORKER_LOST):
                raise
            steps = self.steps()
            raise OSError(
                f"Expected to write checkpoint {self.prefix(step)}. Received: "
                f"{reason(error)}. "
                + (f"That of step {steps[-1]} is intact. " if steps else "")
                + "Once there is room on the disk, the same command resumes."
            ) from error
        kept = [other for other in self.steps() if other <= step][-self.keep :]
        for other in set(self.steps()) - set(kept):
            self._remove(other)

    def unfinished(self) -> list[Path]:
        """Returns the files that a process left when it was killed while writing."""
        completed = {f"step-{step}" for step in self.steps()}
        return [
            path
            for path in (*self.folder.glob("step-*"), *self.folder.glob(".step-*"))
            if path.suffix == ".partial" or path.name.split(".")[0] not in completed
        ]

    def clear(self) -> None:
        """Removes unfinished files; only the chief does so."""
        for path in self.unfinished() if self.is_chief else ():
            _remove(path)

    def _files(self, step: int) -> list[Path]:
        names = (f"step-{step}.data-*", f"step-{step}.index")
        return [path for name in names for path in sorted(self.folder.glob(name))]

    def _checksum_file(self, step: int) -> Path:
        return self.folder / f"step-{step}.sha256"

    def _remove(self, step: int) -> None:
        # The checksums first: an interruption then leaves no damaged checkpoint.
        self._checksum_file(step).unlink(missing_ok=True)
        for path in (*self._files(step), self.folder / f"step-{step}_temp"):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _checksums(paths: list[Path]) -> str:
    """Returns the SHA-256 of files, as the command `sha256sum` prints them."""
    return "".join(f"{sha256(path)}  {path.name}\n" for path in paths)
