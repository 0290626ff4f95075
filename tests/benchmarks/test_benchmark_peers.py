"""That the peers are peers: the same loss on the same tensors, in TensorFlow's part."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import torch_losses
from tf_levelset.compat import KERAS_3

if not KERAS_3:
    pytest.skip("Keras 2 has no Dice loss to compare with", allow_module_level=True)

from benchmarks import peers

SHAPE = (2, 9, 12, 4)


def test_the_batch_has_every_class_in_every_picture() -> None:
    labels, logits = torch_losses.batch((2, 50, 90, 21))
    assert (labels.shape, logits.shape) == ((2, 50, 90), (2, 50, 90, 21))
    assert all(set(np.unique(picture)) == set(range(21)) for picture in labels)


@pytest.mark.parametrize(
    ("ours", "peer"),
    [
        ("ours, Dice, the batch", peers.keras_dice),
        ("ours, active contour", peers.literal_active_contour),
    ],
)
def test_ours_and_the_peer_have_one_value(ours: str, peer: peers.Loss) -> None:
    labels, logits = (tf.constant(array) for array in torch_losses.batch(SHAPE))
    expected = peers.our_losses()[ours](labels, logits)
    np.testing.assert_allclose(peer(labels, logits), expected, rtol=peers.TOLERANCE)


def test_targets_name_pytorchs_mode() -> None:
    names = [f"ours, Lovász, {mode}" for mode in peers.MODES]
    samples = {name: [1.0] for name in (*names, "SMP, Lovász")}
    target = peers.target(samples, "Lovász", "SMP, Lovász")
    assert target["name"].endswith("SMP, Lovász, PyTorch eager")


def test_values_that_differ_are_refused() -> None:
    values = {
        name: 1 / peers.FACTORS.get(name, 1)
        for ours, others in peers.PAIRS.items()
        for title in (f"ours, {ours}", *others)
        for name in peers.in_modes(title)
    }
    assert max(peers.check_values(values).values()) < 1e-12
    values["SMP, Lovász"] *= 1.01
    with pytest.raises(ValueError, match="SMP, Lovász"):
        peers.check_values(values)
