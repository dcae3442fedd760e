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
from urllib.parse import urlsplit

from wherry_chassis.buildout import BuildoutError, load

from wherry_deploy import authority
from wherry_deploy.template import ROLES, SERVICES, Choices, buildout_text, client_text

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,50}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_WEB, _WEB_CA = "trust/web.pem", "trust/web-ca.pem"
_KEY_BYTES = 32


class InitError(Exception):
    """A deployment that cannot be made where it was asked for; the message names the file and the remedy."""


def initialise(folder: Path, choices: Choices) -> list[str]:
    """Makes what is missing of a deployment in `folder`; returns a line for each thing made.

    A `buildout.toml` that is there decides: its name goes into new certificates, its public address into the public one
    and into `client.toml`. One without a gateway gets neither, and one whose public certificate comes from
    elsewhere no authority for it.

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
        name, gateway = buildout.deployment.name, buildout.gateway
        public_url = "" if gateway is None else gateway.public_url
        ours = gateway is not None and gateway.public_certificate == folder.resolve() / _WEB
    else:
        name, public_url, ours = choices.name, choices.public_url, True
        if not _HOST.fullmatch(choices.web_host):
            raise InitError(f"the public host {choices.web_host!r} is neither a DNS name nor an address")
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
    if ours:
        _web(folder / "trust", name, public_url, choices, made)
    if public_url:
        text = client_text(public_url, _WEB_CA if ours else None)
        _write(folder / "client.toml", text.encode, 0o644, made)


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


def _web(trust: Path, name: str, public_url: str, choices: Choices, made: list[str]) -> None:
    """Makes the public side's authority and certificate."""
    certificate, key = trust / "web.pem", trust / "web.key"
    if certificate.exists():
        if not key.exists():
            raise InitError(f"{key} is missing: put it back, or remove {certificate} to have both made anew")
        return
    host = urlsplit(public_url).hostname or ""
    # Addresses only where people type one: an authority that may not sign for any is worth more (see there).
    further = [name for name in (*_own_names(), *choices.further_names) if not authority.is_address(name)]
    names = list(dict.fromkeys([host, *further]))
    ca, ca_key = trust / "web-ca.pem", trust / "web-ca.key"
    if not ca.exists():
        _write(ca_key, authority.make_key, 0o600, made, "the web authority's key: whoever has it can be the gateway")
        ca_key_pem = ca_key.read_bytes()
        alone = "" if authority.is_address(host) else " and nothing else"
        told = f"for {', '.join(names)}{alone}, {authority.CA_DAYS} days"
        _write(ca, lambda: authority.make_web_authority(name, ca_key_pem, names), 0o644, made, told)
    if not ca_key.exists():
        raise InitError(
            f"{certificate} is missing, and without {ca_key} none can be made: put one of the two in its place"
        )
    try:
        names = [each for each in names if authority.may_sign(ca.read_bytes(), each)]
        if host not in names:
            raise InitError(
                f"{ca} may not sign for {host}: remove it and {ca_key} to have another made, which users then need too"
            )
        _write(key, authority.make_key, 0o600, made)
        pem = authority.sign_web(name, key.read_bytes(), ca.read_bytes(), ca_key.read_bytes(), names)
    except ValueError as error:
        raise InitError(f"{trust}: no certificate for {host} can be made: {error}") from error
    _write(certificate, functools.partial(bytes, pem), 0o644, made, f"for {host}, {authority.HOST_DAYS} days")


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
