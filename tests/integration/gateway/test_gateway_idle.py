"""Streams on which little happens: what lives stays open, what is dead is ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_chassis.buildout import BuildoutError, load
from wherry_testing.gateway import Edge
from wherry_testing.recording_upstream import Held

_WATCH = "/wherry.queue.v1.JobService/WatchJobs"
_IDLE_S = 1.0
_HEARTBEAT_S = 0.4
_PERIODS = 3


@pytest.fixture(scope="module")
def short_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    settings = {"stream_idle_s": _IDLE_S}
    with Edge(tmp_path_factory.mktemp("idle"), settings=settings, heartbeat_s=_HEARTBEAT_S) as edge:
        yield edge


def _json(edge: Edge, accept: str) -> Callable[[], Iterator[Any]]:
    def read() -> Iterator[Any]:
        with edge.http.lines("/v1/jobs:watch", {**edge.bearer(), "accept": accept}) as (_, lines):
            yield from (line for line in lines if line.strip())

    return read


def _web(edge: Edge) -> Callable[[], Iterator[Any]]:
    def read() -> Iterator[Any]:
        with edge.http.web_stream(_WATCH, b"", edge.bearer()) as frames:
            yield from (content for flag, content in frames if flag == 0)

    return read


def _ways(edge: Edge) -> dict[str, Callable[[], Iterator[Any]]]:
    return {
        "NDJSON": _json(edge, "application/json"),
        "events": _json(edge, "text/event-stream"),
        "gRPC-Web": _web(edge),
        "gRPC": lambda: edge.native.stream(_WATCH, b"", edge.bearer()),
    }


class _Reading:
    """Reads a stream on a thread, and notes when messages came and the stream ended."""

    def __init__(self, read: Callable[[], Iterator[Any]]) -> None:
        self.messages_s: list[float] = []
        self.ended_s: float | None = None
        self.problem = ""
        self._started_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(read,), daemon=True)
        self._thread.start()

    def _run(self, read: Callable[[], Iterator[Any]]) -> None:
        try:
            for _ in read():
                self.messages_s.append(time.monotonic() - self._started_s)
        except Exception as error:  # noqa: BLE001  # however the library of a client calls it
            self.problem = f"{type(error).__name__}: {error}"
        self.ended_s = time.monotonic() - self._started_s

    def join(self) -> None:
        self._thread.join(10)
        assert self.ended_s is not None


@pytest.mark.row("V11", missing="files done while a chunk runs, an ETA that is scored, the chart")
def test_a_stream_that_says_that_it_lives_stays_open(short_edge: Edge) -> None:
    over = threading.Event()

    def beating(messages: list[bytes], context: Any) -> Iterator[pb.WatchJobsResponse]:
        while not over.is_set() and context.is_active():
            yield pb.WatchJobsResponse()
            over.wait(_HEARTBEAT_S)

    short_edge.answer(_WATCH, beating)
    readings = {name: _Reading(read) for name, read in _ways(short_edge).items()}
    enough = _PERIODS * _IDLE_S
    short_edge.wait(
        lambda: all(
            it.ended_s is not None or (it.messages_s and it.messages_s[-1] > enough) for it in readings.values()
        )
    )
    found = {name: reading.ended_s for name, reading in readings.items()}
    over.set()
    assert found == dict.fromkeys(readings, None)
    for reading in readings.values():
        reading.join()
        assert reading.problem == ""


@pytest.mark.row("V11", missing="files done while a chunk runs, an ETA that is scored, the chart")
def test_a_stream_on_which_nothing_moves_is_ended(short_edge: Edge) -> None:
    silent: list[Held] = []

    def held(messages: list[bytes], context: Any) -> Iterator[Any]:
        silent.append(Held(pb.WatchJobsResponse()))
        return silent[-1](messages, context)

    short_edge.answer(_WATCH, held)
    readings = {name: _Reading(read) for name, read in _ways(short_edge).items()}
    for name, reading in readings.items():
        reading.join()
        assert len(reading.messages_s) == 1, name
        assert reading.ended_s is not None
        assert _IDLE_S * 0.9 < reading.ended_s < _IDLE_S * 20, name
        assert reading.problem, f"{name}: it looks as if it had come to its end"
    for one in silent:
        assert one.left.wait(5)


@pytest.mark.row("V11", missing="files done while a chunk runs, an ETA that is scored, the chart")
def test_a_heartbeat_that_comes_too_late_for_the_gateway_is_no_buildout(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    edge = Edge(tmp_path_factory.mktemp("late"), settings={"stream_idle_s": 10}, heartbeat_s=10)
    edge.write_buildout()
    with pytest.raises(BuildoutError, match=r"gateway\.stream_idle_s"):
        load(edge.buildout)
