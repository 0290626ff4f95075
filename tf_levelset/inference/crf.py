"""The fully connected CRF of Krähenbühl and Koltun, which the paper compares with.

P. Krähenbühl and V. Koltun, Efficient Inference in Fully Connected CRFs with Gaussian
Edge Potentials, NIPS 2011. The inference is that of the library `pydensecrf2`:
`pip install pydensecrf2`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_levelset.checks import (
    check_not_negative,
    check_positive,
    expect,
    is_whole,
    optional_library,
    plain_options,
)

if TYPE_CHECKING:
    from tf_levelset.inference.predictor import Predictor

SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""Smaller probabilities are raised to this one, so that −log of zero stays finite."""


@plain_options
@dataclass(frozen=True)
class DenseCRF:
    """Mean field inference in a fully connected CRF (Algorithm 1).

    Starting at Q = P, each iteration computes

        Q_i(l) ∝ P_i(l) · exp(Σ_m w_m Σ_j k_m(i, j) Q_j(l))

    with a Gaussian kernel of the positions p and a bilateral kernel of the positions
    and the colours I:

        exp(−|p_i − p_j|² / 2σ_xy²)
        exp(−|p_i − p_j|² / 2σ_xy² − |I_i − I_j|² / 2σ_rgb²)

    Both kernels are normalised symmetrically: k(i, j) / √(Σ_a k(i, a) · Σ_b k(b, j)).
    The sum over j includes i, as in the authors' code and unlike Algorithm 1. The
    library filters on the permutohedral lattice, an approximation: with these kernels,
    the sums over j differ from the exact ones by about 6 %.

    Args:
        iterations: Number of mean field iterations.
        gaussian_weight: W of the Gaussian kernel, at least 0.
        gaussian_xy: σ_xy of the Gaussian kernel in pixels.
        bilateral_weight: W of the bilateral kernel, at least 0.
        bilateral_xy: σ_xy of the bilateral kernel in pixels.
        bilateral_rgb: σ_rgb of the bilateral kernel, for colours in [0, 255].

    Raises:
        ValueError: If `iterations` is below 1, a weight is negative, or a σ is not
            positive.

    Example:
    >>> crf = PRESETS["vgg_5"]
    >>> refine = refined(KerasPredictor.load(path), crf)  # doctest: +SKIP
    >>> labels = refine(image).argmax(-1)  # doctest: +SKIP
    """

    iterations: int = 10
    gaussian_weight: float = 3.0
    gaussian_xy: float = 1.0
    bilateral_weight: float = 4.0
    bilateral_xy: float = 67.0
    bilateral_rgb: float = 3.0

    def __post_init__(self) -> None:
        whole = is_whole(self.iterations) and self.iterations >= 1
        expected = "`iterations` to be an integer of at least 1"
        expect(whole, expected, self.iterations)
        for name in ("gaussian_weight", "bilateral_weight"):
            check_not_negative(**{name: getattr(self, name)})
        for name in ("gaussian_xy", "bilateral_xy", "bilateral_rgb"):
            check_positive(**{name: getattr(self, name)})

    def __call__(self, image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Refines the probabilities of one image.

        Args:
            image: uint8 (H, W, 3), RGB.
            probabilities: Floating-point (H, W, C) with at least two classes, of sum 1
                over the classes.

        Returns:
            The refined probabilities, float32 (H, W, C).

        Raises:
            ValueError: If an array has another shape or dtype, or `probabilities` holds
                values that are no probabilities, such as logits.
            ImportError: If `pydensecrf2` is not installed.
        """
        _check(image, probabilities)
        library = require_library()
        height, width, classes = probabilities.shape
        clipped = np.maximum(probabilities.astype(np.float32), SMALLEST_PROBABILITY)
        unary = -np.log(clipped).reshape(-1, classes).T

        field = library.DenseCRF2D(width, height, classes)
        field.setUnaryEnergy(np.ascontiguousarray(unary))
        field.addPairwiseGaussian(
            sxy=self.gaussian_xy,
            compat=self.gaussian_weight,
            normalization=library.NORMALIZE_SYMMETRIC,
        )
        field.addPairwiseBilateral(
            sxy=self.bilateral_xy,
            srgb=self.bilateral_rgb,
            rgbim=np.array(image, order="C"),  # A copy: read-only arrays are refused.
            compat=self.bilateral_weight,
            normalization=library.NORMALIZE_SYMMETRIC,
        )
        marginals = np.asarray(field.inference(self.iterations))
        return marginals.T.reshape(height, width, classes)


_PARAMETERS = {"resnet": (3.0, 1.0, 4.0, 67.0, 3.0), "vgg": (3.0, 3.0, 4.0, 49.0, 5.0)}

PRESETS = {
    f"{net}_{iterations}": DenseCRF(iterations, *parameters)
    for net, parameters in _PARAMETERS.items()
    for iterations in (5, 10)
}
"""DeepLab's parameters by network and iterations, from "resnet_5" to "vgg_10"."""


def refined(predictor: Predictor, crf: DenseCRF) -> Predictor:
    """Returns a predictor whose probabilities are refined by a CRF.

    With test-time augmentation, refine the average: `refined(augmented(…), crf)`.

    Args:
        predictor: Maps an image, uint8 (H, W, 3), to probabilities (H, W, C).
        crf: The CRF.

    Raises:
        ImportError: If `pydensecrf2` is not installed.
    """
    require_library()

    def refine(image: np.ndarray) -> np.ndarray:
        return crf(image, predictor(image))

    return refine


def require_library() -> Any:
    """Returns the module `pydensecrf.densecrf` of the optional library.

    Raises:
        ImportError: If `pydensecrf2` is not installed.
    """
    return optional_library("pydensecrf.densecrf", "pydensecrf2")


def _check(image: np.ndarray, probabilities: np.ndarray) -> None:
    """Raises unless the arrays are an image and the probabilities of its pixels."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            "Expected `image` to be uint8 of shape (H, W, 3). Received: "
            f"{image.dtype} {image.shape}"
        )
    if (
        probabilities.dtype.kind != "f"
        or probabilities.ndim != 3
        or probabilities.shape[:2] != image.shape[:2]
        or probabilities.shape[2] < 2
        or 0 in probabilities.shape
    ):
        raise ValueError(
            "Expected `probabilities` to be floating-point of shape "
            f"{(*image.shape[:2], 'C')} with at least two classes. Received: "
            f"{probabilities.dtype} {probabilities.shape}"
        )
    # NaN and infinity fail this test, too. Sums of float16 are off by up to 0.005.
    if not (
        probabilities.min() >= 0
        and np.abs(probabilities.sum(-1, dtype=np.float64) - 1).max() < 0.01
    ):
        raise ValueError(
            "Expected `probabilities` to be in [0, 1] and of sum 1 over the classes. "
            f"Received: values from {probabilities.min()} to {probabilities.max()}"
        )
