"""The page holds what it says, for every reader, and nothing from elsewhere."""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import re
import shutil
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import evaluation, write_run
from PIL import Image

from tf_levelset.datasets import load_dataset
from tf_levelset.inference.panels import colourize
from tf_levelset.inference.predictor import load_predictors
from tf_levelset.reporting.html_page import COLOURS, write_report
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import RECIPES

SYNTHETIC = RECIPES["synthetic"]
EVIL = '<script>alert("1")</script>&amp;'


class Page(HTMLParser):
    """Tags with their attributes, in order, and the text within each kind of tag."""

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
        """What stands in each tag of a kind, in single spaces."""
        return [" ".join(text.split()) for text in self.texts.get(tag, [])]


@pytest.fixture(scope="module")
def page_of_a_run(
    finished_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Page]:
    """The page of a run that was trained, beside one that is not finished."""
    folder = tmp_path_factory.mktemp("report")
    other = folder / "begun"
    shutil.copytree(finished_run / "ls", other / "ls")
    shutil.copy(finished_run / "config.json", other)
    (other / "ls" / "evaluation.json").unlink()
    (other / "ls" / "model.keras").unlink()
    write_report([finished_run, other], folder / "report.html")
    return folder / "report.html", Page(folder / "report.html")


def made_up(folder: Path, *runs: Path) -> Page:
    write_report(runs, folder / "report.html")
    return Page(folder / "report.html")


# --- For every reader ---


def test_it_needs_nothing_else(page_of_a_run: tuple[Path, Page]) -> None:
    _, page = page_of_a_run
    assert not {"script", "iframe", "object", "embed", "base"} & set(dict(page.tags))
    for _, attributes in page.tags:
        for name, value in attributes.items():
            if name in ("src", "srcset", "href", "xlink:href", "data", "action"):
                assert (value or "").startswith(("data:", "#")), (name, value)
    assert "@import" not in page.source
    assert not re.search(r"url\((?!#)", page.source)
    (policy,) = (
        a["content"]
        for a in page.of("meta")
        if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_it_is_accessible(page_of_a_run: tuple[Path, Page]) -> None:
    _, page = page_of_a_run
    assert page.of("html") == [{"lang": "en"}]
    assert page.text("title") == ["finished, begun: training report"]
    assert page.text("h1") == ["finished, begun"]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert len(page.of("caption")) == len(page.of("table")) > 5
    assert all(page.text("caption"))
    assert all(attributes.get("scope") for attributes in page.of("th"))
    assert page.of("img")
    assert all(attributes.get("alt") for attributes in page.of("img"))
    drawings = [a for a in page.of("div") if a.get("role") == "img"]
    assert len(drawings) == len(page.of("svg")) == 3
    assert all(attributes.get("aria-label") for attributes in drawings)


def test_ids_are_unique_and_links_lead_somewhere(
    page_of_a_run: tuple[Path, Page],
) -> None:
    _, page = page_of_a_run
    ids = Counter(a["id"] for _, a in page.tags if "id" in a)
    assert set(ids.values()) == {1}
    references = [
        (a.get(name) or "").lstrip("#")
        for _, a in page.tags
        for name in ("href", "xlink:href", "aria-labelledby")
        if (a.get(name) or "data:").startswith("#") or name == "aria-labelledby" in a
    ]
    references += re.findall(r"url\(#([^)]*)\)", page.source)
    assert len(references) > 20
    assert set(references) <= set(ids)


def test_curves_are_drawn_in_the_pages_colours(
    page_of_a_run: tuple[Path, Page],
) -> None:
    _, page = page_of_a_run
    svgs = re.findall(r"<svg.*?</svg>", page.source, re.DOTALL)
    for svg in svgs:
        assert not re.search("#[0-9a-f]{6}", svg)
        # Of training and of validation; the third has not begun.
        lines = re.findall(r"fill: none; [^\"]*--colour-(\d)\)", svg)
        assert sorted(lines) == ["0", "0", "1", "1", "3", "3"]


def test_names_from_files_are_escaped(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / 'run <b onclick="x">',
        dataclasses.replace(SYNTHETIC, name=EVIL),
        ce=evaluation(0.4, classes=(EVIL, "road")),
    )
    page = made_up(tmp_path, run)
    assert not {"script", "b"} & set(dict(page.tags))
    assert page.text("h1") == ['run <b onclick="x">']
    assert EVIL in page.text("th")
    assert EVIL in page.text("td")


def test_the_same_runs_give_the_same_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", SYNTHETIC, ce=evaluation(0.4))
    assert made_up(tmp_path, run).source == made_up(tmp_path, run).source


# --- What it says ---


def test_scores_and_differences(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", SYNTHETIC, ce=evaluation(0.25), ls=evaluation(0.5)
    )
    page = made_up(tmp_path, run)
    captions = page.text("caption")
    assert captions[-3:] == ["Summary", "IoU by class, %", "Boundary IoU by class, %"]
    summary = page.text("table")[captions.index("Summary")]
    assert "━ run/ce ━ run/ls mIoU % 25.00 50.00 (best) +25.00" in summary
    assert "level set energy 75.0 50.0 (best) −25.0" in summary
    by_class = page.text("table")[captions.index("Boundary IoU by class, %")]
    assert "sky 12.50 25.00 (best) +12.50 road" in by_class
    assert "On made/up, 5 pictures" in page.source


def test_what_differs_and_what_is_folded_away(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, recipe, ce=evaluation(0.4))
        for name, recipe in (
            ("a", SYNTHETIC),
            ("b", dataclasses.replace(SYNTHETIC, seed=7)),
        )
    ]
    page = made_up(tmp_path, *runs)
    differ = page.text("table")[page.text("caption").index("What differs")]
    assert differ == "What differs field a b seed 0 7"
    folded = page.text("details")[0]
    assert "level_set.level_set_weight 0.67" in folded
    assert "seed" not in folded
    assert "The versions are not known yet" in page.source


def test_versions_are_those_that_runs_were_finished_with(
    page_of_a_run: tuple[Path, Page],
) -> None:
    _, page = page_of_a_run
    versions = page.text("table")[page.text("caption").index("Versions")]
    assert versions.startswith("Versions what finished begun tf_levelset 0.1.0 –")


def test_curves_in_words_and_numbers(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", SYNTHETIC, ce=None)
    page = made_up(tmp_path, run)
    labels = [a.get("aria-label") for a in page.of("div") if a.get("role") == "img"]
    assert labels[2] == (
        "mIoU % over the steps. At the end, run/ce: 20 in training at step 20, "
        "17.5 in validation at step 20; run/ls: no value yet."
    )
    ends = page.text("table")[page.text("caption").index("Last values of the curves")]
    assert "Cross-entropy, training 0.5 – Cross-entropy, validation 0.75 –" in ends
    assert "No run was judged yet." in page.source


def test_it_says_what_is_not_finished(page_of_a_run: tuple[Path, Page]) -> None:
    _, page = page_of_a_run
    assert "Not finished: begun/ce, begun/ls, shown as far as they are." in page.source
    states = page.text("table")[0]
    assert "begun/ce cross-entropy not finished: 0 of 2 epochs" in states
    assert "begun/ls with level set loss not finished: 2 of 2 epochs" in states
    assert "begun/ls is left out: its net is not trained to the end." in page.source


def test_more_curves_than_colours(tmp_path: Path) -> None:
    recipe = dataclasses.replace(SYNTHETIC, losses=("ce",))
    runs = [
        write_run(tmp_path / f"run{i}", recipe, ce=evaluation(0.4))
        for i in range(len(COLOURS) + 1)
    ]
    page = made_up(tmp_path, *runs)
    (first, *_, last) = re.findall(r'<li><span class="swatch"[^>]*>.', page.source)
    assert first[-1] == "━"
    assert last == first[:-1] + "●"


# --- Pictures ---


def decoded(uri: str | None) -> np.ndarray:
    assert uri is not None
    kind, _, content = uri.partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        return np.array(picture)


def test_pictures_are_the_datas_and_the_nets(
    finished_run: Path, tiny_recipe: Recipe, page_of_a_run: tuple[Path, Page]
) -> None:
    _, page = page_of_a_run
    names = [text for text in page.text("h3") if text.startswith("val_")]
    assert names == ["val_000000", "val_000003", "val_000006", "val_000009"]
    source = load_dataset("synthetic", "val", **tiny_recipe.dataset_options)
    image, labels = (array.numpy() for array in source.load(np.int64(3)))
    (predictor,) = load_predictors(finished_run / "ls").values()
    expected = {
        "Picture val_000003": image,
        "Truth for val_000003": colourize(labels, source.palette),
        "finished/ls for val_000003": colourize(
            predictor(image).argmax(-1), source.palette
        ),
    }
    for title, picture in expected.items():
        (found,) = (
            a["src"] for a in page.of("img") if (a["alt"] or "").startswith(title)
        )
        np.testing.assert_array_equal(decoded(found), picture)
    (truth,) = (
        a["alt"] or ""
        for a in page.of("img")
        if (a["alt"] or "").startswith("Truth for val_000003")
    )
    seen = [name for c, name in enumerate(source.class_names) if (labels == c).any()]
    assert truth == f"Truth for val_000003: {', '.join(seen)}"


def test_pictures_that_cannot_be_read_are_left_out_with_the_reason(
    tmp_path: Path,
) -> None:
    recipe = dataclasses.replace(RECIPES["camvid"], losses=("ce",))
    run = write_run(tmp_path / "run", recipe, ce=evaluation(0.4))
    (run / "ce" / "model.keras").touch()  # which is not even opened
    page = made_up(tmp_path, run)
    assert "Pictures are left out. <code>--data-dir</code>" in page.source
    assert any("Expected `data_dir`, the folder of" in p for p in page.text("p"))
    write_report([run], tmp_path / "report.html", str(tmp_path / "nowhere"))
    reasons = Page(tmp_path / "report.html").text("p")
    assert any("nowhere" in p and "Expected" in p for p in reasons)


def test_data_of_other_classes_are_left_out(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run",
        dataclasses.replace(SYNTHETIC, losses=("ce",)),
        ce=evaluation(0.4, classes=("sky", "road")),
    )
    (run / "ce" / "model.keras").touch()
    (reason,) = (
        p for p in made_up(tmp_path, run).text("p") if "to have the classes" in p
    )
    assert "of run/ce, ('sky', 'road')" in reason


def test_large_pictures_are_shrunk_and_zooms_are_not(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tf_levelset.reporting.html_page.LARGEST", 20)
    monkeypatch.setattr("tf_levelset.reporting.html_page.ZOOM", 24)
    monkeypatch.setattr("tf_levelset.reporting.level_sets.ZOOM", 24)
    page = made_up(tmp_path, finished_run / "ls")  # where it is not the truth
    sizes = Counter(
        (decoded(a["src"]).shape[:2], (a["alt"] or "").startswith("Part"))
        for a in page.of("img")
    )
    assert set(sizes) == {((16, 20), False), ((24, 24), True)}  # of 33 × 40
    boxes = [a["style"] or "" for a in page.of("div") if a.get("class") == "box"]
    assert all("width: 60.0%; height: 72.7" in style for style in boxes)


# --- What is refused ---


def test_runs_of_other_data_write_nothing(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, RECIPES[name], ce=evaluation(0.4))
        for name in ("synthetic", "camvid")
    ]
    with pytest.raises(ValueError, match="on the same pictures"):
        write_report(runs, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_libraries_are_named_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r"'tf_levelset\[report\]'"):
        write_report([tmp_path / "nowhere"], tmp_path / "report.html")


# --- In a browser ---

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"
BROKEN = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(
    page_of_a_run: tuple[Path, Page],
    width: int,
    scheme: str,
) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser is found: none of {', '.join(BROWSERS)}")
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    said: list[str] = []
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser)
        page = chromium.new_page(
            viewport={"width": width, "height": 800}, color_scheme=scheme
        )
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url))
        page.goto(page_of_a_run[0].as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = 1)")
        overflow, broken = page.evaluate(OVERFLOW), page.evaluate(BROKEN)
        paper, ink = (
            page.evaluate(f"getComputedStyle(document.body).{name}")
            for name in ("backgroundColor", "color")
        )
        chromium.close()
    # The page itself and what it holds; nothing that was not found, or refused.
    assert [text for text in said if not text.startswith(("file:", "data:"))] == []
    assert sum(text.startswith("file:") for text in said) == 1
    assert broken == 0
    assert overflow <= 0
    brightness = [sum(map(int, re.findall(r"\d+", c)[:3])) for c in (paper, ink)]
    assert (brightness[0] > brightness[1]) == (scheme == "light")
