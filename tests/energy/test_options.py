"""The options of the energy: what they accept and how they are written down."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tf_levelset.energy.options import EnergyOptions


def test_numbers_of_numpy_become_numbers_of_python() -> None:
    of_numpy: dict[str, Any] = {
        "epsilon": np.float32(0.5),
        "class_weight": np.array([1, 2]),
        "signed": np.True_,
    }
    options = EnergyOptions(**of_numpy)
    assert json.loads(json.dumps(options.config())) == {
        "heaviside": "mahf",
        "epsilon": 0.5,
        "class_weight": [1.0, 2.0],
        "normalization": "sum",
        "signed": True,
    }
    assert EnergyOptions(**options.config()) == options


def test_weights_may_come_from_a_generator() -> None:
    weights = EnergyOptions(class_weight=(w for w in (0.5, 2.0))).class_weight
    assert weights == (0.5, 2.0)


@pytest.mark.parametrize("option", ["epsilon", "class_weight", "signed"])
def test_text_is_no_value(option: str) -> None:
    texts: dict[str, Any] = {option: "ab"}
    with pytest.raises(ValueError, match=f"Expected `{option}` to be .*Received: 'ab'"):
        EnergyOptions(**texts)


def test_names_are_known_without_tensorflow() -> None:
    code = (
        "import sys; sys.argv = ['tf-levelset']\n"
        "from tf_levelset.energy.options import HEAVISIDES\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)), HEAVISIDES[0])"
    )
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.split() == ["[]", "mahf"]
