"""The command `check-data`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tf_levelset.commands.main import main


def test_check_data_counts_the_classes(
    own_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-data", "--data-dir", str(own_data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert rows[0] == ["class", "folder/train", "folder/val"]
    assert rows[2] == ["", "4 images", "1 images"]
    assert [row[0] for row in rows[3:6]] == ["ground", "tree", "void"]
    shares = np.array([[float(c.rstrip(" %")) for c in row[1:]] for row in rows[3:6]])
    np.testing.assert_allclose(shares.sum(axis=0), 100, atol=0.01)
    np.testing.assert_allclose(shares[1], 50, atol=5)
    assert lines[-1] == "No faults."
    # Whether the list of classes names it or not, void is counted.
    share = float(rows[5][1].rstrip(" %"))
    told = f"line for 255 in the list of classes: .* {share:.1f}% of the pixels"
    assert re.search(f"Warning: folder/train: .*{told}", lines[-3])
    (own_data / "classes.txt").write_text("ground 0\ntree 1\nvoid 255\n")
    assert main(["check-data", "--data-dir", str(own_data)]) == 0
    assert "Warning" not in capsys.readouterr().out


def test_check_data_lists_all_faults(
    own_data: Path, error_of: Callable[..., str]
) -> None:
    (own_data / "masks/0.png").write_bytes(b"")
    (own_data / "images/1.jpg").write_bytes(b"")
    (own_data / "masks/2.png").unlink()
    printed = error_of("check-data", "--data-dir", own_data)
    assert "3 faults" in printed
    for name in ("masks/0.png", "images/1.jpg", "images/2.jpg"):
        assert f"  {own_data / name}: Expected" in printed
    # Classes without a pixel are a fault, too.
    for path in (own_data / "images").glob("*"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
        mask = own_data / "masks" / f"{path.stem}.png"
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(mask)
    printed = error_of("check-data", "--data-dir", own_data)
    assert "folder/val: Expected pixels of class 'tree'" in printed
    for path in (own_data / "masks").glob("*"):
        Image.fromarray(np.full((8, 8), 255 * (path.stem > "1"), np.uint8)).save(path)
    printed = error_of("check-data", "--data-dir", own_data)
    assert re.search(r"folder/train: .*NAME 255.*% of the pixels are 255", printed)
