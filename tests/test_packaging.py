"""What is built and installed, beside the packages of others."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "tf_levelset": "tf_levelset",
    "models": "tf_levelset/models",
    "datasets": "tf_levelset/datasets",
}
"""Where a folder of the repository is installed."""

pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None,
    reason="git tells the project's files from others",
)


def run(*command: str, cwd: Path, path: Path | None = None) -> str:
    """Runs a command, with a folder to import from first; returns what it printed."""
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    result = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    return run(sys.executable, *arguments, cwd=cwd, path=path)


def module_files(clone: Path) -> set[str]:
    """The installed path of every module."""
    files = set()
    for folder, installed in PACKAGES.items():
        for path in (clone / folder).rglob("*.py"):
            name = path.relative_to(clone / folder)
            # What the symlinks show is listed under its own folder (whether they are
            # followed depends on the version of Python).
            if folder != "tf_levelset" or name.parts[0] not in PACKAGES:
                files.add((Path(installed) / name).as_posix())
    return files


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project's files, symlinks as symlinks, to build in."""
    folder = tmp_path_factory.mktemp("clone")
    listed = run(
        *("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT,
    )
    for name in listed.split("\0"):
        source = ROOT / name
        if not name or not os.path.lexists(source):
            continue  # deleted, but not yet from the index
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from an sdist that lies beside it."""
    out = tmp_path_factory.mktemp("dist")
    # Without isolation, which would fetch setuptools.
    python("-m", "build", "--no-isolation", "--outdir", str(out), cwd=clone)
    (wheel,) = out.glob("*.whl")
    return wheel


# --- A bare clone ---


def test_a_clone_imports_from_its_root(clone: Path) -> None:
    code = (
        "import sys, tf_levelset.datasets, tf_levelset.models\n"
        "print(tf_levelset.datasets.__file__)\n"
        "print(tf_levelset.models.__file__)\n"
        "print(sorted({'models', 'datasets'} & set(sys.modules)))"
    )
    *found, plain = python("-c", code, cwd=clone, path=clone).splitlines()
    for name, file in zip(("datasets", "models"), found, strict=True):
        link = clone / "tf_levelset" / name
        assert link.is_symlink()
        assert Path(os.readlink(link)) == Path("..") / name
        assert Path(file) == link / "__init__.py"
        assert Path(file).resolve() == (clone / name / "__init__.py").resolve()
    # A second name would be a second module, and register each Keras class twice.
    assert plain == "[]"


# --- Archives ---


def test_wheel_holds_each_module_once_and_inside_our_package(
    clone: Path, wheel: Path
) -> None:
    with zipfile.ZipFile(wheel) as file:
        counts = Counter(file.namelist())
        (entry_points,) = (n for n in counts if n.endswith("entry_points.txt"))
        scripts = file.read(entry_points).decode()
    assert set(counts.values()) == {1}
    metadata = {name for name in counts if ".dist-info/" in name}
    assert {name.partition("/")[0] for name in set(counts) - metadata} == {
        "tf_levelset"
    }
    assert {name for name in counts if name.endswith(".py")} == module_files(clone)
    # By name too: the expectation above is derived from the folders.
    assert {
        "tf_levelset/models/deeplab.py",
        "tf_levelset/datasets/camvid.py",
        "tf_levelset/py.typed",
        "tf_levelset/reporting/templates/report.html",
    } <= set(counts)
    assert any(name.endswith("/LICENSE") for name in metadata)
    assert "tf-levelset = tf_levelset.commands.main:main" in scripts


# --- Beside another project's `datasets` ---


def test_lives_beside_a_package_called_datasets(
    clone: Path, wheel: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    (site / "datasets").mkdir(parents=True)
    theirs = {"__init__.py": "OWNER = 'another project'\n", "camvid.py": ""}
    for name, content in theirs.items():
        (site / "datasets" / name).write_text(content)
    python(
        *("-m", "pip", "install", "--no-deps", "--no-index", "--no-compile"),
        *("--target", str(site), str(wheel)),
        cwd=tmp_path,
    )
    left = {path.name: path.read_text() for path in (site / "datasets").iterdir()}
    assert left == theirs
    (record,) = site.glob("tf_levelset-*.dist-info/RECORD")
    with record.open(newline="") as file:
        ours = {row[0] for row in csv.reader(file)}
    assert module_files(clone) <= ours
    # Whichever is installed first: no file of ours is where theirs are.
    assert not [name for name in ours if name.startswith(("datasets/", "models/"))]
    # pip --target would rather skip a folder than overwrite it: all must be there,
    # but for the script, whose place is recorded as a prefix would have it.
    for name in ours:
        assert name.startswith("../") or (site / name).is_file(), name

    code = (
        "import datasets, datasets.camvid, tf_levelset.datasets as ours\n"
        "print(datasets.OWNER, datasets.__file__)\n"
        "print(ours.list_datasets(), ours.__file__)"
    )
    other, own = python("-c", code, cwd=tmp_path, path=site).splitlines()
    assert other == f"another project {site / 'datasets' / '__init__.py'}"
    assert own.endswith(str(site / "tf_levelset" / "datasets" / "__init__.py"))
    assert "camvid" in own

    helped = run(str(site / "bin" / "tf-levelset"), "--help", cwd=tmp_path, path=site)
    assert "train" in helped
    assert "export" in helped
