"""The confusion matrix: how many pixels of each class were predicted as each class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tf_levelset.checks import (
    check_ignore_class,
    check_num_classes,
)
from tf_levelset.metrics.class_ids import check_class_ids

Confusion = npt.NDArray[np.int64]


def confusion_matrix(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    num_classes: int,
    ignore_class: int | None = None,
) -> Confusion:
    """Counts the pixels of each pair of true and predicted class.

    Args:
        labels: Class ids, of any shape and of any integer type, or whole floats.
        predictions: Class ids, of the same shape as `labels`.
        num_classes: Number of classes, C.
        ignore_class: The label of void pixels. They do not count, whatever was
            predicted there.

    Returns:
        The confusion matrix, int64 of shape (C, C): rows are the truth, columns the
        predictions.

    Raises:
        ValueError: If the shapes differ, or if an id outside void is not a whole
            number in [0, C). The message names the ids.

    Example:
        >>> confusion_matrix([0, 0, 1, 255], [0, 1, 1, 7], 2, ignore_class=255)
        array([[1, 1],
               [0, 1]])
    """
    check_num_classes(num_classes)
    check_ignore_class(ignore_class)
    truth, predicted = np.asarray(labels), np.asarray(predictions)
    if truth.shape != predicted.shape:
        raise ValueError(
            "Expected labels and predictions of one shape. Received: "
            f"{truth.shape} and {predicted.shape}"
        )
    if ignore_class is not None:
        valid = truth != ignore_class
        truth, predicted = truth[valid], predicted[valid]
    cells = check_class_ids(truth, num_classes, "labels") * num_classes
    cells += check_class_ids(predicted, num_classes, "predictions")
    counts = np.bincount(cells.ravel(), minlength=num_classes**2)
    return counts.astype(np.int64).reshape(num_classes, num_classes)
