"""Whole runs, of tiny nets: their files, how they stop and how they resume."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_levelset.datasets.augmentation import Augmentation
from tf_levelset.training.checkpoints import Checkpoints
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import RECIPES
from tf_levelset.training.resume import ExactResume
from tf_levelset.training.run_folder import load_recipe
from tf_levelset.training.train import train

STEPS_PER_EPOCH = 10 // 3
STEPS = 2 * STEPS_PER_EPOCH


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Sends Ctrl-C while the step before `step` is running."""
    recorder: Any = ExactResume
    original = recorder.on_train_batch_end

    def with_signal(self: Any, batch: int, logs: Any = None) -> None:
        if self.step + 1 == step:
            os.kill(os.getpid(), signal.SIGINT)
        original(self, batch, logs)

    monkeypatch.setattr(recorder, "on_train_batch_end", with_signal)


def weights(folder: Path) -> list[np.ndarray]:
    return keras.models.load_model(folder / "model.keras", compile=False).get_weights()


def history_of(folder: Path) -> list[dict[str, Any]]:
    """The history, but for the time that it took."""
    found = json.loads((folder / "history.json").read_text())
    return [{k: v for k, v in row.items() if k != "seconds"} for row in found]


def test_leaves_a_whole_run_folder(finished_run: Path, tiny_recipe: Recipe) -> None:
    config = json.loads((finished_run / "config.json").read_text())
    assert Recipe.from_json(config) == tiny_recipe
    report = json.loads((finished_run / "report.json").read_text())
    assert set(report["evaluation"]) == {"ce", "ls"}
    assert report["versions"]["tensorflow"] == tf.__version__
    assert report["versions"]["keras"] == keras.__version__
    assert "level set" in (finished_run / "report.md").read_text()
    assert (finished_run / "panel.png").stat().st_size > 1000
    for name in ("ce", "ls"):
        folder = finished_run / name
        rows = json.loads((folder / "history.json").read_text())
        assert [row["step"] for row in rows] == [STEPS_PER_EPOCH, STEPS]
        assert {
            "loss",
            "mean_iou",
            "level_set_energy_per_pixel",
            "val_mean_iou",
        } <= set(rows[0])
        # The mean over batches of what "ce" minimises, whatever the loss.
        if name == "ce":
            # Both are sums in float32, whose last digit is 1e-7 of them.
            found, expected = rows[0]["cross_entropy"], rows[0]["loss"]
            np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert rows[0]["val_cross_entropy"] > 0
        with (folder / "history.csv").open() as file:
            table = list(csv.DictReader(file))
        assert [float(row["loss"]) for row in table] == [row["loss"] for row in rows]
        assert Checkpoints(folder / "checkpoint").steps() == [STEPS_PER_EPOCH, STEPS]
        assert (folder / "model.keras").exists()
        assert (folder / "export" / "1" / "saved_model.pb").exists()
        assert images_in(folder / "events")


def images_in(folder: Path) -> int:
    """Returns the number of images in TensorBoard's files."""
    images = 0
    for path in folder.rglob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            images += sum(value.tag == "val" for value in event.summary.value)
    return images


def test_stops_between_steps_and_goes_on(
    finished_run: Path,
    tiny_recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Dropout's random state is part of what is resumed.
    recipe = dataclasses.replace(tiny_recipe, losses=("ls",))
    assert recipe.model_options["dropout"] > 0
    step = STEPS_PER_EPOCH + 2
    with monkeypatch.context() as patched:
        interrupt_at(patched, step)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path)
    assert Checkpoints(tmp_path / "ls" / "checkpoint").newest() == step
    assert not (tmp_path / "ls" / "model.keras").exists()
    train(recipe, tmp_path)
    assert history_of(tmp_path / "ls") == history_of(finished_run / "ls")
    for ours, whole in zip(
        weights(tmp_path / "ls"), weights(finished_run / "ls"), strict=True
    ):
        np.testing.assert_array_equal(ours, whole)


@pytest.mark.parametrize(
    "change",
    [
        {"level_set": {"epsilon": -1.0}},
        {"model_options": {"width": 0.0}},
        {"model_options": {"layers": 3}},
        {"augmentation": Augmentation(scale=(0.5, 1.0))},  # sizes that do not stack
    ],
)
def test_bad_options_of_any_loss_claim_nothing(
    tiny_recipe: Recipe, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="Expected"):
        train(dataclasses.replace(tiny_recipe, **change), tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_voc_images_train_from_crops(tmp_path: Path) -> None:
    root = os.environ.get("TF_LEVELSET_DATA")
    if root is None:
        pytest.skip("TF_LEVELSET_DATA is not set: no real images")
    recipe = dataclasses.replace(
        RECIPES["voc-deeplab_largefov"],
        train_split="train",
        losses=("ls",),
        iterations=1,
        batch_size=2,
        model_options={"width": 0.05, "depth": 0.05},
        augmentation=Augmentation(crop=(65, 65), scale=(0.5, 1.5), photometric=True),
    )
    report = train(recipe, tmp_path, str(Path(root) / "voc_sample"))
    result = report["evaluation"]["ls"]
    assert result["dataset"] == "voc/val"
    assert len(result["class_iou"]) == 21
    # Pictures of 500×338 and 500×375, judged pixel by pixel but for void.
    judged = np.sum(result["confusion"])
    assert 0.8 * result["images"] * 500 * 338 < judged


# --- Other runs ---


def test_a_run_at_full_resolution_that_ends_inside_an_epoch(
    tmp_path: Path, tiny_recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    # 3 steps an epoch: one epoch and a step.
    recipe = dataclasses.replace(
        tiny_recipe, losses=("ce",), iterations=4, loss_stride=1, input_scale=0.5
    )
    train(recipe, tmp_path)
    rows = json.loads((tmp_path / "ce" / "history.json").read_text())
    assert [(r["epoch"], r["step"], r["steps"]) for r in rows] == [(1, 3, 3), (2, 4, 1)]
    # No terminal, no bar: what is printed is fit to be kept.
    printed = capsys.readouterr().out
    assert "Epoch 2/2" in printed
    assert not set("━\b\r") & set(printed)
    model = keras.models.load_model(tmp_path / "ce" / "model.keras", compile=False)
    assert model(tf.zeros((1, 33, 40, 3))).shape == (1, 33, 40, 8)


def test_losses_and_epochs_can_be_added_to_a_run(
    finished_run: Path,
    tmp_path: Path,
    tiny_recipe: Recipe,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(finished_run, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("model.keras")}
    report = train(dataclasses.replace(tiny_recipe, losses=("lmp",)), folder)
    assert list(report["evaluation"]) == ["ce", "ls", "lmp"]
    assert before == {p: p.stat().st_mtime_ns for p in before}
    assert load_recipe(folder).losses == ("ce", "ls", "lmp")

    capsys.readouterr()
    old, evaluation = weights(folder / "ce"), folder / "ce/evaluation.json"
    written = evaluation.stat().st_mtime_ns
    train(dataclasses.replace(tiny_recipe, losses=("ce",), epochs=3), folder)
    said = 'The run goes on to step 9 instead of 6. The schedule "poly" depends on'
    assert said in capsys.readouterr().out
    assert [row["step"] for row in history_of(folder / "ce")] == [3, 6, 9]
    # The results are those of the longer run.
    assert not np.array_equal(old[0], weights(folder / "ce")[0])
    assert evaluation.stat().st_mtime_ns > written
    assert (folder / "ce/export/2").is_dir()
    with pytest.raises(ValueError, match=r"\(epochs was `3`, is `2`\)"):
        train(tiny_recipe, folder)
