"""Where the time of compiled code goes: XLA's kernels by TensorFlow's profiler."""

from __future__ import annotations

import collections
import tempfile
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

CALLS = 10
LARGEST = 12
"""Kernels that are told; the others are small."""


def kernel_seconds(function: Callable[[], None]) -> dict[str, float]:
    """Returns the seconds a call spends in each of XLA's largest kernels.

    A kernel's threads run at the same time: the seconds are those that pass.

    Args:
        function: compiled; it is called some times before and while it is watched.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    function()
    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=3)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder, options=options)
        for _ in range(CALLS):
            function()
        tf.profiler.experimental.stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    seconds: collections.Counter[str] = collections.Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if _is_kernel(name):
                    seconds[name] += event.duration_ps * 1e-12 / CALLS
    return dict(seconds.most_common(LARGEST))


def _is_kernel(name: str) -> bool:
    """Tells XLA's fused loops from what calls them."""
    return "fusion" in name or name.startswith("wrapped_")
