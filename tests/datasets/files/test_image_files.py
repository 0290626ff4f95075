from __future__ import annotations

import io
from typing import Any

import pytest
import tensorflow as tf
from bad_files import chunk, gif_bomb, png_bomb
from PIL import Image

from tf_levelset.datasets.files.images import decode_image


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
        image = decode(tf.constant(encoded(format, mode)))
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
