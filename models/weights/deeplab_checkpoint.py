"""TensorFlow checkpoints of DeepLab-ResNet101 whose variables have Caffe's names."""

from __future__ import annotations

import re

import numpy as np
import tensorflow as tf

_CONVOLUTION = ("weights", "biases")
_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def read_checkpoint(path: str) -> dict[str, list[np.ndarray]]:
    """Reads a checkpoint, such as the published weights pretrained on MS-COCO.

    Args:
        path: Prefix of the checkpoint's files.

    Returns:
        The weights of each layer by our name for it. Variables of no layer, such as a
        momentum, keep their own names. Convolutions without biases get zeros.
    """
    reader = tf.train.load_checkpoint(path)
    variables = {
        name: reader.get_tensor(name)
        for name in sorted(reader.get_variable_to_shape_map())
    }
    layers = {}
    for caffe in dict.fromkeys(name.rpartition("/")[0] for name in variables):
        name = keras_name(caffe)
        if name is None:
            continue
        if f"{caffe}/weights" in variables:
            filters = variables[f"{caffe}/weights"].shape[-1]
            variables.setdefault(f"{caffe}/biases", np.zeros(filters, np.float32))
        kinds = _BATCH_NORM if name.endswith("_bn") else _CONVOLUTION
        parts = [f"{caffe}/{kind}" for kind in kinds]
        if all(part in variables for part in parts):
            layers[name] = [variables.pop(part) for part in parts]
    return layers | {name: [value] for name, value in variables.items()}


def keras_name(caffe: str) -> str | None:
    """Returns our name, which is Keras', of a layer of Caffe's DeepLab-ResNet101.

    Caffe calls the blocks a, b, c in conv2 and conv5, and a, b1, b2, … in conv3 and
    conv4.

    Example:
    >>> keras_name("bn4b22_branch2a"), keras_name("fc1_voc12_c0"), keras_name("fc8")
    ('conv4_block23_1_bn', 'aspp1', None)
    """
    if caffe in ("conv1", "bn_conv1"):
        return {"conv1": "conv1_conv", "bn_conv1": "conv1_bn"}[caffe]
    if match := re.fullmatch(r"fc1_voc12_c([0-3])", caffe):
        return f"aspp{int(match[1]) + 1}"
    match = re.fullmatch(r"(res|bn)([2-5])([abc]|b\d+)_branch(1|2[abc])", caffe)
    if match is None:
        return None
    kind, stage, block, branch = match.groups()
    index = int(block[1:]) + 1 if block[1:] else "abc".index(block) + 1
    place = ("1", "2a", "2b", "2c").index(branch)
    return f"conv{stage}_block{index}_{place}_{'conv' if kind == 'res' else 'bn'}"
