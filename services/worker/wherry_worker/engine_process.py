"""One engine process, seen from the lease process: started, given tasks, watched, killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wherry_worker.engine import boot
from wherry_worker.engine.codec import ProtocolError, decode, encode
from wherry_worker.engine.framing import HEADER, FramingError, body_length, pack
from wherry_worker.engine.messages import (
    Begin,
    Extend,
    Finished,
    Halt,
    ItemDone,
    Message,
    Problem,
    Progress,
    Ready,
    Setup,
    Task,
)

DeathCause = Literal["crashed", "cancelled", "deadline", "stalled", "memory", "closed"]
_OUTPUT_LINES = 40
_OUTPUT_LINE_CHARS = 500
_START_TIMEOUT_S = 30
_CLOSE_TIMEOUT_S = 2
SLOWEST_SUM_BYTES_PER_S = 20e6
"""No slower a site is expected to read a file for its checksum."""


class EngineDied(Exception):
    """The engine process ended before its task did."""

    def __init__(self, cause: DeathCause) -> None:
        super().__init__(cause)
        self.cause = cause


class EngineTaskFailed(Exception):
    """The engine's task failed as a whole."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.reason)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What the parent allows an engine: seconds without progress, by what it is doing, and resident memory.

    Of a checksum nothing is heard until it is there: it has, besides, the time that reading the file takes.
    """

    stall_s: float = 120
    verify_stall_s: float = 1800
    other_stall_s: float = 900
    memory_bytes: int = 2 << 30
    watch_interval_s: float = 0.5

    def patience_s(self, last: Progress | None) -> float:
        """Returns for how long nothing need be heard after that."""
        match last:
            case Progress(phase="copying"):
                return self.stall_s
            case Progress(phase="verifying", transferred_bytes=size_bytes):
                return self.verify_stall_s + size_bytes / SLOWEST_SUM_BYTES_PER_S
            case _:
                return self.other_stall_s


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """How an engine process is started: an interpreter that has what the engine needs, and the file it runs."""

    python: str = "/usr/bin/python3"
    script: Path = Path(boot.__file__)

    def arguments(self, descriptor: int) -> Sequence[str]:
        """Returns the command line; it names no path of a user and no secret."""
        # -I: nothing of this process's environment or folder reaches the interpreter.
        return (self.python, "-I", "-B", str(self.script), str(descriptor), str(os.getpid()))


class EngineProcess:
    """A running engine process. One task at a time; after EngineDied it is of no more use."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limits: EngineLimits,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._limits = limits
        self._cause: DeathCause = "crashed"
        self._output: deque[str] = deque(maxlen=_OUTPUT_LINES)
        self._drain = asyncio.create_task(self._keep_output(), name=f"engine-{process.pid}-output")
        self._deadline = float("inf")
        self._active_at = 0.0
        self._last: Progress | None = None
        self._begun = False
        self.worn = False

    @classmethod
    async def start(cls, command: EngineCommand, trust_directory: Path, limits: EngineLimits) -> EngineProcess:
        """Starts a process. Raises OSError where the interpreter cannot be run."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *command.arguments(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                env={
                    "X509_CERT_DIR": str(trust_directory),
                    "HOME": "/nonexistent",  # no ~/.globus of whoever runs the worker
                    "PATH": os.defpath,
                    "LC_ALL": "C.UTF-8",
                },
                start_new_session=True,  # a Ctrl-C at the terminal is for the lease process to handle
                cwd="/",
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer, limits)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can still be given work."""
        return self._process.returncode is None and not self._reader.at_eof() and not self.worn

    @property
    def output(self) -> str:
        """The last lines that the libraries printed."""
        return "\n".join(self._output)

    async def setup(self, setup: Setup) -> Ready:
        """Gives the engine its doors. Raises EngineDied, among others where the interpreter lacks gfal2."""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await self._send(setup)
                answer = await self._receive()
        except TimeoutError:
            await self.kill("stalled")
            raise EngineDied("stalled") from None
        if not isinstance(answer, Ready):
            await self.kill("crashed")
            raise EngineDied("crashed")
        return answer

    async def run(self, task: Task, deadline: float) -> AsyncGenerator[Message, None]:
        """Runs a task to its end by `deadline` (this loop's clock), yielding what the engine tells.

        Raises:
            EngineTaskFailed: the task failed as a whole.
            EngineDied: the process ended, or was ended: at the deadline, without progress, by its memory, by `kill`.
        """
        self._deadline = deadline
        self._active_at = time.monotonic()
        self._last = None
        self._begun = True
        await self._send(Begin(task, max(deadline - time.monotonic(), 0.001)))
        watch = asyncio.create_task(self._watch(), name=f"engine-{self.pid}-watch")
        finished = False
        try:
            while True:
                message = await self._receive()
                if isinstance(message, Finished):
                    finished, self.worn = True, self.worn or message.worn
                    if message.problem is not None:
                        raise EngineTaskFailed(message.problem)
                    return
                self._note(message)
                yield message
        finally:
            watch.cancel()
            self._begun = False
            if not finished:
                # The caller lost interest, or the process is gone: what it does now concerns nobody.
                await self.kill("cancelled")

    async def extend(self, deadline: float) -> None:
        """Moves the running task's deadline."""
        self._deadline = deadline
        with contextlib.suppress(EngineDied):
            await self._send(Extend(max(deadline - time.monotonic(), 0.001)))

    async def halt(self) -> None:
        """Has the running task begin no further file; it then ends by itself. Without a task nothing happens."""
        if self._begun:
            with contextlib.suppress(EngineDied):
                await self._send(Halt())

    async def kill(self, cause: DeathCause) -> None:
        """Ends the process at once and waits until it is gone; the first cause given is the one that is told."""
        if self._process.returncode is None:
            if self._cause == "crashed":
                self._cause = cause
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        self._writer.close()
        await self._process.wait()
        await self._drain

    async def close(self) -> None:
        """Lets an idle process end by itself, and kills it where it does not."""
        self._writer.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._process.wait()
                await self._drain
        except TimeoutError:
            await self.kill("closed")

    async def _send(self, message: Message) -> None:
        self._writer.write(pack(encode(message)))
        try:
            await self._writer.drain()
        except OSError:
            raise EngineDied(self._cause) from None

    async def _receive(self) -> Message:
        try:
            length = body_length(await self._reader.readexactly(HEADER.size))
            return decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError, FramingError, ProtocolError):
            await self._gone()
            raise EngineDied(self._cause) from None

    async def _gone(self) -> None:
        """Finds out why the pipe ended; an engine ends itself at its own deadline, with SIGALRM."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._process.wait()
        if self._process.returncode == -14 and self._cause == "crashed":
            self._cause = "deadline"

    def _note(self, message: Message) -> None:
        if isinstance(message, Progress):
            last, self._last = self._last, message
            if last == message:
                return
        elif isinstance(message, ItemDone):
            self._last = None
        self._active_at = time.monotonic()

    async def _watch(self) -> None:
        while True:
            now = time.monotonic()
            if now >= self._deadline:
                await self.kill("deadline")
            elif now - self._active_at > self._limits.patience_s(self._last):
                await self.kill("stalled")
            elif resident_bytes(self.pid) > self._limits.memory_bytes:
                await self.kill("memory")
            else:
                await asyncio.sleep(min(self._limits.watch_interval_s, max(self._deadline - now, 0.01)))
                continue
            return

    async def _keep_output(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        while chunk := await stream.read(8192):
            for line in chunk.decode("utf-8", "replace").splitlines():
                self._output.append(line[:_OUTPUT_LINE_CHARS])


def resident_bytes(pid: int) -> int:
    """Returns a process's resident memory, 0 for one that is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


if sys.platform != "linux":
    raise ImportError("engine processes are tied to their parent by Linux's means")
