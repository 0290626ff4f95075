"""The bounds of setup.cfg and the trial of the lowest versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmarks.reliability import minimum
from tf_levelset.files import read_json

RESULTS = Path(minimum.__file__).parent / "results" / "minimum"

UPPER = {
    # The last release of tensorflow-addons needs these.
    ("addons", "tensorflow"),
    ("addons", "keras"),
    ("addons", "tensorflow-addons"),
    # TensorBoard 2.15 imports pkg_resources.
    ("addons", "setuptools"),
}
"""Extras and packages with an upper bound."""


def bounds(extra: str) -> list[Requirement]:
    """The requirements of an extra, without those that every install has."""
    always = len(minimum.requirements([]))
    return minimum.requirements([extra])[always:]


@pytest.mark.parametrize("extra", [None, *minimum.all_extras()])
def test_every_dependency_has_a_lower_bound_and_no_needless_upper_one(
    extra: str | None,
) -> None:
    found = minimum.requirements([]) if extra is None else bounds(extra)
    assert found
    for requirement in found:
        upper = {s.operator for s in requirement.specifier} & {"<", "<=", "==", "~="}
        if (extra, requirement.name) in UPPER:
            assert upper
        else:
            assert minimum.lower_bound(requirement) is not None, requirement
            assert not upper, requirement


def test_the_highest_of_several_bounds_counts() -> None:
    required = [Requirement(text) for text in ("a >= 1.2", "A >= 1.10, != 1.11.*")]
    assert minimum.lowest([*required, Requirement("b == 3.1.*")]) == {
        "a": "1.10",
        "b": "3.1",
    }
    with pytest.raises(ValueError, match=r"lower bound\. Received: c<2"):
        minimum.lowest([Requirement("c < 2")])


def test_other_versions_are_exact() -> None:
    assert minimum.pinned(["Keras==3.11.0"]) == {"keras": "3.11.0"}
    with pytest.raises(ValueError, match="Received: 'keras>=3'"):
        minimum.pinned(["keras>=3"])


def test_a_report_is_counted(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="m" name="a"/>'
        '<testcase classname="m" name="b"><failure message="x"/></testcase>'
        '<testcase classname="m" name="c"><error message="x"/></testcase>'
        '<testcase classname="m" name="d"><skipped message="no /a/b/c"/></testcase>'
        "</testsuite></testsuites>"
    )
    assert minimum.outcomes(report) == {
        "passed": 1,
        "failed": 2,
        "skipped": 1,
        "failures": ["m::b", "m::c"],
        "reasons_of_skipped": {"no c": 1},
    }


@pytest.mark.parametrize("name", sorted(path.name for path in RESULTS.glob("*.json")))
def test_the_documented_run_had_these_bounds(name: str) -> None:
    found = read_json(RESULTS / name)
    asked = minimum.lowest(minimum.requirements(found["extras"]))
    asked |= minimum.pinned(found["instead"])
    assert set(found["versions"]) == set(asked)
    for package, version in found["versions"].items():
        assert Requirement(f"a=={asked[package]}").specifier.contains(version), package
    assert found["failed"] == 0
