"""The commands `predict`, `figures` and `report`, on a finished run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tf_levelset.commands.main import main

ConstantModel = Callable[[Sequence[float]], str]


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
    # The same command continues. Other options and other models are not mixed in.
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
    assert "broken.png: Expected a whole image" in capsys.readouterr().err


@pytest.mark.parametrize("logit", [5.0, -5.0])
def test_predict_takes_a_sigmoids_channel_for_the_foreground(
    constant_model: ConstantModel, own_data: Path, tmp_path: Path, logit: float
) -> None:
    model = constant_model([logit])
    arguments = ["predict", model, str(own_data / "images/0.jpg")]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out/masks/0.png") as mask:
        np.testing.assert_array_equal(np.array(mask), int(logit > 0))


def test_predict_refuses_more_classes_than_a_byte_holds(
    constant_model: ConstantModel, own_data: Path, error_of: Callable[..., str]
) -> None:
    model = constant_model([0.0] * 257)
    said = error_of("predict", model, own_data / "images/0.jpg")
    assert "at most 256 classes" in said


@pytest.mark.parametrize("output", [None, ".", "a/../images/out", "../out"])
@pytest.mark.parametrize("linked", [False, True])
def test_predict_leaves_out_what_commands_wrote(
    output: str | None,
    linked: bool,
    constant_model: ConstantModel,
    own_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = own_data / "images"
    monkeypatch.chdir(folder)
    # A run, an evaluation and figures have images, too.
    for name in ("run/panel", "panel-val", "0-level_sets", "0-zooms", "a/panel-own"):
        path = folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(own_data / "masks/0.png", path)
    for name in ("run/report.json", "evaluation-val.json"):
        (folder / name).write_text("{}")
    if linked:
        (tmp_path / "link").symlink_to(folder)
        folder = tmp_path / "link"
    arguments = ["predict", constant_model([0.0, 0.0]), str(folder)]
    arguments += ["--probabilities", *([] if output is None else ["--output", output])]
    for _ in range(2):
        assert main(arguments) == 0
        found = json.loads(Path(output or "predictions", "predict.json").read_text())
        assert sorted(found["inputs"]) == [*"01234", "a/panel-own"]
    # Nor are the outputs of one command inputs of another one.
    assert main([*arguments[:3], "--output", str(tmp_path / "other")]) == 0
    assert len(list((tmp_path / "other/masks").rglob("*.png"))) == 6


def test_files_of_another_program_beside_a_model_are_an_error(
    finished_run: Path, own_data: Path, tmp_path: Path, error_of: Callable[..., str]
) -> None:
    shutil.copy(finished_run / "ce" / "model.keras", tmp_path)
    (tmp_path / "palette.json").write_text("3")
    inputs, out = own_data / "images", tmp_path / "out"
    said = error_of("predict", tmp_path, inputs, "--output", out)
    assert "Expected colours [red, green, blue] in" in said
    (tmp_path / "classes.json").write_text("3")
    said = error_of("export", tmp_path / "model.keras", out)
    assert re.search(r"Expected .* in \S*classes\.json", said)


def test_figures_of_a_run(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["figures", str(finished_run), "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert len(paths) == 2
    for path, kind in zip(paths, ("level_sets", "zooms"), strict=True):
        assert path.name.endswith(f"-{kind}.png")
        # Columns: image, truth, and three or one for each of two losses.
        with Image.open(path) as drawn:
            width = drawn.width
        assert width == {"level_sets": 8 * 204 - 4, "zooms": 4 * 244 - 4}[kind]
    assert main([*arguments, "--classes", "unicorn"]) == 1
    assert "a class such as" in capsys.readouterr().err


def test_figures_of_images_in_subfolders_have_files_of_their_own(
    constant_model: ConstantModel, own_data: Path, tmp_path: Path
) -> None:
    model = constant_model([0.0] * 2)
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
    # The synthetic images need no files, and take none.
    assert "<h3>val_000000</h3>" in text
    assert main(["report", *runs, "--out", str(page), "--data-dir", "x"]) == 0
    assert "Received: &#39;x&#39;" in page.read_text("utf-8")


def test_report_and_evaluation_go_on_without_a_damaged_run(
    finished_run: Path,
    tmp_path: Path,
    constant_model: ConstantModel,
    error_of: Callable[..., str],
) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    (tmp_path / "run/ce/evaluation.json").write_text("{")
    model = constant_model([float("nan")] * 8)
    shutil.copy(model, tmp_path / "run/ls/model.keras")
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "run"), "--output", str(page)]) == 0
    # Nor is a loss left out because another one cannot be evaluated.
    said = error_of("evaluate", tmp_path / "run", "--output", tmp_path / "out")
    assert "every loss to be evaluated. Received: {'ls': \"Expected the model's" in said
    assert [*json.loads((tmp_path / "out/evaluation-val.json").read_text())] == ["ce"]
    text = page.read_text("utf-8")
    assert f"Expected JSON in {tmp_path / 'run/ce/evaluation.json'}" in text
    assert "probabilities to be finite" in text
    assert "<h3>val_000000</h3>" in text


def test_names_that_are_not_utf8(
    constant_model: ConstantModel,
    own_data: Path,
    tmp_path: Path,
    error_of: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in (*own_data.glob("images/*"), *own_data.glob("masks/*")):
        try:
            path.rename(path.with_name(f"\udce9{path.name}"))
        except OSError:
            pytest.skip("needs a file system with names that are not UTF-8")
    data = ("--dataset", "folder", "--data-dir", str(own_data))
    out, model = str(tmp_path / "out"), constant_model([0.0, 0.0])
    assert main(["check-data", *data]) == 0
    assert main(["evaluate", model, *data, "--output", out]) == 0
    assert main(["figures", model, *data, "--output", out]) == 0
    assert "\\udce9" in capsys.readouterr().out
    images = own_data / "images"
    (images / "\udce9wrong.jpg").write_text("no image")
    (images / "\udce9bad.mp4").write_text("no video")
    said = error_of("predict", model, images, "--output", out)
    assert "2 faults" in said
    assert "udce9wrong.jpg: Expected a whole image" in said
    assert "udce9bad.mp4: Expected a video" in said
    masks = {path.name for path in Path(out, "masks").iterdir()}
    assert masks == {f"\udce9{i}.png" for i in range(5)}
    assert len(json.loads(Path(out, "predict.json").read_text())["inputs"]) == 7
    assert "udce9wrong.jpg: Expected its mask" in error_of("check-data", *data)
