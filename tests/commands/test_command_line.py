"""The command line as a whole: help, start-up, errors and exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tf_levelset.commands import train
from tf_levelset.commands.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("tensorflow", "keras", "cv2")

CHILD = f"""
import json, sys
sys.argv[0] = "tf-levelset"
from tf_levelset.commands.main import main
codes = []
for arguments in json.loads(sys.argv[1]):
    try:
        codes.append(main(arguments))
    except SystemExit as error:
        codes.append(error.code)
print(json.dumps([codes, [name for name in {HEAVY} if name in sys.modules]]))
"""


def python(
    *arguments: str, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python as a user would, with no level of TensorFlow's log set."""
    inherited = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=inherited | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


# --- Help ---


def test_help_loads_neither_tensorflow_nor_keras_nor_opencv() -> None:
    commands = [["--help"], *([name, "--help"] for name in COMMANDS)]
    commands += [["train", "--list-recipes"], ["train", "--epochs", "many"], []]
    done = python("-c", CHILD, json.dumps(commands))
    *_, last = done.stdout.splitlines()
    assert json.loads(last) == [[0] * (len(commands) - 2) + [2, 2], []]
    assert "argument --epochs: invalid int value: 'many'" in done.stderr
    assert "WARNING" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("program", "usage"),
    [
        (["train_keras.py"], "usage: tf-levelset train"),
        (["-m", "tf_levelset"], "usage: tf-levelset [-h] COMMAND"),
    ],
)
def test_every_program_starts_as_light(program: list[str], usage: str) -> None:
    done = python("-X", "importtime", *program, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(usage)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "tf_levelset.commands.train" in imported
    assert not imported & set(HEAVY)


def options_in(help_text: str) -> dict[str, str]:
    """The text of each option by its name."""
    blocks = re.split(r"\n(?=  -)|\n\n", help_text.partition("\noptions:")[2])
    texts = [" ".join(block.split()) for block in blocks if block.startswith("  -")]
    return {text.partition(" ")[0].strip(","): text for text in texts}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_sentence_and_its_default(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    options = options_in(capsys.readouterr().out)
    assert len(options) > 1
    for name, text in options.items():
        assert text.endswith(".") or name == "-h"
        assert "efault" in text or name in ("-h", "--list-recipes"), text


def test_train_lists_common_options_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    first, *groups = text.partition("\noptions:\n")[2].split("\n\n")
    assert 10 <= len(re.findall(r"^  -", first, re.MULTILINE)) <= 14
    titles = [group.partition(":")[0] for group in groups]
    assert titles == [*train.GROUPS, "checkpoints and execution"]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_help_in_the_encoding_of_the_terminal(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", written)
    commands = [*([name, "--help"] for name in COMMANDS), ["train", "--list-recipes"]]
    for arguments in commands:
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
    written.seek(0)
    text = written.read()
    assert "λ" in text if encoding == "utf-8" else "Weight lambda of the loss" in text
    assert ("–" in text) == (encoding in ("utf-8", "cp1252"))
    assert "\\u" not in text


def test_programs_write_ascii_where_the_terminal_needs_it(own_data: Path) -> None:
    (own_data / "classes.txt").write_text("sky\nčást\n", encoding="utf-8")
    check = ("-m", "tf_levelset", "check-data", "--data-dir", str(own_data))
    done = python(*check, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"| \u010dast " in done.stdout


# --- The log of TensorFlow ---


def test_commands_print_nothing_of_tensorflows_start(
    finished_run: Path, tmp_path: Path
) -> None:
    arguments = ["evaluate", str(finished_run / "ce"), "--output", str(tmp_path)]
    done = python("-m", "tf_levelset", *arguments)
    assert done.stderr == ""
    assert done.stdout.startswith("| loss")
    assert (tmp_path / "evaluation-val.json").exists()


def test_a_level_that_the_user_sets_stays(tmp_path: Path) -> None:
    tables = ("-m", "tf_levelset", "tables", ".")
    done = python(*tables, cwd=tmp_path, TF_CPP_MIN_LOG_LEVEL="0")
    assert done.returncode == 0
    assert done.stderr


# --- Errors and exit codes ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --dataset camvid", "Expected `data_dir`"),
        ("train --dataset camvid --data-dir nowhere", "Expected the list"),
        ("train --sbd-dir x", "Expected options that 'synthetic' takes"),
        ("train --recipe voc", "Expected --recipe to be a name"),
        ("train --recipe camvid --dataset voc", "--dataset camvid"),
        ("train --set width=1", "Expected --set to be FIELD=JSON"),
        ("train --set epochs.x=1", "Expected --set to be FIELD=JSON"),
        ("train --set epochs", "Expected --set to be FIELD=JSON"),
        ("train --set augmentation.flipp=true", "'augmentation.flipp=true'"),
        ("train --set model_options.batch_norm=False", "must be of type bool"),
        ("train --set level_set.signed=no", "must be of type bool"),
        ("train --set level_set.from_logits=false", "'ls' other than ('from_logits'"),
        ("train --smoke --output x", "Expected --smoke without --data-dir"),
        ("train --smoke --distribute workers", "Received: --distribute workers"),
        ("train --epochs 0", "Expected `epochs`"),
        ("train --epsilon 0", "Expected `epsilon`"),
        ("train --keep-checkpoints 0", "Expected `keep` to be at least 1"),
        ("train --weights nowhere.weights.h5", "nowhere.weights.h5"),
        ("evaluate nowhere", "Expected a run folder"),
        ("submit nowhere out", "Expected a run folder"),
        ("report nowhere", "Expected a run folder, or the folder of a"),
        ("tables nowhere", "Expected a folder with runs"),
        ("export nowhere served", "Expected a .keras file"),
        ("predict nowhere a.png --overlap 8", "--tile together with --overlap"),
        ("predict nowhere a.png --tile 20 20 --crf vgg", "needs the whole image"),
        ("predict nowhere a.png --tile 20 20", "half a tile's side. Received: 64"),
    ],
)
def test_errors_are_one_line(
    arguments: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error_of: Callable[..., str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    assert message in error_of(*arguments.split())
    # A command that fails creates no folder.
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(options: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(train, "run", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        main(["train"])


def test_ctrl_c_answers_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run", interrupted)
    assert main(["train"]) == 130
    assert "same command resumes" in capsys.readouterr().out
