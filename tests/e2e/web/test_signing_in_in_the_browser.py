"""Signing in and out on the page: at Wherry, and at sites inside their panes."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import Browser, expect
from wherry_testing.browser import Visit
from wherry_testing.deployment import RealDeployment
from wherry_testing.deployment_processes import wait_until
from wherry_testing.visitors import Visitor

_U3 = "session length, idle time-out"
_V16 = "VO choice, an untrusted server, a lifetime cut short"
_ACCESS = "__Host-wherry-access"
REVOKED_WITHIN_S = 5.0


@pytest.mark.row("U3", missing=_U3)
@pytest.mark.row("V21", missing="register, verify, reset, OIDC, sessions, tokens, notifications, delete")
def test_a_wrong_password_is_refused_in_words_and_a_right_one_lets_in(visitor: Visitor) -> None:
    page = visitor.visit.open()
    page.get_by_label("E-mail address").fill(visitor.person.email)
    page.get_by_label("Password", exact=True).fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("The address or the password is not right.")).to_be_visible()
    page.get_by_label("Password", exact=True).fill(visitor.person.password)
    page.get_by_role("button", name="Sign in").click()
    expect(visitor.pane("left")).to_be_visible()
    visitor.visit.must_be_clean()


@pytest.mark.row("V25", missing="every screen there will be")
def test_no_script_can_read_a_token(visitor: Visitor) -> None:
    visitor.sign_in()
    found = visitor.page.evaluate("JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}])")
    tokens = {cookie["value"] for cookie in visitor.visit.context.cookies() if "wherry" in str(cookie["name"])}
    assert len(tokens) == 2
    assert not [token for token in tokens if token in found]
    assert all(
        cookie["httpOnly"] and cookie["secure"] and cookie["sameSite"] == "Strict"
        for cookie in visitor.visit.context.cookies()
    )


@pytest.mark.row("U3", missing=_U3)
@pytest.mark.row("D15")
def test_signing_out_ends_the_session_also_for_a_copy_of_its_cookie(
    visitor: Visitor, centre: RealDeployment, browser: Browser
) -> None:
    visitor.sign_in()
    stolen = visitor.visit.context.cookies()
    (token,) = [cookie["value"] for cookie in stolen if cookie["name"] == _ACCESS]
    assert _status(centre, token) == 200
    visitor.page.get_by_role("button", name="Account of").click()
    visitor.page.get_by_role("menuitem", name="Sign out").click()
    expect(visitor.page.get_by_label("E-mail address")).to_be_visible()
    assert [cookie for cookie in visitor.visit.context.cookies() if "wherry" in str(cookie["name"])] == []
    wait_until(lambda: _status(centre, token) == 401, "the copied cookie is refused", REVOKED_WITHIN_S, 0.1)
    thief = Visit(browser, centre.gateway_url)
    thief.context.add_cookies(stolen)  # type: ignore[arg-type]  # what cookies() gives is what add_cookies() takes
    thief.open()
    expect(thief.page.get_by_label("E-mail address")).to_be_visible()
    thief.close()


@pytest.mark.row("U3", missing=_U3)
def test_signing_out_in_one_tab_signs_out_in_the_others(visitor: Visitor) -> None:
    visitor.sign_in()
    other = visitor.visit.context.new_page()
    other.goto("/")
    expect(other.locator("[data-pane=left]")).to_be_visible()
    visitor.page.get_by_role("button", name="Account of").click()
    visitor.page.get_by_role("menuitem", name="Sign out").click()
    expect(other.get_by_label("E-mail address")).to_be_visible()


@pytest.mark.row("U3", missing=_U3)
def test_an_access_cookie_that_is_gone_is_renewed_without_a_word(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.visit.context.clear_cookies(name=_ACCESS)
    visitor.page.reload()
    expect(visitor.pane("left")).to_be_visible()
    assert [cookie for cookie in visitor.visit.context.cookies() if cookie["name"] == _ACCESS]


@pytest.mark.row("V16", missing=_V16)
def test_a_site_is_signed_in_to_inside_its_pane_and_says_where_the_password_goes(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.choose("left", "site-a")
    site, _ = visitor.sites["site-a"]
    expect(visitor.pane("left")).to_contain_text(f"localhost:{site.myproxy_port}")
    visitor.sign_in_at("left", "site-a")
    expect(visitor.pane("left").get_by_role("grid")).to_be_visible()
    expect(visitor.pane("left")).to_contain_text("left")
    visitor.visit.must_be_clean()


@pytest.mark.row("V16", missing=_V16)
def test_a_wrong_password_at_a_site_is_told_apart_and_nothing_is_lost(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.choose("left", "site-a")
    visitor.sign_in_at("left", "site-a", password="not the password")
    pane = visitor.pane("left")
    expect(pane.get_by_text("does not accept this user name with this password")).to_be_visible()
    expect(pane.get_by_label("User name")).to_have_value("alice")
    expect(pane.get_by_label("Password")).to_have_value("")


@pytest.mark.row("V16", missing=_V16)
def test_a_sign_in_server_that_is_down_is_told_apart(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.choose("left", "site-a")
    site, _ = visitor.sites["site-a"]
    site.stop()
    try:
        visitor.sign_in_at("left", "site-a")
        expect(visitor.pane("left").get_by_text("does not answer")).to_be_visible(timeout=30_000)
    finally:
        site.start()
    visitor.sign_in_at("left", "site-a")
    expect(visitor.pane("left").get_by_role("grid")).to_be_visible()


def _status(centre: RealDeployment, token: str) -> int:
    """Asks who the token's user is; returns the HTTP status."""
    request = urllib.request.Request(f"{centre.gateway_url}/v1/users/me", headers={"authorization": f"Bearer {token}"})
    trust = ssl.create_default_context(cafile=str(centre.folder / "trust" / "web-ca.pem"))
    try:
        with urllib.request.urlopen(request, context=trust, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code
