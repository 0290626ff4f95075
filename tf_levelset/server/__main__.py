"""The command `python -m tf_levelset.server`."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tf_levelset.export.versions import NewestVersion
from tf_levelset.server.requests import Limits

GRACE_SECONDS = 30
"""Time for the requests in progress when the server is told to stop."""


def serve(options: argparse.Namespace) -> None:
    """Serves a model until the process receives SIGTERM or SIGINT.

    Raises:
        ImportError: If Starlette or Uvicorn is not installed.
        ValueError: If the name is malformed, or no version can be loaded.
    """
    import uvicorn

    from tf_levelset.server.http import application

    if not re.fullmatch(r"[\w.-]+", options.name):
        raise ValueError(
            "Expected `--name` to consist of letters, digits, '_', '.' and '-'. "
            f"Received: {options.name!r}"
        )
    newest = NewestVersion(options.folder)
    threading.Thread(
        target=newest.watch, args=(options.poll_seconds,), daemon=True
    ).start()
    limits = Limits(options.max_bytes, options.max_pixels, options.max_files)
    uvicorn.run(
        application(newest, options.name, limits, options.threads),
        host=options.host,
        port=options.port,
        # Uvicorn counts the connection that asks, and refuses from this number on.
        limit_concurrency=options.max_clients + 1,
        timeout_graceful_shutdown=GRACE_SECONDS,
        log_level="warning",
        lifespan="off",
        ws="none",
    )


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    limits = Limits()
    command = argparse.ArgumentParser(
        prog="python -m tf_levelset.server",
        description="Serves the newest version of an exported model.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = command.add_argument
    add("folder", type=Path, help="the model's folder, written by tf-levelset export")
    add("--name", default="model", help="the model's name in URLs")
    add("--host", default="127.0.0.1", help="0.0.0.0 to be reached from elsewhere")
    add("--port", type=int, default=8501, help="the TCP port")
    add("--max-bytes", type=int, default=limits.num_bytes, help="of a request")
    add("--max-pixels", type=int, default=limits.pixels, help="of a request")
    add("--max-files", type=int, default=limits.files, help="of a request")
    add("--max-clients", type=int, default=32, help="connections; others get code 503")
    add("--threads", type=int, default=2, help="requests predicted at the same time")
    add("--poll-seconds", type=float, default=1.0, help="interval to look for versions")
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code, 1 after an error of the caller's."""
    options = parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    try:
        serve(options)
    except ImportError as error:
        message = "Expected Starlette and Uvicorn to be installed: "
        message += f"pip install 'tf_levelset[server]'. Received: {error}"
    except (ValueError, OSError) as error:
        message = str(error)
    else:
        return 0
    print(f"tf_levelset.server: error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
