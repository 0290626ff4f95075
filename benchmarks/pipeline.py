"""The input pipeline: beside PyTorch's DataLoader, in `fit`, and over many samples.

Both sides read the same JPEG pictures and PNG labels, scale them by 0.5–1.5, cut a
window of 321×321 (padded where the picture is smaller), mirror half of them, and
hand over batches of float32 images in 0–255 and int32 labels. Neither normalises: our
nets do that themselves. Ours filters where it shrinks, which albumentations does when
told to (`area_for_downscale`) and otherwise not: it is taken both ways. Beside that,
ours checks every label.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import harness

SCALE = (0.5, 1.5)
CROP = (321, 321)
BATCH_SIZE = 10
TORCH_WORKERS = 2
FILES = 120
JPEG_QUALITY = 90

# Batches before and after those that are timed: while buffers fill, and drain.
LEAD, TAIL = 20, 8

FIT_BATCH_SIZE = 1
# Steps that the data set of `fit` has beyond those that are timed.
SPARE_STEPS = 64
NUM_CLASSES = 21

OURS = "tf_levelset"
_BYTES, _FLOATS = (
    "uint8 from its workers, float32 made here",
    "float32 from its workers",
)
FILTERED: dict[str, dict[str, Any]] = {
    f"PyTorch, {_BYTES}": {"floats": False, "filtered": True},
    f"PyTorch, {_FLOATS}": {"floats": True, "filtered": True},
}
UNFILTERED: dict[str, dict[str, Any]] = {
    f"PyTorch without a filter, {_BYTES}": {"floats": False, "filtered": False},
}


def measure(quick: bool) -> dict[str, Any]:
    """Measures throughput at two sizes, memory, and the share of waiting in `fit`."""
    with tempfile.TemporaryDirectory() as root:
        folders = {name: Path(root, name) for name in ("camvid", "voc")}
        count = 12 if quick else FILES
        sizes = {name: write_pairs(name, folders[name], count) for name in folders}
        figures = [throughput(name, folders[name], quick) for name in folders]
        stages = {
            name: harness.described(stage_seconds(name, folder, 4 if quick else 60))
            for name, folder in folders.items()
        }
        figures.append(memory_over_samples(folders["voc"], quick))
        figures.append(waiting_in_fit(folders["voc"], quick))
    return {
        "sizes": {**sizes, "batch_size": BATCH_SIZE, "scale": SCALE, "crop": CROP},
        "cases": {k: v for part in figures for k, v in part["cases"].items()},
        "stages": stages,
        "targets": [target for part in figures for target in part["targets"]],
        "memory": figures[2]["memory"],
    }


# --- Files ---

_FOLDERS = {
    "camvid": ("train", "trainannot"),
    "voc": ("JPEGImages", "SegmentationClass"),
}


def write_pairs(name: str, folder: Path, count: int) -> dict[str, Any]:
    """Writes pictures and labels in a data set's official layout, pictures as JPEG.

    They are real ones where `TF_LEVELSET_DATA` is set (CamVid's PNGs are encoded
    anew, VOC's few files copied as often as needed), and `natural_pair`s otherwise.

    Args:
        name: "camvid" or "voc".
        folder: where to; made.
        count: how many.

    Returns:
        What was written: the pictures' sizes, their mean bytes, their origin.
    """
    images, labels = (folder / part for part in _FOLDERS[name])
    for part in (images, labels):
        part.mkdir(parents=True)
    data = os.environ.get("TF_LEVELSET_DATA")
    for index in range(count):
        places = images / f"{index:04}.jpg", labels / f"{index:04}.png"
        if data:
            _write_real(name, Path(data), index, *places)
        else:
            _write_natural(name, index, *places)
    _write_list(name, folder, [f"{index:04}" for index in range(count)])
    files = sorted(images.iterdir())
    return {
        "pictures": "real" if data else "made, spectrum 1/f",
        "files": count,
        "sizes": sorted({_size(path) for path in files}),
        "mean_jpeg_bytes": round(float(np.mean([p.stat().st_size for p in files]))),
    }


def natural_pair(
    size: tuple[int, int], num_classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Makes a picture whose amplitudes fall as 1/f, as in nature, and some labels.

    Args:
        size: (height, width).
        num_classes: C.
        seed: of both.

    Returns:
        uint8 (height, width, 3) in 0–255 and uint8 (height, width) in [0, C).
    """
    noise = np.random.default_rng(seed).normal(size=(4, *size))
    frequency = np.hypot(
        np.fft.fftfreq(size[0])[:, np.newaxis], np.fft.rfftfreq(size[1])
    )
    spectrum = np.fft.rfft2(noise) / np.maximum(frequency, 1 / max(size))
    fields = np.fft.irfft2(spectrum, size)
    fields /= fields.std(axis=(1, 2), keepdims=True)
    picture = np.clip(120 + 55 * fields[:3], 0, 255).astype(np.uint8)
    # Smoother than the picture: regions, not grains.
    smooth = np.fft.irfft2(np.fft.rfft2(fields[3]) / np.maximum(frequency, 0.01), size)
    edges = np.quantile(smooth, np.linspace(0, 1, num_classes + 1)[1:-1])
    return picture.transpose(1, 2, 0), np.digitize(smooth, edges).astype(np.uint8)


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def _write_real(name: str, data: Path, index: int, image: Path, labels: Path) -> None:
    root = data / {"camvid": "camvid", "voc": "voc_sample"}[name]
    pictures = sorted((root / _FOLDERS[name][0]).iterdir())
    picture = pictures[index % len(pictures)]
    shutil.copyfile(root / _FOLDERS[name][1] / f"{picture.stem}.png", labels)
    if picture.suffix == ".jpg":
        shutil.copyfile(picture, image)
    else:
        with Image.open(picture) as opened:
            opened.convert("RGB").save(image, quality=JPEG_QUALITY)


def _write_natural(name: str, index: int, image: Path, labels: Path) -> None:
    from tf_levelset.datasets.files.labels import palette_png
    from tf_levelset.datasets.voc import voc_palette

    size, num_classes = {"camvid": ((360, 480), 11), "voc": ((375, 500), 21)}[name]
    picture, classes = natural_pair(size, num_classes, seed=index)
    Image.fromarray(picture).save(image, quality=JPEG_QUALITY)
    if name == "voc":
        labels.write_bytes(palette_png(classes, voc_palette(num_classes)))
    else:
        Image.fromarray(classes).save(labels)


def _write_list(name: str, folder: Path, stems: list[str]) -> None:
    if name == "camvid":
        lines = [f"train/{stem}.jpg trainannot/{stem}.png" for stem in stems]
        (folder / "train.txt").write_text("\n".join(lines))
        return
    lists = folder / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(stems))


# --- Samples a second ---


def throughput(name: str, folder: Path, quick: bool) -> dict[str, Any]:
    """Times our batches and PyTorch's in turns, each side in a process of its own.

    Args:
        name: "camvid" or "voc".
        folder: of `write_pairs`.
        quick: whether few batches will do.

    Returns:
        `cases` and `targets`: against PyTorch filtered as ours, and not filtered.
    """
    count, rounds = (4, 2) if quick else (40, 8)
    peers = FILTERED | UNFILTERED
    common: dict[str, Any] = {"name": name, "folder": str(folder), "count": count}
    workers = {OURS: harness.Worker("benchmarks.pipeline:our_batches", **common)}
    for case, options in peers.items():
        workers[case] = harness.Worker(
            "benchmarks.pipeline:torch_batches", **options, **common
        )
    try:
        timed = {case: _own_seconds(worker) for case, worker in workers.items()}
        samples = harness.alternate(timed, rounds, warmups=1)
    finally:
        for worker in workers.values():
            worker.close()
    return {
        "cases": {
            f"{name}: {case}": {
                "seconds": seconds,
                **harness.summary(seconds),
                "samples_per_second": count * BATCH_SIZE / float(np.median(seconds)),
            }
            for case, seconds in samples.items()
        },
        "targets": [
            _throughput_target(name, "", samples, FILTERED),
            _throughput_target(name, " without a filter", samples, UNFILTERED),
        ],
    }


def _throughput_target(
    name: str, how: str, samples: harness.Samples, peers: Iterable[str]
) -> dict[str, Any]:
    ratio = harness.ratio(samples, [OURS], list(peers))
    return harness.target(
        f"Samples a second at {name}'s size, over PyTorch's DataLoader with "
        f"{TORCH_WORKERS} workers, OpenCV and albumentations{how}",
        1 / ratio["median"],
        1.2,
        "at least",
        seconds_ratio=ratio,
    )


def our_batches(name: str, folder: str, count: int) -> Callable[[], dict[str, float]]:
    """Prepares a timed run through our batches, for `harness.Worker`.

    Args:
        name: "camvid" or "voc".
        folder: of `write_pairs`.
        count: number of batches to time.
    """
    import cv2

    cv2.setNumThreads(1)  # as our command does, and PyTorch's workers below
    batches = _training_batches(name, folder, BATCH_SIZE, LEAD + count + TAIL)
    return lambda: _time_batches(batches, count)


def torch_batches(
    name: str, folder: str, count: int, floats: bool, filtered: bool
) -> Callable[[], dict[str, float]]:
    """Prepares a timed run through PyTorch's batches, for `harness.Worker`.

    Args:
        name: "camvid" or "voc".
        folder: of `write_pairs`.
        count: number of batches to time.
        floats: whether the workers make the float32 images and int32 labels, or the
            process that takes them does, which moves a quarter of the bytes.
        filtered: whether pictures are averaged where they shrink.
    """
    torch = _import_torch()
    pairs = _TorchPairs(name, Path(folder), floats, filtered)
    total = (LEAD + count + TAIL) * BATCH_SIZE
    loader = torch.utils.data.DataLoader(
        pairs,
        BATCH_SIZE,
        sampler=torch.utils.data.RandomSampler(pairs, True, total),
        num_workers=TORCH_WORKERS,
        worker_init_fn=_one_thread,
        persistent_workers=True,
    )

    def batches() -> Iterator[Any]:
        for images, labels in loader:
            yield images.float(), labels.int()

    return lambda: _time_batches(batches(), count)


class _TorchPairs:
    """The data set as one writes it for PyTorch; its transforms are albumentations'."""

    def __init__(self, name: str, folder: Path, floats: bool, filtered: bool) -> None:
        images, labels = (folder / part for part in _FOLDERS[name])
        self.images = sorted(str(path) for path in images.iterdir())
        self.labels = sorted(str(path) for path in labels.iterdir())
        self.grey = name == "camvid"
        self.floats = floats
        self.transform = _albumentations(filtered)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        import cv2

        image = cv2.cvtColor(_read(self.images[index]), cv2.COLOR_BGR2RGB)
        if self.grey:
            labels = _read(self.labels[index], grey=True)
            labels[labels == 11] = 255
        else:  # OpenCV gives a palette's colours, not its indices
            with Image.open(self.labels[index]) as opened:
                labels = np.array(opened)
        sample = self.transform(image=image, mask=labels)
        image, labels = (np.ascontiguousarray(sample[k]) for k in ("image", "mask"))
        if self.floats:
            return image.astype(np.float32), labels.astype(np.int32)
        return image, labels


def _read(path: str, grey: bool = False) -> np.ndarray:
    """Reads a picture by OpenCV: BGR, or grey."""
    import cv2

    image = cv2.imread(path, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"Expected a picture that OpenCV reads. Received: {path}")
    return image


def _albumentations(filtered: bool) -> Callable[..., dict[str, np.ndarray]]:
    # Else it asks for its newest version over the network.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations
    import cv2

    return albumentations.Compose(
        [
            albumentations.RandomScale(
                (SCALE[0] - 1, SCALE[1] - 1),
                area_for_downscale="image" if filtered else None,
                p=1,
            ),
            albumentations.PadIfNeeded(
                *CROP,
                position="top_left",
                border_mode=cv2.BORDER_CONSTANT,
                fill=(124, 117, 104),
                fill_mask=255,
            ),
            albumentations.RandomCrop(*CROP),
            albumentations.HorizontalFlip(p=0.5),
        ]
    )


def _one_thread(worker: int) -> None:
    """Seeds a worker of PyTorch's and keeps OpenCV from threads beside the workers."""
    import cv2

    cv2.setNumThreads(0)
    random.seed(worker)


def _import_torch() -> Any:
    try:
        import albumentations  # noqa: F401
        import torch.utils.data
    except ImportError as error:
        raise ImportError(
            "Expected PyTorch and albumentations: pip install -e '.[bench]'. "
            f"Received: {error}"
        ) from error
    return torch


def _training_batches(
    name: str, folder: str, batch_size: int, num_steps: int, stride: int = 1
) -> Any:
    """Returns our dataset, as training makes it."""
    from tf_levelset.datasets import load_dataset, training_dataset

    return training_dataset(
        load_dataset(name, "train", folder),
        batch_size=batch_size,
        seed=0,
        augmentation=_augmentation(),
        num_steps=num_steps,
        label_stride=stride,
    )


def _augmentation() -> Any:
    from tf_levelset.datasets import Augmentation

    return Augmentation(scale=SCALE, crop=CROP, flip=True)


def _time_batches(batches: Iterable[Any], count: int) -> dict[str, float]:
    """Times some batches in the middle of a run: no start, no more than is made."""
    iterator = iter(batches)
    _drop(islice(iterator, LEAD))
    start = time.perf_counter()
    _drop(islice(iterator, count))
    seconds = time.perf_counter() - start
    _drop(iterator)
    return {"seconds": seconds}


def _drop(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass


def _own_seconds(worker: harness.Worker) -> Callable[[], float]:
    def run() -> float:
        worker()
        return float(worker.details["seconds"])

    return run


# --- Where the time goes ---


def stage_seconds(name: str, folder: Path, count: int) -> harness.Samples:
    """Times what our pipeline does with a sample, a part after the other, alone.

    Args:
        name: "camvid" or "voc".
        folder: of `write_pairs`.
        count: how many samples of each part.
    """
    import tensorflow as tf

    from tf_levelset.datasets import load_dataset
    from tf_levelset.datasets.files.images import read_image
    from tf_levelset.datasets.pipeline import augment_compactly, to_float

    source = load_dataset(name, "train", folder)
    paths = [str(p) for p in sorted((folder / _FOLDERS[name][0]).iterdir())]
    augmentation = _augmentation()
    load = tf.function(source.load)
    window = tf.function(
        lambda image, labels, i: augment_compactly(
            image, labels, tf.stack([tf.zeros_like(i), i]), augmentation
        )
    )
    indices = [tf.constant(i, tf.int64) for i in range(source.num_samples)]
    samples = [load(index) for index in indices]
    images = tf.zeros((BATCH_SIZE, *CROP, 3), tf.uint8)
    insides = tf.constant([CROP] * BATCH_SIZE)
    turn = iter(range(10**9))

    def seconds(work: Callable[[int], object]) -> float:
        i = next(turn) % source.num_samples
        start = time.perf_counter()
        work(i)
        return time.perf_counter() - start

    parts: dict[str, Callable[[int], object]] = {
        "picture read and decoded": lambda i: read_image(tf.constant(paths[i])),
        "picture and labels read, labels checked": lambda i: load(indices[i]),
        "scaled, cut out, mirrored": lambda i: window(*samples[i], indices[i]),
        f"{BATCH_SIZE} samples made float32": lambda i: to_float(images, insides),
    }
    return harness.alternate(
        {part: partial(seconds, work) for part, work in parts.items()}, count
    )


# --- Memory ---


def memory_over_samples(folder: Path, quick: bool) -> dict[str, Any]:
    """Follows the memory of a process that takes sample after sample.

    Args:
        folder: of `write_pairs("voc", …)`.
        quick: whether a tenth will do.

    Returns:
        `cases`, `memory` and `targets`.
    """
    every = 100 if quick else 1000
    with harness.Worker(
        "benchmarks.pipeline:resident_bytes", folder=str(folder), every=every
    ) as worker:
        seconds = worker()
        resident = worker.details["resident_bytes"]
    settled = resident[1:]  # from the second mark on
    growth = max(settled) / settled[0] - 1
    return {
        "cases": {
            f"voc: {10 * every} samples": {
                "seconds": [seconds],
                **harness.summary([seconds]),
            }
        },
        "memory": {
            "samples": [every * (i + 1) for i in range(len(resident))],
            "resident_bytes": resident,
            "bytes_per_sample": float(np.polyfit(range(len(settled)), settled, 1)[0])
            / every,
        },
        "targets": [
            harness.target(
                f"Growth of resident memory from {2 * every} to {10 * every} samples",
                growth,
                0.05,
                "at most",
            )
        ],
    }


def resident_bytes(folder: str, every: int) -> Callable[[], dict[str, list[int]]]:
    """Prepares 10 · `every` samples of VOC's size, for `harness.Worker`."""
    batches = _training_batches("voc", folder, BATCH_SIZE, 10 * every // BATCH_SIZE)

    def run() -> dict[str, list[int]]:
        resident = []
        for step, _ in enumerate(batches, start=1):
            if step * BATCH_SIZE % every == 0:
                resident.append(harness.status_bytes("VmRSS"))
        return {"resident_bytes": resident}

    return run


# --- Waiting ---


def waiting_in_fit(folder: Path, quick: bool) -> dict[str, Any]:
    """Times `fit` on the pipeline and on one batch that lies in memory, in turns.

    The net is the full-width DeepLab-LargeFOV with CE + LS at output stride 8, on
    windows of 321×321. The first step of a `fit` is not counted: it holds the start
    of the pipeline, once a run. The data set is far longer than what is timed, else
    all of it could be made ahead meanwhile, and there would be nothing to wait for.

    Args:
        folder: of `write_pairs("voc", …)`.
        quick: whether a narrow net will do.

    Returns:
        `cases` and `targets`.
    """
    steps, rounds = (2, 2) if quick else (3, 3)
    model = _largefov(0.05 if quick else 1.0)
    batches = _training_batches(
        "voc", str(folder), FIT_BATCH_SIZE, steps + SPARE_STEPS, stride=8
    )
    cached = batches.take(1).cache().repeat()
    _fit_seconds(model, cached, 1)  # traces it
    cases = {
        "fit, read as it goes": lambda: _fit_seconds(model, batches, steps),
        "fit, one batch in memory": lambda: _fit_seconds(model, cached, steps),
    }
    samples = harness.alternate(cases, rounds, warmups=0)
    reading, idle = samples.values()
    shares = [1 - b / a for a, b in zip(reading, idle, strict=True)]
    spread = harness.summary(shares)
    return {
        "cases": harness.described(samples),
        "targets": [
            harness.target(
                "Share of fit spent waiting for the pipeline, "
                f"{'narrow' if quick else 'full-width'} DeepLab-LargeFOV at 321, batch "
                f"{FIT_BATCH_SIZE}",
                spread["median"],
                0.05,
                "at most",
                shares=shares,
                **spread,
                timed_steps_per_fit=steps - 1,
            )
        ],
    }


def _largefov(width: float) -> Any:
    """Returns the compiled net, as the recipe for VOC trains it."""
    from dataclasses import replace

    from tf_levelset.models import create_model
    from tf_levelset.training.compiled import build_loss, build_optimizer
    from tf_levelset.training.recipes import RECIPES

    recipe = replace(RECIPES["voc-deeplab_largefov"], model_options={"width": width})
    model = create_model(recipe.model, NUM_CLASSES, upsample=False, width=width)
    model.compile(build_optimizer(recipe, 1000), build_loss(recipe, "ls", 255))
    return model


def _fit_seconds(model: Any, batches: Any, steps: int) -> float:
    """Returns the seconds from the end of the first step to the end of the last."""
    import keras

    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter())
    )
    model.fit(
        batches, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[clock]
    )
    return ends[-1] - ends[0]
