"""People in front of the page."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Locator, Page, expect
from wherry_testing.browser import Visit
from wherry_testing.deployment import Person
from wherry_testing.deployment_processes import wait_until
from wherry_testing.sites import RealSite


@dataclass(frozen=True)
class Visitor:
    """A person in front of the page.

    Attributes:
        person: their account, and the command as they run it.
        visit: their window.
        sites: by id, with the account that they have there.
    """

    person: Person
    visit: Visit
    sites: dict[str, tuple[RealSite, str]]

    @property
    def folder(self) -> str:
        """The name of a folder that is theirs alone, at every site."""
        return self.person.email.partition("@")[0]

    @property
    def page(self) -> Page:
        return self.visit.page

    def sign_in(self) -> None:
        """Signs in at Wherry, on the page."""
        self.visit.open()
        self.page.get_by_label("E-mail address").fill(self.person.email)
        self.page.get_by_label("Password", exact=True).fill(self.person.password)
        self.page.get_by_role("button", name="Sign in").click()
        self.pane("left").wait_for()

    def pane(self, side: str) -> Locator:
        """Returns a pane, `left` or `right`."""
        return self.page.locator(f"[data-pane={side}]")

    def row(self, side: str, name: str) -> Locator:
        """Returns a row of a pane's listing."""
        return self.pane(side).locator(f"[data-name={name!r}]")

    def choose(self, side: str, site: str) -> None:
        """Chooses a site in a pane."""
        self.pane(side).get_by_role("button", name="Change it").or_(
            self.pane(side).get_by_role("button", name="Choose a site")
        ).first.click()
        self.page.get_by_role("menuitem").filter(has_text=f"site {site}").click()

    def sign_in_at(self, side: str, site: str, password: str | None = None) -> None:
        """Fills in a pane's form and sends it."""
        real, username = self.sites[site]
        pane = self.pane(side)
        pane.get_by_label("User name").fill(username)
        pane.get_by_label("Password").fill(real.accounts[username] if password is None else password)
        pane.get_by_role("button", name="Sign in").click()

    def open_both(self) -> None:
        """Signs in at site-a on the left and site-b on the right, and shows the person's own folder at each.

        Home folders fill up in the course of many tests, and rows out of sight are not in the page.
        """
        places = {"left": "site-a", "right": "site-b"}
        for side, site in places.items():
            self.choose(side, site)
            self.sign_in_at(side, site)
            self.pane(side).get_by_role("grid").wait_for()
            self.home(site).mkdir(exist_ok=True)
            self.own(site)
        query = dict(places)
        query |= {f"{side}-path": f"/{self.sites[site][1]}/{self.folder}" for side, site in places.items()}
        self.visit.open(f"/files?{urlencode(query)}")
        for side in places:
            expect(self.pane(side).get_by_role("grid")).to_have_accessible_name(re.compile(self.folder))
            # A pane whose folder has not been listed yet takes no files.
            expect(self.pane(side)).to_contain_text("This folder is empty")

    def drag(self, row: Locator, target: Locator) -> None:
        """Drags a row onto something, as a hand does: the browser takes it up after a little way, and it is let go over
        a target that shows that it would take it."""
        expect(row).to_have_attribute("draggable", "true")
        row.hover()
        self.page.mouse.down()
        from_box, to_box = row.bounding_box(), target.bounding_box()
        assert from_box is not None
        assert to_box is not None
        self.page.mouse.move(from_box["x"] + from_box["width"] / 2 + 8, from_box["y"] + from_box["height"] / 2 + 4)
        x, y = to_box["x"] + to_box["width"] / 2, to_box["y"] + to_box["height"] / 2
        ways = itertools.cycle((-2, 2))

        def over() -> bool:
            self.page.mouse.move(x + next(ways), y, steps=3)
            return self.page.locator("[data-pane][data-over]").count() == 1

        wait_until(over, "the target takes what is dragged", 20, 0.05)
        self.page.mouse.up()

    def jobs(self) -> Locator:
        """Returns the transfers in the tray."""
        return self.page.locator("[data-job]")

    def home(self, site: str) -> Path:
        """Returns the person's own folder at a site, as the machine sees it."""
        real, username = self.sites[site]
        return real.data_dir(username) / self.folder

    def own(self, site: str) -> None:
        """Gives what was put into the person's folder to them."""
        real, username = self.sites[site]
        real.own(username)
