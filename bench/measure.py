"""What a benchmark is, and what it returns.

A benchmark is a function, plain or async, that is registered in a group:

    @benchmark("first")
    async def copy(bench: Bench) -> list[Measurement]:
        ours_s, peer_s = ...
        return [Measurement("copy_rate", files / ours_s, "files/s", Peer("globus-url-copy", files / peer_s))]

Each measurement names the peer that did the same work in the same run, on the same machine: a number alone says little,
and a peer of another day nothing.
"""

from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Direction = Literal["at_least", "at_most"]


class BenchmarkError(Exception):
    """A benchmark that cannot be run or measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who did the same work beside us, and how it did, in the unit of the measurement."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number.

    Attributes:
        name: unique among all; what `targets.toml` names.
        value: in `unit`, as `files/s`, `MB/s`, `s`, `tasks/s`.
        peer: who did the same work in the same run; None only where there is nobody to compare with.
    """

    name: str
    value: float
    unit: str
    peer: Peer | None = None

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's; None without a peer."""
        return None if self.peer is None else self.value / self.peer.value


@dataclass(frozen=True, slots=True)
class Target:
    """What a measurement has to reach: a ratio to its peer, or a value where there is no peer.

    Attributes:
        ratio: of ours over the peer's (or the bare value).
        direction: `at_least` where more is better, `at_most` where less is.
    """

    ratio: float
    direction: Direction

    def met_by(self, measurement: Measurement) -> bool:
        """Tells whether a measurement reaches it."""
        reached = measurement.value if measurement.ratio is None else measurement.ratio
        return reached >= self.ratio if self.direction == "at_least" else reached <= self.ratio


@dataclass(frozen=True)
class Bench:
    """What a benchmark is given.

    Attributes:
        folder: empty, its own, deleted afterwards.
        say: prints a line about what is being done.
    """

    folder: Path
    say: Callable[[str], None]


Function = Callable[[Bench], Sequence[Measurement] | Awaitable[Sequence[Measurement]]]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A registered benchmark."""

    name: str
    group: str
    function: Function

    async def run(self, bench: Bench) -> Sequence[Measurement]:
        """Runs it.

        Raises:
            BenchmarkError: it returned nothing, or what is no measurement.
        """
        answer = self.function(bench)
        measured = list(await answer if inspect.isawaitable(answer) else answer)
        if not measured or not all(isinstance(found, Measurement) for found in measured):
            raise BenchmarkError(f"{self.name} returned no measurements")
        return measured


_registered: dict[str, Benchmark] = {}


def benchmark(group: str) -> Callable[[Function], Function]:
    """Registers a function under its own name in a group, as `first`."""

    def register(function: Function) -> Function:
        name = function.__name__
        if name in _registered or name == group:
            raise BenchmarkError(f"there is a benchmark or group {name} already")
        _registered[name] = Benchmark(name, group, function)
        return function

    return register


def registered() -> list[Benchmark]:
    """Returns what has been registered, in that order."""
    return list(_registered.values())


def chosen(only: Sequence[str], known: Sequence[Benchmark]) -> list[Benchmark]:
    """Returns the benchmarks of these groups or names; all where none is given.

    Raises:
        BenchmarkError: a word is neither.
    """
    words = {found.name for found in known} | {found.group for found in known}
    if unknown := [word for word in only if word not in words]:
        raise BenchmarkError(f"no such benchmark or group: {', '.join(unknown)}; there are {', '.join(sorted(words))}")
    return [found for found in known if not only or found.name in only or found.group in only]


async def seconds_of(work: Callable[[], Awaitable[object]], *, repeat: int = 5, warm_up: int = 1) -> float:
    """Returns the median time of `work` in seconds, over `repeat` runs after `warm_up` unmeasured ones."""
    for _ in range(warm_up):
        await work()
    times_s = []
    for _ in range(repeat):
        started_s = time.perf_counter()
        await work()
        times_s.append(time.perf_counter() - started_s)
    return statistics.median(times_s)
