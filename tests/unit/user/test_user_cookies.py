"""The cookies of a browser's session, to the letter."""

from __future__ import annotations

import dataclasses

import pytest
from wherry_user import cookies
from wherry_user.sessions import TokenPair

NOW_MS = 1_700_000_000_000
PAIR = TokenPair("a.b-c.d_e", NOW_MS + 600_000, "r-e_f", NOW_MS + 86_400_999)
GUARDED = "HttpOnly; Secure; SameSite=Strict"


@pytest.mark.row("U3")
def test_cookies_have_the_attributes_that_keep_them_from_scripts_and_other_sites() -> None:
    assert cookies.issued(PAIR, NOW_MS) == (
        f"__Host-wherry-access=a.b-c.d_e; Path=/; Max-Age=600; {GUARDED}",
        f"__Secure-wherry-refresh=r-e_f; Path=/wherry.user.v1.SessionService; Max-Age=86400; {GUARDED}",
    )


@pytest.mark.row("U3")
def test_withdrawn_cookies_have_the_name_and_path_of_those_that_they_replace() -> None:
    assert cookies.withdrawn() == (
        f"__Host-wherry-access=; Path=/; Max-Age=0; {GUARDED}",
        f"__Secure-wherry-refresh=; Path=/wherry.user.v1.SessionService; Max-Age=0; {GUARDED}",
    )


@pytest.mark.row("U3")
def test_a_cookie_lives_as_long_as_what_it_holds_and_not_a_second_longer() -> None:
    access, refresh = cookies.issued(PAIR, NOW_MS + 599_001)
    assert "; Max-Age=0;" in access
    assert "; Max-Age=85801;" in refresh
    late = dataclasses.replace(PAIR, access_expires_ms=NOW_MS - 5_000)
    assert "; Max-Age=0;" in cookies.issued(late, NOW_MS)[0]
