"""PyTorch's losses as peers: what runs in their own process, without TensorFlow.

MONAI's and segmentation_models.pytorch's Dice, Lovász and focal losses on a CPU, in
PyTorch eager, with forward and backward, on made-up logits that both sides make from
the same seed. The tensors are laid out as PyTorch's nets give them, (B, C, H, W),
before the clock starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

THREADS = 2
PATCH = 40
"""Width in pixels of what the made-up pictures show."""


def batch(
    shape: tuple[int, ...],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Makes labels (B, H, W) in patches, every class in every picture, and logits.

    There is no void: not every peer can leave it out.

    Args:
        shape: (B, H, W, C) of the logits.
    """
    size, height, width, classes = shape
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, classes, (size, height // PATCH + 1, width // PATCH + 1))
    labels = coarse.repeat(PATCH, axis=1).repeat(PATCH, axis=2)[:, :height, :width]
    labels[:, 0, :classes] = np.arange(classes)
    logits = rng.normal(size=shape).astype(np.float32)
    # Three in four pixels are leaning to their class, as in training.
    leaning = 4 * (rng.random(labels.shape) < 0.75)
    np.put_along_axis(
        logits,
        labels[..., np.newaxis],
        np.take_along_axis(logits, labels[..., np.newaxis], -1)
        + leaning[..., np.newaxis].astype(np.float32),
        -1,
    )
    return labels.astype(np.int32), logits


def loss_and_gradient(name: str, shape: list[int]) -> Callable[[], dict[str, float]]:
    """A `harness.Worker`'s factory: a loss of `LOSSES` with its gradient, run eagerly.

    Returns:
        A function that does both, and tells the loss.

    Raises:
        ImportError: where PyTorch, MONAI or segmentation_models.pytorch are missing.
    """
    try:
        import torch

        loss = LOSSES[name]()
    except ImportError as error:
        raise ImportError(
            f"Expected PyTorch's losses: pip install -e '.[bench]'. Received: {error}"
        ) from error
    torch.set_num_threads(THREADS)
    labels, logits = batch(tuple(shape))
    target = torch.from_numpy(labels.astype(np.int64))
    if name.startswith("MONAI"):
        target = target[:, None]  # its losses take (B, 1, H, W)
    scores = torch.from_numpy(logits.transpose(0, 3, 1, 2).copy()).requires_grad_()

    def work() -> dict[str, float]:
        scores.grad = None
        value = loss(scores, target)
        value.backward()
        return {"loss": value.item()}

    return work


def _monai_dice() -> Any:
    from monai.losses import DiceLoss

    return DiceLoss(softmax=True, to_onehot_y=True, smooth_nr=0.0, smooth_dr=1e-7)


def _monai_focal() -> Any:
    from monai.losses import FocalLoss

    return FocalLoss(use_softmax=True, to_onehot_y=True, gamma=2.0)


def _smp_dice() -> Any:
    from segmentation_models_pytorch.losses import DiceLoss

    return DiceLoss("multiclass", from_logits=True)


def _smp_lovasz() -> Any:
    from segmentation_models_pytorch.losses import LovaszLoss

    return LovaszLoss("multiclass", per_image=False)


def _smp_focal() -> Any:
    from segmentation_models_pytorch.losses import FocalLoss

    return FocalLoss("multiclass", alpha=None, gamma=2.0)


LOSSES: dict[str, Callable[[], Any]] = {
    "MONAI, Dice": _monai_dice,
    "MONAI, focal": _monai_focal,
    "SMP, Dice": _smp_dice,
    "SMP, Lovász": _smp_lovasz,
    "SMP, focal": _smp_focal,
}
"""The losses by name, with the options that make them equal to ours where they can be.

MONAI has no Lovász loss. SMP's focal loss of several classes is the mean of C binary
ones over sigmoids, not that of a softmax: another number, of the same use.
"""
