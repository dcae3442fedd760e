"""sites, site add, show, update, remove, login, logout, session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from wherry.type.v1 import data_channel_pb2
from wherry_fakes.centre import FakeCentre
from wherry_testing.client_runs import Wherry
from wherry_testing.pki import TestPki

LATER_OF_C2 = "site probe"


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    return TestPki(tmp_path / "site-pki", name="Site CA").ca


@pytest.mark.row("C2", missing=LATER_OF_C2)
def test_all_pages_of_sites_are_listed_with_where_one_is_signed_in(signed_in: Wherry) -> None:
    listed = signed_in("sites")
    rows = [line.split("\t") for line in listed.out.splitlines()]
    assert [row[:2] for row in rows] == [["site-a", "University of A"], ["site-b", "University of B"]]
    assert rows[0][2].startswith("until ")
    assert len(signed_in("sites", "--json").json["sites"]) == 2


@pytest.mark.row("C2", missing=LATER_OF_C2)
def test_a_site_is_registered_from_options_shown_changed_and_removed(
    signed_in: Wherry, centre: FakeCentre, authority: Path
) -> None:
    added = signed_in(
        "site", "add", "site-c", "--title", "University of C", "--auth", "c.example.org:7512",
        "--ca", str(authority), "--namespace", "/O=C/OU=Hosts/*;/O=C/OU=Services/*",
        "--ca", str(authority), "--namespace", "/O=C/OU=Users/*",
        "--endpoint", "gsiftp://c.example.org:2811/data", "--default-path", "/home", "--public",
    )  # fmt: skip
    assert (added.status, added.err) == (0, "")
    made = centre.sites.sites["sites/site-c"]
    assert [list(ca.namespaces) for ca in made.certificate_authorities] == [
        ["/O=C/OU=Hosts/*", "/O=C/OU=Services/*"],
        ["/O=C/OU=Users/*"],
    ]
    assert made.certificate_authorities[0].certificate_pem == authority.read_text()
    assert (made.endpoints[0].host, made.endpoints[0].port, made.endpoints[0].root_path) == (
        "c.example.org",
        2811,
        "/data",
    )
    assert made.public

    changed = signed_in(
        "site", "update", "site-c", "--title", "C", "--private",
        "--add-endpoint", "gsiftp://d.example.org/", "--remove-endpoint", "gsiftp://c.example.org:2811/data",
    )  # fmt: skip
    assert changed.status == 0
    assert (made.title, made.public, made.default_path) == ("C", False, "/home")
    assert [endpoint.host for endpoint in made.endpoints] == ["d.example.org"]
    assert "gsiftp://d.example.org:2811/" in signed_in("site", "show", "site-c").out

    assert signed_in("site", "remove", "site-c").status == 2
    assert signed_in("site", "remove", "site-c", "--yes").status == 0
    assert signed_in("site", "show", "site-c").status == 1


@pytest.mark.row("C2", missing=LATER_OF_C2)
@pytest.mark.row("S3", missing="token, macaroon and anonymous sites, VOMS")
def test_what_a_site_demands_of_its_data_channels_is_said_shown_and_changed(
    signed_in: Wherry, centre: FakeCentre, authority: Path
) -> None:
    door = ("--auth", "c.example.org:7512", "--endpoint", "gsiftp://c.example.org", "--ca", str(authority))
    assert signed_in("site", "add", "site-c", *door, "--data-channel", "authenticated").status == 0
    made = centre.sites.sites["sites/site-c"]
    assert made.data_channel == data_channel_pb2.DATA_CHANNEL_AUTHENTICATED
    assert "data channel   authenticated at least" in signed_in("site", "show", "site-c").out
    assert signed_in("site", "show", "site-c", "--json").json["site"]["dataChannel"] == "DATA_CHANNEL_AUTHENTICATED"
    assert "encrypted at least" in signed_in("site", "update", "site-c", "--data-channel", "encrypted").out
    assert signed_in("site", "update", "site-c", "--title", "C").status == 0
    assert made.data_channel == data_channel_pb2.DATA_CHANNEL_ENCRYPTED, "what was not given stays"
    assert "data channel  as the job asks" in signed_in("site", "show", "site-a").out
    assert signed_in("site", "update", "site-c", "--data-channel", "secret").status == 2


def kit_prints(authority: Path) -> dict[str, object]:
    """What `wherry-endpoint show --json` prints."""
    return {
        "name": "SITE_C",
        "title": "University of C",
        "myproxy": {"host": "c.example.org", "port": 7512},
        "endpoint": {"scheme": "gsiftp", "host": "c.example.org", "port": 2811, "root_path": "/data"},
        "default_path": "/data",
        "hosts_ca": {
            "subject": "/O=SITE_C/CN=Host CA c-12",
            "pem": authority.read_text(),
            "namespaces": ["/O=SITE_C/OU=Hosts/*"],
        },
        "users_ca": {
            "subject": "/O=SITE_C/CN=User CA c-34",
            "pem": authority.read_text(),
            "namespaces": ["/O=SITE_C/OU=People/*"],
        },
    }


@pytest.mark.row("C2", missing=LATER_OF_C2)
@pytest.mark.row("S3", missing="token, macaroon and anonymous sites, VOMS")
def test_a_registration_file_can_say_what_the_site_demands_of_its_data_channels(
    signed_in: Wherry, centre: FakeCentre, authority: Path, tmp_path: Path
) -> None:
    shown = tmp_path / "site.json"
    for unfit in ("secret", "", 3, ["clear"]):
        shown.write_text(json.dumps(kit_prints(authority) | {"data_channel": unfit}))
        refused = signed_in("site", "add", "--from", str(shown))
        assert (refused.status, "clear, authenticated, encrypted" in refused.err) == (2, True)
    shown.write_text(json.dumps(kit_prints(authority) | {"data_channel": "encrypted"}))
    assert signed_in("site", "add", "--from", str(shown)).status == 0
    assert centre.sites.sites["sites/site-c"].data_channel == data_channel_pb2.DATA_CHANNEL_ENCRYPTED
    assert signed_in("site", "add", "site-d", "--from", str(shown), "--data-channel", "clear").status == 0
    assert centre.sites.sites["sites/site-d"].data_channel == data_channel_pb2.DATA_CHANNEL_CLEAR


@pytest.mark.row("C2", missing=LATER_OF_C2)
def test_a_site_is_registered_from_what_the_endpoint_kit_prints(
    signed_in: Wherry, centre: FakeCentre, authority: Path, tmp_path: Path
) -> None:
    shown = tmp_path / "site.json"
    shown.write_text(json.dumps(kit_prints(authority)))
    assert signed_in("site", "add", "--from", str(shown), "--public").status == 0
    made = centre.sites.sites["sites/site-c"]
    assert (made.title, made.auth_address, made.public) == ("University of C", "c.example.org:7512", True)
    assert [list(ca.namespaces) for ca in made.certificate_authorities] == [
        ["/O=SITE_C/OU=Hosts/*"],
        ["/O=SITE_C/OU=People/*"],
    ]


@pytest.mark.row("C2", missing=LATER_OF_C2)
def test_a_private_key_never_leaves_by_mistake(signed_in: Wherry, centre: FakeCentre, tmp_path: Path) -> None:
    pki = TestPki(tmp_path / "pki")
    files = pki.issue("host")
    both = tmp_path / "both.pem"
    both.write_bytes(files.certificate.read_bytes() + files.key.read_bytes())
    refused = signed_in(
        "site",
        "add",
        "site-c",
        "--auth",
        "c.example.org:7512",
        "--endpoint",
        "gsiftp://c.example.org",
        "--ca",
        str(both),
    )
    assert refused.status == 2
    assert "private key" in refused.err
    assert "sites/site-c" not in centre.sites.sites


@pytest.mark.row("C2", missing=LATER_OF_C2)
def test_an_id_that_is_taken_and_an_unfit_field_are_told(signed_in: Wherry) -> None:
    doors = ("--endpoint", "gsiftp://c.example.org")
    taken = signed_in("site", "add", "site-a", "--auth", "c.example.org:7512", *doors)
    assert (taken.status, "The id is taken." in taken.err) == (1, True)
    unfit = signed_in("site", "add", "site-c", "--auth", "c.example.org", *doors)
    assert (unfit.status, "site.auth_address: must be host:port" in unfit.err) == (2, True)


@pytest.mark.row("C2", missing=LATER_OF_C2)
def test_signing_in_at_a_site_shows_where_the_password_goes_and_how_long_it_lasts(
    signed_in: Wherry, centre: FakeCentre
) -> None:
    centre.sites.sessions.clear()
    entered = signed_in(
        "site", "login", "site-a", "--username", "alice", "--lifetime", "7d", "--password-stdin", stdin="open sesame\n"
    )
    assert entered.status == 0
    assert "site-a.example.org:7512" in entered.err
    assert "the site gives no more" in entered.out
    assert signed_in("site", "session", "site-a", "--json").json["siteSessions"][0]["username"] == "alice"
    assert signed_in("site", "logout", "site-a").status == 0
    gone = signed_in("site", "session", "site-a")
    assert (gone.status, "wherry site login site-a" in gone.err) == (4, True)


@pytest.mark.row("C2", missing=LATER_OF_C2)
def test_a_refused_site_password_fails_and_an_unknown_site_too(signed_in: Wherry) -> None:
    refused = signed_in("site", "login", "site-a", "-u", "alice", "--password-stdin", stdin="wrong")
    assert (refused.status, "refused the user name or the password" in refused.err) == (1, True)
    unknown = signed_in("site", "login", "site-x", "-u", "alice", "--password-stdin", stdin="wrong")
    assert (unknown.status, "wherry sites" in unknown.err) == (1, True)


@pytest.mark.row("C2", missing=LATER_OF_C2)
def test_no_password_or_token_is_written_anywhere(signed_in: Wherry, centre: FakeCentre, tmp_path: Path) -> None:
    secret = "very secret indeed"
    centre.sites.passwords["sites/site-a", "alice"] = secret
    entered = signed_in("site", "login", "site-a", "-u", "alice", "--password-stdin", stdin=secret)
    assert entered.status == 0
    assert secret not in entered.out + entered.err
    for file in (tmp_path / "state").iterdir():
        assert secret not in file.read_text()
