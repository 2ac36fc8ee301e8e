"""`dln explore`: a server on this machine, its address, and a browser that shows it."""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dln.errors import ConfigError

if TYPE_CHECKING:
    from IPython.display import IFrame

NEEDED = ("starlette", "uvicorn")
"""What the extra `explore` brings."""

ADDRESS = "127.0.0.1"
GOODBYE = 1
"""Seconds that answers under way have when the server ends."""


def explore(port: int = 0, browser: bool = True) -> None:
    """Serve the page until Ctrl-C.

    Args:
        port: Where to listen, on this machine alone; 0 takes a free one.
        browser: Whether to open the page, if a person looks at the terminal.

    Raises:
        ConfigError: What the extra brings is not installed, or the port is taken.
    """
    _check_installed()
    with listening(port) as at:
        token = secrets.token_urlsafe(24)
        address = _address(at, token)
        print(f"The explorer is at {address}\nCtrl-C ends it.", flush=True)
        if browser and sys.stdout.isatty():
            webbrowser.open(address)  # the connection waits in the socket until the server is up
        serve(at, token)


def listening(port: int) -> socket.socket:
    """Return a socket that listens on this machine alone.

    Raises:
        ConfigError: The port is taken, or none.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((ADDRESS, port))
        made.listen()
    except (OSError, OverflowError) as error:
        made.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--port {port}: {reason}; --port 0 takes a free one") from error
    return made


def explore_here(height: int = 900) -> IFrame:
    """Return the page for a cell of a notebook; it is served until Python ends.

    The notebook's own page must be of this machine too, at 127.0.0.1 or localhost.

    Args:
        height: Of the cell, in pixels.

    Raises:
        ConfigError: What the extra brings, or IPython, is not installed.
    """
    _check_installed((*NEEDED, "IPython"))
    from IPython.display import IFrame

    at, token = listening(0), secrets.token_urlsafe(24)
    threading.Thread(target=serve, args=(at, token, True), name="explorer server", daemon=True).start()
    return IFrame(_address(at, token), "100%", height, extras=['allow="clipboard-write"'])


def _check_installed(names: Sequence[str] = NEEDED) -> None:
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise ConfigError(f'the explorer needs {" and ".join(missing)}: pip install "dln[explore]"')


def _address(at: socket.socket, token: str) -> str:
    return f"http://{ADDRESS}:{at.getsockname()[1]}/?token={token}"


def serve(at: socket.socket, token: str, framed: bool = False) -> None:
    """Answer at a socket until the process is interrupted; `framed`: notebooks may hold the page."""
    import uvicorn

    from dln.explorer.server import application
    from dln.explorer.worker import Worker

    worker = Worker()
    server = uvicorn.Server(
        uvicorn.Config(
            application(token, worker, framed),
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=32,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=GOODBYE,
            h11_max_incomplete_event_size=16 * 1024,
        )
    )
    try:
        with contextlib.suppress(KeyboardInterrupt):  # the server has ended in order, and raises it again
            server.run(sockets=[at])
    finally:
        worker.stop()
