"""The command that runs the benchmarks, with one that takes no time."""

from __future__ import annotations

import ast
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command


def test_a_benchmark_is_written_with_its_circumstances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(quick: bool) -> dict[str, Any]:
        return {"sizes": {}, "cases": {}, "targets": [], "asked_for": quick}

    fake = types.SimpleNamespace(measure=measure)
    monkeypatch.setitem(sys.modules, "benchmarks.fake", fake)
    command.write("fake", tmp_path / "deep" / "results", True)
    figures = json.loads((tmp_path / "deep" / "results" / "fake.json").read_text())
    assert (figures["benchmark"], figures["quick"]) == ("fake", True)
    assert figures["asked_for"] is True
    assert {"python", "packages", "load_before"} <= figures["environment"].keys()
    assert figures["seconds"] >= 0


def test_a_failure_is_told_at_the_end_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run(name: str, _: Any) -> bool:
        ran.append(name)
        return name != "growth"

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"failures of \['growth'\]"):
        command.main()
    assert ran == [*command.BENCHMARKS]


@pytest.mark.parametrize("name", command.BENCHMARKS)
def test_every_benchmark_measures_and_says_what(name: str) -> None:
    path = Path(command.__file__).with_name(f"{name}.py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    (measure,) = (
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == "measure"
    )
    assert [argument.arg for argument in measure.args.args] == ["quick"]
