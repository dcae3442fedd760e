"""The files of a deployment under test: what `wherry-buildout init` makes, changed where tests want it otherwise."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from wherry_deploy.authority import make_key, sign_host, subject
from wherry_deploy.deployment import SERVICES
from wherry_deploy.initialise import initialise
from wherry_deploy.template import Choices, MailChoice
from wherry_testing.sites import free_ports

NAME = "End to end"
SECOND_WORKER = "worker-2"
"""A host with a worker's role and a certificate of its own, that no process of the deployment uses."""
_TABLE_HEAD = re.compile(r"^\[(?P<name>[a-z_.]+)\]$", re.MULTILINE)


def make_deployment(
    folder: Path, *, databases: Mapping[str, str], settings: Mapping[str, str], replicas: int, allow: Sequence[str]
) -> int:
    """Makes a deployment on free ports; returns the port at which its mail has to be taken.

    Args:
        folder: where to.
        databases: SQLAlchemy URLs by service; SQLite where not given.
        settings: lines for the tables of `buildout.toml`.
        replicas: of each service.
        allow: networks in which sites may lie.
    """
    user, site, queue, gateway, mail, *further = free_ports(5 + len(SERVICES) * (replicas - 1))
    choices = Choices(
        name=NAME,
        ports=(user, site, queue),
        gateway_port=gateway,
        databases=dict(databases),
        allow_networks=allow,
        mail=MailChoice("localhost", mail),
    )
    initialise(folder, choices)
    file = folder / "buildout.toml"
    text = file.read_text(encoding="utf-8")
    for table, lines in settings.items():
        text = _with_lines(text, table, lines)
    for service in SERVICES:
        first = choices.address(service)
        addresses = [first, *(f"localhost:{further.pop()}" for _ in range(replicas - 1))]
        text = _replaced(text, f'listen = ["{first}"]', f"listen = {json.dumps(addresses)}")
    # Another worker, on another machine: its role stands in the file, its process is whatever a test makes of it.
    worker, other = subject(NAME, "worker"), subject(NAME, SECOND_WORKER)
    text = _replaced(text, f'worker = ["{worker}"]', f'worker = ["{worker}", "{other}"]')
    file.write_text(text, encoding="utf-8")
    _certify(folder / "trust", SECOND_WORKER)
    return mail


def _certify(trust: Path, host: str) -> None:
    key = make_key()
    ca, ca_key = (trust / "ca.pem").read_bytes(), (trust / "ca.key").read_bytes()
    certificate = sign_host(NAME, host, key, ca, ca_key, ["localhost"], serves=False)
    (trust / f"{host}.pem").write_bytes(certificate)
    (trust / f"{host}.key").touch(mode=0o600)
    (trust / f"{host}.key").write_bytes(key)


def _with_lines(text: str, table: str, lines: str) -> str:
    """Returns the file's text with lines put first into a table."""
    head = next(found for found in _TABLE_HEAD.finditer(text) if found["name"] == table)
    return f"{text[: head.end()]}\n{lines}\n{text[head.end() :].lstrip(chr(10))}"


def _replaced(text: str, before: str, after: str) -> str:
    assert text.count(before) == 1, before
    return text.replace(before, after)
