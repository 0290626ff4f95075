"""Requests the mask of an image from TensorFlow Serving, over REST.

    python docs/examples/serving_client.py image.jpg mask.png

It needs only NumPy and Pillow.
"""

from __future__ import annotations

import argparse
import base64
import json
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image


def mask_over_rest(url: str, content: bytes, timeout: float = 30.0) -> np.ndarray:
    """Returns the mask of a JPEG or PNG file, from the REST endpoint `encoded`.

    Args:
        url: URL of the model, such as "http://localhost:8501/v1/models/camvid".
        content: Content of the file.
        timeout: Longest time to wait, in seconds.

    Returns:
        The class of each pixel, uint8 (H, W).

    Raises:
        ValueError: If the server refuses the request, with its message.
    """
    encoded = {"b64": base64.b64encode(content).decode()}
    body = {"signature_name": "encoded", "inputs": {"encoded": [encoded]}}
    request = urllib.request.Request(
        f"{url}:predict",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            outputs = json.load(response)["outputs"]
    except urllib.error.HTTPError as error:
        raise ValueError(
            f"Expected a mask. Received: {error.code}, {error.read().decode()}"
        ) from error
    return np.array(outputs["mask"][0], np.uint8)


def main() -> None:
    """Writes the mask of an image as a greyscale PNG file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path, help="JPEG or PNG file")
    parser.add_argument("mask", type=Path, help="PNG file to write")
    parser.add_argument("--model", default="camvid", help="name on the server")
    parser.add_argument(
        "--rest", default="http://localhost:8501", help="URL of the server"
    )
    options = parser.parse_args()
    content = options.image.read_bytes()
    mask = mask_over_rest(f"{options.rest}/v1/models/{options.model}", content)
    Image.fromarray(mask).save(options.mask)


if __name__ == "__main__":
    main()
