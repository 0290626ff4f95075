"""The command that runs the trials, with one that takes no time."""

from __future__ import annotations

import argparse
import sys
import types

import pytest

from reliability import __main__ as command


@pytest.mark.parametrize("held", [True, False])
def test_the_exit_code_tells_whether_all_held(
    monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    asked: list[int] = []

    def add_options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--times", type=int)

    def run(options: argparse.Namespace) -> bool:
        asked.append(options.times)
        return held

    fake = types.SimpleNamespace(__doc__="Falls.", add_options=add_options, run=run)
    monkeypatch.setitem(sys.modules, "reliability.fake", fake)
    monkeypatch.setattr(command, "TRIALS", ("fake",))
    monkeypatch.setattr(sys, "argv", ["reliability", "fake", "--times", "3"])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == (0 if held else 1)
    assert asked == [3]


@pytest.mark.parametrize("name", command.TRIALS)
def test_every_trial_says_what_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["reliability", name, "--help"])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 0
    assert "--out" in capsys.readouterr().out
