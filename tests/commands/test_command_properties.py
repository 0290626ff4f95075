"""Commands with drawn options, recipes and damaged runs: done, or refused in a line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import made_up_runs
import pytest
from bad_files import damaged
from bad_input import Refused, answer_of, examples
from hypothesis import given
from hypothesis import strategies as st

from tf_levelset.commands.main import main
from tf_levelset.training.compiled import build_loss, build_optimizer
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import RECIPES, smoke
from tf_levelset.training.run import Run

TINY = (
    *("train", "--iterations", "1", "--batch-size", "2", "--losses", "ls"),
    *("--width", "0.02", "--depth", "0.01", "--dilation", "1", "--set"),
    'dataset_options={"num_samples": 4, "size": [33, 41]}',
)
"""A training that reaches its first step within a second; later options override it."""


def run(arguments: Sequence[str]) -> str | Refused:
    """Runs a command in this process, a training until its first step."""
    out, err = io.StringIO(), io.StringIO()
    stop = mock.patch.object(Run, "fit", side_effect=KeyboardInterrupt)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), stop:
        try:
            code = main(list(arguments))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else -1
        except KeyboardInterrupt:
            code = 130
    text = err.getvalue()
    if code in (0, 130):
        return out.getvalue()
    assert code in (1, 2), text
    assert "error: " in text, text
    assert code == 2 or "xpected" in text or "[Errno " in text, text
    return Refused(text)


@contextlib.contextmanager
def inside_a_new_folder() -> Iterator[Path]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


# --- Options and recipes ---

JSON_VALUES: list[Any] = [None, True, -1, 0, 1.5, float("nan"), float("inf"), 2**70]
JSON_VALUES += ["", "a", "1", [], [1], ["a"], [None], {}, {"a": 1}, [[]]]


@st.composite
def changed(draw: st.DrawFn, values: Any) -> Any:
    """JSON with one value replaced, removed or added."""
    kind = draw(
        st.sampled_from(["inside", "inside", "inside", "replace", "remove", "add"])
    )
    if isinstance(values, dict) and values and kind != "replace":
        key = draw(st.sampled_from(sorted(values)))
        if kind == "remove":
            return {k: v for k, v in values.items() if k != key}
        if kind == "add":
            return {**values, f"{key}_": values[key]}
        return {**values, key: draw(changed(values[key]))}
    if isinstance(values, list) and values and kind == "inside":
        place = draw(st.integers(0, len(values) - 1))
        return [*values[:place], draw(changed(values[place])), *values[place + 1 :]]
    return draw(st.sampled_from(JSON_VALUES))


def built(values: Any) -> Recipe:
    recipe = Recipe.from_json(values)
    for name in recipe.losses:
        build_loss(recipe, name, 255)
    build_optimizer(recipe, 10)
    return recipe


@examples(60)
@given(st.sampled_from(sorted(RECIPES)), st.data())
def test_a_changed_recipe_is_refused_or_taken_as_it_is(
    name: str, data: st.DataObject
) -> None:
    answer = answer_of(built, data.draw(changed(smoke(RECIPES[name]).to_json())))
    if not isinstance(answer, Refused):
        written = json.loads(json.dumps(answer.to_json()))
        assert Recipe.from_json(written).to_json() == written


@examples(8)
@given(st.data())
def test_settings_are_refused_or_trained_with(data: st.DataObject) -> None:
    fields = RECIPES["synthetic"].to_json()
    name = data.draw(st.sampled_from([*fields, "nothing", "nothing.item", ""]))
    value = json.dumps(data.draw(changed(fields.get(name))))
    with inside_a_new_folder():
        run([*TINY, "--set", f"{name}={value}", "--output", "run"])


# --- Files of runs, and where results are written ---

EVALUATION = made_up_runs.evaluation(
    0.5,
    dataset="synthetic/val",
    flip=False,
    scales=[1.0],
    crf=None,
    seconds_per_image={"net": 0.1, "crf": 0.0},
)
RUN: dict[str, Any] = {
    "config.json": RECIPES["synthetic"].to_json(),
    "report.json": {"versions": {"keras": "3"}},
    "ls/evaluation.json": EVALUATION,
    "ls/history.json": made_up_runs.history(),
    "ls/classes.json": list(made_up_runs.CLASSES),
    "ls/palette.json": [[0, 0, 0]] * 8,
    "evaluation-val-flip.json": {"ls": {**EVALUATION, "flip": True}},
}
COMMANDS = (
    ("tables", "."),
    ("report", "run", "--output", "report.html"),
    ("report", "run/ls", "--output", "report.html"),
    ("evaluate", "run"),
    ("figures", "run"),
    ("submit", "run/ls", "out"),
    ("export", "run/ls", "out"),
    (*TINY, "--output", "run"),
)


@examples(30)
@given(st.sampled_from(COMMANDS), st.sampled_from(sorted(RUN)), st.data())
def test_a_damaged_file_of_a_run(
    command: Sequence[str], name: str, data: st.DataObject
) -> None:
    contents = {n: json.dumps(value).encode() for n, value in RUN.items()}
    contents[name] = data.draw(
        damaged(contents[name])
        | changed(RUN[name]).map(lambda value: json.dumps(value).encode())
        | st.just(b"[" * 100_000)
    )
    with inside_a_new_folder() as folder:
        for n, content in contents.items():
            (folder / "run" / n).parent.mkdir(parents=True, exist_ok=True)
            (folder / "run" / n).write_bytes(content)
        run(command)


@pytest.mark.parametrize("place", ["file/x", "/proc/nowhere", "/dev/null/x", "file"])
@pytest.mark.parametrize(
    "command",
    [
        ("tables", ".", "--output"),
        (*TINY, "--output"),
        ("predict", "nothing.keras", "file", "--output"),
        ("export", "nothing.keras"),
    ],
)
def test_outputs_where_nothing_can_be_written(
    command: Sequence[str], place: str
) -> None:
    with inside_a_new_folder() as folder:
        (folder / "file").write_text("a file")
        assert isinstance(run([*command, place]), Refused)
