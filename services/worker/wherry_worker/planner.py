"""Chooses how a task is done: protocol, doors, engine. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wherry_worker.access import Endpoint, SiteAccess, Visit
from wherry_worker.engines import Plan
from wherry_worker.work import CopyChunk, WalkCopy, Work


class NoCommonProtocol(Exception):
    """The two sites have no door with the same protocol that this worker can drive."""


def plan(source: SiteAccess, destination: SiteAccess | None, engines: Mapping[str, str], attempt: int = 1) -> Plan:
    """Returns the plan for a task.

    `engines` maps the schemes that this worker drives, best first, to the engine for each. Each further `attempt` takes
    the next door of a site that has several, so that one that is down is passed over.

    Raises NoCommonProtocol.
    """
    for scheme, engine in engines.items():
        doors = _doors(source, scheme)
        if destination is None:
            if doors:
                return Plan(engine, Visit(source, _turn(doors, attempt)), None)
            continue
        others = _doors(destination, scheme)
        if doors and others:
            return Plan(engine, Visit(source, _turn(doors, attempt)), Visit(destination, _turn(others, attempt)))
    raise NoCommonProtocol


def allowed(engines: Mapping[str, str], work: Work) -> Mapping[str, str]:
    """Returns the engines of the schemes that a task may take, in its order where it has one."""
    asked = work.rules.protocols if isinstance(work, WalkCopy | CopyChunk) else ()
    return {scheme: engines[scheme] for scheme in asked if scheme in engines} if asked else engines


def _doors(site: SiteAccess, scheme: str) -> Sequence[Endpoint]:
    return [endpoint for endpoint in site.endpoints if endpoint.scheme == scheme]


def _turn(doors: Sequence[Endpoint], attempt: int) -> Endpoint:
    return doors[(attempt - 1) % len(doors)]
