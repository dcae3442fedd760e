"""What the end-to-end tests share. Each folder has a deployment of its own, which ends with the folder's last test."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest
from wherry_testing.running_copies import Folders
from wherry_testing.sites import RealSite


@pytest.fixture(scope="session")
def fresh_folders(two_sites: tuple[RealSite, RealSite]) -> Callable[[], Folders]:
    """Makes an empty folder for a copy at each site: of alice at site-a, of bob at site-b."""
    site_a, site_b = two_sites

    def make() -> Folders:
        name = f"copy-{secrets.token_hex(4)}"
        for site, user in ((site_a, "alice"), (site_b, "bob")):
            (site.data_dir(user) / name).mkdir()
            site.own(user)
        return Folders(site_a, site_a.data_dir("alice") / name, site_b, site_b.data_dir("bob") / name)

    return make
