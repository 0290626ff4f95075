"""Weights of this package's own nets, and sources that do not fit."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from made_up_weights import (
    CONVOLUTIONS,
    NARROW,
    assert_accounts_for,
    assert_all_equal,
    assert_equal,
    narrow_largefov,
    narrow_vgg16,
    randomize,
    saved,
    values,
    write_legacy,
)

from tf_levelset.models import deeplab_msc_largefov, fcn16s_vgg16, fcn32s_vgg16
from tf_levelset.models.weights import WeightsReport, load_weights


def test_another_number_of_classes_leaves_the_head(tmp_path: Path) -> None:
    theirs = narrow_largefov(num_classes=4)
    ours = narrow_largefov(num_classes=5)
    fc8 = values(ours)["fc8"]
    path = saved(theirs, tmp_path)
    report = load_weights(ours, path, backbone="vgg16")
    assert report == WeightsReport(
        str(path),
        (*CONVOLUTIONS, "fc6", "fc7"),
        initial=("fc8",),
        mismatched=(("fc8", ((1, 1, 20, 5), (5,)), ((1, 1, 20, 4), (4,))),),
    )
    for name in report.loaded:
        assert_equal(values(ours)[name], values(theirs)[name], name)
    assert_equal(values(ours)["fc8"], fc8)


def test_fcn32s_starts_fcn16s(tmp_path: Path) -> None:
    theirs = fcn32s_vgg16(5, width=NARROW)
    randomize(theirs)
    ours = fcn16s_vgg16(5, width=NARROW, weights=saved(theirs, tmp_path))
    report = load_weights(ours, tmp_path / "net.keras", backbone="vgg16")
    assert report.loaded == (*CONVOLUTIONS, "fc6", "fc7", "score_fc7")
    assert set(report.initial) == {"upscore_fc7", "score_pool4"}
    assert report.unused == report.mismatched == ()
    assert_accounts_for(report, ours)
    for name in report.loaded:
        assert_equal(values(ours)[name], values(theirs)[name], name)


@pytest.mark.parametrize("source", ["scaled", "msc"])
def test_nets_inside_of_nets(tmp_path: Path, source: str) -> None:
    theirs = (
        narrow_largefov(upsample=True, input_scale=0.5)
        if source == "scaled"
        else deeplab_msc_largefov(5, width=NARROW)
    )
    ours = narrow_largefov()
    path = saved(theirs, tmp_path)
    report = load_weights(ours, path, backbone="vgg16")
    assert report == WeightsReport(str(path), (*CONVOLUTIONS, "fc6", "fc7", "fc8"))
    assert_all_equal(values(ours), values(theirs))
    # And the other way, into the net inside.
    randomize(ours)
    load_weights(theirs, saved(ours, tmp_path), backbone="vgg16")
    assert_all_equal(values(theirs), values(ours))


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_files_of_nets_with_nets_inside_raise(tmp_path: Path) -> None:
    # They have the same arrays at other places; a .keras file works.
    path = tmp_path / "msc.weights.h5"
    deeplab_msc_largefov(5, width=NARROW).save_weights(path)
    ours = narrow_largefov()
    before = values(ours)
    with pytest.raises(
        ValueError, match=r"Expected .* several scales .* a \.keras file"
    ):
        load_weights(ours, path, backbone="vgg16")
    assert_all_equal(values(ours), before)


def test_weights_of_the_same_net_after_training(tmp_path: Path) -> None:
    # Such a file holds the optimizer's and the metrics' variables too.
    theirs, ours = narrow_largefov(), narrow_largefov()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metric = keras.metrics.MeanIoU(5, sparse_y_pred=False)
    theirs.compile(optimizer="adam", loss=loss, metrics=[metric], run_eagerly=True)
    theirs.train_on_batch(np.ones((2, 17, 17, 3)), np.zeros((2, 3, 3)))
    path = tmp_path / "net.weights.h5"
    theirs.save_weights(path)
    report = load_weights(ours, path, backbone="vgg16")
    assert report == WeightsReport(str(path), (*CONVOLUTIONS, "fc6", "fc7", "fc8"))
    assert_all_equal(values(ours), values(theirs))


# --- Sources that do not fit ---


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.applications, "VGG16", narrow_vgg16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0.05}, r"conv1_1 \(net: \(3, 3, 3, 3\) and \(3,\); source: \("),
        ({"batch_norm": True}, r"conv1_1_bn \(net: .*; source: missing"),
        ({"depth": 2.0}, r"conv1_3 \(net: .*; source: missing"),
        ({"depth": 0.5}, r"conv1_2 \(net: missing; source: \(3, 3, 1, 1\)"),
    ],
)
@pytest.mark.parametrize("layout", ["legacy", "keras"])
@pytest.mark.usefixtures("narrow")
def test_another_backbone_raises_and_changes_nothing(
    tmp_path: Path, options: dict[str, Any], message: str, layout: str
) -> None:
    theirs = narrow_vgg16()
    if layout == "legacy":
        path = tmp_path / "vgg16.h5"
        write_legacy(path, values(theirs), ("_W_1:0", "_b_1:0"))
    else:
        path = saved(theirs, tmp_path)
    ours = narrow_largefov(**options)
    before = values(ours)
    with pytest.raises(ValueError, match=f"Expected weights .* Received.*{message}"):
        load_weights(ours, path, backbone="vgg16")
    assert_all_equal(values(ours), before)


def make_text(path: Path) -> None:
    path.write_text("weights")


def make_other_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(1000)


def make_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x", "y")


@pytest.mark.parametrize("backbone", ["vgg16", "resnet101"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("notes.txt", make_text),
        ("other.h5", make_other_hdf5),
        ("other.weights.h5", make_other_hdf5),
        ("other.keras", make_zip),
        ("other.npz", make_zip),
        ("folder", Path.mkdir),
    ],
)
@pytest.mark.usefixtures("narrow")
def test_a_file_of_another_format_raises(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    backbone: str,
    name: str,
    make: Callable[[Path], None],
) -> None:
    monkeypatch.setattr(keras.applications, "ResNet101", narrow_vgg16)
    path = tmp_path / name
    make(path)
    message = f"Expected .*{name} to be a weights file of this net .* Received: "
    with pytest.raises(ValueError, match=message):
        load_weights(narrow_largefov(), path, backbone=backbone)


def test_no_file_and_no_backbone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.h5"):
        load_weights(narrow_largefov(), tmp_path / "none.h5", backbone="vgg16")
    with pytest.raises(FileNotFoundError, match="'coco'"):
        load_weights(narrow_largefov(), "coco", backbone="vgg16")
    with pytest.raises(ValueError, match=r"Expected `backbone` .* Received: 'vgg19'"):
        load_weights(narrow_largefov(), "imagenet", backbone="vgg19")


# --- The report ---


def test_report_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net = narrow_largefov()
    path = saved(net, tmp_path)
    with caplog.at_level(logging.INFO, "tf_levelset"):
        report = load_weights(net, path, backbone="vgg16")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("tf_levelset", "INFO")
    assert record.getMessage() == str(report)
