from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from wherry.queue.v1 import job_service_pb2
from wherry_testing.gateway import Edge
from wherry_testing.recording_upstream import Held

_WATCH_JOBS = "/wherry.queue.v1.JobService/WatchJobs"


@pytest.fixture(scope="session")
def standing_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """One gateway for all tests that leave it as it was."""
    with Edge(tmp_path_factory.mktemp("edge")) as edge:
        yield edge


@pytest.fixture
def edge(standing_edge: Edge) -> Edge:
    """That gateway, with upstreams that remember nothing and answer every method with an empty message."""
    standing_edge.forget()
    return standing_edge


@dataclass(frozen=True)
class QuietWatch:
    """A stream on which nothing has come since its first message."""

    call: Any
    held: Held
    started_s: float


@pytest.fixture(scope="session", autouse=True)
def quiet_watch(standing_edge: Edge) -> Iterator[QuietWatch]:
    """One that is as old as the session, so that the test of it need not wait for it to grow old."""
    held = Held(job_service_pb2.WatchJobsResponse())
    standing_edge.answer(_WATCH_JOBS, held)
    method: Any = standing_edge.native.channel.unary_stream(_WATCH_JOBS)  # bytes as they are
    call = method(b"", metadata=tuple(standing_edge.bearer().items()))
    next(call)
    standing_edge.forget()
    yield QuietWatch(call, held, time.monotonic())
    held.end()
    call.cancel()
