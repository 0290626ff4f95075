"""What counts as a number, and how a user's options reach a function."""

from __future__ import annotations

import inspect
import json
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from bad_input import examples
from hypothesis import given
from hypothesis import strategies as st

import tf_levelset
from tf_levelset.checks import (
    call_with_options,
    check_numeric,
    is_number,
    is_whole,
    plain,
    reason,
    sentence,
)
from tf_levelset.datasets import Augmentation, load_dataset
from tf_levelset.inference.crf import DenseCRF
from tf_levelset.models import deeplab_largefov, layers
from tf_levelset.models.catalog import scaled_rates
from tf_levelset.optimizers.schedules import schedule
from tf_levelset.training.recipe import Recipe


@pytest.mark.parametrize(
    "value", [0, -1.5, np.float32(2), np.int64(3), Fraction(1, 3), float("inf")]
)
def test_numbers(value: Any) -> None:
    for number in (value, np.array(float(value)), tf.constant(float(value))):
        assert is_number(number)


@pytest.mark.parametrize(
    "value",
    ["1", b"1", None, True, [1.0], {}, 1j, float("nan"), np.ones(2), 10**400, object()],
)
def test_what_is_no_number(value: Any) -> None:
    assert not is_number(value)


def test_whole_numbers() -> None:
    assert all(map(is_whole, [0, -3, np.uint8(7), 2**70]))
    assert not any(map(is_whole, [1.0, True, "1", None, float("nan"), np.float32(1)]))


@pytest.mark.parametrize(
    "values",
    [
        np.array(["a"]),
        np.array([1j]),
        np.array([None]),
        np.array(["2020-01-01"], "datetime64[D]"),
        tf.constant(["a"]),
    ],
)
def test_arrays_of_other_things(values: Any) -> None:
    for dtype in ("float16", "bfloat16", "uint8", "int64", "bool"):
        check_numeric("y_true", tf.cast(tf.zeros(3), dtype))
        check_numeric("y_true", tf.cast(tf.zeros(3), dtype).numpy())
    check_numeric("y_true", [0, 1])  # lists are not looked into
    with pytest.raises(ValueError, match="Expected `y_true` to hold real numbers"):
        check_numeric("y_true", values)


# --- NumPy's numbers as options ---

INTEGERS = [np.uint8, np.int8, np.uint16, np.int64]
FLOATS = [np.float16, np.float32, np.float64, np.longdouble]
BFLOAT16 = tf.bfloat16.as_numpy_dtype


@pytest.mark.parametrize("dtype", [bool, *INTEGERS, *FLOATS, BFLOAT16])
def test_plain_numbers(dtype: Any) -> None:
    number = np.ones((), dtype)
    constant = () if dtype is np.longdouble else (tf.constant(number),)
    for scalar in (number, number[()], *constant):
        found = plain({"a": [scalar, (scalar,)]})["a"]
        assert found == [1, (1,)]
        assert {type(found[0]), type(found[1][0])} <= {bool, int, float}
        assert is_number(scalar) == (dtype is not bool)
        assert is_whole(scalar) == (np.dtype(dtype).kind in "iu")
    assert json.dumps(plain(np.ones((1, 2), dtype))) in (
        *("[[1, 1]]", "[[1.0, 1.0]]", "[[true, true]]"),
    )
    variable = tf.Variable(1.0)
    assert plain(variable) is variable


VALUES: dict[str, Any] = {
    **{"num_classes": 2, "ignore_class": 7, "axis": 1, "threshold": 0.5},
    **{"class_weight": [1.0, 2.0], "level_set_class_weight": [2.0, 0.5]},
    **{"class_names": ["road", "sky"], "classes": [1, 0], "width": 3, "stride": 8},
    **{"multipliers": [("bias", 2.0, 0.0)], "scale": 0.5, "sparse_y_pred": False},
}
"""Values of options, where these are not the numbers that are their defaults."""

CLASSES = [
    *(getattr(tf_levelset, name) for name in tf_levelset.__all__),
    *(layer for layer in vars(layers).values() if isinstance(layer, type)),
]


def options_of(cls: Any) -> dict[str, Any]:
    """Returns each option of a class that is a number or holds some or names."""
    parameters = dict(inspect.signature(cls).parameters)
    if "options" in parameters:
        parameters |= inspect.signature(tf_levelset.MeanIoU).parameters
    values = {name: VALUES.get(name, p.default) for name, p in parameters.items()}
    kinds = (int, float, list)
    return {name: value for name, value in values.items() if isinstance(value, kinds)}


CONFIGURED = [
    cls
    for cls in CLASSES
    if hasattr(cls, "get_config") and cls.__name__[0] != "_" and options_of(cls)
]


@pytest.mark.parametrize("cls", CONFIGURED, ids=lambda c: c.__name__)
@examples(4)
@given(data=st.data())
def test_options_of_numpy_are_those_of_python(cls: Any, data: st.DataObject) -> None:
    options, theirs = options_of(cls), {}
    for name, value in options.items():
        array = np.array(value, object if name == "multipliers" else None)
        if array.dtype.kind in "if":
            dtypes = INTEGERS if array.dtype.kind == "i" else FLOATS
            exact = [dtype for dtype in dtypes if (array.astype(dtype) == array).all()]
            array = array.astype(data.draw(st.sampled_from(exact), label=name))
        theirs[name] = array[()]
    config = json.loads(json.dumps(cls(**theirs).get_config()))
    expected = cls(**options).get_config()
    del config["name"], expected["name"]  # of metrics and layers, these are numbered
    assert config == json.loads(json.dumps(expected))


@pytest.mark.parametrize("cls", CONFIGURED, ids=lambda c: c.__name__)
@pytest.mark.parametrize("wrong", ["other", "False", 1, 0.0, None, [True]])
def test_what_is_neither_true_nor_false(cls: Any, wrong: Any) -> None:
    options = options_of(cls)
    for name in [name for name, value in options.items() if type(value) is bool]:
        with pytest.raises(ValueError, match=rf"Expected `{name}` to be True or False"):
            cls(**{**options, name: wrong})


def test_functions_and_plain_data_take_numbers_of_numpy() -> None:
    three: Any = np.uint8(3)
    half: Any = np.float32(0.5)
    yes: Any = np.True_
    size: Any = np.array([40, 40], np.uint8)
    net = deeplab_largefov(three, width=half / 32, dilation=three, upsample=yes)
    assert net.output_shape[-1] == 3
    net.to_json()
    source = load_dataset("synthetic", num_samples=three, size=size, num_classes=three)
    assert source.load(0)[0].shape == (40, 40, 3)
    recipe = Recipe(
        "synthetic",
        batch_size=three,
        learning_rate=half,
        dataset_options={"size": size},
        augmentation=Augmentation(crop=size, scale=half * np.array([1, 2]), flip=yes),
    )
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.augmentation == Augmentation(crop=(40, 40), scale=(0.5, 1), flip=True)
    assert DenseCRF(three, bilateral_xy=half) == DenseCRF(3, bilateral_xy=0.5)
    assert schedule("constant", half, np.uint8(200)) == 0.5
    total = tf_levelset.LossSum([tf_levelset.FocalLoss()], [three])
    json.dumps(total.get_config())
    assert scaled_rates([three, 6 * three], 54 * three) == (2, 9)
    with pytest.raises(ValueError, match=r"Expected .*Received: nan"):
        Augmentation(resize_scale=np.float32("nan"))


# --- call_with_options ---


def double(value: int, *, times: int = 2) -> int:
    return value * times


def test_passes_the_options_that_the_function_takes() -> None:
    assert call_with_options("double", double, 3) == 6
    assert call_with_options("double", double, 3, times=5) == 15
    with pytest.raises(ValueError, match="Expected options that 'double' takes"):
        call_with_options("double", double, 3, factor=5)


def test_what_is_fixed_is_no_option() -> None:
    triple = partial(double, times=3)
    assert call_with_options("triple", triple, 3) == 9
    with pytest.raises(ValueError, match=r"'triple' takes.*\['times'\] are fixed"):
        call_with_options("triple", triple, 3, times=5)


def test_errors_inside_are_left_as_they_are() -> None:
    def broken() -> None:
        raise TypeError("inside")

    with pytest.raises(TypeError, match="inside"):
        call_with_options("broken", broken)


def typed(flag: bool = False, number: float = 0.5, count: int | None = None) -> float:
    return number if flag else float(count or 0)


@pytest.mark.parametrize(
    "options",
    [
        {"flag": "False"},  # a text that would pass for true
        {"number": "0.5"},
        {"number": float("nan")},
        {"count": True},
    ],
)
def test_options_have_the_annotated_types(options: dict[str, Any]) -> None:
    assert call_with_options("typed", typed, flag=True, number=2) == 2
    assert call_with_options("typed", typed, count=3) == 3
    assert call_with_options("typed", typed, count=None) == 0
    with pytest.raises(ValueError, match="must be of type"):
        call_with_options("typed", typed, **options)


# --- Errors of libraries ---

OURS = "Expected labels in a.png. Received: [7]"
CALL = """in user code:

    File "/x/predictor.py", line 31, in probabilities  *
        logits = model(image)
    File "/x/input_spec.py", line 239, in assert_input_compatibility
        raise ValueError(

    ValueError: Exception encountered when calling Functional.call().

    \x1b[1mAn input of 3 channels\x1b[0m

    Arguments received by Functional.call():
      • training=False
"""
GRAPH = """Graph execution error:

Detected at node net/concat defined at (most recent call last):
  File "/x/main.py", line 60, in main

  File "/x/predictor.py", line 31, in probabilities

ConcatOp : Dimension 1 differs
\t [[{{node net/concat}}]] [Op:__inference_probabilities_12]"""
NODE = "{{function_node __wrapped__X_device_/job:localhost/device:CPU:0}} "
READ = f"""{NODE}Error in user-defined function passed to ParallelMapDatasetV2:73 \
transformation with iterator: Iterator::Root::ParallelMapV2: ValueError: {OURS}
Traceback (most recent call last):

  File "/x/checks.py", line 40, in expect
    raise ValueError(f"Expected {{expected}}. Received: {{received!r}}")

ValueError: {OURS}
"""
ROOTS = "2 root error(s) found.\n  (0) INVALID_ARGUMENT:  No size fits\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CALL, "An input of 3 channels"),
        (GRAPH, "ConcatOp : Dimension 1 differs"),
        (READ, OURS),
        (f"{NODE}jpeg::Uncompress failed. [Op:DecodeImage] name: ", "jpeg::Uncompress"),
        (
            "assertion failed: [Expected x. Received:] [9] [pixels]",
            "Received: 9 pixels",
        ),
        (ROOTS, "No size fits"),
        ("", "InvalidArgumentError"),
    ],
)
def test_the_reason_in_an_error_of_tensorflow(text: str, said: str) -> None:
    error = tf.errors.InvalidArgumentError(None, None, text)
    assert said in reason(error)
    for leak in ("{{", "File", "\x1b", "Traceback", "[Op:", "node ", "raise "):
        assert leak not in sentence(error)
    assert sentence(error).startswith("Expected ")
    assert "\n" not in sentence(error)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("Unable to allocate 28 GiB"), "free memory. Received: too little"),
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM when allocating [8,513]"),
            "too little (OOM when allocating [8,513]). Train with a smaller --",
        ),
        (FileExistsError(17, "File exists", "out"), "write out. Received: File exists"),
        ("caf\udce9", "names that are UTF-8 text. Received: 'caf\\udce9'"),
        (ValueError(f"{OURS}\n  more"), f"{OURS}\n  more"),
        (ImportError("libcuda is missing"), "libcuda is missing"),
    ],
)
def test_sentences_of_errors(error: Any, said: str) -> None:
    if isinstance(error, str):
        with pytest.raises(UnicodeEncodeError) as raised:
            error.encode()
        error = raised.value
    assert said in sentence(error)
