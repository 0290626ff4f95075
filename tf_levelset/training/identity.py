"""What a run is: its recipe, data and initial weights; and what of it has changed.

A run folder holds the recipe in config.json and the rest in verified.json:

    version     the version of this package that started the run
    weights     the digest of the file of initial weights, or null
    data        the classes, samples and digests of files, see `content_of`

Version 0.1 kept no digests: of its runs, only the names of the classes are known.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tf_levelset._version import __version__
from tf_levelset.datasets.verification import CONTENT
from tf_levelset.files import read_json, sha256, write_json
from tf_levelset.training.recipe import LOSSES, PLACES, Recipe, flat
from tf_levelset.training.run_folder import (
    CLASSES_FILE,
    CONFIG_FILE,
    VERIFIED_FILE,
    load_recipe,
    read_class_names,
    require,
)

SHOWN = 3
"""How many changes of one type, such as files, an error names one by one."""


@dataclass(frozen=True)
class Identity:
    """What a run is.

    Attributes:
        recipe: The recipe.
        data: `datasets.verification.content_of` the data set; of a run of version 0.1
            its "classes" at most.
        weights: The digest of the file of initial weights, if there is one.
        version: The version of this package that started the run.
    """

    recipe: Recipe
    data: Mapping[str, Any]
    weights: str | None = None
    version: str = __version__

    def steps(self, recipe: Recipe) -> int:
        """Returns how many steps a recipe takes on this data."""
        train_samples = next(iter(self.data["samples"].values()))
        return recipe.steps(len(train_samples))[1]

    def write(self, run_dir: Path) -> None:
        """Writes verified.json, if there are digests, and then config.json."""
        if "files" in self.data:
            values = {"version": self.version, "weights": self.weights}
            write_json(run_dir / VERIFIED_FILE, {**values, "data": self.data})
        write_json(run_dir / CONFIG_FILE, self.recipe.to_json())


def identity_of(recipe: Recipe, data: Mapping[str, Any]) -> Identity:
    """Returns the identity of a run that is started now."""
    weights = str(recipe.model_options.get("weights"))
    # The index of a TensorFlow checkpoint holds checksums of its other files.
    paths = filter(os.path.isfile, (weights, f"{weights}.index"))
    return Identity(recipe, data, next(map(sha256, paths), None))


def read_identity(run_dir: Path) -> Identity | None:
    """Reads the identity of the run in a folder; None if there is no run.

    Raises:
        ValueError: If one of its files is not that of a run.
    """
    config, verified = run_dir / CONFIG_FILE, run_dir / VERIFIED_FILE
    if not config.exists():
        return None
    try:
        recipe = load_recipe(run_dir)  # fields that the file lacks get their defaults
    except ValueError as error:
        raise ValueError(
            f"Expected {config} to be the recipe of a run, to resume it. Received: "
            f"another file ({error}). Choose a new folder, or remove that one."
        ) from error
    values = read_json(verified) if verified.exists() else ""
    if isinstance(values, str):  # by version 0.1
        lists = [run_dir / name / CLASSES_FILE for name in recipe.losses]
        names = [read_class_names(path) for path in lists if path.exists()]
        return Identity(recipe, {"classes": names[0]} if names else {}, version="0.1")
    data: Any = values.get("data") if isinstance(values, dict) else None
    holds = isinstance(data, dict) and all(
        isinstance(data.get(key), kind) for key, kind in CONTENT.items()
    )
    require(verified, holds, "the data of a run", values)
    return Identity(recipe, data, values.get("weights"), values.get("version"))


def resumed(earlier: Identity, now: Identity, run_dir: Path) -> Identity:
    """Returns the identity of a run that goes on, perhaps with more losses or steps.

    Raises:
        ValueError: If anything has changed by which the result would be another one.
    """
    if found := changes(earlier, now):
        raise ValueError(
            f"Expected what the run in {run_dir} was started with, to resume it. "
            f"Received: changes ({'; '.join(found)}). Use --restart (in Python, "
            "restart=True) to remove that run and start over in its folder, or another "
            "--output to keep it."
        )
    old, new = earlier.recipe, now.recipe
    recipe = dataclasses.replace(
        new,
        name=old.name,
        losses=tuple(dict.fromkeys([*old.losses, *new.losses])),
        level_set=(old if "ls" in old.losses else new).level_set,
        loss_options={**new.loss_options, **_of_losses(old, old.losses)},
    )
    return dataclasses.replace(earlier, recipe=recipe)


def notices(earlier: Identity, now: Identity) -> list[str]:
    """Returns sentences about what differs, but does not keep a run from going on."""
    lines = []
    if "files" not in earlier.data:
        lines.append(
            "The run was started by version 0.1, which kept no digests of its data: "
            "whether they are still the same could not be checked."
        )
    elif earlier.version != now.version:
        versions = f"{earlier.version} of tf_levelset and goes on with {now.version}"
        lines.append(f"The run was started with version {versions}.")
    before, after = now.steps(earlier.recipe), now.steps(now.recipe)
    if before < after:
        line = f"The run goes on to step {after} instead of {before}."
        if now.recipe.schedule == "poly":
            line += (
                ' The schedule "poly" depends on the last step: from here on, the '
                f"learning rate is that of a run of {after} steps."
            )
        if left := set(earlier.recipe.losses) - set(now.recipe.losses):
            line += f" Only the losses named go on, and not {sorted(left)}."
        lines.append(line)
    return lines


def remove_run(run_dir: Path) -> None:
    """Removes the files of a run from its folder, and no others."""
    config = run_dir / CONFIG_FILE
    losses = load_recipe(run_dir).losses if config.exists() else ()
    for name in LOSSES:
        if name in losses or (run_dir / name / "checkpoint").exists():
            shutil.rmtree(run_dir / name, ignore_errors=True)
    results = ("report.json", "report.md", "panel.png")
    for pattern in (*results, "panel-*.png", "evaluation-*.json", VERIFIED_FILE):
        for path in run_dir.glob(pattern):
            path.unlink()
    config.unlink(missing_ok=True)  # last: if interrupted, the rest is still a run's


# --- Changes ---


def changes(earlier: Identity, now: Identity) -> list[str]:
    """Names everything by which the result of a run would be another one.

    The losses may differ, because each has its own folder, and the run may be longer.
    The name of the recipe is not looked at. The folders of the data and of the weights
    may differ if their files are the same.
    """
    know_weights = None not in (earlier.weights, now.weights)
    common = set(earlier.recipe.losses) & set(now.recipe.losses)
    settings = []
    for recipe in (earlier.recipe, now.recipe):
        values = recipe.to_json()
        values["losses"] = values["name"] = None
        values["loss_options"] = _of_losses(recipe, common)
        if "ls" not in common:
            values["level_set"] = None
        if now.steps(earlier.recipe) <= now.steps(now.recipe):
            values["epochs"] = values["iterations"] = None
        for place in PLACES:
            values["dataset_options"].pop(place, None)
        if know_weights:
            values["model_options"]["weights"] = None
        settings.append(flat(values))
    before, after = settings
    found = differences(before, after)
    if know_weights and earlier.weights != now.weights:
        found.append(f"{now.recipe.model_options['weights']} changed")
    class_list = now.recipe.dataset_options.get("classes", "classes.txt")
    name = class_list if isinstance(class_list, str) else "classes"
    # What version 0.1 did not keep is taken to be the same.
    return [*found, *_changes_of_data({**now.data, **earlier.data}, now.data, name)]


def differences(
    before: Mapping[Any, str], after: Mapping[Any, str], name: str = ""
) -> list[str]:
    """Names the values that differ, by their keys."""

    def text(values: Mapping[Any, str], key: Any) -> str:
        return f"`{values[key]}`" if key in values else "absent"

    return [
        f"{name}{key} was {text(before, key)}, is {text(after, key)}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]


def changed_classes(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Names the classes that differ, by their numbers."""
    return differences(dict(enumerate(before)), dict(enumerate(after)), "class ")


def _of_losses(recipe: Recipe, names: Collection[str]) -> dict[str, dict[str, Any]]:
    return {k: v for k, v in recipe.loss_options.items() if k in names}


def _changes_of_data(
    before: Mapping[str, Any], after: Mapping[str, Any], class_list: str
) -> list[str]:
    """Names the classes, files and splits that differ."""
    lists = before["stored_classes"], after["stored_classes"]
    classes = differences(*lists, f"{class_list}: ")
    if not classes:
        classes = changed_classes(before["classes"], after["classes"])
    old, new = before["files"], after["files"]
    files = [
        *(f"{name} changed" for name in old if new.get(name, old[name]) != old[name]),
        *(f"{name} is missing" for name in old if name not in new),
        *(f"{name} was added" for name in new if name not in old),
    ]
    splits = [
        f"{split} has other samples or another order of them"
        for split, samples in after["samples"].items()
        if before["samples"].get(split) != samples
    ]
    # Where files were added, the samples differ too.
    return [*_some(classes), *(_some(files) or splits)]


def _some(lines: list[str]) -> list[str]:
    """Returns the first lines, and how many more there are."""
    more = [f"and {len(lines) - SHOWN} more like this"] if len(lines) > SHOWN else []
    return [*lines[:SHOWN], *more]
