"""Whether the two servers really answer, asked the way a client would."""

from __future__ import annotations

import socket
import ssl

from wherry_endpoint.config import Config
from wherry_endpoint.layout import Layout

_TIMEOUT_S = 5.0


def _address(listen: str) -> str:
    return listen or "127.0.0.1"


def ask_myproxy(config: Config, layout: Layout) -> None:
    """Shake hands with MyProxy and check its certificate against the site's own authority; OSError if it will not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=str(layout.hosts_ca / "ca_crt.pem"))
    # MyProxy's replies are empty under TLS 1.3.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    address = (_address(config.myproxy.listen), config.myproxy.port)
    with (
        socket.create_connection(address, _TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=config.site.host),
    ):
        return


def ask_gridftp(config: Config) -> None:
    """Read GridFTP's greeting; OSError if there is none."""
    address = (_address(config.gridftp.listen), config.gridftp.port)
    with socket.create_connection(address, _TIMEOUT_S) as plain:
        greeting = plain.recv(4)
        if not greeting.startswith(b"220"):
            raise ConnectionError(f"the greeting is {greeting!r} instead of 220")
        plain.sendall(b"QUIT\r\n")
