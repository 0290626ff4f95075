"""The tables of results in Kim et al. 2019, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        title: Name of the method in the paper.
        recipe: Name of the recipe that trains it.
        published: The mIoU in % by column, where the paper reports it.
        seconds: Seconds for each image by column, where the paper reports them.
    """

    title: str
    recipe: str
    published: dict[str, float]
    seconds: dict[str, float] | None = None


@dataclass(frozen=True)
class Table:
    """A table of results.

    Args:
        number: Number in the paper; 0 for a table that is not in the paper.
        title: The data, and what is compared.
        columns: Keys of `COLUMNS`.
        rows: The rows.
        by_method: Whether the paper lists the columns as rows.
    """

    number: int
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    by_method: bool = False


COLUMNS = {
    "ce": "CE",
    "ce+crf5": "CE + CRF (5)",
    "ce+crf10": "CE + CRF",
    "ls": "LS",
    "ls+crf10": "LS + CRF",
    "lad": "LAD",
    "lmp": "LMP",
}
"""Titles of the columns: a loss, and the iterations of a dense CRF after it."""

_COMPARISON = ("ce", "ce+crf10", "ls", "ls+crf10")


def _rows(*rows: tuple[str, str, float, float | None, float]) -> tuple[Row, ...]:
    """Makes rows of a title, a recipe, and the mIoU of ce, ce+crf10 and ls."""
    columns = ("ce", "ce+crf10", "ls")
    return tuple(
        Row(
            title,
            recipe,
            {c: v for c, v in zip(columns, values, strict=True) if v is not None},
        )
        for title, recipe, *values in rows
    )


TABLES = (
    Table(
        1,
        "PASCAL VOC 2012 val",
        _COMPARISON,
        _rows(
            ("FCN-32s-ResNet101", "voc-fcn32s_resnet101", 65.1, None, 68.9),
            ("FCN-16s-ResNet101", "voc-fcn16s_resnet101", 68.4, None, 69.2),
            ("FCN-8s-ResNet101", "voc-fcn8s_resnet101", 68.5, None, 69.3),
            ("DeepLab-LargeFOV", "voc-deeplab_largefov", 62.8, 67.3, 66.7),
            ("DeepLab-MSC-LargeFOV", "voc-deeplab_msc_largefov", 64.2, 68.1, 67.2),
            ("DeepLab-ResNet101", "voc-deeplab_resnet101", 75.1, 76.3, 76.5),
            ("DeepLab-MSC-ResNet101", "voc-deeplab_msc_resnet101", 76.0, 77.7, 77.3),
        ),
    ),
    Table(
        2,
        "PASCAL-Context val, which the paper calls test",
        _COMPARISON,
        _rows(
            ("FCN-8s-ResNet101", "pascal_context-fcn8s_resnet101", 41.0, None, 42.2),
            ("DeepLab-LargeFOV", "pascal_context-deeplab_largefov", 37.1, 39.7, 39.4),
            ("DeepLab-ResNet101", "pascal_context-deeplab_resnet101", 44.7, 45.7, 45.5),
        ),
    ),
    Table(
        3,
        "Cityscapes val",
        _COMPARISON,
        _rows(
            ("FCN-8s-ResNet101", "cityscapes-fcn8s_resnet101", 64.7, None, 65.5),
            ("DeepLab-LargeFOV", "cityscapes-deeplab_largefov", 62.9, 64.1, 64.0),
            ("DeepLab-ResNet101", "cityscapes-deeplab_resnet101", 68.8, 69.8, 69.8),
        ),
    ),
    Table(
        4,
        "The level set loss against CRFs, PASCAL VOC 2012 val",
        ("ls", "ce+crf5", "ce+crf10"),
        (
            Row(
                "DeepLab-LargeFOV",
                "voc-deeplab_largefov",
                {"ls": 66.7, "ce+crf5": 66.5, "ce+crf10": 67.3},
                {"ls": 0.025, "ce+crf5": 0.272, "ce+crf10": 0.387},
            ),
            Row(
                "DeepLab-ResNet101",
                "voc-deeplab_resnet101",
                {"ls": 76.5, "ce+crf5": 76.1, "ce+crf10": 76.3},
                {"ls": 0.054, "ce+crf5": 0.315, "ce+crf10": 0.452},
            ),
        ),
    ),
    Table(
        5,
        "Loss functions, DeepLab-ResNet101, PASCAL VOC 2012 val",
        ("ce", "lad", "lmp", "ls"),
        (
            Row(
                "DeepLab-ResNet101",
                "voc-deeplab_resnet101-losses",
                {"ce": 75.1, "lad": 76.1, "lmp": 76.3, "ls": 76.5},
            ),
        ),
        by_method=True,
    ),
    Table(
        0,
        "CamVid val (not in the paper)",
        ("ce", "ce+crf10", "ls", "ls+crf10"),
        (
            Row("FCN-8s-ResNet, narrow", "camvid-fcn8s_resnet101", {}),
            Row("DeepLab-LargeFOV, narrow", "camvid-deeplab_largefov", {}),
            Row("DeepLab-ResNet, narrow", "camvid-deeplab_resnet101", {}),
        ),
    ),
)
"""Tables 1 to 5, and one on CamVid. In Table 5 the numbers of LAD and LMP are those of
their own papers."""
