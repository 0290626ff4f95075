"""The trials on toy programs, in short forms, and how they judge what they find."""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.reliability import __main__ as command
from benchmarks.reliability import (
    processes,
    resume,
    serving,
    serving_clients,
    serving_requests,
    workers,
)
from benchmarks.reliability.serving_clients import Answer
from benchmarks.reliability.serving_requests import Malformed, Sound
from tf_levelset.files import read_json

RESULTS = sorted((Path(workers.__file__).parent / "results").glob("*/*.json"))

# --- The command ---


@pytest.mark.parametrize("held", [True, False])
def test_findings_are_written_and_judged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    held: bool,
) -> None:
    def add_options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--times", type=int)

    def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
        assert list(scratch.iterdir()) == []
        return {"times": options.times, "share": 1 / 3, "differences": ["a", "b"]}

    fake = types.SimpleNamespace(
        __doc__="Falls.",
        add_options=add_options,
        measure=measure,
        holds=lambda found: held,
    )
    monkeypatch.setitem(sys.modules, "benchmarks.reliability.fake", fake)
    monkeypatch.setattr(command, "TRIALS", ("fake",))
    folder = tmp_path / "findings"

    def code_of(*arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", ["reliability", "fake", *arguments])
        with pytest.raises(SystemExit) as caught:
            command.main()
        return caught.value.code

    out = ["--out", str(folder / "keras3.json"), "--scratch", str(tmp_path)]
    assert code_of("--times", "3", *out) == (0 if held else 1)
    found = read_json(folder / "keras3.json")
    assert (found["trial"], found["times"]) == ("fake", 3)
    assert {"environment", "seconds"} <= set(found)
    assert list(tmp_path.iterdir()) == [folder]


# --- Kills ---

PROGRAM = """
import hashlib, json, sys, time
from pathlib import Path

output = Path(sys.argv[sys.argv.index("--output") + 1])
keep = 1000 if "--keep-checkpoints" in sys.argv else 2
folder = output / "ls" / "checkpoint"
folder.mkdir(parents=True, exist_ok=True)

def checksums(step):
    paths = [folder / f"step-{step}.{k}" for k in ("data-00000-of-00001", "index")]
    return "".join(
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\\n" for p in paths
    )

def steps():
    return sorted(int(p.stem[5:]) for p in folder.glob("step-*.sha256"))

def whole(step):
    path = folder / f"step-{step}.sha256"
    return path.read_text(errors="replace") == checksums(step)

newest = max(filter(whole, steps()), default=0)
total = 0
if newest and "--forget" not in sys.argv:
    total = json.loads((folder / f"step-{newest}.index").read_text())
for step in range(newest + 1, 31):
    total = 3 * total % 10007 + step
    (folder / f"step-{step}.sha256").unlink(missing_ok=True)
    (folder / f"step-{step}.index").write_text(str(total))
    time.sleep(0.03)
    (folder / f"step-{step}.data-00000-of-00001").write_text("data")
    (folder / f"step-{step}.sha256").write_text(checksums(step))
    for old in steps()[:-keep]:
        for kind in ("sha256", "index", "data-00000-of-00001"):  # in this order
            (folder / f"step-{old}.{kind}").unlink(missing_ok=True)
if "--fail" in sys.argv:
    sys.exit("tf-levelset: error: it fails")
(output / "total").write_text(str(total))
"""


def trial_of(tmp_path: Path, *arguments: str) -> resume.Trial:
    def command(folder: Path, *more: str) -> list[str]:
        out = ["--output", str(folder)]
        return ["-c", PROGRAM, *out, *arguments, *more]

    return resume.Trial(
        tmp_path,
        command,
        random.Random(0),
        read=lambda prefix: {"total": json.loads(Path(f"{prefix}.index").read_text())},
        results=lambda folder: {"total": (folder / "total").read_text()},
    )


def test_kills_are_survived_and_compared(tmp_path: Path) -> None:
    found = trial_of(tmp_path).run(6)
    assert found["differences"] == []
    assert found["kills_survived"] == 6
    assert found["damaged_and_passed_over"] >= 1
    assert found["checkpoints_compared"] > 6
    json.dumps(found)


def test_what_is_forgotten_is_found(tmp_path: Path) -> None:
    found = trial_of(tmp_path, "--forget").run(2)
    assert any("run-1, step-" in where for where in found["differences"])
    assert "run-1: total" in found["differences"]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (np.zeros(1), np.zeros(1), True),
        (np.zeros(1), -np.zeros(1), False),
        (np.full(1, np.nan), np.full(1, np.nan), True),
        (np.zeros(1, np.float32), np.zeros(1, np.int32), False),
        (np.zeros((1, 2)), np.zeros((2, 1)), False),
        (0.1, 0.1, True),
        (0.1, np.nextafter(0.1, 1).item(), False),
        (1, 1.0, False),
        (None, np.zeros(1), False),
        ({"a": [1]}, {"a": [1]}, True),
    ],
)
def test_the_same_is_the_same_bits(a: Any, b: Any, expected: bool) -> None:
    assert processes.same(a, b) is expected


# --- Workers ---


def variables(step: float, statistics: float = 0.0) -> dict[str, np.ndarray]:
    """What `steps` writes: a weight that moves by 1 and by `step` more."""
    return {
        "net/loss/0/weights/0": np.zeros(3, np.float32),
        "net/loss/1/weights/0": np.array([0, 1 + step, 0], np.float32),
        "net/loss/0/statistics/1": np.full(2, 50, np.float32),
        "net/loss/1/statistics/1": np.array([50, 200 + statistics], np.float32),
    }


def found(**changes: Any) -> dict[str, Any]:
    """Findings that hold, except for the changes."""
    row = {"replicas": 2, "processes": 1, "weights": 1e-7, "statistics": 0.0}
    result = {
        "steps": [{**row, "moved": 0.5, **changes.pop("row", {})}],
        "kills": {
            "differences": [],
            "kills_survived": 2,
            "seconds_until_the_other_ended": [3.0, 8.5],
            "runs": 1,
            "values_compared": 77,
        },
    }
    packages = {"keras": "3.15.1", "tensorflow": "2.21.0"}
    return {**result, "environment": {"packages": packages}, **changes}


def test_differences_are_told_by_their_kind() -> None:
    (row,) = workers.differences(variables(0), variables(0.25, statistics=10))
    assert row == {
        "net": "net",
        "loss": "loss",
        "weights": 0.25,
        "statistics": pytest.approx(0.05),  # of the largest
        "moved": 1.0,
    }
    (row,) = workers.differences(variables(0), variables(float("nan")))
    assert row["weights"] == float("inf")
    with pytest.raises(ValueError, match=r"same variables\. Received: .*weights/0"):
        workers.differences(variables(0), {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"row": {"weights": 2e-6}},
        {"row": {"statistics": 3e-6}},
        {"row": {"statistics": 0.01}, "environment": {"packages": {"keras": "2.15.0"}}},
        {"row": {"moved": 1e-9}},  # of nothing that is trained one learns nothing
        {"kills": {"differences": ["run 1: model/0"]}},
    ],
)
def test_whatever_is_wrong_fails_the_trial(wrong: dict[str, Any]) -> None:
    assert workers.holds(found())
    old = {"packages": {"keras": "2.15.0"}}
    assert workers.holds(found(row={"statistics": 0.005}, environment=old))
    assert not workers.holds(found(**wrong))


def test_two_processes_take_the_step_of_one(tmp_path: Path) -> None:
    one = workers.trained(tmp_path / "one.npz", 1, "--cases", "1")
    two = workers.trained(tmp_path / "two.npz", 2, "--cases", "1")
    (row,) = workers.differences(one, two)
    assert row["weights"] <= workers.TOLERANCE
    assert row["moved"] > 1000 * workers.TOLERANCE


@pytest.mark.parametrize("path", RESULTS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_what_was_found_holds(path: Path) -> None:
    trials = {"resume": resume, "serving": serving, "workers": workers}
    module: Any = trials[path.parent.name]
    assert module.holds(read_json(path))


# --- Serving ---

MASKS = np.zeros((2, 2, 3), np.uint8)
MASKS[1] = 1
DECIDED = np.ones((2, 2, 3), bool)
DECIDED[:, 0, 0] = False
ASKED = Sound("png", "small", "image/png", b"picture", "", tuple(MASKS), tuple(DECIDED))
AS_JSON = json.dumps({"outputs": {"mask": MASKS[:1].tolist()}}).encode()


def png(mask: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return stream.getvalue()


def headers(version: int, kind: str = "image/png") -> dict[str, str]:
    return {"model-version": str(version), "content-type": kind}


def test_the_short_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("starlette", "uvicorn"):
        pytest.importorskip(library, reason="without starlette and uvicorn")
    sizes = {"small": ((48, 64), (1, 9)), "medium": ((129, 193),)}
    monkeypatch.setattr(serving_requests, "SIZES", sizes)
    monkeypatch.setattr(serving_clients, "SHARES", {"small": 0.7, "medium": 0.3})
    monkeypatch.setattr(serving_clients, "MALFORMED_SHARE", 0.4)
    parser = argparse.ArgumentParser()
    serving.add_options(parser)
    arguments = ["--minutes", "0.1", "--clients", "3", "--swaps", "1"]
    found = serving.measure(parser.parse_args(arguments), tmp_path)
    assert found["faults"] == []
    assert serving.holds(found)
    assert not serving.holds({"faults": ["png: 1 wrong pixels of version 1"]})
    assert found["failed_or_wrong"] == found["malformed_not_refused_well"] == 0
    assert found["masks_asked_for"] > 20
    assert (found["versions"], found["seconds_p50"] > 0) == (2, True)
    assert found["damaged_versions"] == 1


def test_masks_are_compared_with_the_net_of_their_version() -> None:
    for version in (1, 2, 3, 4):
        right, other = MASKS[(version - 1) % 2], MASKS[version % 2]
        found = serving_clients.judge(ASKED, 200, headers(version), png(right))
        assert found == {"version": version, "pixels": 6, "differing": 0, "fault": ""}
        found = serving_clients.judge(ASKED, 200, headers(version), png(other))
        assert found["differing"] == 6
        assert "5 wrong pixels" in found["fault"]
    undecided = MASKS[0].copy()
    undecided[0, 0] = 7
    found = serving_clients.judge(ASKED, 200, headers(1), png(undecided))
    assert (found["differing"], found["fault"]) == (1, "")


@pytest.mark.parametrize(
    ("code", "fields", "body", "fault"),
    [
        (200, headers(1, "application/json"), AS_JSON, ""),
        (503, {}, b"Service Unavailable", "503"),
        (200, {}, b"", "no version"),
        (200, headers(1), png(MASKS[0].T), "shape"),
        (200, headers(1), b"no PNG", "no mask"),
        (200, headers(1, "application/json"), b"{}", "no mask"),
        (200, {"model-version": "1"}, png(MASKS[0]), "no mask"),
    ],
)
def test_what_is_no_mask_is_a_fault(
    code: int, fields: dict[str, str], body: bytes, fault: str
) -> None:
    found = serving_clients.judge(ASKED, code, fields, body)["fault"]
    assert fault in found
    assert bool(fault) is bool(found)


def test_a_refusal_has_its_code_and_a_message() -> None:
    asked = Malformed("text", "image/png", b"text")
    good = json.dumps({"error": "Expected an image. Received: none"}).encode()
    assert serving_clients.judge_refusal(asked, 400, good) == ""
    bad = [(500, good), (400, b'{"error": "wrong"}'), (400, b"[]"), (200, b"no JSON")]
    for code, body in bad:
        assert serving_clients.judge_refusal(asked, code, body)


def answers_of(*times: tuple[float, float, int]) -> list[Answer]:
    return [Answer("png", "small", began, ended, 200, v) for began, ended, v in times]


def test_versions_only_go_forward() -> None:
    published = {1: 0.0, 2: 10.0}
    # A request that began before the new version first answered may get the old one.
    sound = answers_of((1, 2, 1), (10, 14, 1), (11, 13, 2), (14.5, 15, 2))
    assert serving.faults_of(sound, published) == []
    back = serving.faults_of([*sound, *answers_of((13.5, 14, 1))], published)
    assert back == ["version 1 after version 2"]
    for version in (2, 1000):  # too early, and the damaged one
        early = serving.faults_of(answers_of((8, 9, version)), published)
        assert early == [f"version {version} before it was there"]


def test_new_versions_must_answer_soon() -> None:
    published = {1: 0.0, 2: 10.0, 3: 20.0, 4: 30.0}
    answers = answers_of((1, 2, 1), (11, 12.5, 2), (60, 61, 3), (62, 63, 3))
    assert serving.late_versions(answers, published) == [
        "version 3 first answered after 41.0 s",
        "version 4 first answered after inf s",
    ]
