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
from typing import Any, ClassVar

import grpc
import protovalidate
import structlog
from google.protobuf.message import Message
from google.rpc import status_pb2

from wherry_chassis.access import AccessTable
from wherry_chassis.errors import AccessDenied, DomainError, FieldProblem, InvalidFields, MalformedRequest, SessionEnded
from wherry_chassis.identity import Caller, Peer, UserClaims, certificate_identity, set_caller
from wherry_chassis.logging import logger
from wherry_chassis.status import error_status, grpc_status, incident_status
from wherry_chassis.tokens import TokenVerifier

_TRANSCODED = "x-envoy-original-path"
"""The header by which Envoy's transcoder says that the caller speaks JSON. Who sends it otherwise fools nobody else."""
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

    decodes: ClassVar[bool] = False
    """Whether messages are taken apart here and not by gRPC, so that a broken one is a failure like any other."""

    @abc.abstractmethod
    def around(self, call: Call) -> AbstractAsyncContextManager[None]:
        """Surrounds the handler; what it raises ends the call."""

    def inspect(self, call: Call, request: Message) -> None:  # most look at no messages
        """Sees a message before the handler does; what it raises ends the call."""

    def farewell(self, call: Call, error: Exception, sent: Message | None) -> Message | None:  # noqa: ARG002
        """Returns a last message for a stream that fails, in place of the failure; None to let it fail.

        Args:
            call: the call.
            error: what ends it.
            sent: the last message that went out, None if none has.
        """
        return None

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

        decode = handler.request_deserializer if self.decodes else None

        def taken(call: Call, message: Any) -> Any:
            if decode is not None:
                message = _decoded(decode, message)
            self.inspect(call, message)
            return message

        def inspected(call: Call, request: Any) -> Any:
            if not handler.request_streaming:
                return taken(call, request)

            async def messages() -> AsyncIterator[Any]:
                async for message in request:
                    yield taken(call, message)

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
                sent: Any = None
                try:
                    async with contextlib.aclosing(answers):  # ended now, in this task, and not when it is collected
                        async for sent in answers:
                            yield sent
                except Exception as error:
                    if (last := self.farewell(call, error, sent)) is None:
                        raise
                    yield last

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
        deserializer = None if self.decodes else handler.request_deserializer
        return make(wrapped, deserializer, handler.response_serializer)


def _decoded(decode: Callable[[bytes], Any], message: bytes) -> Any:
    try:
        return decode(message)
    except Exception as error:  # protobuf's own and UnicodeDecodeError among them
        raise MalformedRequest from error


class ErrorInterceptor(CallInterceptor):
    """Maps domain errors to status; anything else becomes INTERNAL with an incident id, its text kept in the log."""

    decodes = True

    @contextlib.asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        """Turns what is raised into the call's status."""
        try:
            yield
        except (grpc.aio.AbortError, asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001  # the caller must never see its text
            await call.context.abort_with_status(grpc_status(_status(call, error)))

    def farewell(self, call: Call, error: Exception, sent: Message | None) -> Message | None:
        """Tells callers over JSON how their stream ended: behind HTTP's status line there is no other way.

        It takes messages with the fields `last` and `error`. Before the first message the status does it.
        """
        if sent is None or isinstance(error, grpc.aio.AbortError) or _TRANSCODED not in call.metadata:
            return None
        if not {"last", "error"} <= set(sent.DESCRIPTOR.fields_by_name):
            return None
        return type(sent)(last=True, error=_status(call, error))


def _status(call: Call, error: Exception) -> status_pb2.Status:
    if (known := _domain_error(error)) is not None:
        return error_status(known)
    incident = secrets.token_hex(8)
    logger().error("incident", incident=incident, method=call.method, exc_info=error)
    return incident_status(incident)


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
        set_caller(Caller(peer, user, _address(call, peer)))
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


def _address(call: Call, peer: Peer) -> str:
    """Returns where the call comes from: what the gateway saw, for calls through it, or the other end's address."""
    forwarded = call.metadata.get("x-forwarded-for", "") if "gateway" in peer.roles else ""
    # What the gateway itself has added stands last; before it stands what callers like to say.
    host = forwarded.rpartition(",")[2].strip()
    if host:
        return f"ipv6:[{host}]:0" if ":" in host else f"ipv4:{host}:0"
    return str(call.context.peer())


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
