"""From a recipe to a run folder with everything that was learned.

The command that made a run folder also resumes it, exactly: batches, augmentation and
learning rate are functions of the step, and everything else is in the checkpoint. The
files of a run folder are listed in `run_folder`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from tf_levelset import compat
from tf_levelset.datasets.pipeline import Source
from tf_levelset.datasets.verification import Verified, load_verified
from tf_levelset.files import check_links, read_json, write_json, write_text
from tf_levelset.inference.panels import panel, write_png
from tf_levelset.inference.predictor import KerasPredictor, Predictor
from tf_levelset.inference.score_table import report_rows, table
from tf_levelset.training.compiled import build_loss
from tf_levelset.training.distribution import (
    check_batch_size,
    is_chief,
    naming_lost_workers,
    wait_for_all,
)
from tf_levelset.training.interrupts import Interrupts
from tf_levelset.training.recipe import LOSSES, Recipe
from tf_levelset.training.run import CheckpointOptions, Run
from tf_levelset.training.run_folder import (
    CONFIG_FILE,
    MODEL_FILE,
    VERIFIED_FILE,
    check_same_recipe,
    load_recipe,
    read_evaluation,
    read_history,
    training_seconds,
    with_earlier_losses,
)

PANEL_SAMPLES = 4


def train(
    recipe: Recipe,
    run_dir: Path,
    data_dir: str | None = None,
    checkpoints: CheckpointOptions | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, Any]:
    """Trains every loss of a recipe, or resumes from the folder's checkpoints.

    Args:
        recipe: The recipe.
        run_dir: Run folder; created if missing.
        data_dir: Folder of the data set's files, if it has any.
        checkpoints: How often checkpoints are written.
        strategy: How replicas train together, each on its part of every batch; by
            default the current strategy. Workers share `run_dir`, which the chief
            writes.

    Returns:
        The report, as in report.json. Only the chief returns it; other workers return
        an empty dictionary.

    Raises:
        ValueError: If the folder holds the run of another recipe, or a link that leads
            outside of it; and as soon as a loss is not finite, naming the step, its
            samples and the last checkpoint.
        OSError: If a file cannot be written, for example because the disk is full. The
            last checkpoint is kept.
        DataSetError: If a file of the data set is faulty. All files are read before
            training, and again only after one of them has changed.
        ConnectionError: If another worker has ended.
        KeyboardInterrupt: On Ctrl-C or SIGTERM, after the current step and its
            checkpoint. The same call resumes.
    """
    check_links(run_dir)
    strategy = strategy or tf.distribute.get_strategy()
    check_batch_size(recipe.batch_size, strategy)
    check_same_recipe(run_dir, recipe)
    verified = _verified(recipe, run_dir, data_dir)
    # Invalid options of any loss raise before the first loss is trained, and before
    # anything is written to the folder.
    for name in recipe.losses:
        build_loss(recipe, name, verified.sources[0].ignore_class)
    with naming_lost_workers(strategy):
        for name in recipe.losses:
            _train_one(recipe, name, run_dir, verified, checkpoints, strategy)
        report = _report(run_dir, verified.sources[-1]) if is_chief(strategy) else {}
        wait_for_all(strategy)
    return report


def _train_one(
    recipe: Recipe,
    name: str,
    run_dir: Path,
    verified: Verified,
    checkpoints: CheckpointOptions | None,
    strategy: tf.distribute.Strategy,
) -> None:
    """Trains one loss of a recipe, as far as this is not yet done."""
    run = Run(
        recipe,
        name,
        run_dir / name,
        verified.sources[0],
        verified.sources[-1],
        checkpoints=checkpoints,
        strategy=strategy,
    )
    if name == recipe.losses[0]:
        run.check()
        if run.is_chief:
            config = with_earlier_losses(recipe, run_dir).to_json()
            write_json(run_dir / CONFIG_FILE, config)
            write_json(run_dir / VERIFIED_FILE, verified.state)
    with Interrupts() as interrupts:
        run.fit(interrupts)
    run.save()
    if run.is_chief:
        run.finish()


def _verified(recipe: Recipe, run_dir: Path, data_dir: str | None) -> Verified:
    """Returns the training and validation data, whose files were all read once."""
    path = run_dir / VERIFIED_FILE
    verified = load_verified(
        recipe.dataset,
        list(dict.fromkeys((recipe.train_split, recipe.val_split))),
        data_dir,
        recipe.dataset_options,
        read_json(path) if path.exists() else None,
    )
    for fault in verified.empty_classes():
        print(f"Warning: {fault}")
    return verified


def _report(run_dir: Path, val_source: Source) -> dict[str, Any]:
    """Writes scores and images of all losses that are trained, side by side."""
    results = {
        name: read_evaluation(run_dir / name / "evaluation.json")
        for name in load_recipe(run_dir).losses
        if (run_dir / name / "evaluation.json").exists()
    }
    seconds = {
        name: training_seconds(read_history(run_dir / name / "history.json"))
        for name in results
    }
    report = {
        "versions": compat.versions(),
        "training_seconds": seconds,
        "evaluation": results,
    }
    write_json(run_dir / "report.json", report)
    write_text(run_dir / "report.md", table(report_rows(results, seconds, LOSSES)))
    predictors: dict[str, Predictor] = {
        LOSSES[name]: KerasPredictor.load(run_dir / name / MODEL_FILE)
        for name in results
    }
    write_png(run_dir / "panel.png", panel(val_source, predictors, PANEL_SAMPLES))
    return report
