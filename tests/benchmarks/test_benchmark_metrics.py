"""What the benchmark of the metrics makes of its samples."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import metrics

SAMPLES = {
    "Keras, graph": [10.0, 10.0],
    "Keras, XLA": [6.0, 6.0],
    "Keras, eager": [20.0, 20.0],
    "ours, graph": [2.0, 1.0],
    "ours, XLA": [3.0, 3.0],
    "ours, eager": [4.0, 4.0],
    "reading the logits": [0.5, 0.5],
}


def test_the_update_is_held_to_the_best_mode_of_each_side() -> None:
    best, *_ = metrics.update_targets(SAMPLES)
    # Keras' XLA over our graph mode: 6/2 and 6/1.
    assert (best["ours"], best["theirs"]) == ("Keras, XLA", "ours, graph")
    assert (best["pairs"], best["measured"], best["met"]) == ([3.0, 6.0], 4.5, False)


def test_share_of_the_limit() -> None:
    shares = metrics.share_of_the_limit(SAMPLES)
    assert shares["ours, XLA"] == 6.0
    assert "reading the logits" not in shares


def test_the_batch_has_void_and_every_class() -> None:
    labels, logits = metrics.batch((1, 40, 40, 3))
    assert logits.shape == (1, 40, 40, 3)
    assert set(np.unique(labels)) == {0, 1, 2, metrics.VOID}


def test_metrics_that_count_otherwise_are_no_peers() -> None:
    counts = {"a": np.zeros(2), "b": np.zeros(2)}
    found = {
        name: SimpleNamespace(variables=[values], reset_state=lambda: None)
        for name, values in counts.items()
    }
    cases = {name: (lambda: None) for name in counts}
    metrics.check_counts(found, cases)
    counts["b"][0] = 1
    with pytest.raises(
        ValueError, match=r"Expected equal counts\. Received: others of"
    ):
        metrics.check_counts(found, cases)
