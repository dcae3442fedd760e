"""`wherry-buildout init`: everything that a new deployment needs, once. What is there is never touched."""

from __future__ import annotations

import base64
import functools
import os
import re
import secrets
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from wherry_chassis.buildout import BuildoutError, load

from wherry_deploy import authority
from wherry_deploy.template import ROLES, SERVICES, Choices, buildout_text, client_text

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,50}")
_KEY_BYTES = 32


class InitError(Exception):
    """A deployment that cannot be made where it was asked for; the message names the file and the remedy."""


def initialise(folder: Path, choices: Choices) -> list[str]:
    """Makes what is missing of a deployment in `folder`; returns a line for each thing made.

    A `buildout.toml` that is there decides: its name goes into new certificates, its addresses into `client.toml`.

    Raises:
        InitError: something is there that does not fit, or cannot be written.
    """
    made: list[str] = []
    try:
        _make(folder, choices, made)
    except OSError as error:
        raise InitError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error
    return made


def _make(folder: Path, choices: Choices, made: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "buildout.toml"
    if file.exists():
        try:
            buildout = load(file)
        except BuildoutError as error:
            raise InitError(
                f"there is a buildout file that cannot be read; correct it or move it away\n{error}"
            ) from error
        name = buildout.deployment.name
        addresses = {service: getattr(buildout.service, service).addresses[0] for service in SERVICES}
    else:
        name = choices.name
        addresses = {service: choices.address(service) for service in SERVICES}
    if not _NAME.fullmatch(name):
        raise InitError(
            f"the deployment's name {name!r} stands in its certificates: 1 to 51 letters, digits, blanks, '.', '_' or "
            "'-', beginning with a letter or digit"
        )
    _write(file, lambda: buildout_text(choices).encode(), 0o644, made)
    _certificates(folder / "trust", name, choices, made)
    _folder(folder / "secrets", made)
    for key, what in (("vault.kek", "wraps the credential vault's keys"), ("token-signing.kek", "wraps the token key")):
        _write(folder / "secrets" / key, _new_secret, 0o600, made, what)
    _folder(folder / "data", made)
    _write(folder / "client.toml", lambda: client_text(addresses).encode(), 0o644, made)


def _certificates(trust: Path, name: str, choices: Choices, made: list[str]) -> None:
    _folder(trust, made)
    ca, ca_key = trust / "ca.pem", trust / "ca.key"
    if not ca.exists():
        _write(ca_key, authority.make_key, 0o600, made, "the authority's key: whoever has it can be any host")
        key_pem = ca_key.read_bytes()
        _write(ca, lambda: authority.make_authority(name, key_pem), 0o644, made, f"{authority.CA_DAYS} days")
    names = list(dict.fromkeys([*_own_names(), choices.host, *choices.further_names]))
    for host in ROLES.values():
        certificate, key = trust / f"{host}.pem", trust / f"{host}.key"
        if certificate.exists():
            if not key.exists():
                raise InitError(f"{key} is missing: put it back, or remove {certificate} to have both made anew")
            continue
        if not ca_key.exists():
            raise InitError(
                f"{certificate} is missing, and without {ca_key} none can be made: put one of the two in its place"
            )
        _write(key, authority.make_key, 0o600, made)
        try:
            pem = authority.sign_host(
                *(name, host, key.read_bytes(), ca.read_bytes(), ca_key.read_bytes(), names), serves=host in SERVICES
            )
        except ValueError as error:
            raise InitError(f"{trust}: no certificate for {host} can be made: {error}") from error
        told = f"{authority.subject(name, host)}, {authority.HOST_DAYS} days"
        _write(certificate, functools.partial(bytes, pem), 0o644, made, told)


def _own_names() -> list[str]:
    host = socket.gethostname()
    return ["localhost", *([host] if host.isascii() and host else []), "127.0.0.1", "::1"]


def _new_secret() -> bytes:
    return base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n"


def _folder(folder: Path, made: list[str]) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise InitError(f"{folder} is there and is no folder: move it away") from None
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o077:
            raise InitError(f"{folder} is open to others (mode {mode:04o}): chmod 700 it") from None
        return
    made.append(f"{folder}/ (mode 0700)")


def _write(file: Path, content: Callable[[], bytes], mode: int, made: list[str], what: str = "") -> None:
    """Writes a file unless it is there. The link makes it appear whole or not at all, and never over another."""
    if file.exists():
        return
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content())
        try:
            file.hardlink_to(draft)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    made.append(f"{file} (mode {mode:04o}{', ' + what if what else ''})")
