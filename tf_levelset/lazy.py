"""Packages that load their public names when these are first used (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def loader(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns the `__getattr__` of a package.

    Args:
        package: The package's `__name__`.
        homes: For each public name the module that defines it, relative to the
            package, such as `".iou"`. A name that is its own home, `{"models":
            ".models"}`, stands for the module itself.

    Example:
    >>> __getattr__ = loader("numpy", {"linalg": ".linalg"})
    >>> __getattr__("linalg").__name__
    'numpy.linalg'
    """

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(homes[name], package)
        return module if homes[name] == f".{name}" else getattr(module, name)

    return __getattr__
