"""`wherry-endpoint serve`: both servers in the foreground, and their clean end."""

from __future__ import annotations

# Loaded now because Python loads them at first use, and a sandbox may not show the folder Python is in.
import encodings.ascii
import encodings.idna  # noqa: F401 - as above: sockets use it
import fcntl
import os
import signal
import socket
import sys
import time
from functools import partial
from typing import Optional, TextIO

from wherry_endpoint.config import Config
from wherry_endpoint.errors import EndpointError, ServeError
from wherry_endpoint.gridftp import gridftp_command
from wherry_endpoint.layout import Layout
from wherry_endpoint.linux import adopt_orphans, die_with_parent
from wherry_endpoint.log_lines import LogLines
from wherry_endpoint.myproxy import myproxy_command, myproxy_environment
from wherry_endpoint.processes import signal_everyone
from wherry_endpoint.readiness import ask_gridftp, ask_myproxy
from wherry_endpoint.sandbox import enter_sandbox, hide_secrets, leave_host_processes
from wherry_endpoint.supervise import Server, Supervisor

_LOCK_WITHIN_S = 2.0
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def serve(config: Config, layout: Layout) -> int:
    """Run the site until SIGTERM, SIGINT, SIGHUP or the end of whoever started this; the exit status."""
    _refuse_foreign_folder(config, layout)
    parent = os.getppid()
    die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        return 1
    lock = _lock(layout)
    # The inner process stops when the other end of this pipe closes, however this process ends.
    lifeline, hold = os.pipe()
    adopt_orphans()
    if config.sandbox.enabled:
        leave_host_processes()
    stopped = _close_on_signals(hold)
    inner = os.fork()
    if inner == 0:
        os.close(hold)
        raise SystemExit(_inner(config, layout, lifeline))
    os.close(lifeline)
    _, status = os.waitpid(inner, 0)
    lock.close()
    if not config.sandbox.enabled:
        # Only if the inner process was killed is there anybody left.
        signal_everyone(signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        raise ServeError(f"the supervisor was ended by signal {-code}; the servers were ended too")
    return 0 if stopped and code == 0 else code


def _lock(layout: Layout) -> TextIO:
    """The folder's lock, held while the file is open here or in the inner process."""
    lock = layout.lock.open("w", encoding="ascii")
    deadline = time.monotonic() + _LOCK_WITHIN_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            # One that has just been killed may need a moment.
            if time.monotonic() > deadline:
                lock.close()
                raise ServeError(
                    f"{layout.folder}: this site is being served already; stop that one first"
                ) from problem
            time.sleep(0.05)
        else:
            return lock


def _close_on_signals(hold: int) -> list[int]:
    """Close `hold` at the first signal to stop; the list then holds that signal."""
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        if not received:
            received.append(number)
            os.close(hold)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    return received


def _inner(config: Config, layout: Layout, lifeline: int) -> int:
    log = LogLines(config.site.name)
    try:
        # A Ctrl-C at the terminal goes to every process of the group; the servers are to be stopped in order.
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        system_log: Optional[socket.socket] = None
        if config.sandbox.enabled:
            # The kernel ends the whole namespace with its first process, even if the outer process is killed.
            die_with_parent(signal.SIGKILL)
            system_log = enter_sandbox(config, layout)
        else:
            adopt_orphans()
            log.line(b"MyProxy's log goes to the system log")
        servers = _servers(config, layout)
        # Children must be able to be stopped: what is ignored here would be ignored there.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        Supervisor(config.site.name, servers, lifeline, partial(_say_ready, log), system_log).run()
    except EndpointError as problem:
        log.line(str(problem).encode())
        return 1
    return 0


def _servers(config: Config, layout: Layout) -> list[Server]:
    hide = partial(hide_secrets, layout) if config.sandbox.enabled else None
    environment = {"PATH": _PATH, "LC_ALL": "C", "HOME": "/"}
    return [
        Server(
            "myproxy",
            myproxy_command(config, layout),
            {**environment, **myproxy_environment(layout)},
            partial(ask_myproxy, config, layout),
            layout.myproxy_pid,
        ),
        Server(
            "gridftp",
            gridftp_command(layout),
            environment,
            partial(ask_gridftp, config),
            before_exec=hide,
            log_pipe=layout.gridftp_log,
        ),
    ]


def _say_ready(log: LogLines) -> None:
    log.line(b"both servers answer (the connection without a sign-in was this question)")
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def _refuse_foreign_folder(config: Config, layout: Layout) -> None:
    if not (layout.gridftp_conf.is_file() and layout.myproxy_conf.is_file()):
        raise ServeError(
            f"{layout.folder}: the site is not installed: run wherry-endpoint install --config {config.source} first"
        )
    if layout.folder.stat().st_uid != os.geteuid():
        raise ServeError(
            f"{layout.folder}: was installed by another user; run serve as that user, or install elsewhere"
        )
