from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tf_levelset.datasets import load_dataset

NAMES = ("camvid", "cityscapes", "folder", "pascal_context", "synthetic", "voc")


def test_names_are_listed_without_loading_tensorflow() -> None:
    # Under the name of the command line, whose help lists them.
    code = (
        "import sys; sys.argv = ['tf-levelset']; import tf_levelset.datasets as d;"
        "print(d.list_datasets(), {'tensorflow', 'keras', 'cv2'} & {*sys.modules})"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert run.stdout == f"{NAMES} set()\n"


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_its_function(name: str) -> None:
    message = "`split` to be one of" if name == "synthetic" else "no such|`data_dir`"
    message = message if name != "folder" else "list of classes"
    options: dict[str, Any] = {} if name == "synthetic" else {"data_dir": "nowhere"}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_dataset(name, "val" if options else "test", **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "imagenet"}, "`name` to be one of .*'camvid', 'cityscapes'"),
        ({"name": "voc"}, "Expected `data_dir`, the folder of 'voc'"),
        ({"name": "synthetic", "data_dir": "somewhere"}, "Expected no `data_dir`"),
        ({"name": "synthetic", "side": 3}, "Expected options that 'synthetic' takes"),
        ({"name": "synthetic", "seed": "0"}, "seed must be of type int"),
        ({"name": "voc", "data_dir": 3}, "Expected `data_dir` to be a path"),
        *(
            ({"name": "voc", "data_dir": ".", option: 3}, f"`{option}` to be a path")
            for option in ("sbd_dir", "list_file", "context_dir")
        ),
    ],
)
def test_rejects(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_dataset(**arguments)
