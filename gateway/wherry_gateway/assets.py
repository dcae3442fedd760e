"""The static process: the web page, the OpenAPI document and the descriptor set, on a unix socket behind Envoy.

WhiteNoise decides about files (types, ETags, ranges, what is compressed already); Granian speaks HTTP, embedded in this
one process: its other modes fork workers, which outlive a parent that is killed.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import os
import signal
import socket
import stat
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn
from wsgiref.headers import Headers

from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server.embed import Server
from wherry_chassis.access import build_table
from wherry_chassis.buildout import Buildout, BuildoutError
from wherry_chassis.logging import logger
from whitenoise import WhiteNoise
from whitenoise.compress import Compressor

from wherry_gateway.descriptors import methods_under, public_set
from wherry_gateway.envoy.bootstrap import gateway_of
from wherry_gateway.envoy.clusters import ASSETS_SOCKET
from wherry_gateway.openapi import document_bytes

_DOCUMENTS_NAME = "documents"

_INDEX = "/index.html"
_HASHED = "/assets/"
"""Below it names change with contents, so copies may be kept for good."""
_YEAR_S = 365 * 86400
_PIECE_BYTES = 64 << 10
_NOT_KEPT = ("Cache-Control", "no-store")

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class Files:
    """The files of a page and of other folders. A page whose index.html is replaced is read anew."""

    def __init__(self, page: Path, *others: Path) -> None:
        self._folders = (page, *others)
        self._index = page / _INDEX.lstrip("/")
        self._mark: tuple[int, ...] = ()
        self._found: Mapping[str, Any] = {}

    def find(self, path: str) -> Any:
        """Returns the file at a path: index.html where the page has a screen and not a file, None for no such asset."""
        self._refresh()
        return self._found.get(path) or (None if path.startswith(_HASHED) else self._found.get(_INDEX))

    def _refresh(self) -> None:
        """Reads the folders if index.html is another one than last time: a new page needs no restart."""
        try:
            now = self._index.stat()
        except FileNotFoundError:
            return  # it is being replaced
        if (mark := (now.st_ino, now.st_mtime_ns, now.st_size)) != self._mark:
            self._found = _read(self._folders)
            self._mark = mark


class Application:
    """Serves files to GET and HEAD over ASGI."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def __call__(self, scope: Mapping[str, Any], _receive: object, send: Send) -> None:
        """Answers one request."""
        if scope["method"] not in ("GET", "HEAD"):
            await _say(send, HTTPStatus.METHOD_NOT_ALLOWED, [("Allow", "GET, HEAD")])
        elif (response := self._response(scope)) is None:
            await _say(send, HTTPStatus.NOT_FOUND, [])
        else:
            await _serve(response, send)

    def _response(self, scope: Mapping[str, Any]) -> Any:
        file = self._files.find(scope["path"])
        try:
            return None if file is None else file.get_response(scope["method"], _environ(scope))
        except FileNotFoundError:
            return None  # gone since its folder was read


def run_assets(buildout: Buildout, page: Path | None = None) -> NoReturn:
    """Serves until SIGTERM or SIGINT, then ends the process.

    Args:
        buildout: the deployment; `gateway.state` is where the socket is made, for this user alone.
        page: the built page; the one that is installed if not given.

    Raises:
        BuildoutError: the deployment has no gateway, the page is not built, or another process serves here.
    """
    state = gateway_of(buildout).state
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    page = page or Path(str(importlib.resources.files("wherry_gateway"))) / "page"
    if not (page / _INDEX.lstrip("/")).is_file():
        raise BuildoutError(f"the web page is not built: {page} has no index.html; `make setup` builds it")
    address = _free_address(state / ASSETS_SOCKET)
    files = Files(page, _write_documents(state / _DOCUMENTS_NAME, buildout))
    asyncio.run(_serve_until_signal(Application(files), address))
    _leave()


def _read(folders: Sequence[Path]) -> Mapping[str, Any]:
    reader = WhiteNoise(
        None,
        max_age=None,
        allow_all_origins=False,
        add_headers_function=_revalidated,
        immutable_file_test=lambda _path, url: url.startswith(_HASHED),
    )
    reader.FOREVER = _YEAR_S
    for folder in folders:
        reader.add_files(str(folder))
    found: Mapping[str, Any] = reader.files
    return found


def _revalidated(headers: Headers, _path: str, _url: str) -> None:
    if "Cache-Control" not in headers:
        headers["Cache-Control"] = "no-cache"  # kept, and asked for again by its ETag


def _write_documents(folder: Path, buildout: Buildout) -> Path:
    """Writes what programs read, compressed too: Envoy does not compress what has an ETag."""
    folder.mkdir(mode=0o700, exist_ok=True)
    compressor = Compressor(quiet=True)
    contents = {
        "openapi.json": document_bytes(methods_under(build_table(buildout.access).rpcs)),
        "contracts.binpb": public_set().SerializeToString(deterministic=True),
    }
    for name, content in contents.items():
        path = folder / name
        path.write_bytes(content)
        compressor.compress(str(path))
    return folder


def _free_address(path: Path) -> Path:
    """Returns the socket's path after removing what a killed process left there."""
    if len(os.fsencode(path)) > 107:  # sockaddr_un (unix(7))
        raise BuildoutError(f"gateway.state: {path} is too long for a socket's name; choose a shorter folder")
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise BuildoutError(f"{path} is in the way; remove it")
    except FileNotFoundError:
        return path
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return path
    raise BuildoutError(f"another process serves at {path}; stop it first")


async def _serve_until_signal(application: Application, address: Path) -> None:
    server = Server(
        application,
        uds=address,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        log_level=LogLevels.error,  # its warning that embedding is young is known
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    os.umask(0o177)  # the socket is this user's alone from its first moment
    server.on_startup(lambda: logger().info("serving", listen=str(address)))
    await server.serve()
    logger().info("stopped")


def _leave() -> NoReturn:
    """Ends the process without taking the interpreter apart.

    Granian's threads outlive its `serve`, and abort the process where one asks for an interpreter that is going.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


async def _serve(response: Any, send: Send) -> None:
    if response.file is None:
        await _answer(send, response.status, response.headers, b"")
        return
    with response.file as file:
        await _start(send, response.status, response.headers)
        while piece := file.read(_PIECE_BYTES):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _say(send: Send, status: HTTPStatus, headers: list[tuple[str, str]]) -> None:
    text = f"{status.phrase}\n".encode()
    headers = [*headers, ("Content-Type", "text/plain"), ("Content-Length", str(len(text))), _NOT_KEPT]
    await _answer(send, status, headers, text)


async def _answer(send: Send, status: HTTPStatus, headers: list[tuple[str, str]], body: bytes) -> None:
    await _start(send, status, headers)
    await send({"type": "http.response.body", "body": body})


async def _start(send: Send, status: HTTPStatus, headers: list[tuple[str, str]]) -> None:
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": int(status), "headers": raw})


def _environ(scope: Mapping[str, Any]) -> dict[str, str]:
    """Returns a request's headers the way that WhiteNoise reads them (CGI's)."""
    return {
        f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode("latin-1") for name, value in scope["headers"]
    }
