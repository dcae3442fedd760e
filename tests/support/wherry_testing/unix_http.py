"""HTTP/1.1 over a unix socket."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path


class UnixConnection(http.client.HTTPConnection):
    """A connection to whoever listens on a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("wherry")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


class Answer:
    """A whole answer; the names of its headers are in lower case."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()


def get(socket_path: Path, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    """Asks once; headers are given with `_` for `-`."""
    connection = UnixConnection(socket_path)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return Answer(connection.getresponse())
    finally:
        connection.close()
