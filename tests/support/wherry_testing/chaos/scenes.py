"""The places on which plans are carried out, and how much is done there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from wherry_fakes.pretending_engines import Pretence
from wherry_testing.bare_deployment import BareDeployment
from wherry_testing.chaos.plan import Scale, make_plan
from wherry_testing.chaos.real_copies import run_real_copies
from wherry_testing.chaos.result import Result
from wherry_testing.chaos.running import ChaosRun
from wherry_testing.cutting import Cutter
from wherry_testing.postgres import PostgresServer

Say = Callable[[str], None]
_SETTINGS = {
    # Short enough that what was lost is found again within seconds; tried often enough that chance gives nothing up.
    "lease": "ttl_s = 4\nheartbeat_s = 0.8\nback_off_s = 0.1\nattempts = 20\nlisting_wait_s = 20",
    # Limits are counted only where there are some.
    "limits": "link_tasks = 20\nsite_out_tasks = 30\nsite_in_tasks = 30\nuser_tasks = 24",
    "worker": "interactive = 2\nbulk = 10",
    "retention": "listing_s = 3600",
}
_FAIL_RATE, _RETRY_RATE = 0.01, 0.01


def scale_of(tasks: int, *, postgres: bool) -> Scale:
    """Returns what is broken while so many tasks are done."""
    times = tasks / 2000
    kills = {
        "worker": max(int(3 * times**0.75), 2),
        "queue": max(int(2 * times**0.75), 2),
        "site": max(int(1 * times**0.75), 1),
    }
    if postgres:
        kills["postgres"] = max(int(times**0.6), 1)
    return Scale(
        tasks,
        kills,  # type: ignore[arg-type]  # the literals' dictionary
        cuts=max(int(4 * times**0.75), 3),
        looks=max(int(6 * times**0.75), 4),
        sign_outs=max(int(2 * times**0.5), 1),
        limits=max(int(3 * times**0.5), 1),
        bans=max(int(2 * times**0.5), 1),
        worker_drains=max(int(2 * times**0.5), 1),
        queue_drains=max(int(times**0.5), 1),
    )


async def on_postgresql(folder: Path, seed: int, say: Say, tasks: int | None = None) -> Result:
    """Two replicas on PostgreSQL, which is killed as well."""
    server = PostgresServer(kill_proof=True)
    try:
        with Cutter() as cutter:
            place = BareDeployment(folder / "centre", server=server, replicas=2, settings=_SETTINGS, cutter=cutter)
            return await _run(place, seed, scale_of(tasks or 100_000, postgres=True), say)
    finally:
        server.remove()


async def on_sqlite(folder: Path, seed: int, say: Say, tasks: int | None = None) -> Result:
    """One replica on SQLite."""
    with Cutter() as cutter:
        place = BareDeployment(folder / "centre", settings=_SETTINGS, cutter=cutter)
        return await _run(place, seed, scale_of(tasks or 20_000, postgres=False), say)


async def real_copies(folder: Path, seed: int, say: Say, files: int | None = None) -> Result:
    """Two real sites, real workers, two replicas."""
    return await run_real_copies(folder, seed, say, files or 200)


async def _run(place: BareDeployment, seed: int, scale: Scale, say: Say) -> Result:
    plan = make_plan(seed, scale)
    say(f"{len(plan.jobs)} jobs, {len(plan.steps)} steps; kills {dict(scale.kills)}, cuts {scale.cuts}")
    pretence = Pretence(seed, task_s=0.01, fail_rate=_FAIL_RATE, retry_rate=_RETRY_RATE)
    async with place.running() as centre:
        for _ in range(4):
            centre.start_worker(
                *("--seed", str(seed), "--task-ms", "10"),
                *("--fail-rate", str(_FAIL_RATE), "--retry-rate", str(_RETRY_RATE)),
            )
        run = ChaosRun(centre, plan, pretence, say, rest_within_s=60 + scale.tasks / 500)
        return await run.run()


def remove(folder: Path) -> None:
    """Removes what a run has left."""
    shutil.rmtree(folder, ignore_errors=True)
