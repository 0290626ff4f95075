"""VGG16's fully connected layers as convolutions."""

from __future__ import annotations

import numpy as np

from tf_levelset.checks import expect

MAP_SIZES = {"fc6": 7, "fc7": 1}
"""Side of the map that each layer sees in an image of 224×224 pixels."""

Shape = tuple[int, ...]


def as_convolution(
    kernel: np.ndarray, bias: np.ndarray, size: int, shape: Shape
) -> tuple[np.ndarray, np.ndarray]:
    """Turns a fully connected layer on a map into a convolution, decimated to a shape.

    DeepLab makes its fc6 from VGG16's "by simple decimation" of the 7×7 taps to 3×3,
    with 1024 of the 4096 filters (Chen et al. 2015, Section 3.2), and does not say
    which. Our choice is every third tap (0, 3 and 6, which span the kernel) and every
    fourth filter (0, 4, 8, …); in fc7 every fourth input, too.

    Args:
        kernel: (size·size·Cin, Cout). Its rows run over the map's rows, columns and
            channels in this order, as Keras flattens.
        bias: (Cout,).
        size: Height and width of the map.
        shape: Shape of the convolution's kernel. Each number is that of
            (size, size, Cin, Cout), or how many there are at every n-th place, from the
            first on.

    Returns:
        The kernel, of `shape`, and the bias, (shape[3],).

    Raises:
        ValueError: If no decimation gives the shape.
    """
    whole = (size, size, kernel.shape[0] // size**2, kernel.shape[1])
    steps = [-(-n // m) for n, m in zip(whole, shape, strict=True)]
    taken = tuple(slice(None, None, step) for step in steps)
    reached = tuple(len(range(0, n, s)) for n, s in zip(whole, steps, strict=True))
    expect(reached == tuple(shape), f"a decimation of {whole}", shape)
    return kernel.reshape(whole)[taken], bias[taken[-1]]
