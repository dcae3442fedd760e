"""Large files that go on from where they were, between two servers that lose connections when a test has them do so."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from wherry_testing.scripted_copies import Between, a_copy, commands, copied, plainly
from wherry_testing.scripted_gridftp import ScriptedGridFtp, ScriptedSession
from wherry_worker.engine.messages import ItemDone, LeftBehind, Message, Problem, Progress
from wherry_worker.engine.partial_files import keep_needed, prefix_to_prove
from wherry_worker.engine.port import Engine, TaskFailed
from wherry_worker.engine.stale import Stale
from wherry_worker.engine.temporary import TemporaryName

pytestmark = pytest.mark.row("B9")

MIB = 1 << 20
SIZE = 9


def sized(command: bytes, session: ScriptedSession) -> None:
    """As a source whose file has nine bytes."""
    if command.startswith(b"MLST "):
        session.reply(b"250-status", b" Type=file;Size=%d;Modify=20260102030405; /it" % SIZE, b"250 End.")
    elif command.startswith(b"SIZE "):
        session.reply(b"213 %d" % SIZE)


class Losing:
    """A destination that loses the connection of each of the first transfers after it has told what is there."""

    def __init__(self, *told: bytes) -> None:
        self.told = list(told)

    def __call__(self, command: bytes, session: ScriptedSession) -> None:
        plainly(command, session)
        if command.startswith((b"MLST ", b"SIZE ")) and b"/.wherry-" in command:
            sized(command, session)
        elif command.startswith(b"STOR ") and self.told:
            session.reply(b"150 opening")
            if ranges := self.told.pop(0):
                session.reply(b"111 Range Marker " + ranges)
            self.lose(session)

    def lose(self, session: ScriptedSession) -> None:
        session.drop()


def of_transfers(server: ScriptedGridFtp) -> list[bytes]:
    """What a server was told of what is there, and of what to send or take, in its order."""
    verbs = (b"REST", b"STOR", b"RETR")
    return [line for session in server.sessions for line in session.commands if line.split(b" ")[0] in verbs]


def told(engine: Engine) -> tuple[list[Message], Problem | None]:
    """Copies a file; returns what the engine told, and why the task failed."""
    messages: list[Message] = []
    try:
        messages.extend(engine.copy_files(a_copy("file"), messages.append, lambda: False))
    except TaskFailed as failed:
        return messages, failed.problem
    return messages, None


def test_of_a_file_that_was_moving_only_the_rest_is_sent_under_a_new_name(between: Between) -> None:
    engine, source, destination = between(sized, Losing(b"0-3,5-6"), resume_bytes=1)
    assert copied(engine, a_copy("file"))[0] == {"file": None}
    assert of_transfers(destination) == [b"STOR /.wherry-job.7-1-0", b"REST 0-3,5-6", b"STOR /.wherry-job.7-1-1000000"]
    assert of_transfers(source) == [b"RETR /file", b"REST 0-3,5-6", b"RETR /file"]
    assert commands(destination, b"RNFR")[0] == b"RNFR /.wherry-job.7-1-0"
    # What serves the lost connection may make its file again.
    assert b"DELE /.wherry-job.7-1-0" in commands(destination, b"DELE")


def test_a_small_file_begins_anew(between: Between) -> None:
    engine, _, destination = between(sized, Losing(b"0-3"), resume_bytes=SIZE + 1)
    assert copied(engine, a_copy("file"))[0] == {"file": None}
    assert commands(destination, b"REST") == []


def test_where_sizes_alone_are_compared_a_file_begins_anew(between: Between) -> None:
    """Nothing would tell that what was there is another's."""
    engine, _, destination = between(sized, Losing(b"0-3"), resume_bytes=1)
    assert copied(engine, replace(a_copy("file"), verification="size"))[0] == {"file": None}
    assert commands(destination, b"REST") == []


def test_what_is_there_is_not_believed_after_a_refusal(between: Between) -> None:
    """A file that waits behind the refused one may have been given the next one's bytes."""
    waits = threading.Event()

    def at_source(command: bytes, session: ScriptedSession) -> None:
        sized(command, session)
        if command == b"RETR /second" and losing.told:
            session.hold()
        elif command == b"RETR /second":
            waits.wait(20)
            session.reply(b"550-GridFTP-Errno: 13", b"550 Permission denied")

    class Waiting(Losing):
        def __call__(self, command: bytes, session: ScriptedSession) -> None:
            if command == b"STOR /.wherry-job.7-1-1000000":
                session.hold()
                waits.set()
            elif command.startswith(b"STOR ") and command.endswith(b"1"):
                session.hold()
            else:
                super().__call__(command, session)

    losing = Waiting(b"0-3")
    engine, _, destination = between(at_source, losing, resume_bytes=1)
    reasons = copied(engine, a_copy("first", "second"))[0]
    assert reasons == {"first": None, "second": "SOURCE_PERMISSION_DENIED"}
    assert commands(destination, b"STOR")[-1] == b"STOR /.wherry-job.7-1-2000000"
    assert commands(destination, b"REST") == [b"REST 0-3"]  # the one that waited


def test_that_the_destination_complains_of_its_channel_while_the_source_is_lost_is_no_refusal(
    between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its words come before the end of the other connection is seen, where the machine is busy."""
    monkeypatch.setattr("wherry_worker.engine.pipelined_copy.ANSWER_OF_THE_OTHER_S", 20.0)
    complained, dropped = threading.Event(), threading.Event()

    class Complaining(Losing):
        def lose(self, session: ScriptedSession) -> None:
            session.reply(b"426 the data channel was closed")
            complained.set()

    def at_source(command: bytes, session: ScriptedSession) -> None:
        sized(command, session)
        if command.startswith(b"RETR ") and not dropped.is_set():
            complained.wait(20)
            dropped.set()
            session.drop()

    engine, source, destination = between(at_source, Complaining(b"0-3"), resume_bytes=1)
    assert copied(engine, a_copy("file"))[0] == {"file": None}
    assert commands(destination, b"REST") == commands(source, b"REST") == [b"REST 0-3"]


@pytest.mark.parametrize("changed", [False, True])
def test_a_file_whose_source_looks_as_before_goes_on_when_all_connections_are_lost(
    between: Between, changed: bool
) -> None:
    looks: list[bytes] = []

    def at_source(command: bytes, session: ScriptedSession) -> None:
        if command.startswith(b"MLST "):
            looks.append(command)
            second = b"06" if changed and len(looks) > 1 else b"05"
            fact = b" Type=file;Size=%d;Modify=202601020304%s; /it" % (SIZE, second)
            session.reply(b"250-status", fact, b"250 End.")

    told = threading.Event()

    class LosingAll(Losing):
        def lose(self, session: ScriptedSession) -> None:
            assert told.wait(20)
            for one in destination.sessions:
                one.drop()

    def hear(progress: Progress) -> None:
        if progress.transferred_bytes == 3:
            told.set()

    engine, _, destination = between(at_source, LosingAll(b"0-3"), resume_bytes=1)
    done = [m for m in engine.copy_files(a_copy("file"), hear, lambda: False) if isinstance(m, ItemDone)]
    assert [item.problem for item in done] == [None]
    assert commands(destination, b"REST") == ([] if changed else [b"REST 0-3"])


def test_a_partial_file_that_cannot_be_renamed_is_given_up(between: Between) -> None:
    class Stubborn(Losing):
        def __call__(self, command: bytes, session: ScriptedSession) -> None:
            if command == b"RNFR /.wherry-job.7-1-0":
                session.reply(b"550 not this one")
            else:
                super().__call__(command, session)

    engine, _, destination = between(sized, Stubborn(b"0-3"), resume_bytes=1)
    assert copied(engine, a_copy("file"))[0] == {"file": None}
    assert commands(destination, b"REST") == []
    begun = {line.removeprefix(b"STOR ") for line in commands(destination, b"STOR")}
    assert len(begun) == 2
    assert b"DELE /.wherry-job.7-1-0" in commands(destination, b"DELE")


@pytest.mark.parametrize("at_source", [True, False])
def test_where_a_server_does_not_keep_what_is_there_the_file_is_sent_from_the_start(
    between: Between, at_source: bool
) -> None:
    def refuse(command: bytes, session: ScriptedSession) -> None:
        if command.startswith(b"REST "):
            session.reply(b"501 no such ranges")

    class Refusing(Losing):
        def __call__(self, command: bytes, session: ScriptedSession) -> None:
            if not at_source:
                refuse(command, session)
            super().__call__(command, session)

    def source(command: bytes, session: ScriptedSession) -> None:
        sized(command, session)
        if at_source:
            refuse(command, session)

    engine, _, destination = between(source, Refusing(b"0-3"), resume_bytes=1)
    assert copied(engine, a_copy("file"))[0] == {"file": None}
    assert commands(destination, b"REST") == [b"REST 0-3"]
    assert commands(destination, b"STOR")[-1] == b"STOR /.wherry-job.7-1-2000000"
    assert b"DELE /.wherry-job.7-1-1000000" in commands(destination, b"DELE")


def test_a_file_that_comes_on_is_not_given_up_however_often_connections_are_lost(between: Between) -> None:
    losing = Losing(b"0-1", b"1-2", b"2-3", b"3-4", b"4-5", b"5-6")
    engine, _, destination = between(sized, losing, resume_bytes=1)
    assert copied(engine, a_copy("file"))[0] == {"file": None}
    assert commands(destination, b"REST")[-1] == b"REST 0-6"


def test_what_is_there_stays_for_another_attempt_when_connections_are_lost_for_good(between: Between) -> None:
    engine, _, destination = between(sized, Losing(b"0-3", *[b""] * 9), resume_bytes=1)
    messages, problem = told(engine)
    assert problem is not None
    assert problem.retryable
    assert LeftBehind() in messages
    (last,) = {line.removeprefix(b"STOR ") for line in commands(destination, b"STOR")[-1:]}
    assert last not in {line.removeprefix(b"DELE ") for line in commands(destination, b"DELE")}
    assert commands(destination, b"DELE") != []  # the names that it had before


def test_what_is_not_worth_going_on_from_does_not_stay(between: Between) -> None:
    """Of a part, so much at the end is not believed by the next attempt."""
    engine, _, destination = between(sized, Losing(b"0-4", *[b""] * 9), resume_bytes=4)
    messages, problem = told(engine)
    assert problem is not None
    assert commands(destination, b"REST") != []
    assert LeftBehind() not in messages
    begun = {line.removeprefix(b"STOR ") for line in commands(destination, b"STOR")}
    assert begun <= {line.removeprefix(b"DELE ") for line in commands(destination, b"DELE")}


def test_of_small_files_nothing_stays(between: Between) -> None:
    engine, _, destination = between(sized, Losing(*[b"0-3"] * 9), resume_bytes=SIZE + 1)
    messages, problem = told(engine)
    assert problem is not None
    assert LeftBehind() not in messages
    begun = {line.removeprefix(b"STOR ") for line in commands(destination, b"STOR")}
    assert begun <= {line.removeprefix(b"DELE ") for line in commands(destination, b"DELE")}


def test_what_a_server_does_not_remove_is_told(between: Between) -> None:
    class Keeping(Losing):
        def __call__(self, command: bytes, session: ScriptedSession) -> None:
            if command.startswith(b"DELE "):
                session.reply(b"550-GridFTP-Errno: 13", b"550 Permission denied")
            else:
                super().__call__(command, session)

    engine, _, _ = between(sized, Keeping(b"0-3"))
    messages, problem = told(engine)
    assert problem is None
    assert messages[-1] == LeftBehind()
    assert any(isinstance(message, ItemDone) and message.problem is None for message in messages)


def test_progress_goes_on_from_what_is_there(between: Between) -> None:
    """The server counts from nothing what it gets of the rest."""

    class Counting(Losing):
        def __call__(self, command: bytes, session: ScriptedSession) -> None:
            if command.startswith(b"STOR ") and not self.told:
                session.reply(b"150 opening")
                for count in (0, 3):
                    session.reply(b"112-Perf Marker", b" Stripe Bytes Transferred: %d" % count, b"112 End.")
                session.reply(b"226 done")
            super().__call__(command, session)

    engine, _, _ = between(sized, Counting(b"0-6"), resume_bytes=1)
    messages, _ = told(engine)
    moved = [m.transferred_bytes for m in messages if isinstance(m, Progress) and m.phase == "copying"]
    assert moved == [0, 6, 6, 6, 9]


# --- what is believed of what lies there ---


@pytest.mark.parametrize(
    ("written", "size", "prefix"),
    [(0, 100, 0), (64, 100, 0), (65, 100, 1), (100, 100, 36), (101, 100, 0), (99, 1000, 35)],
)
def test_the_end_of_a_partial_file_is_not_believed_nor_one_that_is_too_large(
    written: int, size: int, prefix: int
) -> None:
    assert prefix_to_prove(written * MIB, size * MIB, 64 * MIB) == prefix * MIB
    assert prefix_to_prove(written * MIB - 1, size * MIB, 64 * MIB) <= prefix * MIB or written > size


def stale(index: int, size_mib: int, fence: int = 1, directory: str = "/") -> Stale:
    return Stale(directory, f"{index}-{size_mib}", TemporaryName("job.7", fence, index, 0, aside=False), size_mib * MIB)


def test_of_what_lies_there_the_largest_of_each_file_is_kept_and_what_is_for_later() -> None:
    items = tuple(replace(item, size_bytes=500 * MIB) for item in a_copy("a", "b", "c").items)
    small = replace(items[2], size_bytes=MIB)
    task = replace(a_copy(), items=(items[0], items[1], small), later=(9,))
    found = [
        stale(0, 70),
        stale(0, 90),
        stale(0, 300, directory="/elsewhere"),
        stale(1, 64),
        stale(2, 90),
        stale(8, 90),
        stale(9, 90),
    ]
    assert list(keep_needed(found, task, 64 * MIB)) == [found[1], found[6]]
    assert list(keep_needed(found, replace(task, verification="size"), 64 * MIB)) == []
