"""How much goes onto a page: no more than a client takes in one message, whatever the paths and texts in it are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from google.protobuf.message import Message

PAGE_BYTES = 1 << 20
"""A page ends here, with fewer than were asked for: gRPC's clients take 4 MiB in a message unless told otherwise."""
SPECIFICATION_BYTES = 3 << 20
"""What was asked for of a job, or (in brief) of a batch, has no more: it is answered in one message, with the rest."""

M = TypeVar("M", bound=Message)


class Room:
    """What is left of a page."""

    def __init__(self) -> None:
        self._left: int | None = None

    def takes(self, message: Message) -> bool:
        """Tells whether a message belongs on the page still; the first one always does."""
        size = message.ByteSize()
        if self._left is None:
            self._left = max(PAGE_BYTES - size, 0)
            return True
        self._left -= size
        return self._left >= 0


def fitting(messages: Iterable[M]) -> Sequence[M]:
    """Returns as many of the messages, from the first one, as go onto a page; at least one, if there is one."""
    return list(_taken(messages))


def _taken(messages: Iterable[M]) -> Iterator[M]:
    room = Room()
    for message in messages:
        if not room.takes(message):
            return
        yield message
