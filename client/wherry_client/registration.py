"""What a site's administrator writes down to register a site: addresses, doors, authorities."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

from wherry.site.v1 import site_service_pb2 as messages
from wherry.type.v1 import data_channel_pb2

from wherry_client.channels import CHANNELS, Channel
from wherry_client.errors import UsageError
from wherry_client.paths import SITE_ID

_DEFAULT_PORTS = {"gsiftp": 2811}
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)

Table = Mapping[str, object]


def endpoint(url: str) -> messages.Endpoint:
    """Reads a door, `gsiftp://host:port/root`; raises UsageError."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise UsageError(f'"{url}" is no address of a door: {error}') from error
    if not parts.scheme or not parts.hostname or not port:
        raise UsageError(f'"{url}" is no address of a door: write gsiftp://HOST:PORT/ROOT')
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UsageError("The address of a door holds no user name, password, query or fragment.")
    return messages.Endpoint(scheme=parts.scheme, host=parts.hostname, port=port, root_path=unquote(parts.path) or "/")


def authorities(files: Sequence[Path], namespaces: Sequence[str]) -> list[messages.CertificateAuthority]:
    """Reads authorities' certificates, one a file, each with what it may sign; raises UsageError.

    The first of `namespaces` belongs to the first file, and so on; several for one file are joined by `;`. Without any
    the site service decides.
    """
    if namespaces and len(namespaces) != len(files):
        raise UsageError(
            f"There are {len(files)} --ca and {len(namespaces)} --namespace.",
            advice="Give one --namespace for each --ca, in the same order; several for one are joined by `;`.",
        )
    made = []
    for place, file in enumerate(files):
        try:
            content = file.read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be read as a PEM file: {type(error).__name__}") from error
        allowed = [part.strip() for part in namespaces[place].split(";")] if namespaces else []
        made.append(messages.CertificateAuthority(certificate_pem=_certificate(content, str(file)), namespaces=allowed))
    return made


def from_kit(content: str) -> tuple[str, messages.Site]:
    """Reads what `wherry-endpoint show --json` prints; returns the site and its name there; raises UsageError.

    Whoever registers the site may add `"data_channel"`: the least protection of bytes that go to or from it.
    """
    try:
        document = json.loads(content)
    except ValueError as error:
        raise UsageError(
            f"The file is no JSON: {error}", advice="Write it with: wherry-endpoint show --json"
        ) from error
    try:
        return _site_of(document)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(
            f"The file is not what wherry-endpoint show --json prints: {type(error).__name__} {error}"
        ) from error


def site_id_from(name: str) -> str:
    """Returns the site id that a name suggests; raises UsageError where it suggests none."""
    suggested = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not SITE_ID.fullmatch(suggested):
        raise UsageError(f'The name "{name}" makes no site id.', advice="Give the id: wherry site add SITE --from FILE")
    return suggested


def _site_of(document: Table) -> tuple[str, messages.Site]:
    name = str(document["name"])
    myproxy = cast("Table", document["myproxy"])
    door = cast("Table", document["endpoint"])
    site = messages.Site(
        title=str(document.get("title") or name),
        description=str(document.get("description") or ""),
        auth_kind=messages.AUTH_KIND_MYPROXY,
        auth_address=_host_and_port(str(myproxy["host"]), int(str(myproxy["port"]))),
        default_path=str(document.get("default_path") or ""),
        data_channel=_data_channel(document.get("data_channel")),
        certificate_authorities=_kit_authorities(document),
        endpoints=[
            messages.Endpoint(
                scheme=str(door["scheme"]),
                host=str(door["host"]),
                port=int(str(door["port"])),
                root_path=str(door.get("root_path") or "/"),
            )
        ],
    )
    return name, site


def _data_channel(said: object) -> data_channel_pb2.DataChannel.ValueType:
    """Returns the protection that the site demands; what is not known is an error, and never taken for no demand."""
    if said is None:
        return data_channel_pb2.DATA_CHANNEL_UNSPECIFIED
    try:
        return CHANNELS[Channel(said)]
    except ValueError as error:
        known = ", ".join(channel.value for channel in Channel)
        raise UsageError("The file's data_channel is none that there is.", advice=f"There are: {known}.") from error


def _kit_authorities(document: Table) -> list[messages.CertificateAuthority]:
    made = []
    for key in ("hosts_ca", "users_ca"):
        table = cast("Table", document[key])
        namespaces = [str(item) for item in cast("Sequence[str]", table["namespaces"])]
        certificate = _certificate(str(table["pem"]), "the file")
        made.append(messages.CertificateAuthority(certificate_pem=certificate, namespaces=namespaces))
    return made


def _certificate(content: str, where: str) -> str:
    if "PRIVATE KEY" in content:
        raise UsageError(f"{where} holds a private key; only the authority's certificate leaves the site.")
    found = _CERTIFICATE.findall(content)
    if len(found) != 1:
        raise UsageError(f"{where} holds {len(found)} certificates where one authority's is needed.")
    return str(found[0])


def _host_and_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
