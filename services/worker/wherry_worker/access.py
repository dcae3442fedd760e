"""What a task may use at its sites, and the private folder in which an engine finds it."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from wherry_worker.engine.messages import Door, Protection
from wherry_worker.trust import Authority, write_trust_directory


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One door of a site."""

    scheme: str
    host: str
    port: int
    root_path: str = "/"


@dataclass(frozen=True, slots=True)
class SiteAccess:
    """What the site service gave for one user at one site. `proxy_pem` is a secret and is never shown.

    `expires` is the credential's end, `session_expires` the session's: until then another credential can be had.
    `data_channel` is the least protection that the site demands of bytes that go to or from it; None: none.
    """

    site: str
    endpoints: tuple[Endpoint, ...]
    authorities: tuple[Authority, ...]
    credential_id: str
    expires: datetime | None
    proxy_pem: bytes = field(repr=False)
    session_expires: datetime | None = None
    data_channel: Protection | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """A site's access and the door that was chosen."""

    access: SiteAccess
    endpoint: Endpoint


class EngineFolder:
    """A folder of mode 0700 with one engine's credentials and trusted CAs; wiped when the engine has ended."""

    def __init__(self, parent: Path) -> None:
        self.path = parent / f"engine-{secrets.token_hex(8)}"
        self.path.mkdir(mode=0o700)
        self._generation = 0
        self._current: Path | None = None

    def write(self, source: Visit, destination: Visit | None) -> tuple[Door, Door | None, Path]:
        """Writes credentials and CAs afresh, wiping those before.

        Returns the doors, and the trust directory of both sites together: Globus and gfal2 know one per process.
        Raises TrustError where the sites' CAs cannot stand side by side.
        """
        old, self._generation = self._current, self._generation + 1
        folder = self.path / str(self._generation)
        folder.mkdir(mode=0o700)
        self._current = folder
        first = self._door(folder, "source", source)
        second = None if destination is None else self._door(folder, "destination", destination)
        visits = [source] if destination is None else [source, destination]
        merged = self.path / "trust"
        if merged.exists():
            shutil.rmtree(merged)
        # Two sites may name one CA; each is written once.
        authorities = dict.fromkeys(authority for visit in visits for authority in visit.access.authorities)
        write_trust_directory(merged, authorities)
        if old is not None:
            wipe(old)
        return first, second, merged

    def _door(self, folder: Path, side: str, visit: Visit) -> Door:
        trust = folder / f"{side}-trust"
        write_trust_directory(trust, visit.access.authorities)
        credential = folder / f"{side}.pem"
        _write_secret(credential, visit.access.proxy_pem)
        return Door(
            site=visit.access.site,
            scheme=visit.endpoint.scheme,
            host=visit.endpoint.host,
            port=visit.endpoint.port,
            credential_file=str(credential),
            trust_directory=str(trust),
            root_path=visit.endpoint.root_path or "/",
        )

    def renew(self, side: str, pem: bytes) -> None:
        """Puts another credential in the place of the side's, for the connections that the engine makes next."""
        if self._current is None:
            return
        credential = self._current / f"{side}.pem"
        fresh = credential.with_suffix(".new")
        with credential.open("r+b") as old:
            _write_secret(fresh, pem)
            fresh.replace(credential)
            old.write(b"\0" * os.fstat(old.fileno()).st_size)

    def wipe(self) -> None:
        """Overwrites and removes everything."""
        wipe(self.path)


def _write_secret(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)


def wipe(folder: Path) -> None:
    """Overwrites every file under a folder, then removes it; one that is gone is no error."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("r+b") as file:
                file.write(b"\0" * path.stat().st_size)
    shutil.rmtree(folder, ignore_errors=True)


class RunFolder:
    """This process's part of the worker's state folder, locked while it lives.

    What a worker that was killed has left there is wiped by the next one to start.
    """

    def __init__(self, state: Path) -> None:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = secrets.token_hex(8)
        new = state / f"new-{name}"
        new.mkdir(mode=0o700)
        self._lock = _lock(new)
        # Only locked folders bear the name that others look for.
        self.path = new.rename(state / f"run-{name}")
        for other in state.glob("run-*"):
            if other != self.path and (lock := _lock(other)) is not None:
                wipe(other)
                os.close(lock)

    def close(self) -> None:
        """Wipes the folder and lets the lock go."""
        wipe(self.path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _lock(folder: Path) -> int | None:
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
