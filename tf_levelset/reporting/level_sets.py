"""Draws the level sets of predictions (Figures 2 and 3) and enlarged details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from tf_levelset.energy.energy import pixel_energies
from tf_levelset.energy.options import EnergyOptions
from tf_levelset.inference.panels import boundaries, colourize, fitted, grid

ZOOM = 64
"""Side of the squares that are enlarged, in pixels of the image."""


def level_sets(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_index: int,
    *,
    heaviside: str = "mahf",
    epsilon: float = 1 / 20,
    ignore_class: int = 255,
) -> dict[str, np.ndarray]:
    """Returns the level set function of a class and the pixels' summands of Eq. 4.

    Args:
        labels: Integers (H, W).
        probabilities: (H, W, C).
        class_index: Index of the class.
        heaviside: One of `energy.options.HEAVISIDES`.
        epsilon: Width of the Heaviside function.
        ignore_class: Label of void pixels.

    Returns:
        Three float64 arrays (H, W): "phi", P − ½ (Eq. 3); "region", H(φ); "energy",
        the summand of Eq. 4. The last two are zero on void pixels.

    Raises:
        ValueError: If the sizes differ, or there is no such class.
    """
    if probabilities.shape[:2] != labels.shape:
        raise ValueError(
            f"Expected labels of shape {probabilities.shape[:2]}. "
            f"Received: {labels.shape}"
        )
    if not 0 <= class_index < probabilities.shape[-1]:
        raise ValueError(
            f"Expected a class in [0, {probabilities.shape[-1]}). "
            f"Received: {class_index}"
        )
    phi = probabilities[..., class_index].astype(np.float64) - 0.5
    valid = labels != ignore_class
    truth = valid & (labels == class_index)
    # One image of one class: (B, N, C) = (1, H W, 1).
    one_class = (a.reshape(1, -1, 1).astype(np.float64) for a in (phi, truth, valid))
    flat_phi, flat_truth, flat_valid = map(tf.constant, one_class)
    region, energy, _ = pixel_energies(
        flat_phi, flat_truth, flat_valid, EnergyOptions(heaviside, epsilon)
    )
    return {
        "phi": phi,
        "region": region.numpy().reshape(labels.shape),
        "energy": energy.numpy().reshape(labels.shape),
    }


def level_set_panel(
    image: np.ndarray,
    labels: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    classes: Mapping[str, int],
    width: int = 200,
    **options: Any,
) -> np.ndarray:
    """Draws a row for each class: its truth, and φ, H(φ) and the energy.

    Args:
        image: uint8 (H, W, 3) RGB.
        labels: Integers (H, W).
        predictions: Probabilities (H, W, C) by title. Each has three columns.
        classes: Indices of the classes by name.
        width: Width of a column, in pixels.
        **options: Options of `level_sets`.

    Returns:
        uint8 (height, width, 3) RGB. φ is blue below zero and red above. H(φ) and the
        energy are grey, and white at 1.
    """
    rows = []
    for index in classes.values():
        cells = [image, _grey(labels == index)]
        for probabilities in predictions.values():
            found = level_sets(labels, probabilities, index, **options)
            cells += [
                diverging(2 * found["phi"]),
                _grey(found["region"]),
                _grey(found["energy"]),
            ]
        rows.append([fitted(cell, width) for cell in cells])
    titles = ["image", "truth"]
    for title in predictions:
        titles += [f"{title}: phi", f"{title}: H", f"{title}: energy"]
    return grid(rows, titles)


def zoomed_panel(
    image: np.ndarray,
    labels: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    palette: np.ndarray | Sequence[Sequence[int]],
    zooms: int = 2,
    width: int = 240,
    ignore_class: int = 255,
) -> np.ndarray:
    """Draws predictions, and enlarges where they differ most along boundaries.

    Args:
        image: uint8 (H, W, 3) RGB.
        labels: Integers (H, W).
        predictions: Probabilities (H, W, C), or class indices (H, W), by title.
        palette: Colours of the classes (C, 3), RGB in [0, 255].
        zooms: Number of squares to enlarge.
        width: Width of a column, in pixels.
        ignore_class: Label of void pixels.

    Returns:
        uint8 (height, width, 3) RGB: a row of whole images, and one for each square.
    """
    masks = [p if p.ndim == 2 else p.argmax(-1) for p in predictions.values()]
    cells = [image, *(colourize(m, palette) for m in (labels, *masks))]
    rows = [[fitted(cell, width) for cell in cells]]
    for top, left in places(labels, masks, zooms, ignore_class):
        part = slice(top, top + ZOOM), slice(left, left + ZOOM)
        rows.append([fitted(cell[part], width) for cell in cells])
    return grid(rows, ["image", "truth", *predictions])


def places(
    labels: np.ndarray,
    masks: Sequence[np.ndarray],
    count: int,
    ignore_class: int = 255,
) -> list[tuple[int, int]]:
    """Finds the squares in which masks differ most along the boundaries of the truth.

    Args:
        labels: Integers (H, W).
        masks: Class indices (H, W). The first is compared with the others; a single
            one is compared with the labels.
        count: Number of squares. There are fewer if the masks differ in fewer.
        ignore_class: Label of void pixels.

    Returns:
        The corner (top, left) of each square. Its side is `ZOOM`, or that of the image
        if it is smaller.
    """
    differ = np.zeros(labels.shape, np.float32)
    for other in masks[1:] or [labels]:
        differ += (masks[0] != other) & (labels != ignore_class)
    near = cv2.dilate(boundaries(labels).astype(np.uint8), np.ones((7, 7), np.uint8))
    differ *= near
    size = np.array(labels.shape)
    height, width = np.minimum(size, ZOOM).tolist()
    found = []
    for _ in range(count):
        # How many pixels differ in the square below and right of each pixel.
        sums = cv2.boxFilter(
            differ,
            cv2.CV_32F,
            (width, height),
            anchor=(0, 0),
            normalize=False,
            borderType=cv2.BORDER_CONSTANT,
        )[: size[0] - height + 1, : size[1] - width + 1]
        top, left = np.unravel_index(int(sums.argmax()), sums.shape)
        if sums[top, left] <= 0:
            break
        square = differ[top : top + height, left : left + width]
        centre = np.array([top, left]) + np.argwhere(square).mean(0)
        corner = np.round(centre - np.array([height, width]) / 2)
        corner = np.clip(corner, 0, size - (height, width)).astype(int)
        found.append((int(corner[0]), int(corner[1])))
        square[:] = 0
    return found


def diverging(values: np.ndarray) -> np.ndarray:
    """Maps −1 to blue, 0 to white and 1 to red, uint8 (H, W, 3)."""
    up, down = np.clip(values, 0, 1), np.clip(-values, 0, 1)
    colours = np.stack([1 - down, 1 - up - down, 1 - up], axis=-1)
    return np.round(255 * colours).astype(np.uint8)


def _grey(values: np.ndarray) -> np.ndarray:
    grey = np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return np.repeat(grey[..., np.newaxis], 3, axis=-1)
