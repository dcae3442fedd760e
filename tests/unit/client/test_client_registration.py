"""What a site's administrator writes down to register it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wherry_client import registration
from wherry_client.errors import UsageError
from wherry_testing.pki import TestPki

LATER_OF_C2 = "site probe"


@pytest.fixture
def pem(tmp_path: Path) -> str:
    return TestPki(tmp_path / "pki").ca.read_text()


def kit(pem: str) -> dict[str, Any]:
    return {
        "name": "SITE",
        "title": "University",
        "myproxy": {"host": "door.example.org", "port": 7512},
        "endpoint": {"scheme": "gsiftp", "host": "door.example.org", "port": 2811, "root_path": "/data"},
        "hosts_ca": {"pem": pem, "namespaces": ["/O=SITE/OU=Hosts/*"]},
        "users_ca": {"pem": pem, "namespaces": ["/O=SITE/OU=Users/*"]},
    }


@pytest.mark.row("C2", missing=LATER_OF_C2)
@pytest.mark.parametrize(
    ("url", "host", "port", "root"),
    [
        ("gsiftp://door.example.org:2811/data", "door.example.org", 2811, "/data"),
        ("gsiftp://door.example.org", "door.example.org", 2811, "/"),
        ("gsiftp://[2001:db8::1]:2812/", "2001:db8::1", 2812, "/"),
        ("gsiftp://door.example.org/with%20space", "door.example.org", 2811, "/with space"),
    ],
)
def test_a_door_is_read(url: str, host: str, port: int, root: str) -> None:
    door = registration.endpoint(url)
    assert (door.scheme, door.host, door.port, door.root_path) == ("gsiftp", host, port, root)


@pytest.mark.row("C2", missing=LATER_OF_C2)
@pytest.mark.parametrize(
    "url", ["", "door.example.org", "gsiftp:///x", "gsiftp://u:p@h/", "gsiftp://h/?x=1", "gsiftp://h:99999/", "x://h/"]
)
def test_what_is_no_door_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        registration.endpoint(url)


@pytest.mark.row("C2", missing=LATER_OF_C2)
def test_the_endpoint_kits_words_become_a_site(pem: str) -> None:
    name, site = registration.from_kit(json.dumps(kit(pem)))
    assert (name, site.title, site.auth_address) == ("SITE", "University", "door.example.org:7512")
    assert [door.root_path for door in site.endpoints] == ["/data"]
    assert [list(authority.namespaces) for authority in site.certificate_authorities] == [
        ["/O=SITE/OU=Hosts/*"],
        ["/O=SITE/OU=Users/*"],
    ]


@pytest.mark.row("C2", missing=LATER_OF_C2)
@pytest.mark.parametrize("lost", ["name", "myproxy", "endpoint", "hosts_ca", "users_ca"])
def test_a_file_that_lacks_something_is_refused_in_words(pem: str, lost: str) -> None:
    document = kit(pem)
    del document[lost]
    with pytest.raises(UsageError, match="wherry-endpoint show --json"):
        registration.from_kit(json.dumps(document))


@pytest.mark.row("C2", missing=LATER_OF_C2)
@pytest.mark.parametrize("content", ["", "[]", "null", '"x"', "{", '{"name": 1, "myproxy": 2}'])
def test_a_file_that_is_something_else_is_refused_in_words(content: str) -> None:
    with pytest.raises(UsageError):
        registration.from_kit(content)


@pytest.mark.row("C2", missing=LATER_OF_C2)
@pytest.mark.parametrize(("name", "identity"), [("SITE_A", "site-a"), ("Uni of B!", "uni-of-b"), ("c", "c")])
def test_an_id_is_made_from_a_name(name: str, identity: str) -> None:
    assert registration.site_id_from(name) == identity


@pytest.mark.row("C2", missing=LATER_OF_C2)
def test_authorities_and_namespaces_go_in_pairs(pem: str, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("some words before\n" + pem)
    made = registration.authorities([file, file], ["/O=A/OU=Hosts/*", "/O=A/*; /O=B/*"])
    assert made[0].certificate_pem == pem
    assert [list(authority.namespaces) for authority in made] == [["/O=A/OU=Hosts/*"], ["/O=A/*", "/O=B/*"]]
    with pytest.raises(UsageError, match="2 --ca and 1 --namespace"):
        registration.authorities([file, file], ["/O=A/*"])


@pytest.mark.row("C2", missing=LATER_OF_C2)
@pytest.mark.parametrize("content", ["", "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n", "two"])
def test_a_file_without_exactly_one_certificate_is_refused(pem: str, tmp_path: Path, content: str) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(pem + pem if content == "two" else content)
    with pytest.raises(UsageError):
        registration.authorities([file], [])
