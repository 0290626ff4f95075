"""Files that are whole or not there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tf_levelset.files import read_json, write_bytes, write_json, write_text


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_what_it_is_given(tmp_path: Path) -> None:
    write_bytes(tmp_path / "bytes", b"\x00\xff")
    write_text(tmp_path / "text", "λ = ½\n")
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert (tmp_path / "text").read_bytes() == "λ = ½\n".encode()
    assert names_in(tmp_path) == ["bytes", "text"]


def test_makes_folders_and_replaces_files(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_text(path, "old and long")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert names_in(path.parent) == ["file"]


def test_json_comes_back(tmp_path: Path) -> None:
    values = {"a": [1, 2.5, None, True], "λ": {"b": "½"}}
    write_json(tmp_path / "file.json", values)
    assert read_json(tmp_path / "file.json") == values
    assert (tmp_path / "file.json").read_text("utf-8").endswith("}\n")


def test_json_of_others_is_utf_8(tmp_path: Path) -> None:
    text = json.dumps({"λ": "½"}, ensure_ascii=False)
    (tmp_path / "file.json").write_bytes(text.encode())
    assert read_json(tmp_path / "file.json") == {"λ": "½"}


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"loss": float("nan")}, ValueError),
        ([float("inf")], ValueError),
        ({"path": Path()}, TypeError),
    ],
)
def test_what_json_has_not_leaves_the_old_file(
    tmp_path: Path, values: Any, error: type[Exception]
) -> None:
    write_json(tmp_path / "file.json", {"loss": 1})
    with pytest.raises(error):
        write_json(tmp_path / "file.json", values)
    assert read_json(tmp_path / "file.json") == {"loss": 1}
    assert names_in(tmp_path) == ["file.json"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failing_half_way_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    write_text(tmp_path / "file", "old")

    def half(path: Path, content: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(content[: len(content) // 2])
        raise error("no space left")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(error, match="no space left"):
        write_text(tmp_path / "file", "new and longer")
    assert (tmp_path / "file").read_text() == "old"
    assert names_in(tmp_path) == ["file"]


# Ends the process, without clean-up, between the two halves of a write.
KILLED = """
import os, runpy, sys
from pathlib import Path

write_text = runpy.run_path(sys.argv[1])["write_text"]
Path.replace = lambda *_: os._exit(9)
write_text(Path(sys.argv[2]), "new")
"""


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    # The file itself: importing the package would take TensorFlow's seconds.
    module = str(sys.modules[write_text.__module__].__file__)
    command = [sys.executable, "-c", KILLED, module, str(tmp_path / "file")]
    assert subprocess.run(command, check=False).returncode == 9
    assert (tmp_path / "file").read_text() == "old"
