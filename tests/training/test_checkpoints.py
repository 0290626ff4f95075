"""Checkpoints that are whole or not there, whatever happens to them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tf_levelset.files import write_text
from tf_levelset.training import checkpoints
from tf_levelset.training.checkpoints import Checkpoints

VALUE = "value/.ATTRIBUTES/VARIABLE_VALUE"


def write(folder: Path, *steps: int, keep: int = 2) -> Checkpoints:
    """Writes checkpoints whose value is their step."""
    written = Checkpoints(folder, keep)
    value = tf.Variable(tf.zeros(100))
    for step in steps:
        value.assign(tf.fill([100], float(step)))
        written.write(tf.train.Checkpoint(value=value), step)
    return written


def value_at(folder: Path, step: int) -> float:
    read = tf.train.load_checkpoint(str(Checkpoints(folder).prefix(step)))
    (value,) = np.unique(read.get_tensor(VALUE))
    return float(value)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def names_of(*steps: int) -> set[str]:
    kinds = ("index", "data-00000-of-00001", "sha256")
    return {f"step-{step}.{kind}" for step in steps for kind in kinds}


def test_the_newest_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "for it"
    written = write(folder, 9, 10, 100)
    assert written.steps() == [10, 100]
    assert written.newest() == 100
    assert names_in(folder) == names_of(10, 100)
    assert [value_at(folder, step) for step in (10, 100)] == [10, 100]
    write(folder, 101, 102, keep=3)
    assert written.steps() == [100, 101, 102]


def test_nothing_is_there_at_first(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "nowhere").newest() is None
    Checkpoints(tmp_path / "nowhere").clear()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("keep", [0, -1])
def test_none_to_keep_raises(tmp_path: Path, keep: int) -> None:
    with pytest.raises(ValueError, match=f"Expected `keep`.*{keep}"):
        Checkpoints(tmp_path, keep)


def test_other_programs_read_the_checksums(tmp_path: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
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


@pytest.mark.parametrize("damage", [flip, truncate, empty])
@pytest.mark.parametrize("kind", ["index", "data-00000-of-00001", "sha256"])
def test_a_damaged_one_is_passed_over(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    kind: str,
) -> None:
    written = write(tmp_path, 1, 2)
    assert written.newest() == 2
    assert not capsys.readouterr().out
    damage(tmp_path / f"step-2.{kind}")
    assert written.newest() == 1
    printed = capsys.readouterr().out
    assert f"checkpoint {tmp_path / 'step-2'} as they were written" in printed
    assert "Going on from step 1." in printed
    assert value_at(tmp_path, 1) == 1


@pytest.mark.parametrize("kind", ["index", "data-00000-of-00001"])
def test_one_without_a_file_is_passed_over(tmp_path: Path, kind: str) -> None:
    written = write(tmp_path, 1, 2)
    (tmp_path / f"step-2.{kind}").unlink()
    assert written.newest() == 1


def test_checksums_of_fewer_files_are_not_enough(tmp_path: Path) -> None:
    written = write(tmp_path, 1, 2)
    path = tmp_path / "step-2.sha256"
    for lines in (path.read_text().splitlines(keepends=True)[:1], []):
        path.write_text("".join(lines))
        assert written.newest() == 1


def test_damaged_ones_give_way_to_what_is_written_after_them(tmp_path: Path) -> None:
    written = write(tmp_path, 1, 5)
    flip(tmp_path / "step-5.index")
    assert written.newest() == 1
    write(tmp_path, 3)
    assert written.steps() == [1, 3]
    assert names_in(tmp_path) == names_of(1, 3)


def test_without_a_whole_one_nothing_is_begun_anew(tmp_path: Path) -> None:
    written = write(tmp_path, 1, 2)
    for step in (1, 2):
        flip(tmp_path / f"step-{step}.index")
    with pytest.raises(ValueError, match=f"step-2 .*step-1 .*remove {tmp_path}"):
        written.newest()
    assert names_in(tmp_path) == names_of(1, 2)


def test_those_of_a_checkpoint_manager_are_not_passed_over(tmp_path: Path) -> None:
    state = tf.train.Checkpoint(value=tf.Variable(1.0))
    tf.train.CheckpointManager(state, str(tmp_path), max_to_keep=2).save()
    with pytest.raises(ValueError, match="Expected checkpoints with checksums"):
        Checkpoints(tmp_path).newest()


# --- Ends in the middle of writing ---


class Killed(BaseException):
    """What ends a process, without clean-up."""


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
    """Ends everything in, or after, so many of the calls that change the folder."""
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

    for name in ("sync", "write_text", "_remove"):
        patched.setattr(checkpoints, name, counted(getattr(checkpoints, name)))
    for owner, name in ((Path, "unlink"), (tf.train.Checkpoint, "write")):
        patched.setattr(owner, name, counted(getattr(owner, name)))


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    written = write(tmp_path, 1)
    left = ["step-2.index", "step-2.data-00000-of-00001", ".step-2.sha256.77.partial"]
    others = ["step-2.txt", "step-x.index", "model.step-2.index", "notes"]
    for name in (*left, *others):
        write_text(tmp_path / name, "half")
    for name in ("step-1_temp", "step-2_temp"):
        write_text(tmp_path / name / "part-00000-of-00001.index", "half")
    assert len(written.unfinished()) == len(left) + 2
    written.clear()
    assert not written.unfinished()
    assert names_in(tmp_path) == names_of(1) | set(others)
    assert written.newest() == 1


# --- A full disk ---


def test_a_full_disk_leaves_the_last_one(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    written = write(tmp_path, 1, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Files of at most so many bytes: TensorFlow writes more, checksums less.
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(OSError, match=r"step-3\. Received: /.*step 2 is intact"):
            write(tmp_path, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names_in(tmp_path) == names_of(1, 2)
    assert written.newest() == 2
    write(tmp_path, 3)
    assert written.newest() == 3


@pytest.mark.parametrize("name", ["write_text", "sync"])
def test_a_disk_that_is_full_for_the_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write(tmp_path, 1, 2)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, name, full)
    with pytest.raises(OSError, match=r"Received: .*No space left.*step 2 is intact"):
        write(tmp_path, 3)
    assert names_in(tmp_path) == names_of(1, 2)
