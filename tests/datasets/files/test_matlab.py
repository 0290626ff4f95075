"""Variables of MATLAB's files, and files that unpack to more than memory holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_files import mat_bomb
from scipy.io import savemat

from tf_levelset.datasets.files import matlab
from tf_levelset.datasets.files.matlab import read_variable


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("side", [300, 301])
def test_counts_all_that_a_file_unpacks_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool, side: int
) -> None:
    path = tmp_path / "a.mat"
    arrays: Any = {name: np.zeros((side, 300), np.uint8) for name in "ab"}
    savemat(path, arrays, do_compression=packed)
    # An array has some 48 bytes of its own, beside 300² of pixels.
    monkeypatch.setattr(matlab, "MAX_BYTES", 2 * 300 * 300 + 300)
    monkeypatch.setattr(matlab, "MAX_RATIO", 10**6)
    if side == 300:
        assert read_variable(str(path), "a").shape == (300, 300)
    else:
        with pytest.raises(ValueError, match=r"Expected arrays of at most .*a\.mat"):
            read_variable(str(path), "a")


@pytest.mark.parametrize("name", ["GTcls", "LabelMap"])
def test_refuses_a_bomb(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bomb.mat"
    path.write_bytes(mat_bomb(name, 2**15))  # a GiB in a MB
    assert path.stat().st_size < 2**21
    with pytest.raises(ValueError, match=f"at most {2**28} bytes"):
        read_variable(str(path), name)
