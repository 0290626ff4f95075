"""Files for the servers, and that the official scripts read them as we do."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import made_up_samples
import numpy as np
import pytest
from PIL import Image

from tf_levelset.datasets import Source, evaluation_dataset
from tf_levelset.datasets.cityscapes import CLASSES as CITYSCAPES_CLASSES
from tf_levelset.datasets.cityscapes import cityscapes
from tf_levelset.datasets.voc import CLASSES as VOC_CLASSES
from tf_levelset.inference.evaluation import evaluate
from tf_levelset.inference.submission import write_submission
from tf_levelset.metrics.confusion import confusion_matrix
from tf_levelset.metrics.iou import class_iou, mean_iou

# The ids in Cityscapes' files of its classes 0 to 18, from the official table.
CITYSCAPES_IDS = np.array(
    [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
)
SIZES = [(9, 14), (12, 7), (40, 31)]
CITYSCAPES_NAMES = (
    "frankfurt_000000_000294",
    "frankfurt_000001_000294",
    "lindau_000000_000019",
)
VOC_NAMES = ("2008_000006", "2008_000011", "2012_004328")


def image_of(classes: np.ndarray) -> np.ndarray:
    """An image whose red channel is the class, which `by_red` predicts."""
    return np.stack([classes, 7 * classes, 255 - classes], axis=-1).astype(np.uint8)


def by_red(num_classes: int, image: np.ndarray) -> np.ndarray:
    """Probabilities that are largest at the image's red value, modulo C."""
    one_hot = np.eye(num_classes, dtype=np.float32)[image[..., 0] % num_classes]
    return 0.5 * one_hot + 0.5 / num_classes


by_red_19, by_red_21 = partial(by_red, 19), partial(by_red, 21)


def source_of(
    images: Sequence[np.ndarray],
    names: Sequence[str],
    classes: Sequence[str],
    has_labels: bool = False,
) -> Source:
    pairs = [(image, np.full(image.shape[:2], 255, np.uint8)) for image in images]
    return made_up_samples.source_of(
        pairs, classes, sample_names=tuple(names), has_labels=has_labels
    )


def random_classes(num_classes: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, num_classes, size) for size in SIZES]


# --- PASCAL VOC ---


def test_voc_files_are_palette_pngs_in_vocs_colours(tmp_path: Path) -> None:
    classes = random_classes(21)
    source = source_of([image_of(c) for c in classes], VOC_NAMES, VOC_CLASSES)
    paths = write_submission(by_red_21, source, tmp_path, "voc")
    place = tmp_path / "results/VOC2012/Segmentation/comp6_test_cls"
    assert paths == tuple(place / f"{name}.png" for name in VOC_NAMES)
    # Some of the devkit's colours, as its documents show them.
    colours = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        4: (0, 0, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
    }
    for path, labels in zip(paths, classes, strict=True):
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("PNG", "P")
            np.testing.assert_array_equal(np.array(image), labels)
            rgb = np.array(image.convert("RGB"))
            palette = image.getpalette()
        for label, colour in colours.items():
            assert (rgb[labels == label] == colour).all()
        assert palette is not None
        assert len(palette) == 768
        # A depth of 8 bits and colour type 3, as in the PNG's header.
        assert path.read_bytes()[24:26] == b"\x08\x03"


# --- Cityscapes ---


def write_cityscapes(
    root: Path, split: str, ids: Sequence[np.ndarray], images: Sequence[np.ndarray]
) -> None:
    for name, labels, image in zip(CITYSCAPES_NAMES, ids, images, strict=True):
        city = name.split("_")[0]
        for folder, end, pixels in (
            ("leftImg8bit", "leftImg8bit", image),
            ("gtFine", "gtFine_labelIds", labels.astype(np.uint8)),
        ):
            path = root / folder / split / city / f"{name}_{end}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def test_cityscapes_of_the_test_split(tmp_path: Path) -> None:
    predicted = random_classes(19)
    void = [np.zeros(size) for size in SIZES]
    images = [image_of(classes) for classes in predicted]
    write_cityscapes(tmp_path, "test", void, images)
    source = cityscapes(tmp_path, "test")
    paths = write_submission(by_red_19, source, tmp_path / "out", "cityscapes")
    assert [p.name for p in paths] == [f"{n}_labelIds.png" for n in CITYSCAPES_NAMES]
    for path, classes in zip(paths, predicted, strict=True):
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("PNG", "L")
            np.testing.assert_array_equal(np.array(image), CITYSCAPES_IDS[classes])
        assert path.read_bytes()[24:26] == b"\x08\x00"  # 8 bits, greyscale


def official_scores(dataset: Path, results: Path) -> dict[str, object]:
    """What the benchmark's own script says, in a process of its own.

    Its scores by instance are switched off: they need further files, and call what
    NumPy 2.4 no longer has.
    """
    if importlib.util.find_spec("cityscapesscripts") is None:
        pytest.skip("needs cityscapesscripts: pip install cityscapesscripts")
    code = (
        "from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as e\n"
        "e.args.evalInstLevelScore = False\n"
        "e.args.quiet = True\n"
        "e.main()\n"
    )
    export = results.parent / "scores"
    export.mkdir()
    environment = os.environ | {
        "CITYSCAPES_DATASET": str(dataset),
        "CITYSCAPES_RESULTS": str(results),
        "CITYSCAPES_EXPORT_DIR": str(export),
    }
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = export.iterdir()
    return json.loads(path.read_text())


# Which ids the truth has and which classes are predicted: all; without some classes in
# both (no IoU) and in the truth alone (IoU 0); and hardly anything that is judged.
@pytest.mark.parametrize(
    ("ids", "classes"),
    [
        (range(34), range(19)),
        ([0, 3, 7, 8, 11, 23, 26, 29, 33], [0, 1, 2, 3, 10, 13, 18]),
        ([*range(7), 9, 14, 18, 30, 33], range(19)),
    ],
)
def test_our_cityscapes_scores_are_the_official_ones(
    tmp_path: Path, ids: Sequence[int], classes: Sequence[int]
) -> None:
    rng = np.random.default_rng(0)
    truth = [rng.choice(ids, size).astype(np.uint8) for size in SIZES]
    predicted = [rng.choice(classes, size) for size in SIZES]
    # Right in half of the pixels that can be: scores of noise are all alike.
    for labels, answer in zip(truth, predicted, strict=True):
        for c in classes:
            right = (labels == CITYSCAPES_IDS[c]) & (
                rng.uniform(size=labels.shape) < 0.5
            )
            answer[right] = c
    images = [image_of(answer) for answer in predicted]
    write_cityscapes(tmp_path, "val", truth, images)
    source = cityscapes(tmp_path, "val")

    write_submission(by_red_19, source, tmp_path / "results", "cityscapes")
    official = official_scores(tmp_path, tmp_path / "results")

    confusion = np.zeros((19, 19), np.int64)
    for (_, labels), answer in zip(
        evaluation_dataset(source).as_numpy_iterator(), predicted, strict=True
    ):
        confusion += confusion_matrix(labels, answer, 19, ignore_class=255)
    expected = np.array(official["confMatrix"])[np.ix_(CITYSCAPES_IDS, CITYSCAPES_IDS)]
    np.testing.assert_array_equal(confusion, expected)
    assert 0 < confusion.sum() < sum(labels.size for labels in truth)
    scores = official["classScores"]
    assert isinstance(scores, dict)
    # Quotients of the same integers in float64: equal to the bit.
    np.testing.assert_array_equal(
        class_iou(confusion), [scores[name] for name in CITYSCAPES_CLASSES]
    )
    # A mean of at most 19 numbers, added up in two orders: within 19 roundings.
    assert mean_iou(confusion) == pytest.approx(
        official["averageScoreClasses"], rel=19 * np.finfo(np.float64).eps
    )
    assert evaluate(by_red_19, source)["mean_iou"] == mean_iou(confusion)


# --- Both ---


def fails_if_asked(image: np.ndarray) -> np.ndarray:
    raise AssertionError("Expected an error before any work.")


BLACK = image_of(np.zeros((2, 2)))
VOC_SOURCE = source_of([image_of(np.zeros((4, 5)))], VOC_NAMES[:1], VOC_CLASSES)
CITYSCAPES_SOURCE = partial(source_of, classes=tuple(CITYSCAPES_CLASSES))


@pytest.mark.parametrize(
    ("source", "format", "message"),
    [
        (VOC_SOURCE, "VOC", "Received: 'VOC'"),
        (VOC_SOURCE, "cityscapes", "the 19 classes of 'cityscapes'"),
        (CITYSCAPES_SOURCE([BLACK], ["../a"]), "cityscapes", "Expected a path inside"),
        (CITYSCAPES_SOURCE([BLACK] * 3, [*"aba"]), "cityscapes", "'a' more than once"),
    ],
)
def test_sources_that_do_not_fit_are_rejected(
    tmp_path: Path, source: Source, format: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_submission(fails_if_asked, source, tmp_path / "out", format)
    assert not (tmp_path / "out").exists()


def test_links_that_lead_out_of_the_folder_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "results").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="Expected a path inside"):
        write_submission(fails_if_asked, VOC_SOURCE, tmp_path / "out", "voc")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p[..., :20], r"shape \(4, 5, 21\) for '2008_000006'"),
        (lambda p: p.transpose(1, 0, 2), r"shape \(4, 5, 21\) for '2008_000006'"),
        (lambda p: p[..., 0], r"shape \(4, 5, 21\) for '2008_000006'"),
        (lambda p: np.where(p == p[1, 2, 3], np.nan, p), "'2008_000006'.* not finite"),
    ],
)
def test_other_arrays_than_probabilities_are_rejected(
    tmp_path: Path, spoil: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_submission(
            lambda image: spoil(by_red_21(image)), VOC_SOURCE, tmp_path, "voc"
        )
    assert not list(tmp_path.rglob("*.png"))
