"""Writes trials so that XLA can run them without TensorFlow.

The step is the package's own: TensorFlow traces the net, the loss and their gradient,
and `jax.export` writes them as StableHLO. What a step is given is data: rates, and
where each sample is cut out of which picture, as the input pipeline draws it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import keras
import numpy as np
import tensorflow as tf
from jax.experimental import jax2tf
from PIL import Image

from experiments.trials import Trial, job_name
from tf_levelset.constants import IMAGENET_MEAN_RGB
from tf_levelset.datasets import load_dataset
from tf_levelset.datasets.pipeline import (
    Source,
    evaluation_dataset,
    sample_index,
    sample_seed,
    sample_window,
)
from tf_levelset.energy.energy import level_set_energy
from tf_levelset.export.saved_model import traced_for
from tf_levelset.files import write_json
from tf_levelset.losses import boundary
from tf_levelset.training.compiled import build_loss, build_optimizer
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.run import Run

PLATFORMS = ("cpu", "cuda")
"""Of XLA, by JAX's names."""

Tensors = Sequence[Any]


def lower(
    sweeps: Mapping[str, Sequence[Trial]],
    folder: Path,
    data_dir: str | None,
    platforms: Sequence[str] = PLATFORMS,
) -> None:
    """Writes what `execute` needs of sweeps' trials, and of the starts of theirs.

    Args:
        sweeps: trials by sweep, which run in this order; on one data set, whose
            pictures are of one size.
        folder: where to; what is there already is kept.
        data_dir: folder of the data set's files.
        platforms: of `PLATFORMS`, what to write the steps for.

    Raises:
        ValueError: for a recipe that changes colours, or does not crop, and for a loss
            that changes as a run trains.
    """
    unique: dict[str, Trial] = {}
    for sweep, trials in sweeps.items():
        unique |= {t.start.name: t.start for t in trials if t.start is not None}
        unique |= {job_name(sweep, trial): trial for trial in trials}
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        {"name": name, **_Lowering(trial, folder, data_dir, platforms).job()}
        for name, trial in unique.items()
    ]
    write_json(folder / "jobs.json", jobs)


class _Lowering:
    """One trial, whose files are written where no other trial has written the same."""

    def __init__(
        self,
        trial: Trial,
        folder: Path,
        data_dir: str | None,
        platforms: Sequence[str],
    ) -> None:
        recipe = trial.recipe
        if recipe.augmentation.photometric or recipe.augmentation.crop is None:
            raise ValueError(
                "Expected an augmentation that crops and keeps colours. "
                f"Received: {recipe.augmentation}"
            )
        if trial.stages is not None:
            raise ValueError(
                f"Expected a trial of one stage, as a step is. Received: {trial.stages}"
            )
        self.trial, self.recipe, self.folder = trial, recipe, folder
        self.platforms = platforms
        self.augmentation = recipe.augmentation
        if recipe.input_scale != 1:
            self.augmentation = dataclasses.replace(
                recipe.augmentation, resize_scale=recipe.input_scale
            )
        self.train, self.val = (
            load_dataset(recipe.dataset, split, data_dir, **recipe.dataset_options)
            for split in (recipe.train_split, recipe.val_split)
        )
        self.steps_per_epoch = max(1, self.train.num_samples // recipe.batch_size)
        self.steps = recipe.iterations or self.steps_per_epoch * recipe.epochs
        self._run: Run | None = None

    @property
    def run(self) -> Run:
        """The net, made when first asked for."""
        if self._run is None:
            folder = self.folder / "unused"
            trial = self.trial
            self._run = Run(self.recipe, trial.loss, folder, self.train, self.val)
        return self._run

    def job(self) -> dict[str, Any]:
        """Writes the files, and says what to do with them."""
        trial, recipe = self.trial, self.recipe
        net = (recipe.model, recipe.model_options, recipe.loss_stride)
        sizes = (recipe.augmentation.crop, recipe.input_scale, self.val.image_size)
        what = (*net, *sizes, recipe.batch_size, self.train.num_classes)
        loss = (trial.loss, recipe.level_set, recipe.loss_options)
        fixed = (recipe.momentum, recipe.l2, recipe.multipliers)
        return {
            "start": None if trial.start is None else trial.start.name,
            "step": self._once("step", (*what, *loss, *fixed), self._step),
            "predict": self._once("predict", what, self._predict),
            "weights": self._once("npz", (*net, recipe.seed), self._weights),
            "places": self._once("npy", self._drawn_by(), self._places),
            "rates": self._rates(),
            "train": self._pictures(self.train),
            "val": self._pictures(self.val),
            "batch_size": recipe.batch_size,
            "steps_per_epoch": self.steps_per_epoch,
            "crop": list(recipe.augmentation.crop or ()),
        }

    def _once(self, suffix: str, key: Any, make: Callable[[], Any]) -> str:
        """Writes a file of a name that its content decides; returns the name."""
        found = hashlib.sha256(json.dumps(key, default=str).encode()).hexdigest()[:12]
        name = f"{found}.{suffix}"
        path = self.folder / name
        if not path.exists():
            content = make()
            if suffix == "npz":
                np.savez(path, **content)
            elif suffix == "npy":
                np.save(path, content)
            else:
                path.write_bytes(content)
        return name

    def _drawn_by(self) -> tuple[Any, ...]:
        """What the samples' places depend on. Shorter runs see a longer one's first."""
        return (
            _key(self.train),
            self.recipe.seed,
            dataclasses.astuple(self.augmentation),
            self.recipe.batch_size,
            self._longest(),
        )

    def _longest(self) -> int:
        """Steps of the longest run of this pair: its start's, if it has one."""
        start = self.trial.start
        epochs = self.recipe.epochs if start is None else start.recipe.epochs
        return max(self.steps, self.steps_per_epoch * epochs)

    def _places(self) -> np.ndarray:
        """int16 (samples, 8): picture, size, first row and column, shape, mirrored."""
        height, width = self.train.image_size or (0, 0)
        size = tf.constant([height, width], tf.int32)

        def place(i: tf.Tensor) -> tf.Tensor:
            index = sample_index(i, self.recipe.seed, self.train.num_samples)
            resized, start, shape, flip, _ = sample_window(
                size, sample_seed(i, self.recipe.seed), self.augmentation
            )
            pieces = [index[tf.newaxis], resized, start, shape, flip[tf.newaxis]]
            return tf.concat([tf.cast(piece, tf.int16) for piece in pieces], 0)

        samples = tf.data.Dataset.range(self._longest() * self.recipe.batch_size)
        return np.stack(list(samples.map(place).as_numpy_iterator()))

    def _rates(self) -> list[float]:
        """The learning rate of each step."""
        rate = build_optimizer(self.recipe, self.steps)._learning_rate
        if not callable(rate):
            return [float(rate)] * self.steps
        return np.asarray(rate(tf.range(self.steps)), np.float64).tolist()

    def _weights(self) -> dict[str, np.ndarray]:
        """Variables of the untrained net: the trainable ones first."""
        net = self.run.trained
        trainable, others = _variables(net)
        named = {f"trainable{i:03}": np.asarray(v) for i, v in enumerate(trainable)}
        return {**named, **{f"z{i:03}": np.asarray(v) for i, v in enumerate(others)}}

    def _pictures(self, source: Source) -> list[str]:
        """Writes a source's pictures and labels, and returns their names."""
        folder = self.folder / "pictures"
        names = list(source.sample_names)
        if all((folder / f"{name}.webp").exists() for name in names):
            return names
        folder.mkdir(exist_ok=True)
        samples = evaluation_dataset(source).as_numpy_iterator()
        for name, (image, labels) in zip(names, samples, strict=True):
            Image.fromarray(labels.astype(np.uint8)).save(folder / f"{name}.png")
            Image.fromarray(image).save(
                folder / f"{name}.webp", lossless=True, quality=60
            )
        return names

    def _step(self) -> bytes:
        step, arguments = training_step(self.run), step_arguments(self.run)
        return exported(step, arguments, self.platforms)

    def _predict(self) -> bytes:
        with traced_for(self.run.model, portable=True):
            predict, arguments = prediction(self.run), prediction_arguments(self.run)
            return exported(predict, arguments, self.platforms)


def exported(
    function: Callable[..., Any],
    arguments: Tensors,
    platforms: Sequence[str] = PLATFORMS,
) -> bytes:
    """A TensorFlow function as StableHLO.

    Args:
        function: of tensors, which XLA can compile.
        arguments: `jax.ShapeDtypeStruct`s, or lists of them.
        platforms: of `PLATFORMS`.
    """
    traced = jax.jit(jax2tf.call_tf(function, has_side_effects=False))
    with mock.patch.object(boundary, "distance_maps", distance_maps):
        lowered = jax.export.export(traced, platforms=platforms)(*arguments)
    return bytes(lowered.serialize())


def distance_maps(classes: tf.Tensor, num_classes: int, dtype: Any) -> tf.Tensor:
    """`boundary.distance_maps` of pictures, in what XLA can compile.

    Takes H² W + H W² comparisons a class, which an accelerator does as it reads them.
    """
    inside = tf.one_hot(classes, num_classes, True, False, axis=1, dtype=tf.bool)
    outside = ~inside & (classes >= 0)[:, tf.newaxis]
    there = tf.reduce_any(inside, (2, 3), True) & tf.reduce_any(outside, (2, 3), True)
    maps = tf.where(
        inside,
        1 - tf.sqrt(_squared_distances(outside)),
        tf.sqrt(_squared_distances(inside)) * tf.cast(outside, tf.float32),
    )
    maps = tf.where(there, maps, tf.zeros_like(maps))
    return tf.cast(tf.transpose(maps, (0, 2, 3, 1)), dtype)


def _squared_distances(where: tf.Tensor) -> tf.Tensor:
    """To the nearest pixel that is true, (…, H, W), along columns and then rows."""
    height, width = where.shape[-2:]
    far = float(2 * (height**2 + width**2))
    found = tf.where(where, 0.0, far)
    down, across = (
        tf.cast((tf.range(n)[:, tf.newaxis] - tf.range(n)) ** 2, tf.float32)
        for n in (height, width)
    )
    found = found[..., tf.newaxis, :, :] + down[:, :, tf.newaxis]
    found = tf.reduce_min(found, -2)[..., tf.newaxis, :] + across
    return tf.reduce_min(found, -1)


def training_step(run: Run) -> Callable[..., Any]:
    """One step of a run, as a function of all that it reads.

    Returns:
        (weights, state, velocities, rate, images, insides, labels) → (weights, state,
        velocities, figures): lists of the trainable variables, the others, and the
        momentum; the learning rate; uint8 (B, h, w, 3), int32 (B, 2) and uint8
        (B, h, w), see `tf_levelset.datasets.pipeline`; and the batch's loss,
        cross-entropy and level set energy a pixel.
    """
    net, optimizer, recipe = run.trained, run.trained.optimizer, run.recipe
    ignore_class = run.train_source.ignore_class
    multipliers = [optimizer.multiplier(v) for v in net.trainable_variables]
    losses = [build_loss(recipe, run.name, ignore_class) for _ in range(run.outputs)]
    stride = recipe.loss_stride

    def step(
        weights: Tensors,
        state: Tensors,
        velocities: Tensors,
        rate: Any,
        images: Any,
        insides: Any,
        labels: Any,
    ) -> tuple[Tensors, Tensors, Tensors, Any]:
        labels = tf.cast(labels[:, ::stride, ::stride], tf.int32)
        with tf.GradientTape() as tape:
            tape.watch(weights)
            outputs, state = net.stateless_call(
                weights, state, _floats(images, insides), training=True
            )
            outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
            loss = tf.add_n(
                [loss(labels, out) for loss, out in zip(losses, outputs, strict=True)]
            )
        gradients = tape.gradient(loss, weights)
        velocities = [
            recipe.momentum * v - rate * m * (g + recipe.l2 * d * w)
            for v, g, w, (m, d) in zip(
                velocities, gradients, weights, multipliers, strict=True
            )
        ]
        weights = [w + v for w, v in zip(weights, velocities, strict=True)]
        figures = tf.stack([loss, *_figures(recipe, labels, outputs[-1], ignore_class)])
        return weights, state, velocities, figures

    return step


def prediction(run: Run) -> Callable[..., Any]:
    """The trained net's answer for one picture, as a function of its variables.

    Returns:
        (weights, state, image, labels) → (probabilities float32 (H, W, C), level set
        energy), for uint8 (H, W, 3) and (H, W).
    """
    model, ignore_class = run.model, run.val_source.ignore_class

    def predict(weights: Tensors, state: Tensors, image: Any, labels: Any) -> Any:
        logits, _ = model.stateless_call(
            weights, state, tf.cast(image, tf.float32)[tf.newaxis], training=False
        )
        probabilities = tf.nn.softmax(logits)
        energy = level_set_energy(
            tf.cast(labels, tf.int32)[tf.newaxis],
            probabilities,
            ignore_class=ignore_class,
        )
        return probabilities[0], energy[0]

    return predict


def _floats(images: Any, insides: Any) -> Any:
    """`datasets.pipeline.to_float`, in operations that XLA can compile."""
    height, width = images.shape[1:3]
    rows = tf.range(height)[:, tf.newaxis] < insides[:, 0, tf.newaxis, tf.newaxis]
    columns = tf.range(width) < insides[:, 1, tf.newaxis, tf.newaxis]
    mean = tf.constant(IMAGENET_MEAN_RGB, tf.float32)
    inside = (rows & columns)[..., tf.newaxis]
    return tf.where(inside, tf.cast(images, tf.float32), mean)


def _figures(recipe: Recipe, labels: Any, logits: Any, ignore_class: int) -> Tensors:
    """What every run's curves show, whatever its loss."""
    energy = level_set_energy(
        labels,
        logits,
        from_logits=True,
        ignore_class=ignore_class,
        normalization="mean",
    )
    cross_entropy = build_loss(recipe, "ce", ignore_class)(labels, logits)
    return cross_entropy, tf.reduce_mean(energy)


def step_arguments(run: Run) -> Tensors:
    """Shapes and dtypes of what `training_step` takes."""
    weights, state = ([_shape(v) for v in vs] for vs in _variables(run.trained))
    batch, crop = run.recipe.batch_size, run.recipe.augmentation.crop or ()
    return [
        weights,
        state,
        weights,
        jax.ShapeDtypeStruct((), np.float32),
        jax.ShapeDtypeStruct((batch, *crop, 3), np.uint8),
        jax.ShapeDtypeStruct((batch, 2), np.int32),
        jax.ShapeDtypeStruct((batch, *crop), np.uint8),
    ]


def prediction_arguments(run: Run) -> Tensors:
    """Shapes and dtypes of what `prediction` takes."""
    size = run.val_source.image_size or ()
    return [
        *([_shape(v) for v in vs] for vs in _variables(run.model)),
        jax.ShapeDtypeStruct((*size, 3), np.uint8),
        jax.ShapeDtypeStruct(size, np.uint8),
    ]


def _variables(model: keras.Model) -> tuple[list[Any], list[Any]]:
    return model.trainable_variables, model.non_trainable_variables


def _shape(variable: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(variable.shape), variable.dtype)


def _key(source: Source) -> tuple[Any, ...]:
    return source.name, source.sample_names
