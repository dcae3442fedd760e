"""What the gateway costs: one call as JSON and as gRPC-Web through it, against gRPC straight at the service."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf import json_format
from wherry.user.v1 import user_service_pb2 as pb

from bench import callers, gateway_place
from bench.callers import Answer, Round, Way
from bench.gateway_place import GATEWAY_GRPC, GRPC, GRPC_WEB, JSON, Place
from bench.measure import Bench, BenchmarkError, Measurement, Peer, benchmark

T = TypeVar("T")
_READY_WITHIN_S = 30.0
_LAST_FRAME = 0x80
_GROUP = "gateway"
_TITLES = {
    GRPC: "gRPC straight at the service (mTLS)",
    GATEWAY_GRPC: "gRPC through the gateway",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; the ratios that have targets are those at the most callers, where calls/s are at their end.

    Attributes:
        callers: how many at once, in ascending order.
        rounds: in each all ways take their turn, so that what disturbs one disturbs the others.
        warm_up_s, measured_s: of each turn.
    """

    callers: Sequence[int] = (1, 10, 100)
    rounds: int = 9
    warm_up_s: float = 0.3
    measured_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Figures:
    """A way's rounds at one number of callers, by their medians."""

    rounds: Sequence[Round]

    def median(self, figure: Callable[[Round], float]) -> float:
        """Returns the median of a figure over the rounds."""
        return statistics.median(figure(found) for found in self.rounds)


Table = dict[tuple[str, int], Figures]
"""By way and number of callers."""


@benchmark(_GROUP)
async def calls_through_the_gateway(bench: Bench) -> list[Measurement]:
    """One's own account, read with an access token from a user service on SQLite, through Envoy and straight."""
    return await measure(bench, Plan())


async def measure(bench: Bench, plan: Plan) -> list[Measurement]:
    """Runs service, gateway and callers; returns calls/s, latencies and CPU times.

    Raises:
        BenchmarkError: an answer was wrong.
    """
    async with gateway_place.running_place(bench.folder) as place:
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            ways = await known_answers(place, pool)
            table = await _table(bench, plan, ways, place, pool)
            # What Envoy answers itself costs so little that it shows how fast the callers can be.
            nothing = await _in(pool, _turn(place.nothing, plan.callers[-1], plan, place))
    peer, *through = (way.name for way in ways)
    _say_noise(bench, plan, peer, through, table)
    ceiling = Measurement(f"{_GROUP}/callers-ceiling", nothing.calls_per_s, "calls/s")
    return [*_measurements(plan, peer, through, table), ceiling]


# --- measuring ---


async def _in(pool: concurrent.futures.Executor | None, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, work)


def _turn(way: Way, count: int, plan: Plan, place: Place) -> Callable[[], Round]:
    return functools.partial(
        callers.call_for,
        way,
        count,
        warm_up_s=plan.warm_up_s,
        measured_s=plan.measured_s,
        watched=place.watched,
    )


async def known_answers(place: Place, pool: concurrent.futures.Executor | None = None) -> list[Way]:
    """Returns the ways with the right answer to each, once all of them are answered, and with the same account.

    Args:
        place: where they lead.
        pool: where the calls are made; None for a thread.
    """
    found: list[Way] = []
    accounts: list[pb.User] = []
    for way in place.ways:
        answer, account = await _first_answer(way, pool)
        accounts.append(account)
        found.append(dataclasses.replace(way, expected=answer.body))
    if accounts[0].email != gateway_place.EMAIL or any(account != accounts[0] for account in accounts):
        raise BenchmarkError(f"the ways do not answer alike: {accounts}")
    return found


async def _first_answer(way: Way, pool: concurrent.futures.Executor | None) -> tuple[Answer, pb.User]:
    """Asks until it is answered: Envoy has to find the service healthy first, and to get its keys."""
    deadline_s = time.monotonic() + _READY_WITHIN_S
    while True:
        try:
            answer = await _in(pool, functools.partial(callers.ask, way))
            return answer, _account(way, answer)
        except BenchmarkError as error:
            if time.monotonic() > deadline_s:
                raise BenchmarkError(f"not within {_READY_WITHIN_S:g} s: {error}") from error
        await asyncio.sleep(0.1)


def _account(way: Way, answer: Answer) -> pb.User:
    """Returns what an answer says, as JSON, or in the frames of gRPC or gRPC-Web.

    Raises:
        BenchmarkError: it is no account.
    """
    if not answer.is_right(way):
        raise BenchmarkError(f"{way.name}: {answer}")
    if way.posted is None:
        return json_format.ParseDict(json.loads(answer.body), pb.User())
    size = int.from_bytes(answer.body[1:5], "big")
    message, rest = answer.body[5 : 5 + size], answer.body[5 + size :]
    # gRPC-Web has its trailer in the body, as a frame of its own.
    has_trailer = rest[:1] == bytes([_LAST_FRAME]) and b"grpc-status:0\r\n" in rest
    is_whole = has_trailer if way.name == GRPC_WEB else not rest
    if answer.body[:1] != b"\0" or len(message) != size or not is_whole:
        raise BenchmarkError(f"{way.name}: no account: {answer}")
    return pb.User.FromString(message)


async def _table(
    bench: Bench, plan: Plan, ways: Sequence[Way], place: Place, pool: concurrent.futures.Executor
) -> Table:
    table: Table = {}
    for count in plan.callers:
        bench.say(f"{count} callers, {plan.rounds} rounds of {len(ways)} × {plan.measured_s:g} s")
        rounds: dict[str, list[Round]] = {way.name: [] for way in ways}
        for index in range(plan.rounds):
            # There and back again: what drifts favours nobody.
            for way in ways if index % 2 == 0 else reversed(ways):
                rounds[way.name].append(await _in(pool, _turn(way, count, plan, place)))
        table |= {(name, count): Figures(found) for name, found in rounds.items()}
    return table


# --- telling ---


def _measurements(plan: Plan, peer: str, through: Sequence[str], table: Table) -> list[Measurement]:
    most = plan.callers[-1]
    found = []
    for way in through:
        for count in reversed(plan.callers):
            name = f"{_GROUP}/{way}-vs-{GRPC}" + (f"-{count}" if count != most else "")
            found.append(_against(name, "calls/s", table[way, count], peer, table[peer, count], _calls_per_s))
    found.append(
        _against(
            f"{_GROUP}/{JSON}-vs-{GATEWAY_GRPC}",
            "calls/s",
            table[JSON, most],
            GATEWAY_GRPC,
            table[GATEWAY_GRPC, most],
            _calls_per_s,
        )
    )
    for way in through:
        for count in plan.callers:
            ours, theirs = table[way, count], table[peer, count]
            found.append(_against(f"{_GROUP}/{way}-p50-{count}", "ms", ours, peer, theirs, _p50_ms))
            found.append(_against(f"{_GROUP}/{way}-p99-{count}", "ms", ours, peer, theirs, _p99_ms))
    for way in through:
        ours, theirs = table[way, most], table[peer, most]
        found.append(Measurement(f"{_GROUP}/{way}-cpu-envoy", ours.median(_cpu_us("envoy")), "µs/call"))
        found.append(
            _against(f"{_GROUP}/{way}-cpu-service", "µs/call", ours, peer, theirs, _cpu_us("service")),
        )
    return found


def _against(
    name: str, unit: str, ours: Figures, peer: str, theirs: Figures, figure: Callable[[Round], float]
) -> Measurement:
    return Measurement(name, ours.median(figure), unit, Peer(_TITLES[peer], theirs.median(figure)))


def _calls_per_s(found: Round) -> float:
    return found.calls_per_s


def _p50_ms(found: Round) -> float:
    return found.p50_ms


def _p99_ms(found: Round) -> float:
    return found.p99_ms


def _cpu_us(process: str) -> Callable[[Round], float]:
    return lambda found: found.cpu_us[process]


def _say_noise(bench: Bench, plan: Plan, peer: str, through: Sequence[str], table: Table) -> None:
    """Says how far the rounds lay apart, and who was busy: the service ought to be, and the callers not."""
    for way, count in ((way, count) for count in plan.callers for way in (peer, *through)):
        rounds, theirs = table[way, count].rounds, table[peer, count].rounds
        ratios = [ours.calls_per_s / other.calls_per_s for ours, other in zip(rounds, theirs, strict=True)]
        rates = [found.calls_per_s for found in rounds]
        busy = {who: statistics.median(found.busy[who] for found in rounds) for who in rounds[0].busy}
        used = ", ".join(f"{who} {100 * share:.0f}%" for who, share in busy.items())
        bench.say(
            f"{way} at {count}: {min(rates):.0f} to {max(rates):.0f} calls/s, of gRPC's in the same round "
            f"{min(ratios):.2f} to {max(ratios):.2f}; of a CPU: {used}"
        )
