"""The `wherry` command as a person runs it: a process of its own, with a folder of its own for its state."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry_client import Client, load
from wherry_testing.client_runs import Finished

_PROGRAM = Path(sys.executable).with_name("wherry")
_COMMAND_WITHIN_S = 120.0


@dataclass(frozen=True)
class WherryCommand:
    """Runs the command for one person.

    Attributes:
        configuration: the `client.toml`.
        state: the folder where its tokens lie.
        prefix: put before the command, as what enters a network namespace.
    """

    configuration: Path
    state: Path
    prefix: Sequence[str] = ()

    def __call__(self, *arguments: str, stdin: str = "", within_s: float = _COMMAND_WITHIN_S) -> Finished:
        """Runs a command line to its end; `stdin` is no terminal."""
        done = subprocess.run(
            [*self.prefix, str(_PROGRAM), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=within_s,
            env=self._environment(),
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def must(self, *arguments: str, stdin: str = "", within_s: float = _COMMAND_WITHIN_S) -> Finished:
        """Runs a command line that has to succeed."""
        finished = self(*arguments, stdin=stdin, within_s=within_s)
        assert finished.status == 0, f"wherry {arguments} ended with {finished.status}:\n{finished.out}{finished.err}"
        return finished

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts a command line; whoever asks has to see it to its end."""
        return subprocess.Popen(
            [*self.prefix, str(_PROGRAM), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(),
        )

    def client(self) -> Client:
        """Returns the client library with the same configuration and state, for calls in this process."""
        return Client(load(self.configuration), self.state)

    def _environment(self) -> dict[str, str]:
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return keep | {"WHERRY_CONFIG": str(self.configuration), "WHERRY_STATE": str(self.state), "LC_ALL": "C.UTF-8"}
