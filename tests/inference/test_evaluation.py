"""Judging predictors, and finding them in folders."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from tf_levelset.datasets import Source
from tf_levelset.energy.energy import level_set_energy
from tf_levelset.export.saved_model import export
from tf_levelset.inference.crf import DenseCRF
from tf_levelset.inference.evaluation import (
    KerasPredictor,
    augmented,
    evaluate,
    load_predictors,
    report_rows,
    table,
)
from tf_levelset.metrics.boundary_iou import boundary_counts
from tf_levelset.metrics.iou import mean_iou
from tf_levelset.metrics.small_objects import small_object_counts
from tf_levelset.metrics.trimap_iou import trimap_confusions
from tf_levelset.models import create_model

VOID = 255
NAMES = ("sky", "road", "car")
SIZES = [(4, 6), (7, 5), (3, 3)]
Sample = tuple[np.ndarray, np.ndarray]


def samples(classes: Sequence[int] = (0, 1, 2), void: float = 0.2) -> list[Sample]:
    """Noise and labels of some of the classes, of three sizes."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    labels = [rng.choice(classes, size).astype(np.uint8) for size in SIZES]
    for label in labels:
        label[rng.uniform(size=label.shape) < void] = VOID
    return list(zip(images, labels, strict=True))


def source_of(pairs: Sequence[Sample], names: Sequence[str] = NAMES) -> Source:
    def read(index: np.ndarray) -> Sample:
        return pairs[int(index)]

    def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, labels = tf.numpy_function(read, [index], (tf.uint8, tf.uint8))
        return (
            tf.ensure_shape(image, (None, None, 3)),
            tf.ensure_shape(labels, (None, None)),
        )

    return Source(
        name="made/val",
        class_names=tuple(names),
        palette=[(10 * i, 0, 0) for i in range(len(names))],
        num_samples=len(pairs),
        load=load,
        sample_names=tuple(map(str, range(len(pairs)))),
        ignore_class=VOID,
    )


def by_colour(image: np.ndarray) -> np.ndarray:
    """A predictor: the brightest channel is the class."""
    return tf.nn.softmax(image.astype(np.float32) / 64).numpy()


# --- Scores ---


def test_scores_are_those_of_the_whole_set() -> None:
    pairs = samples()
    truth = np.concatenate([labels.ravel() for _, labels in pairs])
    predicted = np.concatenate([im.argmax(-1).ravel() for im, _ in pairs])
    valid = truth != VOID
    assert not valid.all()
    confusion = sklearn.metrics.confusion_matrix(
        truth[valid], predicted[valid], labels=range(3)
    )
    iou = sklearn.metrics.jaccard_score(truth[valid], predicted[valid], average=None)
    recall = sklearn.metrics.recall_score(
        truth[valid], predicted[valid], average="macro"
    )

    result = evaluate(by_colour, source_of(pairs))

    assert result["confusion"] == confusion.tolist()
    assert result["class_iou"] == pytest.approx(dict(zip(NAMES, iou, strict=True)))
    assert result["mean_iou"] == pytest.approx(iou.mean())
    assert result["mean_accuracy"] == pytest.approx(recall)
    assert result["pixel_accuracy"] == pytest.approx(
        np.trace(confusion) / confusion.sum()
    )
    assert result["frequency_weighted_iou"] == pytest.approx(
        np.average(iou, weights=confusion.sum(1))
    )
    assert result["mean_iou_without"] == pytest.approx(
        {
            "sky": (iou[1] + iou[2]) / 2,
            "road": (iou[0] + iou[2]) / 2,
            "car": (iou[0] + iou[1]) / 2,
        }
    )
    described = {key: result[key] for key in ("dataset", "images", "flip", "scales")}
    assert described == {
        "dataset": "made/val",
        "images": 3,
        "flip": False,
        "scales": [1.0],
    }


def test_energy_is_the_mean_over_images() -> None:
    pairs = samples()
    energies = [
        level_set_energy(
            labels[np.newaxis].astype(int), by_colour(im)[np.newaxis], ignore_class=VOID
        )
        for im, labels in pairs
    ]
    result = evaluate(by_colour, source_of(pairs))
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
    # Of pictures as small as these no object is small.
    assert result["small_objects"] == small[:, 1].sum() == 0
    assert result["small_object_recall"] is None


def test_small_objects_are_pooled() -> None:
    # Below 0.5 % of 10,000 pixels, and of 10 pixels at least.
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
    """Stands in for a CRF: it answers with the classes turned round."""

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
    assert result["crf"]["iterations"] == 3
    assert set(result["crf"]) == {f.name for f in dataclasses.fields(DenseCRF)}


def test_a_crf_without_its_library_raises_before_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)

    def never(image: np.ndarray) -> np.ndarray:
        raise AssertionError

    with pytest.raises(ImportError, match=r"tf-levelset\[crf\]"):
        evaluate(never, source_of(samples()), crf=DenseCRF())


def test_seconds_are_those_of_the_net_and_of_the_crf() -> None:
    seconds = evaluate(by_colour, source_of(samples()))["seconds_per_image"]
    assert seconds["net"] > 0
    assert set(seconds) == {"net", "crf"}


def test_a_perfect_predictor_is_perfect() -> None:
    pairs = samples(void=0)
    pictures = [(np.eye(3, dtype=np.uint8)[lb] * 255, lb) for _, lb in pairs]
    result = evaluate(
        lambda image: (image / 255).astype("float32"), source_of(pictures)
    )
    assert result["mean_iou"] == result["pixel_accuracy"] == 1
    assert result["boundary_iou"] == 1
    assert set(result["trimap_mean_iou"].values()) == {1}
    assert result["level_set_energy"] == pytest.approx(0, abs=1e-5)


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


# --- Averages over copies ---


def ramp(image: np.ndarray) -> np.ndarray:
    """A predictor that knows where it is: class 1 grows from left to right."""
    height, width = image.shape[:2]
    one = np.linspace(0, 1, width, dtype=np.float32) * image[..., 0] / 255
    return (
        np.stack([1 - one, one], axis=-1).astype(np.float32).reshape(height, width, 2)
    )


def test_without_copies_it_is_the_predictor() -> None:
    assert augmented(by_colour) is by_colour


def test_flip_averages_with_the_mirror() -> None:
    image = samples()[0][0]
    expected = (ramp(image) + ramp(image[:, ::-1])[:, ::-1]) / 2
    assert not np.allclose(expected, ramp(image))
    np.testing.assert_allclose(augmented(ramp, flip=True)(image), expected, atol=1e-6)


def test_scales_average_copies_of_those_sizes() -> None:
    shapes = []

    def size(image: np.ndarray) -> np.ndarray:
        assert image.dtype == np.uint8
        shapes.append(image.shape[:2])
        return np.full((*image.shape[:2], 1), image.shape[0], np.float32)

    image = np.zeros((8, 5, 3), np.uint8)
    average = augmented(size, scales=(0.5, 1.0, 1.5))(image)
    assert shapes == [(4, 2), (8, 5), (12, 8)]
    np.testing.assert_allclose(average, np.full((8, 5, 1), (4 + 8 + 12) / 3))


def test_copies_are_brought_back_bilinearly() -> None:
    def columns(image: np.ndarray) -> np.ndarray:
        row = np.arange(image.shape[1], dtype=np.float32)
        return np.tile(row[:, np.newaxis], (image.shape[0], 1, 1))

    # Columns 0 and 1 of the half size copy, their centres at ½ and 2½ of the picture.
    average = augmented(columns, scales=(0.5,))(np.zeros((2, 4, 3), np.uint8))
    np.testing.assert_allclose(average[..., 0], [[0, 0.25, 0.75, 1]] * 2)


def test_flip_and_scales_together() -> None:
    grey = np.full((4, 8, 3), 255, np.uint8)
    averaged = augmented(ramp, flip=True, scales=(1.0, 0.5))(grey)
    # On grey a ramp and its mirror add up to a half everywhere, at every size.
    np.testing.assert_allclose(averaged, 0.5, atol=1e-6)


def test_evaluate_averages_too() -> None:
    grey = [(np.full((4, 8, 3), 255, np.uint8), np.zeros((4, 8), np.uint8))]

    def left(image: np.ndarray) -> np.ndarray:
        """Class 0 on the left third, class 1 with less conviction on the rest."""
        zero = np.where(np.arange(image.shape[1]) < image.shape[1] // 3 + 1, 0.9, 0.2)
        return np.stack([np.tile(zero, (image.shape[0], 1))] * 2, -1) * [1, -1] + [0, 1]

    source = source_of(grey, ("left", "right"))
    plain = evaluate(left, source)
    mirrored = evaluate(left, source, flip=True)
    # 3 of 8 columns; with the mirror (0.9 + 0.2) / 2 > ½ on 3 more.
    assert plain["confusion"] == [[12, 20], [0, 0]]
    assert mirrored["confusion"] == [[24, 8], [0, 0]]
    assert (mirrored["flip"], mirrored["scales"]) == (True, [1.0])


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, -1.0)])
def test_scales_are_positive(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="positive `scales`"):
        augmented(by_colour, scales=scales)


# --- Predictors in folders ---


@dataclass
class Run:
    folder: Path
    model: keras.Model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run folder with one loss, exported in two versions."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.json").write_text("{}")
    (folder / "ce").mkdir()
    keras.utils.set_random_seed(0)
    options = {"width": 0.05, "dilation": 2, "input_scale": 0.5}
    other = create_model("deeplab_largefov", 3, **options)
    model = create_model("deeplab_largefov", 3, **options)
    model.save(folder / "ce" / "model.keras")
    # As numbers 10 is the newer, as text 9.
    export(other, folder / "ce" / "export", version=9)
    export(model, folder / "ce" / "export", version=10)
    return Run(folder, model)


@pytest.fixture(scope="module")
def expected(run: Run) -> dict[str, Any]:
    return evaluate(KerasPredictor(run.model), source_of(samples()))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (".", "ce"),
        ("ce", ""),
        ("ce/model.keras", ""),
        ("ce/export", ""),
        ("ce/export/10", ""),
    ],
)
def test_every_form_of_a_model_scores_the_same(
    run: Run, expected: dict[str, Any], path: str, name: str
) -> None:
    predictors = load_predictors(run.folder / path)
    assert list(predictors) == [name]
    result = evaluate(predictors[name], source_of(samples()))
    energy = pytest.approx(expected["level_set_energy"], rel=1e-5)
    seconds = result["seconds_per_image"]
    assert result == {
        **expected,
        "level_set_energy": energy,
        "seconds_per_image": seconds,
    }


def test_run_folders_hold_one_predictor_a_loss(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for name in ("ls", "ce"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.keras").write_bytes(
            (run.folder / "ce" / "model.keras").read_bytes()
        )
    (tmp_path / "unfinished").mkdir()
    assert list(load_predictors(tmp_path)) == ["ce", "ls"]


def test_loads_where_nothing_else_was_imported(run: Run) -> None:
    # The layers of our nets must be registered by then.
    code = (
        "import sys; from pathlib import Path\n"
        "from tf_levelset.inference.evaluation import load_predictors\n"
        "print(list(load_predictors(Path(sys.argv[1]))))"
    )
    path = run.folder / "ce" / "model.keras"
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "['']", result.stderr


def _nothing(folder: Path) -> Path:
    return folder / "missing"


def _empty(folder: Path) -> Path:
    return folder


def _not_a_file(folder: Path) -> Path:
    return folder / "missing.keras"


def _no_run(folder: Path) -> Path:
    # Models, but no config.json that says they are a run.
    (folder / "ce").mkdir()
    (folder / "ce" / "model.keras").touch()
    return folder


def _unfinished(folder: Path) -> Path:
    (folder / "ce" / "checkpoint").mkdir(parents=True)
    (folder / "config.json").touch()
    return folder


@pytest.mark.parametrize("make", [_nothing, _empty, _not_a_file, _no_run, _unfinished])
def test_no_model_there_raises(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(FileNotFoundError, match="Expected a run folder"):
        load_predictors(make(tmp_path))


def test_other_saved_models_raise(tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(ValueError, match="endpoint 'uint8'"):
        load_predictors(tmp_path)


def test_nets_at_output_stride_raise() -> None:
    model = create_model("deeplab_largefov", 3, width=0.05, dilation=2, upsample=False)
    with pytest.raises(ValueError, match="at_input_size"):
        evaluate(KerasPredictor(model), source_of(samples()))


# --- Tables ---


def test_table_is_aligned_markdown() -> None:
    assert table([("loss", "mIoU"), ("ce", "–"), ("ls and more", "1.00")]) == (
        "| loss        | mIoU |\n"
        "|-------------|------|\n"
        "| ce          | –    |\n"
        "| ls and more | 1.00 |\n"
    )


def test_rows_of_tables_have_one_length() -> None:
    with pytest.raises(ValueError, match="shorter"):
        table([("loss", "mIoU"), ("ce",)])


def test_report_rows() -> None:
    results: dict[str, dict[str, Any]] = {
        "ce": {
            "mean_iou": 0.5,
            "pixel_accuracy": 0.98765,
            "boundary_iou": 0.25,
            "trimap_mean_iou": {"1": 0.1, "3": 0.2, "5": 0.3, "10": 0.4},
            "small_object_recall": 0.125,
            "level_set_energy": 12.34,
        },
        "ls": {
            "mean_iou": None,
            "pixel_accuracy": 1.0,
            "boundary_iou": None,
            "trimap_mean_iou": {"3": None},
            "small_object_recall": None,
            "level_set_energy": 0.0,
        },
    }
    rows = report_rows(results, {"ce": 61.7}, {"ls": "with level set loss"})
    assert rows == [
        (
            "loss",
            "mIoU %",
            "pixel accuracy %",
            "boundary IoU %",
            "mIoU within 3 px %",
            "small objects %",
            "level set energy",
            "training s",
        ),
        ("ce", "50.00", "98.77", "25.00", "20.00", "12.50", "12.3", "62"),
        ("with level set loss", "–", "100.00", "–", "–", "–", "0.0", "–"),
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_outputs_that_are_no_numbers_raise(value: float) -> None:
    # Of NaN everywhere the class would be the first.
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(
                2, 1, bias_initializer=keras.initializers.Constant(value)
            ),
        ]
    )
    with pytest.raises(ValueError, match="Expected finite probabilities"):
        KerasPredictor(model)(np.zeros((4, 5, 3), np.uint8))
