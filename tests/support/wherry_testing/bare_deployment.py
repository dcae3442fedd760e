"""A deployment without a door: the three services and workers that only pretend, each a process of its own, over mTLS.

For runs that load or break them. Whoever calls speaks straight to a service, with the operator's certificate and a
user's token. Between all parties (services, workers, callers, PostgreSQL) there can be relays whose connections can
be cut. People have real accounts and real tokens; that they are signed in at sites stands in the site service's
rows, put there by its own store: the pretending workers ask for no credentials.

    async with BareDeployment(tmp_path, server=PostgresServer(durable=True), replicas=2).running() as centre:
        alice = await centre.person("alice@example.org")
        centre.start_worker("--task-ms", "5")

Start it from a thread that lives as long as the deployment shall.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from sqlalchemy.engine import make_url
from wherry.user.v1 import user_service_pb2 as user_pb
from wherry.user.v1 import user_service_pb2_grpc as user_rpc
from wherry_chassis import migrations
from wherry_chassis.buildout import Buildout, load
from wherry_chassis.sql import Database
from wherry_chassis.tls import CHANNEL_OPTIONS
from wherry_deploy.deployment import SERVICES
from wherry_site.store import Store
from wherry_site.vault import Vault
from wherry_testing.cutting import Cutter, Relay
from wherry_testing.deployment_files import make_deployment
from wherry_testing.deployment_processes import LoggedProcess
from wherry_testing.inbox import Inbox, token_in
from wherry_testing.postgres import PostgresServer
from wherry_testing.site_store import a_session, a_site, an_event
from wherry_testing.sites import free_ports

SITES = ("a", "b", "c")
_TREE = Path(__file__).resolve().parents[3]
_READY_WITHIN_S = 60.0
_PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Account:
    """Somebody with an account.

    Attributes:
        name: `users/{user}`.
        metadata: of their calls.
    """

    name: str
    metadata: Sequence[tuple[str, str]] = field(repr=False)


class BareDeployment:
    """A deployment; `running` starts it.

    Args:
        folder: everything of it lies here.
        server: the PostgreSQL server of all services; SQLite in the folder where there is none.
        replicas: of the queue service.
        settings: lines for the tables of `buildout.toml`, such as ``{"lease": "ttl_s = 4"}``.
        cutter: makes the relays that all parties speak through; None: they speak straight to each other.
    """

    def __init__(
        self,
        folder: Path,
        *,
        server: PostgresServer | None = None,
        replicas: int = 1,
        settings: Mapping[str, str] | None = None,
        cutter: Cutter | None = None,
    ) -> None:
        self.folder = folder
        self.server = server
        self.replicas = replicas
        self.services: dict[str, LoggedProcess] = {}
        """`user`, `site`, `queue-0`, `queue-1` and so on."""
        self.workers: list[LoggedProcess] = []
        self.relays: dict[str, Relay] = {}
        """By the name of who is reached through them, as in `services`; and `postgres`."""
        self.direct_urls: dict[str, str] = {}
        """SQLAlchemy URLs by service, past the relays."""
        self._settings = dict(settings or {})
        self._cutter = cutter
        self._inbox = Inbox()
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._sites: Database | None = None
        self._stack = contextlib.AsyncExitStack()

    # --- starting and stopping ---

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[BareDeployment]:
        """Runs the services within the block; leaves nothing behind but the folder."""
        async with contextlib.AsyncExitStack() as stack:
            self._stack = stack
            stack.push_async_callback(self._stop)
            await stack.enter_async_context(self._inbox.serving())
            self._make()
            for name in SERVICES:
                for replica in range(self.replicas if name == "queue" else 1):
                    service = f"{name}-{replica}" if name == "queue" else name
                    self.services[service] = self._serve(name, service, replica)
                    self.services[service].start()
            await asyncio.gather(*(self.ready(process, "serving") for process in self.services.values()))
            await self._add_sites()
            yield self

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        databases = {} if self.server is None else {name: self.server.fresh(f"wherry_{name}") for name in SERVICES}
        self.direct_urls = databases or {name: f"sqlite:///{self.folder / 'data' / name}.db" for name in SERVICES}
        if self.server is not None and self._cutter is not None:
            databases = self._through_a_relay(self.server, self._cutter, databases)
        settings = {"tokens": "access_ttl_s = 43200"} | self._settings
        make_deployment(self.folder, databases=databases, settings=settings, replicas=1, allow=["127.0.0.0/8"])
        made = load(self.file)
        text = self.file.read_text(encoding="utf-8")
        text = _replaced(text, f"port = {made.mail.port}", f"port = {self._inbox.port}")
        for name in SERVICES:
            first = getattr(made.service, name).listen[0]
            text = _replaced(text, f'listen = ["{first}"]', self._addresses(name, first))
        self.file.write_text(text, encoding="utf-8")
        (self.folder / "logs").mkdir(exist_ok=True)
        for name, url in self.direct_urls.items():
            migrations.upgrade(url, f"wherry_{name}")

    def _through_a_relay(self, server: PostgresServer, cutter: Cutter, databases: dict[str, str]) -> dict[str, str]:
        """Returns the URLs of the same databases behind a relay: a socket in a folder of its own."""
        folder = Path(tempfile.mkdtemp(prefix="wherry-cut-"))
        self._stack.callback(shutil.rmtree, folder)
        socket = f".s.PGSQL.{server.port}"
        self.relays["postgres"] = cutter.relay(server.folder / socket, at=folder / socket)
        return {
            name: make_url(url).update_query_dict({"host": str(folder)}).render_as_string(hide_password=False)
            for name, url in databases.items()
        }

    def _addresses(self, service: str, first: str) -> str:
        """Gives a service an address for each replica, and where there are relays, theirs to those who call it."""
        more = free_ports(self.replicas - 1) if service == "queue" and self.replicas > 1 else []
        listen = [first, *(f"localhost:{port}" for port in more)]
        lines = f"listen = {json.dumps(listen)}"
        if self._cutter is None:
            return lines
        relayed = []
        for replica, address in enumerate(listen):
            relay = self._cutter.relay(("localhost", int(address.rpartition(":")[2])))
            self.relays[f"queue-{replica}" if service == "queue" else service] = relay
            relayed.append(relay.address)
        return f"{lines}\naddress = {json.dumps(relayed)}"

    async def _stop(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        if self._sites is not None:
            self._sites.close()
        processes = [*self.workers, *self.services.values()]
        for process in processes:
            process.resume()
            process.kill()

    # --- processes ---

    def start_worker(
        self, *options: str, program: str = "wherry_fakes.pretending_worker", replica: int | None = None
    ) -> LoggedProcess:
        """Starts a worker with these options and returns it; `replica`: it knows of that one of the queue alone."""
        number = len(self.workers)
        file = self.file if replica is None else self._file_for(replica)
        arguments = ["-m", program, "--buildout", str(file), "--process", str(number), *options]
        worker = self._process(f"worker-{number}", arguments)
        worker.start()
        self.workers.append(worker)
        return worker

    def _file_for(self, replica: int) -> Path:
        """Returns a `buildout.toml` that names one replica of the queue only."""
        file = self.folder / f"buildout-{replica}.toml"
        head, listen, rest = self.file.read_text(encoding="utf-8").partition(
            f"listen = {json.dumps(self.buildout.service.queue.listen)}\n"
        )
        rest = rest.removeprefix(f"address = {json.dumps(self.buildout.service.queue.addresses)}\n")
        file.write_text(f"{head}{listen}address = {json.dumps([self.address(f'queue-{replica}')])}\n{rest}")
        return file

    async def ready(self, process: LoggedProcess, event: str, within_s: float = _READY_WITHIN_S) -> dict[str, Any]:
        """Waits until a process has said that something has come about."""

        def said() -> list[dict[str, Any]]:
            found = process.events(event)
            assert found or process.running, f"{process.name} ended: {process.last_words()}"
            return found

        first: dict[str, Any] = (await eventually(said, f"{process.name} says `{event}`", within_s))[0]
        return first

    def _serve(self, package: str, name: str, replica: int) -> LoggedProcess:
        arguments = ["-m", f"wherry_{package}", "serve", "--buildout", str(self.file), "--replica", str(replica)]
        return self._process(name, arguments)

    def _process(self, name: str, arguments: Sequence[str]) -> LoggedProcess:
        environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        environment |= {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(map(str, _paths()))}
        command = [sys.executable, "-P", *arguments]
        return LoggedProcess(name, command, self.folder / "logs" / f"{name}.log", environment)

    @property
    def file(self) -> Path:
        """The `buildout.toml`."""
        return self.folder / "buildout.toml"

    @property
    def buildout(self) -> Buildout:
        """The configuration."""
        return load(self.file)

    # --- callers ---

    def address(self, service: str) -> str:
        """Returns where callers reach a service of `services`."""
        if service in self.relays:
            return self.relays[service].address
        name, _, replica = service.partition("-")
        addresses: list[str] = getattr(self.buildout.service, name).addresses
        return addresses[int(replica or 0)]

    def channel(self, service: str) -> grpc.aio.Channel:
        """Returns a channel to a service, with the operator's certificate; closed at the end."""
        if service not in self._channels:
            trust = self.folder / "trust"
            files = [(trust / name).read_bytes() for name in ("ca.pem", "operator.key", "operator.pem")]
            credentials = grpc.ssl_channel_credentials(*files)
            channel = grpc.aio.secure_channel(self.address(service), credentials, options=CHANNEL_OPTIONS)
            self._channels[service] = channel
        return self._channels[service]

    async def person(self, email: str, sites: Sequence[str] = SITES) -> Account:
        """Registers somebody, signs them in at Wherry, and at these sites."""
        users = user_rpc.UserServiceStub(self.channel("user"))
        sessions = user_rpc.SessionServiceStub(self.channel("user"))
        await users.CreateUser(user_pb.CreateUserRequest(email=email, password=_PASSWORD))
        await users.VerifyEmail(user_pb.VerifyEmailRequest(token=token_in(await self._inbox.wait_for(email))))
        answer = await sessions.CreateSession(user_pb.CreateSessionRequest(email=email, password=_PASSWORD))
        metadata = [("authorization", f"Bearer {answer.tokens.access_token}")]
        user = await users.GetUser(user_pb.GetUserRequest(name="users/me"), metadata=metadata)
        account = Account(user.name, metadata)
        for site in sites:
            await self.sign_in(account, site)
        return account

    # --- sites, by the site service's own store ---

    async def _add_sites(self) -> None:
        self._sites = Database(self.direct_urls["site"], threads=2)
        for site in SITES:
            await self._store().add_site(a_site(site, public=True), an_event(site=f"sites/{site}"))

    async def sign_in(self, account: Account, site: str) -> None:
        """Signs somebody in at a site, for half a day."""
        vault = Vault.from_secret(self.buildout.service.site.key_encryption_key.read())
        session = a_session(site, user=account.name, vault=vault, session_id=f"{site}{account.name[-31:]}")
        await self._store().put_session(session, an_event(user=account.name, site=f"sites/{site}"))

    async def sign_out(self, account: Account, site: str) -> None:
        """Ends somebody's session at a site."""
        await self._store().remove_session(account.name, site, an_event(user=account.name, site=f"sites/{site}"))

    def _store(self) -> Store:
        assert self._sites is not None, "not running"
        return Store(self._sites)


async def eventually(condition: Callable[[], Any], what: str, within_s: float, poll_s: float = 0.05) -> Any:
    """Returns the first true value of `condition`; raises AssertionError where there is none in time."""
    try:
        async with asyncio.timeout(within_s):
            while not (value := condition()):  # noqa: ASYNC110  # conditions lie in other processes
                await asyncio.sleep(poll_s)
    except TimeoutError:
        raise AssertionError(f"not within {within_s:g} s: {what}") from None
    return value


def _replaced(text: str, before: str, after: str) -> str:
    assert text.count(before) == 1, before
    return text.replace(before, after)


def _paths() -> list[Path]:
    return [_TREE / "tests" / "fakes", _TREE / "tests" / "support"]
