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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heaviside": "step"}, r"`heaviside` to be one of .*Received: 'step'"),
        ({"heaviside": ["mahf"]}, r"`heaviside` to be one of .*Received: \['mahf'\]"),
        ({"normalization": "max"}, "`normalization` to be one of .*Received: 'max'"),
        ({"epsilon": 0.0}, "`epsilon` to be positive.*Received: 0.0"),
        ({"epsilon": "0.1"}, "`epsilon` to be positive.*Received: '0.1'"),
        ({"epsilon": None}, "`epsilon` to be positive.*Received: None"),
        ({"heaviside": "logit", "epsilon": 1.5}, 'at most 1 for "logit".*1.5'),
        ({"heaviside": "logit", "epsilon": 0.01}, '1/60 or more for "logit".*0.01'),
        ({"normalization": "correlation", "signed": True}, "False for 'correlation'"),
        ({"normalization": "balanced", "signed": True}, "False for 'balanced'"),
        ({"signed": "no"}, "`signed` to be True or False.*Received: 'no'"),
        ({"class_weight": [1.0, -1.0]}, "`class_weight` to be finite numbers"),
        ({"class_weight": "ab"}, "`class_weight` to be finite .*Received: 'ab'"),
        ({"class_weight": 3.0}, "`class_weight` to be finite .*Received: 3.0"),
        ({"class_weight": {0: 1.0}}, "`class_weight` to be finite .*{0: 1.0}"),
    ],
)
def test_wrong_options_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"Expected .*{message}"):
        EnergyOptions(**options)


def test_names_are_known_without_tensorflow() -> None:
    code = (
        "import sys; sys.argv = ['tf-levelset']\n"
        "from tf_levelset.energy.options import HEAVISIDES\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)), HEAVISIDES[0])"
    )
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.split() == ["[]", "mahf"]
