"""Addresses given by users: resolved once, pinned, and refused when private or loopback unless the operator allows it.

Whoever registers a site names hosts that Wherry then connects to from inside the operator's network. What a name
resolved to is checked, and that very address is connected to: a name that resolves differently a moment later gains
nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import Protocol

from wherry_chassis.errors import FieldProblem, InvalidFields

from wherry_site.errors import AddressNotAllowed, NameServiceUnavailable

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_RESOLVE_TIMEOUT_S = 5.0


class HostUnknown(Exception):
    """The name service knows no such host."""


class NameServiceFailed(Exception):
    """The name service does not answer."""


class AddressRefused(Exception):
    """An address of the host is private or loopback, and not allowed."""


class Resolver(Protocol):
    """Turns a host's name into addresses."""

    async def resolve(self, host: str) -> Sequence[str]:
        """Returns the addresses, best first.

        Raises:
            HostUnknown, NameServiceFailed: as their names say.
        """
        ...


class SystemResolver:
    """The machine's own resolver."""

    async def resolve(self, host: str) -> Sequence[str]:
        """Returns the addresses in the order that the system prefers."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise NameServiceFailed from error
            raise HostUnknown from error
        except TimeoutError as error:
            raise NameServiceFailed from error
        except UnicodeError as error:  # a label that cannot be one
            raise HostUnknown from error
        return list(dict.fromkeys(str(item[4][0]) for item in found))


class Egress:
    """What Wherry connects to on behalf of users.

    Args:
        resolver: the name service.
        allow: networks that are allowed although they are private or loopback, as `127.0.0.0/8`.
    """

    def __init__(self, resolver: Resolver, allow: Iterable[str] = ()) -> None:
        self._resolver = resolver
        self._allow = [ipaddress.ip_network(network) for network in allow]

    async def pin(self, host: str) -> Sequence[str]:
        """Returns the addresses of a host, each of them allowed.

        Raises:
            AddressRefused: one of its addresses is private and not allowed: then none is used, as the name is under
                the same hand as the others.
            HostUnknown, NameServiceFailed: it cannot be resolved, ever or now.
        """
        addresses = await self._resolver.resolve(host)
        if not addresses:
            raise HostUnknown
        if not all(self.allows(address) for address in addresses):
            raise AddressRefused
        return addresses

    async def check(self, host: str, field: str) -> None:
        """Returns if a host, given in `field` of a request, exists and may be connected to.

        Raises:
            InvalidFields: there is no such host.
            AddressNotAllowed: it is private.
            NameServiceUnavailable: it cannot be looked up now.
        """
        try:
            await self.pin(host)
        except HostUnknown:
            raise InvalidFields(FieldProblem(field, f"there is no host {host}")) from None
        except AddressRefused:
            raise AddressNotAllowed(field, host=host) from None
        except NameServiceFailed:
            raise NameServiceUnavailable(host=host) from None

    def allows(self, address: str) -> bool:
        """Tells whether an address may be connected to."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        seen = _embedded(parsed)
        if any(one.version == network.version and one in network for network in self._allow for one in (parsed, seen)):
            return True
        # A link-local address names an interface of ours (`fe80::1%eth0`); is_global is False for it.
        return all(one.is_global and not one.is_multicast for one in (parsed, seen))


def _embedded(address: IPAddress) -> IPAddress:
    """Returns the IPv4 address that an IPv6 one leads to, if it does; else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
