"""The dense CRF against the mean field written out with every pair of pixels."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from scipy.special import softmax

from tf_levelset.inference.crf import PRESETS, SMALLEST_PROBABILITY, DenseCRF, refined

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("pydensecrf") is None,
    reason="pydensecrf2 is not installed: pip install pydensecrf2",
)

SIZE = (13, 18)
"""Not square, so that transposed axes fail."""


# --- The oracle ---


def normalised(kernel: np.ndarray) -> np.ndarray:
    return kernel / np.sqrt(kernel.sum(1)[:, None] * kernel.sum(0)[None, :])


def exact_kernels(crf: DenseCRF, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Gaussian and the bilateral kernel, each (N, N)."""
    positions = np.indices(image.shape[:2]).reshape(2, -1).T.astype(np.float64)
    colours = image.reshape(-1, 3).astype(np.float64)
    distance = cdist(positions, positions, "sqeuclidean")
    colour_distance = cdist(colours, colours, "sqeuclidean")
    gaussian = np.exp(-distance / (2 * crf.gaussian_xy**2))
    bilateral = np.exp(
        -distance / (2 * crf.bilateral_xy**2)
        - colour_distance / (2 * crf.bilateral_rgb**2)
    )
    return normalised(gaussian), normalised(bilateral)


def mean_field(
    crf: DenseCRF,
    probabilities: np.ndarray,
    kernels: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Algorithm 1 with Potts' compatibility: energy −Σ_j k(i, j) Q_j(l), in float64."""
    shape = probabilities.shape
    unary = -np.log(probabilities.reshape(-1, shape[-1]).astype(np.float64))
    q = softmax(-unary, axis=-1)
    for _ in range(crf.iterations):
        message = crf.gaussian_weight * kernels[0] @ q
        message += crf.bilateral_weight * kernels[1] @ q
        q = softmax(-unary + message, axis=-1)
    return q.reshape(shape)


def case(
    seed: int, contrast: float, noise: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    """An image of blobs `contrast` apart in colour, and unrelated probabilities."""
    rng = np.random.default_rng(seed)

    def smooth(channels: int, sigma: float) -> np.ndarray:
        noise = rng.normal(size=(*SIZE, channels))
        noise = gaussian_filter(noise, (sigma, sigma, 0))
        return noise / noise.std()

    image = 128 + 1.5 * contrast * smooth(3, 2.0)
    scores = smooth(3, 1.5)
    scores = scores + noise * rng.normal(size=scores.shape)
    return image.clip(0, 255).astype(np.uint8), softmax(scores, axis=-1).astype(
        np.float32
    )


# --- The mean field ---


# With weights this small the mean field has a single fixed point, which depends
# continuously on the kernels: the result is compared with that of the exact kernels.
WEAK = DenseCRF(
    gaussian_weight=0.2,
    gaussian_xy=1.5,
    bilateral_weight=0.3,
    bilateral_xy=4.0,
    bilateral_rgb=20.0,
)
# Over 12 sets of 16 images, the lattice's mean deviation was 0.054 to 0.061. That of
# the smallest mistake tried (a weight 20 % too small) was at least 0.088; others were a
# standard deviation off by √2, one iteration, turned axes, and other normalisations.
BOUND = 0.07


def logits(probabilities: np.ndarray) -> np.ndarray:
    scores = np.log(probabilities.astype(np.float64))
    return scores - scores.mean(-1, keepdims=True)


@needs_library
@pytest.mark.parametrize("iterations", [1, 2, 10])
def test_follows_the_brute_force_mean_field(iterations: int) -> None:
    crf = dataclasses.replace(WEAK, iterations=iterations)
    errors = []
    for seed in range(16):
        image, probabilities = case(seed, contrast=crf.bilateral_rgb)
        before = logits(probabilities)
        exact = mean_field(crf, probabilities, exact_kernels(crf, image))
        change = logits(exact) - before
        ours = logits(crf(image, probabilities)) - before
        # The relative error of the changes to the logits.
        errors.append(np.linalg.norm(ours - change) / np.linalg.norm(change))
    assert np.mean(errors) < BOUND


@needs_library
@pytest.mark.parametrize("name", PRESETS)
def test_presets_label_as_the_brute_force_does(name: str) -> None:
    # Strong weights drive each region to one of several fixed points, and sometimes the
    # lattice's error decides which one: labels are compared, over many images.
    crf = PRESETS[name]
    agreement, unrefined = [], []
    for seed in range(20):
        image, probabilities = case(seed, contrast=crf.bilateral_rgb, noise=1.0)
        expected = mean_field(crf, probabilities, exact_kernels(crf, image)).argmax(-1)
        agreement.append(crf(image, probabilities).argmax(-1) == expected)
        unrefined.append(probabilities.argmax(-1) == expected)
    assert np.mean(agreement) > 0.95
    assert np.mean(unrefined) < 0.75


def test_presets_are_deeplabs() -> None:
    assert {
        "resnet_5": DenseCRF(5, 3, 1, 4, 67, 3),
        "resnet_10": DenseCRF(10, 3, 1, 4, 67, 3),
        "vgg_5": DenseCRF(5, 3, 3, 4, 49, 5),
        "vgg_10": DenseCRF(10, 3, 3, 4, 49, 5),
    } == PRESETS
    assert DenseCRF() == PRESETS["resnet_10"]


# --- What goes in and comes out ---


@needs_library
def test_zero_counts_as_the_smallest_probability() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    certain = np.zeros((2, 3, 2), np.float32)
    certain[..., 1] = 1
    floored = certain.copy()
    floored[..., 0] = SMALLEST_PROBABILITY
    crf = PRESETS["vgg_5"]
    np.testing.assert_array_equal(crf(image, certain), crf(image, floored))
    # Its energy is finite, so that a strong neighbourhood overcomes it.
    certain[0, 0] = 1, 0
    flipped = DenseCRF(5, 0.0, 1.0, 1000.0, 100.0, 100.0)(image, certain)
    assert flipped[0, 0, 1] > 0.99


@needs_library
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    classes=st.integers(2, 5),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    name=st.sampled_from(sorted(PRESETS)),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_image_gives_probabilities(
    height: int, width: int, classes: int, dtype: Any, name: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    scores = rng.choice([1, 30]) * rng.normal(size=(height, width, classes))
    probabilities = softmax(scores, axis=-1).astype(dtype)
    image.flags.writeable = probabilities.flags.writeable = False

    refined_once = PRESETS[name](image, probabilities)

    assert refined_once.shape == probabilities.shape
    assert refined_once.dtype == np.float32
    assert refined_once.flags.c_contiguous
    assert refined_once.min() >= 0
    np.testing.assert_allclose(refined_once.sum(-1), 1, atol=1e-5)
    # Bit-identical for other memory layouts; the result is a new array.
    again = PRESETS[name](
        np.asfortranarray(image), np.asfortranarray(probabilities.astype(np.float64))
    )
    np.testing.assert_array_equal(again, refined_once)
    assert not np.shares_memory(again, refined_once)


GOOD = case(0, contrast=20)


@pytest.mark.parametrize(
    ("image", "probabilities"),
    [
        pytest.param(GOOD[0].astype(np.float32), GOOD[1], id="floating-point image"),
        pytest.param(GOOD[0][..., :1], GOOD[1], id="grey image"),
        pytest.param(GOOD[0][np.newaxis], GOOD[1][np.newaxis], id="batch"),
        pytest.param(GOOD[0][:-1], GOOD[1], id="other size"),
        pytest.param(GOOD[0], GOOD[1][..., 0], id="no axis of classes"),
        pytest.param(GOOD[0], np.ones_like(GOOD[1][..., :1]), id="one class"),
        pytest.param(GOOD[0], np.eye(3, dtype=int)[GOOD[1].argmax(-1)], id="integers"),
        pytest.param(GOOD[0], np.log(GOOD[1]), id="negative"),
        pytest.param(GOOD[0], 5 * GOOD[1], id="sum"),
        pytest.param(GOOD[0], np.full_like(GOOD[1], np.nan), id="NaN"),
        pytest.param(GOOD[0][:0], GOOD[1][:0], id="empty"),
    ],
)
def test_bad_inputs_raise(image: np.ndarray, probabilities: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"Expected .* Received: "):
        WEAK(image, probabilities)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *product(["iterations"], [0, 5.0, True]),
        *product(["gaussian_weight", "bilateral_weight"], [-1.0, np.inf, np.nan]),
        *product(["gaussian_xy", "bilateral_xy", "bilateral_rgb"], [0.0, -1.0, np.nan]),
    ],
)
def test_bad_parameters_raise(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Expected `{name}` to be .* Received"):
        DenseCRF(**{name: value})


@needs_library
def test_a_refined_predictor_is_a_predictor() -> None:
    image, probabilities = case(0, contrast=20)

    def predictor(given: np.ndarray) -> np.ndarray:
        np.testing.assert_array_equal(given, image)
        return probabilities

    np.testing.assert_array_equal(
        refined(predictor, WEAK)(image), WEAK(image, probabilities)
    )


def test_without_the_library_an_error_names_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(ImportError, match="pip install pydensecrf2"):
        WEAK(*GOOD)
    # Before a model is loaded and run.
    with pytest.raises(ImportError, match="pip install pydensecrf2"):
        refined(lambda image: image, WEAK)
