"""Keeps processes running, and leaves none behind.

    async with supervise(programs, lines) as running:
        await running.ready(within_s=60)
        ...

Each process is a group of its own, so that a Ctrl-C at the terminal reaches only this one, which then stops them in
order; and the kernel stops them if this one is killed. One that ends is started again, later each time; one that ends
before it ever was ready is not: that is a fault in its configuration, which would be there the next time too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wherry_deploy.log_lines import Lines

_LAUNCH = (sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py")))
_LINE_BYTES = 64 << 10
_LAST_LINES = 20
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_STEADY_AFTER_S = 60.0
"""A process that has run so long has not failed at what it failed before."""
_PROBE_EVERY_S = 0.1
_LAST_WORDS_S = 1.0
"""How long output may still come of a process that has ended: a child of its own may hold the pipe."""


class ProgramFailed(Exception):
    """A process that does not start, or is not ready in time; the message says which, and its last words."""


@dataclass(frozen=True)
class Program:
    """A process to keep running.

    Attributes:
        name: stands before its lines.
        command: program and arguments.
        stage: processes of a later stage are stopped before those of an earlier one.
        probe: tells whether it is ready; asked again and again until it is.
        ready_line: tells whether a line that it wrote says that it is ready.
        environment: variables beside those of this process.
        stop_within_s: after SIGTERM, of which there is a second half-way; then it is killed.
    """

    name: str
    command: Sequence[str]
    stage: int = 0
    probe: Callable[[], Awaitable[bool]] | None = None
    ready_line: Callable[[str], bool] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_within_s: float = 30.0


class Running:
    """The processes of a `supervise` block."""

    def __init__(self, keepers: Sequence[_Keeper]) -> None:
        self._keepers = {keeper.program.name: keeper for keeper in keepers}

    async def ready(self, within_s: float) -> None:
        """Returns when every process has been ready.

        Raises:
            ProgramFailed: one is not within the time.
        """
        try:
            async with asyncio.timeout(within_s):
                for keeper in self._keepers.values():
                    await keeper.was_ready.wait()
        except TimeoutError:
            late = [keeper for keeper in self._keepers.values() if not keeper.was_ready.is_set()]
            names = ", ".join(keeper.program.name for keeper in late)
            raise ProgramFailed(f"{names}: not ready within {within_s:.0f} s{late[0].last_words()}") from None

    def pid(self, name: str) -> int | None:
        """Returns the process id of a process that runs now."""
        return self._keepers[name].pid

    def starts(self, name: str) -> int:
        """Returns how often a process has been started."""
        return self._keepers[name].starts


@contextlib.asynccontextmanager
async def supervise(programs: Sequence[Program], lines: Lines) -> AsyncIterator[Running]:
    """Runs processes within the block.

    Raises:
        ProgramFailed: one ended before it was ready; the block is left by it.
    """
    keepers = [_Keeper(program, lines) for program in programs]
    try:
        async with asyncio.TaskGroup() as group:
            for keeper in keepers:
                group.create_task(keeper.keep())
            try:
                yield Running(keepers)
            finally:
                await _stop_in_order(keepers)
    except BaseExceptionGroup as problems:
        # A process's failure stands before what it made of the block.
        raise problems.exceptions[0] from None


async def run_to_end(program: Program, lines: Lines) -> None:
    """Runs a process that ends by itself, as a migration.

    Raises:
        ProgramFailed: its status is not 0.
    """
    keeper = _Keeper(program, lines)
    if (status := await keeper.run_once()) != 0:
        raise ProgramFailed(f"{program.name}: {_ended_how(status)}{keeper.last_words()}")


async def _stop_in_order(keepers: Sequence[_Keeper]) -> None:
    try:
        for stage in sorted({keeper.program.stage for keeper in keepers}, reverse=True):
            async with asyncio.TaskGroup() as group:
                for keeper in keepers:
                    if keeper.program.stage == stage:
                        group.create_task(keeper.stop())
    except BaseException:
        # Whoever asks twice means it.
        for keeper in keepers:
            keeper.kill()
        raise


class _Keeper:
    """Keeps one process running."""

    def __init__(self, program: Program, lines: Lines) -> None:
        self.program = program
        self.was_ready = asyncio.Event()
        self.starts = 0
        self._lines = lines
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def last_words(self) -> str:
        return f": {self._last[-1]}" if self._last else ""

    async def keep(self) -> None:
        pause_s = _FIRST_PAUSE_S
        clock = asyncio.get_running_loop().time
        try:
            while not self._stopping.is_set():
                began = clock()
                status = await self.run_once()
                if self._stopping.is_set():
                    return
                if not self.was_ready.is_set():
                    raise ProgramFailed(self._why(status))
                if clock() - began > _STEADY_AFTER_S:
                    pause_s = _FIRST_PAUSE_S
                self._say(f"{_ended_how(status)}; starting it again in {pause_s:g} s")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._stopping.wait()
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Asks the process to end, and sees to it that it does."""
        self._stopping.set()
        for _ in range(2):
            # The second one, half-way, tells those that finish their work first not to.
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.program.stop_within_s / 2):
                    await self._ended.wait()
                    return
        self._say(f"did not end within {self.program.stop_within_s:g} s; killed")
        self.kill()
        await self._ended.wait()

    def kill(self) -> None:
        """Kills the process and what is left of its group."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    async def run_once(self) -> int:
        """Runs the process to its end; returns its status, negative for the signal that ended it."""
        self.starts += 1
        process = self._process = await asyncio.create_subprocess_exec(
            *_LAUNCH,
            str(os.getpid()),
            *self.program.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env={**os.environ, **self.program.environment},
            start_new_session=True,
        )
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        assert process.stdout is not None  # asked for with PIPE
        try:
            async with asyncio.TaskGroup() as group:
                pump = group.create_task(self._pump(process.stdout))
                probe = group.create_task(self._probe_until_ready())
                status = await process.wait()
                probe.cancel()
                await asyncio.wait([pump], timeout=_LAST_WORDS_S)
                pump.cancel()
            return status
        except asyncio.CancelledError:
            # Another process has failed, and everything is to end.
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.program.stop_within_s):
                    await process.wait()
            raise
        finally:
            # What it left of its group; and itself, if it is still there.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            self._process = None

    async def _pump(self, output: asyncio.StreamReader) -> None:
        rest = b""
        while block := await output.read(_LINE_BYTES):
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                self._take(line)
            if len(rest) > _LINE_BYTES:
                self._take(rest)
                rest = b""
        if rest:
            self._take(rest)

    def _take(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace").rstrip("\r")
        self._last.append(text)
        self._lines.line(self.program.name, text)
        if self.program.ready_line is not None and self.program.ready_line(text):
            self.was_ready.set()

    async def _probe_until_ready(self) -> None:
        if self.program.probe is None:
            if self.program.ready_line is None:
                self.was_ready.set()
            return
        while not await self.program.probe():  # noqa: ASYNC110  # another process gives us no event
            await asyncio.sleep(_PROBE_EVERY_S)
        self.was_ready.set()

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)

    def _say(self, text: str) -> None:
        self._lines.line(self.program.name, f"[supervisor] {text}")

    def _why(self, status: int) -> str:
        return f"{self.program.name}: {_ended_how(status)} while starting{self.last_words()}"


def _ended_how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
