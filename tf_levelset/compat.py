"""Where Keras 2.15 and Keras 3 differ."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from collections.abc import Iterator
from typing import Any, TypeVar

import keras
import tensorflow as tf

from tf_levelset._version import __version__
from tf_levelset.checks import plain_options

KERAS_3 = int(keras.__version__.split(".")[0]) >= 3

if KERAS_3 and keras.backend.backend() != "tensorflow":
    raise ImportError(
        "Expected Keras to run on the TensorFlow backend. Received: "
        f"{keras.backend.backend()!r}. Set the environment variable "
        "KERAS_BACKEND=tensorflow before Keras is imported."
    )

T = TypeVar("T", bound=type)


def register(cls: T) -> T:
    """Registers a class, so that saved models load it without `custom_objects`.

    Its constructor, where it has one of its own, takes NumPy's numbers.
    """
    if "__init__" in vars(cls):
        plain_options(cls)
    return keras.saving.register_keras_serializable("tf_levelset")(cls)


_REDUCTIONS = (
    *("sum_over_batch_size", "sum", "none", None),
    *(("mean", "mean_with_sample_weight") if KERAS_3 else ("auto",)),
)


class Loss(keras.losses.Loss):
    """`keras.losses.Loss` with one constructor and one dtype rule in both lanes.

    Computations run in float32, or in float64 where `dtype` says so: sums over an
    image overflow float16, and bfloat16 cannot hold label 459. A half-precision
    `dtype` is kept in the configuration and computed in float32.
    """

    def __init__(
        self,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ) -> None:
        if reduction not in _REDUCTIONS:
            raise ValueError(
                f"Expected `reduction` to be one of {_REDUCTIONS}. "
                f"Received: {reduction!r}"
            )
        self._requested_dtype = dtype
        compute_dtype = _compute_dtype(dtype)
        if KERAS_3:
            super().__init__(name=name, reduction=reduction, dtype=compute_dtype)
        else:
            super().__init__(reduction=reduction or "none", name=name)
            self.dtype = compute_dtype

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this loss."""
        dtype = self._requested_dtype
        if dtype is not None and not isinstance(dtype, str):
            dtype = getattr(dtype, "name", None) or tf.as_dtype(dtype).name
        return {"name": self.name, "reduction": self.reduction, "dtype": dtype}


def _compute_dtype(dtype: Any) -> str:
    """Returns "float64" for a 64-bit dtype or policy, else "float32"."""
    if dtype is None:
        dtype = keras.backend.floatx()
    compute_dtype = getattr(dtype, "compute_dtype", dtype)  # a keras.DTypePolicy
    if isinstance(compute_dtype, str) and compute_dtype.startswith("mixed_"):
        return "float32"
    try:
        resolved = tf.as_dtype(compute_dtype)
    except TypeError:
        resolved = tf.string
    if not resolved.is_floating:
        raise ValueError(f"Expected `dtype` to be a floating type. Received: {dtype!r}")
    return "float64" if resolved == tf.float64 else "float32"


def keras_mask(outputs: Any) -> tf.Tensor | None:
    """Returns the mask of a layer's outputs, such as of `Masking`, or None."""
    return getattr(outputs, "_keras_mask", None)


def variable_path(variable: Any) -> str:
    """Returns a variable's path, such as `deeplab_largefov/fc8/kernel`."""
    return getattr(variable, "path", None) or variable.name.split(":")[0]


def raw_variable(variable: Any) -> tf.Variable:
    """Returns the `tf.Variable` under a Keras variable."""
    return variable.value if KERAS_3 else variable


def tensor_variable(value: Any) -> Any:
    """Returns the `tf.Variable` under a variable of Keras 3, and all else as it is."""
    return value.value if KERAS_3 and isinstance(value, keras.Variable) else value


def origin(tensor: Any) -> tuple[Any, list[Any], int]:
    """Returns the layer or operation that a symbolic tensor comes from.

    Its inputs and the tensor's index among its outputs are returned with it.
    """
    layer, node_index, tensor_index = tensor._keras_history
    node = layer._inbound_nodes[node_index]
    return layer, node.input_tensors if KERAS_3 else node.keras_inputs, tensor_index


@contextlib.contextmanager
def upsampling_to_unknown_sizes(model: keras.Model) -> Iterator[None]:
    """Within the context, UpSampling2D can be traced for images of unknown size.

    Keras 3.15 compares the new size with zero, which a tensor does not allow.
    """
    changed = [
        layer
        for layer in (model._flatten_layers() if KERAS_3 else ())
        if isinstance(layer, keras.layers.UpSampling2D)
        and layer.interpolation != "nearest"
        and layer.data_format == "channels_last"
    ]

    def resized(layer: Any, x: tf.Tensor) -> tf.Tensor:
        size = tf.shape(x)[1:3] * tf.constant(layer.size)
        return tf.image.resize(x, size, layer.interpolation)

    for layer in changed:
        layer.call = functools.partial(resized, layer)
    try:
        yield
    finally:
        for layer in changed:
            del layer.call


def dropout(rate: float, name: str) -> keras.layers.Layer:
    """A Dropout layer whose random state is a variable, so that runs can resume.

    Keras 2's own keeps it in TensorFlow's stateful operations, out of reach.
    """
    options = {} if KERAS_3 else {"force_generator": True}
    return keras.layers.Dropout(rate, name=name, **options)


def state_of(model: keras.Model) -> list[tf.Variable]:
    """Returns all that a model's training changes, random states among it."""
    variables = [raw_variable(v) for v in model.variables]
    if KERAS_3:
        return variables
    # Keras 2 keeps its dropout's random generators out of the model's variables.
    generators = [
        layer._random_generator._generator
        for layer in model._flatten_layers()
        if hasattr(layer, "_random_generator")
    ]
    return variables + [g.state for g in generators if g is not None]


def variables_of(optimizer: keras.optimizers.Optimizer) -> list[tf.Variable]:
    """Returns an optimizer's variables, its rate and the loss' scale among them."""
    variables = [raw_variable(v) for v in optimizer.variables]
    if KERAS_3:
        return variables
    # Keras 2 keeps what mixed precision adjusts out of the optimizer's variables,
    scale = getattr(optimizer, "_loss_scale", None)
    if scale is not None and hasattr(scale, "counter"):  # else a fixed number
        variables += [scale.current_loss_scale, scale.counter]
    # and the learning rate, which is one where it is no schedule.
    rate = getattr(optimizer, "inner_optimizer", optimizer)._learning_rate
    return [*variables, rate] if isinstance(rate, tf.Variable) else variables


def metric_variables(model: keras.Model) -> list[tf.Variable]:
    """Returns what a compiled model sums up over an epoch, its losses among it.

    Keras makes some of them within the first step only.
    """
    if KERAS_3:
        return [raw_variable(v) for v in model.metrics_variables]
    return [v for metric in model.metrics for v in metric.variables]


def steps_per_execution(model: keras.Model) -> int:
    """Returns how many steps a compiled model takes before its callbacks hear of it."""
    if KERAS_3:
        return int(model.steps_per_execution)
    steps = model._steps_per_execution  # a variable
    return 1 if steps is None else int(steps.numpy())


def build_metrics(model: keras.Model, batch: Any) -> None:
    """Makes the variables of Keras 3's metrics, which it cannot make inside a step.

    Args:
        model: Compiled.
        batch: Such as one replica trains on.
    """
    with model.distribute_strategy.scope():
        # Private, and what `fit` itself calls, on every backend.
        model._symbolic_build(data_batch=batch)


def versions() -> dict[str, str]:
    """Returns the versions that a result depends on."""
    return {
        "tf_levelset": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
