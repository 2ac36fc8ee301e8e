"""`dln explore`: a server on this machine, its address, and a browser that shows it."""

from __future__ import annotations

import importlib.util
import secrets
import socket
import sys
import webbrowser

from dln.errors import ConfigError

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
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise ConfigError(f'dln explore needs {" and ".join(missing)}: pip install "dln[explore]"')
    with listening(port) as at:
        token = secrets.token_urlsafe(24)
        address = f"http://{ADDRESS}:{at.getsockname()[1]}/?token={token}"
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


def serve(at: socket.socket, token: str) -> None:
    """Answer at a socket until the process is interrupted."""
    import contextlib

    import uvicorn

    from dln.explorer.server import application
    from dln.explorer.worker import Worker

    worker = Worker()
    server = uvicorn.Server(
        uvicorn.Config(
            application(token, worker),
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
