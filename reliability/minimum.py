"""Runs the test suite with the oldest versions that our dependencies may have.

The lower bounds of `setup.cfg` are the only list of them: each is installed as it
stands there, in a virtual environment of its own that does not stay, and the suite is
run. One set cannot show both Keras 2 and Keras 3: `--instead` names what the other has
higher. Of what others depend on, pip takes the newest that fits, as always.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tf_levelset.files import read_json, write_json
from tf_levelset.inference.score_table import table

ROOT = Path(__file__).resolve().parent.parent

EXTRAS = ("test", "report", "runtimes", "server", "serving")
"""What the suite needs, less the dense CRF, which is compiled."""

OLD_WARN = tuple(
    argument
    for kind in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning")
    for argument in ("-W", f"default::{kind}")
)
"""Old libraries announce the end of what newer ones have ended; else it is an error."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the trial's options to its parser."""
    parser.add_argument("--out", type=Path, help="the JSON file")
    parser.add_argument(
        "--instead",
        nargs="+",
        default=[],
        metavar="NAME==VERSION",
        help="of these packages not the lowest version, but this one",
    )
    parser.add_argument("--extras", nargs="*", default=EXTRAS, help="of setup.cfg")
    parser.add_argument(
        "--tests", nargs="+", default=[], help="files of tests; default: all"
    )
    parser.add_argument(
        "--table", type=Path, metavar="FOLDER", help="only print what its files found"
    )
    parser.add_argument(
        "--scratch", type=Path, help="folder for the environment, removed in the end"
    )


def run(options: argparse.Namespace) -> bool:
    """Runs the suite, writes what it found, and tells whether it passed."""
    if options.table is not None:
        print(summary(options.table), end="")
        return True
    began = time.perf_counter()
    pins = lowest(requirements(options.extras)) | pinned(options.instead)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        python = install(Path(scratch), pins, options.extras)
        report = Path(scratch) / "report.xml"
        command = ["-m", "pytest", *suite(options.tests), f"--junitxml={report}"]
        subprocess.run(
            [str(python), *command],
            cwd=ROOT,
            # Tests start the programs of the environment by their names.
            env={
                **os.environ,
                "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            },
            check=False,
        )
        found = {
            "trial": "minimum",
            "python": sys.version.split()[0],
            "extras": list(options.extras),
            "instead": options.instead,
            "tests": options.tests or "all",
            "versions": installed(python, pins),
            **outcomes(report),
            "seconds": round(time.perf_counter() - began, 1),
        }
    print(json.dumps(found, indent=1))
    if options.out is not None:
        write_json(options.out, found)
    return not found["failed"] and found["passed"] > 0


def suite(tests: Sequence[str]) -> list[str]:
    """The arguments of pytest: in one process, whose memory one machine has."""
    return ["-q", "-n0", "-p", "no:cacheprovider", *OLD_WARN, *tests]


def requirements(extras: Iterable[str]) -> list[Requirement]:
    """What setup.cfg asks for, always and in some extras."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = [config["options"]["install_requires"]]
    lists += [config["options.extras_require"][extra] for extra in extras]
    lines = [line.strip() for text in lists for line in text.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def all_extras() -> list[str]:
    """The names of all extras."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return list(config["options.extras_require"])


def lower_bound(requirement: Requirement) -> Version | None:
    """The lowest version that a requirement takes, None if it takes any."""
    found = [
        Version(specifier.version.removesuffix(".*"))
        for specifier in requirement.specifier
        if specifier.operator in (">=", "==", "~=")
    ]
    return max(found, default=None)


def lowest(required: Iterable[Requirement]) -> dict[str, str]:
    """The lowest version that all requirements of a package take, by its name.

    Raises:
        ValueError: for a requirement without a lower bound.
    """
    pins: dict[str, Version] = {}
    for requirement in required:
        bound = lower_bound(requirement)
        if bound is None:
            raise ValueError(f"Expected a lower bound. Received: {requirement}")
        name = canonicalize_name(requirement.name)
        pins[name] = max(bound, pins.get(name, bound))
    return {name: str(version) for name, version in pins.items()}


def pinned(arguments: Iterable[str]) -> dict[str, str]:
    """Versions by name, of arguments such as `keras==3.10.0`.

    Raises:
        ValueError: for an argument of another form.
    """
    pins: dict[str, str] = {}
    for argument in arguments:
        match = re.fullmatch(r"([\w.-]+)==([\w.]+)", argument)
        if match is None:
            raise ValueError(f"Expected NAME==VERSION. Received: {argument!r}")
        pins[canonicalize_name(match[1])] = match[2]
    return pins


def install(folder: Path, pins: Mapping[str, str], extras: Sequence[str]) -> Path:
    """Makes an environment with these versions; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{n}=={v}\n" for n, v in pins.items()))
    project = f"{ROOT}[{','.join(extras)}]"
    pip = (str(python), "-m", "pip", "--disable-pip-version-check")
    options = ("--constraint", str(constraints))
    subprocess.run([*pip, "install", *options, project], check=True)
    subprocess.run([*pip, "check"], check=True)
    return python


def installed(python: Path, names: Iterable[str]) -> dict[str, str]:
    """The versions of packages in an environment, as they are."""
    command = [str(python), "-m", "pip", "list", "--format", "json"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True)
    versions: dict[str, str] = {
        canonicalize_name(entry["name"]): entry["version"]
        for entry in json.loads(listed.stdout)
    }
    return {name: versions[name] for name in sorted(names)}


def outcomes(report: Path) -> dict[str, Any]:
    """What a report of pytest's counts, and the names of what failed."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [case for case in cases if _is(case, "failure") or _is(case, "error")]
    skipped = [case for case in cases if _is(case, "skipped")]
    reasons = Counter(
        # Less paths of this machine.
        re.sub(r"/\S*/", "", next(case.iter("skipped")).get("message", ""))
        for case in skipped
    )
    return {
        "passed": len(cases) - len(failed) - len(skipped),
        "failed": len(failed),
        "skipped": len(skipped),
        "failures": sorted(
            f"{case.get('classname')}::{case.get('name')}" for case in failed
        ),
        "reasons_of_skipped": dict(reasons.most_common()),
    }


def _is(case: ElementTree.Element, outcome: str) -> bool:
    return next(case.iter(outcome), None) is not None


def summary(folder: Path) -> str:
    """What the JSON files of a folder found, as a Markdown table."""
    found = [read_json(path) for path in sorted(folder.glob("*.json"))]
    versions = [result["versions"] for result in found]
    titles = [f"Keras {v['keras']}, TensorFlow {v['tensorflow']}" for v in versions]
    names = sorted(set().union(*versions) - {"keras", "tensorflow"})
    rows = [["", *titles], ["Python", *(result["python"] for result in found)]]
    rows += [[name, *(v.get(name, "–") for v in versions)] for name in names]
    for key in ("passed", "failed", "skipped"):
        rows.append([f"tests {key}", *(str(result[key]) for result in found)])
    return table(rows)
