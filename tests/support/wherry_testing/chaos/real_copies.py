"""Real copies between two real sites (GridFTP, MyProxy) while real workers and queue replicas are killed."""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_client import Client, RemotePath
from wherry_deploy.deployment import SERVICES
from wherry_testing.chaos import at_rest
from wherry_testing.chaos.jobs import ENDED
from wherry_testing.chaos.result import Result
from wherry_testing.deployment import RealDeployment
from wherry_testing.deployment_processes import NotInTime, wait_until
from wherry_testing.postgres import PostgresServer
from wherry_testing.running_copies import same_trees
from wherry_testing.sites import RealSite

_IN_A_FOLDER = 10
_REST_WITHIN_S = 300.0
_SETTINGS = {"lease": "ttl_s = 4\nheartbeat_s = 0.8\nback_off_s = 0.2\nattempts = 20"}
_WORKER_KILLS, _QUEUE_KILLS = 6, 3


async def run_real_copies(folder: Path, seed: int, say: Callable[[str], None], files: int) -> Result:
    """Copies so many files, a job for each folder of ten; returns what came of it."""
    server = PostgresServer(kill_proof=True)
    databases = {service: server.fresh() for service in SERVICES}
    try:
        with (
            RealSite("site-a") as site_a,
            RealSite("site-b") as site_b,
            RealDeployment(
                folder / "centre", databases=databases, settings=_SETTINGS, workers=3, replicas=2
            ) as deployment,
        ):
            person = deployment.sign_in_at_both(deployment.person("alice@example.org"), (site_a, site_b))
            with person.wherry.client() as client:
                copies = _Copies(deployment, site_a, site_b, client, seed, say, databases["queue"])
                return copies.run(files)
    finally:
        server.remove()


class _Copies:
    def __init__(
        self,
        deployment: RealDeployment,
        site_a: RealSite,
        site_b: RealSite,
        client: Client,
        seed: int,
        say: Callable[[str], None],
        database_url: str,
    ) -> None:
        self._deployment = deployment
        self._source, self._destination = site_a.data_dir("alice"), site_b.data_dir("bob")
        self._site = site_a
        self._client = client
        self._dice = random.Random(seed)
        self._say = say
        self._database_url = database_url
        self.result = Result(seed)

    def run(self, files: int) -> Result:
        names = [f"set {number:03}" for number in range(-(-files // _IN_A_FOLDER))]
        for name in names:
            self._write(self._source / name)
        self._site.own("alice")
        began_s = time.monotonic()
        jobs = [self._start(name) for name in names]
        kills = ["worker"] * _WORKER_KILLS + ["queue"] * _QUEUE_KILLS
        self._dice.shuffle(kills)
        moments = sorted(self._dice.randint(files // 50, files * 9 // 10) for _ in kills)
        for moment, victim in zip(moments, kills, strict=True):
            wait_until(lambda at=moment: self._arrived() >= at, f"{moment} files have arrived", _REST_WITHIN_S, 0.02)  # type: ignore[misc]  # mypy knows no default of a lambda
            self._kill(victim)
        last_s = time.monotonic()
        try:
            ended = [self._ended(job.name) for job in jobs]
        except NotInTime as problem:
            self.result.faults.append(str(problem))
            ended = [self._client.jobs.get(job.name) for job in jobs]
        self.result.resting_s = time.monotonic() - last_s
        self.result.seconds = time.monotonic() - began_s
        self._look(names, ended)
        self._say(f"{files} files copied, {files / self.result.seconds:.1f} files/s")
        return self.result

    def _write(self, folder: Path) -> None:
        folder.mkdir()
        for number in range(_IN_A_FOLDER):
            text = f"{folder.name} {number}".encode()
            size_bytes = int(2 ** self._dice.uniform(0, 24))
            (folder / f"file {number:03}.dat").write_bytes(hashlib.shake_256(text).digest(size_bytes))

    def _start(self, name: str) -> pb.Job:
        paths = (RemotePath("site-a", name.encode()), RemotePath("site-b", name.encode()))
        return self._client.jobs.copy([paths], recursive=True)

    def _arrived(self) -> int:
        return sum(not path.name.startswith(".wherry-") for path in self._destination.glob("set */file *"))

    def _kill(self, victim: str) -> None:
        if victim == "worker":
            alive = [worker for worker in self._deployment.workers if worker.running]
            self._dice.choice(alive).kill()
            self._deployment.start_worker(wait=False)
        else:
            # The gateway and the workers have the other replica; the one that was killed comes back a moment later.
            replica = self._dice.randrange(2)
            process = self._deployment.service("queue", replica)
            process.kill()
            time.sleep(self._dice.uniform(0.1, 1.0))
            process.start()
        self.result.broken[f"kill {victim}"] += 1
        self._say(f"{self._arrived()} files there; killed a {victim}")

    def _ended(self, job: str) -> pb.Job:
        def ended() -> pb.Job | None:
            now = self._client.jobs.get(job)
            return now if now.state in ENDED else None

        found: pb.Job = wait_until(ended, f"{job} ends", _REST_WITHIN_S, 0.2)
        return found

    def _look(self, names: list[str], ended: list[pb.Job]) -> None:
        faults = self.result.faults
        self.result.states = Counter(pb.JobState.Name(job.state).removeprefix("JOB_STATE_") for job in ended)
        for name, job in zip(names, ended, strict=True):
            if job.state != pb.JOB_STATE_SUCCEEDED:
                faults.append(f"{name}: {pb.JobState.Name(job.state)}: {job.failure.reason} {job.failure.message}")
            if not same_trees(self._source / name, self._destination / name):
                faults.append(f"{name} is not the same at both sites")
            progress = job.progress
            if (progress.files_total, progress.files_done) != (_IN_A_FOLDER, _IN_A_FOLDER):
                faults.append(f"{name} counts {progress.files_done} of {progress.files_total} files")
        left = sorted(path.name for path in self._destination.rglob(".wherry-*"))
        if left:
            faults.append(f"temporary files are left: {left}")
        engine = sa.create_engine(self._database_url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            faults += at_rest.faults(connection)
            self.result.tasks = connection.execute(sa.text("select count(*) from task")).scalar_one()
            self.result.settlements = connection.execute(sa.text("select count(*) from attempt")).scalar_one()
        engine.dispose()
