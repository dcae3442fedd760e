"""Callers: one call over and over, by libcurl over HTTP/2, whatever is spoken in it: JSON, gRPC-Web or gRPC.

What is compared has the same client, so that no difference between clients is taken for one between servers. Every
answer is held against the one that is right; the first other one ends the run: refusals are quick, and would look like
speed.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pycurl

from bench.measure import BenchmarkError

CALLERS_A_CONNECTION = 10
_CONNECT_WITHIN_S = 5
_ANSWER_WITHIN_S = 30
_AT_ONCE = 200
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Way:
    """A way of making the call.

    Attributes:
        name: what it is called in results.
        url: where the request goes.
        headers: lines of the request's header.
        ca: the authorities by which the server is believed, PEM.
        posted: the request's body; a GET where there is none.
        certificate, key: by which the caller is known to the server, PEM; none where it asks for none.
        trailer: a line that the answer's header or trailer has to have, besides status 200.
        expected: the body of the right answer, once it is known.
    """

    name: str
    url: str
    headers: tuple[str, ...] = field(repr=False)
    ca: Path
    posted: bytes | None = None
    certificate: Path | None = None
    key: Path | None = None
    trailer: bytes = b""
    expected: bytes | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, the lines of header and trailer, the body."""

    status: int
    head: bytes
    body: bytes

    def is_right(self, way: Way) -> bool:
        """Tells whether it is the answer that was asked for."""
        return self.status == 200 and way.trailer in self.head and way.expected in (None, self.body)


@dataclass(frozen=True, slots=True)
class Round:
    """What came of some seconds of calling.

    Attributes:
        calls: how many were answered.
        calls_per_s, p50_ms, p99_ms: how fast, and how long a call took.
        cpu_us: CPU time for each call of each process that was watched, and of the `callers` themselves.
        busy: the share of one CPU that each of them used.
    """

    calls: int
    calls_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: Mapping[str, float]
    busy: Mapping[str, float]


def ask(way: Way) -> Answer:
    """Makes one call, and returns the answer whatever it is.

    Raises:
        BenchmarkError: there was none, or not over HTTP/2.
    """
    caller = _Caller(way)
    try:
        caller.handle.perform()
        if caller.handle.getinfo(pycurl.INFO_HTTP_VERSION) != pycurl.CURL_HTTP_VERSION_2_0:
            raise BenchmarkError(f"{way.name}: the server does not speak HTTP/2")
        return caller.answer()
    except pycurl.error as error:
        raise BenchmarkError(f"{way.name}: {error}") from None
    finally:
        caller.handle.close()


def call_for(way: Way, callers: int, *, warm_up_s: float, measured_s: float, watched: Mapping[str, int]) -> Round:
    """Makes calls for some seconds, each caller the next one as soon as it has its answer; ten share a connection.

    Args:
        way: how, and what the right answer is.
        callers: how many at once.
        warm_up_s: how long before that, with connections made and the answers checked, but not counted.
        measured_s: how long.
        watched: ids of the processes whose CPU time is read, by name.

    Raises:
        BenchmarkError: an answer was not the right one, or there was none.
    """
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
    multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, CALLERS_A_CONNECTION)
    everybody = {caller.handle: caller for caller in (_Caller(way) for _ in range(callers))}
    try:
        for caller in everybody.values():
            caller.begin(multi)
        _answers(multi, everybody, way, warm_up_s)
        before_s = _cpu_times_s(watched)
        taken_s, times_s = _answers(multi, everybody, way, measured_s)
        after_s = _cpu_times_s(watched)
    finally:
        for caller in everybody.values():
            caller.finish(multi)
            caller.handle.close()
        multi.close()
    if not times_s:
        raise BenchmarkError(f"{way.name}: no answer within {measured_s:g} s")
    times_s.sort()
    used_s = {name: after_s[name] - before_s[name] for name in before_s}
    return Round(
        calls=len(times_s),
        calls_per_s=len(times_s) / taken_s,
        p50_ms=1e3 * times_s[len(times_s) // 2],
        p99_ms=1e3 * times_s[len(times_s) * 99 // 100],
        cpu_us={name: 1e6 * used / len(times_s) for name, used in used_s.items()},
        busy={name: used / taken_s for name, used in used_s.items()},
    )


class _Caller:
    """One who calls: a request that is made again and again, and room for its answer."""

    def __init__(self, way: Way) -> None:
        self.begun_s = 0.0
        self._head = io.BytesIO()
        self._body = io.BytesIO()
        self._under_way = False
        self.handle = handle = pycurl.Curl()
        handle.setopt(pycurl.URL, way.url)
        # libcurl's own additions are taken out: the others have none like them.
        handle.setopt(pycurl.HTTPHEADER, [*way.headers, "accept:", "expect:"])
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        handle.setopt(pycurl.PIPEWAIT, 1)
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.PROXY, "")
        handle.setopt(pycurl.CONNECTTIMEOUT, _CONNECT_WITHIN_S)
        handle.setopt(pycurl.TIMEOUT, _ANSWER_WITHIN_S)
        handle.setopt(pycurl.CAINFO, str(way.ca))
        if way.certificate is not None:
            handle.setopt(pycurl.SSLCERT, str(way.certificate))
            handle.setopt(pycurl.SSLKEY, str(way.key))
        if way.posted is not None:
            handle.setopt(pycurl.POST, 1)
            handle.setopt(pycurl.POSTFIELDS, way.posted)
        handle.setopt(pycurl.WRITEHEADER, self._head)
        handle.setopt(pycurl.WRITEDATA, self._body)

    def begin(self, multi: pycurl.CurlMulti) -> None:
        for part in (self._head, self._body):
            part.seek(0)
            part.truncate()
        self.begun_s = time.perf_counter()
        self._under_way = True
        multi.add_handle(self.handle)

    def finish(self, multi: pycurl.CurlMulti) -> None:
        if self._under_way:
            self._under_way = False
            multi.remove_handle(self.handle)

    def answer(self) -> Answer:
        status = int(self.handle.getinfo(pycurl.RESPONSE_CODE))
        return Answer(status, self._head.getvalue(), self._body.getvalue())


def _answers(
    multi: pycurl.CurlMulti, everybody: Mapping[pycurl.Curl, _Caller], way: Way, for_s: float
) -> tuple[float, list[float]]:
    """Goes on with calls under way and lets new ones follow; returns the seconds that took, and those of each call."""
    times_s: list[float] = []
    started_s = now_s = time.perf_counter()
    while now_s - started_s < for_s:
        multi.perform()
        left = 1
        while left:
            left, done, failed = multi.info_read(_AT_ONCE)
            if failed:
                raise BenchmarkError(f"{way.name}: {failed[0][2]}")
            now_s = time.perf_counter()
            for handle in done:
                caller = everybody[handle]
                times_s.append(now_s - caller.begun_s)
                caller.finish(multi)
                answer = caller.answer()
                if not answer.is_right(way):
                    raise BenchmarkError(f"{way.name}: a wrong answer: {answer}")
                caller.begin(multi)
        multi.select(0.1)
        now_s = time.perf_counter()
    return now_s - started_s, times_s


def _cpu_times_s(watched: Mapping[str, int]) -> dict[str, float]:
    return {**{name: cpu_time_s(pid) for name, pid in watched.items()}, "callers": time.process_time()}


def cpu_time_s(pid: int) -> float:
    """Returns the CPU time that a process has used so far, all threads, user and system."""
    # The name before the bracket may hold anything; utime and stime are the fields 14 and 15 of proc(5).
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
