"""The page is complete, accessible, and loads nothing from elsewhere."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import evaluation, write_run
from PIL import Image

from tf_levelset.datasets import load_dataset
from tf_levelset.inference.predictor import load_predictors
from tf_levelset.reporting.html_page import WIDTH, ZOOMS, write_report
from tf_levelset.reporting.level_sets import zoomed_panel
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import RECIPES

SYNTHETIC = RECIPES["synthetic"]
EVIL = '<script>alert("1")</script>&amp;'


class Page(HTMLParser):
    """Tags with their attributes, in order, and the text within each type of tag."""

    VOID = frozenset({"meta", "link", "img", "use", "path", "rect"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text("utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag in ("td", "th"):
            self.handle_data(" ")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.texts[tag][-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self, tag: str) -> list[str]:
        """The text of each tag of a type, with single spaces."""
        return [" ".join(text.split()) for text in self.texts.get(tag, [])]

    def table(self, caption: str) -> str:
        """The text of the table with a caption."""
        return self.text("table")[self.text("caption").index(caption)]


@pytest.fixture(scope="module")
def page_of_a_run(
    finished_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Page]:
    """The page of a finished run and of one that is not finished."""
    folder = tmp_path_factory.mktemp("report")
    other = folder / "begun"
    shutil.copytree(finished_run / "ls", other / "ls")
    shutil.copy(finished_run / "config.json", other)
    (other / "ls" / "evaluation.json").unlink()
    (other / "ls" / "model.keras").unlink()
    write_report([finished_run, other], folder / "report.html")
    return folder / "report.html", Page(folder / "report.html")


def changed(**changes: Any) -> Recipe:
    return dataclasses.replace(SYNTHETIC, **changes)


def page_of(folder: Path, *runs: Path, data_dir: str | None = None) -> Page:
    write_report(runs, folder / "report.html", data_dir)
    return Page(folder / "report.html")


# --- For every reader ---


def test_it_needs_no_other_file(page_of_a_run: tuple[Path, Page]) -> None:
    _, page = page_of_a_run
    assert not {"script", "iframe", "object", "embed", "base"} & set(dict(page.tags))
    for _, attributes in page.tags:
        for name, value in attributes.items():
            if name in ("src", "srcset", "href", "xlink:href", "data", "action"):
                assert (value or "").startswith(("data:", "#")), (name, value)
    assert "@import" not in page.source
    assert not re.search(r"url\((?!#)", page.source)
    policies = [a["content"] for a in page.of("meta") if "http-equiv" in a]
    assert str(policies[0]).startswith("default-src 'none';")


def test_it_is_accessible(page_of_a_run: tuple[Path, Page]) -> None:
    _, page = page_of_a_run
    assert page.of("html") == [{"lang": "en"}]
    assert page.text("title") == ["finished, begun: training report"]
    assert page.text("h1") == ["finished, begun"]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels == sorted(levels)
    assert len(page.of("caption")) == len(page.of("table")) > 4
    assert all(page.text("caption"))
    assert all(attributes.get("scope") for attributes in page.of("th"))
    assert page.of("img")
    assert all(attributes.get("alt") for attributes in page.of("img"))
    plots = [a for a in page.of("div") if a.get("role") == "img"]
    assert len(plots) == len(page.of("svg")) == 3
    assert all(attributes.get("aria-label") for attributes in plots)


def test_names_are_escaped(tmp_path: Path) -> None:
    scores = evaluation(0.4, classes=(EVIL, "road"))
    run = write_run(tmp_path / 'run <b onclick="x">', changed(name=EVIL), ce=scores)
    page = page_of(tmp_path, run)
    assert not {"script", "b"} & set(dict(page.tags))
    assert page.text("h1") == ['run <b onclick="x">']
    assert EVIL in page.text("th")
    assert EVIL in page.text("td")
    # The same runs give the same page.
    assert page_of(tmp_path, run).source == page.source


# --- Content ---


def test_scores(tmp_path: Path) -> None:
    scores = {"ce": evaluation(0.25), "ls": evaluation(0.5)}
    page = page_of(tmp_path, write_run(tmp_path / "run", SYNTHETIC, **scores))
    summary = page.table("Summary")
    assert "score run/ce run/ls mIoU % 25.00 50.00 (+25.00), best" in summary
    assert "sky 12.50 25.00 (+12.50), best" in page.table(
        "Boundary IoU of each class, %"
    )
    assert "On made/up, 5 images at their original size" in page.source


def test_settings(tmp_path: Path, page_of_a_run: tuple[Path, Page]) -> None:
    runs = [
        write_run(tmp_path / name, recipe, ce=evaluation(0.4))
        for name, recipe in (("a", SYNTHETIC), ("b", changed(seed=7)))
    ]
    page = page_of(tmp_path, *runs)
    table = page.table("Settings that differ")
    assert table == "Settings that differ field a b seed 0 7"
    (shared,) = page.text("details")
    assert "level_set.level_set_weight 0.67" in shared
    assert "seed" not in shared
    # The versions are known at the end of a run.
    differ = page_of_a_run[1].table("Settings that differ")
    assert re.search(r"versions\.tf_levelset 0\.\S+ –", differ)


# --- Images ---


def decoded(uri: str | None) -> np.ndarray:
    media_type, _, content = str(uri).partition(",")
    assert media_type == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        return np.array(image)


def test_panels_show_the_predictions(
    finished_run: Path, tiny_recipe: Recipe, page_of_a_run: tuple[Path, Page]
) -> None:
    _, page = page_of_a_run
    names = ["val_000000", "val_000003", "val_000006", "val_000009"]
    assert page.text("h3") == names
    source = load_dataset("synthetic", "val", **tiny_recipe.dataset_options)
    image, labels = (array.numpy() for array in source.load(np.int64(3)))
    predictions = {
        f"finished/{loss}": predictor(image)
        for loss, predictor in load_predictors(finished_run).items()
    }
    expected = zoomed_panel(image, labels, predictions, source.palette, ZOOMS, WIDTH)
    shown = page.of("img")[1]
    np.testing.assert_array_equal(decoded(shown["src"]), expected)
    assert shown["alt"] == (
        "In columns: the image val_000003, the truth, and the predictions of "
        "finished/ce, finished/ls."
    )


@pytest.mark.parametrize(
    ("recipe", "data_dir", "reason"),
    [
        (RECIPES["camvid"], None, "Expected `data_dir`"),
        (RECIPES["camvid"], "nowhere", "nowhere"),
        (SYNTHETIC, None, "to have the classes of run/ce, sky, road. Received"),
    ],
)
def test_data_that_does_not_go_with_a_run_is_omitted_with_the_reason(
    tmp_path: Path, recipe: Recipe, data_dir: str | None, reason: str
) -> None:
    recipe = dataclasses.replace(recipe, losses=("ce",))
    run = write_run(tmp_path / "run", recipe, ce=evaluation(0.4))
    (run / "ce" / "model.keras").touch()  # it is not opened
    page = page_of(tmp_path, run, data_dir=data_dir)
    assert any(reason in text for text in page.text("p"))
    assert not page.of("img")


# --- Errors ---


def test_runs_of_other_data_write_nothing(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, RECIPES[name], ce=evaluation(0.4))
        for name in ("synthetic", "camvid")
    ]
    with pytest.raises(ValueError, match="on the same images"):
        write_report(runs, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_missing_library_is_named_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match="pip install jinja2 matplotlib"):
        write_report([tmp_path / "nowhere"], tmp_path / "report.html")


# --- In a browser ---

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SEEN = (
    "document.documentElement.scrollWidth - window.innerWidth",
    "[...document.images].filter(i => !i.complete || !i.naturalWidth).length",
    "getComputedStyle(document.body).backgroundColor",
    "getComputedStyle(document.body).color",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(
    page_of_a_run: tuple[Path, Page], width: int, scheme: str
) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)}")
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    errors: list[str] = []
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser)
        page = chromium.new_page(
            viewport={"width": width, "height": 800}, color_scheme=scheme
        )
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_of_a_run[0].as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = 1)")
        overflow, broken, paper, ink = map(page.evaluate, SEEN)
        chromium.close()
    assert not errors
    assert broken == 0
    assert overflow <= 0
    lightness = [sum(map(int, re.findall(r"\d+", c)[:3])) for c in (paper, ink)]
    assert (lightness[0] > lightness[1]) == (scheme == "light")
