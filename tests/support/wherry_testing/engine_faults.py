"""Copies between real servers to which something happens in the middle, and what must hold of them afterwards."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wherry_testing.sites import RealSite
from wherry_testing.waiting import PATIENCE_S, until
from wherry_worker.access import EngineFolder
from wherry_worker.channel_context import channel_context
from wherry_worker.engine.messages import (
    RESUME_BYTES,
    CopyFiles,
    CopyItem,
    ItemDone,
    LeftBehind,
    Problem,
    Progress,
    RemoveTemporaries,
    Setup,
)
from wherry_worker.engine.paths import to_text
from wherry_worker.engine_process import (
    DeathCause,
    EngineCommand,
    EngineDied,
    EngineLimits,
    EngineProcess,
    EngineTaskFailed,
)
from wherry_worker.engines import Plan

TAG = "job.7"
#: Goes over in moments, and is too much for what lies between the servers: stopped at its beginning it has no end.
BALLAST_BYTES = 48 << 20
#: Large enough that what happens in its middle does happen there; sparse at the source.
LARGE_BYTES = 4 << 30


@dataclass
class Came:
    """What came of a task.

    Attributes:
        died: why the engine ended before the task did.
        moved: of each file in turn, how many bytes were there while it was copied.
        left_behind: whether the engine told of files that it left.
    """

    done: list[ItemDone] = field(default_factory=list)
    problem: Problem | None = None
    died: DeathCause | None = None
    moved: dict[int, list[int]] = field(default_factory=dict)
    left_behind: bool = False

    @property
    def reasons(self) -> dict[int, str | None]:
        """By index: None for a file that is done, else why it is not; what was not told is missing."""
        return {item.index: item.problem.reason if item.problem else None for item in self.done}

    @property
    def why(self) -> set[str]:
        """The reasons of the task and of all files."""
        problems = [self.problem, *(item.problem for item in self.done)]
        return {problem.reason for problem in problems if problem is not None}


@dataclass(frozen=True)
class Patience:
    """An engine's time-outs, as `Setup` has them, and from which size on files are gone on with."""

    namespace_timeout_s: int = 60
    checksum_timeout_s: int = 1800
    marker_timeout_s: int = 120
    resume_bytes: int = RESUME_BYTES


#: As workers have them.
WORKERS = Patience()


@asynccontextmanager
async def engine_between(
    plan: Plan, folder: Path, patience: Patience, *, protected: bool = False
) -> AsyncIterator[EngineProcess]:
    """An engine of its own, as in a worker, with the time-outs that a test needs."""
    private = EngineFolder(folder)
    engine = await EngineProcess.start(EngineCommand(), private.path / "trust", EngineLimits())
    try:
        source, destination, _ = private.write(plan.source, plan.destination)
        context = channel_context(dt.timedelta(hours=1)) if protected else ""
        await engine.setup(Setup(plan.engine, source, destination, **asdict(patience), channel_context=context))
        yield engine
    finally:
        await engine.kill("closed")
        private.wipe()


async def copied(engine: EngineProcess, task: CopyFiles, within_s: float = 150, came: Came | None = None) -> Came:
    """Runs a copy to whatever end it has; `came` can be looked at meanwhile."""
    came = Came() if came is None else came
    try:
        async for message in engine.run(task, time.monotonic() + within_s):
            if isinstance(message, ItemDone):
                came.done.append(message)
            elif isinstance(message, Progress) and message.phase == "copying":
                came.moved.setdefault(message.index, []).append(message.transferred_bytes)
            elif isinstance(message, LeftBehind):
                came.left_behind = True
    except EngineTaskFailed as failed:
        came.problem = failed.problem
    except EngineDied as died:
        came.died = died.cause
    return came


async def cleared(engine: EngineProcess, fence: int = 1) -> None:
    """Has removed what an engine left that could not do so itself, as the lease process has."""
    async for _ in engine.run(RemoveTemporaries(TAG, fence, ("/",)), time.monotonic() + 60):
        pass


def chunk(names: Iterable[bytes | str], *, fence: int = 1, size_bytes: int = 0, **options: Any) -> CopyFiles:
    """Files of the root directory, each to its own name."""
    texts = [to_text(name) if isinstance(name, bytes) else name for name in names]
    items = tuple(CopyItem(index, name, name, size_bytes) for index, name in enumerate(texts))
    return CopyFiles(TAG, fence, "/", "/", items, **options)


# --- contents that tell whose they are ---


def sealed(name: str, version: int, size: int, rng: random.Random) -> bytes:
    """Bytes that tell which file they are of, and whether they are whole."""
    body = f"{name} {version} ".encode() + rng.randbytes(size)
    return body + hashlib.sha256(body).hexdigest().encode()


def is_own(name: str, content: bytes) -> bool:
    """Whether bytes are those of the file of this name, and all of them."""
    body, seal = content[:-64], content[-64:]
    return hashlib.sha256(body).hexdigest().encode() == seal and body.split(b" ", 1)[0] == name.encode()


def temporaries(folder: Path) -> list[Path]:
    """What lies in a folder under temporary names."""
    return [path for path in folder.iterdir() if path.name.startswith(".wherry-")]


def written_bytes(folder: Path) -> int:
    """The size of what lies in a folder under temporary names; one that goes meanwhile counts for nothing."""
    total = 0
    for path in temporaries(folder):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


async def no_temporaries(folder: Path, within_s: float = PATIENCE_S) -> None:
    """Fails where temporaries stay; a server may take a moment to notice that a connection has ended."""
    try:
        await until(lambda: not temporaries(folder), within_s)
    except TimeoutError:
        raise AssertionError(f"left behind: {sorted(path.name for path in temporaries(folder))}") from None


def assert_nothing_lost(
    destination: Path,
    names: list[str],
    came: Came,
    contents: Mapping[str, bytes],
    old: Mapping[str, bytes] | None = None,
) -> None:
    """Fails where a file that is told as done has other bytes than its source, or a failed one has replaced another.

    A file of which nothing was told, since the task ended before, may be in place or not: its bytes are right, or old.
    """
    told = came.reasons
    before = old or {}
    for index, name in enumerate(names):
        path = destination / name
        now = path.read_bytes() if path.exists() else None
        if index in told and told[index] is None:
            assert now == contents[name], f"{name} was told as done"
        elif index in told:
            assert now == before.get(name), f"{name} was told as {told[index]}"
        else:
            assert now in (before.get(name), contents[name]), f"{name} was not told of"


# --- what happens ---


def processes_of(site: RealSite) -> list[int]:
    """The site's server processes: all below the one that serves it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(folder.name))
    found: list[int] = []
    todo = [site.pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def sessions_of(site: RealSite) -> list[int]:
    """Of these those that serve one GridFTP connection each."""
    return [pid for pid in processes_of(site) if _runs(pid, "globus-gridftp-server") and _runs(_parent(pid), "globus")]


def _runs(pid: int, program: str) -> bool:
    try:
        return program in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@contextmanager
def stopped(processes: Callable[[], list[int]]) -> Iterator[None]:
    """Stops processes, as if their machine were stalled, and lets them go on at the end."""
    pids: set[int] = set()
    # Those that began meanwhile are stopped in another round.
    while new := set(processes()) - pids:
        for pid in new:
            _signal(pid, signal.SIGSTOP)
        pids |= new
    try:
        yield
    finally:
        for pid in pids:
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


@asynccontextmanager
async def stopped_in_the_first_file(site: RealSite, destination: Path) -> AsyncIterator[None]:
    """Waits for a copy to begin to write, and stops the destination while the body is done."""
    await until(lambda: temporaries(destination), within_s=60)
    with stopped(lambda: processes_of(site)):
        yield


def expired(credential: Path) -> bytes:
    """A proxy of the credential's that has run out."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from wherry_site.proxies import proxy_pem, sign_proxy

    pem = credential.read_bytes()
    chain = x509.load_pem_x509_certificates(pem)
    issuer_key = load_pem_private_key(pem, None)
    assert isinstance(issuer_key, RSAPrivateKey)
    key = generate_private_key(65537, 2048)
    # sign_proxy backdates by minutes, so that a life in the past is one that has ended.
    long_ago = chain[0].not_valid_before_utc
    proxy = sign_proxy(chain[0], issuer_key, key, now=long_ago, life=dt.timedelta(seconds=1))
    return proxy_pem(proxy, key, chain)


@dataclass(frozen=True)
class FaultLab:
    """Two real sites, an empty folder at each, and engines between them.

    `source` and `destination` are the folders as the machine sees them.
    """

    sites: tuple[RealSite, RealSite]
    source: Path
    destination: Path
    plan: Plan
    folder: Path

    def engine(
        self, patience: Patience = WORKERS, *, protected: bool = False
    ) -> AbstractAsyncContextManager[EngineProcess]:
        """An engine of the test's own."""
        return engine_between(self.plan, self.folder, patience, protected=protected)

    def own(self) -> None:
        """Gives the files that were put there to the users."""
        self.sites[0].own("alice")
        self.sites[1].own("bob")

    def prepare(self, contents: Mapping[str, bytes], old: Mapping[str, bytes] | None = None) -> None:
        """Puts files at the source, and older ones at the destination."""
        for folder, files in ((self.source, contents), (self.destination, old or {})):
            for name, content in files.items():
                (folder / name).write_bytes(content)
        self.own()

    async def copy(self, task: CopyFiles) -> Came:
        """Runs a copy with an engine of its own."""
        async with self.engine() as engine:
            return await copied(engine, task)

    async def clear(self) -> None:
        """Has another engine remove what one left that was killed, or whose destination was."""
        async with self.engine() as engine:
            await cleared(engine)
