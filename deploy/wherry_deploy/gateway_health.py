"""Asking the gateway whether it serves: as its callers do, and what Envoy itself knows of the services behind it."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from wherry_chassis.buildout import Gateway
from wherry_gateway.envoy.bootstrap import ADMIN_SOCKET
from wherry_gateway.envoy.clusters import ASSETS_SOCKET

from wherry_deploy.health import connectable
from wherry_deploy.ports import split

_ANSWER_WITHIN_S = 2.0
_STATS = "/stats?filter=" + "jwks_fetch_success$|membership_healthy$"
_LINE = re.compile(r"^(?P<name>\S+): (?P<value>\d+)$", re.MULTILINE)
_SERVICES = ("user", "site", "queue")


def is_answering(gateway: Gateway) -> bool:
    """Tells whether this gateway, with this certificate, is what answers where it listens."""
    host = urlsplit(gateway.public_url).hostname or ""
    try:
        # The certificate itself is what is believed, whoever has signed it.
        context = ssl.create_default_context(cafile=gateway.public_certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        with contextlib.closing(_At(host, split(connectable(gateway.listen)), context)) as connection:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False


def is_connected(gateway: Gateway) -> bool:
    """Tells whether the gateway reaches a replica of each service, and has the keys by which it knows tokens."""
    try:
        with contextlib.closing(_AtSocket(gateway.state / ADMIN_SOCKET)) as connection:
            connection.request("GET", _STATS)
            counted = _counted(connection.getresponse().read().decode("ascii", "replace"))
    except (OSError, http.client.HTTPException):
        return False
    reached = all(counted.get(f"cluster.{name}.membership_healthy", 0) > 0 for name in _SERVICES)
    return reached and any(value > 0 for name, value in counted.items() if name.endswith("jwks_fetch_success"))


def is_serving(gateway: Gateway) -> bool:
    """Tells whether the gateway serves its callers."""
    return is_connected(gateway) and is_answering(gateway)


def assets_are_served(gateway: Gateway) -> bool:
    """Tells whether the process with the web page takes connections."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_ANSWER_WITHIN_S)
        try:
            probe.connect(str(gateway.state / ASSETS_SOCKET))
        except OSError:
            return False
    return True


class _At(http.client.HTTPSConnection):
    """A connection to a host that listens at another address than its name has."""

    def __init__(self, host: str, place: tuple[str, int], context: ssl.SSLContext) -> None:
        super().__init__(host, place[1], context=context, timeout=_ANSWER_WITHIN_S)
        self._place = place
        self._tls = context

    def connect(self) -> None:
        """Connects to where it listens, and asks for the name."""
        plain = socket.create_connection(self._place, _ANSWER_WITHIN_S)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


class _AtSocket(http.client.HTTPConnection):
    """A connection to a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ANSWER_WITHIN_S)
        self._path = path

    def connect(self) -> None:
        """Connects."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_ANSWER_WITHIN_S)
        self.sock.connect(str(self._path))


def _counted(stats: str) -> Mapping[str, int]:
    return {found["name"]: int(found["value"]) for found in _LINE.finditer(stats)}
