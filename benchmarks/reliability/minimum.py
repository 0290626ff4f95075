"""Runs the test suite with the oldest versions that the dependencies may have.

The lower bounds of `setup.cfg` are the only list of them: they are installed in a
temporary virtual environment, and the suite is run there. Because one set cannot show
both Keras 2 and Keras 3, `--instead` names higher versions for the other. Of indirect
dependencies pip installs the newest that fits.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from benchmarks.harness import ROOT

EXTRAS = ("test", "report", "runtimes", "server", "serving")
"""What the suite needs, except the dense CRF, which has to be compiled."""

OLD_WARN = tuple(
    argument
    for kind in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning")
    for argument in ("-W", f"default::{kind}")
)
"""Old libraries announce what newer ones have removed, which is no error here."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this trial."""
    parser.add_argument(
        "--instead",
        nargs="+",
        default=[],
        metavar="NAME==VERSION",
        help="versions to install instead of the lowest ones",
    )
    parser.add_argument("--extras", nargs="*", default=EXTRAS, help="of setup.cfg")
    parser.add_argument("--tests", nargs="+", default=[], help="files; default: all")


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Runs the suite in a new environment; returns versions and outcomes."""
    pins = lowest(requirements(options.extras)) | pinned(options.instead)
    python = install(scratch, pins, options.extras)
    report = scratch / "report.xml"
    # In one process, because a machine may not have the memory for two.
    arguments = ["-q", "-n0", "-p", "no:cacheprovider", *OLD_WARN, *options.tests]
    # Tests start the programs of the environment by their names.
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [str(python), "-m", "pytest", *arguments, f"--junitxml={report}"],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        check=False,
    )
    return {
        "python": sys.version.split()[0],
        "extras": list(options.extras),
        "instead": options.instead,
        "tests": options.tests or "all",
        "versions": installed(python, pins),
        **outcomes(report),
    }


def holds(found: Mapping[str, Any]) -> bool:
    """Tells whether the suite passed."""
    return not found["failed"] and found["passed"] > 0


def requirements(extras: Iterable[str]) -> list[Requirement]:
    """Returns what setup.cfg requires, always and for some extras."""
    config = setup()
    lists = [config["options"]["install_requires"]]
    lists += [config["options.extras_require"][extra] for extra in extras]
    lines = [line.strip() for text in lists for line in text.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def all_extras() -> list[str]:
    """Returns the names of all extras."""
    return list(setup()["options.extras_require"])


def setup() -> configparser.ConfigParser:
    """Reads setup.cfg."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def lower_bound(requirement: Requirement) -> Version | None:
    """Returns the lowest version that a requirement allows; None if it allows any."""
    found = [
        Version(specifier.version.removesuffix(".*"))
        for specifier in requirement.specifier
        if specifier.operator in (">=", "==", "~=")
    ]
    return max(found, default=None)


def lowest(required: Iterable[Requirement]) -> dict[str, str]:
    """Returns the lowest version that all requirements of a package allow, by name.

    Raises:
        ValueError: If a requirement has no lower bound.
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
    """Returns versions by name from arguments such as `keras==3.10.0`.

    Raises:
        ValueError: If an argument has another form.
    """
    pins: dict[str, str] = {}
    for argument in arguments:
        match = re.fullmatch(r"([\w.-]+)==([\w.]+)", argument)
        if match is None:
            raise ValueError(f"Expected NAME==VERSION. Received: {argument!r}")
        pins[canonicalize_name(match[1])] = match[2]
    return pins


def install(folder: Path, pins: Mapping[str, str], extras: Sequence[str]) -> Path:
    """Creates an environment with these versions; returns its Python."""
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
    """Returns the installed versions of packages."""
    command = [str(python), "-m", "pip", "list", "--format", "json"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True)
    versions: dict[str, str] = {
        canonicalize_name(entry["name"]): entry["version"]
        for entry in json.loads(listed.stdout)
    }
    return {name: versions[name] for name in sorted(names)}


def outcomes(report: Path) -> dict[str, Any]:
    """Returns the counts of a JUnit report and the names of failed tests."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [case for case in cases if _is(case, "failure") or _is(case, "error")]
    skipped = [case for case in cases if _is(case, "skipped")]
    messages = [next(case.iter("skipped")).get("message", "") for case in skipped]
    # Without the paths of this machine.
    reasons = Counter(re.sub(r"/\S*/", "", message) for message in messages)
    return {
        "passed": len(cases) - len(failed) - len(skipped),
        "failed": len(failed),
        "skipped": len(skipped),
        "failures": sorted(f"{c.get('classname')}::{c.get('name')}" for c in failed),
        "reasons_of_skipped": dict(reasons.most_common()),
    }


def _is(case: ElementTree.Element, outcome: str) -> bool:
    return next(case.iter(outcome), None) is not None
