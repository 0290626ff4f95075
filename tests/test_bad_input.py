"""The helpers of the tests with bad input: what they accept, bound and produce."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bad_files as files
import numpy as np
import pytest
import tensorflow as tf
from bad_input import Refused, answer_of, bounded_answer_of
from PIL import Image
from scipy.io import loadmat

from tf_levelset.datasets.files.faults import DataSetError, Fault

GOOD = "Expected this. Received: that"


def raise_(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "explained"),
    [
        (ValueError(GOOD), True),
        (DataSetError("x", [Fault("p", "m")]), True),
        (FileNotFoundError(2, "No such file", "x"), True),
        (tf.errors.InvalidArgumentError(None, None, "x"), True),
        (ImportError("x"), True),
        (ValueError("invalid literal"), False),
        (TypeError(GOOD), False),
        (KeyError("x"), False),
        (MemoryError(), False),
        (tf.errors.UnknownError(None, None, GOOD), False),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, GOOD), False),
        (json.JSONDecodeError(GOOD, "", 0), False),
    ],
)
def test_explained_errors_are_answers_and_others_faults(
    error: Exception, explained: bool
) -> None:
    if explained:
        assert answer_of(raise_, error) == Refused(str(error))
        return
    with pytest.raises(AssertionError, match=type(error).__name__):
        answer_of(raise_, error)


@pytest.mark.parametrize(
    ("function", "argument", "fault"),
    [
        (os._exit, 3, "terminated abruptly"),
        (time.sleep, 60, "TimeoutError"),
        (eval, "len(b'a' * (9 << 27))", "at most 1073741824 bytes"),
        (bytearray, 1 << 40, "MemoryError"),
    ],
)
def test_a_child_process_bounds_what_may_crash(
    function: Callable[..., Any], argument: Any, fault: str
) -> None:
    seconds = 1.0 if function is time.sleep else 60.0
    with pytest.raises(AssertionError, match=fault):
        bounded_answer_of(function, argument, seconds=seconds)
    assert bounded_answer_of(abs, -3) == 3


# --- The files ---


def test_bombs_are_whole_files(tmp_path: Path) -> None:
    small = files.encoded(np.zeros((3, 4), np.uint8))
    for content, size in (
        (files.png_bomb(300, 200, 1, whole=True), (300, 200)),
        (files.png_bomb(300, 200, 3, whole=True), (300, 200)),
        (files.tiff_bomb(50, 40), (50, 40)),
        (files.png_text_bomb(small, 1000), (4, 3)),
    ):
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == size
            assert not np.array(image).any()
    (tmp_path / "a.mat").write_bytes(files.mat_bomb("LabelMap", 1001))
    labels = loadmat(tmp_path / "a.mat")["LabelMap"]
    assert (labels.shape, labels.dtype) == ((1001, 1001), np.uint8)
    assert not labels.any()


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_headers_state_another_size(format: str) -> None:
    content = files.encoded(np.zeros((6, 7, 3), np.uint8), format)
    with Image.open(io.BytesIO(files.with_size(content, 70, 60))) as image:
        assert image.size == (70, 60)
