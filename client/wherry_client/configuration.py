"""The client's configuration file: where the deployment is, and by which authority its gateway is believed.

gateway = "https://wherry.example.org"    # port 443, unless one is given
ca = "trust/web-ca.pem"                   # relative to this file; without it the system's authorities are asked
"""

from __future__ import annotations

import os
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from wherry_client.errors import UsageError

_DEFAULT_PORT = 443
_KEYS = ("gateway", "ca")
_FORMER = ("services", "tls")
"""Sections of clients that called each service by itself, with a certificate."""


@dataclass(frozen=True)
class Configuration:
    """A whole configuration file, checked.

    Attributes:
        source: the file.
        gateway: `host:port`, an IPv6 address in brackets; the host as in the gateway's certificate.
        ca: PEM file of the authority that the gateway is believed by; None means the system's authorities.
    """

    source: Path
    gateway: str
    ca: Path | None


def find(chosen: Path | None, environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the file to read: the one chosen, `$WHERRY_CONFIG`, or the user's own `wherry/client.toml`."""
    if chosen is not None:
        return chosen
    if named := environment.get("WHERRY_CONFIG"):
        return Path(named)
    return platformdirs.user_config_path("wherry") / "client.toml"


def load(path: Path) -> Configuration:
    """Reads and checks a configuration file; raises UsageError that names the file and the key."""
    document = _read(path)
    for key in document:
        if key in _FORMER:
            raise UsageError(
                f"{path}: [{key}] is of an earlier release: there is one address now, and no certificate of your own.",
                advice='In place of [services] and [tls] write gateway = "https://HOST:PORT", and ca = "FILE" if its '
                "authority is not one of the system's; your deployment's operator has such a file.",
            )
        if key not in _KEYS:
            raise UsageError(f"{path}: {key}: unknown key; there are {' and '.join(_KEYS)}")
    gateway = _text(path, document, "gateway")
    if gateway is None:
        raise UsageError(f"{path}: gateway is missing", advice='Write gateway = "https://HOST:PORT".')
    ca = _text(path, document, "ca")
    return Configuration(path, _address(path, gateway), None if ca is None else path.parent / ca)


def read_ca(configuration: Configuration) -> bytes | None:
    """Returns the content of the file that `ca` names, None where it names none; raises UsageError."""
    path = configuration.ca
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{configuration.source}: ca: {path} cannot be read: {_words(error)}") from error
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise UsageError(f"{configuration.source}: ca: {path} holds no certificate in PEM")
    return content


def system_authorities(configuration: Configuration) -> bytes:
    """Returns the system's authorities, PEM, as OpenSSL finds them; gRPC by itself would take a list of its own.

    Raises UsageError where there are none.
    """
    places = ssl.get_default_verify_paths()
    found = [Path(places.cafile)] if places.cafile else []
    if not found and places.capath:
        found = sorted(Path(places.capath).glob("*.[0-9]"))
    try:
        content = b"\n".join(file.read_bytes() for file in found)
    except OSError as error:
        raise UsageError(f"The system's authority {error.filename} cannot be read: {_words(error)}") from error
    if not content:
        raise UsageError(
            f"{configuration.source}: ca is missing, and this system has no authorities of its own.",
            advice='Write ca = "FILE", or install the system\'s (Debian: ca-certificates).',
        )
    return content


def _read(path: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"There is no configuration file {path}.",
            advice="Name one with --config or WHERRY_CONFIG; your deployment's operator gives it to you.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {_words(error)}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}") from error


def _text(path: Path, document: Mapping[str, object], key: str) -> str | None:
    value = document.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise UsageError(f"{path}: {key} must be a string in quotes")
    return value


def _address(path: Path, url: str) -> str:
    """Returns `host:port` of the gateway."""
    problem = UsageError(
        f'{path}: gateway: "{url}" is no address of a gateway', advice="Write https://HOST or https://HOST:PORT."
    )
    try:
        parts = urlsplit(url)
        port = _DEFAULT_PORT if parts.port is None else parts.port
    except ValueError:
        raise problem from None
    further = parts.username is not None or parts.query or parts.fragment or parts.path not in ("", "/")
    if parts.scheme != "https" or not parts.hostname or not port or further or any(map(str.isspace, url)):
        raise problem
    return f"[{parts.hostname}]:{port}" if ":" in parts.hostname else f"{parts.hostname}:{port}"


def _words(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else "it is not UTF-8"
