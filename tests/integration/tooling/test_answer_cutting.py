"""The relay that loses answers passes everything else on, whoever's certificate it takes, and loses what it is to."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from wherry_chassis.tls import Material
from wherry_testing.answer_cutting import AnswerCutter, AnswerRelay
from wherry_testing.deployment_processes import wait_until
from wherry_testing.pki import TestPki


class _Callee(grpc.GenericRpcHandler):
    """Answers with what it was asked, three times; it notes each question, and who asked."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.callers: list[str] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        def one(request: bytes, context: grpc.ServicerContext) -> bytes:
            self._note(request, context)
            if request == b"refuse":
                context.abort(grpc.StatusCode.NOT_FOUND, "there is none")
            return request

        def many(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            for request in requests:
                self._note(request, context)
                yield from [request] * 3

        if handler_call_details.method.endswith("/One"):
            return grpc.unary_unary_rpc_method_handler(one)
        return grpc.stream_stream_rpc_method_handler(many)

    def _note(self, request: bytes, context: grpc.ServicerContext) -> None:
        self.heard.append(request)
        names: Any = context.auth_context()["x509_common_name"]  # bytes, of which the stubs know nothing
        self.callers += [name.decode() for name in names]


def _material(pki: TestPki, name: str) -> Material:
    files = pki.files(name)
    return Material(files.certificate.read_bytes(), files.key.read_bytes(), files.ca.read_bytes())


@pytest.fixture
def callee(pki: TestPki) -> Iterator[tuple[_Callee, str]]:
    material, handler = _material(pki, "queue"), _Callee()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[handler])
    credentials = grpc.ssl_server_credentials([(material.key, material.chain)], material.ca, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield handler, f"localhost:{port}"
    server.stop(0).wait()


@pytest.fixture
def relay(pki: TestPki, callee: tuple[_Callee, str]) -> Iterator[AnswerRelay]:
    with AnswerCutter() as cutter:
        yield cutter.relay(callee[1], serving=_material(pki, "queue"), calling=_material(pki, "worker"))


@pytest.fixture
def channel(pki: TestPki, relay: AnswerRelay) -> Iterator[grpc.Channel]:
    mine = _material(pki, "gateway")
    credentials = grpc.ssl_channel_credentials(mine.ca, mine.key, mine.chain)
    with grpc.secure_channel(relay.address, credentials) as channel:
        yield channel


def _ask(channel: grpc.Channel, request: bytes) -> bytes:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/x.Y/One")
    return call(request, timeout=20, wait_for_ready=True)


def _ask_until_answered(channel: grpc.Channel, request: bytes) -> bytes:
    """Asks again where the channel has not seen yet that its connection is dead."""

    def answer() -> bytes | None:
        try:
            return _ask(channel, request)
        except grpc.RpcError:
            return None

    found: bytes = wait_until(answer, "an answer", 10)
    return found


def _ask_many(channel: grpc.Channel, requests: list[bytes], got: list[bytes]) -> None:
    call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/x.Y/Many")
    got.extend(call(iter(requests), timeout=10))


def _code(error: Any) -> grpc.StatusCode:
    code: grpc.StatusCode = error.code()
    return code


def test_calls_of_each_shape_pass_under_the_callers_certificate(
    callee: tuple[_Callee, str], channel: grpc.Channel
) -> None:
    assert _ask(channel, b"a") == b"a"
    got: list[bytes] = []
    _ask_many(channel, [b"b", b"c"], got)
    assert got == [b"b"] * 3 + [b"c"] * 3
    assert set(callee[0].callers) == {"worker"}


def test_a_refusal_passes_with_its_text(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _ask(channel, b"refuse")
    assert (_code(caught.value), "there is none" in str(caught.value)) == (grpc.StatusCode.NOT_FOUND, True)


def test_an_answer_is_lost_once_after_the_callee_has_done_its_work(
    callee: tuple[_Callee, str], relay: AnswerRelay, channel: grpc.Channel
) -> None:
    cut = relay.cut("One")
    with pytest.raises(grpc.RpcError) as caught:
        _ask(channel, b"a")
    assert _code(caught.value) is grpc.StatusCode.UNAVAILABLE
    assert (cut.done, cut.answer, callee[0].heard) == (True, b"a", [b"a"])
    assert _ask_until_answered(channel, b"a") == b"a"
    assert callee[0].heard == [b"a", b"a"]


@pytest.mark.parametrize(("arming", "came"), [({"message": 3}, 2), ({"holding": b"c"}, 3)])
def test_a_stream_is_cut_at_a_message(
    relay: AnswerRelay, channel: grpc.Channel, arming: dict[str, Any], came: int
) -> None:
    cut = relay.cut("Many", **arming)
    got: list[bytes] = []
    with relay.recording("Many") as passed, pytest.raises(grpc.RpcError):
        _ask_many(channel, [b"b", b"c"], got)
    cut.wait()
    # What was on its way when the connection died may be lost with it.
    assert len(got) <= came
    assert len(passed) == came + 1


def test_nobody_gets_through_while_the_way_is_down(relay: AnswerRelay, channel: grpc.Channel) -> None:
    assert _ask(channel, b"a") == b"a"
    relay.sever()
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/x.Y/One")
    with pytest.raises(grpc.RpcError):
        call(b"a", timeout=10)
    relay.restore()
    assert _ask_until_answered(channel, b"a") == b"a"
