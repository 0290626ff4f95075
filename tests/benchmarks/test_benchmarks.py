"""Every benchmark runs, on tiny sizes, and the reporter prints what it wrote."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import __main__ as command
from benchmarks import literal, loss, report
from tf_levelset import CrossEntropyLevelSetLoss
from tf_levelset.compat import KERAS_3

RESULTS = Path(command.__file__).parent / "results"

SMALLER = {"SIZE": (75, 100), "CROP": (65, 65), "BATCH_SIZE": 2, "LEAD": 1, "TAIL": 1}
"""Of the pipeline's benchmark."""


def test_the_literal_loss_is_ours() -> None:
    labels, logits = loss.batch((2, 33, 40, 4))
    ours = CrossEntropyLevelSetLoss(
        literal.WEIGHT,
        normalization="mean",
        from_logits=True,
        ignore_class=literal.VOID,
    )
    np.testing.assert_allclose(
        literal.literal_loss(tf.constant(labels), tf.constant(logits)),
        ours(labels, logits),
        rtol=1e-4,
    )


@pytest.mark.skipif(not KERAS_3, reason="the peers are those of Keras 3")
@pytest.mark.parametrize("name", command.BENCHMARKS)
def test_benchmarks_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "inference":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("tf2onnx")
    monkeypatch.setattr(loss, "peak_bytes", lambda name, shape: 1)
    module = importlib.import_module(f"benchmarks.{name}")
    for constant, value in SMALLER.items():
        if name == "pipeline":
            monkeypatch.setattr(module, constant, value)
    measured: dict[str, Any] = module.measure(quick=True)
    json.dumps(measured)
    assert measured["cases"]
    for target in measured["targets"]:
        assert np.isfinite(target["measured"])


def test_the_command_writes_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("benchmarks.step")
    monkeypatch.setattr(module, "measure", lambda quick: {"targets": [], "cases": {}})
    command.write("step", tmp_path, quick=True)
    written = json.loads((tmp_path / "step.json").read_text())
    assert (written["benchmark"], written["quick"]) == ("step", True)
    assert written["environment"]["packages"]["tensorflow"] == tf.__version__

    monkeypatch.setattr(command, "run", lambda name, options: name != "loss")
    monkeypatch.setattr("sys.argv", ["benchmarks", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"failures of \['loss'\]"):
        command.main()


def target(measured: float, met: bool | None, **more: Any) -> dict[str, Any]:
    bound = None if met is None else 1.0
    return {"name": "speed", "measured": measured, "bound": bound, "met": met, **more}


def test_the_report_has_a_row_for_each_target() -> None:
    spread = {"quartile_1": 0.8, "quartile_3": 1.25}
    first = {"targets": [target(0.987654, True, **spread)]}
    second = {"targets": [target(1.5, False)]}
    rows = report.targets_table([first, second]).splitlines()
    cells = [c.strip() for c in rows[2].strip("|").split("|")]
    assert cells == ["speed", "≤ 1", "0.988 (0.8–1.25)", "1.5", "in some runs"]


def test_the_report_of_the_committed_results(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report.main([str(RESULTS)])
    printed = capsys.readouterr().out
    assert "Step of CE + LS over CE" in printed
    with pytest.raises(FileNotFoundError, match="Expected results such as"):
        report.main([str(tmp_path)])
