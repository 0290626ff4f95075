"""The notebooks run from their first cell to their last.

That takes minutes: only where the variable TF_LEVELSET_NOTEBOOKS is set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "docs/notebooks").glob("*.ipynb"))


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["camvid_pair", "first_steps"]


@pytest.mark.skipif(
    "TF_LEVELSET_NOTEBOOKS" not in os.environ,
    reason="TF_LEVELSET_NOTEBOOKS is not set",
)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, tmp_path: Path) -> None:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join(code))
    found = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_kept_as_it_was_run(path: Path) -> None:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in code if _shows(cell))
    streams = [o.get("name") for cell in code for o in cell["outputs"]]
    assert "stderr" not in streams


def _shows(cell: dict[str, list[str]]) -> bool:
    """Whether a cell ends with a picture or prints."""
    source = "".join(cell["source"])
    last = source.splitlines()[-1]
    return last.startswith("Image.fromarray") or "print(" in source
