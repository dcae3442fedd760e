"""What the queue asks the site service: which sites a user sees, and until when they are signed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from wherry_chassis.errors import DomainError, Kind


class SiteNotFound(DomainError):
    """There is no site {site} that you can see."""

    kind = Kind.NOT_FOUND
    reason = "SITE_NOT_FOUND"


class SignInRequired(DomainError):
    """Sign in at {title} first: you have no valid session at {site}."""

    kind = Kind.FAILED_PRECONDITION
    reason = "SITE_SIGN_IN_REQUIRED"


class SitesUnavailable(DomainError):
    """The site service cannot be asked at the moment; try again shortly."""

    kind = Kind.UNAVAILABLE
    reason = "SITES_UNAVAILABLE"


class NoCommonProtocol(DomainError):
    """{source} and {destination} share no protocol that the copy may take: {offered}."""

    kind = Kind.FAILED_PRECONDITION
    reason = "NO_COMMON_PROTOCOL"


@dataclass(frozen=True, slots=True)
class ResolvedSite:
    """A site as a user sees it.

    Attributes:
        name: `sites/{site}`.
        schemes: the protocols of its doors.
        session_expires_s: end of the user's session there, seconds since the epoch; None: not signed in.
    """

    name: str
    title: str
    default_path: bytes
    schemes: Sequence[str]
    session_expires_s: float | None


class SiteDirectory(Protocol):
    """Knows sites."""

    async def resolve(self, user: str, sites: Sequence[str]) -> dict[str, ResolvedSite]:
        """Returns the sites that the user sees, by name; raises SitesUnavailable."""
        ...


async def signed_in(directory: SiteDirectory, user: str, sites: Sequence[str], now_s: float) -> dict[str, ResolvedSite]:
    """Returns all of `sites`, at which the user is signed in.

    Raises:
        SiteNotFound, SignInRequired: for the first that is not so.
    """
    wanted = list(dict.fromkeys(sites))
    found = await directory.resolve(user, wanted)
    for name in wanted:
        site = found.get(name)
        if site is None:
            raise SiteNotFound(site=name)
        if site.session_expires_s is None or site.session_expires_s <= now_s:
            raise SignInRequired(site=name, title=site.title or name)
    return found


def check_protocols(source: ResolvedSite, destination: ResolvedSite, asked: Sequence[str]) -> None:
    """Raises NoCommonProtocol where no protocol of the two is among those `asked` for; empty: any."""
    shared = [scheme for scheme in source.schemes if scheme in destination.schemes]
    if any(scheme in shared for scheme in asked or shared):
        return
    both = {source.name: source, destination.name: destination}
    offered = ", ".join(f"{name} has {_listed(site.schemes)}" for name, site in both.items())
    wanted = f"; {_listed(asked)} was asked for" if asked else ""
    raise NoCommonProtocol(source=source.name, destination=destination.name, offered=offered + wanted)


def _listed(schemes: Sequence[str]) -> str:
    return " and ".join(schemes) or "no door"
