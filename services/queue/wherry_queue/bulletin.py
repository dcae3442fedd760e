"""What the replicas of the queue tell each other, so that nobody has to wait for a slow look at the rows.

Who subscribes here is called at once with what this replica says, and some milliseconds later with what others say.
Nothing rests on it: rows are the truth, a notice can be lost, and each subscriber looks slowly as well. With SQLite
there is one replica, and what is said stays in it.
"""

from __future__ import annotations

import asyncio
import enum
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger
from wherry_chassis.notices import MAX_NOTICE_BYTES, Notices
from wherry_chassis.sql import Database

_CHANNEL = "wherry_queue"
_GATHER_S = 0.015
"""What is said within so long travels together: each transaction that notifies takes a lock of the whole server."""
_RETRY_S = 1.0
_MOST_UNSENT = 20_000
"""Of one topic, while the database is away; then others are told that something was lost."""
_MOST_ITEM_BYTES = 7000
_LAST_WORDS_S = 1.0
_GAP = "gap"

Callback = Callable[[Sequence[Any]], None]


class Topic(enum.StrEnum):
    """What a notice is about, and what its items are."""

    JOBS = "jobs"
    """Ids of jobs to which something has happened."""
    READY = "ready"
    """There may be something to lease; no items."""
    HELD = "held"
    """Ids of jobs that were cancelled, held or let go: what runs of them may have to stop."""
    BEGUN = "begun"
    """(User's name, job's id): that user has a job that was not open before."""
    DRAIN = "drain"
    """A replica or a worker is to take nothing more."""


_OF_SOMETHING = frozenset({Topic.JOBS, Topic.HELD, Topic.BEGUN})
"""Without an item there is nothing to say."""


class Bulletin:
    """What is said at this replica and at the others.

    Items are integers, strings, or tuples of these, of at most some thousand characters.
    """

    def __init__(self, database: Database) -> None:
        self._notices = Notices(database, _CHANNEL, on_notice=self._heard, on_gap=self._missed)
        self._subscribers: dict[Topic, list[Callback]] = {topic: [] for topic in Topic}
        self._gap_subscribers: list[Callable[[], None]] = []
        self._unsent: dict[Topic, dict[str, None]] = {}
        self._lost = False
        self._news = asyncio.Event()
        self._nonce = secrets.token_hex(8)

    def subscribe(self, topic: Topic, callback: Callback) -> None:
        """Has `callback` called with the items of each notice of a topic, of this replica or of another."""
        self._subscribers[topic].append(callback)

    def on_gap(self, callback: Callable[[], None]) -> None:
        """Has `callback` called whenever notices of other replicas may have been lost."""
        self._gap_subscribers.append(callback)

    def say(self, topic: Topic, items: Iterable[Any] = ()) -> None:
        """Tells subscribers here at once, and those at other replicas soon.

        For the event loop's thread. It never waits and never raises.
        """
        said = list(dict.fromkeys(items))
        if not said and topic in _OF_SOMETHING:
            return
        self._tell(topic, said)
        if self._notices.reaches_others:
            self._call(self._keep, topic, said)
            self._news.set()

    async def run(self) -> None:
        """Listens to other replicas and tells them what is said here, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._notices.listen())
            group.create_task(self._send())

    async def close(self) -> None:
        """Says what is still unsaid, if that is possible, and hangs up."""
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._flush()
        except (DatabaseUnavailable, TimeoutError):
            logger().warning("last_notices_unsent")
        await self._notices.close()

    def _keep(self, topic: Topic, items: Sequence[Any]) -> None:
        """Keeps items, as they are sent, until they are."""
        texts = [json.dumps(item, separators=(",", ":")) for item in items]
        if any(len(text) > _MOST_ITEM_BYTES for text in texts):
            raise ValueError("an item is too long for a notice")
        unsent = self._unsent.setdefault(topic, {})
        unsent.update(dict.fromkeys(texts))
        if len(unsent) > _MOST_UNSENT:
            del self._unsent[topic]
            self._lost = True

    async def _send(self) -> None:
        try:
            while True:
                await self._news.wait()
                await asyncio.sleep(_GATHER_S)
                self._news.clear()
                try:
                    await self._flush()
                except DatabaseUnavailable:
                    self._news.set()
                    await asyncio.sleep(_RETRY_S)
        finally:
            await self._notices.close()

    async def _flush(self) -> None:
        """Sends what is unsent; what cannot be sent is kept."""
        unsent, self._unsent = self._unsent, {}
        lost, self._lost = self._lost, False
        gap = [self._text(_GAP, "")] if lost else []
        try:
            await self._notices.send([*self._packed(unsent), *gap])
        except BaseException:
            self._lost = self._lost or lost
            for topic, items in unsent.items():
                self._unsent[topic] = items | self._unsent.get(topic, {})
            raise

    def _packed(self, unsent: dict[Topic, dict[str, None]]) -> Iterator[str]:
        """Gives notices with all of the items, each short enough. They are ASCII: a character is a byte."""
        room_bytes = MAX_NOTICE_BYTES - len(self._text(max(Topic, key=len), ""))
        for topic, items in unsent.items():
            some: list[str] = []
            size_bytes = 0
            for item in items:
                if some and size_bytes + len(item) > room_bytes:
                    yield self._text(topic, ",".join(some))
                    some, size_bytes = [], 0
                some.append(item)
                size_bytes += len(item) + 1
            yield self._text(topic, ",".join(some))

    def _text(self, topic: str, items: str) -> str:
        return f'["{self._nonce}","{topic}",[{items}]]'

    def _heard(self, text: str) -> None:
        """Takes a notice. What a newer version says, and this one does not understand, is left to the slow looks."""
        try:
            nonce, name, items = json.loads(text)
            if nonce == self._nonce:
                return
            if name == _GAP:
                self._missed()
                return
            topic = Topic(name)
            said = [tuple(item) if isinstance(item, list) else item for item in items]
        except (ValueError, TypeError):
            logger().warning("notice_not_understood", size_bytes=len(text))
            return
        self._tell(topic, said)

    def _missed(self) -> None:
        for callback in self._gap_subscribers:
            self._call(callback)

    def _tell(self, topic: Topic, items: Sequence[Any]) -> None:
        for callback in self._subscribers[topic]:
            self._call(callback, items)

    def _call(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Calls a subscriber. Its fault is nobody else's: neither the speaker's nor that of the other subscribers."""
        try:
            callback(*arguments)
        except Exception:  # noqa: BLE001  # logged whole; the slow look finds what it did not take
            logger().exception("notice_not_taken")
