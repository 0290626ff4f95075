"""Checkpoints that are complete or ignored, whatever happens to them."""

from __future__ import annotations

import os
import shutil
import subprocess
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tf_levelset.files import write_text
from tf_levelset.training import checkpoints
from tf_levelset.training.checkpoints import Checkpoints

FILES = ("index", "data-00000-of-00001", "sha256")


def write(folder: Path, *steps: int, keep: int = 2) -> Checkpoints:
    """Writes checkpoints whose value is their step."""
    written = Checkpoints(folder, keep)
    value = tf.Variable(tf.zeros(100))
    for step in steps:
        value.assign(tf.fill([100], float(step)))
        written.write(tf.train.Checkpoint(value=value), step)
    return written


def value_at(folder: Path, step: int) -> float:
    reader = tf.train.load_checkpoint(str(Checkpoints(folder).prefix(step)))
    (value,) = np.unique(reader.get_tensor("value/.ATTRIBUTES/VARIABLE_VALUE"))
    return float(value)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def names_of(*steps: int) -> set[str]:
    return {f"step-{step}.{kind}" for step in steps for kind in FILES}


def test_the_newest_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "for it"
    assert Checkpoints(folder).newest() is None
    Checkpoints(folder).clear()
    written = write(folder, 9, 10, 100)
    assert written.steps() == [10, 100]
    assert written.newest() == 100
    assert names_in(folder) == names_of(10, 100)
    assert [value_at(folder, step) for step in (10, 100)] == [10, 100]
    assert write(folder, 101, 102, keep=3).steps() == [100, 101, 102]
    with pytest.raises(ValueError, match=r"Expected `keep`.*0"):
        Checkpoints(tmp_path, 0)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_other_programs_read_the_checksums(tmp_path: Path) -> None:
    write(tmp_path, 1)
    command = ["sha256sum", "-c", "step-1.sha256"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert result.stdout.count(b": OK\n") == 2


# --- Damage ---


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def drop_line(path: Path) -> None:
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        *((damage, kind) for damage in (flip, truncate, empty) for kind in FILES),
        *((Path.unlink, kind) for kind in FILES[:2]),
        (drop_line, "sha256"),
    ],
)
def test_a_damaged_one_is_passed_over(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    kind: str,
) -> None:
    written = write(tmp_path, 1, 5)
    assert written.newest() == 5
    assert not capsys.readouterr().out
    damage(tmp_path / f"step-5.{kind}")
    assert written.newest() == 1
    printed = capsys.readouterr().out
    assert f"checkpoint {tmp_path / 'step-5'} as they were written" in printed
    assert "Resuming from step 1." in printed
    # It is removed once training has gone on from the one before it.
    write(tmp_path, 3)
    assert names_in(tmp_path) == names_of(1, 3)
    # Training does not start again from the first step if all are damaged.
    for step in (1, 3):
        damage(tmp_path / f"step-{step}.{kind}")
    with pytest.raises(ValueError, match=f"step-3 .*step-1 .*remove {tmp_path}"):
        written.newest()
    assert written.steps() == [1, 3]


# --- Interruptions ---


class Killed(BaseException):
    """Ends a process without clean-up."""


@pytest.mark.parametrize("keep", [1, 2])
def test_a_kill_at_any_point_leaves_the_last_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # which takes its time
    outcomes = []
    write(tmp_path / "before", 1, 2, keep=keep)
    for calls in range(100):
        folder = tmp_path / str(calls)
        shutil.copytree(tmp_path / "before", folder)
        with monkeypatch.context() as patched:
            kill_at(patched, calls)
            try:
                write(folder, 3, keep=keep)
            except Killed:
                outcomes.append(Checkpoints(folder).newest() or 0)
            else:
                break
        newest = Checkpoints(folder, keep).newest()
        assert newest in (2, 3)
        assert value_at(folder, newest) == newest
        Checkpoints(folder, keep).clear()
        assert names_in(folder) == names_of(*Checkpoints(folder).steps())
        write(folder, 4, keep=keep)
        assert names_in(folder) == names_of(*[newest, 4][-keep:])
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {2, 3}


def kill_at(patched: pytest.MonkeyPatch, calls: int) -> None:
    """Raises `Killed` before or after one of the calls that change the folder."""
    left = iter(range(calls))

    def tick() -> None:
        if next(left, None) is None:
            raise Killed

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            tick()
            result = function(*arguments, **options)
            tick()
            return result

        return call

    for owner, name in (
        (checkpoints, "sync"),
        (checkpoints, "write_text"),
        (Path, "unlink"),
        (tf.train.Checkpoint, "write"),
    ):
        patched.setattr(owner, name, counted(getattr(owner, name)))


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    written = write(tmp_path, 1)
    left = ["step-2.index", "step-2.data-00000-of-00001", ".step-1.sha256.77.partial"]
    for name in (*left, "model.step-2.index", "notes"):
        write_text(tmp_path / name, "half")
    for name in ("step-1_temp", "step-2_temp"):
        write_text(tmp_path / name / "part-00000-of-00001.index", "half")
    other = Checkpoints(tmp_path, is_chief=False)
    other.clear()  # It may be the chief that is still writing.
    assert len(written.unfinished()) == len(left) + 2
    written.clear()
    assert not written.unfinished()
    assert names_in(tmp_path) == names_of(1) | {"model.step-2.index", "notes"}
    assert written.newest() == other.newest() == 1


def test_only_the_chief_keeps_what_it_writes(tmp_path: Path) -> None:
    write(tmp_path, 4)
    written: list[str] = []
    state: Any = types.SimpleNamespace(write=written.append)
    Checkpoints(tmp_path, is_chief=False).write(state, 5)
    assert len(written) == 1
    assert names_in(tmp_path) == names_of(4)


# --- Errors ---


@pytest.mark.parametrize("full", ["files", "write_text", "sync"])
def test_a_full_disk_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    resource = pytest.importorskip("resource")
    write(tmp_path, 1, 2)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if full == "files":
        # Limits the size of files: TensorFlow's are larger, checksums smaller.
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    else:
        monkeypatch.setattr(checkpoints, full, fail)
    try:
        with pytest.raises(OSError, match=r"step-3\. Received: .*step 2 is intact"):
            write(tmp_path, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names_in(tmp_path) == names_of(1, 2)
    monkeypatch.undo()
    assert write(tmp_path, 3).newest() == 3


def test_a_lost_worker_is_no_full_disk(tmp_path: Path) -> None:
    def lost(prefix: str) -> None:
        raise tf.errors.AbortedError(None, None, "worker 1 is gone")

    state: Any = types.SimpleNamespace(write=lost)
    with pytest.raises(tf.errors.AbortedError):
        Checkpoints(tmp_path).write(state, 1)
    assert list(tmp_path.iterdir()) == []
