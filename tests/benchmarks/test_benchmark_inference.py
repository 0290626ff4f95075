"""That runtimes with other answers are found out before they are timed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import inference


def write_answers(folder: Path, name: str, shift: float) -> None:
    probabilities = np.array([[[[0.6 - shift, 0.4 + shift]]]], np.float32)
    mask = probabilities.argmax(-1).astype(np.uint8)
    np.savez(folder / f"{name}.npz", probabilities=probabilities, mask=mask)


def test_answers_are_held_against_keras(tmp_path: Path) -> None:
    for name, shift in {"graph": 0.0, "near": 0.001, "far": 0.2}.items():
        write_answers(tmp_path, name, shift)
    found = inference.agreements(tmp_path, ["graph", "near"])
    assert found["graph"] == {"largest_difference": 0.0, "pixels_that_differ": 0}
    assert found["near"]["largest_difference"] == pytest.approx(0.001, rel=1e-3)
    with pytest.raises(ValueError, match="Expected far to answer as Keras does"):
        inference.agreements(tmp_path, ["far"])


def test_cases_are_added_by_group() -> None:
    result: dict[str, Any] = {"cases": {}}
    inference.add_cases(result, "full", {"xla": [1.0, 3.0]})
    assert result["cases"]["full/xla"]["seconds"] == [1.0, 3.0]
    assert result["cases"]["full/xla"]["median"] == 2.0


def test_the_picture_has_the_size_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_LEVELSET_DATA", raising=False)
    picture = inference.picture((33, 41))
    assert (picture.shape, picture.dtype) == ((33, 41, 3), np.uint8)


def test_missing_peers_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[bench\]'"):
        inference.require_peers()
