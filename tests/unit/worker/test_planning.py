"""Which protocol, doors and engine a task takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from wherry_worker.access import Endpoint, SiteAccess
from wherry_worker.planner import NoCommonProtocol, allowed, plan
from wherry_worker.work import CopyChunk, CopyRules, ListOne, WalkCopy, Work

ENGINES = {"gsiftp": "pipelined", "https": "http"}


def walk(*protocols: str) -> Work:
    return WalkCopy("/x", "/y", True, True, "", CopyRules(protocols=protocols))


def chunk(*protocols: str) -> Work:
    return CopyChunk("/x", "/y", (), b"", CopyRules(protocols=protocols))


def site(name: str, *schemes: str) -> SiteAccess:
    doors = tuple(Endpoint(scheme, f"{name}.example", 2811, "/") for scheme in schemes)
    return SiteAccess(f"sites/{name}", doors, (), f"sites/{name}#1", None, b"")


@pytest.mark.row("J1")
@pytest.mark.parametrize("work", [walk, chunk])
def test_a_copy_takes_the_first_protocol_that_was_asked_for_and_both_sites_have(work: Callable[..., Work]) -> None:
    both = site("a", "gsiftp", "https"), site("b", "https", "gsiftp")
    asked = allowed(ENGINES, work("root", "https", "gsiftp"))
    assert plan(*both, asked).engine == "http"
    assert plan(site("a", "gsiftp"), both[1], asked).engine == "pipelined"


@pytest.mark.row("J1")
@pytest.mark.parametrize("work", [walk, chunk])
def test_a_copy_takes_no_protocol_but_those_that_were_asked_for(work: Callable[..., Work]) -> None:
    with pytest.raises(NoCommonProtocol):
        plan(site("a", "gsiftp"), site("b", "gsiftp"), allowed(ENGINES, work("https")))
    with pytest.raises(NoCommonProtocol):
        plan(site("a", "gsiftp", "root"), site("b", "gsiftp", "root"), allowed(ENGINES, work("root")))


@pytest.mark.row("J1")
@pytest.mark.parametrize("work", [walk(), chunk(), ListOne("/")])
def test_where_nothing_is_asked_for_the_worker_prefers(work: Work) -> None:
    assert plan(site("a", "https", "gsiftp"), None, allowed(ENGINES, work)).engine == "pipelined"
