"""The processes of a deployment under test: started, waited for by what they log, stopped, paused, killed, by pid.

Start them from a thread that lives as long as they shall: the kernel kills them when that thread ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from wherry_testing.waiting import PATIENCE_S

READY_WITHIN_S = 2 * PATIENCE_S
_STOP_WITHIN_S = PATIENCE_S
_FINISH_WITHIN_S = 3.0
_POLL_S = 0.02


class NotInTime(AssertionError):
    """Something that had to happen did not; the message says what, and what the process said last."""


def wait_until(
    condition: Callable[[], object], what: str, within_s: float = PATIENCE_S, poll_s: float = _POLL_S
) -> Any:
    """Returns the first true value of `condition`; raises NotInTime where there is none in time."""
    deadline_s = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline_s:
            raise NotInTime(f"not within {within_s:g} s: {what}")
        time.sleep(poll_s)
    return value


class LoggedProcess:
    """A process whose standard output and error go to a file, one after the other over restarts.

    Attributes:
        environment: what it is given when it is started; what is changed counts from the next start on.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.log = log
        self._command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        self.environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._began_at = 0

    def start(self) -> None:
        """Starts it, again if it has ended."""
        assert not self.running
        self._began_at = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process_of().pid

    def events(self, name: str) -> list[dict[str, Any]]:
        """Returns the fields of its log lines of that event since it was last started."""
        return [fields for fields in self._lines() if fields.get("event") == name]

    def wait_for_event(self, name: str, within_s: float = READY_WITHIN_S) -> dict[str, Any]:
        """Returns the fields of the first log line of that event since it was last started."""

        def seen() -> dict[str, Any] | None:
            found = self.events(name)
            if not found and not self.running:
                raise NotInTime(f"{self.name} ended with {self._status()} before `{name}`: {self.last_words()}")
            return found[0] if found else None

        try:
            found: dict[str, Any] = wait_until(seen, f"{self.name} says `{name}`", within_s, 0.05)
        except NotInTime as problem:
            raise NotInTime(f"{problem}; it last said: {self.last_words()}") from None
        return found

    def name_at_the_queue(self) -> str:
        """Returns the name under which a worker is known to the queue."""
        return str(self.wait_for_event("worker_started")["worker"])

    def last_words(self) -> str:
        """Returns the end of its log."""
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def kill(self) -> None:
        """Kills it as a power cut would, and waits until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Stops it (SIGSTOP): it is there and does nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on; where it does already, or has ended, nothing happens."""
        if self.running:
            os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """Asks it to end."""
        if self._process is not None and self.running:
            self._process.terminate()

    def wait(self, within_s: float = _STOP_WITHIN_S) -> int:
        """Waits for its end, returns its status; kills it and raises NotInTime where it does not end."""
        try:
            return self._process_of().wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise NotInTime(f"{self.name} did not end within {within_s:g} s: {self.last_words()}") from None

    def wait_for_end(self) -> None:
        """Waits for the end of what was asked to end, asks again after a while, and kills it where that is no good.

        The second request tells a worker not to finish its tasks first.
        """
        if self.running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process_of().wait(_FINISH_WITHIN_S)
        if self.running:
            self.terminate()
            self.wait()

    def children(self) -> list[int]:
        """Returns the ids of the processes that it has started itself: of a worker, its engines."""
        return children_of(self.pid)

    def _process_of(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} has not been started"
        return self._process

    def _status(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    def _lines(self) -> Iterator[dict[str, Any]]:
        with self.log.open("rb") as file:
            file.seek(self._began_at)
            for line in file:
                if line.startswith(b"{") and line.endswith(b"\n"):
                    yield json.loads(line)


def children_of(pid: int) -> list[int]:
    """Returns the ids of a process's children."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in thread.read_text().split()]
        except OSError:
            continue
    return found


def is_alive(pid: int) -> bool:
    """Tells whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in ("Z", "X")
