"""The entry point of `tf-levelset`: parses the command line and runs a command."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType

from tf_levelset.checks import sentence
from tf_levelset.commands import (
    check_data,
    evaluate,
    export,
    figures,
    predict,
    report,
    submit,
    tables,
    train,
)
from tf_levelset.commands.terminal import write_any_text

COMMANDS: dict[str, ModuleType] = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "submit": submit,
    "figures": figures,
    "tables": tables,
    "report": report,
    "check-data": check_data,
}
"""The module of each command. Its docstring is the command's help."""

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 plus the number of SIGINT, as shells report it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: The command line without the program's name. By default the
            arguments of the process.

    Returns:
        The exit code: 0, 1 after an error that the user can correct, or 130 after
        Ctrl-C.

    Raises:
        SystemExit: With code 2 if the command line is not valid, and with code 0 after
            `--help` and `--list-recipes`.
    """
    write_any_text()
    options = parser().parse_args(arguments)
    try:
        with _warnings_in_a_line():
            _load_tensorflow()
            options.run(options)
    except KeyboardInterrupt:
        print(options.if_stopped)
        return INTERRUPTED
    except Exception as error:
        if not _is_of_user(error):
            raise
        print(f"tf-levelset: error: {sentence(error)}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line.

    The options that it returns have `run`, the function of the command, and
    `if_stopped`, what to print after Ctrl-C.
    """
    top = argparse.ArgumentParser(
        prog="tf-levelset", description="Level set loss for semantic segmentation."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        text = (module.__doc__ or "").strip()
        command = commands.add_parser(
            name, help=text.partition("\n")[0], description=text
        )
        command.set_defaults(run=module.run, if_stopped="Stopped.")
        module.add_arguments(command)
    return top


@contextlib.contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Shows warnings without the place in the code that they come from."""

    def line(message: Warning | str, *_: object) -> str:
        return f"tf-levelset: warning: {message}\n"

    before = warnings.formatwarning
    warnings.formatwarning = line  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.formatwarning = before


def _load_tensorflow() -> None:
    """Imports TensorFlow and the classes of this package that Keras must know.

    TensorFlow's messages about devices and libraries are hidden, unless the user asks
    for them by TF_CPP_MIN_LOG_LEVEL. Its libraries write some lines to the file
    descriptor of stderr, whatever that level is, before their logging is initialized.
    """
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    wanted = level in ("0", "1") or "tensorflow" in sys.modules
    with contextlib.nullcontext() if wanted else _stderr_discarded():
        importlib.import_module("tf_levelset.registered")


@contextlib.contextmanager
def _stderr_discarded() -> Iterator[None]:
    """Discards what is written to file descriptor 2, by libraries in C++ too."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _is_of_user(error: Exception) -> bool:
    """Returns whether the user can correct an error; else it is a defect of ours."""
    import tensorflow as tf

    libraries = (MemoryError, tf.errors.OpError)
    return isinstance(error, (ValueError, OSError, ImportError, *libraries))
