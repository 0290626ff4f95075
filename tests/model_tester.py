"""What every net must hold, as one class of tests; a net's own file names the net."""

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

CLASSES = 5

TINY: dict[str, Any] = {"width": 0.05, "depth": 0.05}
"""A twentieth of the filters; one convolution or block a stage."""

Branch = Sequence[tuple[int, int]]
"""The layers between a picture and an output, first to last: how far each sees to
either side and the stride of its outputs, both in pixels of the picture."""


def picture(height: int, width: int, batch: int = 2) -> np.ndarray:
    """Pictures of squares of 8 pixels, float32 (batch, H, W, 3) in 0–255."""
    shape = (batch, -(-height // 8), -(-width // 8), 3)
    squares = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    return squares.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]


def spread(net: keras.Model) -> keras.Model:
    """Gives every weight a value of its own, at which signals keep their size.

    Fresh nets have scores about zero, and statistics that say nothing.
    """
    rng = np.random.default_rng(0)
    for variable in net.weights:
        path, shape = compat.variable_path(variable), variable.shape
        if path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.5, 1.5, shape))
        elif path.endswith(("beta", "bias", "moving_mean")):
            variable.assign(rng.normal(0, 0.1, shape))
        elif "upscore" in path:
            variable.assign(np.asarray(variable) + rng.normal(0, 0.1, shape))
        elif path.endswith("kernel"):
            # Logits of about 1, from pictures of about 100.
            size = 100 if "conv1_1" in path or "conv1_conv" in path else 1
            fan_in = np.prod(shape[:-1])
            variable.assign(rng.normal(0, np.sqrt(2 / fan_in) / size, shape))
    return net


def all_ones(net: keras.Model) -> keras.Model:
    """Makes every layer pass on all that it sees: no sum can cancel."""
    for variable in net.weights:
        path = compat.variable_path(variable)
        if path.endswith(("beta", "bias", "moving_mean")):
            variable.assign(np.zeros(variable.shape))
        # Learned upsampling stays what it is made as: bilinear.
        elif "seed" not in path and "upscore" not in path:
            variable.assign(np.ones(variable.shape))
    return net


def bilinear(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize (B, h, w, C) to (B, height, width, C), corner to corner.

    Literally: output i stands at i·(h − 1)/(height − 1), and each input weighs one
    minus its distance to there, as far as that is positive.
    """

    def weights(inputs: int, outputs: int) -> np.ndarray:
        places = np.linspace(0, inputs - 1, outputs)[:, np.newaxis]
        return np.maximum(0, 1 - np.abs(places - np.arange(inputs)))

    rows, columns = weights(x.shape[1], height), weights(x.shape[2], width)
    return np.einsum(
        "ih,jw,bhwc->bijc", rows, columns, x.astype(np.float64), optimize=True
    )


def listed(outputs: Any) -> list[np.ndarray]:
    """The outputs of a net, of one or several."""
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [np.asarray(output) for output in outputs]


def reach(row: int, height: int, branch: Branch) -> tuple[int, int]:
    """The first and the last position that an impulse at `row` comes to, in pixels."""
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
    """Pictures of ImageNet's mean with a lighter pixel in one row each."""
    image = np.full((len(rows), height, width, 3), IMAGENET_MEAN_RGB, np.float32)
    for index, row in enumerate(rows):
        image[index, row, width // 2] += 100
    return image


def gradients(net: keras.Model, image: Any, training: bool) -> list[tf.Tensor]:
    """Those of a sum over all outputs, for the trainable variables."""
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
    """A net by its name, with weights that say something."""
    return spread(create_model(name, CLASSES, **{**TINY, **options}))


def net_of_ones(name: str, **options: Any) -> keras.Model:
    """A net by its name, at output stride, that passes on all that it sees."""
    options = {**TINY, "width": 0.01, **options}
    return all_ones(create_model(name, 1, upsample=False, **options))


# The same nets for all tests that do not change them.
_shared_net = functools.cache(tiny_net)
_shared_net_of_ones = functools.cache(net_of_ones)


class ModelTester:
    """The tests of a net. `name` is the net's, as `create_model` has it.

    Attributes:
        options: of the net, beside a tiny width and depth.
        stride: output stride.
        padded: sizes are padded to padded·k + 1.
        outputs: number of outputs of the net that is trained.
        branches: see `Branch`; what the net's outputs see, at `impulse_options`.
    """

    name: str
    options: dict[str, Any] = {}  # noqa: RUF012
    stride = 8
    padded = 8
    outputs = 1
    branches: Sequence[Branch] = ()
    impulse_options: dict[str, Any] = {}  # noqa: RUF012

    def parameters(self, classes: int) -> int:
        """Number of parameters at full width, by hand."""
        raise NotImplementedError

    def make(self, **options: Any) -> keras.Model:
        """A net of its own, tiny."""
        return tiny_net(self.name, **{**self.options, **options})

    def shared(self, upsample: bool) -> keras.Model:
        """The same net for all tests that do not change it."""
        return _shared_net(self.name, upsample=upsample, **self.options)

    def size(self, pixels: int) -> int:
        """Number of outputs that stand on so many pixels."""
        return len(range(0, pixels, self.stride))

    # --- Outputs ---

    @pytest.mark.parametrize("size", [(33, 41), (40, 57), (1, 1)])
    def test_forward(self, size: tuple[int, int]) -> None:
        image = picture(*size)
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
        image = picture(40, 57)
        at_stride = listed(self.shared(upsample=False)(image))[-1]
        full = self.shared(upsample=True)(image).numpy()
        every = full[:, :: self.stride, :: self.stride]
        np.testing.assert_allclose(every, at_stride, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("input_scale", [1.0, 0.5])
    def test_at_input_size_shares_the_weights(self, input_scale: float) -> None:
        net = self.shared(upsample=False)
        full = at_input_size(net, input_scale)
        assert full(picture(33, 41)).shape == (2, 33, 41, CLASSES)
        assert {id(v) for v in full.weights} == {id(v) for v in net.weights}
        assert len(full.weights) == len(net.weights)

    @pytest.mark.parametrize("height", [513, 509, 512])
    def test_outputs_stand_at_multiples_of_the_stride(self, height: int) -> None:
        # An impulse reaches what the layers' fields of view say by hand, wherever it
        # lies between two outputs. TensorFlow's own SAME padding would move outputs to
        # stride·i + stride − 1 on even sizes.
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

        # Drawing 134 million numbers takes its time.
        monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", zeros)
        net = create_model(self.name, 21, upsample=False)
        assert net.count_params() == self.parameters(21)
        self.check_sizes(net)

    def check_sizes(self, net: keras.Model) -> None:
        """Of the outputs for a picture of 321×321, without computing them."""
        traced = tf.function(net).get_concrete_function(tf.TensorSpec((1, 321, 321, 3)))
        size = {8: 41, 16: 21, 32: 11}[self.stride]
        assert traced.structured_outputs.shape == (1, size, size, 21)

    # --- Training ---

    def test_backward(self) -> None:
        net = self.make(upsample=False)
        found = gradients(net, picture(33, 41), training=True)
        for gradient, variable in zip(found, net.trainable_variables, strict=True):
            assert gradient is not None, compat.variable_path(variable)
            assert np.isfinite(gradient).all(), compat.variable_path(variable)
        # All the way back to the first kernel.
        assert np.abs(found[0]).max() > 0

    # --- Contracts ---

    @pytest.mark.parametrize("input_scale", [None, 0.5])
    def test_saved_model_loads_without_custom_objects(
        self, tmp_path: Path, input_scale: float | None
    ) -> None:
        net = self.shared(upsample=False)
        if input_scale is not None:
            net = at_input_size(net, input_scale)
        net.save(tmp_path / "net.keras")
        loaded = keras.models.load_model(tmp_path / "net.keras")
        image = picture(33, 41)
        for ours, theirs in zip(listed(net(image)), listed(loaded(image)), strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6)
        trainable = [
            [v.shape for v in model.trainable_variables] for model in (net, loaded)
        ]
        assert trainable[0] == trainable[1]

    def test_xla_equals_eager(self) -> None:
        net, image = self.shared(upsample=True), picture(33, 41)
        compiled = tf.function(net, jit_compile=True)
        np.testing.assert_allclose(compiled(image), net(image), rtol=1e-4, atol=1e-5)

    def test_logits_are_float32_under_half_precision(self) -> None:
        keras.mixed_precision.set_global_policy("mixed_float16")
        try:
            net = self.make(upsample=False)
        finally:
            keras.mixed_precision.set_global_policy("float32")
        image = picture(33, 41)
        plain = listed(self.shared(upsample=False)(image))
        mixed = listed(net(image))
        # Eleven bits a number, rounded some forty times: 40 · 2⁻¹¹ = 0.02.
        for ours, theirs in zip(plain, mixed, strict=True):
            assert theirs.dtype == np.float32
            error = np.linalg.norm(theirs - ours)
            assert error < 0.02 * np.linalg.norm(ours)

    def test_export(self, tmp_path: Path) -> None:
        model = self.shared(upsample=True)
        loaded = tf.saved_model.load(str(export(model, tmp_path)))
        image = picture(33, 41).astype(np.uint8)
        logits = model(image.astype(np.float32), training=False).numpy()
        outputs = loaded.signatures["uint8"](images=tf.constant(image))
        np.testing.assert_allclose(
            outputs["probabilities"], tf.nn.softmax(logits), atol=1e-5
        )
        np.testing.assert_array_equal(outputs["mask"], logits.argmax(-1))

    # --- Bad input ---

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_classes": 0}, "num_classes"),
            ({"width": 0.0}, "width"),
            ({"depth": -1.0}, "depth"),
            ({"input_scale": 0.5, "upsample": False}, "input_scale"),
            ({"unknown": 1}, "options"),
        ],
    )
    def test_bad_arguments_raise(self, options: dict[str, Any], message: str) -> None:
        options = {"num_classes": 5, **TINY, **options}
        with pytest.raises(ValueError, match=rf"Expected .*{message}.* Received"):
            create_model(self.name, **options)
