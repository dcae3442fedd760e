"""What every call passes through, outermost first; the chain is the list in `chain`."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import grpc
import protovalidate
import structlog
from google.protobuf.message import Message

from wherry_chassis.access import AccessTable
from wherry_chassis.errors import AccessDenied, DomainError, FieldProblem, InvalidFields, SessionEnded
from wherry_chassis.identity import Caller, Peer, UserClaims, certificate_identity, set_caller
from wherry_chassis.logging import logger
from wherry_chassis.status import error_status, incident_status
from wherry_chassis.tokens import TokenVerifier

_QUIET = ("grpc.health.v1.Health/", "grpc.reflection.")


@dataclass(frozen=True, slots=True)
class Call:
    """A call on its way in.

    Attributes:
        method: as `wherry.user.v1.UserService/GetUser`.
        metadata: its headers.
        streaming: whether either side streams.
    """

    method: str
    metadata: dict[str, str]
    streaming: bool
    context: Any  # grpc.aio.ServicerContext, generic in stubs and not at run time


class CallInterceptor(grpc.aio.ServerInterceptor, abc.ABC):
    """Stands around each call: `around` for its whole length, `inspect` for each message that comes in."""

    @abc.abstractmethod
    def around(self, call: Call) -> AbstractAsyncContextManager[None]:
        """Surrounds the handler; what it raises ends the call."""

    def inspect(self, call: Call, request: Message) -> None:  # most look at no messages
        """Sees a message before the handler does; what it raises ends the call."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wraps the handler, whatever streams."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = handler_call_details.method.lstrip("/")
        metadata = {
            key: value for key, value in handler_call_details.invocation_metadata or () if isinstance(value, str)
        }
        streaming = bool(handler.request_streaming or handler.response_streaming)

        def call_of(context: Any) -> Call:
            return Call(method, metadata, streaming, context)

        def inspected(call: Call, request: Any) -> Any:
            if not handler.request_streaming:
                self.inspect(call, request)
                return request

            async def messages() -> AsyncIterator[Any]:
                async for message in request:
                    self.inspect(call, message)
                    yield message

            return messages()

        async def answer(request: Any, context: Any) -> Any:
            call = call_of(context)
            async with self.around(call):
                return await behaviour(inspected(call, request), context)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            call = call_of(context)
            async with self.around(call):
                answers = behaviour(inspected(call, request), context)
                if not hasattr(answers, "__aiter__"):
                    await answers  # a handler of the other style, which writes to the context (health's Watch is one)
                    return
                async with contextlib.aclosing(answers):  # ended now, in this task, and not when it is collected
                    async for message in answers:
                        yield message

        match handler.request_streaming, handler.response_streaming:
            case False, False:
                behaviour, make = handler.unary_unary, grpc.unary_unary_rpc_method_handler
            case False, True:
                behaviour, make = handler.unary_stream, grpc.unary_stream_rpc_method_handler
            case True, False:
                behaviour, make = handler.stream_unary, grpc.stream_unary_rpc_method_handler
            case _:
                behaviour, make = handler.stream_stream, grpc.stream_stream_rpc_method_handler
        wrapped: Any = stream if handler.response_streaming else answer
        return make(wrapped, handler.request_deserializer, handler.response_serializer)


class ErrorInterceptor(CallInterceptor):
    """Maps domain errors to status; anything else becomes INTERNAL with an incident id, its text kept in the log."""

    @contextlib.asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        """Turns what is raised into the call's status."""
        try:
            yield
        except (grpc.aio.AbortError, asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001  # the caller must never see its text
            if (known := _domain_error(error)) is not None:
                await call.context.abort_with_status(error_status(known))
            incident = secrets.token_hex(8)
            logger().exception("incident", incident=incident, method=call.method)
            await call.context.abort_with_status(incident_status(incident))


def _domain_error(error: BaseException) -> DomainError | None:
    """Returns the domain error that an exception is or, where a handler's task group raised several, the first of them.

    None where anything else is among them: that is an incident.
    """
    if isinstance(error, DomainError):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    found = [_domain_error(inner) for inner in error.exceptions]
    return found[0] if all(found) else None


class LogInterceptor(CallInterceptor):
    """Gives each call a request id, and logs how it ended."""

    @contextlib.asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        """Binds the request id to what is logged meanwhile."""
        started_s = time.monotonic()
        outcome = "OK"
        # Never unbound: each call has a task, and so a context, of its own.
        structlog.contextvars.bind_contextvars(request_id=secrets.token_hex(8))
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "CANCELLED"
            raise
        except grpc.aio.AbortError:
            outcome = "ABORTED"  # the handler set the status itself, as those of libraries do
            raise
        except BaseException as error:
            outcome = known.reason if (known := _domain_error(error)) else "INTERNAL"
            raise
        finally:
            if not call.method.startswith(_QUIET):
                duration_s = round(time.monotonic() - started_s, 4)
                logger().info("rpc", method=call.method, outcome=outcome, duration_s=duration_s)


class AccessInterceptor(CallInterceptor):
    """Finds out who calls, and lets through whom the access table names."""

    def __init__(self, table: AccessTable, verifier: TokenVerifier) -> None:
        self._table = table
        self._verifier = verifier

    @contextlib.asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        """Sets the caller for the handler; a stream ends when its user's session is revoked."""
        peer = self._peer(call)
        user: UserClaims | None = None
        scheme, _, token = call.metadata.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._table.needs_user(call.method):
            user = await self._verifier.verify(token.strip())
        self._table.check(call.method, peer, user)
        set_caller(Caller(peer, user, call.context.peer()))
        if user is None or not call.streaming:
            yield
            return
        async with self._ending_with_session(user):
            yield

    @contextlib.asynccontextmanager
    async def _ending_with_session(self, user: UserClaims) -> AsyncIterator[None]:
        task = asyncio.current_task()
        assert task is not None
        revoked = False

        def end() -> None:
            nonlocal revoked
            if not revoked:  # the session and its user may both end
                revoked = True
                task.cancel()

        with self._verifier.revocations.watch(user, end):
            try:
                yield
            except (Exception, asyncio.CancelledError):  # cancelling can surface as a task group's error
                if revoked:
                    task.uncancel()
                    raise SessionEnded from None
                raise

    def _peer(self, call: Call) -> Peer:
        certificates = call.context.auth_context().get("x509_pem_cert")
        if not certificates:
            raise AccessDenied(method=call.method)
        subject, thumbprint = certificate_identity(bytes(certificates[0]))
        return Peer(subject, thumbprint, self._table.roles_of(subject))


class ValidationInterceptor(CallInterceptor):
    """Holds each message against the rules that stand beside its fields in the contracts."""

    @contextlib.asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:  # noqa: ARG002
        """Needs nothing around the call."""
        yield

    def inspect(self, call: Call, request: Message) -> None:
        """Raises InvalidFields, naming each."""
        if not call.method.startswith("wherry."):
            return
        violations = protovalidate.collect_violations(request)
        if violations:
            raise InvalidFields(*(FieldProblem(_path(v), v.proto.message or "is not valid") for v in violations))


def _path(violation: protovalidate.Violation) -> str:
    """Returns a field's path as people write it, `items[2].source.path`."""
    parts = []
    for element in violation.proto.field.elements if violation.proto.field else ():
        subscript = element.subscript
        index = f"[{subscript.value}]" if subscript is not None else ""
        parts.append(f"{element.field_name}{index}")
    return ".".join(parts) or "request"


def chain(table: AccessTable, verifier: TokenVerifier) -> list[CallInterceptor]:
    """Returns what every call passes through, outermost first."""
    return [
        ErrorInterceptor(),
        LogInterceptor(),
        AccessInterceptor(table, verifier),
        ValidationInterceptor(),
    ]
