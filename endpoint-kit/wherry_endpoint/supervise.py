"""Keeps the site's servers running, passes on what they say, and leaves nothing behind.

The supervisor is the parent of everything: in a sandbox it is the first process of its namespace, elsewhere it
adopts orphans, because MyProxy puts itself into the background.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from wherry_endpoint.errors import ServeError
from wherry_endpoint.log_lines import LogLines
from wherry_endpoint.processes import signal_everyone

_READY_WITHIN_S = 30.0
_STOP_WITHIN_S = 3.0
_STOP_PAUSE_S = 0.05
_ASK_EVERY_S = 0.05
_PID_FILE_WITHIN_S = 5.0
_RESTART_PAUSE_S = 1.0
_RESTARTS = 5
_RESTARTS_WITHIN_S = 60.0


@dataclass(frozen=True)
class Server:
    """One server to keep running.

    `pid_file` is set for a server that goes to the background by itself and writes its number there.
    `ask` raises OSError until the server answers as it should. `before_exec` runs in the server's process before it
    becomes the server. `log_pipe` is a named pipe to make, into which the server writes its log.
    """

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    ask: Callable[[], None]
    pid_file: Optional[Path] = None
    before_exec: Optional[Callable[[], None]] = None
    log_pipe: Optional[Path] = None


@dataclass
class _Running:
    server: Server
    log: LogLines
    launcher: Optional[subprocess.Popen[bytes]] = None
    pid: Optional[int] = None
    ready: bool = False
    start_at: float = 0.0
    ends: deque[float] = field(default_factory=deque)


class Supervisor:
    """Runs `servers` until `lifeline` (a pipe's reading end) is closed at its other end."""

    def __init__(
        self,
        site: str,
        servers: Sequence[Server],
        lifeline: int,
        say_ready: Callable[[], None],
        system_log: Optional[socket.socket] = None,
    ) -> None:
        self._log = LogLines(site)
        self._running = [_Running(server, LogLines(f"{site} {server.name}")) for server in servers]
        self._selector = selectors.DefaultSelector()
        self._selector.register(lifeline, selectors.EVENT_READ, self._cut)
        if system_log is not None:
            self._selector.register(system_log, selectors.EVENT_READ, self._system_log(system_log))
        for item in self._running:
            if item.server.log_pipe is not None:
                self._read_log_pipe(item.server.log_pipe, item.log)
        self._say_ready = say_ready
        self._said_ready = False
        self._stop = False
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        # SIGCHLD needs a handler, even an idle one, for the wake-up byte to be written.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._selector.register(wake_read, selectors.EVENT_READ, lambda: os.read(wake_read, 4096) and None)

    def run(self) -> None:
        """Serve until told to stop; ServeError when a server does not start or does not stay up."""
        give_up_at = time.monotonic() + _READY_WITHIN_S
        try:
            while not self._stop:
                self._start_due()
                self._reap()
                self._ask()
                if not self._said_ready and time.monotonic() > give_up_at:
                    late = ", ".join(item.server.name for item in self._running if not item.ready)
                    raise ServeError(f"{late}: no right answer within {_READY_WITHIN_S:.0f} s; its log lines tell more")
                self._pump(self._pause_s())
        finally:
            self._end_all()

    def _read_log_pipe(self, path: Path, log: LogLines) -> None:
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        # Open for writing too: else it would be at its end whenever no server has it open.
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._selector.register(descriptor, selectors.EVENT_READ, lambda: log.feed(os.read(descriptor, 65536)))

    def _cut(self) -> None:
        self._stop = True

    def _system_log(self, log: socket.socket) -> Callable[[], None]:
        by_name = {item.server.name: item.log for item in self._running}

        def take() -> None:
            # Only MyProxy speaks to the system log; GridFTP's log is its standard error.
            by_name.get("myproxy", self._log).system_log(log.recv(65536))

        return take

    def _pause_s(self) -> Optional[float]:
        now = time.monotonic()
        waits = [item.start_at - now for item in self._running if item.launcher is None and item.pid is None]
        if any(not item.ready for item in self._running):
            waits.append(_ASK_EVERY_S)
        return max(0.0, min(waits)) if waits else None

    def _pump(self, pause_s: Optional[float]) -> None:
        for key, _ in self._selector.select(pause_s):
            key.data()

    def _start_due(self) -> None:
        for item in self._running:
            if item.launcher is None and item.pid is None and time.monotonic() >= item.start_at:
                self._start(item)

    def _start(self, item: _Running) -> None:
        if item.server.pid_file is not None:
            item.server.pid_file.unlink(missing_ok=True)
        try:
            launcher = subprocess.Popen(
                item.server.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=item.server.environment,
                cwd="/",
                # Safe here: this process has no threads.
                preexec_fn=item.server.before_exec,
            )
        except (OSError, subprocess.SubprocessError) as problem:
            raise ServeError(f"{item.server.name}: {item.server.command[0]} cannot be run: {problem}") from problem
        item.launcher, item.ready = launcher, False
        stream = launcher.stdout
        assert stream is not None  # asked for with PIPE
        os.set_blocking(stream.fileno(), False)

        def take() -> None:
            data = stream.read(65536)
            if data:
                item.log.feed(data)
            elif data == b"":
                item.log.end()
                self._selector.unregister(stream)
                stream.close()

        self._selector.register(stream, selectors.EVENT_READ, take)
        if item.server.pid_file is None:
            item.pid = launcher.pid

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, code: int) -> None:
        for item in self._running:
            launched = item.launcher is not None and item.launcher.pid == pid
            if launched and item.launcher is not None:
                item.launcher.returncode = code
                item.launcher = None
                if item.server.pid_file is not None and code == 0:
                    item.pid = _read_pid(item.server.pid_file)
                    if item.pid is not None:
                        return
            if launched or item.pid == pid:
                self._lost(item, code)
                return

    def _lost(self, item: _Running, code: int) -> None:
        item.pid, item.ready = None, False
        if self._stop:
            return
        if not self._said_ready:
            raise ServeError(f"{item.server.name}: ended with status {code} while starting; its log lines tell why")
        now = time.monotonic()
        item.ends.append(now)
        while item.ends and item.ends[0] < now - _RESTARTS_WITHIN_S:
            item.ends.popleft()
        if len(item.ends) > _RESTARTS:
            raise ServeError(
                f"{item.server.name}: ended {len(item.ends)} times within {_RESTARTS_WITHIN_S:.0f} s; giving up"
            )
        item.start_at = now + _RESTART_PAUSE_S
        self._log.line(f"{item.server.name} ended with status {code}; starting it again".encode())

    def _ask(self) -> None:
        for item in self._running:
            if item.pid is not None and not item.ready:
                try:
                    item.server.ask()
                except OSError as problem:
                    item_says = str(problem)
                    if "CERTIFICATE_VERIFY_FAILED" in item_says:
                        raise ServeError(
                            f"{item.server.name}: what answers at its port is not this site's server ({item_says}): "
                            "stop the other server, or choose another port"
                        ) from problem
                    continue
                item.ready = True
        if not self._said_ready and all(item.ready for item in self._running):
            # A server that could not have its port ends; one that stays up and answers is ours.
            self._reap()
            if all(item.ready for item in self._running):
                self._said_ready = True
                self._say_ready()

    def _end_all(self) -> None:
        self._stop = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + _STOP_WITHIN_S
            while _has_children() and time.monotonic() < deadline:
                # Again and again: MyProxy misses the signal when it comes just before it waits for connections.
                signal_everyone(number)
                self._reap()
                self._drain()
                # Not the usual pause: the lifeline is cut and always readable by now, waiting on it would spin.
                signal.sigtimedwait({signal.SIGCHLD}, _STOP_PAUSE_S)
                self._reap()
        self._drain()

    def _drain(self) -> None:
        for key, _ in self._selector.select(0):
            key.data()


def _read_pid(path: Path) -> Optional[int]:
    """The number in a pid file, which the server's background half may be about to write."""
    deadline = time.monotonic() + _PID_FILE_WITHIN_S
    while time.monotonic() < deadline:
        try:
            text = path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            text = ""
        if text.isdigit():
            return int(text)
        time.sleep(0.01)
    return None


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
