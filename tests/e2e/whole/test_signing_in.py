"""Signing in at Wherry and at sites with the `wherry` command: what works, what is refused, and in which words."""

from __future__ import annotations

import functools
import json
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from wherry.queue.v1 import job_service_pb2, job_service_pb2_grpc
from wherry.site.v1 import site_service_pb2, site_service_pb2_grpc
from wherry.user.v1 import user_service_pb2, user_service_pb2_grpc
from wherry_testing.deployment import Person, RealDeployment
from wherry_testing.deployment_processes import wait_until
from wherry_testing.sites import RealSite, free_ports

REVOKED_WITHIN_S = 5.0
_CALLS: dict[str, tuple[Callable[[grpc.Channel], Any], str, Any]] = {
    "user": (user_service_pb2_grpc.UserServiceStub, "GetUser", user_service_pb2.GetUserRequest(name="users/me")),
    "site": (site_service_pb2_grpc.SiteServiceStub, "ListSites", site_service_pb2.ListSitesRequest()),
    "queue": (job_service_pb2_grpc.JobServiceStub, "ListJobs", job_service_pb2.ListJobsRequest()),
}
_Sites = tuple[RealSite, RealSite]


def _accepted(deployment: RealDeployment, service: str, access_token: str) -> bool:
    """Tells whether a service itself takes an access token that the gateway passes on, from whoever has copied it."""
    stub, method, request = _CALLS[service]
    ca, chain, key = deployment.certificate("gateway")
    address = getattr(deployment.buildout.service, service).addresses[0]
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, chain)) as channel:
        metadata = [("authorization", f"Bearer {access_token}")]
        code = getattr(stub(channel), method).future(request, metadata=metadata, timeout=5).code()
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED)
    return code is grpc.StatusCode.OK


def _refused_by(deployment: RealDeployment, access_token: str, service: str) -> bool:
    return not _accepted(deployment, service, access_token)


@pytest.fixture
def somebody(deployment: RealDeployment) -> Person:
    """Somebody new who has registered and is signed in."""
    return deployment.person(_new_address())


def _new_address() -> str:
    return f"{secrets.token_hex(4)}@example.org"


# --- at Wherry


@pytest.mark.row("U3", missing="session length, idle time-out")
@pytest.mark.row("U1")
def test_who_has_registered_and_verified_the_address_signs_in(deployment: RealDeployment) -> None:
    person = deployment.person(_new_address(), by_command=True)
    assert person.email in person.wherry.must("whoami").out


@pytest.mark.row("U3", missing="session length, idle time-out")
def test_the_sign_in_before_this_one_is_shown(somebody: Person) -> None:
    somebody.wherry.must("login", somebody.email, "--password-stdin", stdin=somebody.password)
    assert re.search(r"last sign-in +\d{4}-", somebody.wherry.must("whoami").out)


@pytest.mark.row("U3", missing="session length, idle time-out")
def test_a_wrong_password_and_an_unknown_address_are_refused_alike(
    deployment: RealDeployment, somebody: Person
) -> None:
    stranger = deployment.command("stranger")
    wrong = stranger("login", somebody.email, "--password-stdin", stdin="not the password")
    unknown = stranger("login", "nobody@example.org", "--password-stdin", stdin="not the password")
    assert (wrong.status, wrong.err) == (unknown.status, unknown.err) == (1, wrong.err)
    assert "The address or the password is wrong." in wrong.err


@pytest.mark.row("U3", missing="session length, idle time-out")
def test_an_access_token_that_has_ended_is_refreshed_without_a_word(somebody: Person) -> None:
    (file,) = somebody.wherry.state.glob("tokens-*.json")
    before = somebody.tokens()
    file.write_text(json.dumps(before | {"access_expire_time_s": time.time() - 1}))
    somebody.wherry.must("whoami")
    after = somebody.tokens()
    assert after["refresh_token"] != before["refresh_token"]
    assert after["access_expire_time_s"] > time.time()


@pytest.mark.row("U3", missing="session length, idle time-out")
def test_after_signing_out_the_command_says_that_nobody_is_signed_in(somebody: Person) -> None:
    somebody.wherry.must("logout")
    refused = somebody.wherry("whoami")
    assert refused.status == 4
    assert "wherry login" in refused.err


@pytest.mark.row("U3", missing="session length, idle time-out")
@pytest.mark.row("D15")
def test_a_copied_access_token_is_refused_everywhere_within_seconds_of_signing_out(
    deployment: RealDeployment, somebody: Person
) -> None:
    token = somebody.tokens()["access_token"]
    assert all(_accepted(deployment, service, token) for service in _CALLS)
    somebody.wherry.must("logout")
    since_s = time.monotonic()
    refused = functools.partial(_refused_by, deployment, token)
    for service in _CALLS:
        left_s = max(REVOKED_WITHIN_S - (time.monotonic() - since_s), 0.1)
        wait_until(functools.partial(refused, service), f"{service} refuses it", left_s, 0.1)


@pytest.mark.row("U3", missing="session length, idle time-out")
def test_a_copied_refresh_token_is_worth_nothing_after_signing_out(somebody: Person) -> None:
    (file,) = somebody.wherry.state.glob("tokens-*.json")
    kept = json.loads(file.read_text())
    somebody.wherry.must("logout")
    file.touch(mode=0o600)
    file.write_text(json.dumps(kept | {"access_expire_time_s": time.time() - 1}))
    refused = somebody.wherry("whoami")
    assert refused.status == 4
    assert "has ended" in refused.err


# --- sites


def _described(site: RealSite, folder: Path, **changes: Any) -> str:
    """Writes down what the kit says of a site, changed where a test wants it; returns the file."""
    file = folder / f"{secrets.token_hex(4)}.json"
    file.write_text(json.dumps(site.description | changes))
    return str(file)


def _site_id() -> str:
    return f"site-{secrets.token_hex(4)}"


@pytest.mark.row("S2")
def test_one_sees_ones_own_sites_and_nobody_elses_private_ones(alice: Person, somebody: Person) -> None:
    assert [line.split("\t")[0] for line in alice.wherry.must("sites").out.splitlines()][:2] == ["site-a", "site-b"]
    assert somebody.wherry.must("sites").out == ""
    hidden = somebody.wherry("site", "show", "site-a")
    missing = somebody.wherry("site", "show", "site-q")
    assert hidden.status == missing.status == 1
    assert hidden.err.replace("site-a", "site-q") == missing.err


@pytest.mark.row("S2")
@pytest.mark.row("S3", missing="VOMS, tokens, macaroons, no sign-in")
def test_a_site_is_registered_with_what_the_kit_shows_and_can_be_shown(
    alice: Person, two_sites: _Sites, tmp_path: Path
) -> None:
    name = _site_id()
    alice.wherry.must("site", "add", name, "--title", name, "--from", _described(two_sites[0], tmp_path))
    shown = alice.wherry.must("site", "show", name).out
    assert f"gsiftp://localhost:{two_sites[0].gridftp_port}" in shown
    assert f"MyProxy at localhost:{two_sites[0].myproxy_port}" in shown
    alice.wherry.must("site", "remove", "--yes", name)
    assert alice.wherry("site", "show", name).status == 1


@pytest.mark.row("S3", missing="VOMS, tokens, macaroons, no sign-in")
def test_a_site_is_changed_by_its_owner(alice: Person, two_sites: _Sites, tmp_path: Path) -> None:
    name = _site_id()
    alice.wherry.must("site", "add", name, "--title", name, "--from", _described(two_sites[0], tmp_path))
    title = f"Renamed {name}"
    assert title in alice.wherry.must("site", "update", name, "--title", title).out
    assert title in alice.wherry.must("site", "show", name).out


@pytest.mark.row("S3", missing="VOMS, tokens, macaroons, no sign-in")
def test_a_duplicate_and_a_bad_address_are_refused_in_words_that_name_them(
    alice: Person, two_sites: _Sites, tmp_path: Path
) -> None:
    twice = alice.wherry("site", "add", "--from", _described(two_sites[0], tmp_path))
    assert twice.status == 1
    assert "site-a" in twice.err
    name = _site_id()
    given = ("--title", name, "--from", _described(two_sites[0], tmp_path))
    nowhere = alice.wherry("site", "add", name, "--auth", "no-such-host.invalid:7512", *given)
    assert nowhere.status == 2
    assert "auth_address" in nowhere.err
    private = alice.wherry("site", "add", name, "--auth", "192.168.77.1:7512", *given)
    assert private.status in (1, 2)
    assert "192.168.77.1" in private.err


# --- at sites


@pytest.mark.row("S5", missing="VO")
def test_the_sign_in_at_a_site_is_shown_with_name_and_end(alice: Person) -> None:
    session = json.loads(alice.wherry.must("site", "session", "site-b", "--json").out)["siteSessions"][0]
    assert session["username"] == "bob"
    assert "expireTime" in session


@pytest.mark.row("S5", missing="VO")
def test_a_wrong_password_and_an_unknown_user_of_a_site_are_refused_alike(alice: Person, two_sites: _Sites) -> None:
    login = ("site", "login", "site-a", "--password-stdin", "--username")
    wrong = alice.wherry(*login, "alice", stdin="not the password")
    unknown = alice.wherry(*login, "mallory", stdin=two_sites[0].accounts["alice"])
    assert (wrong.status, wrong.err) == (unknown.status, unknown.err) == (1, wrong.err)
    assert "The site refused the user name or the password." in wrong.err
    assert alice.wherry("site", "session", "site-a").status == 0, "the sign-in before it stands"


@pytest.mark.row("S5", missing="VO")
def test_a_site_whose_server_is_down_is_told_from_a_wrong_password(
    alice: Person, two_sites: _Sites, tmp_path: Path
) -> None:
    name, (port,) = _site_id(), free_ports(1)
    given = ("--title", name, "--auth", f"localhost:{port}", "--from", _described(two_sites[0], tmp_path))
    alice.wherry.must("site", "add", name, *given)
    down = alice.wherry("site", "login", name, "--username", "alice", "--password-stdin", stdin="whatever")
    assert down.status == 5
    assert "Try again later" in down.err


@pytest.mark.row("S5", missing="VO")
def test_a_server_that_the_sites_authorities_do_not_vouch_for_gets_no_password(
    alice: Person, two_sites: _Sites, tmp_path: Path
) -> None:
    site_a, site_b = two_sites
    name = _site_id()
    given = ("--title", name, "--auth", f"localhost:{site_b.myproxy_port}", "--from", _described(site_a, tmp_path))
    alice.wherry.must("site", "add", name, *given)
    secret = f"never sent {name}"
    refused = alice.wherry("site", "login", name, "--username", "bob", "--password-stdin", stdin=secret)
    assert refused.status == 1
    assert "Do not type your password elsewhere" in refused.err


@pytest.mark.row("S5", missing="VO")
def test_a_lifetime_that_the_site_cuts_short_is_said(alice: Person, two_sites: _Sites, tmp_path: Path) -> None:
    name = _site_id()
    alice.wherry.must("site", "add", name, "--title", name, "--from", _described(two_sites[0], tmp_path))
    login = ("site", "login", name, "--username", "bob", "--password-stdin", "--lifetime", "30d")
    assert "the site gives no more" in alice.wherry.must(*login, stdin=two_sites[0].accounts["bob"]).out


@pytest.mark.row("S5", missing="VO")
def test_after_signing_out_at_a_site_its_files_need_a_sign_in(alice: Person, two_sites: _Sites, tmp_path: Path) -> None:
    name = _site_id()
    alice.wherry.must("site", "add", name, "--title", name, "--from", _described(two_sites[0], tmp_path))
    login = ("site", "login", name, "--username", "alice", "--password-stdin")
    alice.wherry.must(*login, stdin=two_sites[0].accounts["alice"])
    alice.wherry.must("ls", f"{name}:")
    alice.wherry.must("site", "logout", name)
    refused = alice.wherry("ls", f"{name}:")
    assert refused.status == 4
    assert f"wherry site login {name}" in refused.err
