"""Moves several connections on at once, in one thread, until something is so."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable

from wherry_gridftp.connection import Connection
from wherry_gridftp.errors import ConnectionLost, Refused, TimedOut
from wherry_gridftp.replies import Reply

_TICK_S = 0.2
"""How often silence is looked for, and whether it is so by other means."""
_MANY = 32
_HANDFUL_S = 0.002
"""With so many commands under way answers are taken by the handful: to wake up for each costs both sides more than the
work itself, and nobody waits for a single one of them."""


class Broken(Exception):
    """One of the connections is of no more use; `connection` says which, `cause` why."""

    def __init__(self, connection: Connection, cause: ConnectionLost) -> None:
        super().__init__(str(cause))
        self.connection = connection
        self.cause = cause


def pump(connections: Iterable[Connection], until: Callable[[], bool], *, within_s: float = float("inf")) -> bool:
    """Sends and receives until `until` says so; tells whether it did within the time.

    Raises:
        Broken: a connection was lost, or its server silent for too long.
    """
    every = list(connections)
    for connection in every:
        if connection.fileno() < 0:
            raise Broken(connection, ConnectionLost("the connection has been closed"))
    poll = select.poll()
    by_number = {connection.fileno(): connection for connection in every}
    wanted: dict[int, int] = {}
    ends_s = time.monotonic() + within_s
    look_s = time.monotonic() + _TICK_S
    while not until():
        for number, connection in by_number.items():
            try:
                connection.write()
            except ConnectionLost as error:
                raise Broken(connection, error) from error
            events = select.POLLIN | (select.POLLOUT if connection.wants_to_write else 0)
            if wanted.get(number) != events:
                poll.register(number, events)
                wanted[number] = events
        now_s = time.monotonic()
        if now_s >= ends_s:
            return False
        if any(connection.load >= _MANY for connection in every):
            time.sleep(_HANDFUL_S)
        ready = poll.poll(min(_TICK_S, ends_s - now_s) * 1000)
        for number, events in ready:
            if events & ~select.POLLOUT:
                connection = by_number[number]
                try:
                    connection.read()
                except ConnectionLost as error:
                    raise Broken(connection, error) from error
        if (now_s := time.monotonic()) >= look_s:
            look_s = now_s + _TICK_S
            for connection in every:
                if connection.overdue(now_s):
                    raise Broken(connection, TimedOut("Connection timed out"))
    return True


def command(connection: Connection, line: bytes, *, patience_s: float | None = None) -> Reply:
    """Sends one command and waits for its final reply; what was under way before is answered first.

    Raises:
        Refused: the server does not do it.
        ConnectionLost: there is no answer.
    """
    answers: list[Reply] = []
    connection.submit(line, answers.append, patience_s=patience_s)
    try:
        pump([connection], lambda: bool(answers))
    except Broken as broken:
        raise broken.cause from broken
    if answers[0].code >= 400:
        raise Refused(answers[0])
    return answers[0]
