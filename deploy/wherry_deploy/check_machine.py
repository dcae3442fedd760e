"""Checks of what the deployment meets when it runs: databases, ports, mail, Envoy, the engines' interpreter."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from wherry_chassis.buildout import Buildout, BuildoutError, Gateway, Service, database_url
from wherry_gateway.envoy.clusters import ASSETS_SOCKET
from wherry_gateway.serving import program

from wherry_deploy.findings import Finding, Findings
from wherry_deploy.ports import busy, split

_ANSWER_WITHIN_S = 10
_WILDCARDS = ("0.0.0.0", "::", "*", "")  # noqa: S104  # recognised here, not listened on
_SERVICES = ("user", "site", "queue")
_SOCKET_BYTES = 107
"""What a unix socket's path may have (unix(7))."""


def check_machine(
    buildout: Buildout, answering: Callable[[str], bool], gateway_answering: Callable[[Gateway], bool]
) -> Findings:
    """Looks at the machine.

    Args:
        buildout: the deployment.
        answering: tells whether this deployment's own service is what answers at an address.
        gateway_answering: tells whether its gateway is what answers where it is to listen.
    """
    yield from _databases(buildout)
    taken = yield from _ports(buildout, answering)
    if (gateway := buildout.gateway) is not None:
        yield from _gateway(gateway, taken, gateway_answering)
    yield from _worker(buildout)
    yield from _mail(buildout)


def _databases(buildout: Buildout) -> Findings:
    taken: dict[tuple[object, ...], str] = {}
    for name in _SERVICES:
        section: Service = getattr(buildout.service, name)
        key = ("service", name, "database")
        try:
            url = make_url(database_url(section))
        except BuildoutError:
            continue  # said with the secrets
        except ArgumentError:
            yield Finding(key, f"what {section.database} holds is no SQLAlchemy URL")
            continue
        place = (url.get_backend_name(), url.host, url.port, _file(url) or url.database)
        if (other := taken.setdefault(place, name)) != name:
            yield Finding(key, f"is also service.{other}.database: each service needs a database of its own")
        if url.get_backend_name() == "sqlite" and len(section.listen) > 1:
            yield Finding(
                ("service", name, "listen"),
                f"{len(section.listen)} replicas cannot share an SQLite file: give one address, or use PostgreSQL",
            )
        yield from _reachable(key, url)


def _reachable(key: tuple[str, ...], url: URL) -> Findings:
    if (file := _file(url)) is not None:
        place = file if file.exists() else _nearest(file.parent)
        if not os.access(place, os.W_OK):
            yield Finding(key, f"{file} cannot be written: {place} is not writable for this user")
        if not file.exists():
            return  # connecting would make it
    connect = {"connect_timeout": _ANSWER_WITHIN_S} if url.get_backend_name() == "postgresql" else {}
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=connect)
        with engine.connect() as connection:
            connection.execute(sa.text("select 1"))
    except (NoSuchModuleError, ModuleNotFoundError):
        yield Finding(key, f"{url.drivername}: there is no such driver; use sqlite or postgresql+psycopg")
    except SQLAlchemyError as error:
        # The first line says what is the matter; what follows is hints, and may hold the statement.
        said = (str(getattr(error, "orig", None) or error).strip() or type(error).__name__).splitlines()[0]
        yield Finding(key, f"the database does not answer: {said}")


def _file(url: URL) -> Path | None:
    return Path(url.database).absolute() if url.get_backend_name() == "sqlite" and url.database else None


def _nearest(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _ports(buildout: Buildout, answering: Callable[[str], bool]) -> Generator[Finding, None, Mapping[str, str]]:
    taken: dict[str, str] = {}
    for name in _SERVICES:
        section: Service = getattr(buildout.service, name)
        key = ("service", name, "listen")
        for address in section.listen:
            if (other := taken.get(address)) is not None:
                yield Finding(key, f"{address} is already an address of service.{other}")
                continue
            taken[address] = name
            host, port = split(address)
            if not section.address and (port == 0 or host in _WILDCARDS):
                yield Finding(key, f"{address} is nothing that others can connect to: say in `address` what is")
            why = busy(address)
            if why is not None and not answering(address):
                yield Finding(key, _taken(why))
    return taken


def _taken(why: str) -> str:
    return f"{why}: stop what has it (ss -ltnp shows it), or choose another port"


def _gateway(gateway: Gateway, taken: Mapping[str, str], answering: Callable[[Gateway], bool]) -> Findings:
    key, address = ("gateway", "listen"), gateway.listen
    if (other := taken.get(address)) is not None:
        yield Finding(key, f"{address} is already an address of service.{other}")
    elif not _can_be_bound(split(address)[0]):
        yield Finding(key, f"{address}: Envoy listens on addresses, not names: write localhost, *, or an address")
    elif (why := busy(address)) is not None and not answering(gateway):
        yield Finding(key, _taken(why))
    try:
        envoy = program(gateway)
        done = subprocess.run(
            [envoy, "--version"], capture_output=True, timeout=_ANSWER_WITHIN_S, check=False, stdin=subprocess.DEVNULL
        )
    except BuildoutError as error:
        yield Finding(("gateway", "envoy"), str(error).removeprefix("gateway.envoy: "))
    except (OSError, subprocess.TimeoutExpired) as error:
        said = error.strerror if isinstance(error, OSError) else "it does not answer"
        yield Finding(("gateway", "envoy"), f"{envoy} cannot be run: {said}")
    else:
        if done.returncode != 0:
            yield Finding(("gateway", "envoy"), f"{envoy} is no Envoy that runs here (status {done.returncode})")
    yield from _writable(("gateway", "state"), gateway.state)
    if len(os.fsencode(gateway.state / ASSETS_SOCKET)) > _SOCKET_BYTES:
        yield Finding(("gateway", "state"), f"{gateway.state} is too long for a socket in it; choose a shorter folder")


def _can_be_bound(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host in ("localhost", "*")
    return True


def _writable(key: tuple[str, ...], folder: Path) -> Findings:
    place = folder if folder.exists() else _nearest(folder)
    if not os.access(place, os.W_OK):
        yield Finding(key, f"{folder} cannot be written: {place} is not writable for this user")


def _worker(buildout: Buildout) -> Findings:
    worker = buildout.worker
    try:
        done = subprocess.run(
            [worker.engine_python, "-I", "-c", "import gfal2"],
            capture_output=True,
            text=True,
            timeout=_ANSWER_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        said = error.strerror if isinstance(error, OSError) else "it does not answer"
        yield Finding(("worker", "engine_python"), f"{worker.engine_python} cannot be run: {said}")
    else:
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            yield Finding(
                ("worker", "engine_python"),
                f"{worker.engine_python} cannot import gfal2 ({last}): install Debian's python3-gfal2, or name an "
                "interpreter that has it",
            )
    yield from _writable(("worker", "state"), worker.state)
    if buildout.lease.heartbeat_s >= buildout.lease.ttl_s:
        yield Finding(("lease", "heartbeat_s"), "must be well below lease.ttl_s, or every lease lapses")


def _mail(buildout: Buildout) -> Findings:
    mail = buildout.mail
    if (mail.username is None) != (mail.password is None):
        missing = "password" if mail.password is None else "username"
        yield Finding(("mail", missing), "is missing: a login has both, or there is none")
    try:
        with socket.create_connection((mail.host, mail.port), _ANSWER_WITHIN_S):
            pass
    except OSError as error:
        yield Finding(
            ("mail", "host"),
            f"{mail.host}:{mail.port} does not answer ({error.strerror or error}): nobody can register until it does",
            fatal=False,
        )
