"""Scores of predictors on data sets."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
from made_up_samples import NAMES, VOID, by_colour, samples, source_of

from tf_levelset.energy.energy import level_set_energy
from tf_levelset.inference.crf import DenseCRF
from tf_levelset.inference.evaluation import evaluate
from tf_levelset.inference.score_table import report_rows, table
from tf_levelset.metrics.boundary_iou import boundary_counts
from tf_levelset.metrics.confusion import confusion_matrix
from tf_levelset.metrics.iou import class_iou, mean_iou, scores
from tf_levelset.metrics.small_objects import small_object_counts
from tf_levelset.metrics.trimap_iou import trimap_confusions


def test_scores_are_those_of_the_whole_set() -> None:
    pairs = samples()
    truth = np.concatenate([labels.ravel() for _, labels in pairs])
    predicted = np.concatenate([im.argmax(-1).ravel() for im, _ in pairs])
    assert (truth == VOID).any()
    confusion = confusion_matrix(truth, predicted, 3, VOID)
    iou = class_iou(confusion)
    energies = [
        level_set_energy(
            labels[np.newaxis].astype(int), by_colour(im)[np.newaxis], ignore_class=VOID
        )
        for im, labels in pairs
    ]

    result = evaluate(by_colour, source_of(pairs))

    expected = {
        **scores(confusion, NAMES),
        "confusion": confusion.tolist(),
        "dataset": "made/val",
        "images": 3,
        "flip": False,
        "scales": [1.0],
    }
    assert {key: result[key] for key in expected} == expected
    assert result["mean_iou_without"] == pytest.approx(
        {
            "sky": (iou[1] + iou[2]) / 2,
            "road": (iou[0] + iou[2]) / 2,
            "car": (iou[0] + iou[1]) / 2,
        }
    )
    assert result["level_set_energy"] == pytest.approx(np.mean(energies), rel=1e-6)


def test_boundary_metrics_are_those_of_the_whole_set() -> None:
    pairs = samples()
    masks = [(labels, by_colour(im).argmax(-1)) for im, labels in pairs]
    widths = [1, 3, 5, 10]
    boundary = np.sum([boundary_counts(y, p, 3, VOID, 0.02) for y, p in masks], axis=0)
    small = np.sum([small_object_counts(y, p, 3, VOID) for y, p in masks], axis=0)
    trimaps = np.sum([trimap_confusions(y, p, 3, widths, VOID) for y, p in masks], 0)

    result = evaluate(by_colour, source_of(pairs))

    iou = boundary[:, 0] / boundary[:, 1]
    assert result["boundary_iou"] == pytest.approx(iou.mean())
    assert result["class_boundary_iou"] == pytest.approx(
        dict(zip(NAMES, iou, strict=True))
    )
    assert result["trimap_mean_iou"] == pytest.approx(
        {w: mean_iou(t) for w, t in zip(("1", "3", "5", "10"), trimaps, strict=True)}
    )
    # In images this small, no object counts as small.
    assert result["small_objects"] == small[:, 1].sum() == 0
    assert result["small_object_recall"] is None


def test_small_objects_are_pooled() -> None:
    # Small: less than 0.5 % of 10,000 pixels, and at least 10 pixels.
    labels = np.zeros((100, 100), np.uint8)
    labels[2, 2:12] = labels[8, 2:22] = 1
    labels[20, 20:40] = 2
    labels[30, 20:29] = labels[40:45, 20:30] = 2  # neither: 9 pixels, and 50
    found = np.zeros((100, 100, 3), np.uint8)
    found[..., 0] = 255
    found[8, 2:12] = (0, 255, 0)  # half of the second
    result = evaluate(by_colour, source_of([(found, labels)]))
    assert result["small_objects"] == 3
    assert result["small_object_recall"] == pytest.approx(1 / 3)
    assert result["class_small_object_recall"] == {"sky": None, "road": 0.5, "car": 0.0}


class _Swap(DenseCRF):
    """A stand-in for a CRF that rotates the classes."""

    def __call__(self, image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        return np.roll(probabilities, 1, axis=-1)


def test_a_crf_refines_what_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tf_levelset.inference.evaluation.require_library", lambda: None
    )
    source = source_of(samples())
    plain = evaluate(lambda image: np.roll(by_colour(image), 1, axis=-1), source)
    result = evaluate(by_colour, source, crf=_Swap(iterations=3))
    assert result["confusion"] == plain["confusion"]
    assert plain["crf"] is None
    assert plain["seconds_per_image"]["net"] > 0
    assert set(plain["seconds_per_image"]) == {"net", "crf"}
    assert result["crf"]["iterations"] == 3
    assert set(result["crf"]) == {f.name for f in dataclasses.fields(DenseCRF)}


def test_a_crf_without_its_library_raises_before_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)

    def never(image: np.ndarray) -> np.ndarray:
        raise AssertionError

    with pytest.raises(ImportError, match="pip install pydensecrf2"):
        evaluate(never, source_of(samples()), crf=DenseCRF())


def test_absent_classes_are_left_out() -> None:
    pairs = [(np.zeros((2, 2, 3), np.uint8), np.array([[0, 0], [1, VOID]], np.uint8))]
    zero = np.tile(np.array([1, 0, 0], np.float32), (2, 2, 1))
    result = evaluate(lambda image: zero, source_of(pairs))
    # 2 right; sky's union is 3 and road's 1; there is no car.
    assert result["confusion"] == [[2, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert result["class_iou"] == {"sky": 2 / 3, "road": 0.0, "car": None}
    assert result["mean_iou"] == 1 / 3
    assert result["mean_iou_without"] == {"sky": 0.0, "road": 2 / 3, "car": 1 / 3}


@pytest.mark.parametrize(
    ("classes", "void"), [((0, 1, 2), 0.2), ((1,), 0.0), ((0,), 1.1)]
)
def test_results_are_json(classes: tuple[int, ...], void: float) -> None:
    source = source_of(samples(classes, void))
    first = np.eye(3, dtype=np.float32)[0]
    for predictor in (by_colour, lambda image: np.tile(first, (*image.shape[:2], 1))):
        result = evaluate(predictor, source, flip=True, scales=(1.0, 0.5))
        assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_nothing_but_void_has_no_score() -> None:
    result = evaluate(by_colour, source_of(samples(void=1.1)))
    assert result["mean_iou"] is None
    assert result["pixel_accuracy"] is None
    assert result["boundary_iou"] is None
    assert set(result["trimap_mean_iou"].values()) == {None}
    assert result["small_object_recall"] is None
    assert set(result["mean_iou_without"].values()) == {None}
    assert result["level_set_energy"] == 0
    assert "| – " in table(report_rows({"ce": result}, {}, {}))


@pytest.mark.parametrize("classes", [2, 4])
def test_other_numbers_of_classes_raise(classes: int) -> None:
    source = source_of(samples())
    with pytest.raises(ValueError, match=f"3 classes, as made/val.*one of {classes}"):
        evaluate(lambda image: np.zeros((*image.shape[:2], classes), "f4"), source)


def test_evaluate_averages_too() -> None:
    grey = [(np.full((4, 8, 3), 255, np.uint8), np.zeros((4, 8), np.uint8))]

    def left(image: np.ndarray) -> np.ndarray:
        """Probabilities of class 0: 0.9 on three of eight columns, else 0.2."""
        zero = np.where(np.arange(8) < 3, 0.9, 0.2) * np.ones((4, 1))
        return np.stack([zero, 1 - zero], axis=-1)

    result = evaluate(left, source_of(grey, ("left", "right")), flip=True)
    # With the mirror (0.9 + 0.2) / 2 > ½ on three further columns.
    assert result["confusion"] == [[24, 8], [0, 0]]
    assert (result["flip"], result["scales"]) == (True, [1.0])
