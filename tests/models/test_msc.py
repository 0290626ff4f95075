"""Nets over several scales against the single net and literal interpolation."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import pytest
from model_tester import (
    CLASSES,
    TINY,
    ModelTester,
    assert_gradients_compile,
    bilinear,
    listed,
    made_images,
    spread,
    tiny_net,
)

from tf_levelset import compat
from tf_levelset.models import (
    create_model,
    deeplab_msc_largefov,
    multi_scale,
    output_stride,
)

MEAN = np.array([122.675, 116.669, 104.008], np.float32)


class MscTester(ModelTester):
    outputs = 4
    single: str

    # The place of every output is held by the comparison with the single net.
    test_outputs_stand_at_multiples_of_the_stride = None  # type: ignore[assignment]

    def check_sizes(self, net: keras.Model) -> None:
        # The sizes are held by `test_forward`; tracing the full net takes long.
        assert len(net.outputs) == 4
        assert {x.shape[-1] for x in net.outputs} == {21}

    @pytest.mark.parametrize(
        ("size", "smaller"),
        [
            # 8k + 1: k and its 0.75 and 0.5 times
            ((65, 97), [(49, 73), (33, 49)]),
            ((60, 90), [(49, 73), (33, 49)]),  # padded to 65×97
            ((41, 33), [(33, 25), (17, 17)]),  # 5 → 3.75, 2.5; halves to even
            ((9, 17), [(9, 17), (9, 9)]),  # 1 → 1, 1 and 2 → 1.5, 1
            ((1, 5), [(1, 9), (1, 9)]),  # 0 stays 0
        ],
    )
    def test_every_scale_is_the_single_net_on_a_smaller_image(
        self, size: tuple[int, int], smaller: list[tuple[int, int]]
    ) -> None:
        net, image = self.shared(upsample=False), made_images(*size)
        single = net.get_layer(self.single)
        logits = listed(net(image))
        np.testing.assert_allclose(logits[0], single(image), rtol=1e-5, atol=1e-6)
        padded = padded_with_mean(image)
        places = [1 + (n - 1) // 8 for n in padded.shape[1:3]]
        for output, (height, width) in zip(logits[1:3], smaller, strict=True):
            small = bilinear(padded, height, width).astype(np.float32)
            expected = bilinear(single(small).numpy(), *places)
            expected = expected[:, : output.shape[1], : output.shape[2]]
            np.testing.assert_allclose(output, expected, rtol=1e-3, atol=1e-4)

    def test_the_fused_logits_are_the_largest(self) -> None:
        logits = listed(self.shared(upsample=False)(made_images(65, 97)))
        np.testing.assert_array_equal(logits[3], np.max(logits[:3], axis=0))
        # Each scale wins somewhere.
        assert len(np.unique(np.argmax(logits[:3], axis=0))) == 3


def padded_with_mean(image: np.ndarray, stride: int = 8) -> np.ndarray:
    """Pads to stride·k + 1 with the colour that preprocessing makes zero."""
    height, width = (stride * -(-(n - 1) // stride) + 1 for n in image.shape[1:3])
    padded = np.tile(MEAN, (len(image), height, width, 1))
    padded[:, : image.shape[1], : image.shape[2]] = image
    return padded


class TestDeeplabMscLargefov(MscTester):
    name = "deeplab_msc_largefov"
    single = "deeplab_largefov"
    options = {"dilation": 2, "dropout": 0.0}  # noqa: RUF012

    def parameters(self, classes: int) -> int:
        fc6, fc7 = 9 * 512 * 1024 + 1024, 1024 * 1024 + 1024
        return 14_714_688 + fc6 + fc7 + 1024 * classes + classes


class TestDeeplabMscResnet101(MscTester):
    name = "deeplab_msc_resnet101"
    single = "deeplab_resnet101"
    options = {"rates": (1, 2, 3)}  # noqa: RUF012

    def parameters(self, classes: int) -> int:
        return 42_658_176 + 4 * (9 * 2048 * classes + classes)


def test_gradients_under_xla_are_those_of_eager_mode() -> None:
    net = multi_scale(tiny_net("deeplab_largefov", upsample=False), scales=(1, 0.5))
    assert_gradients_compile(net, made_images(33, 41))


def test_frozen_normalisation_stays_frozen_in_the_shared_net() -> None:
    for frozen in (True, False):
        net = create_model("deeplab_msc_resnet101", 3, freeze_batch_norm=frozen, **TINY)
        paths = [compat.variable_path(v) for v in net.trainable_variables]
        assert any("gamma" in path for path in paths) is not frozen


@pytest.mark.parametrize("name", ["fcn16s_vgg16", "fcn8s_resnet101"])
def test_any_net_is_shared_over_scales(name: str) -> None:
    # FCN pads to 32k + 1, and its outputs are finer than that.
    single = spread(create_model(name, CLASSES, upsample=False, **TINY))
    net = multi_scale(single, upsample=False)
    stride = output_stride(single)
    assert output_stride(net) == stride
    image = made_images(129, 100)
    logits = listed(net(image))
    np.testing.assert_allclose(logits[0], single(image), rtol=1e-5, atol=1e-6)
    padded = padded_with_mean(image, 32)
    for output, size in zip(logits[1:3], (97, 65), strict=True):
        small = single(bilinear(padded, size, size).astype(np.float32)).numpy()
        expected = bilinear(small, 128 // stride + 1, 128 // stride + 1)
        expected = expected[:, :, : output.shape[2]]
        np.testing.assert_allclose(output, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "scales",
    [
        (),
        (0.5,),
        (1.0, 0.0),
        (1.0, 2.0),
    ],
)
def test_bad_scales_raise(scales: Sequence[float]) -> None:
    single = keras.Sequential()
    with pytest.raises(ValueError, match=r"Expected `scales` .* Received"):
        multi_scale(single, scales=scales)


def test_nets_over_scales_or_at_the_size_of_the_image_raise() -> None:
    twice = deeplab_msc_largefov(3, upsample=False, **TINY)
    with pytest.raises(ValueError, match=r"one output\. Received: .*fused"):
        multi_scale(twice)
    with pytest.raises(ValueError, match=r"upsample=False"):
        multi_scale(create_model("deeplab_largefov", 3, **TINY))
