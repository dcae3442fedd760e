"""What a benchmark is, and what it gives.

A benchmark is a function without arguments, registered in a group, that gives measurements one by one:

    @benchmark("first")
    def copies() -> Iterator[Measurement]:
        ours_s, theirs_s = ...
        yield Measurement("copy_rate", files / ours_s, "files/s", "globus-url-copy", files / theirs_s)

It may also be async, and then returns them. Each measurement names the peer that did the same work in the same run, on
the same machine: a number alone says little, and a peer of another day nothing.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

Direction = Literal["at_least", "at_most"]


class BenchmarkError(Exception):
    """A benchmark that cannot be run or measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number.

    Attributes:
        name: unique among all; what `targets.toml` names.
        value: in `unit`, as `files/s`, `MB/s`, `s`, `tasks/s`.
        peer: who did the same work in the same run; None only where there is nobody to compare with.
        peer_value: how the peer did, in `unit`.
        more_is_better: False for times.
    """

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    more_is_better: bool = True

    @property
    def ratio(self) -> float | None:
        """How many times as good as the peer: above 1 is better, whichever way the unit runs. None without a peer."""
        if self.peer_value is None:
            return None
        return self.value / self.peer_value if self.more_is_better else self.peer_value / self.value


@dataclass(frozen=True, slots=True)
class Target:
    """What a measurement has to reach.

    Attributes:
        ratio: of a measurement to its peer as above, or the bare value of one without a peer.
        direction: whether to stay above or below it.
    """

    ratio: float
    direction: Direction

    def met_by(self, measurement: Measurement) -> bool:
        """Tells whether a measurement reaches it."""
        reached = measurement.value if measurement.ratio is None else measurement.ratio
        return reached >= self.ratio if self.direction == "at_least" else reached <= self.ratio


Function = Callable[[], Iterable[Measurement] | Awaitable[Iterable[Measurement]]]
_F = TypeVar("_F", bound=Function)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A registered benchmark."""

    name: str
    group: str
    function: Function

    def run(self) -> Iterator[Measurement]:
        """Runs it; gives each measurement as soon as it has been made.

        Raises:
            BenchmarkError: it gave nothing.
        """
        answer = self.function()
        if inspect.iscoroutine(answer):
            answer = cast("Iterable[Measurement]", asyncio.run(answer))
        given = 0
        for found in cast("Iterable[Measurement]", answer):
            given += 1
            yield found
        if not given:
            raise BenchmarkError(f"{self.name} gave no measurement")


_registered: dict[str, Benchmark] = {}


def benchmark(group: str) -> Callable[[_F], _F]:
    """Registers a function under its own name in a group, as `first`."""

    def register(function: _F) -> _F:
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
