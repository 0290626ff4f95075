from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up_results import result

from experiments import __main__ as command_line
from tf_levelset.files import write_json


def test_the_report_of_a_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arm, iou in (("ce", 0.5), ("plain", 0.51)):
        write_json(tmp_path / "official" / f"{arm}-0.json", result(arm, 0, iou))
    arguments = ["experiments", "report", "official", "--results", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    command_line.main()
    assert "| +1.00 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("run", ["official", "--data-dir", "camvid", "--only", "ce-*"]),
        ("lower", ["official", "there", "--data-dir", "camvid"]),
        ("lower", ["drives:*-1", "official", "there", "--data-dir", "camvid"]),
        ("collect", ["official", "there", "answers", "--data-dir", "camvid"]),
        ("document", []),
        ("panels", ["--data-dir", "camvid"]),
    ],
)
def test_commands_take_their_arguments(
    command: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["experiments", command, *arguments])
    taken: list[Any] = []
    monkeypatch.setattr(command_line, f"_{command}", taken.append)
    command_line.main()
    assert len(taken) == 1
    if arguments:
        assert {"camvid"} <= set(map(str, vars(taken[0]).values()))


def test_sweeps_are_named_with_patterns_of_their_trials() -> None:
    names = ["drives:ce-0016E5-?", "heavisides:hf-*-3", "drives:plain-0006R0-1"]
    found = command_line._trials(names)
    assert list(found) == ["drives", "heavisides"]
    assert [trial.name for trial in found["drives"]] == [
        *(f"ce-0016E5-{seed}" for seed in range(8)),
        "plain-0006R0-1",
    ]
    assert [trial.name for trial in found["heavisides"]] == ["hf-0016E5-3"]
    with pytest.raises(SystemExit, match=r"a sweep of.*Received: nonsense"):
        command_line._trials(["nonsense:*"])
