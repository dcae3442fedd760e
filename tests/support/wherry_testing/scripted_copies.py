"""The pipelined engine between two servers that say what a test has them say.

def test_something(between: Between) -> None:  # the fixture of tests/unit/worker
    engine, source, destination = between(answer_plainly, plainly)
    assert copied(engine, a_copy("file"))[0] == {"file": None}
"""

from __future__ import annotations

from collections.abc import Callable

from wherry_testing.scripted_gridftp import ScriptedGridFtp, ScriptedSession
from wherry_worker.engine.messages import ChannelUsed, CopyFiles, CopyItem, ItemDone
from wherry_worker.engine.port import Engine

NOTHING_THERE = b"550-GridFTP-Errno: 2", b"550 No such file or directory"
SOMETHING_THERE = b"250-status", b" Type=file;Size=9;Modify=20260102030405; /it", b"250 End."
Between = Callable[..., tuple[Engine, ScriptedGridFtp, ScriptedGridFtp]]
"""Gets the source's script, the destination's, a context for data channels, the size from which on files go on."""


def a_copy(*names: str) -> CopyFiles:
    """The task of copying files under their own names."""
    return CopyFiles("job.7", 1, "/", "/", tuple(CopyItem(index, name, name, 3) for index, name in enumerate(names)))


def copied(engine: Engine, task: CopyFiles) -> tuple[dict[str, str | None], list[str]]:
    """Copies files; returns for each why it is not there, and how the bytes are said to have gone."""
    names = {item.index: item.source_name for item in task.items}
    told = list(engine.copy_files(task, lambda _progress: None, lambda: False))
    done = [message for message in told if isinstance(message, ItemDone)]
    reasons = {names[item.index]: item.problem.reason if item.problem else None for item in done}
    return reasons, [message.protection for message in told if isinstance(message, ChannelUsed)]


def copy(engine: Engine, *names: str) -> dict[str, str | None]:
    """Copies files; returns for each why it is not there."""
    return copied(engine, a_copy(*names))[0]


def commands(server: ScriptedGridFtp, verb: bytes) -> list[bytes]:
    """All of a kind that a server was given."""
    return [line for session in server.sessions for line in session.commands if line.startswith(verb + b" ")]


def plainly(command: bytes, session: ScriptedSession) -> None:
    """As a destination at which there is nothing yet."""
    if command.startswith(b"MLST ") and b"/.wherry-" not in command:
        session.reply(*NOTHING_THERE)


def marker(session: ScriptedSession, count: int) -> None:
    session.reply(b"112-Perf Marker", b" Stripe Index: 0", b" Stripe Bytes Transferred: %d" % count, b"112 End.")
