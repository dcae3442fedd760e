"""The client's configuration file: where the services are, and the certificates to meet them with.

[services]
user = "localhost:50051"
site = "localhost:50052"
queue = "localhost:50053"
[tls]
ca = "trust/ca.pem"              # relative to this file
certificate = "trust/client.pem"
key = "trust/client.key"
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import platformdirs

from wherry_client.errors import UsageError

_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")


@dataclass(frozen=True)
class ServiceAddresses:
    """`[services]`: `host:port` of each, the host as in its certificate."""

    user: str
    site: str
    queue: str


@dataclass(frozen=True)
class TlsFiles:
    """`[tls]`: PEM files: the deployment's authority, this client's certificate with its chain, and its key."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Configuration:
    """A whole configuration file, checked."""

    source: Path
    services: ServiceAddresses
    tls: TlsFiles


def find(chosen: Path | None, environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the file to read: the one chosen, `$WHERRY_CONFIG`, or the user's own `wherry/client.toml`."""
    if chosen is not None:
        return chosen
    if named := environment.get("WHERRY_CONFIG"):
        return Path(named)
    return platformdirs.user_config_path("wherry") / "client.toml"


def load(path: Path) -> Configuration:
    """Reads and checks a configuration file; raises UsageError that names the file and the key."""
    try:
        content = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"There is no configuration file {path}.",
            advice="Name one with --config or WHERRY_CONFIG; your deployment's operator gives it to you.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {_words(error)}") from error
    try:
        document = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}") from error
    for key in document:
        if key not in ("services", "tls"):
            raise UsageError(f"{path}: {key}: unknown key; there are services and tls")
    addresses = _table(path, document, "services", ServiceAddresses)
    for key, address in addresses.items():
        matched = _ADDRESS.fullmatch(address)
        if matched is None or not 0 < int(matched[1]) < 65536:
            raise UsageError(f'{path}: services.{key}: "{address}" is not HOST:PORT')
    files = {key: path.parent / name for key, name in _table(path, document, "tls", TlsFiles).items()}
    return Configuration(path, ServiceAddresses(**addresses), TlsFiles(**files))


def read_pem(configuration: Configuration, key: str) -> bytes:
    """Returns the content of the file that `tls.<key>` names; raises UsageError that names the key."""
    path: Path = getattr(configuration.tls, key)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{configuration.source}: tls.{key}: {path} cannot be read: {_words(error)}") from error
    if b"-----BEGIN " not in content:
        raise UsageError(f"{configuration.source}: tls.{key}: {path} holds no PEM")
    return content


def _table(path: Path, document: Mapping[str, object], name: str, kind: type) -> dict[str, str]:
    table = document.get(name)
    if not isinstance(table, dict):
        raise UsageError(f"{path}: [{name}] is missing")
    known = [field.name for field in fields(kind)]
    for key in table:
        if key not in known:
            raise UsageError(f"{path}: {name}.{key}: unknown key; there are {', '.join(known)}")
    for key in known:
        value = table.get(key)
        if not isinstance(value, str) or not value:
            problem = "is missing" if value is None else "must be a string in quotes"
            raise UsageError(f"{path}: {name}.{key} {problem}")
    return dict(table)


def _words(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else "it is not UTF-8"
