"""The command line, end to end on a tiny run."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_levelset.commands import train
from tf_levelset.commands.main import main
from tf_levelset.commands.recipe_options import list_recipes
from tf_levelset.inference.crf import PRESETS
from tf_levelset.training import recipes
from tf_levelset.training.checkpoints import Checkpoints
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import RECIPES
from tf_levelset.training.run import CheckpointOptions

ROOT = Path(__file__).resolve().parents[2]


def test_train_prints_a_table(
    finished_run: Path,
    tiny_recipe: Recipe,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(recipes.RECIPES, "synthetic", tiny_recipe)
    # Finished already: the same command only reports.
    assert main(["train", "--output", str(finished_run)]) == 0
    printed = capsys.readouterr().out
    assert "cross-entropy" in printed
    assert "with level set loss" in printed
    assert "mIoU" in printed
    assert str(finished_run / "panel.png") in printed


@pytest.mark.parametrize(
    "what", ["", "ce", "ce/model.keras", "ce/export", "ls/export/1"]
)
def test_evaluate_takes_runs_files_and_saved_models(
    finished_run: Path, tmp_path: Path, what: str
) -> None:
    arguments = ["evaluate", str(finished_run / what), "--output", str(tmp_path)]
    assert main([*arguments, "--flip", "--scales", "1", "0.75"]) == 0
    results = json.loads((tmp_path / "evaluation-val-flip-1-0.75.json").read_text())
    assert len(results) == (1 if what else 2)
    for result in results.values():
        assert result["flip"] is True
        assert result["scales"] == [1.0, 0.75]
        assert len(result["class_iou"]) == 8
    assert (tmp_path / "panel-val-flip-1-0.75.png").exists()


def test_plain_evaluation_is_the_runs_own(finished_run: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", str(finished_run / "ls"), "--output", str(tmp_path)]
    assert main(arguments) == 0
    (result,) = json.loads((tmp_path / "evaluation-val.json").read_text()).values()
    report = json.loads((finished_run / "report.json").read_text())
    seconds = result["seconds_per_image"]
    assert result == {**report["evaluation"]["ls"], "seconds_per_image": seconds}


def test_the_panel_shows_what_was_judged(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    def panel(source: object, predictors: dict[str, Any], samples: int) -> np.ndarray:
        (predictor,) = predictors.values()
        shown.append(predictor(np.zeros((33, 40, 3), np.uint8)))
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr("tf_levelset.inference.panels.panel", panel)
    arguments = ["evaluate", str(finished_run / "ce"), "--output", str(tmp_path)]
    assert main([*arguments, "--flip"]) == 0
    # Of a picture that is its own mirror.
    np.testing.assert_allclose(shown[0], shown[0][:, ::-1], atol=1e-6)


def test_crf_iterations_need_a_crf(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(finished_run / "ce"), "--crf-iterations", "5"]
    assert main(arguments) == 1
    assert "Expected --crf together with --crf-iterations" in capsys.readouterr().err


def test_evaluate_with_a_crf(finished_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydensecrf", reason="pip install 'tf-levelset[crf]'")
    arguments = ["evaluate", str(finished_run / "ce"), "--output", str(tmp_path)]
    assert main([*arguments, "--crf", "vgg", "--crf-iterations", "5"]) == 0
    (result,) = json.loads(
        (tmp_path / "evaluation-val-vgg-crf5.json").read_text()
    ).values()
    assert result["crf"] == dataclasses.asdict(PRESETS["vgg_5"])
    assert result["seconds_per_image"]["crf"] > 0


def test_export(finished_run: Path, tmp_path: Path) -> None:
    arguments = ["export", str(finished_run / "ls"), str(tmp_path / "served")]
    assert main(arguments) == 0
    assert main([*arguments, "--version", "7"]) == 0
    versions = sorted(p.parent.name for p in tmp_path.glob("served/*/saved_model.pb"))
    assert versions == ["1", "7"]


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["train", "--list-recipes"])
    assert capsys.readouterr().out == list_recipes()


def test_what_is_no_recipe_in_a_file_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.json"
    said = error_of_command(capsys, "train", "--recipe", mine)
    assert str(mine) in said
    mine.write_text("{")
    said = error_of_command(capsys, "train", "--recipe", mine)
    assert f"Expected JSON in {mine}" in said
    mine.write_text(json.dumps({**RECIPES["camvid"].to_json(), "epoch": 3}))
    said = error_of_command(capsys, "train", "--recipe", mine)
    assert "Expected the fields of a recipe. Received: ['epoch']" in said
    mine.write_text(json.dumps(RECIPES["camvid"].to_json()))
    said = error_of_command(capsys, "train", "--recipe", mine, "--dataset", "voc")
    assert "Expected --dataset camvid" in said


def test_smoke_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", "--smoke", "--recipe", "camvid", "--losses", "ls"]
    assert main(command) == 0
    assert "camvid: the smoke test of ls passed." in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--dataset", "camvid"], "Expected `data_dir`"),
        (["train", "--recipe", "voc"], "Expected --recipe to be a name"),
        (["train", "--recipe", "camvid", "--dataset", "voc"], "--dataset camvid"),
        (["train", "--set", "width=1"], "Expected --set to be FIELD=JSON"),
        (["train", "--set", "iterations=2.5"], "Expected `iterations` to be an int"),
        (
            ["train", "--set", "model_options=5"],
            "Expected `model_options` to be a dict",
        ),
        (["train", "--set", "augmentation.flipp=true"], "'augmentation.flipp=true'"),
        (["train", "--smoke", "--output", "x"], "Expected --smoke without --data-dir"),
        (
            ["train", "--smoke", "--distribute", "workers"],
            "Received: --distribute workers",
        ),
        (
            ["submit", "nowhere", "out", "--crf-iterations", "5"],
            "Expected a run folder",
        ),
        (["train", "--set", "epochs.x=1"], "Expected --set to be FIELD=JSON"),
        (["train", "--set", "epochs"], "Expected --set to be FIELD=JSON"),
        (["train", "--loss-stride", "16"], "Expected `loss_stride` of (1, 8)"),
        (["submit", "nowhere", "out"], "Expected a run folder"),
        (
            ["train", "--dataset", "camvid", "--data-dir", "nowhere"],
            "Expected the list",
        ),
        (["train", "--epochs", "0"], "Expected `epochs`"),
        (["evaluate", "nowhere"], "Expected a run folder"),
        (["report", "nowhere"], "Expected a run folder, or a loss's folder in one"),
        (["train", "--epsilon", "0"], "Expected `epsilon`"),
        (["train", "--weights", "nowhere.weights.h5"], "nowhere.weights.h5"),
        (["train", "--sbd-dir", "x"], "Expected options that 'synthetic' takes"),
        (["evaluate", "nowhere", "--dataset", "synthetic"], "Expected a run folder"),
        (["export", "nowhere", "served"], "Expected a .keras file"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("tf-levelset: error: ")
    assert message in error
    assert not (tmp_path / "runs").exists()  # nothing is claimed for a bad command


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """Pictures and masks of two classes in a plain folder."""
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(5):
        picture = rng.integers(0, 256, (33, 40, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / f"images/{i}.jpg")
        labels = rng.choice(np.array([0, 1, 1, 255], np.uint8), (33, 40))
        Image.fromarray(labels).save(root / f"masks/{i}.png")
    (root / "classes.txt").write_text("ground\ntree\n")
    return root


def test_check_data_counts_the_classes(
    own_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-data", "--data-dir", str(own_data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert rows[0] == ["class", "folder/train", "folder/val"]
    assert rows[2] == ["", "4 images", "1 images"]
    assert [row[0] for row in rows[3:6]] == ["ground", "tree", "void"]
    shares = np.array([[float(c.rstrip(" %")) for c in row[1:]] for row in rows[3:6]])
    np.testing.assert_allclose(shares.sum(axis=0), 100, atol=0.01)
    np.testing.assert_allclose(shares[1], 50, atol=5)
    assert lines[-1] == "No faults."


def test_check_data_lists_all_faults(
    own_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_data / "masks/0.png").write_bytes(b"")
    (own_data / "images/1.jpg").write_bytes(b"")
    (own_data / "masks/2.png").unlink()
    assert main(["check-data", "--data-dir", str(own_data)]) == 1
    printed = capsys.readouterr().err
    assert "3 faults" in printed
    for name in ("masks/0.png", "images/1.jpg", "images/2.jpg"):
        assert f"  {own_data / name}: Expected" in printed
    # Classes without a pixel are a fault, too.
    for path in (own_data / "images").glob("*"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
        mask = own_data / "masks" / f"{path.stem}.png"
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(mask)
    assert main(["check-data", "--data-dir", str(own_data)]) == 1
    assert "folder/val: Expected pixels of class 'tree'" in capsys.readouterr().err


def test_ones_own_data_are_trained_on_once_they_are_sound(
    own_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    arguments = ["train", "--dataset", "folder", "--data-dir", str(own_data)]
    arguments += ["--width", "0.02", "--depth", "0.01", "--dilation", "1"]
    arguments += ["--iterations", "2", "--batch-size", "2", "--crop", "33", "33"]
    arguments += ["--output", str(run), "--losses", "ls"]
    mask = own_data / "masks/0.png"
    whole = mask.read_bytes()
    mask.write_bytes(whole[: len(whole) // 2])
    assert main(arguments) == 1
    assert f"{mask}: Expected a whole image file" in capsys.readouterr().err
    assert not run.exists()
    mask.write_bytes(whole)
    assert main(arguments) == 0
    result = json.loads((run / "report.json").read_text())["evaluation"]["ls"]
    assert set(result["class_iou"]) == {"ground", "tree"}
    # Read once: the same files are known to be sound.
    assert json.loads((run / "verified.json").read_text())


def test_predict_writes_masks_in_the_runs_colours(
    finished_run: Path,
    own_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    model, inputs = str(finished_run / "ls"), str(own_data / "images")
    arguments = ["predict", model, inputs, "--output", str(out), "--probabilities"]
    assert main([*arguments, "--tile", "20", "24", "--overlap", "8"]) == 0
    masks = sorted((out / "masks").glob("*.png"))
    assert [path.stem for path in masks] == list("01234")
    probabilities = np.load(out / "probabilities/0.npy")
    with Image.open(masks[0]) as mask:
        np.testing.assert_array_equal(np.array(mask), probabilities.argmax(-1))
        colours = np.reshape(mask.getpalette(), (-1, 3))[: probabilities.shape[-1]]
    palette = json.loads((finished_run / "ls/palette.json").read_text())
    np.testing.assert_array_equal(colours, palette)
    assert "5/5" in capsys.readouterr().out
    # The same goes on; another way of predicting, or another model, is not mixed in.
    assert main([*arguments, "--tile", "20", "24", "--overlap", "8"]) == 0
    assert main([*arguments, "--flip"]) == 1
    assert "another flip, tile, overlap" in capsys.readouterr().err
    shutil.copytree(finished_run / "ls", tmp_path / "ls")
    arguments[1] = str(tmp_path / "ls")
    assert main([*arguments, "--tile", "20", "24", "--overlap", "8"]) == 1
    assert "another model" in capsys.readouterr().err
    arguments[1] = model
    (own_data / "images/broken.png").write_bytes(b"")
    assert main([*arguments, "--tile", "20", "24", "--overlap", "8"]) == 1
    assert "broken.png: Expected an image" in capsys.readouterr().err


def constant_model(path: Path, logits: Sequence[float]) -> str:
    """Saves a model that answers the same everywhere."""
    inputs = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(
        len(logits),
        1,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(logits[0]),
    )
    keras.Model(inputs, layer(inputs)).save(path)
    return str(path)


@pytest.mark.parametrize("logit", [5.0, -5.0])
def test_predict_takes_a_sigmoids_channel_for_the_foreground(
    own_data: Path, tmp_path: Path, logit: float
) -> None:
    model = constant_model(tmp_path / "model.keras", [logit])
    arguments = ["predict", model, str(own_data / "images/0.jpg")]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out/masks/0.png") as mask:
        np.testing.assert_array_equal(np.array(mask), int(logit > 0))


def test_predict_refuses_more_classes_than_a_byte_holds(
    own_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = constant_model(tmp_path / "model.keras", [0.0] * 257)
    arguments = ["predict", model, str(own_data / "images/0.jpg")]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 1
    assert "at most 256 classes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--overlap", "8"], "--tile together with --overlap"),
        (["--tile", "20", "20", "--crf", "vgg"], "needs the whole image"),
        (["--tile", "20", "20"], "half a tile's side. Received: 64"),
    ],
)
def test_predict_refuses_what_does_not_go_together(
    own_data: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["predict", "nowhere", str(own_data / "images"), *options]) == 1
    assert message in capsys.readouterr().err


def test_figures_are_drawn_of_a_run(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["figures", str(finished_run), "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert len(paths) == 2
    for path, kind in zip(paths, ("level_sets", "zooms"), strict=True):
        assert path.name.endswith(f"-{kind}.png")
        # Of both losses: image, truth, and three or one a loss.
        with Image.open(path) as drawn:
            width = drawn.width
        assert width == {"level_sets": 8 * 204 - 4, "zooms": 4 * 244 - 4}[kind]
    assert main([*arguments, "--classes", "unicorn"]) == 1
    assert "a class such as" in capsys.readouterr().err


def test_figures_of_pictures_in_folders_have_files_of_their_own(
    finished_run: Path,
    own_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = constant_model(tmp_path / "model.keras", [0.0] * 2)
    for kind in ("images", "masks"):
        (first,) = (own_data / kind).glob("0.*")
        for folder in "ab":
            target = own_data / kind / folder / f"x{first.suffix}"
            target.parent.mkdir()
            shutil.copy(first, target)
    names = ["a/x", "b/x"]
    (own_data / "both.txt").write_text("\n".join(names))
    arguments = ["figures", model, "--dataset", "folder", "--data-dir", str(own_data)]
    arguments += ["--split", "both", "--samples", *names]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    written = sorted((tmp_path / "out").rglob("*.png"))
    assert len(written) == 4
    assert {path.parent.name for path in written} == {"a", "b"}


def test_report_is_one_page(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "out" / "page.html"
    runs = [str(finished_run / "ls"), str(finished_run / "ce")]
    assert main(["report", *runs, "--out", str(page)]) == 0
    assert capsys.readouterr().out.endswith(f"Wrote {page}.\n")
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]
    text = page.read_text("utf-8")
    assert text.index("finished/ls") < text.index("finished/ce")
    # The synthetic pictures need no files, and take none.
    assert 'alt="Picture val_000000"' in text
    assert main(["report", *runs, "--out", str(page), "--data-dir", "x"]) == 0
    assert "Received: &#39;x&#39;" in page.read_text("utf-8")


def test_evaluate_says_which_dataset_is_missing(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.keras"
    model.write_bytes((finished_run / "ce" / "model.keras").read_bytes())
    (tmp_path / "config.json").write_text("{}")  # another program's
    assert main(["evaluate", str(model)]) == 1
    assert "Expected --dataset" in capsys.readouterr().err


def test_a_loss_that_becomes_nan_ends_in_one_line(
    tmp_path: Path,
    tiny_recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(recipes.RECIPES, "synthetic", tiny_recipe)
    arguments = ["train", "--output", str(tmp_path), "--losses", "ce"]
    arguments += ["--learning-rate", "1e30", "--checkpoint-seconds", "0"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "Expected predictions in [0, 8), from finite scores" in error
    assert len(error.splitlines()) == 1
    # It names the pictures that the step saw, and keeps what was before it.
    assert re.search(r"At step 1, of the samples (train_\d+(, )?){3}\. ", error)
    assert "step-1 is the last checkpoint before." in error
    assert Checkpoints(tmp_path / "ce" / "checkpoint").newest() == 1


def test_a_run_is_told_how_to_keep_what_it_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    def train(
        recipe: Recipe,
        run_dir: Path,
        data_dir: str | None,
        checkpoints: CheckpointOptions,
        strategy: tf.distribute.Strategy,
    ) -> dict[str, Any]:
        told.append(checkpoints)
        assert strategy is tf.distribute.get_strategy()
        (run_dir / "report.md").write_text("")
        return {"evaluation": {}}

    monkeypatch.setattr("tf_levelset.training.run.train", train)
    monkeypatch.setattr(
        tf.config.experimental,
        "enable_op_determinism",
        lambda: told.append("deterministic"),
    )
    arguments = ["train", "--output", str(tmp_path)]
    assert main(arguments) == 0
    assert told == [CheckpointOptions(seconds=600, keep=2)]
    told.clear()
    arguments += ["--checkpoint-seconds", "2.5", "--keep-checkpoints", "7"]
    assert main([*arguments, "--deterministic"]) == 0
    assert told == ["deterministic", CheckpointOptions(seconds=2.5, keep=7)]


def test_keeping_nothing_claims_no_folder(
    tmp_path: Path,
    tiny_recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(recipes.RECIPES, "synthetic", tiny_recipe)
    arguments = ["train", "--output", str(tmp_path), "--keep-checkpoints", "0"]
    assert main(arguments) == 1
    assert "Expected `keep` to be at least 1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_ctrl_c_answers_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run", interrupted)
    assert main(["train"]) == 130
    assert "same command resumes" in capsys.readouterr().out


def test_train_keras_is_tf_levelset_train() -> None:
    command = [sys.executable, "train_keras.py", "--help"]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "tf-levelset train" in out.stdout
    assert "--level-set-weight" in out.stdout


# --- Bad input ---


def error_of_command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main([str(argument) for argument in arguments]) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("palette", [3, [3], [[1, 2]], [[1, 2, 256]], [[1, 2, "3"]]])
def test_colours_of_other_programs_are_told(
    finished_run: Path,
    own_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    palette: Any,
) -> None:
    model = tmp_path / "model.keras"
    model.write_bytes((finished_run / "ce" / "model.keras").read_bytes())
    (tmp_path / "palette.json").write_text(json.dumps(palette))
    said = error_of_command(
        capsys, "predict", tmp_path, own_data / "images", "--output", tmp_path / "out"
    )
    assert "Expected colours [red, green, blue] in" in said


@pytest.mark.parametrize("names", [[1, 2], [None], {"a": 1, 3: "b"}])
def test_names_of_other_programs_are_told(
    finished_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    names: Any,
) -> None:
    model = tmp_path / "model.keras"
    model.write_bytes((finished_run / "ce" / "model.keras").read_bytes())
    (tmp_path / "classes.json").write_text(json.dumps(names))
    said = error_of_command(capsys, "export", model, tmp_path / "served")
    assert "Expected" in said


def test_a_config_of_another_program_is_no_run_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in ('{"a": 1}', "[]", "{", "\udcff"):
        (tmp_path / "config.json").write_text(content, "utf-8", "surrogatepass")
        said = error_of_command(capsys, "train", "--output", tmp_path)
        assert "config.json" in said
        assert "Expected" in said


def test_text_is_not_true(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for setting in ("model_options.batch_norm=False", "level_set.signed=no"):
        said = error_of_command(capsys, "train", "--output", tmp_path, "--set", setting)
        assert "must be of type bool" in said


def test_options_that_are_the_runs_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = "level_set.from_logits=false"
    said = error_of_command(capsys, "train", "--output", tmp_path, "--set", setting)
    assert "Expected options of 'ls' but ('from_logits', 'ignore_class')" in said


def test_a_worker_tells_nothing_but_the_chief_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    strategies: list[Any] = []

    def train(*arguments: Any) -> dict[str, Any]:
        strategies.append(arguments[-1])
        return {}

    monkeypatch.setattr("tf_levelset.training.run.train", train)
    monkeypatch.setattr(
        "tf_levelset.training.distribution.strategy_named",
        lambda name: f"strategy {name}",
    )
    arguments = ["train", "--output", str(tmp_path), "--distribute", "workers"]
    assert main(arguments) == 0
    assert strategies == ["strategy workers"]
    assert capsys.readouterr().out == ""
