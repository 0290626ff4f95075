"""Images and masks that belong together, and every file that has no other."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from tf_levelset.datasets.files.pairs import find_pairs


def pairs(
    root: Path, images: list[str], masks: list[str]
) -> tuple[dict[str, str], list[str]]:
    """Writes empty files; returns the mask of each image, and the faults."""
    for folder, names in (("images", images), ("masks", masks)):
        for name in names:
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    found, faults = find_pairs(root / "images", root / "masks")
    masks_by_image = {
        image.relative_to(root / "images").as_posix(): mask.name
        for image, mask in found.values()
    }
    return masks_by_image, [str(fault).replace(f"{root}/", "") for fault in faults]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["1.jpg", "11.jpg"], ["1_mask.png", "11_mask.png"]),
        (["a/1.jpg", "b/1.png"], ["a/mask_1.png", "b/mask_1.tif"]),
        (["1.jpg", "2.png"], ["1.jpg.png", "2.png.png"]),
        (["1.jpg", "2.jpg"], ["1.jpg.png", "2.jpg.png"]),
        (["1.jpg", "2.jpeg"], ["1.jpg_L.png", "2.jpeg_L.png"]),
        (["alone.jpg"], ["alone_gt.png"]),
    ],
)
def test_all_masks_may_have_the_same_addition(
    tmp_path: Path, images: list[str], masks: list[str]
) -> None:
    found = {image: Path(mask).name for image, mask in zip(images, masks, strict=True)}
    assert pairs(tmp_path, images, masks) == (found, [])


def test_accents_are_compared_by_what_they_look_like(tmp_path: Path) -> None:
    name = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    apart = unicodedata.normalize("NFD", name)
    assert apart != name
    found = pairs(tmp_path, [f"{name}.jpg"], [f"{apart}.png"])
    assert found == ({f"{name}.jpg": f"{apart}.png"}, [])


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["a.jpg", "b.jpg", "c.jpg"], ["a_mask.png", "b_mask.png"]),
        (["a.jpg", "b.jpg"], ["a_mask.png", "b_mask.png", "c_mask.png"]),
        (["a.jpg", "b.jpg", "c.jpg"], ["a_mask.png", "b_mask.png", "c.png"]),
    ],
)
def test_an_addition_that_is_not_clear_is_proposed(
    tmp_path: Path, images: list[str], masks: list[str]
) -> None:
    found, faults = pairs(tmp_path, images, masks)
    assert found == ({"c.jpg": "c.png"} if "c.png" in masks else {})
    assert f"2 of {len(masks)} masks named NAME_mask" in faults[0]
    single = {*images, *masks} - {*found, *found.values()}
    assert {fault.split(":")[0].split("/")[1] for fault in faults[1:]} == single


def test_two_readings_are_none(tmp_path: Path) -> None:
    # 1_2 is an addition to 1, or to 2.
    found, faults = pairs(tmp_path, ["1.jpg", "2.jpg"], ["1_2.png", "2_1.png"])
    assert found == {}
    assert len(faults) == 4


def test_files_that_are_no_masks_are_named_with_the_reason(tmp_path: Path) -> None:
    masks = ["a.jpg", "b.json", "c.webp", "d.doc"]
    found, faults = pairs(tmp_path, ["a.jpg", "a.json"], masks)
    assert found == {}
    reasons = {fault.split(":")[0]: fault for fault in faults}
    assert "compression has changed the labels" in reasons["masks/a.jpg"]
    assert "drawn into mask files" in reasons["masks/b.json"]
    assert "drawn into mask files" in reasons["images/a.json"]
    assert "compression may have" in reasons["masks/c.webp"]
    assert reasons["masks/d.doc"].endswith("Received: d.doc")
    assert "Expected its mask" in reasons["images/a.jpg"]


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        (tmp_path / "disk" / folder).mkdir(parents=True)
        (tmp_path / folder / "drive").symlink_to(tmp_path / "disk" / folder)
    (tmp_path / "disk/images/a.jpg").touch()
    (tmp_path / "disk/masks/a.png").touch()
    assert pairs(tmp_path, ["b.jpg"], ["b.png"]) == (
        {"drive/a.jpg": "a.png", "b.jpg": "b.png"},
        [],
    )
    (tmp_path / "disk/masks/again").symlink_to(tmp_path / "masks")
    with pytest.raises(ValueError, match=r"no link to a folder around it.*again"):
        pairs(tmp_path, [], [])
