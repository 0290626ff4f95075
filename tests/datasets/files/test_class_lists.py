"""Lists of classes: every form is read as it is meant, or refused with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bad_input import examples
from hypothesis import given
from hypothesis import strategies as st

from tf_levelset.datasets.files.class_lists import class_list, read_classes


@examples(20)
@given(
    names=st.lists(
        st.text(st.characters(categories=["L"]), min_size=1).filter("void".__ne__),
        min_size=2,
        max_size=6,
        unique=True,
    ),
    values=st.permutations(range(255)),
)
def test_ids_are_those_in_the_list(names: list[str], values: list[int]) -> None:
    ids = dict(zip(names, values, strict=False))
    found = class_list([(name, (value,)) for name, value in ids.items()])
    assert found.names == tuple(names)
    classes = {value: index for index, value in enumerate(ids.values())}
    assert found.label_ids == {255: 255, **classes}


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("disc,1\nground,0\n", {"1": "disc", "0": "ground"}),
        ("disc;1\r\nground ; 0\r\n", {"1": "disc", "0": "ground"}),
        ("disc: 1 # round\n\n# all else\nground: 0,\n", {"1": "disc", "0": "ground"}),
        ('"zone 1"\n"zone 2"\n', {"0": "zone 1", "1": "zone 2"}),
        ('"zone 1" 7\n"2 # 3",5\n', {"7": "zone 1", "5": "2 # 3"}),
        ("phase 2 disc\nwall, brick\n", {"0": "phase 2 disc", "1": "wall, brick"}),
        ("a,1,2,3\nb\t4 5\t6\n", {"1 2 3": "a", "4 5 6": "b"}),
    ],
)
def test_forms_of_lines(tmp_path: Path, text: str, stored: dict[str, str]) -> None:
    (tmp_path / "classes.txt").write_text(text)
    assert read_classes(tmp_path, "classes.txt").stored == stored


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 2\nb 3\n\n7\n", r"RED GREEN BLUE.*line 1: a 1 2', 'line 4: 7'"),
        ("0 ground\n1 disc\n", r"double quotes.*line 1: 0 ground', 'line 2: 1 disc'"),
        ("Pixel Value, Class\n0, ground\n1, disc\n", r"\['line 2: 0, ground', 'line 3"),
        ("name,id\nground,0\ndisc,1\n", r"\[0, 1\] values.*name,id.*line 3: disc,1"),
        ("zone 1\nzone 2\n", r"double quotes. Rec.*zone twice \(line 2: zone 2\)"),
        ("ground\nzone 2\n", r"\[0, 1\] values \(line 1: ground\) \(line 2: zone 2\)"),
        *(
            (f"ground 0\n{line}\n", re.escape(f"line 2: {line}"))
            for line in (
                "disc -1",
                "disc 1.0",
                "disc (1)",
                "disc=1",
                "1) disc",
                "1. disc",
            )
        ),
        ('{"disc": 1}\nground 0\n', "line 1: {"),
        ("a 1\nb\n", r"entries with \[0, 1\] values"),
        ("a\nb\na\n", "a twice"),
        ("a 3\nb 3\n", r"\[3\] twice \(line 2: b 3\)"),
        ("a 256 0 0\nb 0 0 0\n", r"\[256, 0, 0\], not in \[0, 255\] \(line 1"),
        ("a\n# b\n", "1 classes"),
    ],
)
def test_other_lines_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_classes(tmp_path, "classes.txt")
