"""What is done for deleted users, how often, and when it is confirmed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import cast

import grpc
import pytest
from wherry.user.v1 import user_service_pb2 as pb
from wherry_chassis import deletions as module
from wherry_chassis.deletions import Deletions
from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.tls import ServiceChannels
from wherry_testing.waiting import until

U6 = pytest.mark.row("U6", missing="export of one's data")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IN_FLIGHT_S", 0.02)
    monkeypatch.setattr(module, "_RETRY_FIRST_S", 0.001)


class Outbox:
    """Channels to a user service that takes confirmations, or fails as it is told."""

    def __init__(self) -> None:
        self.confirmed: list[int] = []
        self.failures: list[grpc.StatusCode] = []
        self.rotations = 0

    def get(self) -> Outbox:
        return self

    def rotate(self, failed: object) -> None:
        assert failed is self
        self.rotations += 1

    def unary_stream(self, *args: object, **kwargs: object) -> None:
        """Stubs ask for all methods of their service."""

    def unary_unary(self, *args: object, **kwargs: object) -> Callable[..., Awaitable[None]]:
        async def confirm(request: pb.ConfirmRevocationsRequest, timeout: float) -> None:
            if self.failures:
                raise grpc.aio.AioRpcError(self.failures.pop(0), grpc.aio.Metadata(), grpc.aio.Metadata())
            self.confirmed.append(request.cursor)

        return confirm


class Part:
    """A service's part: notes for whom it was done, or fails as it is told."""

    def __init__(self) -> None:
        self.done: list[list[str]] = []
        self.failures: list[Exception] = []
        self.refused: set[str] = set()
        self.tried_s: list[float] = []

    def times(self, user: str) -> int:
        """How often it was done for a user."""
        return sum(user in users for users in self.done)

    async def forget(self, users: Sequence[str]) -> None:
        self.tried_s.append(time.monotonic())
        if self.failures:
            raise self.failures.pop(0)
        if not self.refused.isdisjoint(users):
            raise ValueError("a bug")
        self.done.append(list(users))


@contextlib.asynccontextmanager
async def at_work(outbox: Outbox, part: Part) -> AsyncIterator[Deletions]:
    deletions = Deletions(cast("ServiceChannels", outbox), part.forget)
    task = asyncio.create_task(deletions.run())
    try:
        yield deletions
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@U6
async def test_a_deletion_is_done_at_once_and_again_and_only_then_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IN_FLIGHT_S", 0.3)
    outbox, part = Outbox(), Part()
    async with at_work(outbox, part) as deletions:
        deletions.add(7, "users/alice")
        await until(lambda: part.done)
        assert outbox.confirmed == []
        await until(lambda: outbox.confirmed)
    assert part.done == [["users/alice"], ["users/alice"]]
    assert outbox.confirmed == [7]


@U6
async def test_what_is_heard_together_is_confirmed_together_by_its_last_cursor() -> None:
    outbox, part = Outbox(), Part()
    async with at_work(outbox, part) as deletions:
        for cursor, user in ((1, "users/a"), (4, "users/b"), (9, "users/c")):
            deletions.add(cursor, user)
        await until(lambda: outbox.confirmed)
    assert part.done == [["users/a", "users/b", "users/c"]] * 2
    assert outbox.confirmed == [9]


@U6
@pytest.mark.parametrize("failure", [DatabaseUnavailable(), ValueError("a bug")])
async def test_work_that_fails_is_done_again_and_nothing_is_confirmed_before(failure: Exception) -> None:
    outbox, part = Outbox(), Part()
    part.failures = [failure] * 5
    async with at_work(outbox, part) as deletions:
        deletions.add(1, "users/alice")
        await until(lambda: len(part.failures) < 3)
        assert outbox.confirmed == []
        await until(lambda: outbox.confirmed)
    assert part.done == [["users/alice"]] * 2
    assert outbox.confirmed == [1]


@U6
async def test_one_that_fails_keeps_no_other_from_being_done_and_all_behind_it_from_being_confirmed() -> None:
    outbox, part = Outbox(), Part()
    part.refused.add("users/bob")
    async with at_work(outbox, part) as deletions:
        for cursor, user in ((1, "users/alice"), (2, "users/bob"), (3, "users/carol")):
            deletions.add(cursor, user)
        await until(lambda: part.times("users/carol") == 2)
        deletions.add(4, "users/dave")
        await until(lambda: part.times("users/dave") == 2)
        await until(lambda: outbox.confirmed)
        assert (outbox.confirmed, part.times("users/bob")) == ([1], 0)
        part.refused.clear()
        await until(lambda: len(outbox.confirmed) == 2)
    assert outbox.confirmed == [1, 4]
    assert [part.times(f"users/{name}") for name in ("alice", "bob", "carol", "dave")] == [2, 2, 2, 2]


@U6
async def test_one_that_fails_again_and_again_is_tried_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_FIRST_S", 0.05)
    part = Part()
    part.refused.add("users/bob")
    async with at_work(Outbox(), part) as deletions:
        deletions.add(1, "users/bob")
        await until(lambda: len(part.tried_s) == 4)
    gaps = [later - earlier for earlier, later in itertools.pairwise(part.tried_s)]
    assert all(gap >= least for gap, least in zip(gaps, (0.05, 0.1, 0.2), strict=True))


@U6
async def test_a_later_deletion_does_not_wait_for_an_earlier_ones_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IN_FLIGHT_S", 3600.0)
    outbox, part = Outbox(), Part()
    async with at_work(outbox, part) as deletions:
        deletions.add(1, "users/alice")
        await until(lambda: len(part.done) == 1)
        deletions.add(2, "users/bob")
        await until(lambda: len(part.done) == 2)
    assert outbox.confirmed == []


@U6
async def test_a_user_service_that_is_away_gets_the_confirmation_when_it_is_back() -> None:
    outbox, part = Outbox(), Part()
    outbox.failures = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED]
    async with at_work(outbox, part) as deletions:
        deletions.add(1, "users/alice")
        await until(lambda: outbox.confirmed == [1])
    assert outbox.rotations == 2


@U6
async def test_a_confirmation_that_is_refused_is_not_repeated_for_ever() -> None:
    outbox, part = Outbox(), Part()
    outbox.failures = [grpc.StatusCode.FAILED_PRECONDITION]
    async with at_work(outbox, part) as deletions:
        deletions.add(500, "users/alice")
        await until(lambda: not outbox.failures)
        deletions.add(3, "users/bob")
        await until(lambda: outbox.confirmed)
    assert outbox.confirmed == [3]
