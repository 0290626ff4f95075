"""Files are written atomically, and paths stay inside their folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tf_levelset import files
from tf_levelset.files import (
    check_links,
    inside,
    partial_path,
    read_json,
    read_text,
    remove_partials,
    write_bytes,
    write_json,
    write_text,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_folders_are_created_and_files_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    write_text(folder / "file", "old and long")
    write_text(folder / "file", "λ = ½\n")
    assert (folder / "file").read_bytes() == "λ = ½\n".encode()
    write_bytes(folder / "file", b"\x00\xff")
    assert (folder / "file").read_bytes() == b"\x00\xff"
    assert names_in(folder) == ["file"]


def test_json_comes_back(tmp_path: Path) -> None:
    values = {"a": [1, 2.5, None, True], "λ": {"b": "½"}}
    write_json(tmp_path / "file.json", values)
    assert read_json(tmp_path / "file.json") == values
    assert (tmp_path / "file.json").read_text("utf-8").endswith("}\n")
    text = json.dumps(values, ensure_ascii=False)  # As other programs write it.
    (tmp_path / "file.json").write_bytes(text.encode())
    assert read_json(tmp_path / "file.json") == values


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"loss": float("nan")}, ValueError),
        ([float("inf")], ValueError),
        ({"path": Path()}, TypeError),
    ],
)
def test_values_that_json_lacks_leave_the_old_file(
    tmp_path: Path, values: Any, error: type[Exception]
) -> None:
    write_json(tmp_path / "file.json", {"loss": 1})
    with pytest.raises(error):
        write_json(tmp_path / "file.json", values)
    assert read_json(tmp_path / "file.json") == {"loss": 1}
    assert names_in(tmp_path) == ["file.json"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_half_way_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    write_text(tmp_path / "file", "old")

    def half(path: Path) -> None:
        os.truncate(path, 3)
        raise error("no space left")

    monkeypatch.setattr(files, "sync", half)
    with pytest.raises(error, match="no space left"):
        write_text(tmp_path / "file", "new and longer")
    assert (tmp_path / "file").read_text() == "old"
    assert names_in(tmp_path) == ["file"]


def test_a_file_is_flushed_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        assert not (tmp_path / "file").exists()
        content = Path(f"/proc/self/fd/{descriptor}").resolve()
        synced.append(content.read_text())

    if not Path("/proc/self/fd").exists():
        pytest.skip("There is no /proc to tell a descriptor's file")
    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "file", "new")
    assert synced == ["new"]


def test_partial_files_are_removed(tmp_path: Path) -> None:
    for path in (partial_path(tmp_path / "a.json"), tmp_path / "a.partial"):
        path.write_text("half")
    remove_partials(tmp_path)
    remove_partials(tmp_path / "nowhere")
    assert names_in(tmp_path) == ["a.partial"]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    own, folder = tmp_path / "own", tmp_path / "folder"
    folder.mkdir()
    own.write_text("own")
    path = folder / "file"
    for link in (path, partial_path(path)):
        link.symlink_to(own)
    write_text(path, "new")
    assert own.read_text() == "own"
    assert path.read_text() == "new"
    assert not path.is_symlink()
    assert names_in(folder) == ["file"]


def test_paths_that_lead_outside_raise(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "within").symlink_to("../b")
    (tmp_path / "linked").symlink_to(folder)
    check_links(folder)
    check_links(tmp_path / "linked")
    check_links(tmp_path / "nowhere")
    assert inside(folder, folder / "a/../b") == folder / "a/../b"
    for outside in (tmp_path / "folder2/x", folder / "../x", Path("/x")):
        with pytest.raises(ValueError, match=r"Expected a path inside .*\. Received"):
            inside(folder, outside)
    (folder / "a" / "out").symlink_to(tmp_path)
    (folder / "a" / "circle").symlink_to("circle")
    with pytest.raises(ValueError, match=r"Received: .*a/out, which leads to"):
        check_links(folder)


def test_texts_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbf\xce\xbb = 1\r\n")
    assert read_text(path).split() == ["λ", "=", "1"]
    path.write_bytes(b"\xff\xfea\x00")
    with pytest.raises(ValueError, match=r"Expected UTF-8 text in .*text\. Received"):
        read_text(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff", b"{'a': 1}"])
def test_invalid_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "values.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"Expected .* in .*values\.json\. Received"):
        read_json(path)
