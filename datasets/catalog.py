"""The data sets by name, as plain data.

Nothing here loads TensorFlow before a data set is used, so that the command line can
list them at once.
"""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any

from tf_levelset.checks import call_with_options, expect
from tf_levelset.lazy import loader

if TYPE_CHECKING:
    from tf_levelset.datasets.pipeline import Source

FILES = {
    "camvid": "camvid",
    "cityscapes": "cityscapes",
    "folder": "image_folder",
    "pascal_context": "pascal_context",
    "synthetic": "synthetic",
    "voc": "voc",
}
"""The file of each data set, which holds a function of the same name. A function
without the argument `data_dir` makes a data set without files."""

_module = loader("tf_levelset.datasets", {file: f".{file}" for file in FILES.values()})


def list_datasets() -> tuple[str, ...]:
    """Returns the names that `load_dataset` accepts, sorted."""
    return tuple(sorted(FILES))


def load_dataset(
    name: str,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Source:
    """Returns a split of a data set, chosen by name.

    Args:
        name: One of `list_datasets()`.
        split: The split, such as `"train"` or `"val"`.
        data_dir: The folder that holds the data set's files; None for `"synthetic"`,
            which has none.
        **options: Further arguments of the data set's own function, such as `sbd_dir`.

    Returns:
        A `Source`.

    Raises:
        ValueError: If the name or an option is unknown, an option has a wrong type, or
            `data_dir` is missing or not needed.
        FileNotFoundError: If the data set's files are missing.

    Example:
        >>> load_dataset("synthetic", "val", num_samples=2).class_names[:2]
        ('background', 'ellipse')
    """
    for option, value in {"data_dir": data_dir, **options}.items():
        if option.endswith(("_dir", "_file")):
            is_path = value is None or isinstance(value, str | os.PathLike)
            expect(is_path, f"`{option}` to be a path", value)
    known = list_datasets()
    expect(name in known, f"`name` to be one of {known}", name)
    function = getattr(_module(FILES[name]), FILES[name])
    if "data_dir" not in inspect.signature(function).parameters:
        absent = f"no `data_dir` for {name!r}, which has no files"
        expect(data_dir is None, absent, data_dir)
        return call_with_options(name, function, split=split, **options)
    expect(data_dir is not None, f"`data_dir`, the folder of {name!r}", data_dir)
    return call_with_options(name, function, data_dir, split=split, **options)
