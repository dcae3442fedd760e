"""A service that is away is said to be, and everything goes on by itself when it is back."""

from __future__ import annotations

import secrets

import pytest
from playwright.sync_api import expect
from wherry_testing.deployment import RealDeployment
from wherry_testing.visitors import Visitor

_V25 = "every screen there will be"
BACK_WITHIN_MS = 40_000
_BROUGHT_ABOUT = ("Failed to load resource", "ERR_", "net::")
"""What the browser itself says of requests that fail."""


@pytest.mark.row("V25", missing=_V25)
@pytest.mark.row("V26", missing="every screen there will be")
def test_a_stopped_queue_is_said_to_be_away_and_the_page_goes_on_when_it_is_back(
    visitor: Visitor, centre: RealDeployment
) -> None:
    visitor.sign_in()
    visitor.open_both()
    folder = visitor.home("site-a") / f"late {secrets.token_hex(3)}"
    folder.mkdir()
    visitor.own("site-a")
    centre.stop_service("queue")
    try:
        expect(visitor.page.get_by_text("The queue service is not reachable").first).to_be_visible()
        expect(visitor.page.get_by_text("Connection lost")).to_be_visible()
    finally:
        centre.start_service("queue")
    expect(visitor.page.get_by_text("The queue service is not reachable")).to_have_count(0, timeout=BACK_WITHIN_MS)
    expect(visitor.page.get_by_text("Connection lost")).to_have_count(0, timeout=BACK_WITHIN_MS)
    visitor.pane("left").get_by_role("button", name="Refresh").click()
    visitor.row("left", folder.name).wait_for()
    visitor.drag(visitor.row("left", folder.name), visitor.pane("right").get_by_role("grid"))
    expect(visitor.jobs()).to_have_attribute("data-state", "succeeded", timeout=BACK_WITHIN_MS)
    visitor.visit.must_be_clean(but=_BROUGHT_ABOUT)


@pytest.mark.row("V25", missing=_V25)
def test_a_stopped_user_service_signs_nobody_out(visitor: Visitor, centre: RealDeployment) -> None:
    visitor.sign_in()
    centre.stop_service("user")
    try:
        visitor.page.reload()
        expect(visitor.page.get_by_text("The user service is not reachable").first).to_be_visible()
        expect(visitor.page.get_by_label("E-mail address")).to_have_count(0)
    finally:
        centre.start_service("user")
    expect(visitor.pane("left")).to_be_visible(timeout=BACK_WITHIN_MS)


@pytest.mark.row("V25", missing=_V25)
def test_a_gateway_that_was_away_is_found_again_without_a_reload(visitor: Visitor, centre: RealDeployment) -> None:
    visitor.sign_in()
    visitor.open_both()
    centre.gateway.kill()
    expect(visitor.page.get_by_text("Connection lost")).to_be_visible()
    centre.gateway.start()
    centre.wait_for_gateway()
    expect(visitor.page.get_by_text("Connection lost")).to_have_count(0, timeout=BACK_WITHIN_MS)
    visitor.pane("right").get_by_role("button", name="Refresh").click()
    expect(visitor.pane("right").get_by_role("grid")).to_be_visible()
    visitor.visit.must_be_clean(but=_BROUGHT_ABOUT)
