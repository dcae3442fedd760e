from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from wherry_chassis.identity import (
    Caller,
    Peer,
    UserClaims,
    current_caller,
    grid_subject,
    normalise_subject,
    set_caller,
)


def _name(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


@pytest.mark.parametrize(
    ("written", "subject"),
    [
        ("/O=Wherry/CN=worker", "/O=Wherry/CN=worker"),
        ("CN=worker,O=Wherry", "/O=Wherry/CN=worker"),
        ("CN=worker, O=Wherry", "/O=Wherry/CN=worker"),
        ("cn=worker,o=Wherry", "/O=Wherry/CN=worker"),
        ("/DC=org/DC=example/cn=host/a.example.org", "/DC=org/DC=example/CN=host/a.example.org"),
        ("CN=host/a.example.org,DC=example,DC=org", "/DC=org/DC=example/CN=host/a.example.org"),
        (r"CN=Doe\, Jane,O=Wherry", "/O=Wherry/CN=Doe, Jane"),
        (r"CN=J\C3\BCrgen,O=Wherry", "/O=Wherry/CN=Jürgen"),
        ("CN=a+UID=b,O=Wherry", "/O=Wherry/CN=a/UID=b"),
        ("emailAddress=a@example.org,O=Wherry", "/O=Wherry/emailAddress=a@example.org"),
        ("/O=Wherry/E=a@example.org", "/O=Wherry/emailAddress=a@example.org"),
        (r"/O=Wherry\/CN=operator", r"/O=Wherry\/CN=operator"),
    ],
)
def test_a_subject_is_read_in_the_grid_form_and_in_rfc_4514(written: str, subject: str) -> None:
    assert normalise_subject(written) == subject


@pytest.mark.parametrize(
    "text", ["", "worker", "/worker", "/CN=", "/=x", "CN=,O=Wherry", "O = Wherry, CN = worker", "/"]
)
def test_what_is_no_subject_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no certificate subject"):
        normalise_subject(text)


@pytest.mark.row("A1", missing="every RPC x every role end to end")
def test_no_certificate_can_be_written_so_that_it_reads_as_somebody_else() -> None:
    operator = _name((NameOID.ORGANIZATION_NAME, "Wherry"), (NameOID.COMMON_NAME, "operator"))
    for impostor in (
        _name((NameOID.ORGANIZATION_NAME, "Wherry/CN=operator")),
        _name((NameOID.ORGANIZATION_NAME, r"Wherry\/CN=operator")),
    ):
        assert grid_subject(impostor) != grid_subject(operator)


_ATTRIBUTES = st.tuples(
    st.sampled_from(
        [NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.DOMAIN_COMPONENT]
    ),
    st.text("aZ0 ./=\\,+é", min_size=1, max_size=12),
)


@given(st.lists(_ATTRIBUTES, min_size=1, max_size=4))
def test_the_grid_form_is_its_own_normal_form(parts: list[tuple[x509.ObjectIdentifier, str]]) -> None:
    subject = grid_subject(_name(*parts))
    assert normalise_subject(subject) == subject


@given(st.lists(_ATTRIBUTES, min_size=1, max_size=4), st.lists(_ATTRIBUTES, min_size=1, max_size=4))
def test_different_names_have_different_grid_forms(
    one: list[tuple[x509.ObjectIdentifier, str]], other: list[tuple[x509.ObjectIdentifier, str]]
) -> None:
    assert (grid_subject(_name(*one)) == grid_subject(_name(*other))) == (one == other)


def test_an_attribute_without_a_short_name_shows_its_number() -> None:
    assert grid_subject(_name((NameOID.TITLE, "Dr"), (NameOID.COMMON_NAME, "x"))) == "/2.5.4.12=Dr/CN=x"


def test_a_servicer_learns_who_calls() -> None:
    caller = Caller(Peer("/CN=client", "00", frozenset()), UserClaims("users/alice", "s", 0), "ipv4:127.0.0.1:1")
    set_caller(caller)
    assert current_caller().user_name == "users/alice"


def test_code_that_needs_a_user_fails_where_the_table_let_a_call_without_one_through() -> None:
    with pytest.raises(LookupError):
        _ = Caller(Peer("/CN=client", "00", frozenset()), None, "").user_name
