"""The page in Debian's Chromium, through Envoy, on real services and real sites."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from wherry.site.v1 import site_service_pb2 as messages
from wherry_testing.browser import Visit, chromium
from wherry_testing.deployment import RealDeployment
from wherry_testing.sites import RealSite
from wherry_testing.visitors import Visitor


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for the tests of one module: see `wherry_testing.browser`."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def centre(two_sites: tuple[RealSite, RealSite], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealDeployment]:
    """A deployment that shows both sites to everybody; its services may be stopped and started."""
    settings = {"lease": "ttl_s = 20\nheartbeat_s = 3\nback_off_s = 0.5"}
    with RealDeployment(tmp_path_factory.mktemp("web") / "centre", settings=settings) as deployment:
        owner = deployment.person("owner@example.org")
        for site in two_sites:
            deployment.add_site(owner, site)
            with owner.wherry.client() as client:
                client.sites.update(messages.Site(name=f"sites/{site.name}", public=True), ["public"])
        yield deployment


@pytest.fixture
def visitor(
    centre: RealDeployment,
    two_sites: tuple[RealSite, RealSite],
    browser: Browser,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Iterator[Visitor]:
    """Somebody new, who has an account and has signed in nowhere. A test that fails leaves a picture."""
    person = centre.person(f"visitor-{secrets.token_hex(4)}@example.org")
    site_a, site_b = two_sites
    visit = Visit(browser, centre.gateway_url)
    failed = request.session.testsfailed
    yield Visitor(person, visit, {"site-a": (site_a, "alice"), "site-b": (site_b, "bob")})
    if request.session.testsfailed > failed:
        visit.screenshot(tmp_path / "window.png")
    visit.close()


@pytest.fixture
def folders(two_sites: tuple[RealSite, RealSite]) -> Callable[[], tuple[Path, Path]]:
    """Makes a folder of a name of its own at each site; returns both, as the machine sees them."""

    def make() -> tuple[Path, Path]:
        name = f"web-{secrets.token_hex(4)}"
        made = []
        for site, user in zip(two_sites, ("alice", "bob"), strict=True):
            folder = site.data_dir(user) / name
            folder.mkdir()
            site.own(user)
            made.append(folder)
        return made[0], made[1]

    return make
