"""From pictures of any size to what a net's first convolution sees."""

from __future__ import annotations

import keras

from tf_levelset.models.layers import CaffePreprocessing, PadToStride


def preprocessed_input(stride: int) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Begins a functional net.

    Args:
        stride: sizes are padded to the next stride·k + 1.

    Returns:
        The input (B, H, W, 3), RGB in 0–255, and the same as BGR with ImageNet's mean
        subtracted, padded with zeros at its ends.
    """
    images = keras.Input((None, None, 3), name="images")
    x = CaffePreprocessing(dtype="float32", name="preprocessing")(images)
    return images, PadToStride(stride, name="padding")(x)
