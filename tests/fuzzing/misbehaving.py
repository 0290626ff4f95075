"""An entrance whose cases do, by their number, all that a case must not do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.case import Case


def _crash(folder: Path) -> None:
    os.abort()


def _hang(folder: Path) -> None:
    time.sleep(60)


def _fill(folder: Path) -> None:
    np.ones(96 * 2**20, np.uint8).sum()


def _claim(folder: Path) -> None:
    bytearray(2**40)


def _refuse(folder: Path) -> None:
    raise ValueError("Expected something else. Received: this")


def _print(folder: Path) -> None:
    print('{"number": 17}')
    os.write(1, b"noise\n")


ACTS: tuple[Callable[[Path], Any], ...] = (
    _print,
    _crash,
    _hang,
    _fill,
    _claim,
    _refuse,
)


def make(rng: np.random.Generator) -> Case:
    generator: Any = rng.bit_generator
    # NumPy has named it without the underscore from 1.25 on.
    seeds = getattr(generator, "seed_seq", None) or generator._seed_seq
    number = seeds.entropy[-1]
    act = ACTS[number % len(ACTS)]
    return Case({"act": act.__name__}, "either", act, lambda answer: None)
