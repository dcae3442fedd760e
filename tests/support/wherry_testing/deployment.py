"""A whole deployment on this machine: what `wherry-buildout init` makes, its gateway, services and workers as processes
of their own, an inbox, and people who have registered as everybody does. Whoever calls goes through the gateway.

    with RealDeployment(tmp_path / "centre") as centre:
        alice = centre.sign_in_at_both(centre.person("alice@example.org"), (site_a, site_b))
        alice.wherry("ls", "site-a:")

Start it from a thread that lives as long as the deployment shall.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from wherry_chassis.buildout import Buildout, Gateway, load
from wherry_client import registration
from wherry_deploy import gateway_health
from wherry_deploy.deployment import SERVICES
from wherry_testing.deployment_files import make_deployment
from wherry_testing.deployment_processes import READY_WITHIN_S, LoggedProcess, wait_until
from wherry_testing.gateway_callers import GrpcCaller, HttpCaller
from wherry_testing.inbox import token_in
from wherry_testing.sites import RealSite
from wherry_testing.wherry_command import WherryCommand

_LOOPBACK = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True)
class Person:
    """Somebody with an account, and the command as they run it."""

    email: str
    password: str = field(repr=False)
    wherry: WherryCommand

    def tokens(self) -> dict[str, Any]:
        """Returns what the command keeps of the sign-in at Wherry."""
        (file,) = self.wherry.state.glob("tokens-*.json")
        kept: dict[str, Any] = json.loads(file.read_text())
        return kept


class RealDeployment:
    """A deployment; a context manager that starts it and leaves nothing running.

    Args:
        folder: everything of it lies here.
        databases: SQLAlchemy URLs by service; SQLite in the folder where not given.
        settings: lines for the tables of `buildout.toml`, such as ``{"lease": "ttl_s = 4"}``.
        workers: how many are started.
        replicas: of each service; more than one need PostgreSQL.
        prefix: put before every command, as what enters a network namespace.
        allow: networks in which the sites lie.
    """

    def __init__(
        self,
        folder: Path,
        *,
        databases: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        workers: int = 1,
        replicas: int = 1,
        prefix: Sequence[str] = (),
        allow: Sequence[str] = _LOOPBACK,
    ) -> None:
        self.folder = folder
        self.workers: list[LoggedProcess] = []
        self.services: dict[str, LoggedProcess] = {}
        """By name where there is one of each, else `queue-0`, `queue-1` and so on."""
        self._databases = dict(databases or {})
        assert replicas == 1 or set(self._databases) == set(SERVICES), "replicas share a PostgreSQL database"
        self._replicas = replicas
        self._settings = dict(settings or {})
        self._first_workers = workers
        self._prefix = list(prefix)
        self._allow = allow
        self._inbox: LoggedProcess | None = None
        self._gateway: LoggedProcess | None = None
        self._assets: LoggedProcess | None = None
        self._worker_count = 0
        self._engine: sa.Engine | None = None

    # --- starting and stopping ---

    def __enter__(self) -> RealDeployment:
        try:
            self._make()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _make(self) -> None:
        mail = make_deployment(
            self.folder,
            databases=self._databases,
            settings=self._settings,
            replicas=self._replicas,
            allow=self._allow,
        )
        self.logs.mkdir()
        self.mails.parent.mkdir()
        inbox = ["-m", "aiosmtpd", "-n", "-l", f"localhost:{mail}", "-c", "aiosmtpd.handlers.Mailbox", str(self.mails)]
        self._inbox = self._process("inbox", inbox)

    def _start(self) -> None:
        assert self._inbox is not None
        self._inbox.start()
        migrations = [self._process(f"{name}-migrate", self._module(name, "migrate")) for name in SERVICES]
        for migration in migrations:
            migration.start()
        for migration in migrations:
            assert migration.wait(60) == 0, migration.last_words()
        for name in SERVICES:
            for replica in range(self._replicas):
                service = self._named(name, replica)
                arguments = [*self._module(name, "serve"), "--replica", str(replica)]
                self.services[service] = self._process(service, arguments)
                self.services[service].start()
        self._gateway = self._process("gateway", self._module("gateway", "serve"))
        self._assets = self._process("gateway-assets", self._module("gateway", "assets"))
        for process in (self._gateway, self._assets):
            process.start()
        for _ in range(self._first_workers):
            self.start_worker(wait=False)
        for process in self.services.values():
            process.wait_for_event("serving")
        self._wait_for(self._assets, gateway_health.assets_are_served)
        self.wait_for_gateway()
        for worker in self.workers:
            worker.wait_for_event("stream_opened")

    def wait_for_gateway(self) -> None:
        """Waits until the gateway reaches a replica of each service, and has the keys by which it knows tokens."""
        # Asked by its socket, which is there for tests outside of its network too.
        self._wait_for(self.gateway, gateway_health.is_connected)

    def _wait_for(self, process: LoggedProcess, is_ready: Callable[[Gateway], bool]) -> None:
        section = self.buildout.gateway
        assert section is not None

        def ready() -> bool:
            assert process.running, f"{process.name} ended: {process.last_words()}"
            return is_ready(section)

        wait_until(ready, f"{process.name} is ready", READY_WITHIN_S, 0.05)

    @property
    def gateway(self) -> LoggedProcess:
        """The gateway's Envoy."""
        assert self._gateway is not None, "not started"
        return self._gateway

    @property
    def assets(self) -> LoggedProcess:
        """The process that serves the page to it."""
        assert self._assets is not None, "not started"
        return self._assets

    def service(self, name: str, replica: int = 0) -> LoggedProcess:
        """Returns a replica of a service."""
        return self.services[self._named(name, replica)]

    def stop_service(self, name: str, replica: int = 0) -> None:
        """Stops a replica as operators do, and waits until it has ended: it lets its calls end first."""
        process = self.service(name, replica)
        process.terminate()
        assert process.wait() == 0, process.last_words()

    def start_service(self, name: str, replica: int = 0) -> None:
        """Starts a replica that has ended, and waits until it serves."""
        process = self.service(name, replica)
        process.start()
        process.wait_for_event("serving")

    def _named(self, service: str, replica: int) -> str:
        return service if self._replicas == 1 else f"{service}-{replica}"

    def start_worker(self, *, wait: bool = True) -> LoggedProcess:
        """Starts another worker and returns it."""
        self._worker_count += 1
        worker = self._process(f"worker-{self._worker_count}", self._module("worker", "serve"))
        worker.start()
        self.workers.append(worker)
        if wait:
            worker.wait_for_event("stream_opened")
        return worker

    def only_worker(self) -> LoggedProcess:
        """Sees to it that one worker runs, and returns it: what is leased then, it holds."""
        alive = [worker for worker in self.workers if worker.running]
        for worker in alive[1:]:
            worker.terminate()
            worker.wait_for_end()
        return alive[0] if alive else self.start_worker()

    def stop(self) -> None:
        """Stops every process: gateway and workers, then the services, then the others. Twice is no error."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
        callers = [*self.workers, *filter(None, [self._gateway])]
        problems: list[BaseException] = []
        for stage in (callers, list(self.services.values()), [*filter(None, [self._assets, self._inbox])]):
            for process in stage:
                process.resume()  # what a test has paused cannot end
                process.terminate()
            for process in stage:
                try:
                    process.wait_for_end()
                except AssertionError as problem:
                    problems.append(problem)
        if problems:
            raise problems[0]

    def _process(self, name: str, arguments: Sequence[str]) -> LoggedProcess:
        command = [*self._prefix, sys.executable, "-P", *arguments]
        return LoggedProcess(name, command, self.logs / f"{name}.log", _environment())

    def _module(self, name: str, command: str) -> list[str]:
        return ["-m", f"wherry_{name}", command, "--buildout", str(self.file)]

    # --- where things are ---

    @property
    def file(self) -> Path:
        """The `buildout.toml`."""
        return self.folder / "buildout.toml"

    @property
    def logs(self) -> Path:
        """The folder of the processes' logs."""
        return self.folder / "logs"

    @property
    def mails(self) -> Path:
        """The maildir of everything that was sent."""
        return self.folder / "inbox" / "mails"

    @property
    def buildout(self) -> Buildout:
        """The configuration."""
        return load(self.file)

    @property
    def gateway_url(self) -> str:
        """The public address, as `https://localhost:8443`."""
        section = self.buildout.gateway
        assert section is not None
        return section.public_url

    @property
    def web_ca(self) -> Path:
        """The authority that the gateway's callers believe."""
        return self.folder / "trust" / "web-ca.pem"

    def https(self) -> HttpCaller:
        """Returns a caller for JSON, gRPC-Web and the page; close it."""
        return HttpCaller(*self._gateway_place(), self.web_ca)

    def grpc(self) -> GrpcCaller:
        """Returns a caller for native gRPC with bytes; close it."""
        return GrpcCaller(*self._gateway_place(), self.web_ca)

    def _gateway_place(self) -> tuple[str, int]:
        parts = urlsplit(self.gateway_url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def certificate(self, host: str) -> tuple[bytes, bytes, bytes]:
        """Returns authority, certificate and key of one of the deployment's hosts, PEM."""
        trust = self.folder / "trust"
        names = ("ca.pem", f"{host}.pem", f"{host}.key")
        ca, chain, key = ((trust / name).read_bytes() for name in names)
        return ca, chain, key

    # --- people ---

    def command(self, who: str) -> WherryCommand:
        """Returns the command for somebody with no account yet, or not signed in; each name has a folder of its own."""
        return WherryCommand(self.folder / "client.toml", self.folder / "people" / who, self._prefix)

    def person(self, email: str, *, by_command: bool = False) -> Person:
        """Registers somebody, with the token from the mail, and signs them in at Wherry."""
        person = Person(email, f"correct horse of {email}", self.command(email))
        if by_command:
            person.wherry.must("register", email, "--password-stdin", stdin=person.password)
            person.wherry.must("verify", token_in(self.mail_to(email)))
            person.wherry.must("login", email, "--password-stdin", stdin=person.password)
            return person
        with person.wherry.client() as client:
            client.accounts.register(email, person.password)
            client.accounts.verify(token_in(self.mail_to(email)))
            client.accounts.sign_in(email, person.password)
        return person

    def mail_to(self, email: str, *, count: int = 1) -> EmailMessage:
        """Returns the newest mail to an address, once there are `count`."""

        def found() -> EmailMessage | None:
            mails = [mail for mail in self._mails() if mail["To"] == email]
            return mails[-1] if len(mails) >= count else None

        newest: EmailMessage = wait_until(found, f"mail {count} to {email}", 15, 0.05)
        return newest

    def _mails(self) -> Iterator[EmailMessage]:
        files = sorted((self.mails / "new").glob("*"), key=lambda file: file.stat().st_mtime_ns)
        for file in files:
            mail = message_from_bytes(file.read_bytes(), policy=default)
            assert isinstance(mail, EmailMessage)
            yield mail

    def add_site(self, person: Person, site: RealSite) -> None:
        """Registers a site with what the kit says of it."""
        name, content = registration.from_kit(json.dumps(site.description))
        with person.wherry.client() as client:
            client.sites.create(name, content)

    def sign_in_at(self, person: Person, site: RealSite, username: str, lifetime_s: int | None = None) -> None:
        """Signs a person in at a site, with the account that they have there."""
        with person.wherry.client() as client:
            client.site_sessions.sign_in(site.name, username, site.accounts[username], lifetime_s)

    def sign_in_at_both(self, person: Person, sites: tuple[RealSite, RealSite]) -> Person:
        """Adds two sites and signs a person in there, as alice at the first and as bob at the second."""
        for site, username in zip(sites, ("alice", "bob"), strict=True):
            self.add_site(person, site)
            self.sign_in_at(person, site, username)
        return person

    # --- the queue's rows ---

    def rows(self, statement: str, **values: object) -> list[dict[str, Any]]:
        """Returns what a SELECT on the queue's database gives."""
        if self._engine is None:
            url = self._databases.get("queue") or f"sqlite:///{self.folder / 'data' / 'queue.db'}"
            self._engine = sa.create_engine(url, poolclass=sa.NullPool)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(statement), values).mappings()]

    def job_row(self, job: str) -> dict[str, Any]:
        """Returns a job's row; `job` is its id or resource name."""
        (row,) = self.rows("select * from job where uid = :uid", uid=job.removeprefix("jobs/"))
        return row

    def task_rows(self, job: str) -> list[dict[str, Any]]:
        """Returns the rows of a job's tasks."""
        statement = "select task.* from task join job on task.job_id = job.id where job.uid = :uid order by task.id"
        return self.rows(statement, uid=job.removeprefix("jobs/"))

    def attempts(self, task: int) -> list[dict[str, Any]]:
        """Returns the rows of a task's settled attempts, oldest first."""
        return self.rows("select * from attempt where task_id = :task order by fence", task=task)


def _environment() -> dict[str, str]:
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return keep | {"PYTHONUNBUFFERED": "1"}
