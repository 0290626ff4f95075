"""The command that runs the trials, with one that takes no time."""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reliability import __main__ as command
from tf_levelset.files import read_json


@pytest.mark.parametrize("held", [True, False])
def test_findings_are_written_and_judged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    held: bool,
) -> None:
    def add_options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--times", type=int)

    def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
        assert list(scratch.iterdir()) == []
        return {"times": options.times, "share": 1 / 3, "differences": ["a", "b"]}

    fake = types.SimpleNamespace(
        __doc__="Falls.",
        add_options=add_options,
        measure=measure,
        holds=lambda found: held,
    )
    monkeypatch.setitem(sys.modules, "benchmarks.reliability.fake", fake)
    monkeypatch.setattr(command, "TRIALS", ("fake",))
    folder = tmp_path / "findings"

    def code_of(*arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", ["reliability", "fake", *arguments])
        with pytest.raises(SystemExit) as caught:
            command.main()
        return caught.value.code

    out = ["--out", str(folder / "keras3.json"), "--scratch", str(tmp_path)]
    assert code_of("--times", "3", *out) == (0 if held else 1)
    found = read_json(folder / "keras3.json")
    assert (found["trial"], found["times"]) == ("fake", 3)
    assert {"environment", "seconds"} <= set(found)
    assert list(tmp_path.iterdir()) == [folder]
    capsys.readouterr()
    assert code_of("--table", str(folder)) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0] == ["", "keras3"]
    assert cells[2:5] == [["times", "3"], ["share", "0.3333"], ["differences", "2"]]


@pytest.mark.parametrize("name", command.TRIALS)
def test_every_trial_says_what_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["reliability", name, "--help"])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 0
    assert "--out" in capsys.readouterr().out
