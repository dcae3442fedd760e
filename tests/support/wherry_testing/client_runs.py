"""What the tests of the `wherry` command share: how it is run, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Finished:
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, read as JSON."""
        return json.loads(self.out)


class Wherry(Protocol):
    """Runs a command line."""

    def __call__(self, *arguments: str, stdin: str = "") -> Finished:
        """Returns what the command left; `stdin` is no terminal."""
        ...


#: Finds the one token file, None where there is none.
FindTokenFile = Callable[[], Path | None]
