"""The Keras contracts of the losses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_levelset import CrossEntropyLevelSetLoss, LevelSetLoss
from tf_levelset.compat import KERAS_3
from tf_levelset.energy.energy import level_set_energy
from tf_levelset.energy.options import EnergyOptions

VOID = 255
CLASSES = 4
LOSSES = [LevelSetLoss, CrossEntropyLevelSetLoss]
ON_LOGITS: dict[str, Any] = {"from_logits": True, "ignore_class": VOID}


def pictures(
    shape: tuple[int, ...] = (3, 6, 7), void: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (B, …) with void, and logits (B, …, C)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, shape)
    labels = np.where(rng.uniform(size=shape) < void, VOID, labels)
    return labels, rng.normal(size=(*shape, CLASSES)).astype(np.float32)


def keras_loss(**kwargs: Any) -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=VOID, **kwargs
    )


def value_and_gradient(
    loss: keras.losses.Loss, labels: Any, logits: Any, weight: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, logits, sample_weight=weight)
    return value.numpy(), tape.gradient(value, logits).numpy()


def segmenter(num_classes: int = CLASSES) -> keras.Model:
    return keras.Sequential(
        [keras.Input((6, 7, 3)), keras.layers.Conv2D(num_classes, 1, dtype="float32")]
    )


# --- Values ---


def test_is_the_mean_energy_of_the_images() -> None:
    labels, logits = pictures()
    expected = level_set_energy(labels, logits, from_logits=True, ignore_class=VOID)
    loss = LevelSetLoss(from_logits=True, ignore_class=VOID)(labels, logits)
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-6)


def test_equation_8() -> None:
    labels, logits = pictures()
    energy = LevelSetLoss(from_logits=True, ignore_class=VOID)(labels, logits)
    both = CrossEntropyLevelSetLoss(0.3, from_logits=True, ignore_class=VOID)
    expected = keras_loss()(labels, logits) + 0.3 * energy
    np.testing.assert_allclose(both(labels, logits), expected, rtol=1e-6)


@pytest.mark.parametrize("normalization", ["mean", "correlation"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_that_is_one_image(
    loss: type[LevelSetLoss], normalization: str
) -> None:
    labels, logits = pictures((2, 6, 7))
    options: dict[str, Any] = {**ON_LOGITS, "normalization": normalization}
    if loss is CrossEntropyLevelSetLoss:
        options["level_set_weight"] = 1.0
    together = loss(per_image=False, **options)
    stacked = labels.reshape(1, 12, 7), logits.reshape(1, 12, 7, CLASSES)
    expected, gradient = value_and_gradient(loss(**options), *stacked)
    value, found = value_and_gradient(together, labels, logits)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(found.reshape(gradient.shape), gradient, atol=1e-7)
    assert together.call(tf.constant(labels), tf.constant(logits)).shape == (2, 6, 7)
    assert abs(float(loss(**options)(labels, logits)) - value) > 1e-4


def test_defaults_are_the_papers() -> None:
    loss = CrossEntropyLevelSetLoss()
    assert loss.level_set_weight == 4e-4
    assert loss.options == EnergyOptions("mahf", 1 / 20, None, "sum", False)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "none"])
@pytest.mark.parametrize("weight", [None, "scalar", "pixel"])
def test_without_level_set_is_keras_cross_entropy(
    from_logits: bool, reduction: str, weight: str | None
) -> None:
    labels, scores = pictures()
    if not from_logits:
        scores = tf.nn.softmax(scores).numpy()
    weights = {
        None: None,
        "scalar": 0.7,
        "pixel": np.random.default_rng(1).uniform(size=labels.shape).astype("float32"),
    }[weight]
    ours = CrossEntropyLevelSetLoss(
        0.0, from_logits=from_logits, ignore_class=VOID, reduction=reduction
    )
    theirs = keras.losses.SparseCategoricalCrossentropy(
        from_logits=from_logits, ignore_class=VOID, reduction=reduction
    )
    for mine, keras_own in zip(
        value_and_gradient(ours, labels, scores, weights),
        value_and_gradient(theirs, labels, scores, weights),
        strict=True,
    ):
        np.testing.assert_allclose(mine, keras_own, rtol=1e-6, atol=1e-7)


def test_without_void_the_weight_of_a_class_is_that_of_its_pixels() -> None:
    labels, logits = pictures(void=0)
    weight = [1.0, 2.0, 0.5, 3.0]
    ours = CrossEntropyLevelSetLoss(0.0, from_logits=True, class_weight=weight)
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = theirs(labels, logits, np.array(weight, "float32")[labels])
    np.testing.assert_allclose(ours(labels, logits), expected, rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_but_void_is_zero(loss: type[LevelSetLoss]) -> None:
    labels, logits = pictures(void=1.1)
    value, gradient = value_and_gradient(
        loss(from_logits=True, ignore_class=VOID), labels, logits
    )
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("loss", LOSSES)
def test_void_pixels_have_no_say(loss: type[LevelSetLoss]) -> None:
    labels, logits = pictures()
    changed = np.where((labels == VOID)[..., np.newaxis], 9.0, logits)
    function = loss(from_logits=True, ignore_class=VOID)
    value, gradient = value_and_gradient(function, labels, logits)
    np.testing.assert_allclose(function(labels, changed), value, rtol=1e-6)
    np.testing.assert_array_equal(gradient[labels == VOID], 0)


@pytest.mark.parametrize("loss", LOSSES)
def test_volumes_equal_pictures_of_the_same_pixels(loss: type[LevelSetLoss]) -> None:
    labels, logits = pictures((2, 4, 6))
    function = loss(from_logits=True, ignore_class=VOID)
    volume = function(labels.reshape(2, 2, 3, 4), logits.reshape(2, 2, 3, 4, CLASSES))
    np.testing.assert_allclose(volume, function(labels, logits), rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_forms_of_the_same_labels_agree(loss: type[LevelSetLoss]) -> None:
    labels, logits = pictures()
    function = loss(from_logits=True, ignore_class=VOID)
    expected = function(labels, logits)
    one_hot = np.eye(VOID + 1)[labels][..., :CLASSES]
    for form in (
        labels.astype("uint8"),
        labels[..., np.newaxis].astype("int64"),
        labels.astype("float32"),
        one_hot,
        one_hot.astype("uint8"),
    ):
        np.testing.assert_allclose(function(form, logits), expected, rtol=1e-6)


def test_probabilities_and_logits_agree() -> None:
    labels, logits = pictures()
    from_logits = CrossEntropyLevelSetLoss(0.1, from_logits=True, ignore_class=VOID)
    from_probabilities = CrossEntropyLevelSetLoss(0.1, ignore_class=VOID)
    np.testing.assert_allclose(
        from_probabilities(labels, tf.nn.softmax(logits)),
        from_logits(labels, logits),
        rtol=1e-5,
    )


@pytest.mark.parametrize("from_logits", [True, False])
def test_one_channel_is_binary_cross_entropy(from_logits: bool) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (2, 5, 6, 1))
    scores = np.random.default_rng(1).normal(size=(2, 5, 6, 1)).astype("float32")
    if not from_logits:
        scores = tf.sigmoid(scores).numpy()
    ours = CrossEntropyLevelSetLoss(0.0, from_logits=from_logits)
    theirs = keras.losses.BinaryCrossentropy(from_logits=from_logits)
    np.testing.assert_allclose(ours(labels, scores), theirs(labels, scores), rtol=1e-5)


# --- Reduction, weights and dtypes: the traps of Keras ---


@pytest.mark.parametrize("loss", LOSSES)
def test_call_returns_a_loss_a_pixel(loss: type[LevelSetLoss]) -> None:
    # A scalar would skip Keras' reduction and its division by the replicas.
    labels, logits = pictures()
    function = loss(from_logits=True, ignore_class=VOID)
    assert function.call(tf.constant(labels), tf.constant(logits)).shape == (3, 6, 7)
    none = loss(from_logits=True, ignore_class=VOID, reduction="none")
    assert none(labels, logits).shape == (3, 6, 7)


@pytest.mark.parametrize("loss", LOSSES)
def test_weight_of_an_image_is_the_images_even_where_width_is_batch(
    loss: type[LevelSetLoss],
) -> None:
    # Keras broadcasts (B,) against (B, H, W) along W: wrong in silence where W = B.
    labels, logits = pictures((3, 3, 3), void=0)
    weight = np.array([1.0, 0.0, 4.0], np.float32)
    function = loss(from_logits=True)
    expected = sum(
        w * function(labels[i : i + 1], logits[i : i + 1]) for i, w in enumerate(weight)
    )
    for form in (weight, weight[:, np.newaxis], weight[:, np.newaxis, np.newaxis]):
        np.testing.assert_allclose(
            function(labels, logits, sample_weight=form), expected / 3, rtol=1e-5
        )


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_of_pixels_multiply_their_losses(loss: type[LevelSetLoss]) -> None:
    labels, logits = pictures(void=0)
    weight = np.random.default_rng(2).uniform(size=labels.shape).astype(np.float32)
    each = loss(from_logits=True, reduction="none")(labels, logits)
    function = loss(from_logits=True)
    for form in (weight, weight[..., np.newaxis]):
        np.testing.assert_allclose(
            function(labels, logits, sample_weight=form),
            np.mean(weight * each),
            rtol=1e-5,
        )
    np.testing.assert_allclose(
        function(labels, logits, sample_weight=2.0),
        2 * function(labels, logits),
        rtol=1e-6,
    )


@pytest.mark.parametrize("shape", [(2,), (6,), (3, 7), (3, 6, 6), (7,), (3, 6, 7, 2)])
def test_weights_of_other_shapes_raise(shape: tuple[int, ...]) -> None:
    labels, logits = pictures(void=0)
    with pytest.raises(ValueError, match=r"Expected sample_weight .* Received"):
        LevelSetLoss(from_logits=True)(labels, logits, np.ones(shape, np.float32))
    with pytest.raises(ValueError, match=r"Expected sample_weight .* Received"):
        LevelSetLoss(from_logits=True)(labels, logits, np.ones(shape).tolist())


@pytest.mark.skipif(not KERAS_3, reason="Keras 2 has no such reduction")
@pytest.mark.parametrize("weight", [None, 2.0, "images"])
def test_mean_with_sample_weight(weight: Any) -> None:
    labels, logits = pictures(void=0)
    loss = LevelSetLoss(from_logits=True, reduction="mean_with_sample_weight")
    energies = level_set_energy(labels, logits, from_logits=True).numpy()
    weights = np.array([1.0, 2.0, 5.0], np.float32) if weight == "images" else weight
    expected = np.average(energies, weights=weights if weight == "images" else None)
    np.testing.assert_allclose(loss(labels, logits, weights), expected, rtol=1e-5)


@pytest.mark.skipif(not KERAS_3, reason="Keras 2 has no such reduction")
def test_weighted_mean_over_valid_pixels_is_keras_own() -> None:
    labels, logits = pictures()
    weight = np.random.default_rng(1).uniform(size=labels.shape).astype(np.float32)
    options: dict[str, Any] = {"reduction": "mean_with_sample_weight"}
    ours = CrossEntropyLevelSetLoss(0.0, from_logits=True, ignore_class=VOID, **options)
    for form in (None, weight, np.where(labels == VOID, 0, weight)):
        np.testing.assert_allclose(
            ours(labels, logits, form),
            keras_loss(**options)(labels, logits, form),
            rtol=1e-6,
        )
    energy = LevelSetLoss(from_logits=True, ignore_class=VOID, **options)
    np.testing.assert_allclose(
        energy(labels, logits, np.float32(2)), energy(labels, logits), rtol=1e-5
    )


def test_half_precision_dtype_computes_in_float32() -> None:
    # bfloat16 cannot hold label 459 (it becomes 460), float16 cannot sum a picture.
    rng = np.random.default_rng(0)
    labels = np.full((1, 4, 4), 459)
    labels[0, 0] = 458
    logits = rng.normal(size=(1, 4, 4, 460)).astype(np.float32)
    expected = CrossEntropyLevelSetLoss(from_logits=True)(labels, logits)
    for dtype in ("bfloat16", "float16", "mixed_bfloat16"):
        loss = CrossEntropyLevelSetLoss(from_logits=True, dtype=dtype)
        assert loss.get_config()["dtype"] == dtype
        np.testing.assert_allclose(loss(labels, logits), expected, rtol=1e-6)


def test_float64_dtype_computes_in_float64() -> None:
    labels, logits = pictures()
    loss = LevelSetLoss(from_logits=True, ignore_class=VOID, dtype="float64")
    assert loss(labels, logits.astype(np.float64)).dtype == tf.float64


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_trains_under_mixed_precision(policy: str) -> None:
    labels, _ = pictures(void=0.2)
    images = np.random.default_rng(0).normal(size=(3, 6, 7, 3)).astype(np.float32)
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = keras.Sequential(
            [keras.Input((6, 7, 3)), keras.layers.Conv2D(CLASSES, 1)]
        )
        assert model(images).dtype.name == policy.removeprefix("mixed_")
        model.compile(
            "sgd",
            CrossEntropyLevelSetLoss(0.01, from_logits=True, ignore_class=VOID),
        )
        history = model.fit(images, labels, epochs=3, verbose=0)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert np.isfinite(history.history["loss"]).all()
    assert history.history["loss"][-1] < history.history["loss"][0]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("heaviside", ["mahf", "ahf", "hf", "logit"])
@pytest.mark.parametrize("from_logits", [False, True])
def test_no_number_on_void_is_no_harm(
    loss: type[LevelSetLoss], heaviside: str, from_logits: bool
) -> None:
    labels, logits = pictures(void=0.2)
    scores = logits if from_logits else tf.nn.softmax(logits).numpy()
    void = (labels == VOID)[..., np.newaxis]
    function = loss(
        from_logits=from_logits, ignore_class=VOID, heaviside=heaviside, epsilon=0.2
    )

    def both(scores: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(given := tf.constant(scores))
            value = function(labels, given)
        return value, tape.gradient(value, given)

    value, gradient = both(scores)
    other, of_other = both(np.where(void, np.float32(np.nan), scores))
    np.testing.assert_allclose(other, value, rtol=1e-6)
    np.testing.assert_allclose(of_other, gradient, rtol=1e-6, atol=1e-9)


# --- Graphs, XLA, replicas ---


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("heaviside", ["mahf", "ahf", "hf"])
def test_graph_and_xla_equal_eager(loss: type[LevelSetLoss], heaviside: str) -> None:
    labels, logits = pictures()
    function = loss(from_logits=True, ignore_class=VOID, heaviside=heaviside)

    def both(labels: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = function(labels, logits)
        return value, tape.gradient(value, logits)

    arguments = tf.constant(labels, tf.int32), tf.constant(logits)
    value, gradient = both(*arguments)
    for jit_compile in (False, True):
        compiled = tf.function(both, jit_compile=jit_compile)
        other_value, other_gradient = compiled(*arguments)
        np.testing.assert_allclose(other_value, value, rtol=1e-5)
        np.testing.assert_allclose(other_gradient, gradient, rtol=1e-3, atol=1e-6)


def test_xla_keeps_the_digits_of_many_pixels() -> None:
    # It adds them one by one, and the gradient is of differences of such sums.
    labels, logits = pictures((1, 1024, 2048))
    options: dict[str, Any] = {**ON_LOGITS, "heaviside": "ahf", "epsilon": 0.2}

    def gradient(logits: tf.Tensor) -> tf.Tensor:
        function = LevelSetLoss(
            normalization="scale_free", dtype=logits.dtype.name, **options
        )
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = function(labels, logits)
        return tape.gradient(value, logits)

    expected = gradient(tf.constant(logits, tf.float64)).numpy()
    found = tf.function(gradient, jit_compile=True)(tf.constant(logits))
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_dynamic_sizes_in_a_graph() -> None:
    function = tf.function(
        CrossEntropyLevelSetLoss(from_logits=True, ignore_class=VOID),
        input_signature=[
            tf.TensorSpec((None, None, None), tf.uint8),
            tf.TensorSpec((None, None, None, CLASSES)),
            tf.TensorSpec((None,)),
        ],
    )
    eager = CrossEntropyLevelSetLoss(from_logits=True, ignore_class=VOID)
    for shape in ((1, 4, 5), (3, 6, 7)):
        labels, logits = pictures(shape)
        weight = np.linspace(0.5, 1, shape[0], dtype=np.float32)
        np.testing.assert_allclose(
            function(labels.astype("uint8"), logits, weight),
            eager(labels, logits, weight),
            rtol=1e-6,
        )


@pytest.mark.parametrize("loss", LOSSES)
def test_foreign_labels_raise_and_are_nan_under_xla(loss: type[LevelSetLoss]) -> None:
    labels, logits = pictures(void=0.2)
    function = loss(from_logits=True)  # without ignore_class, 255 is no class
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected labels in"):
        function(labels, logits)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected labels in"):
        tf.function(function)(tf.constant(labels), tf.constant(logits))
    compiled = tf.function(function, jit_compile=True)
    assert np.isnan(compiled(tf.constant(labels), tf.constant(logits)))


_REPLICAS = """
import keras, numpy as np, tensorflow as tf
from tf_levelset import CrossEntropyLevelSetLoss
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
images = rng.normal(size=(4, 6, 7, 3)).astype("float32")
labels = rng.integers(0, 3, (4, 6, 7))
labels[:, 0] = labels[0, 1:5] = 255  # unevenly
def train(strategy):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((6, 7, 3)), keras.layers.Conv2D(3, 1)])
        loss = CrossEntropyLevelSetLoss(0.1, from_logits=True, ignore_class=255)
        model.compile(keras.optimizers.SGD(1.0), loss)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    history = model.fit(data, epochs=3, verbose=0)
    return model.get_weights(), history.history["loss"]
one, losses = train(tf.distribute.get_strategy())
two, other = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
for a, b in zip(one, two):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(losses, other, rtol=1e-4)
"""


def test_two_replicas_equal_one() -> None:
    # A process of its own: logical devices can be made only before TensorFlow starts.
    subprocess.run([sys.executable, "-W", "ignore", "-c", _REPLICAS], check=True)


# --- Serialisation ---


@pytest.mark.parametrize("loss", LOSSES)
def test_configuration_round_trip(loss: type[LevelSetLoss]) -> None:
    options: dict[str, Any] = {
        "from_logits": True,
        "heaviside": "ahf",
        "epsilon": 0.1,
        "ignore_class": VOID,
        "class_weight": [1.0, 2.0, 3.0, 4.0],
        "normalization": "scale_free",
        "signed": True,
        "per_image": True,
        "reduction": "sum",
        "name": "mine",
        "dtype": "float32",
    }
    if loss is CrossEntropyLevelSetLoss:
        options |= {"level_set_weight": 0.25, "jit_compile": False}
        options["level_set_class_weight"] = [2.0, 1.0, 0.0, 1.0]
    first = loss(**options)
    assert first.get_config() == options
    second = keras.losses.deserialize(keras.losses.serialize(first))
    assert type(second) is loss
    assert second.get_config() == options
    labels, logits = pictures()
    np.testing.assert_array_equal(second(labels, logits), first(labels, logits))


def test_saved_model_loads_without_custom_objects(tmp_path: Path) -> None:
    labels, _ = pictures()
    images = np.random.default_rng(0).normal(size=(3, 6, 7, 3)).astype(np.float32)
    model = segmenter()
    model.compile(
        "sgd", CrossEntropyLevelSetLoss(0.01, from_logits=True, ignore_class=VOID)
    )
    before = model.evaluate(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.loss, CrossEntropyLevelSetLoss)
    np.testing.assert_allclose(
        loaded.evaluate(images, labels, verbose=0), before, rtol=1e-6
    )


def test_fit_with_weights_and_class_names_of_keras(tmp_path: Path) -> None:
    labels, _ = pictures(void=0.0)
    images = np.random.default_rng(0).normal(size=(3, 6, 7, 3)).astype(np.float32)
    for weight in (np.ones(3, np.float32), np.ones((3, 6, 7), np.float32)):
        model = segmenter()
        model.compile("sgd", CrossEntropyLevelSetLoss(from_logits=True))
        history = model.fit(images, labels, sample_weight=weight, epochs=2, verbose=0)
        assert history.history["loss"][1] < history.history["loss"][0]


@pytest.mark.parametrize(
    "options",
    [
        {"level_set_weight": -1.0},
        {"level_set_weight": float("nan")},
        {"heaviside": "tanh"},
        {"epsilon": -1.0},
        {"normalization": "none"},
        {"normalization": "correlation", "signed": True},
        {"heaviside": "logit", "epsilon": 2.0},
        {"class_weight": {0: 1.0, 1: 2.0}},
        {"level_set_class_weight": [1.0, -1.0]},
        {"dtype": "int32"},
        {"reduction": "SUM"},
    ],
)
def test_bad_arguments_raise(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected|Invalid"):
        CrossEntropyLevelSetLoss(**options)


@pytest.mark.parametrize("heaviside", ["mahf", "ahf"])
def test_energies_can_have_class_weights_of_their_own(heaviside: str) -> None:
    # One heaviside is computed jointly with the cross-entropy, the other is not.
    labels, logits = pictures()
    ours, theirs = [2.0, 0.5, 1.0, 3.0], [0.0, 1.0, 4.0, 1.0]
    options: dict[str, Any] = {**ON_LOGITS, "heaviside": heaviside}
    both = CrossEntropyLevelSetLoss(
        0.3, class_weight=ours, level_set_class_weight=theirs, **options
    )
    cross_entropy = CrossEntropyLevelSetLoss(0.0, class_weight=ours, **options)
    energy = LevelSetLoss(class_weight=theirs, **options)
    expected = cross_entropy(labels, logits) + 0.3 * energy(labels, logits)
    np.testing.assert_allclose(both(labels, logits), expected, rtol=1e-6)
    wrong = CrossEntropyLevelSetLoss(0.3, level_set_class_weight=[1.0], **options)
    with pytest.raises(ValueError, match="4 numbers, one per class"):
        wrong(labels, logits)


def test_class_weights_are_one_a_class() -> None:
    labels, logits = pictures(void=0)
    loss = CrossEntropyLevelSetLoss(0.0, from_logits=True, class_weight=[1.0, 2.0])
    with pytest.raises(ValueError, match="hold 4 numbers"):
        loss(labels, logits)


# --- Bad input ---


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("labels", "scores", "weight"),
    [
        (np.full((3, 6, 7), "a"), np.zeros((3, 6, 7, 4)), None),
        (np.zeros((3, 6, 7), complex), np.zeros((3, 6, 7, 4)), None),
        (np.zeros((3, 6, 7), int), np.zeros((3, 6, 7, 4), complex), None),
        (np.zeros((3, 6, 7), int), np.zeros((3, 6, 7, 4)), "heavy"),
        (np.zeros((3, 6, 7), int), np.float32(0), 1.0),
        (np.zeros((3, 6, 7), int), np.float32(0), None),
    ],
)
def test_what_holds_no_numbers_raises(
    loss: type[LevelSetLoss], labels: Any, scores: Any, weight: Any
) -> None:
    with pytest.raises(ValueError, match=r"Expected .*Received"):
        loss(from_logits=True)(labels, tf.constant(scores), weight)


@pytest.mark.parametrize(
    "options",
    [
        {"ignore_class": "255"},
        {"from_logits": "False"},
        {"signed": "False"},
        {"per_image": 1},
        {"epsilon": "small"},
        {"level_set_weight": "heavy"},
        {"level_set_weight": None},
        {"jit_compile": 2},
        {"class_weight": "abcd"},
        {"dtype": "floaty"},
        {"dtype": "int32"},
        {"reduction": "average"},
        {"reduction": ["sum"]},
    ],
)
def test_options_of_other_types_raise(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"Expected `{next(iter(options))}`"):
        CrossEntropyLevelSetLoss(**options)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", [(0, 6, 7), (3, 0, 7), (3, 6, 0), (0,), (2, 0)])
def test_no_pixel_is_zero(loss: type[LevelSetLoss], shape: tuple[int, ...]) -> None:
    if len(shape) == 1:
        shape = (*shape, 5)
    value, gradient = value_and_gradient(
        loss(from_logits=True), np.zeros(shape, int), np.zeros((*shape, 4), np.float32)
    )
    assert value == 0
    assert gradient.shape == (*shape, 4)


def test_numbers_of_numpys_are_written_as_numbers() -> None:
    options: dict[str, Any] = {
        "level_set_weight": np.float32(0.5),
        "from_logits": np.bool_(True),
        "epsilon": np.float64(0.25),
        "ignore_class": np.int64(255),
        "class_weight": np.ones(3, np.float32),
        "signed": np.bool_(True),
    }
    loss = CrossEntropyLevelSetLoss(**options)
    config = json.loads(json.dumps(loss.get_config()))
    assert CrossEntropyLevelSetLoss(**config).get_config() == config
    assert config["ignore_class"] == 255
