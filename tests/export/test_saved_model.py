"""The SavedModel: its versions, its endpoints, and its use without this package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from bad_files import encoded, gif_bomb, png_bomb

from tf_levelset.export.saved_model import export
from tf_levelset.models import at_input_size, create_model

CLASSES = 4
NAMES = ("sky", "road", "car", "tree")
# Multiples of the stride and of nothing, and smaller than the stride.
SIZES = [(17, 23), (32, 40), (33, 8), (5, 61), (1, 9), (2, 1)]
SCALES = [1.0, 0.5]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A batch of one image, uint8 (1, H, W, 3)."""
    # Squares of 4 pixels: finer noise would be grey at half the size.
    shape = (1, -(-height // 4), -(-width // 4), 3)
    squares = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return squares.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]


def net(input_scale: float = 1.0) -> keras.Model:
    """A small network, normalised at other scales, whose masks hold several classes."""
    keras.utils.set_random_seed(0)
    at_stride = create_model(
        "deeplab_largefov",
        CLASSES,
        width=0.05,
        depth=0.05,
        dilation=2,
        upsample=False,
        batch_norm=input_scale != 1,
    )
    draw = np.random.default_rng(0).uniform
    for layer in at_stride.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([draw(0.5, 2, w.shape) for w in layer.get_weights()])
    model = at_input_size(at_stride, input_scale)
    # The logits of a fresh network hardly vary: standardize them.
    logits = np.asarray(model(picture(65, 81).astype(np.float32), training=False))
    mean, deviation = logits.mean((0, 1, 2)), logits.std((0, 1, 2))
    last = at_stride.get_layer("fc8")
    kernel, bias = last.get_weights()
    last.set_weights([kernel / deviation, (bias - mean) / deviation])
    assert len(np.unique(expected(model, picture(65, 81))[0])) > 1
    return model


def tiny(num_classes: int) -> keras.Model:
    return keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Conv2D(num_classes, 1)]
    )


@pytest.fixture(scope="module", params=SCALES, ids=["scale1", "scale0.5"])
def model(request: pytest.FixtureRequest) -> keras.Model:
    return net(request.param)


@pytest.fixture(scope="module")
def exported(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(model, tmp_path_factory.mktemp("exported"), NAMES)


@pytest.fixture(scope="module")
def loaded(exported: Path) -> Any:
    return tf.saved_model.load(str(exported))


def expected(model: keras.Model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Keras model's masks and probabilities."""
    logits = np.asarray(model(images.astype(np.float32), training=False))
    return logits.argmax(-1), tf.nn.softmax(logits).numpy()


def assert_answers(
    outputs: dict[str, tf.Tensor], model: keras.Model, images: np.ndarray
) -> None:
    masks, probabilities = expected(model, images)
    assert set(outputs) == {"mask", "probabilities"}
    assert outputs["mask"].dtype == tf.uint8
    assert outputs["probabilities"].dtype == tf.float32
    np.testing.assert_array_equal(outputs["mask"], masks)
    np.testing.assert_allclose(outputs["probabilities"], probabilities, atol=1e-5)


# --- Endpoints ---


@pytest.mark.parametrize("size", SIZES)
def test_endpoints_agree_with_keras(
    model: keras.Model, loaded: Any, size: tuple[int, int]
) -> None:
    images = picture(*size)
    endpoints = loaded.signatures
    floats = tf.constant(images, tf.float32)
    assert_answers(endpoints["serving_default"](images=floats), model, images)
    assert_answers(endpoints["uint8"](images=tf.constant(images)), model, images)
    files = tf.constant([encoded(images[0], "PNG")])
    assert_answers(endpoints["encoded"](encoded=files), model, images)


def test_endpoints_take_batches(model: keras.Model, loaded: Any) -> None:
    images = np.concatenate([picture(17, 23, seed) for seed in range(3)])
    endpoints = loaded.signatures
    assert_answers(endpoints["uint8"](images=tf.constant(images)), model, images)
    files = tf.constant([encoded(image, "PNG") for image in images])
    assert_answers(endpoints["encoded"](encoded=files), model, images)


def test_encoded_takes_jpeg_grey_and_transparent_images(
    model: keras.Model, loaded: Any
) -> None:
    image = picture(17, 23)[0]
    jpeg = encoded(image, "JPEG")
    grey = np.repeat(image[..., :1], 3, axis=-1)
    transparent = np.dstack([image, image[..., 0]])
    for content, colours in [
        (jpeg, tf.io.decode_jpeg(jpeg, channels=3).numpy()),
        (encoded(image[..., 0], "PNG"), grey),
        (encoded(transparent, "PNG"), image),
    ]:
        outputs = loaded.signatures["encoded"](encoded=tf.constant([content]))
        assert_answers(outputs, model, colours[np.newaxis])


@pytest.mark.parametrize(
    "files",
    [
        [b""],
        [b"no image"],
        [png_bomb(13_400, 13_400, 1, whole=True)],
        [png_bomb(2**31 - 1, 2**31 - 1, 3, whole=False)],
        [gif_bomb(3000, 3000, 1000)],
        [encoded(picture(*size)[0], "PNG") for size in SIZES[:2]],
    ],
)
def test_encoded_refuses_other_files_large_ones_and_two_sizes(
    loaded: Any, files: list[bytes]
) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        loaded.signatures["encoded"](encoded=tf.constant(files))


def test_probabilities_are_float32_under_half_precision(tmp_path: Path) -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = tiny(CLASSES)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    folder = export(model, tmp_path)
    outputs = tf.saved_model.load(str(folder)).signatures["uint8"](
        images=tf.constant(picture(7, 9))
    )
    assert outputs["probabilities"].dtype == tf.float32
    np.testing.assert_allclose(tf.reduce_sum(outputs["probabilities"], -1), 1, 1e-6)


def test_weights_are_constants(loaded: Any) -> None:
    # TensorFlow folds nothing into the kernels of variables, and servers, which restore
    # them in another way than `tf.saved_model.load`, have none to restore.
    for endpoint in loaded.signatures.values():
        assert not endpoint.graph.variables


# --- Without this package ---

# Writes the masks of the images in a .npz file; the package cannot be imported.
ELSEWHERE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tf_levelset":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
import numpy as np
import tensorflow as tf

_, folder, pictures, masks = sys.argv
endpoint = tf.saved_model.load(folder).signatures["uint8"]
images = np.load(pictures)
np.savez(masks, **{k: endpoint(images=tf.constant(images[k]))["mask"] for k in images})
assert "tf_levelset" not in sys.modules
try:
    import tf_levelset
except ModuleNotFoundError:
    print("without tf_levelset")
"""


def test_loads_without_this_package(
    model: keras.Model, exported: Path, tmp_path: Path
) -> None:
    pictures = {f"{h}x{w}": picture(h, w) for h, w in SIZES}
    # One by one: NumPy's stub has its own keyword before **.
    np.savez(tmp_path / "pictures.npz", **pictures)  # type: ignore[arg-type]
    arguments = [exported, tmp_path / "pictures.npz", tmp_path / "masks.npz"]
    result = subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE, *map(str, arguments)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "without tf_levelset"
    with np.load(tmp_path / "masks.npz") as masks:
        assert set(masks) == set(pictures)
        for name, images in pictures.items():
            np.testing.assert_array_equal(masks[name], expected(model, images)[0])


# --- Folders ---


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_versions_are_numbered(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "net"
    assert export(tiny(2), folder) == folder / "1"
    assert export(tiny(2), folder) == folder / "2"
    assert export(tiny(2), folder, version=9) == folder / "9"
    (folder / "notes").mkdir()
    assert export(tiny(2), folder) == folder / "10"
    assert names_in(folder) == {"1", "2", "9", "10", "notes"}


def test_a_version_is_never_overwritten(tmp_path: Path) -> None:
    first = export(tiny(2), tmp_path)
    before = (first / "saved_model.pb").read_bytes()
    with pytest.raises(FileExistsError, match="Expected a version that"):
        export(tiny(3), tmp_path, version=1)
    assert (first / "saved_model.pb").read_bytes() == before
    assert names_in(tmp_path) == {"1"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    export(tiny(2), tmp_path)
    seen: list[str] = []

    def half(model: Any, folder: str, **options: Any) -> None:
        (Path(folder) / "saved_model.pb").write_bytes(b"half")
        (Path(folder) / "variables").mkdir()
        seen.extend(p.name for p in tmp_path.iterdir() if p.name.isdigit())
        raise error("no space left")

    monkeypatch.setattr(tf.saved_model, "save", half)
    with pytest.raises(error, match="no space left"):
        export(tiny(2), tmp_path, NAMES[:2])
    # A server did not see version 2 while it was being written, either.
    assert seen == ["1"]
    assert names_in(tmp_path) == {"1"}


def test_class_names_lie_beside_the_model(exported: Path, tmp_path: Path) -> None:
    names = json.loads((exported / "assets.extra" / "classes.json").read_text())
    assert names == list(NAMES)
    assert not (export(tiny(2), tmp_path) / "assets.extra/classes.json").exists()


def test_others_may_read_it(exported: Path) -> None:
    # A server may run as another user.
    assert exported.stat().st_mode & 0o055 == 0o055


# --- What cannot be exported ---


def test_nets_at_output_stride_raise(tmp_path: Path) -> None:
    model = create_model(
        "deeplab_largefov", CLASSES, width=0.05, dilation=2, upsample=False
    )
    with pytest.raises(ValueError, match="at_input_size"):
        export(model, tmp_path)
    assert names_in(tmp_path) == set()
    assert export(at_input_size(model), tmp_path).is_dir()


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        (2, {"version": 0}, "`version` to be positive"),
        (257, {}, "at most 256 classes. Received: 257"),
        (1, {"class_names": ("sky",)}, "Expected 2 class names"),
        (2, {"class_names": ("sky",)}, "Expected 2 class names"),
        (2, {"class_names": ("sky", "road", "car")}, "Expected 2 class names"),
    ],
)
def test_bad_arguments_raise(
    tmp_path: Path, classes: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        export(tiny(classes), tmp_path, **options)
    assert names_in(tmp_path) == set()


def test_256_classes_have_masks(tmp_path: Path) -> None:
    model = tiny(256)
    # The last class wins everywhere.
    model.set_weights([np.zeros((1, 1, 3, 256)), np.arange(256.0)])
    endpoint = tf.saved_model.load(str(export(model, tmp_path))).signatures["uint8"]
    mask = endpoint(images=tf.constant(picture(3, 4)))["mask"]
    np.testing.assert_array_equal(mask, np.full((1, 3, 4), 255))
