"""Whole deployments for tests: made by `wherry-buildout init`, run by `wherry-buildout up`, on free ports.

    with RunningDeployment(tmp_path) as deployment:
        deployment.address("queue")

Everything is a real process; the block ends with all of them gone.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from wherry_chassis.buildout import Buildout, Gateway, load
from wherry_testing.traces import processes_of
from wherry_testing.waiting import PATIENCE_S

BIN = Path(sys.executable).parent
_READY_WITHIN_S = 120.0
_STOP_WITHIN_S = 60.0


class DeploymentFailed(Exception):
    """A deployment did not do what the test needed; the message holds what it said."""


def _environment() -> dict[str, str]:
    """Many processes start at once: compiling every module in each of them would take most of the time."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def buildout_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `wherry-buildout` to its end."""
    return subprocess.run(
        [str(BIN / "wherry-buildout"), *arguments],
        capture_output=True,
        text=True,
        timeout=_STOP_WITHIN_S,
        env=_environment(),
        check=False,
    )


class RunningDeployment:
    """A deployment in a folder. `options` go to `init`, as ``("--workers", "2")``."""

    def __init__(self, folder: Path, *, options: Sequence[str] = ()) -> None:
        self.folder = folder
        self.file = folder / "buildout.toml"
        self.log = folder / "up.log"
        self._options = list(options)
        self._up: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RunningDeployment:
        self.init()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._up is not None:
            self.stop()

    def init(self) -> None:
        """Makes the deployment; DeploymentFailed if it cannot be made."""
        done = buildout_command("init", str(self.folder), "--free-ports", *self._options)
        if done.returncode != 0:
            raise DeploymentFailed(done.stderr)

    def start(self) -> None:
        """Runs `up` and waits until it says ready."""
        with self.log.open("ab") as log:
            up = subprocess.Popen(
                [str(BIN / "wherry-buildout"), "up", "--buildout", str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )
        self._up = up
        assert up.stdout is not None  # asked for with PIPE
        readable, _, _ = select.select([up.stdout], [], [], _READY_WITHIN_S)
        line = up.stdout.readline() if readable else b""
        if line != b"ready\n":
            up.terminate()
            up.wait(_STOP_WITHIN_S)
            up.stdout.close()
            self._up = None
            raise DeploymentFailed(f"not ready: {line!r}\n{self.log_text()}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stops everything; returns the exit status of `up`."""
        up, self._up = self._up, None
        assert up is not None, "not running"
        up.send_signal(number)
        try:
            return up.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            up.kill()
            up.wait()
            raise DeploymentFailed(f"did not stop\n{self.log_text()}") from None
        finally:
            if up.stdout is not None:
                up.stdout.close()

    @property
    def pid(self) -> int:
        """The process of `up`."""
        assert self._up is not None, "not running"
        return self._up.pid

    @property
    def buildout(self) -> Buildout:
        """The deployment, loaded."""
        return load(self.file)

    def address(self, service: str) -> str:
        """`host:port` of a service's first replica."""
        return str(getattr(self.buildout.service, service).addresses[0])

    def trust(self, name: str) -> str:
        """A file below the deployment's `trust`, as `operator.pem`."""
        return str(self.folder / "trust" / name)

    def log_text(self) -> str:
        """All that the processes have said."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def processes(self) -> dict[int, str]:
        """Every process on this machine that has to do with this deployment's folder, but `up` itself."""
        return {pid: line for pid, line in processes_of(self.folder).items() if "wherry-buildout" not in line}

    @property
    def gateway(self) -> Gateway:
        """The section `[gateway]`."""
        section = self.buildout.gateway
        assert section is not None
        return section


def wait_until(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Polls `condition` until it is true; DeploymentFailed after `within_s`."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise DeploymentFailed(f"not true within {within_s} s")
        time.sleep(0.02)
