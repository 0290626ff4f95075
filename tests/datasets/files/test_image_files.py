"""Image files: upright, in all formats, and refused where they would be misread."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from bad_files import chunk, gif_bomb, png_bomb
from PIL import Image, ImageOps

from tf_levelset.datasets.files.images import common_size, decode_image, read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
read_in_graph = tf.function(read_image, input_signature=[tf.TensorSpec((), tf.string)])


def encoded(format: str, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (5, 4), 1).save(stream, format=format)
    return stream.getvalue()


def hidden_header(png: bytes) -> bytes:
    """A PNG file that begins with a chunk, to be skipped, that states a small size."""
    return png[:8] + chunk(b"abCd", bytes([0, 0, 0, 1, 0, 0, 0, 1])) + png[8:]


@pytest.mark.parametrize("decode", [decode_image, tf.function(decode_image)])
class TestDecodeImage:
    @pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP"])
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_returns_rgb(self, decode: Any, format: str, mode: str) -> None:
        content = tf.constant(encoded(format, mode))
        if (format, mode) == ("BMP", "L"):
            with pytest.raises(tf.errors.InvalidArgumentError, match="with a palette"):
                decode(content)
            return
        image = decode(content)
        assert (image.shape, image.dtype) == ((4, 5, 3), tf.uint8)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (png_bomb(13400, 13400, 1, whole=True), "at most 178956970 pixels"),
            (png_bomb(2**31 - 1, 2**31 - 1, 3, whole=False), "at most 178956970"),
            (
                hidden_header(png_bomb(13400, 13400, 1, whole=True)),
                "without its header",
            ),
            (encoded("GIF", "P"), "a JPEG, PNG or BMP file"),
            (gif_bomb(3000, 3000, 1000), "a JPEG, PNG or BMP file"),
            (b"", None),
            (b"\x89PNG", None),
            (b"BM", None),
            (b"\xff\xd8\xff", None),
        ],
    )
    def test_refuses_other_files_before_it_unpacks_them(
        self, decode: Any, content: bytes, message: str | None
    ) -> None:
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            decode(tf.constant(content))


def test_its_graph_can_be_saved() -> None:
    graph = tf.function(decode_image).get_concrete_function(
        tf.TensorSpec((), tf.string)
    )
    nodes = graph.graph.as_graph_def()
    operations = {node.op for f in nodes.library.function for node in f.node_def}
    assert "DecodeImage" in operations
    assert not any("PyFunc" in operation for operation in operations)


# --- Orientation ---


def with_orientation(
    path: Path, orientation: int, order: str = "<", pixels: np.ndarray = PIXELS
) -> Path:
    exif = Image.Exif()
    exif.endian = order
    exif[271], exif[274] = "a maker", orientation
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_images_are_turned_upright(tmp_path: Path, suffix: str, order: str) -> None:
    plain = read_image(str(with_orientation(tmp_path / f"1.{suffix}", 1, order)))
    for orientation in range(10):
        path = tmp_path / f"{orientation}.{suffix}"
        with_orientation(path, orientation, order)
        # Decoders of JPEG files differ, so that Pillow turns what ours has decoded.
        lossless = with_orientation(tmp_path / "l.tif", orientation, "<", plain.numpy())
        with Image.open(lossless) as opened:
            expected = np.array(ImageOps.exif_transpose(opened))
        np.testing.assert_array_equal(read_image(str(path)), expected)
        np.testing.assert_array_equal(read_in_graph(str(path)), expected)
        assert common_size([str(path)]) == expected.shape[:2]


def test_exif_data_may_follow_the_pixels_of_a_png(tmp_path: Path) -> None:
    png = with_orientation(tmp_path / "a.png", 6).read_bytes()
    start = png.index(b"eXIf") - 4
    stop = start + 12 + struct.unpack(">I", png[start : start + 4])[0]
    late = png[:start] + png[stop:-12] + png[start:stop] + png[-12:]
    (tmp_path / "a.png").write_bytes(late)
    path = str(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(path), np.rot90(PIXELS, -1))
    assert common_size([path]) == (6, 4)


# --- Formats ---


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *(("P", suffix) for suffix in ("bmp", "gif", "tif", "png")),
        *(("L", suffix) for suffix in ("bmp", "gif", "tif", "webp")),
        *(("1", suffix) for suffix in ("bmp", "gif", "tif", "png")),
        *(("LA", suffix) for suffix in ("png", "tif")),
        *(("CMYK", suffix) for suffix in ("jpg", "tif")),
        *(("RGBA", suffix) for suffix in ("png", "tif", "webp")),
    ],
)
def test_all_formats_have_their_colours(tmp_path: Path, mode: str, suffix: str) -> None:
    image = Image.fromarray(PIXELS)
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    path = tmp_path / f"a.{suffix}"
    image.save(path, lossless=True)
    with Image.open(path) as opened:
        expected = np.array(opened.convert("RGB"))
    read = read_image(str(path)).numpy()
    np.testing.assert_allclose(read, expected, atol=3 if suffix == "jpg" else 0)
    np.testing.assert_array_equal(read_in_graph(str(path)), read)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("brightest", [0, 255, 1952, 2**14 - 1, 2**14, 2**16 - 1])
def test_16_bits_are_read_if_their_range_is_known(
    tmp_path: Path, suffix: str, brightest: int
) -> None:
    values = np.linspace(0, brightest, 24).astype(np.uint16).reshape(4, 6)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(values).save(path)
    if brightest in (0, 2**14, 2**16 - 1):
        expected = np.repeat(values[..., np.newaxis] // 256, 3, axis=2)
        np.testing.assert_array_equal(read_image(str(path)), expected)
        return
    message = rf"of 16384 or more, .* 8 bits\. Received: {brightest}"
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=message):
        read_image(str(path))


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif"])
def test_files_of_several_images_are_refused(tmp_path: Path, suffix: str) -> None:
    images = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    path = tmp_path / f"a.{suffix}"
    images[0].save(path, save_all=True, append_images=images[1:])
    with pytest.raises(ValueError, match=r"a file of one image.*several pages"):
        read_image(str(path))


def test_smaller_copies_in_a_tiff_do_no_harm(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    copy = image.resize((3, 2))
    copy.encoderinfo = {"tiffinfo": {254: 1}}
    image.save(tmp_path / "a.tif", save_all=True, append_images=[copy])
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.tif")), PIXELS)
