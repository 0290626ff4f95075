"""Evaluates a run folder, a .keras file or a SavedModel on a data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tf_levelset.checks import expect, sentence
from tf_levelset.commands.shared_options import (
    add_dataset,
    add_option,
    add_path,
    add_split,
    add_test_time,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `tf-levelset evaluate`."""
    add_path(parser)
    add_dataset(parser)
    add_split(parser)
    add_option(
        parser,
        "--output",
        "Folder for the scores (JSON) and a panel of predictions.",
        Path,
        shown="the run folder; for a single model, the working directory",
    )
    add_test_time(parser)


def run(options: argparse.Namespace) -> None:
    """Prints the scores and writes them, with a panel of predictions, to a folder."""
    from tf_levelset.commands.loading import (
        at_test_time,
        crf_of,
        load_split,
        recipe_for,
    )
    from tf_levelset.files import write_json
    from tf_levelset.inference.evaluation import evaluate
    from tf_levelset.inference.panels import panel, write_png
    from tf_levelset.inference.predictor import load_predictors
    from tf_levelset.inference.score_table import report_rows, table

    path: Path = options.path
    predictors = {
        name or str(path): predictor
        for name, predictor in load_predictors(path, options.outputs).items()
    }
    recipe = recipe_for(path, options.dataset)
    split = options.split or recipe.val_split
    source = load_split(options, recipe, split)
    crf = crf_of(options)
    results: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for name, predictor in predictors.items():
        try:
            results[name] = evaluate(
                predictor,
                source,
                flip=options.flip,
                scales=tuple(options.scales),
                crf=crf,
            )
        except ValueError as error:
            if len(predictors) == 1:
                raise
            faults[name] = sentence(error)
    expect(bool(results), "a loss that can be evaluated", faults)
    print(table(report_rows(results, {}, {})), end="")
    for name, result in results.items():
        print(f"\nIoU in % of each class, {name}:")
        for class_name, iou in result["class_iou"].items():
            print(f"  {class_name:15s} {'–' if iou is None else f'{100 * iou:6.2f}'}")
    is_run = (path / "config.json").exists()
    for name in sorted(set(recipe.losses) - set(predictors)) if is_run else ():
        print(f"\n{name} is not fully trained. The same `train` command resumes it.")
    folder = options.output or (path if is_run else Path())
    iterations = None if crf is None else crf.iterations
    stem = "-".join([split, *_test_time_names(options, iterations)])
    write_json(folder / f"evaluation-{stem}.json", results)
    shown = {name: at_test_time(predictors[name], options) for name in results}
    write_png(folder / f"panel-{stem}.png", panel(source, shown, 4))
    print(f"\nWrote evaluation-{stem}.json and panel-{stem}.png to {folder}.")
    expect(not faults, "every loss to be evaluated", faults)


def _test_time_names(
    options: argparse.Namespace, crf_iterations: int | None
) -> list[str]:
    """Names the test-time options, so that each combination gets files of its own."""
    names = ["flip"] if options.flip else []
    if tuple(options.scales) != (1.0,):
        names += [f"{scale:g}" for scale in options.scales]
    if crf_iterations is not None:
        names.append(f"{options.crf}-crf{crf_iterations}")
    return names
