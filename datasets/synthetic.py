"""Synthetic scenes, generated as they are read: a data set without files.

A scene has objects of seven shapes in front of a textured background. The colours of
the classes overlap, so that only the shape of an object determines its class; objects
occlude one another; three of the classes are thin or tiny, and rings and fences show
what is behind them. With another number of classes, the scenes stand in for any data
set of which only the shape matters, as in a smoke test.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import tensorflow as tf

from tf_levelset.checks import expect, plain_options
from tf_levelset.constants import IGNORE_CLASS
from tf_levelset.datasets.augmentation import is_size
from tf_levelset.datasets.pipeline import Source
from tf_levelset.datasets.voc import voc_palette

CLASSES: dict[str, tuple[int, int, int]] = {
    "background": (0, 0, 0),
    "ellipse": (230, 60, 60),
    "polygon": (60, 160, 240),
    "pole": (250, 210, 60),
    "ring": (150, 90, 220),
    "star": (240, 130, 40),
    "dots": (120, 230, 120),
    "fence": (240, 110, 200),
}
# Each split has random streams of its own.
SPLITS = {"train": 0, "val": 1}

_DEFAULT_NUM_SAMPLES = {"train": 1000, "val": 200}
_MIN_SIDE = 32
# The largest difference, of 255, of an object's colour from its class's, per channel.
_SPREAD = 110.0
# The least distance, of 255, between an object's colour and the background's.
_MIN_CONTRAST = 60.0


@plain_options
def synthetic(
    split: str = "train",
    num_samples: int | None = None,
    size: tuple[int, int] = (96, 128),
    seed: int = 0,
    num_classes: int = len(CLASSES),
) -> Source:
    """Returns synthetic scenes, of 8 classes by default.

    Sample i depends on (seed, split, i, num_classes) only, and not on the number of
    samples. Other versions of NumPy or OpenCV may round some pixels differently.

    Args:
        split: `"train"` or `"val"`, which have no scene in common.
        num_samples: The number of scenes; by default 1000 for training and 200 for
            validation.
        size: Their (height, width), at least 32 each.
        seed: The seed of the data set, at least 0.
        num_classes: 2 to 255. Fewer than 8 leave out the last shapes of `CLASSES`;
            beyond 8, each further class is one of the seven shapes again, in a colour
            of its own.

    Returns:
        A `Source`, without void pixels.

    Raises:
        ValueError: If an argument is out of range.
    """
    expect(split in SPLITS, f"`split` to be one of {tuple(SPLITS)}", split)
    expect(
        is_size(size) and min(size) >= _MIN_SIDE,
        f"`size` to be (height, width) of at least {_MIN_SIDE} each",
        size,
    )
    expect(seed >= 0, "`seed` to be at least 0", seed)
    in_range = 2 <= num_classes <= IGNORE_CLASS
    expect(in_range, f"`num_classes` in [2, {IGNORE_CLASS}]", num_classes)
    if num_samples is None:
        num_samples = _DEFAULT_NUM_SAMPLES[split]

    def draw(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((seed, SPLITS[split], int(index)))
        return draw_scene(rng, size, num_classes)

    def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Not stateful, since a scene is a function of its index.
        image, labels = tf.numpy_function(
            draw, [index], (tf.uint8, tf.uint8), stateful=False
        )
        return tf.ensure_shape(image, (*size, 3)), tf.ensure_shape(labels, size)

    return Source(
        name=f"synthetic/{split}",
        class_names=tuple(map(_class_name, range(num_classes))),
        palette=tuple(map(_class_color, range(num_classes))),
        num_samples=num_samples,
        load=load,
        sample_names=tuple(f"{split}_{index:06d}" for index in range(num_samples)),
        image_size=size,
    )


def draw_scene(
    rng: np.random.Generator, size: tuple[int, int], num_classes: int = len(CLASSES)
) -> tuple[np.ndarray, np.ndarray]:
    """Draws one scene.

    Args:
        rng: The source of all its randomness.
        size: Its (height, width).
        num_classes: As for `synthetic`.

    Returns:
        The image, uint8 (height, width, 3), and its labels, uint8 (height, width).
    """
    background = rng.uniform(40, 215, 3)
    image = _texture(rng, size, background)
    labels = np.zeros(size, np.uint8)
    for label in object_classes(rng, num_classes):
        mask = np.zeros(size, np.uint8)
        shape_of(label)(mask, rng)
        left, top, width, height = cv2.boundingRect(mask)
        if not width:  # the shape lies outside the image
            continue
        box = np.s_[top : top + height, left : left + width]
        inside = mask[box] > 0
        color = _color(rng, label, background)
        image[box][inside] = _texture(rng, (height, width), color)[inside]
        labels[box][inside] = label
    blurred = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.8))
    noisy = blurred + rng.normal(0, rng.uniform(4, 12), image.shape)
    return noisy.clip(0, 255).astype(np.uint8), labels


def object_classes(rng: np.random.Generator, num_classes: int) -> list[int]:
    """Returns the classes of a scene's objects, from back to front.

    Large shapes tend to be behind, since they would hide the thin ones.
    """
    big = [c for c in range(1, num_classes) if shape_of(c) not in _THIN]
    thin = [c for c in range(1, num_classes) if shape_of(c) in _THIN]
    drawn = rng.choice(big, size=rng.integers(3, 7)).tolist()
    in_front = rng.choice(thin, size=rng.integers(2, 5)).tolist() if thin else []
    depth = [(rng.uniform(0.0, 1.0), label) for label in drawn]
    depth += [(rng.uniform(0.4, 1.4), label) for label in in_front]
    return [label for _, label in sorted(depth)]


def shape_of(label: int) -> Callable[[np.ndarray, np.random.Generator], None]:
    """Returns the function that draws a class; beyond class 7 the shapes repeat."""
    return SHAPES[(label - 1) % len(SHAPES)]


def _class_name(label: int) -> str:
    names = tuple(CLASSES)
    if label < len(names):
        return names[label]
    turn, shape = divmod(label - 1, len(SHAPES))
    return f"{names[1 + shape]} {turn + 1}"


def _class_color(label: int) -> tuple[int, int, int]:
    colors = tuple(CLASSES.values())
    return colors[label] if label < len(colors) else tuple(voc_palette()[label])


def _color(rng: np.random.Generator, label: int, background: np.ndarray) -> np.ndarray:
    """Returns a colour near the class's own that differs from the background's."""
    own = np.array(_class_color(label), np.float64)
    while True:
        color = (own + rng.uniform(-_SPREAD, _SPREAD, 3)).clip(20, 235)
        if np.linalg.norm(color - background) >= _MIN_CONTRAST:
            return color


def _texture(
    rng: np.random.Generator, size: tuple[int, int], color: np.ndarray
) -> np.ndarray:
    """Returns float32 (H, W, 3): a colour overlaid with clouds and stripes."""
    cells = rng.normal(0, 14, (rng.integers(3, 8), rng.integers(3, 8), 3))
    clouds = cv2.resize(
        cells.astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC
    )
    rows, columns = np.ogrid[: size[0], : size[1]]
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 20)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    stripes = rng.uniform(0, 15) * np.sin(2 * np.pi * along / period)
    return (color + clouds + stripes[..., np.newaxis]).astype(np.float32)


# One function for each shape, which draws on a uint8 mask (H, W) in place. Thicknesses
# are in pixels at every size; lengths are relative to the shorter side.


def _ellipse(mask: np.ndarray, rng: np.random.Generator) -> None:
    axes = _length(mask, rng, 0.06, 0.22), _length(mask, rng, 0.06, 0.22)
    angle = rng.uniform(0, 180)
    cv2.ellipse(mask, _center(mask, rng), axes, angle, 0, 360, 1, cv2.FILLED)


def _polygon(mask: np.ndarray, rng: np.random.Generator) -> None:
    corners = rng.integers(3, 7)
    # Jitter of less than half a step keeps the corners in order, the shape convex.
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
    radii = np.full(corners, _length(mask, rng, 0.1, 0.24))
    _fill(mask, rng, angles + rng.uniform(), radii)


def _star(mask: np.ndarray, rng: np.random.Generator) -> None:
    points = rng.integers(4, 8)
    radius = _length(mask, rng, 0.12, 0.26)
    radii = np.tile([radius, radius * rng.uniform(0.3, 0.5)], points)
    _fill(mask, rng, np.arange(2 * points) / (2 * points) + rng.uniform(), radii)


def _ring(mask: np.ndarray, rng: np.random.Generator) -> None:
    radius, thickness = _length(mask, rng, 0.08, 0.22), int(rng.integers(2, 6))
    cv2.circle(mask, _center(mask, rng), radius, 1, thickness)


def _pole(mask: np.ndarray, rng: np.random.Generator) -> None:
    x, y = _center(mask, rng)
    length, angle = _length(mask, rng, 0.4, 1.0), rng.uniform(0, np.pi)
    dx, dy = round(length / 2 * np.cos(angle)), round(length / 2 * np.sin(angle))
    thickness = int(rng.integers(1, 4))
    cv2.line(mask, (x - dx, y - dy), (x + dx, y + dy), 1, thickness)


def _dots(mask: np.ndarray, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(4, 13)):
        cv2.circle(mask, _center(mask, rng), int(rng.integers(1, 4)), 1, cv2.FILLED)


def _fence(mask: np.ndarray, rng: np.random.Generator) -> None:
    x, y = _center(mask, rng)
    width, height = _length(mask, rng, 0.3, 0.7), _length(mask, rng, 0.2, 0.4)
    gap, thickness = int(rng.integers(5, 9)), int(rng.integers(1, 3))
    left, top = x - width // 2, y - height // 2
    for column in range(left, left + width + 1, gap):
        cv2.line(mask, (column, top), (column, top + height), 1, thickness)
    for row in (top + gap // 2, top + height - gap // 2):
        cv2.line(mask, (left, row), (left + width, row), 1, thickness)


# In the order of `CLASSES`, of which the first is background.
SHAPES = (_ellipse, _polygon, _pole, _ring, _star, _dots, _fence)
_THIN = (_pole, _dots, _fence)


def _fill(
    mask: np.ndarray, rng: np.random.Generator, turns: np.ndarray, radii: np.ndarray
) -> None:
    """Fills the polygon with corners at these angles, in turns, and radii."""
    angles = 2 * np.pi * turns
    corners = radii[:, np.newaxis] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = np.rint(corners + _center(mask, rng)).astype(np.int32)
    cv2.fillPoly(mask, [points], 1)


def _center(mask: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Returns a random (x, y)."""
    return int(rng.integers(mask.shape[1])), int(rng.integers(mask.shape[0]))


def _length(mask: np.ndarray, rng: np.random.Generator, low: float, high: float) -> int:
    """Returns a random length, `low` to `high` of the shorter side."""
    return round(rng.uniform(low, high) * min(mask.shape))
