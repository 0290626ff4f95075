"""Damaged model files and images: the right probabilities, or refused with a reason.

They are read in a child process, so that a library may crash, hang or fill the memory.
Chosen cases, each with its message, are in test_safe_loading.py.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from bad_files import damaged, encoded, png_bomb, with_size
from bad_input import Refused, bounded_answer_of, examples
from hypothesis import given
from hypothesis import strategies as st
from made_up_models import CONFIG, PICTURE, WEIGHTS, saved, tiny_net, zipped

from tf_levelset.inference.predictor import KerasPredictor, SavedModelPredictor
from tf_levelset.models.weights import load_weights


def answer_of_archive(content: bytes) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        path.write_bytes(content)
        return KerasPredictor.load(path)(PICTURE)


def start_from(name: str, content: bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        return str(load_weights(target(), path, backbone="vgg16"))


@functools.cache
def target() -> Any:
    return tiny_net()


def answer_of_saved_model(files: dict[str, bytes]) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), files)
        return SavedModelPredictor(Path(folder))(PICTURE)


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def is_right(answer: Any) -> bool:
    return isinstance(answer, Refused) or np.allclose(
        answer, saved().probabilities, rtol=1e-5, atol=1e-6
    )


@examples(12)
@given(st.deferred(lambda: damaged(saved().archive)))
def test_a_damaged_archive(content: bytes) -> None:
    assert is_right(bounded_answer_of(answer_of_archive, content))


@examples(10)
@given(st.sampled_from([CONFIG, WEIGHTS]), st.data())
def test_a_damaged_member_whose_checksum_is_right(
    name: str, data: st.DataObject
) -> None:
    members = saved().members()
    content = zipped({**members, name: data.draw(damaged(members[name]))})
    answer = bounded_answer_of(answer_of_archive, content)
    assert isinstance(answer, Refused) or np.isfinite(answer).all()


@examples(8)
@given(st.booleans(), st.data())
def test_damaged_weights_to_start_from(whole: bool, data: st.DataObject) -> None:
    name = "model.keras" if whole else WEIGHTS
    before = saved().archive if whole else saved().members()[WEIGHTS]
    bounded_answer_of(start_from, name, data.draw(damaged(before)))


@examples(10)
@given(st.data())
def test_a_damaged_saved_model(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(saved().exported)))
    files = {**saved().exported, name: data.draw(damaged(saved().exported[name]))}
    assert is_right(bounded_answer_of(answer_of_saved_model, files))


@functools.cache
def served() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), dict(saved().exported))
        return tf.saved_model.load(folder)


def answer_of_images(contents: list[bytes]) -> dict[str, np.ndarray]:
    answer = served().signatures["encoded"](encoded=tf.constant(contents))
    return {name: value.numpy() for name, value in answer.items()}


@examples(15)
@given(st.sampled_from(["PNG", "JPEG", "BMP", "GIF"]), st.data())
def test_damaged_images_that_are_served(format: str, data: st.DataObject) -> None:
    content = encoded(PICTURE, format)
    kind = data.draw(st.sampled_from(["sound", "damaged", "bomb", "size", "two sizes"]))
    contents = [content]
    if kind == "damaged":
        contents = [data.draw(damaged(content))]
    elif kind == "bomb":
        contents = [png_bomb(13400, 13400, 1, True)]
    elif kind == "size" and format in ("PNG", "JPEG"):
        contents = [
            with_size(content, *data.draw(st.tuples(*[st.integers(0, 3000)] * 2)))
        ]
    elif kind == "two sizes":
        contents = [content, encoded(PICTURE[1:], format)]
    answer = bounded_answer_of(answer_of_images, contents)
    if isinstance(answer, Refused):
        assert contents != [content] or format == "GIF"
        return
    assert kind not in ("bomb", "two sizes")
    assert np.isfinite(answer["probabilities"]).all()
    assert answer["mask"].shape == answer["probabilities"].shape[:-1]
