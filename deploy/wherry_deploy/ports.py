"""TCP ports of this machine: which are free, and what a `host:port` means."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator

_CHOICE = range(20_000, 32_000)
"""Below Linux's ephemeral ports (32768 and up): no outgoing connection takes a chosen one meanwhile."""


class NoFreePort(Exception):
    """There are not enough free TCP ports between 20000 and 32000 on this machine."""


def free_ports(count: int) -> list[int]:
    """Returns ports on which nobody listens now, on any address.

    Raises:
        NoFreePort: there are not so many.
    """
    found: list[int] = []
    for port in random.sample(_CHOICE, len(_CHOICE)):
        if _bindable("", port):
            found.append(port)
            if len(found) == count:
                return found
    raise NoFreePort(str(NoFreePort.__doc__))


def split(address: str) -> tuple[str, int]:
    """Returns host (without brackets) and port of `host:port`."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def busy(address: str) -> str | None:
    """Returns why a server could not listen on `host:port`, in words; None if it could."""
    host, port = split(address)
    if port == 0:
        return None
    try:
        found = list(_resolve(host, port))
    except OSError as error:
        return f"{host} does not resolve on this machine ({error.strerror})"
    for family, target in found:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(target)
        except OSError as error:
            if family == socket.AF_INET6 and error.errno in _NO_IPV6:
                continue
            return f"{address} cannot be listened on ({(error.strerror or str(error)).lower()})"
    return None


# EADDRNOTAVAIL, EAFNOSUPPORT: a machine whose localhost has an IPv6 address but whose kernel has none.
_NO_IPV6 = frozenset({99, 97})


def _resolve(host: str, port: int) -> Iterator[tuple[socket.AddressFamily, tuple[object, ...]]]:
    seen = set()
    every = host in ("", "*")
    for family, _, _, _, target in socket.getaddrinfo(
        None if every else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE if every else 0
    ):
        if (family, target) not in seen:
            seen.add((family, target))
            yield family, target


def _bindable(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.bind((host, port))
        return True
    return False
