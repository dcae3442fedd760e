"""A worker process whose engines only pretend: for benchmarks and for tests that break things under load.

    python -m wherry_fakes.pretending_worker --buildout FILE --process N [--seed S] [--task-ms MEAN] [--fail-rate R]

with `tests/fakes` on PYTHONPATH. It is the real lease process (mTLS, the lease stream, renewals, cancels and pauses,
settlements, drains on SIGTERM and at the queue's word) with the deployment's own worker certificate; nothing is fetched
from a site, listed, copied or removed, unless `--credentials` has it ask the site service as a real one does.

`--process N` tells processes of one machine apart (in the name and in nothing else); with `--name` the name is given.
`--interactive` and `--bulk` replace the places of `buildout.toml`. Copies of `/synthetic/3x2x100[-anything]` walk trees
that synthetic_trees.py describes; any other path is one file. A task takes `--task-ms` in the mean, `--spread` around
it; a chunk's files share its time. `--fail-rate` of all files fail for good (the same ones in every process with the
same `--seed`), `--retry-rate` of them in an attempt, and none after `--sick-attempts` attempts. `--settle-only` leaves
out the worker's own part too: every lease is settled as done, walks find nothing.

It logs as `wherry-worker` does: wait for `stream_opened`; SIGTERM drains, a second one ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from wherry_chassis.buildout import BuildoutError, load
from wherry_chassis.logging import configure
from wherry_fakes.noop_runner import NoopRunner
from wherry_fakes.pretending_engines import PRETENDED_SCHEME, AnySite, Pretence, PretendingEngines
from wherry_worker import app
from wherry_worker.attempt import Attempt
from wherry_worker.ports import Reports, Sites
from wherry_worker.running import Runner, TaskRunner
from wherry_worker.work import Settlement

_SCHEMES = {PRETENDED_SCHEME: "pretending", "gsiftp": "pretending"}


class PretendingRunner:
    """Runs leases as a worker does, with engines that pretend; `sites` None: without asking for credentials."""

    def __init__(self, reports: Reports, engines: PretendingEngines, sites: Sites | None = None) -> None:
        self._reports = reports
        self._engines = engines
        self._sites = sites

    async def run(self, attempt: Attempt) -> Settlement:
        """Works through an attempt."""
        lease = attempt.lease
        sites = self._sites or AnySite([lease.source_site, lease.destination_site])
        return await TaskRunner(sites, self._reports, self._engines, _SCHEMES).run(attempt)

    async def end_sessions(self, user: str, site: str) -> None:
        """Keeps nothing warm."""

    async def end_all_sessions(self) -> None:
        """Keeps nothing warm."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the process; returns the exit status."""
    options = _options(arguments)
    try:
        buildout = load(options.buildout)
        configure("worker", format=buildout.logging.format, level=options.log_level or buildout.logging.level)
        places = {
            key: value
            for key, value in (("interactive", options.interactive), ("bulk", options.bulk))
            if value is not None
        }
        changed = buildout.model_copy(update={"worker": buildout.worker.model_copy(update=places)})
        pretence = Pretence(
            options.seed,
            options.task_ms / 1000,
            options.spread,
            options.fail_rate,
            options.retry_rate,
            options.sick_attempts,
        )

        def make_runner(parts: app.Parts) -> Runner:
            if options.settle_only:
                return NoopRunner(parts.queue)
            sites = parts.sites if options.credentials else None
            return PretendingRunner(parts.queue, PretendingEngines(pretence), sites)

        name = options.name or f"{socket.gethostname()}-pretending-{options.process}-{os.getpid()}"
        asyncio.run(app.run(changed, make_runner, name=name))
    except (BuildoutError, OSError) as error:
        print(f"pretending_worker: {error}", file=sys.stderr)  # noqa: T201  # for the person who started it
        return 2
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pretending_worker", description="A worker that only pretends")
    parser.add_argument("--buildout", type=Path, required=True, metavar="FILE")
    parser.add_argument("--process", type=int, default=0, metavar="N")
    parser.add_argument("--name", default="", help="the worker's name at the queue")
    parser.add_argument("--interactive", type=int, metavar="PLACES")
    parser.add_argument("--bulk", type=int, metavar="PLACES")
    parser.add_argument("--seed", type=int, default=0, help="of failures and durations")
    parser.add_argument("--task-ms", type=float, default=0.0, metavar="MEAN")
    parser.add_argument("--spread", choices=["fixed", "exponential", "lognormal"], default="exponential")
    parser.add_argument("--fail-rate", type=float, default=0.0, metavar="R")
    parser.add_argument("--retry-rate", type=float, default=0.0, metavar="R")
    parser.add_argument("--sick-attempts", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--credentials", action="store_true", help="ask the site service for credentials")
    parser.add_argument("--settle-only", action="store_true", help="settle every lease as done at once")
    parser.add_argument("--log-level", default="", help="instead of the buildout's")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
