"""Makes calls: with a token where one is needed, again with a new one where it is refused, with errors in our words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import grpc

from wherry_client.connection import Connection, ServiceName
from wherry_client.errors import SignInNeededError, WherryError, from_rpc
from wherry_client.sessions import SessionKeeper

Request = TypeVar("Request")
Response = TypeVar("Response")

#: How long a plain call may take.
CALL_TIMEOUT_S = 30.0


class Caller:
    """Calls the services for one user."""

    def __init__(self, connection: Connection, keeper: SessionKeeper) -> None:
        self._connection = connection
        self._keeper = keeper

    def ask(
        self,
        service: ServiceName,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Response:
        """Calls as the user who is signed in; raises WherryError."""
        token = self._keeper.access_token()
        try:
            return self._once(service, method, request, timeout_s, token)
        except SignInNeededError as error:
            if error.site:
                raise
        return self._once(service, method, request, timeout_s, self._keeper.after_refusal(token))

    def ask_anonymously(
        self,
        service: ServiceName,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Response:
        """Calls without a token; raises WherryError."""
        return anonymous_call(self._connection, service, method, request, timeout_s)

    def stream(
        self,
        service: ServiceName,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        timeout_s: float | None = None,
    ) -> Iterator[Response]:
        """Yields a stream's messages, as the user who is signed in; raises WherryError.

        Leaving the iteration cancels the call. A stream that is refused for its token before its first message is
        opened once more with another.
        """
        token = self._keeper.access_token()
        begun = False
        try:
            for response in self._stream_once(service, method, request, timeout_s, token):
                begun = True
                yield response
            return
        except SignInNeededError as error:
            if begun or error.site:
                raise
        yield from self._stream_once(service, method, request, timeout_s, self._keeper.after_refusal(token))

    def _once(
        self,
        service: ServiceName,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout_s: float,
        token: str,
    ) -> Response:
        try:
            return method(request, timeout=timeout_s, metadata=_bearer(token))
        except grpc.RpcError as error:
            raise self._translated(error, service) from error

    def _stream_once(
        self,
        service: ServiceName,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        timeout_s: float | None,
        token: str,
    ) -> Iterator[Response]:
        call = method(request, timeout=timeout_s, metadata=_bearer(token))
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._translated(error, service) from error
        finally:
            call.cancel()

    def _translated(self, error: grpc.RpcError, service: ServiceName) -> WherryError:
        return from_rpc(error, service, self._connection.address_of(service))


def anonymous_call(
    connection: Connection,
    service: ServiceName,
    method: grpc.UnaryUnaryMultiCallable[Request, Response],
    request: Request,
    timeout_s: float = CALL_TIMEOUT_S,
) -> Response:
    """Calls without a token; raises WherryError."""
    try:
        return method(request, timeout=timeout_s)
    except grpc.RpcError as error:
        raise from_rpc(error, service, connection.address_of(service)) from error


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)
