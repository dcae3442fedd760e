"""The first release's figures: copying, listing, and tasks through the queue."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from wherry_testing.postgres import PostgresServer

from bench import copying, noop_pgqueuer, noop_queue
from bench.measure import Measurement, benchmark

_TASKS = 5000
_PLACES = 100
_GLOBUS = "globus-url-copy -fast -pp (unverified)"


@benchmark("first")
def copies_and_listings() -> Iterator[Measurement]:
    """Copies and listings between two real sites on this machine, by the command."""
    with copying.running_place() as place:
        listing = copying.list_with_globus(place)
        peer = "globus-url-copy -list"
        yield Measurement("ls_cold", copying.list_with_wherry(place), "s", peer, listing, more_is_better=False)
        warm = statistics.median(copying.list_with_wherry(place) for _ in range(3))
        yield Measurement("ls_warm", warm, "s", peer, listing, more_is_better=False)
        files, _ = copying.data_size(copying.SMALL)
        theirs = files / copying.copy_with_globus(place, "small-globus", copying.SMALL)
        ours = files / copying.copy_with_wherry(place, "small-wherry", copying.SMALL)
        yield Measurement("copy_small_files", ours, "files/s", _GLOBUS, theirs)
        _, size_bytes = copying.data_size(copying.LARGE)
        theirs = size_bytes / 1e6 / copying.copy_with_globus(place, "large-globus", copying.LARGE)
        ours = size_bytes / 1e6 / copying.copy_with_wherry(place, "large-wherry", copying.LARGE)
        yield Measurement("copy_large_file", ours, "MB/s", _GLOBUS, theirs)


@benchmark("first")
def no_op_tasks() -> Iterator[Measurement]:
    """No-op tasks leased, run and settled by one worker over mTLS; every commit waits for the disk."""
    with tempfile.TemporaryDirectory(prefix="wherry-bench-") as name:
        server = PostgresServer(durable=True)
        try:
            peer = f"pgqueuer (batch {_PLACES}, PostgreSQL)"
            theirs = noop_pgqueuer.tasks_per_second(server.fresh(None), _TASKS, _PLACES)
            for database, url in (("sqlite", f"sqlite:///{name}/queue.db"), ("postgresql", server.fresh(None))):
                folder = Path(name) / database
                folder.mkdir()
                ours = noop_queue.tasks_per_second(folder, url, _TASKS, _PLACES)
                yield Measurement(f"noop_tasks_{database}", ours, "tasks/s", peer, theirs)
        finally:
            server.remove()
