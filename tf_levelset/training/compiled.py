"""From a recipe to a compiled model: loss, optimizer, metrics and net."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_levelset import losses
from tf_levelset.checks import call_with_options, expect
from tf_levelset.datasets.pipeline import Source
from tf_levelset.metrics import LevelSetEnergy, MeanIoU
from tf_levelset.models import at_input_size, create_model, output_stride
from tf_levelset.optimizers.caffe_sgd import CaffeSGD
from tf_levelset.optimizers.schedules import schedule
from tf_levelset.training.recipe import Recipe

COMPARISON_LOSSES: dict[str, type[losses.SegmentationLoss]] = {
    "lmp": losses.LossMaxPooling,
    "lad": losses.LocallyAdaptiveLoss,
    "focal": losses.FocalLoss,
    "dice": losses.DiceLoss,
    "lovasz": losses.LovaszSoftmaxLoss,
    "boundary": losses.BoundaryLoss,
    "active_contour": losses.ActiveContourLoss,
}
"""The losses that the level set loss is compared with, by their names in recipes."""

REPLACES_CROSS_ENTROPY = ("lad", "lmp", "focal")
"""Losses that reweight the cross-entropy; the others are added to it."""

NO_XLA = ("boundary",)
"""Losses with operations that XLA, which Keras 3 uses on GPUs, cannot compile."""


def build_model(
    recipe: Recipe, loss_name: str, source: Source, steps: int
) -> tuple[keras.Model, keras.Model]:
    """Returns the net of a recipe, compiled to train with one of its losses.

    The random seed is set to the recipe's, so that the nets of all losses start from
    the same weights.

    Args:
        recipe: A recipe.
        loss_name: Name of the loss, a key of `recipe.LOSSES`.
        source: The training data, which define the classes.
        steps: Number of steps of the run.

    Returns:
        Two models with the same variables. The first is compiled; its logits have the
        output stride at which the loss compares them. The second maps an image to
        logits of the image's size.

    Raises:
        ValueError: If the net or the loss does not take an option, or if the loss
            cannot be computed at the recipe's stride.
    """
    keras.utils.set_random_seed(recipe.seed)
    net = create_model(
        recipe.model, source.num_classes, upsample=False, **recipe.model_options
    )
    _check_loss_stride(recipe, net)
    trained = net if recipe.loss_stride > 1 else at_input_size(net)
    model = at_input_size(net, recipe.input_scale)
    # A multi-scale net has one output per scale and the fused one last. Its loss is the
    # sum over all outputs; metrics are computed from the fused output.
    outputs = len(trained.outputs)
    compiled_losses = [
        build_loss(recipe, loss_name, source.ignore_class) for _ in range(outputs)
    ]
    metrics = [*([] for _ in compiled_losses[1:]), build_metrics(recipe, source)]
    trained.compile(
        build_optimizer(recipe, steps),
        compiled_losses if outputs > 1 else compiled_losses[0],
        metrics=metrics if outputs > 1 else metrics[0],
        **({"jit_compile": False} if loss_name in NO_XLA else {}),
    )
    return trained, model


def _check_loss_stride(recipe: Recipe, net: keras.Model) -> None:
    stride = output_stride(net)
    strides = (stride,) if len(net.outputs) > 1 else (1, stride)
    expected = f"`loss_stride` of {strides} for {recipe.model!r}"
    expect(recipe.loss_stride in strides, expected, recipe.loss_stride)


def build_loss(recipe: Recipe, name: str, ignore_class: int) -> keras.losses.Loss:
    """Returns one of a recipe's losses, computed from logits.

    Args:
        recipe: A recipe.
        name: Name of the loss, a key of `recipe.LOSSES`.
        ignore_class: The label of pixels that do not count.

    Raises:
        ValueError: If the loss does not take an option.
    """
    common: dict[str, Any] = {"from_logits": True, "ignore_class": ignore_class}
    options = recipe.level_set if name == "ls" else recipe.loss_options.get(name, {})
    others = (
        f"options of {name!r} other than {tuple(common)}, which the run sets itself"
    )
    expect(not set(common) & set(options), others, options)
    if name == "ls":
        return call_with_options(
            name, losses.CrossEntropyLevelSetLoss, **options, **common
        )
    cross_entropy = losses.CrossEntropyLevelSetLoss(level_set_weight=0.0, **common)
    if name == "ce":
        return cross_entropy
    if name in REPLACES_CROSS_ENTROPY:
        return call_with_options(name, COMPARISON_LOSSES[name], **options, **common)
    options = dict(options)
    weight = options.pop("weight", 1.0)
    loss = call_with_options(name, COMPARISON_LOSSES[name], **options, **common)
    return losses.LossSum([cross_entropy, loss], [1.0, weight])


def build_optimizer(recipe: Recipe, steps: int) -> CaffeSGD:
    """Returns the optimizer of a recipe for a run of `steps` steps."""
    return CaffeSGD(
        schedule(
            recipe.schedule,
            recipe.learning_rate,
            steps,
            power=recipe.power,
            step_size=recipe.step_size,
            gamma=recipe.gamma,
        ),
        momentum=recipe.momentum,
        l2=recipe.l2,
        multipliers=recipe.multipliers,
    )


def build_metrics(recipe: Recipe, source: Source) -> list[keras.metrics.Metric]:
    """Returns the metrics of every run's curves (Fig. 4), whatever its loss."""
    loss = build_loss(recipe, "ce", source.ignore_class)

    def cross_entropy(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        # In Keras 2, calling the loss would average over one replica only.
        return tf.reduce_mean(loss.call(y_true, y_pred))

    return [
        keras.metrics.MeanMetricWrapper(cross_entropy, name="cross_entropy"),
        MeanIoU(
            source.num_classes,
            name="mean_iou",
            ignore_class=source.ignore_class,
            sparse_y_pred=False,
            class_names=source.class_names,
        ),
        LevelSetEnergy(
            from_logits=True,
            ignore_class=source.ignore_class,
            normalization="mean",
            name="level_set_energy_per_pixel",
        ),
    ]
