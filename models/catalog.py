"""The nets by name, and the learning rates of their layers, as plain data.

Nothing here loads TensorFlow or Keras before a net is made, so that the command line
can list the nets at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tf_levelset.checks import call_with_options, plain_options
from tf_levelset.lazy import loader

if TYPE_CHECKING:
    import keras

NETS = {
    "deeplab_largefov": ".deeplab",
    "deeplab_resnet101": ".deeplab",
    "deeplab_msc_largefov": ".msc",
    "deeplab_msc_resnet101": ".msc",
    "fcn32s_resnet101": ".fcn",
    "fcn16s_resnet101": ".fcn",
    "fcn8s_resnet101": ".fcn",
    "fcn32s_vgg16": ".fcn",
    "fcn16s_vgg16": ".fcn",
    "fcn8s_vgg16": ".fcn",
}
"""Each net's function, and the file of `models/` that defines it."""

# --- Learning rates of the layers ---
#
# Each entry is (pattern, learning rate ×, weight decay ×); the first pattern that is
# found in a variable's path counts. `CaffeSGD` takes them.

LARGEFOV_MULTIPLIERS = (
    ("fc8/kernel", 10.0, 1.0),
    ("fc8/bias", 20.0, 0.0),
    ("/bias", 2.0, 0.0),
    ("/(gamma|beta)", 1.0, 0.0),
)
"""DeepLab-LargeFOV: kernels 1, biases 2, the new layer 10 and 20. Neither biases nor
the batch normalisation, which the original does not have, decay."""

RESNET101_MULTIPLIERS = (
    ("aspp[0-9]+/kernel", 10.0, 1.0),
    ("aspp[0-9]+/bias", 20.0, 0.0),
    ("/(bias|gamma|beta)", 1.0, 0.0),
)
"""DeepLab v2 on ResNet101: the backbone 1, ASPP 10 and 20; biases do not decay. (In
Caffe the backbone's convolutions have no biases; Keras' have them.)"""

FCN_MULTIPLIERS = (
    ("upscore_[a-z0-9]+/kernel", 1.0, 0.0),
    ("/bias", 2.0, 0.0),
    ("/(gamma|beta)", 1.0, 0.0),
)
"""FCN (Long et al. 2015, Section 4.3, and its Caffe nets): kernels 1, biases 2 without
decay. The kernels of the learned upsampling do not decay either, because decay would
draw them away from interpolation; nor does the batch normalisation."""

# --- Dilations ---

ASPP_RATES = (6, 12, 18, 24)
"""The dilations of ASPP-L (Chen et al. 2017, Figure 7), for maps of 41×41."""


@plain_options
def scaled_rates(
    rates: Sequence[int], input_size: int, reference: int = 321
) -> tuple[int, ...]:
    """Scales dilation rates in proportion to the size of the images.

    On a map of n×n, a 3×3 kernel of dilation r ≥ n has only its centre on the map: its
    other taps see padding and learn nothing. DeepLab's rates suit the 41×41 map of a
    321×321 image; an image of 160×120 has a map of 20×15, where most taps of the rates
    18 and 24 would see nothing but padding.

    Args:
        rates: Dilation rates for images of size `reference`, each at least 1.
        input_size: The smaller side, in pixels, of the images that the net sees.
        reference: The image size that `rates` are meant for; DeepLab's crops are 321.

    Returns:
        Each rate × input_size / reference, rounded, at least 1. Rates that became equal
        are kept, because the number of branches is part of the net's architecture.

    Raises:
        ValueError: If a rate is below 1 or a size is not positive.

    Example:
    >>> scaled_rates((6, 12, 18, 24), 160)
    (3, 6, 9, 12)
    """
    if any(rate < 1 for rate in rates) or not (input_size > 0 and reference > 0):
        raise ValueError(
            "Expected rates ≥ 1 and positive sizes. Received: "
            f"rates={tuple(rates)}, input_size={input_size}, reference={reference}"
        )
    return tuple(max(1, round(rate * input_size / reference)) for rate in rates)


# --- Nets by name ---


def list_models() -> tuple[str, ...]:
    """Returns the names that `create_model` takes."""
    return tuple(NETS)


def create_model(name: str, /, num_classes: int, **options: Any) -> keras.Model:
    """Makes a net by its name.

    Args:
        name: One of `list_models()`.
        num_classes: Number of classes.
        **options: Further arguments of the net's own function.

    Returns:
        The net: a functional Keras model from RGB images to logits.

    Raises:
        ValueError: If the name is unknown or the net does not take an option.
    """
    return call_with_options(name, _function(name), num_classes, **options)


def supported_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of `options` that a net takes.

    Args:
        name: One of `list_models()`.
        options: Arguments by name, such as `{"width": 0.5, "rates": (6, 12)}`.

    Raises:
        ValueError: If the name is unknown.
    """
    parameters = inspect.signature(_function(name)).parameters
    return {key: value for key, value in options.items() if key in parameters}


def _function(name: str) -> Any:
    """Returns a net's function and loads its file."""
    if name not in NETS:
        raise ValueError(
            f"Expected `name` to be one of {list_models()}. Received: {name!r}"
        )
    return loader("tf_levelset.models", NETS)(name)
