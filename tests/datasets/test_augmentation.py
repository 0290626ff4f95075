from __future__ import annotations

from typing import Any

import pytest

from tf_levelset.datasets.augmentation import Augmentation, output_size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": (4, 4), "resize_scale": 0.5}, "one of `resize`"),
        ({"resize": (0, 4)}, "`resize` to be"),
        ({"crop": (4,)}, "`crop` to be"),
        ({"crop": (4.0, 4)}, "`crop` to be"),
        ({"resize_scale": 0.0}, "`resize_scale` to be above 0"),
        ({"scale": (0.0, 1.0)}, "0 < low <= high"),
        ({"scale": (2.0, 1.0)}, "0 < low <= high"),
        ({"flip": "False"}, "`flip` to be True or False"),
        ({"photometric": 1}, "`photometric` to be True or False"),
    ],
)
def test_rejects(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


@pytest.mark.parametrize(
    ("augmentation", "image_size", "expected"),
    [
        (Augmentation(), (3, 4), (3, 4)),
        (Augmentation(resize=(5, 6)), None, (5, 6)),
        (Augmentation(resize_scale=0.5), (6, 8), (3, 4)),
        (Augmentation(resize=(5, 6), scale=(1, 2)), (3, 4), None),
        (Augmentation(scale=(1, 2), crop=(7, 8)), None, (7, 8)),
    ],
)
def test_output_size(
    augmentation: Augmentation,
    image_size: tuple[int, int] | None,
    expected: tuple[int, int] | None,
) -> None:
    assert output_size(augmentation, image_size) == expected
