"""What sites demand of the protection of bytes on their way, and whose demand it is. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from wherry_worker.access import SiteAccess
from wherry_worker.engine.messages import Problem, Protection
from wherry_worker.engine.protection import strongest

_NOT_PROTECTED = "DATA_CHANNEL_NOT_PROTECTED"


def demanded(sites: Iterable[SiteAccess]) -> Protection:
    """Returns the least that sites demand, whatever a job says: the strongest of their demands."""
    return strongest(*(site.data_channel for site in sites))


def with_policy(problem: Problem, sites: Iterable[SiteAccess]) -> Problem:
    """Returns why a copy was refused, with help that names the policy of a site that demands protected bytes.

    A job that asks for protection itself is told of it too: without its own wish, the site's demand would be no other.
    """
    demands = {site.site.removeprefix("sites/"): site.data_channel for site in sites if site.data_channel != "clear"}
    named = [f"{name} demands that bytes go {demand}" for name, demand in demands.items() if demand is not None]
    if problem.reason != _NOT_PROTECTED or not named:
        return problem
    both = "Both sites need servers that can do that, or the policy has to change: ask the sites' administrators."
    return replace(problem, help=f"The policy of {' and that of '.join(named)}. {both}")
