"""What is kept of messages that go to many."""

from __future__ import annotations

from wherry_queue.shelf import Shelf, Shown


class Texts:
    """Messages are texts; their case says nothing."""

    def content(self, message: str) -> int:
        return hash(message.lower())

    def size_bytes(self, message: str) -> int:
        return len(message)


def shown(shelf: Shelf[str], key: int) -> str | None:
    found = shelf[key]
    assert found is not None
    return found.message


def test_what_says_the_same_is_no_news() -> None:
    shelf = Shelf(Texts(), 100)
    assert shelf.put(1, "waits", 1)
    assert not shelf.put(1, "WAITS", 2)
    assert shown(shelf, 1) == "WAITS", "the last one is what is shown"
    assert shelf.put(1, "runs", 3)
    shelf.note(2, hash("waits"))
    shelf.note(1, hash("waits"))
    assert shelf[2] == Shown(hash("waits"), 0)
    assert not shelf.put(2, "waits", 3)
    assert not shelf.put(1, "runs", 4), "what is noted is not later than what was read"


def test_without_room_the_oldest_messages_go_and_it_is_still_known_what_they_said() -> None:
    shelf = Shelf(Texts(), 10)
    for key in (1, 2, 1, 3):
        shelf.put(key, f"12345{key}"[-5:], 1)
    assert [shown(shelf, key) for key in (1, 2, 3)] == ["23451", None, "23453"]
    assert not shelf.put(2, "23452", 2)
    assert shown(shelf, 1) is None
    shelf.put(4, "larger than there is room for", 2)
    assert [shown(shelf, key) for key in (2, 3, 4)] == [None, None, "larger than there is room for"]


def test_what_is_forgotten_gives_its_room_back() -> None:
    shelf = Shelf(Texts(), 10)
    shelf.put(1, "12345", 1)
    shelf.put(2, "12345", 1)
    shelf.forget(1)
    shelf.forget(7)
    assert shelf[1] is None
    shelf.put(3, "12345", 2)
    assert [shown(shelf, key) for key in (2, 3)] == ["12345", "12345"]
    assert shelf.put(1, "12345", 2), "it is news again"
