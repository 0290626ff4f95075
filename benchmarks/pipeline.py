"""The input pipeline: samples a second, memory, and how long `fit` waits for it.

The data set is written in VOC's layout, with JPEG images of 500×375 pixels. A sample is
scaled by 0.5–1.5, cropped to 321×321, mirrored half of the time, and handed over as a
float32 image with int32 labels. The peer for throughput is decoding alone: the same
files read by OpenCV and Pillow in two threads.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from PIL import Image

from benchmarks import harness
from tf_levelset.datasets import Augmentation, load_dataset, training_dataset
from tf_levelset.datasets.files.labels import palette_png
from tf_levelset.datasets.voc import voc_palette
from tf_levelset.models import create_model
from tf_levelset.training.compiled import build_loss, build_optimizer
from tf_levelset.training.recipes import RECIPES

SIZE, CROP, CLASSES = (375, 500), (321, 321), 21
BATCH_SIZE, LEAD, TAIL = 10, 20, 8
"""Batches before and after those that are timed, while buffers fill and drain."""


def measure(quick: bool) -> dict[str, Any]:
    """Measures throughput, memory over many samples, and the waiting of `fit`.

    Args:
        quick: Whether few samples and a narrow network will do, to see that it runs.

    Returns:
        `sizes`, `cases` and `targets`, see `benchmarks`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_voc(folder, 12 if quick else 120)
        speed = throughput(folder, *((4, 2) if quick else (40, 8)))
        growth = memory_growth(folder, 100 if quick else 1000)
        waiting = waiting_of_fit(folder, 0.05 if quick else 1.0, 2 if quick else 3)
    return {
        "sizes": {"images": list(SIZE), "crop": list(CROP), "batch": BATCH_SIZE},
        "cases": harness.described({**speed, **waiting}),
        "targets": [
            harness.ratio_target(
                "Time of a sample over decoding its files in two threads",
                harness.ratio(speed, ["pipeline"], ["decoding"]),
                None,
            ),
            harness.target("Growth of memory, relative", growth, 0.05),
            harness.ratio_target(
                "Time of fit over that with one batch in memory, LargeFOV at 321",
                harness.ratio(waiting, ["fit, reading"], ["fit, in memory"]),
                1.05,
            ),
        ],
    }


def write_voc(folder: Path, count: int) -> None:
    """Writes images whose amplitudes fall as 1/f, as in nature, and smooth labels."""
    images, labels = folder / "JPEGImages", folder / "SegmentationClass"
    lists = folder / "ImageSets/Segmentation"
    for part in (images, labels, lists):
        part.mkdir(parents=True)
    frequency = np.hypot(np.fft.fftfreq(SIZE[0])[:, None], np.fft.rfftfreq(SIZE[1]))
    for index in range(count):
        noise = np.random.default_rng(index).normal(size=(4, *SIZE))
        spectrum = np.fft.rfft2(noise) / np.maximum(frequency, 1 / max(SIZE))
        fields = np.fft.irfft2(spectrum, SIZE)
        fields /= fields.std(axis=(1, 2), keepdims=True)
        image = np.clip(120 + 55 * fields[:3], 0, 255).astype(np.uint8)
        Image.fromarray(image.transpose(1, 2, 0)).save(
            images / f"{index:04}.jpg", quality=90
        )
        edges = np.quantile(fields[3], np.linspace(0, 1, CLASSES + 1)[1:-1])
        classes = np.digitize(fields[3], edges).astype(np.uint8)
        png = palette_png(classes, voc_palette(CLASSES))
        (labels / f"{index:04}.png").write_bytes(png)
    names = "\n".join(f"{index:04}" for index in range(count))
    (lists / "train.txt").write_text(names)


def batches(folder: Path, batch_size: int, steps: int, stride: int = 1) -> Any:
    """Returns the data set as training makes it."""
    return training_dataset(
        load_dataset("voc", "train", folder),
        batch_size=batch_size,
        seed=0,
        augmentation=Augmentation(scale=(0.5, 1.5), crop=CROP, flip=True),
        num_steps=steps,
        label_stride=stride,
    )


def throughput(folder: Path, count: int, rounds: int) -> harness.Samples:
    """Times samples of the pipeline, and the decoding of as many files."""
    cv2.setNumThreads(1)  # As in training: the samples of a batch are made in parallel.
    images = sorted((folder / "JPEGImages").iterdir())
    labels = sorted((folder / "SegmentationClass").iterdir())
    threads = ThreadPoolExecutor(2)

    def pipeline() -> float:
        iterator = iter(batches(folder, BATCH_SIZE, LEAD + count + TAIL))
        exhaust(islice(iterator, LEAD))
        start = time.perf_counter()
        exhaust(islice(iterator, count))
        seconds = time.perf_counter() - start
        exhaust(iterator)
        return seconds / (count * BATCH_SIZE)

    def decode(index: int) -> None:
        cv2.imread(str(images[index % len(images)]))
        with Image.open(labels[index % len(labels)]) as opened:
            np.array(opened)

    def decoding() -> float:
        start = time.perf_counter()
        exhaust(threads.map(decode, range(count * BATCH_SIZE)))
        return (time.perf_counter() - start) / (count * BATCH_SIZE)

    cases = {"pipeline": pipeline, "decoding": decoding}
    return harness.alternate(cases, rounds, warmups=1)


def exhaust(iterable: Iterable[Any]) -> None:
    """Takes all items."""
    for _ in iterable:
        pass


def memory_growth(folder: Path, every: int) -> float:
    """Returns how far resident memory rises from 2 to 10 × `every` samples."""
    resident = []
    steps = 10 * every // BATCH_SIZE
    for step, _ in enumerate(batches(folder, BATCH_SIZE, steps), start=1):
        if step * BATCH_SIZE % every == 0:
            resident.append(harness.status_bytes("VmRSS"))
    settled = resident[1:]
    return max(settled) / settled[0] - 1


def waiting_of_fit(folder: Path, width: float, rounds: int) -> harness.Samples:
    """Times `fit` on the pipeline and on one batch in memory.

    The network is DeepLab-LargeFOV with CE + LS at output stride 8. The first step is
    not counted, since the pipeline starts in it.
    """
    recipe = replace(RECIPES["voc-deeplab_largefov"], model_options={"width": width})
    model = create_model(recipe.model, CLASSES, upsample=False, width=width)
    model.compile(build_optimizer(recipe, 1000), build_loss(recipe, "ls", 255))
    # Longer than what is timed, so that it cannot all be made ahead.
    reading = batches(folder, 1, 100, stride=8)
    in_memory = reading.take(1).cache().repeat()
    fit_seconds(model, in_memory, 2)

    def timed(data: Any) -> Callable[[], float]:
        return lambda: fit_seconds(model, data, 3)

    cases = {"fit, reading": timed(reading), "fit, in memory": timed(in_memory)}
    return harness.alternate(cases, rounds, warmups=0)


def fit_seconds(model: keras.Model, data: Any, steps: int) -> float:
    """Returns the seconds from the end of the first step to the end of the last."""
    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter())
    )
    model.fit(data, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[clock])
    return ends[-1] - ends[0]
