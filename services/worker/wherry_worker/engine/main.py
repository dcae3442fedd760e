"""The engine process's loop: reads what to do from the pipe, does it with the engine port, tells what came of it.

Started by the lease process as `PYTHON -I boot.py FD PARENT_PID` with the pipe as FD and `X509_CERT_DIR` in its
environment. Nothing of its own goes to stdout and stderr: those belong to the libraries.
"""

from __future__ import annotations

import os
import platform
import queue
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping

from wherry_worker.engine import process
from wherry_worker.engine.codec import ProtocolError, decode, encode
from wherry_worker.engine.framing import FramingError, pack, read_frame
from wherry_worker.engine.messages import (
    Begin,
    ChecksumFile,
    ChecksumFiles,
    CopyFiles,
    Extend,
    Finished,
    Halt,
    ListDirectory,
    MakeDirectory,
    Message,
    Problem,
    Progress,
    Ready,
    RemoveDirectory,
    RemoveFiles,
    RemoveTemporaries,
    Rename,
    SetMode,
    SetModes,
    Setup,
    Stat,
    Task,
    Unlink,
)
from wherry_worker.engine.port import Engine, EngineFactory, Halted, OnProgress, TaskFailed

PROGRESS_INTERVAL_S = 1.0
Send = Callable[[Message], None]


def serve(pipe: socket.socket, factories: Mapping[str, EngineFactory]) -> None:
    """Serves the pipe until the parent closes it."""
    incoming: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
    sending = threading.Lock()
    halt = threading.Event()

    def send(message: Message) -> None:
        with sending:
            pipe.sendall(pack(encode(message)))

    def read() -> None:
        # A thread of its own, so that a deadline can be moved and the parent's end be seen while a library works.
        try:
            while (body := read_frame(pipe.recv)) is not None:
                message = decode(body)
                if isinstance(message, Extend):
                    process.set_deadline(message.deadline_s)
                elif isinstance(message, Halt):
                    halt.set()
                else:
                    if isinstance(message, Begin):
                        halt.clear()
                    incoming.put(message)
        except (OSError, FramingError, ProtocolError):
            process.end(2)
        process.end(0)

    threading.Thread(target=read, name="pipe", daemon=True).start()
    engine: Engine | None = None
    while True:
        message = incoming.get()
        if isinstance(message, Setup):
            engine = factories[message.engine](message)
            send(Ready(message.engine, platform.python_version()))
        elif isinstance(message, Begin) and engine is not None:
            process.set_deadline(message.deadline_s)
            problem = run(engine, message.task, send, halt.is_set)
            process.set_deadline(None)
            send(Finished(problem, worn=process.is_worn()))
        else:
            process.end(2)


def run(engine: Engine, task: Task, send: Send, halted: Halted) -> Problem | None:
    """Runs one task, sending what it yields; returns why it failed as a whole, None where it did not."""
    try:
        for message in _results(engine, task, Throttle(send), halted):
            send(message)
    except TaskFailed as failed:
        return failed.problem
    return None


def _results(engine: Engine, task: Task, on_progress: OnProgress, halted: Halted) -> Iterable[Message]:
    match task:
        case ListDirectory():
            return engine.list_directory(task)
        case Stat():
            return [engine.stat(task)]
        case MakeDirectory():
            return [engine.make_directory(task)]
        case Unlink():
            return [engine.unlink(task)]
        case RemoveFiles():
            return engine.remove_files(task, halted)
        case ChecksumFile():
            return [engine.checksum(task)]
        case CopyFiles():
            return engine.copy_files(task, on_progress, halted)
        case Rename():
            engine.rename(task)
        case ChecksumFiles():
            return engine.checksum_files(task, on_progress, halted)
        case SetModes():
            return engine.set_modes(task, halted)
        case SetMode():
            engine.set_mode(task)
        case RemoveDirectory():
            engine.remove_directory(task)
        case RemoveTemporaries():
            left = engine.remove_temporaries(task)
            return [left] if left is not None else []
    return []


class Throttle:
    """Lets progress through at most once a second, and every change of item or phase."""

    def __init__(self, send: Send, interval_s: float = PROGRESS_INTERVAL_S) -> None:
        self._send = send
        self._interval_s = interval_s
        self._last: Progress | None = None
        self._sent_at = float("-inf")

    def __call__(self, progress: Progress) -> None:
        """Sends a progress message, or drops it."""
        now = time.monotonic()
        last = self._last
        same = last is not None and (last.index, last.phase) == (progress.index, progress.phase)
        if same and now - self._sent_at < self._interval_s:
            return
        self._last, self._sent_at = progress, now
        self._send(progress)


def main(arguments: list[str], factories: Mapping[str, EngineFactory]) -> None:
    """Runs the process; `arguments` are the pipe's file descriptor and the parent's process id."""
    descriptor, parent_pid = int(arguments[0]), int(arguments[1])
    process.die_with_parent(parent_pid)
    process.allow_many_files()
    os.set_inheritable(descriptor, False)
    with socket.socket(fileno=descriptor) as pipe:
        try:
            serve(pipe, factories)
        except Exception:  # noqa: BLE001  # the parent reads it; ending is all that is left, and not by unwinding
            traceback.print_exc()
            process.end(3)
