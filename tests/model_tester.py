"""The tests that every net must pass, as one class.

The tests of a net derive from it and say which net it is; see `ModelTester`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.constants import IMAGENET_MEAN_RGB
from tf_levelset.export.saved_model import export
from tf_levelset.models import at_input_size, create_model, output_stride
from tf_levelset.models.catalog import supported_options

CLASSES = 5

TINY: dict[str, Any] = {"width": 0.05, "depth": 0.05}
"""A twentieth of the filters, and one convolution or block in each stage. A net gets
those of the two that it takes."""

Branch = Sequence[tuple[int, int]]
"""The layers between an image and an output, first to last: how far each sees to either
side and the stride of its outputs, both in pixels of the image. A 3×3 convolution at
stride s is (s, s), a 3×3 pooling from stride s to 2s is (s, 2s), and `Upsample2x` from
stride 2s to s is (s, s)."""


def made_images(height: int, width: int, batch: int = 2) -> np.ndarray:
    """Images of squares of 8 pixels, float32 (batch, H, W, 3) in 0–255."""
    shape = (batch, -(-height // 8), -(-width // 8), 3)
    squares = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    return squares.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]


def spread(net: keras.Model) -> keras.Model:
    """Gives every weight a random value, at which signals keep their size.

    New nets have scores about zero, and statistics that change nothing. The kernels of
    `Upsample2x`, whose names begin with "upscore", stay near bilinear.
    """
    rng = np.random.default_rng(0)
    size = 100.0  # of the images, which the first kernel brings to about 1
    for variable in net.weights:
        path, shape = compat.variable_path(variable), variable.shape
        if path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.5, 1.5, shape))
        elif path.endswith(("beta", "bias", "moving_mean")):
            variable.assign(rng.normal(0, 0.1, shape))
        elif "upscore" in path:
            variable.assign(np.asarray(variable) + rng.normal(0, 0.1, shape))
        elif path.endswith("kernel"):
            fan_in = np.prod(shape[:-1])
            variable.assign(rng.normal(0, np.sqrt(2 / fan_in) / size, shape))
            size = 1.0
    return net


def all_ones(net: keras.Model) -> keras.Model:
    """Sets all kernels to one, so that no sum can cancel what a layer sees."""
    for variable in net.weights:
        path = compat.variable_path(variable)
        if path.endswith(("beta", "bias", "moving_mean")):
            variable.assign(np.zeros(variable.shape))
        # Learned upsampling stays bilinear, as it is initialised.
        elif "seed" not in path and "upscore" not in path:
            variable.assign(np.ones(variable.shape))
    return net


def bilinear(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize (B, h, w, C) to (B, height, width, C), corner to corner.

    Literally: output i stands at i·(h − 1)/(height − 1), and the weight of each input
    is one minus its distance from there, if that is positive.
    """

    def weights(inputs: int, outputs: int) -> np.ndarray:
        places = np.linspace(0, inputs - 1, outputs)[:, np.newaxis]
        return np.maximum(0, 1 - np.abs(places - np.arange(inputs)))

    rows, columns = weights(x.shape[1], height), weights(x.shape[2], width)
    return np.einsum(
        "ih,jw,bhwc->bijc", rows, columns, x.astype(np.float64), optimize=True
    )


def listed(outputs: Any) -> list[np.ndarray]:
    """The outputs of a net with one or several outputs."""
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [np.asarray(output) for output in outputs]


def reach(row: int, height: int, branch: Branch) -> tuple[int, int]:
    """The first and the last position, in pixels, that an impulse at `row` reaches."""
    first = last = row
    for radius, stride in branch:
        first = max(0, -(-(first - radius) // stride) * stride)
        last = min(height - 1, last + radius) // stride * stride
    return first, last


def rows_reached(logits: np.ndarray) -> tuple[int, int]:
    """The first and the last row of a map (h, w, C) that is not zero."""
    reached = np.flatnonzero(logits.any((1, 2)))
    return int(reached[0]), int(reached[-1])


def impulses(rows: Sequence[int], height: int, width: int = 16) -> np.ndarray:
    """Images of ImageNet's mean color, each with one lighter pixel in a row."""
    image = np.full((len(rows), height, width, 3), IMAGENET_MEAN_RGB, np.float32)
    for index, row in enumerate(rows):
        image[index, row, width // 2] += 100
    return image


def gradients(net: keras.Model, image: Any, training: bool) -> list[tf.Tensor]:
    """The gradients of a sum over all outputs for the trainable variables."""
    variables = [compat.raw_variable(v) for v in net.trainable_variables]
    with tf.GradientTape() as tape:
        outputs = net(image, training=training)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        total = sum(tf.reduce_mean(tf.nn.softmax(x)[..., 0]) for x in outputs)
    return tape.gradient(total, variables)


def assert_gradients_compile(net: keras.Model, image: np.ndarray) -> None:
    """Asserts that gradients under XLA are those of eager mode."""
    compiled = tf.function(gradients, jit_compile=True)
    eager = gradients(net, image, False)
    for ours, theirs in zip(eager, compiled(net, image, False), strict=True):
        error = np.linalg.norm(np.ravel(theirs - ours))
        assert error <= 1e-3 * np.linalg.norm(np.ravel(ours)) + 1e-7


def tiny_net(name: str, **options: Any) -> keras.Model:
    """A tiny net by its name, with random weights."""
    tiny = supported_options(name, TINY)
    return spread(create_model(name, CLASSES, **{**tiny, **options}))


def net_of_ones(name: str, **options: Any) -> keras.Model:
    """A net by its name, at its output stride, whose kernels are all one."""
    tiny = supported_options(name, {**TINY, "width": 0.01})
    return all_ones(create_model(name, 1, upsample=False, **{**tiny, **options}))


# Tests that do not change a net share it.
_shared_net = functools.cache(tiny_net)
_shared_net_of_ones = functools.cache(net_of_ones)


class ModelTester:
    """The tests of a net.

    Attributes:
        name: the net's name, as `create_model` takes it.
        options: options of the net in these tests, in addition to `TINY`.
        stride: its output stride.
        padded: the stride of its coarsest stage; sizes are padded to padded·k + 1.
        outputs: its number of outputs with `upsample=False`.
        branches: what its outputs see, along each path from the image to the outputs;
            see `Branch`.
        impulse_options: options of the net for which `branches` holds, in addition to
            `options`.
    """

    name: str
    options: dict[str, Any] = {}  # noqa: RUF012
    stride = 8
    padded = 8
    outputs = 1
    branches: Sequence[Branch] = ()
    impulse_options: dict[str, Any] = {}  # noqa: RUF012

    def parameters(self, classes: int) -> int:
        """Returns the number of parameters at full width, computed by hand."""
        raise NotImplementedError

    def make(self, **options: Any) -> keras.Model:
        """A tiny net that the test may change."""
        return tiny_net(self.name, **{**self.options, **options})

    def shared(self, upsample: bool) -> keras.Model:
        """A tiny net that the test does not change."""
        return _shared_net(self.name, upsample=upsample, **self.options)

    def size(self, pixels: int) -> int:
        """The number of outputs along so many pixels."""
        return len(range(0, pixels, self.stride))

    # --- Outputs ---

    @pytest.mark.parametrize("size", [(33, 41), (40, 57), (1, 1)])
    def test_forward(self, size: tuple[int, int]) -> None:
        image = made_images(*size)
        net = self.shared(upsample=False)
        assert net.name == self.shared(upsample=True).name == self.name
        logits = listed(net(image))
        assert len(logits) == self.outputs
        for output in logits:
            assert output.shape == (2, *map(self.size, size), CLASSES)
        full = self.shared(upsample=True)(image).numpy()
        assert full.shape == (2, *size, CLASSES)
        for output in [*logits, full]:
            assert output.dtype == np.float32
            assert np.isfinite(output).all()
            if size != (1, 1):
                # The net tells places and classes apart.
                assert output.std((1, 2)).min() > 1e-3
                assert output.std(-1).min() > 1e-3

    def test_upsampling_meets_the_outputs_where_they_stand(self) -> None:
        assert output_stride(self.shared(upsample=False)) == self.stride
        image = made_images(40, 57)
        at_stride = listed(self.shared(upsample=False)(image))[-1]
        full = self.shared(upsample=True)(image).numpy()
        every = full[:, :: self.stride, :: self.stride]
        np.testing.assert_allclose(every, at_stride, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("height", [513, 512])
    def test_outputs_stand_at_multiples_of_the_stride(self, height: int) -> None:
        # An impulse reaches what follows by hand from the layers' fields of view,
        # wherever it lies between two outputs. TensorFlow's own SAME padding would
        # move the outputs to stride·i + stride − 1 on even sizes.
        padded = -(-(height - 1) // self.padded) * self.padded + 1
        rows = range(256, 256 + self.stride)
        logits = listed(self._net_of_ones()(impulses(rows, height)))[-1]
        for row, output in zip(rows, logits, strict=True):
            ends = [reach(row, padded, branch) for branch in self.branches]
            first = min(end[0] for end in ends) // self.stride
            last = max(end[1] for end in ends) // self.stride
            last = min(last, self.size(height) - 1)
            assert rows_reached(output) == (first, last), row

    def _net_of_ones(self) -> keras.Model:
        options = {**self.options, **self.impulse_options}
        return _shared_net_of_ones(self.name, **options)

    # --- At full width ---

    def test_parameters_and_sizes_at_full_width(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def zeros(_: Any, shape: Any, dtype: Any = None, **__: Any) -> tf.Tensor:
            return tf.zeros(shape, dtype or "float32")

        # Drawing 134 million random numbers takes long.
        monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", zeros)
        net = create_model(self.name, 21, upsample=False)
        assert net.count_params() == self.parameters(21)
        self.check_sizes(net)

    def check_sizes(self, net: keras.Model) -> None:
        """Checks the size of the outputs for a 321×321 image, which only traces."""
        traced = tf.function(net).get_concrete_function(tf.TensorSpec((1, 321, 321, 3)))
        size = self.size(321)
        assert traced.structured_outputs.shape == (1, size, size, 21)

    # --- Training ---

    def test_backward(self) -> None:
        net = self.make(upsample=False)
        found = gradients(net, made_images(33, 41), training=True)
        for gradient, variable in zip(found, net.trainable_variables, strict=True):
            assert gradient is not None, compat.variable_path(variable)
            assert np.isfinite(gradient).all(), compat.variable_path(variable)
        # All the way back to the first kernel.
        assert np.abs(found[0]).max() > 0

    # --- Saving, compiling and export ---

    @pytest.mark.parametrize("input_scale", [None, 0.5])
    def test_saved_model_loads_without_custom_objects(
        self, tmp_path: Path, input_scale: float | None
    ) -> None:
        net = inner = self.shared(upsample=False)
        if input_scale is not None:
            net = at_input_size(inner, input_scale)
            assert net(made_images(33, 41)).shape == (2, 33, 41, CLASSES)
        assert [id(v) for v in net.weights] == [id(v) for v in inner.weights]
        net.save(tmp_path / "net.keras")
        loaded = keras.models.load_model(tmp_path / "net.keras")
        image = made_images(33, 41)
        for ours, theirs in zip(listed(net(image)), listed(loaded(image)), strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6)
        trainable = [
            [v.shape for v in model.trainable_variables] for model in (net, loaded)
        ]
        assert trainable[0] == trainable[1]

    def test_xla_equals_eager(self) -> None:
        net, image = self.shared(upsample=True), made_images(33, 41)
        compiled = tf.function(net, jit_compile=True)
        np.testing.assert_allclose(compiled(image), net(image), rtol=1e-4, atol=1e-5)

    def test_logits_are_float32_under_half_precision(self) -> None:
        keras.mixed_precision.set_global_policy("mixed_float16")
        try:
            net = self.make(upsample=False)
        finally:
            keras.mixed_precision.set_global_policy("float32")
        image = made_images(33, 41)
        plain = listed(self.shared(upsample=False)(image))
        mixed = listed(net(image))
        # Eleven bits a number, rounded some forty times: 40 · 2⁻¹¹ = 0.02.
        for ours, theirs in zip(plain, mixed, strict=True):
            assert theirs.dtype == np.float32
            error = np.linalg.norm(theirs - ours)
            assert error < 0.02 * np.linalg.norm(ours)
        assert at_input_size(net)(image).dtype == np.float32

    def test_export(self, tmp_path: Path) -> None:
        model = self.shared(upsample=True)
        loaded = tf.saved_model.load(str(export(model, tmp_path)))
        image = made_images(33, 41).astype(np.uint8)
        logits = model(image.astype(np.float32), training=False).numpy()
        outputs = loaded.signatures["uint8"](images=tf.constant(image))
        np.testing.assert_allclose(
            outputs["probabilities"], tf.nn.softmax(logits), atol=1e-5
        )
        np.testing.assert_array_equal(outputs["mask"], logits.argmax(-1))

    # --- Bad input ---

    def test_bad_arguments_raise(self) -> None:
        tiny = supported_options(self.name, TINY)
        bad: list[tuple[str, dict[str, Any]]] = [
            ("num_classes", {"num_classes": 0}),
            ("input_scale", {"input_scale": 0.5, "upsample": False}),
            ("input_scale", {"input_scale": 0.0}),
            ("options", {"unknown": 1}),
            *((name, {name: value}) for name in tiny for value in (0.0, -1.0)),
        ]
        for message, options in bad:
            options = {"num_classes": 5, **tiny, **options}
            with pytest.raises(ValueError, match=rf"Expected .*{message}.* Received"):
                create_model(self.name, **options)
