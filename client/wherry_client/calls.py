"""Makes calls: with a token where one is needed, again with a new one where it is refused, with errors in our words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

import grpc

from wherry_client.errors import SignInNeededError, UnavailableError, from_rpc
from wherry_client.sessions import SessionKeeper

Request = TypeVar("Request")
Response = TypeVar("Response")

#: How long a plain call may take.
CALL_TIMEOUT_S = 30.0


class Caller:
    """Calls for one user through the gateway at `host:port`."""

    def __init__(self, gateway: str, keeper: SessionKeeper) -> None:
        self._gateway = gateway
        self._keeper = keeper

    def ask(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Response:
        """Calls as the user who is signed in; raises WherryError."""
        token = self._keeper.access_token()
        try:
            return self._once(method, request, timeout_s, token)
        except SignInNeededError as error:
            if error.site:
                raise
        with _fresh_token():
            return self._once(method, request, timeout_s, self._keeper.after_refusal(token))

    def ask_anonymously(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Response:
        """Calls without a token; raises WherryError."""
        return anonymous_call(self._gateway, method, request, timeout_s)

    def stream(
        self,
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
            for response in self._stream_once(method, request, timeout_s, token):
                begun = True
                yield response
            return
        except SignInNeededError as error:
            if begun or error.site:
                raise
        with _fresh_token():
            yield from self._stream_once(method, request, timeout_s, self._keeper.after_refusal(token))

    def _once(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout_s: float,
        token: str,
    ) -> Response:
        try:
            return method(request, timeout=timeout_s, metadata=_bearer(token))
        except grpc.RpcError as error:
            raise from_rpc(error, self._gateway) from error

    def _stream_once(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        timeout_s: float | None,
        token: str,
    ) -> Iterator[Response]:
        call = method(request, timeout=timeout_s, metadata=_bearer(token))
        try:
            yield from call
        except grpc.RpcError as error:
            raise from_rpc(error, self._gateway) from error
        finally:
            call.cancel()


def anonymous_call(
    gateway: str,
    method: grpc.UnaryUnaryMultiCallable[Request, Response],
    request: Request,
    timeout_s: float = CALL_TIMEOUT_S,
) -> Response:
    """Calls without a token through the gateway at `host:port`; raises WherryError."""
    try:
        return method(request, timeout=timeout_s)
    except grpc.RpcError as error:
        raise from_rpc(error, gateway) from error


@contextlib.contextmanager
def _fresh_token() -> Iterator[None]:
    """Takes the refusal of a token that has just been given for what it is: whoever refuses it lacks the key yet."""
    try:
        yield
    except SignInNeededError as error:
        if error.reason != "TOKEN_INVALID":
            raise
        raise UnavailableError(
            "The access token that was just given is not accepted yet.",
            reason=error.reason,
            advice="Try again shortly; if it stays so, tell the operator of this deployment.",
        ) from error


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)
