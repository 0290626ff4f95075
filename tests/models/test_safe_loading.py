"""Models in files that are damaged, too large, or made to run code."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import made_up_models as made
import numpy as np
import pytest
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.inference.predictor import KerasPredictor, SavedModelPredictor
from tf_levelset.models.safe_loading import (
    SUMS_FILE,
    check_sums,
    load_keras,
    load_saved_model,
)

CODE = sorted(made.code_layers(Path("canary")))


@compat.register
class Doubled(keras.layers.Layer):
    """A class of a user's, registered with Keras."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return 2 * x


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model.keras"
    path.write_bytes(content)
    return path


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """An exported model."""
    for name, content in made.saved().exported.items():
        path = tmp_path / "served" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "served"


# --- `.keras` files ---


def test_a_sound_file_loads(tmp_path: Path) -> None:
    predictor = KerasPredictor.load(written(tmp_path, made.saved().archive))
    np.testing.assert_allclose(
        predictor(made.PICTURE), made.saved().probabilities, rtol=1e-5
    )


def test_registered_classes_and_activations_load(tmp_path: Path) -> None:
    images = keras.Input((4, 5, 3))
    x = keras.layers.Conv2D(2, 1, activation="softmax")(images)
    x = keras.layers.Activation(keras.activations.relu)(x)
    x = keras.layers.TimeDistributed(keras.layers.Dense(2))(x)
    model = keras.Model(images, Doubled()(x))
    model.compile("sgd", "mse", metrics=["mae"])
    model.save(tmp_path / "model.keras")
    loaded = load_keras(tmp_path / "model.keras")
    pixels = np.ones((1, 4, 5, 3), np.float32)
    np.testing.assert_allclose(loaded(pixels), model(pixels))


def test_a_flipped_bit_of_the_weights_never_passes(tmp_path: Path) -> None:
    # Keras reads weights past their checksum.
    whole = made.saved().archive
    start = whole.index(b"model.weights.h5") + 20_000
    for place in range(start, start + 1000, 97):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(ValueError, match=r"a wrong checksum of model\.weights\.h5"):
            load_keras(written(tmp_path, bytes(damaged)))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("kind", CODE)
def test_code_in_an_architecture_is_never_run(
    tmp_path: Path, kind: str, whole: bool
) -> None:
    canary = tmp_path / "canary"
    sys.modules.pop(made.NEVER_IMPORTED, None)
    layer = made.code_layers(canary)[kind]
    content = made.as_whole(layer) if whole else made.with_layer(layer, canary)
    with pytest.raises(ValueError, match=r"known classes and without code\. Received"):
        load_keras(written(tmp_path, content))
    assert not canary.exists()
    assert made.NEVER_IMPORTED not in sys.modules


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"../let_in": b""}, "members outside of the archive"),
        ({"a/../../let_in": b""}, "members outside of the archive"),
        ({"/let_in": b""}, "members outside of the archive"),
        ({"..\\let_in": b""}, "members outside of the archive"),
        ({"C:let_in": b""}, "members outside of the archive"),
        ({made.CONFIG: b"[" * 100_000}, "RecursionError"),
        ({made.CONFIG: b"{}"}, "Received"),
        ({made.WEIGHTS: b"no HDF5"}, "OSError"),
    ],
)
def test_archives_with_odd_members(
    tmp_path: Path, members: dict[str, bytes], message: str
) -> None:
    content = made.zipped({**made.saved().members(), **members})
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(ValueError, match=message):
        load_keras(written(inner, content))
    assert not (tmp_path / "let_in").exists()


def test_a_member_is_there_once(tmp_path: Path) -> None:
    path = written(tmp_path, made.saved().archive)
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(path, "a") as archive,
    ):
        archive.writestr(made.CONFIG, "{}")
    with pytest.raises(ValueError, match="or twice"):
        load_keras(path)


@pytest.mark.parametrize("member", [made.CONFIG, made.WEIGHTS, "assets/let_in"])
def test_archives_that_unpack_to_far_more(tmp_path: Path, member: str) -> None:
    content = made.archive_bomb(member)
    assert len(content) < 2**20
    with pytest.raises(ValueError, match="would unpack to"):
        load_keras(written(tmp_path, content))


def test_arrays_of_far_more_than_the_file(tmp_path: Path) -> None:
    def grow(weights: h5py.File) -> None:
        shape, chunks = (2**16, 2**14), (2**10, 2**10)
        weights.create_dataset("x", shape, "f4", chunks=chunks, compression="gzip")

    with pytest.raises(ValueError, match=r"arrays of 42949\d+ bytes in"):
        load_keras(written(tmp_path, made.with_weights(grow)))


@pytest.mark.parametrize("link", [h5py.SoftLink("/x"), h5py.ExternalLink("/x", "/")])
def test_arrays_lie_in_the_file(tmp_path: Path, link: object) -> None:
    def point(weights: h5py.File) -> None:
        weights["x"] = link

    with pytest.raises(ValueError, match="a link in the place of the array x"):
        load_keras(written(tmp_path, made.with_weights(point)))

    def spread(weights: h5py.File) -> None:
        weights.create_dataset("x", (3,), "f4", external=[("/etc/passwd", 0, 12)])

    with pytest.raises(ValueError, match="an array outside of the file, x"):
        load_keras(written(tmp_path, made.with_weights(spread)))


def test_weights_that_are_nan_raise_at_the_first_image(
    tmp_path: Path,
) -> None:
    def spoil(weights: h5py.File) -> None:
        def fill(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
                item[...] = np.nan

        weights.visititems(fill)

    predictor = KerasPredictor.load(written(tmp_path, made.with_weights(spoil)))
    with pytest.raises(ValueError, match="probabilities to be finite"):
        predictor(made.PICTURE)


# --- SavedModels ---


def test_sums_are_those_of_sha256sum(version: Path) -> None:
    lines = (version / "assets.extra" / SUMS_FILE).read_text().splitlines()
    names = {line.partition("  ")[2] for line in lines}
    files = {
        p.relative_to(version).as_posix() for p in version.rglob("*") if p.is_file()
    }
    assert names == files - {f"assets.extra/{SUMS_FILE}"}
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", f"assets.extra/{SUMS_FILE}"],
        cwd=version,
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout
    SavedModelPredictor(version)(made.PICTURE)


@pytest.mark.parametrize(
    "name",
    [
        "saved_model.pb",
        "variables/variables.index",
        f"assets.extra/{SUMS_FILE}",
    ],
)
def test_a_damaged_saved_model_is_told(version: Path, name: str) -> None:
    content = (version / name).read_bytes()
    (version / name).write_bytes(content[:20] + b"x" + content[21:])
    with pytest.raises(
        ValueError, match=r"Expected the files of .*as they were exported"
    ):
        load_saved_model(version)


def test_a_missing_file_is_told_and_one_more_is_not(version: Path) -> None:
    (version / "assets.extra" / "notes").write_text("more")
    load_saved_model(version)
    (version / "fingerprint.pb").unlink()
    with pytest.raises(ValueError, match=r"fingerprint\.pb"):
        load_saved_model(version)


@pytest.mark.parametrize(
    "line", [b"/etc/passwd", b"../../etc/passwd", b"a\0b", b"\xff", b"a" * 5000, b""]
)
def test_sums_of_what_lies_elsewhere_are_wrong(version: Path, line: bytes) -> None:
    path = version / "assets.extra" / SUMS_FILE
    path.write_bytes(path.read_bytes() + b"0" * 64 + b"  " + line + b"\n")
    with pytest.raises(ValueError, match="as they were exported"):
        check_sums(version)


@pytest.mark.parametrize("content", [b"", b"no model", None])
def test_without_sums_tensorflow_is_the_judge(
    version: Path, content: bytes | None
) -> None:
    (version / "assets.extra" / SUMS_FILE).unlink()
    check_sums(version)
    load_saved_model(version)
    path = version / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:500] if content is None else content)
    with pytest.raises(ValueError, match=r"Expected .* to be a whole SavedModel"):
        load_saved_model(version)
