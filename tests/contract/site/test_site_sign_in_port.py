"""What every sign-in has to do: the same suite for the real MyProxy and for the fake."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from wherry_chassis.errors import DomainError, InvalidFields
from wherry_fakes.site_sign_in import FakeSignIn, FakeSite, elsewhere
from wherry_site.authorities import Authority, signing_fault
from wherry_site.errors import SignInRefused, SiteNotTrusted, SiteUnreachable
from wherry_site.key_pool import KeyPool
from wherry_site.myproxy import MyProxySignIn
from wherry_site.sign_in import Password, SignIn, SignInServer
from wherry_testing.sites import RealSite, free_ports

S5 = pytest.mark.row("S5", missing="VOMS")


@dataclass
class Case:
    """An implementation with two sites that trust nothing in common, and an account at the first."""

    port: SignIn
    here: SignInServer
    there: SignInServer
    password: str
    silent_port: int


def _real(site: RealSite) -> SignInServer:
    authorities = [site.host_ca_pem, site.user_ca_pem]
    return SignInServer(f"sites/{site.name}", site.host, site.myproxy_port, ["127.0.0.1"], authorities)


@pytest.fixture(params=["real", "fake"])
def case(request: pytest.FixtureRequest) -> Case:
    """The real one and the fake."""
    if request.param == "real":
        sites: tuple[RealSite, RealSite] = request.getfixturevalue("two_sites")
        port = MyProxySignIn(KeyPool().take, timeout_s=10)
        return Case(port, _real(sites[0]), _real(sites[1]), sites[0].accounts["alice"], free_ports(1)[0])
    here, there = FakeSite("here", {"alice": "pw of alice"}), FakeSite("there", {}, port=7513)
    return Case(FakeSignIn(here, there), here.server, there.server, "pw of alice", 7514)


async def enter(case: Case, **changes: object) -> object:
    values = {"server": case.here, "username": "alice", "password": Password(case.password), "lifetime_s": 3600}
    return await case.port.sign_in(**(values | changes))  # type: ignore[arg-type]  # one value is changed at a time


@S5
async def test_a_right_password_gives_a_certificate_for_a_key_of_our_own_by_the_sites_ca(case: Case) -> None:
    credential = await case.port.sign_in(case.here, "alice", Password(case.password), 3600)
    assert credential.certificate.public_key() == credential.key.public_key()
    assert credential.key.key_size >= 2048
    authorities: Sequence[Authority] = [Authority(pem, ("/*",)) for pem in case.here.authorities]
    assert signing_fault(credential.certificate, credential.chain, authorities) is None
    left = credential.certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(minutes=58) < left <= dt.timedelta(minutes=61)


@S5
async def test_a_wrong_password_and_an_unknown_user_are_told_alike(case: Case) -> None:
    with pytest.raises(SignInRefused) as wrong:
        await enter(case, password=Password("wrong"))
    with pytest.raises(SignInRefused) as unknown:
        await enter(case, username="nobody")
    assert (wrong.value.message, wrong.value.metadata) == (unknown.value.message, unknown.value.metadata)


@S5
async def test_a_lifetime_above_the_sites_is_cut_short_in_silence(case: Case) -> None:
    credential = await case.port.sign_in(case.here, "alice", Password(case.password), 30 * 86400)
    assert credential.certificate.not_valid_after_utc < dt.datetime.now(dt.UTC) + dt.timedelta(hours=73)


@S5
@pytest.mark.parametrize("lifetime_s", [0, -1])
async def test_no_lifetime_is_no_sign_in(case: Case, lifetime_s: int) -> None:
    with pytest.raises(InvalidFields):
        await enter(case, lifetime_s=lifetime_s)


@S5
async def test_nobody_at_the_address_is_unreachable(case: Case) -> None:
    with pytest.raises(SiteUnreachable):
        await enter(case, server=elsewhere(case.here, port=case.silent_port))


@S5
async def test_a_server_that_the_sites_cas_do_not_vouch_for_is_not_trusted(case: Case) -> None:
    impostor = dataclasses.replace(case.here, authorities=case.there.authorities)
    with pytest.raises(SiteNotTrusted):
        await enter(case, server=impostor)


@S5
@pytest.mark.parametrize("changes", [{"username": "alice\nx"}, {"password": Password("x\0y")}])
async def test_line_breaks_and_nul_are_refused(case: Case, changes: dict[str, object]) -> None:
    with pytest.raises(InvalidFields):
        await enter(case, **changes)


@S5
async def test_no_error_shows_the_password(case: Case) -> None:
    refused, unreachable = case.here, elsewhere(case.here, port=case.silent_port)
    for server, password in ((refused, "visible if shown"), (unreachable, "visible if shown"), (refused, "visible\n")):
        with pytest.raises(DomainError) as caught:
            await enter(case, server=server, password=Password(password))
        assert "visible" not in str(caught.value) + repr(caught.value) + repr(caught.value.metadata)
        shown: traceback.TracebackException | None
        shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        while shown is not None:
            frames = [frame for frame in shown.stack if "wherry_" in frame.filename]
            assert not any("visible" in local for frame in frames for local in (frame.locals or {}).values())
            shown = shown.__context__


@S5
async def test_many_sign_in_at_once(case: Case) -> None:
    credentials = await asyncio.gather(*(enter(case) for _ in range(4)))
    assert len(credentials) == 4
