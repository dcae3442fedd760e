"""Where the lines go that supervised processes write: a terminal, each with its process's name, or a folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

_COLOURS = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")
_LEVEL_COLOURS = {"warning": "33", "error": "31", "critical": "31"}
_DIM = "2"


class Lines(Protocol):
    """Takes what processes say."""

    def line(self, name: str, text: str) -> None:
        """Takes one line, without its end, of the process `name`."""
        ...


class TerminalLines:
    """Writes lines with the process's name before them; on a terminal coloured, and JSON made readable."""

    def __init__(self, stream: IO[str], names: Iterable[str], *, terminal: bool) -> None:
        self._stream = stream
        self._terminal = terminal
        everybody = list(names)
        self._width = max((len(name) for name in everybody), default=0)
        self._colour = {name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(everybody)}

    def line(self, name: str, text: str) -> None:
        """Writes one line; a reader that has gone is no reason to stop."""
        prefix = f"{name:<{self._width}} |"
        if self._terminal:
            prefix = _painted(prefix, self._colour.get(name, _DIM))
            text = _readable(text)
        with contextlib.suppress(BrokenPipeError):
            self._stream.write(f"{prefix} {text}\n")
            self._stream.flush()


class FolderLines:
    """Writes each process's lines to `NAME.log` in a folder, begun anew each time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._streams: dict[str, IO[str]] = {}

    def line(self, name: str, text: str) -> None:
        """Writes one line."""
        if name not in self._streams:
            self._streams[name] = (self.folder / f"{name}.log").open("w", encoding="utf-8")
        stream = self._streams[name]
        stream.write(text + "\n")
        stream.flush()

    def __enter__(self) -> FolderLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams.values():
            stream.close()


def event_of(text: str) -> dict[str, Any]:
    """Returns a structured log line's fields; empty for any other line."""
    if not text.startswith("{"):
        return {}
    try:
        fields = json.loads(text)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) and "event" in fields else {}


def _readable(text: str) -> str:
    """A structured line as people read it: time, level, event, then the data."""
    fields = event_of(text)
    if not fields:
        return text
    time = str(fields.pop("timestamp", ""))[11:19]
    level = str(fields.pop("level", "info"))
    fields.pop("service", None)
    event = str(fields.pop("event"))
    trace = fields.pop("exception", None)
    data = " ".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in fields.items())
    painted = _painted(event, _LEVEL_COLOURS[level]) if level in _LEVEL_COLOURS else event
    return f"{_painted(time, _DIM)} {painted} {data}".rstrip() + (f"\n{trace}" if trace else "")


def _painted(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m"
