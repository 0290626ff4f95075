"""Training on several replicas, as far as one process with one device can show it.

Several devices and processes are in tests/benchmarks/test_reliability_workers.py.
"""

from __future__ import annotations

import dataclasses
import types
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.files import read_json
from tf_levelset.models.safe_loading import load_keras
from tf_levelset.training import distribution
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.train import train


def fake_strategy(
    cluster: dict[str, list[str]] | None, task: tuple[str, int] = ("worker", 0)
) -> Any:
    """What is asked of a strategy of two replicas a process."""
    if cluster is None:
        return types.SimpleNamespace(cluster_resolver=None, num_replicas_in_sync=2)
    resolver = types.SimpleNamespace(
        cluster_spec=lambda: tf.train.ClusterSpec(cluster),
        task_type=task[0],
        task_id=task[1],
    )
    replicas = 2 * sum(
        len(cluster[job]) for job in cluster if job in ("chief", "worker")
    )
    return types.SimpleNamespace(
        cluster_resolver=resolver,
        num_replicas_in_sync=replicas,
        distribute_datasets_from_function=lambda make: make(
            types.SimpleNamespace(num_input_pipelines=2, input_pipeline_id=task[1])
        ),
    )


TWO = {"worker": ["a:1", "b:1"]}
WITH_CHIEF = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": ["d:1"]}


@pytest.mark.parametrize(
    ("cluster", "task", "workers", "chief"),
    [
        (None, ("worker", 0), 1, True),
        ({}, ("worker", 0), 1, True),
        ({"worker": ["a:1"]}, ("worker", 0), 1, True),
        (TWO, ("worker", 0), 2, True),
        (TWO, ("worker", 1), 2, False),
        (WITH_CHIEF, ("chief", 0), 3, True),
        (WITH_CHIEF, ("worker", 0), 3, False),
    ],
)
def test_who_is_who(
    cluster: dict[str, list[str]], task: tuple[str, int], workers: int, chief: bool
) -> None:
    strategy = fake_strategy(cluster, task)
    assert distribution.num_workers(strategy) == workers
    assert distribution.is_chief(strategy) is chief
    if cluster:
        assert distribution.replicas_here(strategy) == 2


def test_strategies_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(
        distribution.strategy_named("mirrored"), tf.distribute.MirroredStrategy
    )
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match=r"TF_CONFIG.*Received: none"):
        distribution.strategy_named("workers")
    with pytest.raises(ValueError, match="Received: 'tpu'"):
        distribution.strategy_named("tpu")


@pytest.mark.parametrize("worker", [0, 1])
def test_every_worker_makes_its_own_part(worker: int) -> None:
    asked: list[tuple[int, int]] = []

    def batches(workers: int, index: int) -> tf.data.Dataset:
        asked.append((workers, index))
        numbers = tf.data.Dataset.range(16).shard(workers, index)
        return numbers.batch(8 // workers, drop_remainder=True)

    # Four of a batch of eight, two for each of the replicas here.
    parts = distribution.distribute(fake_strategy(TWO, ("worker", worker)), batches)
    found = [part.numpy().tolist() for part in parts]
    evens = [[0, 2], [4, 6], [8, 10], [12, 14]]
    assert found == [[n + worker for n in part] for part in evens]
    assert asked == [(2, worker)]
    whole = distribution.distribute(fake_strategy(None), batches)
    assert [len(batch) for batch in whole] == [8, 8]


@pytest.mark.parametrize(
    ("cluster", "expected"), [(None, [[0, 0], [1, 1]]), (TWO, [[0], [0], [1], [1]])]
)
def test_every_replica_evaluates_every_image(
    cluster: dict[str, list[str]] | None, expected: list[list[int]]
) -> None:
    images = tf.data.Dataset.range(2).map(lambda i: (i, i))
    batches = distribution.to_every_replica(fake_strategy(cluster), images)
    found = [image.numpy().tolist() for image, _ in batches.take(6)]
    assert found == (expected if cluster is None else expected + expected[:2])


# --- The loop ---


def regression(
    model: keras.Model, metric: keras.metrics.Metric, **options: Any
) -> keras.Model:
    """A model that learns to copy, compiled."""
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, **options)
    model.compile(optimizer, "mse", metrics=[metric])
    return model


def linear() -> keras.Model:
    """Two weights and two biases."""
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])


def noting(
    model: keras.Model, epochs: int
) -> tuple[keras.callbacks.Callback, list[Any]]:
    """A callback that stops after so many epochs, and a list of when it was called."""
    calls: list[Any] = []

    def on_epoch_end(epoch: int, logs: Any) -> None:
        calls.append(("epoch", epoch, sorted(logs)))
        model.stop_training = epoch + 1 == epochs

    callback = keras.callbacks.LambdaCallback(
        on_train_begin=lambda _: calls.append("begin"),
        on_train_batch_end=lambda batch, logs: calls.append(("batch", batch)),
        on_test_batch_end=lambda batch, logs: calls.append(("test", batch)),
        on_epoch_end=on_epoch_end,
        on_train_end=lambda _: calls.append("end"),
    )
    return callback, calls


@pytest.mark.skipif(not compat.KERAS_3, reason="Keras 2's own `fit` runs everywhere")
@pytest.mark.parametrize("averages", [False, True])
@pytest.mark.parametrize("frequency", [2, [1, 3]])
def test_the_loop_is_that_of_fit(frequency: int | list[int], averages: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 2)).astype(np.float32)
    batches = tf.data.Dataset.from_tensor_slices((x, x)).batch(4).repeat()
    judged = tf.data.Dataset.from_tensor_slices((x[:6], x[:6] + 1)).batch(2)
    found = []
    for fit in (keras.Model.fit, distribution.fit_on_workers):
        strategy = tf.distribute.MirroredStrategy(["CPU:0"])
        with strategy.scope():
            metric = keras.metrics.MeanAbsoluteError(name="mae")
            model = regression(linear(), metric, use_ema=averages)
        notes, noted = noting(model, epochs=4)
        # Keras 3 warns of its own default.
        extra: dict[str, Any] = {"shuffle": False} if fit is keras.Model.fit else {}
        history = fit(
            model,
            batches,
            steps_per_epoch=3,
            epochs=6,
            initial_epoch=1,
            validation_data=judged,
            validation_steps=3,
            validation_freq=frequency,
            callbacks=[notes],
            verbose=0,
            **extra,
        )
        found.append((model.get_weights(), history, noted))
    (weights, history, calls), (ours, our_history, our_calls) = found
    assert calls == our_calls
    assert set(history.history) == set(our_history.history)
    assert "val_mae" in history.history
    assert history.epoch == our_history.epoch == [1, 2, 3]
    for key, values in history.history.items():
        np.testing.assert_allclose(our_history.history[key], values, rtol=1e-6)
    for a, b in zip(weights, ours, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("steps", [None, 2])
def test_validation_data_begin_anew_each_time(steps: int | None) -> None:
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    batches = tf.data.Dataset.from_tensor_slices((x, x)).batch(3).repeat()
    judged = tf.data.Dataset.from_tensor_slices((x, x)).batch(2)
    model = regression(linear(), keras.metrics.MeanAbsoluteError())
    notes, noted = noting(model, epochs=2)
    distribution.fit(
        model,
        batches,
        steps_per_epoch=2,
        epochs=2,
        validation_data=judged,
        validation_steps=steps,
        callbacks=[notes],
        verbose=0,
    )
    tested = [call for call in noted if call[0] == "test"]
    assert tested == 2 * [("test", batch) for batch in range(steps or 3)]


# --- What goes wrong ---


def test_workers_need_to_know_where_validation_ends() -> None:
    model: Any = types.SimpleNamespace(distribute_strategy=fake_strategy(TWO))
    with pytest.raises(ValueError, match="Expected `validation_steps`"):
        distribution.fit(model, [], steps_per_epoch=1, validation_data=[])


@pytest.mark.parametrize("other", [12, 8, 0])
def test_workers_compare_a_number(monkeypatch: pytest.MonkeyPatch, other: int) -> None:
    # Two replicas here with what is asked, two elsewhere, which differ if it does.
    def sums(strategy: Any, values: tf.Tensor) -> tf.Tensor:
        elsewhere = float(other != 12) if values.dtype == tf.float32 else other
        return 2 * values + tf.cast(2 * elsewhere, values.dtype)

    monkeypatch.setattr(distribution, "sum_over_replicas", sums)
    assert distribution.all_the_same(fake_strategy(TWO), 12) is (other == 12)
    assert distribution.all_the_same(fake_strategy(None), 12)


def test_a_lost_worker_is_named() -> None:
    lost = tf.errors.UnavailableError(None, None, "worker 1 is gone")
    with (
        pytest.raises(ConnectionError, match=r"(?s)worker 1 is gone.*last checkpoint"),
        distribution.naming_lost_workers(fake_strategy(TWO)),
    ):
        raise lost
    with (
        pytest.raises(tf.errors.UnavailableError),
        distribution.naming_lost_workers(fake_strategy(None)),
    ):
        raise lost


def test_training_refuses_a_batch_that_replicas_cannot_share(
    tiny_recipe: Recipe, tmp_path: Path
) -> None:
    strategy = fake_strategy({"worker": [f"w{i}:1" for i in range(7)]})
    with pytest.raises(ValueError, match=r"14 replicas share evenly\. Received: 3"):
        train(tiny_recipe, tmp_path / "run", strategy=strategy)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(
    not compat.KERAS_3, reason="Keras 2 draws dropout anew for each replica"
)
def test_a_run_under_a_strategy_is_the_same_run(
    finished_run: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(tiny_recipe, losses=("ls",))
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    train(recipe, tmp_path, strategy=strategy)
    expected, found = (
        load_keras(run / "ls" / "model.keras").get_weights()
        for run in (finished_run, tmp_path)
    )
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
    rows, others = (read_json(r / "ls/history.json") for r in (finished_run, tmp_path))
    for row, other in zip(rows, others, strict=True):
        del row["seconds"], other["seconds"]
        assert other == pytest.approx(row, rel=1e-5)
