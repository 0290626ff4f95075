"""From a recipe to a run folder with everything that was learned.

The command that made a run folder also resumes it, exactly: batches, augmentation and
learning rate are functions of the step, and everything else is in the checkpoint. The
files of a run folder are listed in `run_folder`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tf_levelset import compat
from tf_levelset.datasets.pipeline import Source
from tf_levelset.datasets.verification import Verified, load_verified
from tf_levelset.files import check_links, write_json, write_text
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
from tf_levelset.training.identity import (
    Identity,
    identity_of,
    notices,
    read_identity,
    remove_run,
    resumed,
)
from tf_levelset.training.recipe import LOSSES, Recipe
from tf_levelset.training.run import Run
from tf_levelset.training.run_folder import (
    EVALUATION_FILE,
    MODEL_FILE,
    read_evaluation,
    read_history,
    training_seconds,
)

PANEL_SAMPLES = 4


def train(
    recipe: Recipe,
    run_dir: Path,
    data_dir: str | None = None,
    checkpoints: Mapping[str, Any] | None = None,
    strategy: tf.distribute.Strategy | None = None,
    *,
    restart: bool = False,
) -> dict[str, Any]:
    """Trains every loss of a recipe, or resumes from the folder's checkpoints.

    A run is resumed with more losses, or with more epochs or iterations, but with
    nothing else that is new: see `identity`.

    Args:
        recipe: The recipe.
        run_dir: Run folder; created if missing.
        data_dir: Folder of the data set's files, if it has any.
        checkpoints: The options `seconds` and `keep` of `ExactResume`.
        strategy: How replicas train together, each on its part of every batch; by
            default the current strategy. Workers share `run_dir`, which the chief
            writes.
        restart: Whether to remove the run that the folder holds, once the new one has
            passed all checks, and to start over.

    Returns:
        The report, as in report.json. Only the chief returns it; other workers return
        an empty dictionary.

    Raises:
        ValueError: If the folder holds a run of another recipe, of other data or of
            other initial weights, naming what has changed, or a link that leads
            outside of it; and as soon as a loss is not finite, naming the step, its
            samples and the last checkpoint.
        OSError: If a file cannot be written, for example because the disk is full. The
            last checkpoint is kept.
        DataSetError: If a file of the data set is faulty. All files are read before
            training, and decoded again only if one of them has changed.
        ConnectionError: If another worker has ended.
        KeyboardInterrupt: On Ctrl-C or SIGTERM, after the current step and its
            checkpoint. The same call resumes.
    """
    check_links(run_dir)
    strategy = strategy or tf.distribute.get_strategy()
    check_batch_size(recipe.batch_size, strategy)
    earlier = None if restart else read_identity(run_dir)
    verified = _verified(recipe, data_dir, earlier)
    # Invalid options of any loss raise before the first loss is trained, and before
    # anything is written to the folder.
    for name in recipe.losses:
        build_loss(recipe, name, verified.sources[0].ignore_class)
    identity = identity_of(recipe, verified.content)
    if earlier is not None:
        lines = notices(earlier, identity)
        identity = resumed(earlier, identity, run_dir)
        if is_chief(strategy):
            print(*lines, sep="\n", end="\n" * bool(lines), flush=True)

    def new_run(name: str, folder: Path) -> Run:
        sources = verified.sources[0], verified.sources[-1]
        return Run(
            recipe, name, folder, *sources, checkpoints=checkpoints, strategy=strategy
        )

    with naming_lost_workers(strategy):
        if restart:
            with tempfile.TemporaryDirectory() as folder:
                new_run(recipe.losses[0], Path(folder)).check()
            if is_chief(strategy):
                remove_run(run_dir)
            wait_for_all(strategy)
        for name in recipe.losses:
            run = new_run(name, run_dir / name)
            if name == recipe.losses[0]:
                run.check()
                if run.is_chief:
                    identity.write(run_dir)
            run.fit()
            run.save()
            if run.is_chief:
                run.finish()
        report = {}
        if is_chief(strategy):
            report = _report(run_dir, identity.recipe, verified.sources[-1])
        wait_for_all(strategy)
    return report


def _verified(
    recipe: Recipe, data_dir: str | None, earlier: Identity | None
) -> Verified:
    """Returns the training and validation data, whose files were all read once."""
    verified = load_verified(
        recipe.dataset,
        list(dict.fromkeys((recipe.train_split, recipe.val_split))),
        data_dir,
        recipe.dataset_options,
        {} if earlier is None else earlier.data,
    )
    for fault in (*verified.empty_classes(), *verified.unlisted_void()):
        print(f"Warning: {fault}")
    return verified


def _report(run_dir: Path, recipe: Recipe, val_source: Source) -> dict[str, Any]:
    """Writes scores and images of all losses that are trained, side by side."""
    results = {
        name: read_evaluation(run_dir / name / EVALUATION_FILE)
        for name in recipe.losses
        if (run_dir / name / EVALUATION_FILE).exists()
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
