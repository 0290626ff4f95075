"""The command `python -m tf_levelset.server`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

from tf_levelset.checks import optional_library, sentence
from tf_levelset.commands.terminal import write_any_text
from tf_levelset.export.versions import NewestVersion


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves a model until SIGTERM or SIGINT; exits with 1 after a user's error."""
    write_any_text()
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
    add("--max-bytes", type=int, default=2**24, help="of a request")
    add("--max-pixels", type=int, default=2**22, help="of a request")
    add("--max-files", type=int, default=16, help="of a request")
    add("--max-clients", type=int, default=32, help="connections; others get code 503")
    add("--threads", type=int, default=2, help="requests predicted at the same time")
    add("--poll-seconds", type=float, default=1.0, help="interval to look for versions")
    options = command.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    try:
        uvicorn = optional_library("uvicorn", "starlette uvicorn")
        optional_library("starlette.applications", "starlette uvicorn")
        from tf_levelset.server.http import Limits, application

        newest = NewestVersion(options.folder)
    except (ValueError, OSError, ImportError) as error:
        command.exit(1, f"{command.prog}: error: {sentence(error)}\n")
    Thread(target=newest.watch, args=[options.poll_seconds], daemon=True).start()
    limits = Limits(options.max_bytes, options.max_pixels, options.max_files)
    uvicorn.run(
        application(newest, options.name, limits, options.threads),
        host=options.host,
        port=options.port,
        # Uvicorn counts the connection that asks, and refuses from this number on.
        limit_concurrency=options.max_clients + 1,
        # Clients should be the first to close an idle connection.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=30,
        log_level="warning",
        ws="none",
    )


if __name__ == "__main__":
    main()
