"""A server of the explorer that runs in this process."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from dln.explorer.door import listening
from dln.explorer.server import TOKEN, application
from dln.explorer.worker import Worker
from tests.explorer.asking import body

KEY = "k-123"


@dataclass
class Running:
    port: int
    worker: Worker
    connections: list[http.client.HTTPConnection]

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"{self.origin}/?token={KEY}"

    def ask(self, question: dict, tab: str, number: int = 1) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.connections.append(connection)
        headers = {TOKEN: KEY, "origin": self.origin, "content-type": "application/json"}
        connection.request("POST", "/answer", body(question, tab, number), headers)
        return connection.getresponse()


@contextlib.contextmanager
def running_server() -> Iterator[Running]:
    """Run a server for the block."""
    import uvicorn

    at, own = listening(0), Worker()
    config = uvicorn.Config(application(KEY, own), log_level="warning", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True)
    thread.start()
    made = Running(at.getsockname()[1], own, [])
    try:
        yield made
    finally:
        for connection in made.connections:
            connection.close()
        server.should_exit = True
        thread.join(timeout=10)
        own.stop()
        at.close()
