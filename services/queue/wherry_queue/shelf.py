"""Messages that are sent to many: built once, kept while there is room."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

M = TypeVar("M")
Message = TypeVar("Message", contravariant=True)


class Measure(Protocol[Message]):
    """What a shelf has to know of messages."""

    def content(self, message: Message) -> int:
        """Returns the same number for messages that say the same."""
        ...

    def size_bytes(self, message: Message) -> int:
        """Returns how large a message is."""
        ...


@dataclass(slots=True)
class Shown(Generic[M]):
    """How something was last shown.

    Attributes:
        content: as `Measure.content`.
        round_number: of the reading that it is from; 0: of none.
        message: None if there was no room for it any more.
    """

    content: int
    round_number: int
    message: M | None = None
    size_bytes: int = 0


class Shelf(Generic[M]):
    """The last message of each of some things, by their ids; of the content, always, and whole, while there is room."""

    def __init__(self, measure: Measure[M], room_bytes: int) -> None:
        self._measure = measure
        self._room_bytes = room_bytes
        self._shown: dict[int, Shown[M]] = {}
        self._whole: OrderedDict[int, Shown[M]] = OrderedDict()

    def __getitem__(self, key: int) -> Shown[M] | None:
        return self._shown.get(key)

    def put(self, key: int, message: M, round_number: int) -> bool:
        """Keeps a message; tells whether it says anything new."""
        before = self._shown.get(key)
        shown = Shown(self._measure.content(message), round_number, message, self._measure.size_bytes(message))
        self._drop(key)
        self._shown[key] = self._whole[key] = shown
        self._room_bytes -= shown.size_bytes
        while self._room_bytes < 0 and len(self._whole) > 1:
            self._drop(next(iter(self._whole)))
        return before is None or before.content != shown.content

    def note(self, key: int, content: int) -> None:
        """Notes what is known to be shown already, unless there is something later."""
        self._shown.setdefault(key, Shown(content, 0))

    def forget(self, key: int) -> None:
        """Keeps nothing more of it."""
        self._drop(key)
        self._shown.pop(key, None)

    def _drop(self, key: int) -> None:
        """Gives the room of a message back."""
        if (shown := self._whole.pop(key, None)) is not None:
            self._room_bytes += shown.size_bytes
            shown.message = None
