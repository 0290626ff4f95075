"""DeepLab nets (Chen et al. 2015, 2017), as Kim et al. 2019 train them."""

from __future__ import annotations

from os import PathLike

import keras

from tf_levelset import compat
from tf_levelset.models import vgg
from tf_levelset.models.layers import (
    CaffePreprocessing,
    PadToStride,
    SymmetricAveragePooling2D,
)
from tf_levelset.models.outputs import segmentation_model

LARGEFOV_MULTIPLIERS = (
    # (pattern in the variable's path, learning rate ×, weight decay ×), the first match
    ("fc8/kernel", 10.0, 1.0),
    ("fc8/bias", 20.0, 0.0),
    ("/bias", 2.0, 0.0),
    ("/(gamma|beta)", 1.0, 0.0),
)
"""DeepLab's per-layer rates: weights 1, biases 2, the new layer 10 and 20; no decay on
biases, nor on the normalisation that is ours."""


def deeplab_largefov(
    num_classes: int,
    *,
    width: float = 1.0,
    dilation: int = 12,
    batch_norm: bool = False,
    dropout: float = 0.5,
    upsample: bool = True,
    input_scale: float = 1.0,
    weights: str | PathLike[str] | None = None,
    name: str = "deeplab_largefov",
) -> keras.Model:
    """DeepLab-LargeFOV on VGG16 (Chen et al. 2015; Kim et al. 2019, Section 4).

    Preprocessing is inside. Heights and widths are free: a size that is not 8k + 1 is
    padded to it and the outputs are cropped back. Outputs at stride 8 stand on the
    pixels 0, 8, 16, …, so their labels are `labels[::8, ::8]`.

    Args:
        num_classes: number of classes C.
        width: multiplies the number of filters of every layer but the last; 1 is
            DeepLab's net of 20.5 million parameters at 21 classes.
        dilation: of fc6. 12 is DeepLab's, for maps of 41×41; on a map smaller than
            about twice the dilation most of its taps see only padding.
        batch_norm: normalise after each convolution, for training from scratch.
        dropout: rate after fc6 and fc7.
        upsample: logits at the picture's size, bilinear corner to corner; otherwise
            at stride 8, where DeepLab takes its loss.
        input_scale: factor that pictures are first resized by, with `upsample` only.
        weights: path of a weights file of this net, or None.
        name: name of the model.

    Returns:
        A functional model from RGB pictures in 0–255, float32 (B, H, W, 3), to
        logits, float32 under every dtype policy: (B, H, W, C), or
        (B, ⌈H/8⌉, ⌈W/8⌉, C) where `upsample` is False.

    Raises:
        ValueError: for arguments out of range, or weights of another architecture.
    """
    if num_classes < 1 or dilation < 1 or not 0 <= dropout < 1:
        raise ValueError(
            "Expected num_classes ≥ 1, dilation ≥ 1 and 0 ≤ dropout < 1. Received: "
            f"num_classes={num_classes}, dilation={dilation}, dropout={dropout}"
        )
    # --- Body ---
    images = keras.Input((None, None, 3), name="images")
    x = CaffePreprocessing(dtype="float32", name="preprocessing")(images)
    x = PadToStride(vgg.OUTPUT_STRIDE, name="padding")(x)
    x = vgg.dilated_vgg16(x, width=width, batch_norm=batch_norm)
    x = SymmetricAveragePooling2D(name="pool5a")(x)

    # --- Head: the fully connected layers of VGG16 as dilated convolutions ---
    filters = vgg.scaled_filters(1024, width)
    x = vgg.convolution(x, filters, "fc6", dilation=dilation, batch_norm=batch_norm)
    x = compat.dropout(dropout, "drop6")(x)
    x = vgg.convolution(x, filters, "fc7", kernel_size=1, batch_norm=batch_norm)
    x = compat.dropout(dropout, "drop7")(x)
    x = keras.layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        name="fc8",
    )(x)

    # --- Model ---
    model = segmentation_model(
        images,
        x,
        vgg.OUTPUT_STRIDE,
        upsample=upsample,
        input_scale=input_scale,
        name=name,
    )
    if weights is not None:
        model.load_weights(weights)
    return model
