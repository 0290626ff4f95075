"""Commands write only to the folder that they are given, with the user's rights."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tf_levelset.commands.main import main

ROOT = Path(__file__).parent.parent

# Runs commands in one process and records the paths that Python changes, the programs
# that it starts and the hosts that it connects to. TensorFlow writes files without
# Python: these are found by comparing the folders before and after.
CHILD = """
import json, os, sys

changes = []
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PATHS = {
    "os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.link": 2,
    "os.symlink": 2, "os.chmod": 1, "os.chown": 1,
}
OTHERS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork",
          "socket.connect", "socket.getaddrinfo")

def hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, (str, bytes, os.PathLike)) and flags & WRITES:
            changes.append(("open", os.path.abspath(os.fsdecode(path))))
    elif event in PATHS:
        folder = arguments[-1]  # a descriptor of the folder that paths start from
        at = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else os.getcwd()
        for path in arguments[: PATHS[event]]:
            if isinstance(path, (str, bytes, os.PathLike)):
                changes.append((event, os.path.join(at, os.fsdecode(path))))
    elif event in OTHERS:
        changes.append((event, str(arguments)))

import keras, matplotlib.font_manager, tensorflow  # with their own caches
from tf_levelset.commands.main import main

os.umask(0o027)
sys.addaudithook(hook)
found = {}
for name, arguments in json.loads(sys.argv[1]).items():
    changes.clear()
    assert main([name, *arguments]) == 0, name
    found[name] = list(changes)
with open(sys.argv[2], "w") as stream:
    json.dump(found, stream)
"""

TRAIN = (
    *("--losses", "ls", "--iterations", "2", "--set", "dataset_options.num_samples=6"),
    *("dataset_options.size=[33,40]", "batch_size=3", "loss_stride=8"),
    *("--width", "0.02", "--depth", "0.01", "--dilation", "1"),
)

LIBRARIES = ("home/.keras/", "home/.cache/matplotlib/", "home/.config/matplotlib/")
"""Caches that Keras and matplotlib write whoever uses them."""


class Tree:
    """Folders of a user, with data to read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("home", "cwd", "tmp", "data/images", "data/masks", "out"):
            (root / name).mkdir(parents=True)
        rng = np.random.default_rng(0)
        for index in range(2):
            image = rng.integers(0, 256, (33, 40, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / f"data/images/{index}.png")
            Image.fromarray(image[..., 0] // 200).save(root / f"data/masks/{index}.png")
        (root / "data/classes.txt").write_text("background\nobject\n")

    def commands(self) -> dict[str, list[str]]:
        """The arguments of every command, with an output folder for each."""
        out, run = self.root / "out", str(self.root / "out/train")
        image = str(self.root / "data/images/0.png")
        one = {name: str(out / name) for name in ("evaluate", "predict", "figures")}
        return {
            "train": [*TRAIN, "--output", run],
            "evaluate": [run, "--output", one["evaluate"]],
            "export": [f"{run}/ls", str(out / "export")],
            "predict": [
                *(f"{run}/ls", image, "--probabilities"),
                *("--output", one["predict"]),
            ],
            "figures": [run, "--output", one["figures"]],
            "report": [run, "--output", str(out / "report/report.html")],
            "tables": [run, "--output", str(out / "tables")],
            "check-data": [
                *("--data-dir", str(self.root / "data")),
                *("--splits", "train"),
            ],
        }

    def files(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file except the outputs."""
        paths = [p for p in self.root.rglob("*") if p.is_file()]
        names = {p.relative_to(self.root).as_posix(): p.stat() for p in paths}
        return {
            name: (found.st_size, found.st_mtime_ns)
            for name, found in names.items()
            if not name.startswith("out/")
        }


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(tmp_path_factory.mktemp("user"))


def run_all(tree: Tree, noted: Path) -> dict[str, list[tuple[str, str]]]:
    """Runs every command in one process; returns what each changed."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "MPL"))},
        "HOME": str(tree.root / "home"),
        "TMPDIR": str(tree.root / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
    }
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(tree.commands()), str(noted)],
        cwd=tree.root / "cwd",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(noted.read_text())


# This is one test, because all that it checks comes from one process.
@pytest.mark.skipif(
    not Path("/proc/self/fd").exists(),
    reason="needs /proc/self/fd",
)
def test_commands_change_their_output_folder_alone(tree: Tree, tmp_path: Path) -> None:
    before = tree.files()
    changes = run_all(tree, tmp_path / "changes.json")
    # The files that are left, whoever wrote them.
    after = tree.files()
    new = set(after) - set(before)
    assert not {name for name in new if not name.startswith(LIBRARIES)}
    assert {name: after.get(name) for name in before} == before
    out = tree.root / "out"
    assert {path.name for path in out.iterdir()} == set(changes) - {"check-data"}
    # Temporary files, programs and connections, as Python reports them.
    for command, noted in changes.items():
        own = [out / command, tree.root / "tmp"]
        elsewhere = [
            (event, path)
            for event, path in noted
            if not any(map(Path(path).is_relative_to, own))
            and path not in ("/dev/null", str(out))
        ]
        assert not elsewhere, command
        assert bool(noted) == (command != "check-data")
    for path in out.rglob("*"):
        rights = stat.S_IMODE(path.stat().st_mode)
        assert rights == (0o750 if path.is_dir() else 0o640), path
        assert path.stat().st_uid == os.getuid()


# --- Links ---


def with_link(folder: Path, name: str, elsewhere: Path) -> Path:
    """Creates a link in a folder that leads out of it."""
    elsewhere.mkdir()
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(elsewhere)
    return elsewhere


@pytest.mark.parametrize("name", ["ls", "ls/checkpoint", "ls/events", "ls/export"])
def test_training_follows_no_link_out_of_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    elsewhere = with_link(tmp_path / "run", name, tmp_path / "elsewhere")
    assert main(["train", *TRAIN, "--output", str(tmp_path / "run")]) == 1
    assert "Expected a path inside" in capsys.readouterr().err
    assert not list(elsewhere.iterdir())


def test_prediction_follows_no_link_out_of_its_folder(
    tree: Tree, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The output folder itself may be a link.
    out = with_link(tmp_path, "link", tmp_path / "out")
    arguments = ["predict", str(finished_run / "ls"), str(tree.root / "data/images")]
    arguments += ["--output", str(tmp_path / "link")]
    assert main(arguments) == 0
    (out / "masks").rename(tmp_path / "masks")
    elsewhere = with_link(out, "masks", tmp_path / "elsewhere")
    assert main(arguments) == 1
    assert "Expected a path inside" in capsys.readouterr().err
    assert not list(elsewhere.iterdir())
