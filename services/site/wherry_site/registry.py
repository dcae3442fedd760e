"""Registering sites: who may see, make and change what."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime as dt
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from wherry_chassis.errors import FieldProblem, InvalidFields

from wherry_site.audit import Action, AuditEvent
from wherry_site.authorities import Authority, parse_authorities
from wherry_site.egress import Egress
from wherry_site.errors import EndpointExists, EndpointNotFound, EtagMismatch, SiteNotFound
from wherry_site.sites import (
    CHANGEABLE_ENDPOINT_FIELDS,
    CHANGEABLE_SITE_FIELDS,
    Endpoint,
    Site,
    SiteDraft,
    draft_problems,
    duplicate_doors,
    endpoint_problems,
    fields_to_change,
    is_site_id,
    parse_address,
)

PAGE_DEFAULT, PAGE_MAX = 100, 1000
ENDPOINTS_MAX = 64


@dataclass(frozen=True, slots=True)
class Actor:
    """The user who acts, and where their connection comes from."""

    user: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class DraftInput:
    """What a request says about a site, its CAs not yet parsed: (PEM, namespaces) each."""

    draft: SiteDraft
    authorities: Sequence[tuple[str, Sequence[str]]] = ()
    endpoints: Sequence[Endpoint] = ()


class SiteStore(Protocol):
    """Keeps sites."""

    async def site(self, site_id: str) -> Site | None:
        """Returns a site."""
        ...

    async def visible_sites(self, user: str, *, after: str = "", limit: int) -> Sequence[Site]:
        """Returns the public sites and the user's own whose id is behind `after`, by id."""
        ...

    async def add_site(self, site: Site, event: AuditEvent) -> None:
        """Adds a site.

        Raises:
            SiteExists: the id is taken.
            TitleTaken: a public site, or one of the same owner, has a title that is taken for this one.
            InvalidFields: a CA's subject is known under another key.
        """
        ...

    async def replace_site(self, site: Site, event: AuditEvent) -> None:
        """Puts `site` in the place of its revision before (`site.revision - 1`), its endpoints included.

        Sessions at it end if its CAs or its sign-in address are not what they were.

        Raises:
            EtagMismatch: the stored one is of another revision, or gone.
            TitleTaken, InvalidFields: as for `add_site`.
        """
        ...

    async def remove_site(self, site: Site, event: AuditEvent) -> None:
        """Deletes a site of this very revision with endpoints and sessions; raises EtagMismatch as above."""
        ...


class SiteRegistry:
    """Sites as their users and owners meet them.

    Args:
        store: keeps them.
        egress: says which hosts may be named.
        now_ms: the time, milliseconds since the epoch.
        new_id: makes ids for endpoints.
    """

    def __init__(
        self, store: SiteStore, egress: Egress, *, now_ms: Callable[[], int], new_id: Callable[[], str]
    ) -> None:
        self._store = store
        self._egress = egress
        self._now_ms = now_ms
        self._new_id = new_id

    async def get(self, user: str, site_id: str) -> Site:
        """Returns a site that the user sees; raises SiteNotFound for any other."""
        site = await self._store.site(site_id)
        if site is None or not site.visible_to(user):
            raise SiteNotFound(site=f"sites/{site_id}")
        return site

    async def page(self, user: str, page_size: int, page_token: str) -> tuple[Sequence[Site], str]:
        """Returns a page of the sites that the user sees, by id, and the token of the next ("" behind the last)."""
        size = min(page_size or PAGE_DEFAULT, PAGE_MAX)
        found = await self._store.visible_sites(user, after=_after(page_token), limit=size + 1)
        if len(found) <= size:
            return found, ""
        return found[:size], base64.urlsafe_b64encode(found[size - 1].id.encode()).decode()

    async def create(self, actor: Actor, site_id: str, given: DraftInput) -> Site:
        """Registers a site; the actor becomes its owner. Raises as CreateSite says."""
        now_ms = self._now_ms()
        problems = [] if is_site_id(site_id) else [FieldProblem("site_id", "lower-case letters, digits and dashes")]
        authorities, faults = self._authorities(given)
        draft = dataclasses.replace(given.draft, authorities=tuple(authorities))
        problems += draft_problems(draft) + faults
        for index, endpoint in enumerate(given.endpoints):
            problems += endpoint_problems(endpoint, f"site.endpoints[{index}].")
        problems += [
            FieldProblem(f"site.endpoints[{index}]", "repeats an endpoint before it")
            for index in duplicate_doors(given.endpoints)
        ]
        if problems:
            raise InvalidFields(*problems)
        await self._egress.check(parse_address(draft.auth_address).host, "site.auth_address")
        for index, endpoint in enumerate(given.endpoints):
            await self._egress.check(endpoint.host, f"site.endpoints[{index}].host")
        endpoints = tuple(dataclasses.replace(endpoint, id=self._new_id()) for endpoint in given.endpoints)
        site = Site(site_id, actor.user, draft, endpoints, now_ms, now_ms)
        await self._store.add_site(site, self._event(Action.SITE_CREATED, actor, site))
        return site

    async def update(
        self, actor: Actor, site_id: str, given: DraftInput, mask: Collection[str], filled: Collection[str], etag: str
    ) -> Site:
        """Changes the fields of `mask` (all of `filled` where it is empty). Raises as UpdateSite says."""
        site = await self._own(actor, site_id, etag)
        names = _fields(mask, filled, CHANGEABLE_SITE_FIELDS)
        changes = {name: getattr(given.draft, name) for name in names - {"certificate_authorities"}}
        problems: list[FieldProblem] = []
        if "certificate_authorities" in names:
            changes["authorities"], problems = self._authorities(given)
        draft = dataclasses.replace(site.draft, **changes)
        # What is not changed was fit when it was stored.
        problems += [p for p in draft_problems(draft) if p.field.removeprefix("site.") in names]
        if problems:
            raise InvalidFields(*problems)
        if "auth_address" in names:
            await self._egress.check(parse_address(draft.auth_address).host, "site.auth_address")
        return await self._replace(actor, dataclasses.replace(site, draft=draft))

    async def delete(self, actor: Actor, site_id: str, etag: str) -> None:
        """Deletes a site with its endpoints and everybody's sessions at it. Raises as DeleteSite says."""
        site = await self._own(actor, site_id, etag)
        await self._store.remove_site(site, self._event(Action.SITE_DELETED, actor, site))

    async def add_endpoint(self, actor: Actor, site_id: str, endpoint: Endpoint) -> tuple[Site, Endpoint]:
        """Adds a door. Raises as CreateEndpoint says."""
        site = await self._own(actor, site_id, "")
        if len(site.endpoints) >= ENDPOINTS_MAX:
            raise InvalidFields(FieldProblem("endpoint", f"a site has at most {ENDPOINTS_MAX} endpoints"))
        added = dataclasses.replace(endpoint, id=self._new_id())
        await self._check_endpoint(added, site.endpoints)
        return await self._replace(actor, dataclasses.replace(site, endpoints=(*site.endpoints, added))), added

    async def update_endpoint(
        self,
        actor: Actor,
        site_id: str,
        endpoint: Endpoint,
        mask: Collection[str],
        filled: Collection[str],
    ) -> tuple[Site, Endpoint]:
        """Changes the fields of `mask` of the door with `endpoint.id`. Raises as UpdateEndpoint says."""
        site = await self._own(actor, site_id, "")
        index = _place(site, endpoint.id)
        names = _fields(mask, filled, CHANGEABLE_ENDPOINT_FIELDS)
        changed = dataclasses.replace(site.endpoints[index], **{name: getattr(endpoint, name) for name in names})
        others = [*site.endpoints[:index], *site.endpoints[index + 1 :]]
        await self._check_endpoint(changed, others)
        endpoints = (*site.endpoints[:index], changed, *site.endpoints[index + 1 :])
        return await self._replace(actor, dataclasses.replace(site, endpoints=endpoints)), changed

    async def delete_endpoint(self, actor: Actor, site_id: str, endpoint_id: str) -> None:
        """Removes a door. Raises as DeleteEndpoint says."""
        site = await self._own(actor, site_id, "")
        index = _place(site, endpoint_id)
        endpoints = (*site.endpoints[:index], *site.endpoints[index + 1 :])
        await self._replace(actor, dataclasses.replace(site, endpoints=endpoints))

    async def _own(self, actor: Actor, site_id: str, etag: str) -> Site:
        """Returns the actor's site; what is somebody else's, public or not, cannot be changed and is not found."""
        site = await self._store.site(site_id)
        if site is None or site.owner != actor.user:
            raise SiteNotFound(site=f"sites/{site_id}")
        if etag and etag != site.etag:
            raise EtagMismatch(site=site.name)
        return site

    async def _replace(self, actor: Actor, site: Site) -> Site:
        changed = dataclasses.replace(site, revision=site.revision + 1, update_ms=self._now_ms())
        await self._store.replace_site(changed, self._event(Action.SITE_UPDATED, actor, site))
        return changed

    async def _check_endpoint(self, endpoint: Endpoint, others: Sequence[Endpoint]) -> None:
        if problems := endpoint_problems(endpoint):
            raise InvalidFields(*problems)
        if duplicate_doors([*others, endpoint]):
            raise EndpointExists("endpoint", address=endpoint.address)
        await self._egress.check(endpoint.host, "endpoint.host")

    def _authorities(self, given: DraftInput) -> tuple[list[Authority], list[FieldProblem]]:
        return parse_authorities(given.authorities, dt.datetime.fromtimestamp(self._now_ms() / 1000, dt.UTC))

    def _event(self, action: Action, actor: Actor, site: Site) -> AuditEvent:
        return AuditEvent(self._now_ms(), action, actor.user, site.name, actor.address)


def _fields(mask: Collection[str], filled: Collection[str], changeable: Sequence[str]) -> frozenset[str]:
    try:
        return fields_to_change(mask, filled, changeable)
    except ValueError as error:
        raise InvalidFields(FieldProblem("update_mask", str(error))) from None


def _place(site: Site, endpoint_id: str) -> int:
    for index, endpoint in enumerate(site.endpoints):
        if endpoint.id == endpoint_id:
            return index
    raise EndpointNotFound(endpoint=f"{site.name}/endpoints/{endpoint_id}")


def _after(page_token: str) -> str:
    """Returns the id behind which a page begins."""
    try:
        after = base64.b64decode(page_token.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        after = "?"
    if after and not is_site_id(after):
        raise InvalidFields(FieldProblem("page_token", "not from an answer of ListSites"))
    return after
