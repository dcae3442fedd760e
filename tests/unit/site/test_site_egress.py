"""Which addresses, given by users, Wherry connects to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from wherry_chassis.errors import InvalidFields
from wherry_site.egress import AddressRefused, Egress, HostUnknown, NameServiceFailed, SystemResolver
from wherry_site.errors import AddressNotAllowed, NameServiceUnavailable

S3 = pytest.mark.row("S3", missing="token, macaroon and anonymous sites, VOMS")


class Names:
    """A name service of a few names."""

    def __init__(self, **hosts: Sequence[str] | Exception) -> None:
        self._hosts = hosts
        self.asked = 0

    async def resolve(self, host: str) -> Sequence[str]:
        self.asked += 1
        found = self._hosts.get(host, HostUnknown())
        if isinstance(found, Exception):
            raise found
        return found


@S3
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1",
        "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::1",
        "not an address", "",
    ],
)  # fmt: skip
def test_private_loopback_and_special_addresses_are_refused(address: str) -> None:
    assert not Egress(Names()).allows(address)


@S3
@pytest.mark.parametrize("address", ["1.1.1.1", "193.0.6.139", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert Egress(Names()).allows(address)


@S3
def test_what_the_operator_allows_is_allowed_and_nothing_beside_it() -> None:
    egress = Egress(Names(), ["127.0.0.0/8", "fd00::/8", "10.1.0.0/16"])
    for address in ("127.0.0.1", "fd12::1", "10.1.2.3", "::ffff:10.1.2.3"):
        assert egress.allows(address), address
    for address in ("10.2.0.1", "::1", "fc00::1", "192.168.0.1"):
        assert not egress.allows(address), address


@S3
async def test_one_private_address_among_public_ones_spoils_a_name() -> None:
    with pytest.raises(AddressRefused):
        await Egress(Names(mixed=["1.1.1.1", "10.0.0.1"])).pin("mixed")
    with pytest.raises(AddressNotAllowed) as caught:
        await Egress(Names(mixed=["1.1.1.1", "10.0.0.1"])).check("mixed", "site.auth_address")
    assert [problem.field for problem in caught.value.field_problems] == ["site.auth_address"]


@S3
async def test_a_name_is_looked_up_once_and_what_was_found_is_what_is_used() -> None:
    names = Names(a=["1.1.1.1", "2606:4700::1"])
    assert await Egress(names).pin("a") == ["1.1.1.1", "2606:4700::1"]
    assert names.asked == 1


@S3
async def test_unknown_hosts_and_a_silent_name_service_are_told_apart() -> None:
    egress = Egress(Names(empty=[], silent=NameServiceFailed()))
    for host in ("nowhere", "empty"):
        with pytest.raises(InvalidFields) as caught:
            await egress.check(host, "endpoint.host")
        assert caught.value.field_problems[0].field == "endpoint.host"
    with pytest.raises(NameServiceUnavailable):
        await egress.check("silent", "endpoint.host")


@S3
async def test_the_systems_resolver_sees_through_other_ways_to_write_an_address() -> None:
    for host in ("localhost", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1"):
        found = await SystemResolver().resolve(host)
        assert not any(Egress(Names()).allows(address) for address in found), host
    with pytest.raises(HostUnknown):
        await SystemResolver().resolve("no-such-host.invalid")
    with pytest.raises(HostUnknown):
        await SystemResolver().resolve("x" * 64 + ".example")
