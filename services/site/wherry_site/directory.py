"""What the queue asks of sites: who sees which, and until when they are signed in there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from wherry_site.names import site_id, site_name
from wherry_site.sessions import SealedSession, SiteSession
from wherry_site.sites import Site
from wherry_site.vault import Vault

_ACCOUNT = "{user}"
"""In a default path: the account's name at the site, as in `/data/{user}`."""


@dataclass(frozen=True, slots=True)
class ResolvedSite:
    """A site as the queue needs it.

    Attributes:
        site: the site.
        default_path: where the user's relative paths begin.
        session_expire_ms: the end of the user's session there; None without one.
    """

    site: Site
    default_path: str
    session_expire_ms: int | None


class DirectoryStore(Protocol):
    """Has sites and sessions."""

    async def resolve(
        self, user: str, site_ids: Sequence[str], now_ms: int
    ) -> tuple[Mapping[str, Site], Mapping[str, SealedSession]]:
        """Returns the named sites that the user sees, and the user's live sessions, by site id."""
        ...


class SiteDirectory:
    """Resolves sites for a user.

    Args:
        store: has sites and sessions.
        vault: opens the credentials of sessions.
        now_ms: the clock.
    """

    def __init__(self, store: DirectoryStore, vault: Vault, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._vault = vault
        self._now_ms = now_ms

    async def resolve(self, user: str, names: Sequence[str]) -> Sequence[ResolvedSite]:
        """Returns the sites that the user sees, in the order asked."""
        wanted = list(dict.fromkeys(site_id(name) for name in names))
        sites, sealed = await self._store.resolve(user, wanted, self._now_ms())
        # A session that no worker can be given is as good as none: a job that was told of it would ask for it for ever.
        sessions = {site: one.session for site, one in sealed.items() if self._opens(one)}
        return [
            ResolvedSite(sites[one], default_path(sites[one], session := sessions.get(one)), _end(session))
            for one in wanted
            if one in sites
        ]

    def _opens(self, one: SealedSession) -> bool:
        return self._vault.opens(one.sealed, user=one.session.user, site=site_name(one.session.site_id))


def default_path(site: Site, session: SiteSession | None) -> str:
    """Returns where a user's relative paths begin at a site.

    `{user}` in a site's default path stands for the account's name there. While nobody is signed in, or where the name
    cannot be part of a path, the path ends before the part that has it.
    """
    path = site.draft.default_path
    if _ACCOUNT not in path:
        return path
    if session is not None and "/" not in session.username and session.username not in {".", ".."}:
        return path.replace(_ACCOUNT, session.username)
    return path.split(_ACCOUNT, 1)[0].rpartition("/")[0] or "/"


def _end(session: SiteSession | None) -> int | None:
    return None if session is None else session.expire_ms
