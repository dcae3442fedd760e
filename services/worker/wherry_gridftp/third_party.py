"""Files sent from server to server, one behind the other without a pause, with the outcome of each.

A file is there once *both* servers have said so. After a failure nothing more is believed: a STOR that waits may have
been given the next file's bytes, and be content. The pair of connections is then given up, and what had not been
confirmed before goes again, over another pair, under another name.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Literal, TypeVar

from wherry_gridftp.connection import Connection, check_fit
from wherry_gridftp.markers import Markers, Range, restart_value
from wherry_gridftp.replies import Reply

Key = TypeVar("Key")
Side = Literal["source", "destination"]
_SIDES: tuple[Side, Side] = ("destination", "source")

DEFAULT_WINDOW = 128
"""Files under way: enough to hide 50 ms of round trip at 2,000 files a second."""
ANSWER_OF_THE_OTHER_S = 0.2
"""After a refusal the other server's words are waited for so long: they may say more."""
_OF_THE_CHANNEL = re.compile(
    rb"data (channel|connection)|broken pipe|connection reset|connection timed out|end of file|end-of-file|aborted|"
    rb"an operation was cancell?ed",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Failure(Generic[Key]):
    """Why a file did not arrive.

    Attributes:
        side: whose words `reply` are; None: both complain of the channel between them only.
        of_restart: whether the server does not keep what is there already: it may take the file from its start.
        of_channel: whether the words are about the channel between them only, which breaks at both ends for whatever
            reason.
    """

    key: Key
    side: Side | None
    reply: Reply
    of_restart: bool = False
    of_channel: bool = False


@dataclass(slots=True)
class _Item(Generic[Key]):
    key: Key
    source_path: bytes
    destination_path: bytes
    have: Sequence[Range]
    markers: Markers
    answers: dict[Side, Reply] = field(default_factory=dict)
    restart_refused: Side | None = None


def _nobody_asks(key: object, markers: Markers) -> None:
    """Takes progress that nobody wants to know of."""


class ThirdParty(Generic[Key]):
    """Sends files over a pair of connections of which `data_channel.set_up` has made a channel.

    It does nothing itself: the connections are pumped by whoever has them.

    Args:
        on_sent: called with the key of each file that both servers have confirmed, in order.
        on_progress: called with key and markers as the destination tells them.
        patience_s: so long there may be no news of the file whose turn it is. Of the destination's markers those count
            that tell of progress: it sends them also while nothing arrives, and the source is silent until it has
            sent the last byte.
        window: files under way at most.
    """

    def __init__(
        self,
        source: Connection,
        destination: Connection,
        on_sent: Callable[[Key], None],
        on_progress: Callable[[Key, Markers], None] = _nobody_asks,
        *,
        patience_s: float = 120.0,
        window: int = DEFAULT_WINDOW,
    ) -> None:
        self.connections: dict[Side, Connection] = {"source": source, "destination": destination}
        self._on_sent = on_sent
        self._on_progress = on_progress
        self._patience_s = patience_s
        self._window = window
        self._waiting: deque[_Item[Key]] = deque()
        self._under_way: deque[_Item[Key]] = deque()
        self._failed = False

    def submit(self, key: Key, source_path: bytes, destination_path: bytes, have: Sequence[Range] = ()) -> None:
        """Has a file sent; what is at the destination path is overwritten.

        Args:
            have: what is there already and is kept (GFD.20's restart); must be of the same file.

        Raises:
            UnfitName: nothing is sent; the others go on.
        """
        # All of them before any is sent: a server whose counterpart got nothing would take the next file for this one.
        check_fit(b"STOR " + destination_path)
        check_fit(b"RETR " + source_path)
        self._waiting.append(_Item(key, source_path, destination_path, have, Markers(have)))
        self._send()

    @property
    def failed(self) -> bool:
        """Whether a server has refused something: no more is sent, and nothing of what is not yet sent is believed."""
        return self._failed

    @property
    def load(self) -> int:
        """Files that are waiting or under way."""
        return len(self._waiting) + len(self._under_way)

    @property
    def moving(self) -> Key | None:
        """The file whose turn it is."""
        return self._under_way[0].key if self._under_way else None

    def arrived(self) -> Sequence[Range]:
        """Returns which bytes of the file whose turn it is are at the destination, as far as that has told.

        After a refusal they may be those of another file.
        """
        return self._under_way[0].markers.ranges if self._under_way else ()

    def both_have_spoken(self) -> bool:
        """Whether, after a refusal, both servers have said what they have to say of the first file without success."""
        return bool(self._under_way) and len(self._under_way[0].answers) == 2

    def has_answered(self, side: Side) -> bool:
        """Whether a server has given its final answer on the file whose turn it is; also where there is none."""
        return not self._under_way or side in self._under_way[0].answers

    def failure(self) -> Failure[Key] | None:
        """Returns why the first file that is not there is not; None where neither server has refused it.

        The words that are about the file count for more than those that are about the channel, which breaks at both
        ends for whatever reason.
        """
        if not self._under_way:
            return None
        first = self._under_way[0]
        if first.restart_refused is not None:
            side = first.restart_refused
            return Failure(first.key, side, first.answers[side], of_restart=True)
        refusals = {
            side: first.answers[side] for side in _SIDES if side in first.answers and not first.answers[side].done
        }
        if not refusals:
            return None
        for side, reply in refusals.items():
            if not _OF_THE_CHANNEL.search(_words(reply, first)):
                return Failure(first.key, side, reply)
        only = next(iter(refusals)) if len(refusals) == 1 else None
        return Failure(first.key, only, next(iter(refusals.values())), of_channel=True)

    def unconfirmed(self) -> list[Key]:
        """Returns what was handed in and is not known to be there, in order; what was begun comes first."""
        return [item.key for item in (*self._under_way, *self._waiting)]

    def begun(self) -> list[Key]:
        """Returns of those what may have left something at the destination."""
        return [item.key for item in self._under_way]

    def close(self) -> None:
        """Closes both connections: what moves stops within moments."""
        for connection in self.connections.values():
            connection.close()

    def _send(self) -> None:
        while self._waiting and len(self._under_way) < self._window and not self._failed:
            item = self._waiting.popleft()
            self._under_way.append(item)
            source, destination = self.connections["source"], self.connections["destination"]
            if item.have:
                restart = b"REST " + restart_value(item.have)
                for side in _SIDES:
                    self.connections[side].submit(restart, partial(self._restarted, item, side))
            destination.submit(
                b"STOR " + item.destination_path,
                partial(self._answered, item, "destination"),
                partial(self._told, item),
                patience_s=self._patience_s,
            )
            source.submit(
                b"RETR " + item.source_path, partial(self._answered, item, "source"), patience_s=self._patience_s
            )

    def _restarted(self, item: _Item[Key], side: Side, reply: Reply) -> None:
        """A server that does not keep what is there has been sent a file with holes: that is a refusal of the file."""
        if reply.code >= 400:
            self._failed = True
            item.answers[side] = reply
            item.restart_refused = side

    def _told(self, item: _Item[Key], reply: Reply) -> None:
        if item.markers.take(reply):
            self.connections["source"].note_life()
            self._on_progress(item.key, item.markers)

    def _answered(self, item: _Item[Key], side: Side, reply: Reply) -> None:
        item.answers.setdefault(side, reply)
        if not reply.done:
            self._failed = True
        # A refusal of a later file may come first; those before it are as good as ever.
        while self._under_way and self._is_there(self._under_way[0]):
            self._on_sent(self._under_way.popleft().key)
        self._send()

    @staticmethod
    def _is_there(item: _Item[Key]) -> bool:
        return len(item.answers) == 2 and all(reply.done for reply in item.answers.values())


def _words(reply: Reply, item: _Item[Key]) -> bytes:
    """Returns what a server says without the paths in it: people have files that are called `aborted`."""
    words = b"\n".join(reply.lines)
    for path in (item.source_path, item.destination_path):
        words = words.replace(path, b"")
    return words
