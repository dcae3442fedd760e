"""The deployment of the tests of the flows: two replicas of each service on one PostgreSQL, and a relay on every way by
which one party calls another, so that any answer can be lost. Callers and workers choose the replica they speak to.

    with FlowDeployment(folder, databases) as centre:
        alice = centre.sign_in_at_both(centre.person("alice@example.org"), two_sites)
        with centre.worker(at=1) as worker, centre.caller(alice, at=0) as caller:
            job = caller.create(copy_of("/data/x", "/data/y"))
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import sqlalchemy as sa
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_chassis.tls import CHANNEL_OPTIONS, Material
from wherry_queue.states import TaskState
from wherry_testing.answer_cutting import AnswerCutter, AnswerRelay
from wherry_testing.deployment import Person, RealDeployment
from wherry_testing.deployment_processes import LoggedProcess, wait_until
from wherry_testing.flow_callers import ReplicaCaller
from wherry_testing.waiting import PATIENCE_S

REPLICAS = (0, 1)
_SERVICES = ("user", "site", "queue")
_FAKES = Path(__file__).resolve().parents[2] / "fakes"
_WAYS = {"queue": ("user", "site"), "site": ("user", "queue"), "worker": ("queue", "site"), "gateway": ("queue",)}
"""Who calls whom through relays. `gateway` is the tests themselves, who speak to replicas as the gateway would."""


FILE_BY_FILE = 'gsiftp = "gfal2"'
"""Settings of a worker whose copies are looked at in their midst: a few files a second, one after the other."""


class FlowDeployment(RealDeployment):
    """See the module. It starts without workers.

    Args:
        folder, databases: as of RealDeployment.
        settings: lines for the tables of `buildout.toml`.
    """

    def __init__(self, folder: Path, databases: Mapping[str, str], settings: Mapping[str, str] | None = None) -> None:
        short = {"lease": "ttl_s = 8\nheartbeat_s = 0.8\nback_off_s = 0.5"}
        super().__init__(
            folder, databases=databases, settings=short | dict(settings or {}), workers=0, replicas=len(REPLICAS)
        )
        self._urls = dict(databases)
        self._cutter = AnswerCutter()
        self._relays: dict[tuple[str, str, int], AnswerRelay] = {}
        self._stack = contextlib.ExitStack()
        self._count = 0
        self._paths = [str(_FAKES)]

    # --- starting and stopping ---

    def __enter__(self) -> FlowDeployment:
        self._stack.enter_context(self._cutter)
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, problem, trace)
        finally:
            self._stack.close()

    def _make(self) -> None:
        super()._make()
        for party, callees in _WAYS.items():
            for callee in callees:
                for replica in REPLICAS:
                    relay = self._cutter.relay(
                        self.address(callee, replica), serving=self.material(callee), calling=self.material(party)
                    )
                    self._relays[party, callee, replica] = relay
        for party in ("queue", "site"):
            ways = {callee: [self.relay(party, callee, replica).address for replica in REPLICAS]
                    for callee in _WAYS[party]}  # fmt: skip
            self._file_of(party).write_text(self._text(ways), encoding="utf-8")

    def _module(self, name: str, command: str) -> list[str]:
        file = self._file_of(name)
        return ["-m", f"wherry_{name}", command, "--buildout", str(file if file.exists() else self.file)]

    def _file_of(self, party: str) -> Path:
        return self.folder / f"buildout-{party}.toml"

    def _text(self, ways: Mapping[str, Sequence[str]], worker: str = "") -> str:
        """Returns the file's text for a party that finds services at these addresses."""
        text = self.file.read_text(encoding="utf-8")
        for service, addresses in ways.items():
            listen = f"listen = {json.dumps(list(getattr(self.buildout.service, service).listen))}"
            assert text.count(listen) == 1, listen
            text = text.replace(listen, f"{listen}\naddress = {json.dumps(list(addresses))}")
        return text.replace("[worker]\n", f"[worker]\n{worker}\n")

    # --- parties ---

    def address(self, service: str, replica: int) -> str:
        """Returns where a replica listens."""
        return str(getattr(self.buildout.service, service).listen[replica])

    def material(self, host: str) -> Material:
        """Returns the certificate of a host of the deployment."""
        ca, chain, key = self.certificate(host)
        return Material(chain, key, ca)

    def relay(self, party: str, callee: str, replica: int = 0) -> AnswerRelay:
        """Returns what stands between a party and a replica: of `queue`, `site`, `worker` or `gateway` (the tests)."""
        return self._relays[party, callee, replica]

    def disarm(self) -> None:
        """Has no relay lose anything that it was to lose and has not."""
        for relay in self._relays.values():
            relay.disarm()

    @contextlib.contextmanager
    def worker(
        self,
        at: int | Sequence[int],
        *,
        pretending: Sequence[str] | None = None,
        sites: Sequence[int] = REPLICAS,
        settings: str = "",
    ) -> Iterator[LoggedProcess]:
        """Runs a worker that knows these replicas of the queue and of the site service, in this order.

        At the end it is killed: let it have ended what the next test must not find.

        Args:
            settings: lines for the table `[worker]`.
            pretending: options of `wherry_fakes.pretending_worker`, for one that only pretends; None: a real one.
        """
        self._count += 1
        name = f"worker-{self._count}"
        replicas = [at] if isinstance(at, int) else at
        ways = {
            "queue": [self.relay("worker", "queue", replica).address for replica in replicas],
            "site": [self.relay("worker", "site", replica).address for replica in sites],
        }
        self._file_of(name).write_text(self._text(ways, settings), encoding="utf-8")
        module = ["wherry_worker", "serve"] if pretending is None else ["wherry_fakes.pretending_worker"]
        command = [sys.executable, "-P", "-m", *module, "--buildout", str(self._file_of(name)), *(pretending or ())]
        environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        environment |= {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(self._paths)}
        process = LoggedProcess(name, command, self.logs / f"{name}.log", environment)
        process.start()
        self.workers.append(process)
        try:
            process.wait_for_event("stream_opened")
            yield process
        finally:
            process.resume()
            process.kill()
            self.workers.remove(process)

    @contextlib.contextmanager
    def caller(self, person: Person, at: int) -> Iterator[ReplicaCaller]:
        """Gives somebody a way to one replica of the queue, through the relay from `gateway`."""
        material = self.material("gateway")
        credentials = grpc.ssl_channel_credentials(material.ca, material.key, material.chain)
        address = self.relay("gateway", "queue", at).address
        with grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS) as channel:
            yield ReplicaCaller(channel, lambda: str(person.tokens()["access_token"]))

    def kill_both(self, service: str) -> None:
        """Kills both replicas of a service."""
        for replica in REPLICAS:
            self.service(service, replica).kill()

    def start_both(self, service: str) -> None:
        """Starts those replicas of a service that do not run."""
        ended = [replica for replica in REPLICAS if not self.service(service, replica).running]
        for replica in ended:
            self.service(service, replica).start()
        for replica in ended:
            self.service(service, replica).wait_for_event("serving")

    @contextlib.contextmanager
    def installed(self, version: str) -> Iterator[None]:
        """Has what is started within the block say that it is of this version.

        The packages' metadata are found in front of those that are installed. The code is the same.
        """
        folder = self.folder / "installed" / version
        for name in (*_SERVICES, "worker"):
            info = folder / f"wherry_{name}-{version}.dist-info"
            info.mkdir(parents=True)
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: wherry-{name}\nVersion: {version}\n")
        self._paths.insert(0, str(folder))
        for process in self.services.values():
            process.environment["PYTHONPATH"] = str(folder)
        try:
            yield
        finally:
            self._paths.remove(str(folder))
            for process in self.services.values():
                del process.environment["PYTHONPATH"]

    def worker_keys(self) -> list[Path]:
        """Returns the files with private keys that workers hold at the moment."""
        found = []
        # os.walk, unlike rglob, bears that an engine's folder goes while it is read.
        for folder, _, names in os.walk(self.folder / "data" / "worker"):
            for path in (Path(folder) / name for name in names if name.endswith(".pem")):
                with contextlib.suppress(FileNotFoundError):
                    if b"PRIVATE KEY" in path.read_bytes():
                        found.append(path)
        return found

    # --- rows of the other services ---

    def rows_of(self, service: str, statement: str, **values: object) -> list[dict[str, Any]]:
        """Returns what a SELECT on a service's database gives."""
        with self._engine_of(service).connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(statement), values).mappings()]

    def change_rows_of(self, service: str, statement: str, **values: object) -> int:
        """Changes rows of a service behind its back; returns how many."""
        with self._engine_of(service).begin() as connection:
            return connection.execute(sa.text(statement), values).rowcount

    def _engine_of(self, service: str) -> sa.Engine:
        return _engine(self._urls[service])

    def task_rows_running(self, job: str) -> list[dict[str, Any]]:
        """Returns the rows of a job's tasks that workers hold."""
        return [row for row in self.task_rows(job) if row["state"] == TaskState.RUNNING]

    def settled_books(self) -> Any:
        """Returns the queue's engine, for `queue_books`; nothing may run meanwhile."""
        return self._engine_of("queue")


@functools.cache
def _engine(url: str) -> sa.Engine:
    return sa.create_engine(url, poolclass=sa.NullPool)


def until(condition: Callable[[], Any], what: str, within_s: float = PATIENCE_S) -> Any:
    """Returns the first true value of `condition`; fails where there is none in time."""
    return wait_until(condition, what, within_s, 0.02)


def under_way(caller: ReplicaCaller, job: str, condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Waits until a copy has come so far; fails at once where it has ended, or waits for somebody."""
    running = (pb.JOB_STATE_QUEUED, pb.JOB_STATE_EXPANDING, pb.JOB_STATE_RUNNING)
    looked_s = time.monotonic()

    def so_far() -> bool:
        nonlocal looked_s
        if condition():
            return True
        if time.monotonic() > looked_s + 1:
            looked_s = time.monotonic()
            found = caller.get(job)
            assert found.state in running, f"it is not under way: {found}"
        return False

    until(so_far, f"{job} is under way", within_s)


def in_state(caller: ReplicaCaller, job: str, *states: pb.JobState.ValueType, within_s: float = PATIENCE_S) -> pb.Job:
    """Waits until a job is in one of these states; returns it."""

    def there() -> pb.Job | None:
        found = caller.get(job)
        return found if found.state in states else None

    names = " or ".join(pb.JobState.Name(state) for state in states)
    found: pb.Job = until(there, f"{job} is {names}", within_s)
    return found
