"""The dense CRF of Krähenbühl and Koltun, the post-processing that the paper rivals.

P. Krähenbühl and V. Koltun, Efficient Inference in Fully Connected CRFs with Gaussian
Edge Potentials, NIPS 2011. It comes from the library `pydensecrf2`:
`pip install 'tf-levelset[crf]'`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tf_levelset.inference.evaluation import Predictor

SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""What a probability of zero counts as: its unary energy is 87.3, not infinite."""


@dataclass(frozen=True)
class DenseCRF:
    """Mean field inference in a fully connected CRF (Algorithm 1).

    Each iteration is Q_i(l) ∝ P_i(l) · exp(Σ_m w_m Σ_j k_m(i, j) Q_j(l)), from Q = P,
    with a Gaussian kernel of the positions p and a bilateral one of these and the
    colours I:

        exp(−|p_i − p_j|² / 2σ_xy²)
        exp(−|p_i − p_j|² / 2σ_xy² − |I_i − I_j|² / 2σ_rgb²)

    Both are normalised symmetrically, k(i, j) / √(Σ_a k(i, a) · Σ_b k(b, j)), and as in
    the authors' code, but not in their Algorithm 1, a pixel's own Q is in the sum. The
    library filters on the permutohedral lattice, which is an approximation: with these
    kernels written out in full, the sums over j come out some 6 % different.

    Args:
        iterations: of the mean field.
        gaussian_weight: w of the Gaussian kernel, zero or more.
        gaussian_xy: its σ_xy in pixels.
        bilateral_weight: w of the bilateral kernel, zero or more.
        bilateral_xy: its σ_xy in pixels.
        bilateral_rgb: its σ_rgb, in colours from 0 to 255.

    Raises:
        ValueError: for no iteration, a negative weight or a σ that is not positive.

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
        if type(self.iterations) is not int or self.iterations < 1:
            raise ValueError(
                "Expected `iterations` to be an integer of 1 or more. "
                f"Received: {self.iterations!r}"
            )
        for name in ("gaussian_weight", "bilateral_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"Expected `{name}` to be zero or more. "
                    f"Received: {getattr(self, name)!r}"
                )
        for name in ("gaussian_xy", "bilateral_xy", "bilateral_rgb"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"Expected `{name}` to be positive. "
                    f"Received: {getattr(self, name)!r}"
                )

    def __call__(self, image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Refines the probabilities of one picture.

        Args:
            image: uint8 (H, W, 3), the picture in RGB.
            probabilities: floating (H, W, C) of C ≥ 2 classes, at the picture's size;
                below `SMALLEST_PROBABILITY` they count as that.

        Returns:
            float32 (H, W, C), probabilities.

        Raises:
            ValueError: for other shapes or dtypes, and for values that are no
                probabilities, as logits are.
            ImportError: without `pydensecrf2`.
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
            rgbim=np.array(image, order="C"),  # a copy: it takes no read-only array
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
"""DeepLab's parameters for its nets, by net and iterations: "resnet_5" to "vgg_10"."""


def refined(predictor: Predictor, crf: DenseCRF) -> Predictor:
    """A predictor whose probabilities a CRF refines.

    An average over copies of a picture belongs inside: `refined(augmented(…), crf)`.

    Args:
        predictor: from a picture, uint8 (H, W, 3), to probabilities (H, W, C).
        crf: what refines them.

    Raises:
        ImportError: at once, without `pydensecrf2`.
    """
    require_library()

    def refine(image: np.ndarray) -> np.ndarray:
        return crf(image, predictor(image))

    return refine


def require_library() -> Any:
    """Returns the module `pydensecrf.densecrf` of the library, which is optional.

    Raises:
        ImportError: without `pydensecrf2`.
    """
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise ImportError(
            "Expected the library pydensecrf2, for the dense CRF. It comes with "
            "pip install 'tf-levelset[crf]'"
        ) from error
    return densecrf


def _check(image: np.ndarray, probabilities: np.ndarray) -> None:
    """Raises unless there are a picture and the probabilities of its pixels."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            "Expected a picture of dtype uint8 and shape (H, W, 3). Received: "
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
            "Expected floating probabilities of the picture's size and at least two "
            f"classes, {(*image.shape[:2], 'C')}. Received: {probabilities.dtype} "
            f"{probabilities.shape}"
        )
    # NaN and infinity fail this too. The sums of float16 are a few thousandths off.
    if not (
        probabilities.min() >= 0
        and np.abs(probabilities.sum(-1, dtype=np.float64) - 1).max() < 0.01
    ):
        raise ValueError(
            "Expected probabilities, of sum 1 over the classes. Received: values from "
            f"{probabilities.min()} to {probabilities.max()}"
        )
