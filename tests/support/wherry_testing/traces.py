"""What a run leaves behind or lets others see: command lines, logs, the machine's configuration, processes."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

_JWT = re.compile(rb"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}")
_PEM_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_SAMPLE_EVERY_S = 0.02


class CommandLines:
    """Collects the command lines of all processes of the machine while it is open, as anybody on it can."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="command lines")

    def __enter__(self) -> CommandLines:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        known: dict[str, bytes] = {}
        while not self._over.wait(_SAMPLE_EVERY_S):
            for process in Path("/proc").iterdir():
                if process.name.isdigit():
                    with contextlib.suppress(OSError):
                        line = (process / "cmdline").read_bytes()
                        if known.get(process.name) != line:
                            known[process.name] = line
                            self.seen.add(line)


def secret_forms(secret: str) -> list[bytes]:
    """Returns how a secret would stand in a text: as it is, and in base64."""
    raw = secret.encode()
    return [raw, base64.b64encode(raw).rstrip(b"="), base64.urlsafe_b64encode(raw).rstrip(b"=")]


def secrets_in(text: bytes, secrets: Iterable[str]) -> list[str]:
    """Returns what stands in a text and should not: known secrets, and anything that looks like a token or a key."""
    found = [f"{secret[:4]}…" for secret in secrets if any(form in text for form in secret_forms(secret))]
    found += [f"a token: {match[0][:20]!r}" for match in _JWT.finditer(text)]
    found += ["a private key" for _ in _PEM_KEY.finditer(text)]
    return found


def state_of(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    """Returns every path below a folder with its mode, owner, size and time of change."""
    found = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            entry = path.lstat()
            found[str(path)] = (entry.st_mode, entry.st_uid, entry.st_size, entry.st_mtime_ns)
    return found


def processes_of(folder: Path) -> dict[int, str]:
    """Returns the command lines, by process id, of other processes that name something in a folder, or work in it."""
    found = {}
    within = f"{folder}/"
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                # A process that is ending has neither.
                if line and (within in line or f"{(process / 'cwd').readlink()}/".startswith(within)):
                    found[int(process.name)] = line
    return found
