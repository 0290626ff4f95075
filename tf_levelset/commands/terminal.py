"""Texts on terminals whose encoding lacks some of their characters."""

from __future__ import annotations

import codecs
import sys

_IN_ASCII = str.maketrans(
    {
        **{"λ": "lambda", "ε": "epsilon", "δ": "delta", "φ": "phi", "σ": "sigma"},
        **{"–": "-", "—": "-", "−": "-", "×": "x", "·": "*", "±": "+-", "≥": ">="},
        **{"…": "...", "’": "'", "≤": "<=", "á": "a"},
    }
)
_HANDLER = "tf_levelset.ascii"


def write_any_text() -> None:
    """Makes stdout and stderr write what their encoding lacks in ASCII.

    Without it, a character such as λ, or a file name that is not UTF-8, would raise an
    error on a terminal of Windows, or with PYTHONIOENCODING=ascii.
    """
    codecs.register_error(_HANDLER, _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # not of a StringIO
        if reconfigure is not None:
            reconfigure(errors=_HANDLER)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end].translate(_IN_ASCII)
    return lacking.encode("ascii", "backslashreplace").decode(), error.end
