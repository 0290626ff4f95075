"""Cases that crash, hang and fill memory, each in a process that can be spared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fuzzing import __main__ as command
from fuzzing.runner import Limits, Result, run

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="reads Linux's /proc"
)

MISBEHAVING = "tests.fuzzing.misbehaving"
LIMITS = Limits(seconds=3.0, bytes=64 * 2**20, room=2**30)


def test_whatever_a_case_does_the_others_are_run() -> None:
    results = list(run(MISBEHAVING, 5, [0, 1, 2, 3, 4, 5, 6], LIMITS))
    assert [result.number for result in results] == [0, 1, 2, 3, 4, 5, 6]
    kinds = [result.kind for result in results]
    assert kinds == ["right", *["failure"] * 4, "ValueError", "right"]
    crash, hang, fill, claim = results[1:5]
    assert "code -6" in crash.text
    assert "Fatal Python error: Aborted" in crash.text  # and where
    assert "none in 3 s" in hang.text
    assert f"at most {64 * 2**20} bytes" in fill.text
    # Of 96 MiB; Linux counts pages in batches of up to 64 a thread.
    assert 95 * 2**20 < fill.bytes < 150 * 2**20
    assert "MemoryError" in claim.text
    assert results[6].case == {"act": "_print"}
    assert results[6].bytes < 2**23


def test_of_a_process_that_does_not_start_the_first_case_fails() -> None:
    results = list(run("nothing_of_this_name", 0, [3], LIMITS))
    assert [(result.number, result.kind) for result in results] == [(3, "failure")]
    assert "ModuleNotFoundError" in results[0].text


# --- The command ---


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, list[int]]]:
    """Runs nothing: case 7 of each entrance fails, odd ones end in an error."""
    asked: list[tuple[str, int, list[int]]] = []

    def fake(
        entrance: str, seed: int, numbers: Sequence[int], limits: Limits
    ) -> Iterator[Result]:
        asked.append((entrance, seed, list(numbers)))
        for number in numbers:
            kind = "failure" if number == 7 else ["right", "ValueError"][number % 2]
            yield Result(number, kind, "text", {"n": number}, 0.5 + number, number)

    monkeypatch.setattr(command, "run", fake)
    monkeypatch.setattr(command, "BATCH", 6)
    return asked


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_figures_are_written_and_gone_on_with(
    tmp_path: Path, batches: list[tuple[str, int, list[int]]]
) -> None:
    path = tmp_path / "figures.json"
    arguments = ["--only", "losses", "--seed", "2", "--out", str(path)]
    assert command.main([*arguments, "--cases", "5"]) == 0
    tally = read(path)["entrances"]["losses"]
    assert (tally["cases"], tally["right"]) == (5, 3)
    assert command.main([*arguments, "--cases", "12"]) == 1
    assert [numbers for _, _, numbers in batches] == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9, 10],
        [11],
    ]
    figures = read(path)
    assert figures["entrances"]["losses"] == {
        "cases": 12,
        "right": 6,
        "typed_errors": {"ValueError": 5},
        "failures": [{"number": 7, "case": {"n": 7}, "text": "text"}],
        "peak_bytes": 11,
        "peak_case": 11,
        "seconds": 0.5 * 12 + 66,
        "longest_seconds": 11.5,
        "longest_case": 11,
    }
    assert figures["seed"] == 2
    assert figures["limits"]["bytes"] == command.LIMITS.bytes
    assert {"python", "packages", "machine"} <= figures["environment"].keys()
    with pytest.raises(ValueError, match="Expected the seed 2"):
        command.main(["--seed", "3", "--out", str(path)])


def test_cases_are_shared_out() -> None:
    shares = command.allotted(10_000, list(command.SHARES))
    assert sum(shares.values()) >= 10_000
    assert min(shares.values()) >= 1000
    assert command.allotted(10, ["models"]) == {"models": 10}


def test_one_case_is_told_in_full(
    batches: list[tuple[str, int, list[int]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--only", "metrics", "--case", "7"]) == 1
    printed = capsys.readouterr().out
    assert "metrics 7: failure" in printed
    assert "{'n': 7}" in printed
    assert command.main(["--only", "metrics", "--case", "8"]) == 0
    assert batches[-1] == ("metrics", 0, [8])
