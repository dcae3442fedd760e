"""Runs the commands that a person would type: the kit's and `wherry`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from wherry_deploy.demonstration.failing import DemonstrationFailed
from wherry_deploy.log_lines import Lines

_END_WITHIN_S = 5.0
_COMPLAINT = re.compile(r"(error|wherry-endpoint): ")


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    output: str

    def complaint(self) -> str:
        """Returns the line in which it says what is wrong: the one that begins so, else its last."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        said = [line for line in lines if _COMPLAINT.match(line)]
        if said:
            return _COMPLAINT.sub("", said[-1])
        return lines[-1] if lines else f"it ended with status {self.status}"


@dataclass(frozen=True)
class Commands:
    """Runs commands whose output goes to a log, under one name, and not to the terminal."""

    name: str
    lines: Lines
    environment: Mapping[str, str]

    async def run(self, command: Sequence[str], *, stdin: str = "", shown: str = "") -> Outcome:
        """Runs a command to its end. What it is given to read is logged nowhere; `shown` is, instead of the command."""
        self.lines.line(self.name, f"$ {shown or shlex.join(command)}")
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=STDOUT, env={**os.environ, **self.environment}
        )
        async with _ended_with_us(process):
            output, _ = await process.communicate(stdin.encode())
        text = output.decode("utf-8", "backslashreplace")
        for line in text.splitlines():
            self.lines.line(self.name, line)
        return Outcome(process.returncode or 0, text)

    async def must(self, command: Sequence[str], *, stdin: str = "", shown: str = "", doing: str) -> str:
        """Runs a command that has to succeed; returns its output.

        Raises:
            DemonstrationFailed: it does not.
        """
        outcome = await self.run(command, stdin=stdin, shown=shown)
        if outcome.status != 0:
            raise DemonstrationFailed(f"{doing}: {outcome.complaint()}")
        return outcome.output

    async def show(self, command: Sequence[str]) -> int:
        """Runs a command that writes to our terminal; returns its status."""
        process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, env={**os.environ, **self.environment})
        async with _ended_with_us(process):
            return await process.wait()


@contextlib.asynccontextmanager
async def _ended_with_us(process: Process) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_END_WITHIN_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
