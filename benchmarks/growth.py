"""How time and memory of the loss grow with pixels and with classes.

One axis at a time: pixels at the 21 classes of PASCAL VOC, classes at 128×128 pixels,
batch 1. Time is that of loss and gradient, in graph mode and with XLA, the best of
both taken at each point. Memory is what loss and gradient add, in graph mode, to a
process of their own that holds labels and logits, without oneDNN, whose pool would hide
it (`harness.MEMORY_HANDED_BACK`); the gradient returned is part of it.

Exponents are slopes of log time or log memory over log size. Small sizes are mostly
overhead, which grows with nothing and flatters the exponent, so the one that counts is
fitted over the larger half of the points; the one over all stands beside it. What the
machine adds to large sizes, caches left behind and pages that the system hands out anew
for large buffers, can raise it above 1; Keras' cross-entropy shows how far. Page faults
and the system's share of processor time are counted at the largest point of each axis.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks import harness
from benchmarks.gradients import Loss, value_and_gradient
from benchmarks.literal import VOID, WEIGHT, literal_loss
from tf_levelset import CrossEntropyLevelSetLoss

Samples = harness.Samples

OURS, LITERAL, REFERENCE = "CE + LS", "literal CE + LS", "Keras' CE"
MODES = {"graph": None, "XLA": True}
VOID_SHARE = 0.05
ELEMENTS_A_SAMPLE = 2**19
"""Smaller logits are gone over several times a sample: a call takes too little."""
EXPONENT_BOUND = 1.1
PAGE = 4096
"""Bytes; the least that a peak is taken for, since ratios are of them."""


@dataclass(frozen=True)
class Point:
    """A size: a picture of side × side pixels with so many classes."""

    side: int
    classes: int

    @property
    def pixels(self) -> int:
        """Number of pixels of the picture."""
        return self.side**2

    @property
    def elements(self) -> int:
        """Number of logits."""
        return self.pixels * self.classes

    def __str__(self) -> str:
        return f"{self.side}² × {self.classes}"


AXES = {
    "pixels": tuple(Point(side, 21) for side in (64, 128, 256, 512, 1024)),
    "classes": tuple(Point(128, classes) for classes in (2, 8, 32, 128, 512)),
}
QUICK_AXES = {
    "pixels": (Point(32, 21), Point(128, 21)),
    "classes": (Point(64, 2), Point(64, 64)),
}


def measure(quick: bool) -> dict[str, Any]:
    """Measures every point of both axes.

    Args:
        quick: two small points an axis and three rounds, to see that it runs.

    Returns:
        `cases`, `targets` and `sizes` as every benchmark; `memory`, as `cases` in
        bytes; `system`, what `system_work` counts; and `curves`, a list of growths:
        `title`, `x_label`, `y_label`, `x`, and for each name in `series` the values `y`
        and the exponents `exponent` (of the larger half) and `exponent_of_all`.
    """
    # It takes functions made in a loop for a mistake.
    tf.get_logger().setLevel("ERROR")
    axes, rounds, peaks = (QUICK_AXES, 3, 2) if quick else (AXES, 15, 5)
    points = list(dict.fromkeys(point for axis in axes.values() for point in axis))
    largest = [along[-1] for along in axes.values()]
    seconds, system = {}, {}
    for point in points:
        cases = gradient_cases(point)
        seconds[point] = sampled_seconds(cases, point, rounds)
        if point in largest:
            system[str(point)] = {name: system_work(f) for name, f in cases.items()}
    memory = peak_bytes(points, peaks)
    targets, curves = [], []
    for axis, along in axes.items():
        targets += time_targets(axis, along, seconds)
        targets += memory_targets(axis, along, memory)
        curves += [time_curve(axis, along, seconds), memory_curve(axis, along, memory)]
    return {
        "sizes": {axis: [str(point) for point in axes[axis]] for axis in axes},
        "cases": by_case(seconds, "seconds"),
        "memory": by_case(memory, "bytes"),
        "system": system,
        "targets": targets,
        "curves": curves,
    }


def by_case(samples: Mapping[Point, Samples], unit: str) -> dict[str, Any]:
    """Samples and their summary by "SIZE, CASE"."""
    return {
        f"{point}, {case}": {unit: values, **harness.summary(values)}
        for point, cases in samples.items()
        for case, values in cases.items()
    }


# --- Time ---


def gradient_cases(point: Point) -> dict[str, Callable[[], Any]]:
    """Every loss with its gradient in every mode, by "LOSS, MODE"."""
    tensors_ = tensors(point)
    return {
        f"{name}, {mode}": partial(gradient_function(name, jit_compile), *tensors_)
        for name in losses()
        for mode, jit_compile in MODES.items()
    }


def sampled_seconds(
    cases: Mapping[str, Callable[[], Any]], point: Point, rounds: int
) -> Samples:
    """Returns the seconds that a call of every case takes, a sample a round."""
    calls = max(1, ELEMENTS_A_SAMPLE // point.elements)
    return harness.alternate(
        {name: partial(seconds_a_call, f, calls) for name, f in cases.items()}, rounds
    )


def system_work(function: Callable[[], object], calls: int = 3) -> dict[str, float]:
    """What a call makes the system do, once it has been called some times.

    Returns:
        "page faults", of a call, each a page handed out anew; and "share of time", what
        the system took of the processor time.
    """
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(calls):
        function()
    after = resource.getrusage(resource.RUSAGE_SELF)
    system = after.ru_stime - before.ru_stime
    user = after.ru_utime - before.ru_utime
    return {
        "page faults": (after.ru_minflt - before.ru_minflt) / calls,
        "share of time": system / max(system + user, 1e-9),
    }


def seconds_a_call(function: Callable[[], object], calls: int) -> float:
    """Times some calls in a row; returns the seconds of one."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def losses() -> dict[str, Loss]:
    """The losses by name: ours, the literal formula, Keras' cross-entropy alone."""
    return {
        OURS: CrossEntropyLevelSetLoss(
            level_set_weight=WEIGHT,
            normalization="mean",
            from_logits=True,
            ignore_class=VOID,
        ),
        LITERAL: literal_loss,
        REFERENCE: keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=VOID
        ),
    }


def gradient_function(name: str, jit_compile: bool | None) -> Callable[..., Any]:
    """Returns a compiled function of labels and logits: the loss and its gradient."""
    return value_and_gradient(losses()[name], jit_compile)


def tensors(point: Point) -> tuple[tf.Tensor, tf.Tensor]:
    """Random labels (1, H, W), int32 with void, and logits (1, H, W, C), float32."""
    rng = np.random.default_rng(0)
    shape = (1, point.side, point.side)
    labels = rng.integers(0, point.classes, shape, dtype=np.int32)
    # Of more than 255 classes one has void's number: another is drawn in its place.
    labels[labels == VOID] = VOID - 1
    labels[rng.random(shape) < VOID_SHARE] = VOID
    logits = rng.standard_normal((*shape, point.classes), dtype=np.float32)
    return tf.constant(labels), tf.constant(3 * logits)


def modes_of(name: str) -> list[str]:
    """The cases of a loss."""
    return [f"{name}, {mode}" for mode in MODES]


def time_targets(
    axis: str, points: Sequence[Point], seconds: Mapping[Point, Samples]
) -> list[dict[str, Any]]:
    """Linear over the axis, and ahead of the literal formula at each of its points."""
    taken = [seconds[p][harness.best(seconds[p], modes_of(OURS))] for p in points]
    ratios = {
        str(p): harness.ratio(seconds[p], modes_of(OURS), modes_of(LITERAL))
        for p in points
    }
    return axis_targets("Time", axis, points, taken, ratios)


def time_curve(
    axis: str, points: Sequence[Point], seconds: Mapping[Point, Samples]
) -> dict[str, Any]:
    """The medians of each loss in its best mode, over one axis."""
    series = {}
    for name in losses():
        modes = [harness.best(seconds[point], modes_of(name)) for point in points]
        medians = [
            float(np.median(seconds[p][mode]))
            for p, mode in zip(points, modes, strict=True)
        ]
        series[name] = {"y": medians, "taken": modes}
    return curve(f"Time over {axis}", axis, "seconds", points, series)


# --- Memory ---


def peak_bytes(points: Sequence[Point], rounds: int) -> dict[Point, Samples]:
    """Returns what each loss adds to a process at its highest, by point and loss.

    Which operations run at the same time, and with them the peak, differs from call to
    call: hence the rounds.
    """
    peaks: dict[Point, Samples] = {point: {} for point in points}
    for name in losses():
        with harness.Worker(
            "benchmarks.growth:peaks_of_points",
            environment=harness.MEMORY_HANDED_BACK,
            name=name,
            sizes=[(point.side, point.classes) for point in points],
        ) as worker:
            by_round = []
            for _ in range(rounds):
                worker()
                by_round.append(worker.details)
        for point in points:
            peaks[point][name] = [peaks_[str(point)] for peaks_ in by_round]
    return peaks


def peaks_of_points(
    name: str, sizes: Sequence[tuple[int, int]]
) -> Callable[[], dict[str, int]]:
    """What a `harness.Worker` does: the peaks of a loss in graph mode, by point."""
    work = {}
    for point in (Point(*size) for size in sizes):
        gradient = gradient_function(name, MODES["graph"])
        work[str(point)] = partial(gradient, *tensors(point))
    return lambda: {
        label: max(PAGE, harness.peak_memory(function))
        for label, function in work.items()
    }


def memory_targets(
    axis: str, points: Sequence[Point], memory: Mapping[Point, Samples]
) -> list[dict[str, Any]]:
    """Linear over the axis, and below the literal formula at each of its points."""
    taken = [memory[point][OURS] for point in points]
    ratios = {str(p): harness.ratio(memory[p], [OURS], [LITERAL]) for p in points}
    return axis_targets("Memory", axis, points, taken, ratios)


def memory_curve(
    axis: str, points: Sequence[Point], memory: Mapping[Point, Samples]
) -> dict[str, Any]:
    """The peaks of each loss over one axis."""
    series = {
        name: {"y": [float(np.median(memory[point][name])) for point in points]}
        for name in losses()
    }
    return curve(f"Peak memory over {axis}", axis, "bytes", points, series)


# --- Targets ---


def axis_targets(
    quantity: str,
    axis: str,
    points: Sequence[Point],
    taken: Sequence[Sequence[float]],
    ratios: Mapping[str, dict[str, Any]],
) -> list[dict[str, Any]]:
    """Both targets of a quantity: its exponent, and the worst ratio to the literal."""
    return [
        exponent_target(f"{quantity} of CE + LS over {axis}", axis, points, taken),
        worst_target(f"{quantity} of CE + LS over that of the literal, {axis}", ratios),
    ]


def exponent_target(
    name: str, axis: str, points: Sequence[Point], samples: Sequence[Sequence[float]]
) -> dict[str, Any]:
    """Linear growth: samples by point, of which each round gives an exponent."""
    sizes = [getattr(point, axis) for point in points]
    fits = [exponent(*larger_half(sizes, y)) for y in zip(*samples, strict=True)]
    exponents = [fit for fit in fits if fit is not None]
    spread = harness.summary(exponents) if exponents else {}
    return harness.target(
        f"{name}: exponent",
        spread.get("median"),
        EXPONENT_BOUND,
        "at most",
        samples=exponents,
        **spread,
    )


def worst_target(name: str, ratios: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Ahead everywhere: the largest of the points' ratios is below 1."""
    worst = max(ratios, key=lambda label: float(ratios[label]["median"]))
    return harness.target(
        f"{name}: worst point",
        ratios[worst]["median"],
        1.0,
        "at most",
        worst=worst,
        ratios={label: ratio["median"] for label, ratio in ratios.items()},
        **ratios[worst],
    )


# --- Exponents ---


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """Returns the slope of log value over log size.

    None where it cannot be had: of fewer than two points, or of a value that is not
    positive.
    """
    if len(sizes) < 2 or min(values) <= 0:
        return None
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def larger_half(
    sizes: Sequence[float], values: Sequence[float]
) -> tuple[Sequence[float], Sequence[float]]:
    """The points of the larger sizes, the middle one among them; two at least."""
    start = min(len(sizes) // 2, len(sizes) - 2)
    return sizes[start:], values[start:]


def curve(
    title: str,
    axis: str,
    y_label: str,
    points: Sequence[Point],
    series: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """A growth as `measure` returns it, the exponents of each series added."""
    sizes = [getattr(point, axis) for point in points]
    return {
        "title": title,
        "x_label": axis,
        "y_label": y_label,
        "x": sizes,
        "series": {
            name: {
                **values,
                "exponent": exponent(*larger_half(sizes, values["y"])),
                "exponent_of_all": exponent(sizes, values["y"]),
            }
            for name, values in series.items()
        },
    }
