"""The first release's figures: copying, listing, and tasks through the queue."""

from __future__ import annotations

import statistics

from wherry_testing.postgres import PostgresServer

from bench import copying, noop_pgqueuer, noop_queue
from bench.measure import Bench, Measurement, Peer, benchmark

_TASKS = 5000
_PLACES = 100
_GLOBUS = "globus-url-copy -fast -pp (unverified)"


@benchmark("first")
def copies_and_listings(bench: Bench) -> list[Measurement]:
    """Copies and listings between two real sites on this machine, by the command."""
    with copying.running_place(bench.folder) as place:
        listing = copying.list_with_globus(place)
        cold = copying.list_with_wherry(place)
        warm = statistics.median(copying.list_with_wherry(place) for _ in range(3))
        files, _ = copying.data_size(copying.SMALL)
        bench.say(f"{files} small files")
        their_small_s = copying.copy_with_globus(place, "small-globus", copying.SMALL)
        our_small_s = copying.copy_with_wherry(place, "small-wherry", copying.SMALL)
        _, size_bytes = copying.data_size(copying.LARGE)
        bench.say(f"one file of {size_bytes / 1e6:.0f} MB")
        their_large_s = copying.copy_with_globus(place, "large-globus", copying.LARGE)
        our_large_s = copying.copy_with_wherry(place, "large-wherry", copying.LARGE)
    megabytes = size_bytes / 1e6
    lister = Peer("globus-url-copy -list", listing)
    return [
        Measurement("ls_cold", cold, "s", lister),
        Measurement("ls_warm", warm, "s", lister),
        Measurement("copy_small_files", files / our_small_s, "files/s", Peer(_GLOBUS, files / their_small_s)),
        Measurement("copy_large_file", megabytes / our_large_s, "MB/s", Peer(_GLOBUS, megabytes / their_large_s)),
    ]


@benchmark("first")
async def no_op_tasks(bench: Bench) -> list[Measurement]:
    """No-op tasks leased, run and settled by one worker over mTLS; every commit waits for the disk."""
    server = PostgresServer(durable=True)
    try:
        theirs = await noop_pgqueuer.tasks_per_second(server.fresh(None), _TASKS, _PLACES)
        peer = Peer(f"pgqueuer (batch {_PLACES}, PostgreSQL)", theirs)
        measured = []
        for database, url in (
            ("sqlite", f"sqlite:///{bench.folder}/queue.db"),
            ("postgresql", server.fresh("wherry_queue")),
        ):
            folder = bench.folder / database
            folder.mkdir()
            bench.say(f"{_TASKS} tasks on {database}")
            ours = await noop_queue.tasks_per_second(folder, url, _TASKS, _PLACES)
            measured.append(Measurement(f"noop_tasks_{database}", ours, "tasks/s", peer))
        return measured
    finally:
        server.remove()
