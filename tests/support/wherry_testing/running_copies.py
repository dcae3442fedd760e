"""Copies that are looked at while they run: on the disks, in the queue's rows, and through the client."""

from __future__ import annotations

import filecmp
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wherry.queue.v1 import job_service_pb2 as pb
from wherry_client import Client, RemotePath
from wherry_client.jobs import ENDED
from wherry_testing.deployment import RealDeployment
from wherry_testing.deployment_processes import wait_until
from wherry_testing.sites import RealSite

COPY_FILES, RUNNING = 3, 2
"""A task's kind and state in the queue's rows."""
_BLOCK_BYTES = 1 << 20
_JOB_WITHIN_S = 90.0


@dataclass(frozen=True)
class Folders:
    """A folder at each site that belongs to one copy, as this machine sees them."""

    source_site: RealSite
    source: Path
    destination_site: RealSite
    destination: Path

    def start(self, client: Client, name: str = "data") -> pb.Job:
        """Asks for a recursive copy of the source folder to `name` in the destination folder."""
        source = RemotePath(self.source_site.name, self.source.name.encode())
        destination = RemotePath(self.destination_site.name, f"{self.destination.name}/{name}".encode())
        return client.jobs.copy([(source, destination)], recursive=True)

    def temporaries(self) -> list[Path]:
        """Returns Wherry's temporary files anywhere in the destination folder."""
        return list(self.destination.rglob(".wherry-*"))

    def moved_bytes(self) -> int:
        """Returns the size of the largest temporary file now."""
        sizes = []
        for path in self.temporaries():
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:
                continue
        return max(sizes, default=0)

    def arrived(self, name: str = "data") -> int:
        """Returns how many files stand at the destination under their final names."""
        top = self.destination / name
        return sum(path.is_file() and not path.name.startswith(".wherry-") for path in top.rglob("*"))


def write_large(path: Path, size_bytes: int) -> None:
    """Writes a file no two blocks of which are alike."""
    block = bytearray(hashlib.shake_256(path.name.encode()).digest(_BLOCK_BYTES))
    with path.open("wb") as file:
        for number in range(-(-size_bytes // _BLOCK_BYTES)):
            block[:8] = number.to_bytes(8, "big")
            file.write(block[: min(_BLOCK_BYTES, size_bytes - number * _BLOCK_BYTES)])


def write_many(folder: Path, count: int) -> None:
    """Writes small files, each with bytes of its own."""
    for number in range(count):
        seed = number.to_bytes(2, "big")
        (folder / f"file {number:03}.dat").write_bytes(hashlib.shake_256(seed).digest(10_000 + number))


def same_trees(one: Path, other: Path) -> bool:
    """Tells whether two folders hold the same names and bytes, and nothing else."""
    names = [{path.relative_to(top) for path in top.rglob("*")} for top in (one, other)]
    if names[0] != names[1]:
        return False
    files = [name for name in names[0] if (one / name).is_file()]
    return all((other / name).is_file() and filecmp.cmp(one / name, other / name, shallow=False) for name in files)


def running_chunk(deployment: RealDeployment, job: str) -> dict[str, Any] | None:
    """Returns the row of a job's chunk that a worker holds now, None where there is none."""
    rows = deployment.task_rows(job)
    return next((row for row in rows if row["kind"] == COPY_FILES and row["state"] == RUNNING), None)


def chunk_in_mid_copy(deployment: RealDeployment, job: str, under_way: Callable[[], object]) -> dict[str, Any]:
    """Waits until a job's copy is under way; returns the row of its chunk."""
    wait_until(under_way, "the copy is under way", 60, 0.005)
    row = running_chunk(deployment, job)
    assert row is not None, f"the copy was over too soon: {deployment.task_rows(job)}"
    return row


def ended(client: Client, job: str, within_s: float = _JOB_WITHIN_S) -> pb.Job:
    """Waits for a job's end."""
    for now in client.jobs.watch(job, timeout_s=within_s):
        last = now
    assert last.state in ENDED
    return last


@dataclass
class JobObserver:
    """Asks for a job again and again while a test does something, as an impatient user would.

    Attributes:
        seen: every answer.
    """

    client: Client
    job: str
    seen: list[pb.Job] = field(default_factory=list)

    def __enter__(self) -> JobObserver:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.is_set():
            self.seen.append(self.client.jobs.get(self.job))
            time.sleep(0.1)
