"""How things are timed and compared, without a timing held to anything."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import harness


def test_alternate_takes_turns_and_leaves_warmups_out() -> None:
    calls: list[str] = []
    cases = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    samples = harness.alternate(cases, rounds=3, warmups=2)
    assert "".join(calls) == "abccbaabccbaabc"
    assert [len(values) for values in samples.values()] == [3, 3, 3]


def test_alternate_takes_a_cases_own_account() -> None:
    own = iter([9.0, 1.0, 2.0])
    samples = harness.alternate({"own": lambda: next(own)}, rounds=2, warmups=1)
    assert samples == {"own": [1.0, 2.0]}


def test_timed_counts_the_call() -> None:
    assert harness.timed(lambda: time.sleep(0.02)) >= 0.02


def test_summary() -> None:
    assert harness.summary([4.0, 1.0, 2.0, 3.0, 5.0]) == {
        "median": 3.0,
        "quartile_1": 2.0,
        "quartile_3": 4.0,
        "min": 1.0,
        "max": 5.0,
    }


def test_ratio_is_of_the_best_modes_round_by_round() -> None:
    samples = {
        "ours, graph": [9.0, 9.0, 9.0],
        "ours, XLA": [1.0, 2.0, 4.0],
        "peer, graph": [2.0, 2.0, 2.0],
        "peer, XLA": [3.0, 3.0, 1.0],
    }
    ratio = harness.ratio(
        samples, ["ours, graph", "ours, XLA"], ["peer, XLA", "peer, graph"]
    )
    # The medians of the peer are 3 and 2; the ratios are 1/2, 2/2 and 4/2.
    assert (ratio["ours"], ratio["theirs"]) == ("ours, XLA", "peer, graph")
    assert (ratio["rounds"], ratio["median"]) == (3, 1.0)
    assert (ratio["min"], ratio["max"]) == (0.5, 2.0)


@pytest.mark.parametrize(
    ("measured", "bound", "met"),
    [(1.0, 1.0, True), (1.1, 1.0, False), (1.2, None, None)],
)
def test_target(measured: float, bound: float | None, met: bool | None) -> None:
    target = harness.target("it", measured, bound, rounds=3)
    assert (target["met"], target["rounds"]) == (met, 3)


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="reads Linux's /proc"
)
def test_peak_memory_sees_what_is_gone_at_the_end() -> None:
    size = 64 * 2**20
    peak = harness.peak_memory(lambda: np.ones(size, np.uint8).sum())
    assert 0.9 * size < peak < 1.5 * size


def test_garbage_is_collected_before_the_clock_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda: order.append("collected"))
    harness.timed(lambda: order.append("called"))
    assert order == ["collected", "called"]
