"""The worker's side of the lease protocol: takes leases, runs them, lets them be renewed and cancelled, drains.

A lost stream loses nothing: what runs goes on until its deadline, and the next stream, to any replica, names it.
"""

from __future__ import annotations

import asyncio
import random
import time

from wherry_chassis.logging import logger

from wherry_worker.attempt import Attempt
from wherry_worker.ports import LeaseStream, Opened, Queue, QueueUnavailable, StreamEvent
from wherry_worker.running import Runner
from wherry_worker.settling import FIRST_WAIT_S, LONGEST_WAIT_S, Settler
from wherry_worker.stopping import DRAINED, JOB_PAUSED, LEASE_LOST, never_started
from wherry_worker.work import EndedSession, Lease, LeaseRef, Outcome, Renewal, Settlement, TaskProgress, WorkClass

PROGRESS_INTERVAL_S = 1.0
#: A stream that was silent for so many heartbeats is dead.
_SILENT_HEARTBEATS = 3
_FIRST_SILENCE_S = 30.0
#: Of the time that a drain leaves, so much is kept for stopping what still runs and tidying up behind it: a quarter, at
#: most so many seconds. A worker that is left less waits so long all the same for the queue's word on its results.
_STOPPING_S = 5.0
#: So long after it was told to end, a worker takes what was on its way to it all the same, and gives it back: one that
#: has nothing to do would be gone, and that lease would be nobody's until it lapses.
_UNDER_WAY_S = 0.5


class Leasing:
    """Holds leases: at most `interactive` and `bulk` of each class at once."""

    def __init__(self, queue: Queue, runner: Runner, *, interactive: int, bulk: int) -> None:
        self._queue = queue
        self._runner = runner
        self._places = {WorkClass.INTERACTIVE: interactive, WorkClass.BULK: bulk}
        self._settler = Settler(queue)
        self._held: dict[str, Attempt] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._draining = asyncio.Event()
        self._hurried = asyncio.Event()
        self._end_by = self._stop_at = float("inf")
        self._grace_s = float("inf")
        self._drained_at = float("inf")
        self._told: dict[str, TaskProgress] = {}
        self._heartbeat_s = _FIRST_SILENCE_S / _SILENT_HEARTBEATS
        self._opened_before = False

    @property
    def held(self) -> list[LeaseRef]:
        """Every lease that this worker answers for."""
        return [attempt.lease.ref for attempt in self._held.values()] + self._settler.held

    def drain(self, grace_s: float | None = None) -> None:
        """Takes no more; `serve` returns when what runs has ended and is settled.

        What has not ended in `grace_s` (None: those of `serve`) is stopped and given back. Asked again, the sooner end
        counts.
        """
        grace_s = self._grace_s if grace_s is None else grace_s
        if not self._draining.is_set():
            logger().info("draining", held=len(self._held), grace_s=grace_s)
            self._drained_at = time.monotonic()
        self._end_by = min(self._end_by, time.monotonic() + grace_s)
        self._stop_at = min(self._stop_at, time.monotonic() + grace_s - min(_STOPPING_S, grace_s / 4))
        self._draining.set()
        self._hurried.set()
        self._changed.set()

    async def serve(self, grace_s: float) -> None:
        """Works until drained, by default within `grace_s`."""
        self._grace_s = grace_s
        settling = asyncio.create_task(self._settler.run(), name="settling")
        streaming = asyncio.create_task(self._keep_streaming(), name="streaming")
        draining = asyncio.create_task(self._draining.wait(), name="draining")
        try:
            ended, _ = await asyncio.wait([settling, streaming, draining], return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()  # those that run for ever end only by an error, which is the worker's end too
            await self._end_all()
        finally:
            for task in (streaming, settling, draining):
                task.cancel()
            for run in self._runs.values():
                run.cancel()
            await asyncio.gather(streaming, settling, draining, *self._runs.values(), return_exceptions=True)

    async def _end_all(self) -> None:
        while self._runs and (left_s := self._stop_at - time.monotonic()) > 0:
            self._hurried.clear()
            hurried = asyncio.create_task(self._hurried.wait(), name="hurried")
            await asyncio.wait([*self._runs.values(), hurried], timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
        await asyncio.gather(*(attempt.stop(DRAINED) for attempt in self._held.values()))
        if self._runs:
            await asyncio.wait(list(self._runs.values()), timeout=max(self._end_by - time.monotonic(), _STOPPING_S))
        await asyncio.sleep(min(self._drained_at + _UNDER_WAY_S, self._end_by) - time.monotonic())
        try:
            async with asyncio.timeout(max(self._end_by - time.monotonic(), _STOPPING_S)):
                await self._settler.settled()
        except TimeoutError:
            logger().error("results_not_settled", count=len(self._settler.held))

    # --- the stream ---

    async def _keep_streaming(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            opened_at = time.monotonic()
            try:
                async with self._queue.stream(self.held) as stream, asyncio.TaskGroup() as group:
                    group.create_task(self._listen(stream))
                    group.create_task(self._talk(stream))
            except* QueueUnavailable as errors:
                logger().info("stream_ended", cause=str(errors.exceptions[0]))
            if time.monotonic() - opened_at > LONGEST_WAIT_S:
                wait_s = FIRST_WAIT_S
            await asyncio.sleep(wait_s * (0.5 + random.random()))  # noqa: S311  # jitter, no secret
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    async def _listen(self, stream: LeaseStream) -> None:
        silence_s = _FIRST_SILENCE_S
        events = aiter(stream.events())
        while True:
            try:
                async with asyncio.timeout(silence_s):
                    event = await anext(events)
            except StopAsyncIteration:
                raise QueueUnavailable("the queue closed the stream") from None
            except TimeoutError:
                raise QueueUnavailable("the stream is silent") from None
            if event.opened is not None:
                self._heartbeat_s = event.opened.heartbeat_s
                silence_s = _SILENT_HEARTBEATS * self._heartbeat_s
                logger().info("stream_opened", held=len(self._held))
            await self._take(event)

    async def _take(self, event: StreamEvent) -> None:
        if event.opened is not None:
            await self._reopened(event.opened)
        for ref, reason in event.cancelled:
            await self._stop(ref, reason)
        for renewal in event.renewed:
            await self._renew(renewal)
        for ended in event.ended_sessions:
            await self._session_ended(ended)
        for lease in event.leases:
            await self._accept(lease)
        if event.drain_grace_s is not None:
            self.drain(event.drain_grace_s)

    async def _talk(self, stream: LeaseStream) -> None:
        told: tuple[int, int] | None = None
        drained = False
        said_at = time.monotonic()
        while True:
            self._changed.clear()
            places = self._capacity()
            if self._draining.is_set() and not drained:
                await stream.drain()
                drained = True
            if places != told:
                await stream.capacity(*places)
                told = places
            news = self._news()
            # Also with nothing in it: the queue renews the leases of workers that it hears of.
            if news or time.monotonic() - said_at >= self._heartbeat_s / 2:
                await stream.progress(news)
                said_at = time.monotonic()
            try:
                async with asyncio.timeout(min(PROGRESS_INTERVAL_S, self._heartbeat_s / 2)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _capacity(self) -> tuple[int, int]:
        """Returns how many tasks of each class are held at once; the queue knows how many are."""
        if self._draining.is_set():
            return 0, 0
        return self._places[WorkClass.INTERACTIVE], self._places[WorkClass.BULK]

    def _news(self) -> list[TaskProgress]:
        """Returns the progress that has not been told, a second apart for each task."""
        news = []
        for task, attempt in self._held.items():
            now = attempt.progress()
            before = self._told.get(task)
            if before is None or before.ref != now.ref:
                before = TaskProgress(now.ref, 0, 0, 0)
            same = (before.transferred_bytes, before.files_done) == (now.transferred_bytes, now.files_done)
            if not same and now.measured_at_s - before.measured_at_s >= PROGRESS_INTERVAL_S * 0.9:
                self._told[task] = now
                news.append(now)
        return news

    # --- leases ---

    async def _accept(self, lease: Lease) -> None:
        task = lease.ref.task
        held = self._held.get(task)
        if held is not None:
            if held.lease.ref.fence >= lease.ref.fence:
                return  # the same lease, sent again
            run = self._runs[task]  # it may end, and be forgotten, while it is being stopped
            await self._stop(held.lease.ref, LEASE_LOST)
            await asyncio.wait([run])
        if self._draining.is_set():
            # It was under way when the queue was told.
            self._settler.add(never_started(Settlement(lease.ref, Outcome.CANCELLED)))
            return
        attempt = Attempt(lease)
        self._held[task] = attempt
        self._runs[task] = asyncio.create_task(self._run(attempt), name=f"lease {task}")

    async def _run(self, attempt: Attempt) -> None:
        task = attempt.lease.ref.task
        try:
            settlement = await self._runner.run(attempt)
            if attempt.stop_reason != LEASE_LOST:
                self._settler.add(settlement)
        finally:
            if self._held.get(task) is attempt:
                del self._held[task]
                del self._runs[task]
            self._told.pop(task, None)
            self._changed.set()

    async def _reopened(self, opened: Opened) -> None:
        for ref in opened.lost:
            await self._stop(ref, LEASE_LOST)
        if self._opened_before:
            # What was said of sessions between two streams was not heard, and is not said again.
            for attempt in self._held.values():
                attempt.ended_sites |= {attempt.lease.source_site, attempt.lease.destination_site}
            await self._runner.end_all_sessions()
        self._opened_before = True

    async def _session_ended(self, ended: EndedSession) -> None:
        for attempt in self._held.values():
            lease = attempt.lease
            if lease.user == ended.user and ended.site in (lease.source_site, lease.destination_site):
                attempt.ended_sites.add(ended.site)
        await self._runner.end_sessions(ended.user, ended.site)

    async def _renew(self, renewal: Renewal) -> None:
        attempt = self._held.get(renewal.ref.task)
        if attempt is not None and attempt.lease.ref == renewal.ref:
            await attempt.extend(renewal.deadline, renewal.token)

    async def _stop(self, ref: LeaseRef, reason: str) -> None:
        attempt = self._held.get(ref.task)
        if attempt is not None and attempt.lease.ref.fence <= ref.fence:
            logger().info("lease_cancelled", task=ref.task, fence=ref.fence, reason=reason)
            if reason == JOB_PAUSED:
                await attempt.pause()
            else:
                await attempt.stop(reason)
