"""The three ways in which callers speak to the gateway, each with the same answer: JSON, gRPC-Web and native gRPC."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import grpc
from google.protobuf import json_format
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from wherry_testing.waiting import PATIENCE_S

Kind = Literal["json", "grpc", "grpc-web"]
KINDS: Sequence[Kind] = ("json", "grpc", "grpc-web")
_WITHIN_S = PATIENCE_S
_TRAILERS = 0x80
"""The flag of a gRPC-Web frame that holds trailers."""


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        code: name of the canonical code; `OK` for what is no error.
        message: that of the error.
        details: the whole error, where there is one.
        messages: serialized messages, for gRPC and gRPC-Web.
        http_status: for JSON and gRPC-Web; 0 for gRPC, whose client does not tell.
        headers: with names in small letters; gRPC's trailers too.
        body: for JSON and gRPC-Web.
    """

    code: str
    message: str = ""
    details: status_pb2.Status | None = None
    messages: list[bytes] = field(default_factory=list)
    http_status: int = 0
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    @property
    def info(self) -> error_details_pb2.ErrorInfo:
        """The error's ErrorInfo; fails where there is not exactly one, or it is not ours."""
        assert self.details is not None, f"{self.code}: {self.message}: no details: {self.body[:300]!r} {self.headers}"
        assert self.details.code == code_pb2.Code.Value(self.code)
        found = []
        for detail in self.details.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                found.append(info)
        (info,) = found
        assert info.domain == "wherry"
        return info

    @property
    def refusal(self) -> tuple[str, str]:
        """Code and reason of the error."""
        return (self.code, self.info.reason) if self.code != "OK" else ("OK", "")

    def header(self, name: str) -> str | None:
        """Returns the only value of a header, None where it is missing."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name}: {values}"
        return values[0] if values else None

    def json(self) -> Any:
        """Returns the body, read as JSON."""
        return json.loads(self.body)


class HttpCaller:
    """Asks over HTTP/1.1, JSON and gRPC-Web. One connection, made again when the gateway has closed it."""

    def __init__(self, host: str, port: int, ca: Path) -> None:
        self._address = (host, port)
        self._context = ssl.create_default_context(cafile=str(ca))
        self._connection = self._connect()

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def connected_from(self) -> int:
        """Returns the port of this end of the connection, which no other connection has."""
        assert self._connection.sock is not None
        return int(self._connection.sock.getsockname()[1])

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Sends a request and reads the answer, whatever it is; a `google.rpc.Status` is read as an error."""
        response = self._send(self._connection, method, path, body, headers or {})
        content = response.read()
        return _http_answer(response, content)

    def json(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Asks with a JSON body, for `body` that is not None."""
        content = None if body is None else json.dumps(body).encode()
        typed = {} if body is None else {"content-type": "application/json"}
        return self.ask(method, path, content, {**typed, **(headers or {})})

    def grpc_web(self, path: str, message: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Calls over gRPC-Web, as the page does."""
        web = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
        answer = self.ask("POST", path, _framed(message), {**web, **(headers or {})})
        if answer.http_status != 200:
            return answer
        messages, trailers = _frames(answer.body)
        return _grpc_answer(answer, messages, trailers)

    @contextlib.contextmanager
    def lines(
        self, path: str, headers: Mapping[str, str]
    ) -> Iterator[tuple[http.client.HTTPResponse, Iterator[bytes]]]:
        """Gives the response to a GET and its lines as they come, over a connection of its own that is closed after.

        It may be compressed with gzip.
        """
        connection = self._connect()
        try:
            response = self._send(connection, "GET", path, None, headers)
            yield response, _read_lines(response)
        finally:
            connection.close()

    @contextlib.contextmanager
    def web_stream(
        self, path: str, message: bytes, headers: Mapping[str, str]
    ) -> Iterator[Iterator[tuple[int, bytes]]]:
        """Gives the frames of a gRPC-Web stream as they come: (flag, content)."""
        connection = self._connect()
        try:
            web = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
            response = self._send(connection, "POST", path, _framed(message), {**web, **headers})
            yield _read_frames(response)
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(*self._address, timeout=_WITHIN_S, context=self._context)

    @staticmethod
    def _send(
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        try:
            connection.request(method, path, body, dict(headers))
            return connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            connection.close()  # it was closed behind the last answer
            connection.request(method, path, body, dict(headers))
            return connection.getresponse()
        except OSError:
            connection.close()
            raise


class GrpcCaller:
    """Calls over native gRPC, with serialized messages."""

    def __init__(self, host: str, port: int, ca: Path) -> None:
        credentials = grpc.ssl_channel_credentials(ca.read_bytes())
        self.channel = grpc.secure_channel(f"{host}:{port}", credentials)

    def close(self) -> None:
        """Closes the channel."""
        self.channel.close()

    def call(self, path: str, message: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Calls a method and reads the answer to its end."""
        call = self.stream(path, message, headers or ())
        messages: list[bytes] = []
        with contextlib.suppress(grpc.RpcError):
            messages.extend(call)
        return ended(call, messages)

    def stream(
        self, path: str, message: bytes = b"", headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    ) -> Any:
        """Returns the call, to be read message by message."""
        metadata = tuple(headers.items() if isinstance(headers, Mapping) else headers)
        method: Any = self.channel.stream_stream(path)  # no serializers: bytes as they are
        return method(iter([message]), metadata=metadata, timeout=_WITHIN_S)


def ended(call: Any, messages: list[bytes]) -> Answer:
    """Returns the answer of a gRPC call that has ended; fails where the details contradict code or message."""
    headers = [
        (key, str(value)) for key, value in (*(call.initial_metadata() or ()), *(call.trailing_metadata() or ()))
    ]
    return Answer(
        call.code().name, call.details() or "", rpc_status.from_call(call), messages=messages, headers=headers
    )


def _http_answer(response: http.client.HTTPResponse, content: bytes) -> Answer:
    headers = [(key.lower(), value) for key, value in response.getheaders()]
    plain = Answer("OK", http_status=response.status, headers=headers, body=content)
    if response.status < 400:
        return plain
    try:
        # Any parser of the standard form has to be able to read it.
        status = json_format.Parse(content, status_pb2.Status())
    except json_format.ParseError:
        return Answer(f"HTTP {response.status}", http_status=response.status, headers=headers, body=content)
    return Answer(
        code_pb2.Code.Name(status.code),
        status.message,
        status,
        http_status=response.status,
        headers=headers,
        body=content,
    )


def _grpc_answer(answer: Answer, messages: list[bytes], trailers: Mapping[str, str]) -> Answer:
    """What a gRPC-Web client makes of it: trailers are a frame at the end, or headers where nothing else came."""
    told = {**dict(answer.headers), **trailers}
    assert "grpc-status" in told, f"no status: {answer.headers} {answer.body[:200]!r}"
    status = _decoded_status(told.get("grpc-status-details-bin"))
    message = unquote(told.get("grpc-message", ""))
    code = code_pb2.Code.Name(int(told["grpc-status"]))
    if status is not None:
        assert (code_pb2.Code.Name(status.code), status.message) == (code, message)
    headers = [*answer.headers, *((key, value) for key, value in trailers.items())]
    return Answer(code, message, status, messages, answer.http_status, headers, answer.body)


def _decoded_status(encoded: str | None) -> status_pb2.Status | None:
    if encoded is None:
        return None
    return status_pb2.Status.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _frames(body: bytes) -> tuple[list[bytes], dict[str, str]]:
    messages, trailers = [], {}
    while body:
        flag, size = body[0], int.from_bytes(body[1:5], "big")
        content, body = body[5 : 5 + size], body[5 + size :]
        assert len(content) == size, "a frame is cut short"
        if flag & _TRAILERS:
            trailers.update(trailers_of(content))
        else:
            messages.append(content)
    return messages, trailers


def trailers_of(content: bytes) -> dict[str, str]:
    """Returns what stands in a frame of trailers."""
    pairs = (line.partition(":") for line in content.decode().split("\r\n") if line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _read_lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yields lines as they come; raises IncompleteRead when the stream breaks off. (readline would end in silence.)"""
    unpack = zlib.decompressobj(wbits=31).decompress if response.getheader("content-encoding") == "gzip" else bytes
    rest = b""
    while content := response.read1():
        *lines, rest = (rest + unpack(content)).split(b"\n")
        yield from lines
    assert not rest, f"no whole line: {rest!r}"


def _read_frames(response: http.client.HTTPResponse) -> Iterator[tuple[int, bytes]]:
    while head := response.read(5):
        size = int.from_bytes(head[1:], "big")
        yield head[0], response.read(size) if size else b""  # to read nothing would wait for something
