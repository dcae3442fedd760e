"""Flow 6: a sign-in at a site ends while a worker at one replica copies, and is renewed; what is kept warm for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_testing.answer_cutting import Cut
from wherry_testing.deployment import Person
from wherry_testing.flow_callers import ReplicaCaller, copy_between, copy_of
from wherry_testing.flows import FILE_BY_FILE, FlowDeployment, in_state, under_way, until
from wherry_testing.running_copies import COPY_FILES, Folders, same_trees, write_many
from wherry_testing.sites import RealSite

pytestmark = [pytest.mark.row("W4"), pytest.mark.row("B4")]

MANY = 14
PARKED_WITHIN_S = 10.0
WIPED_WITHIN_S = 5.0
WAITING = pb.JOB_STATE_WAITING_FOR_SIGN_IN
_Sites = tuple[RealSite, RealSite]


def _end_session(flow: FlowDeployment, person: Person, site: str) -> None:
    """Has a session end now, as its time does: nobody is told but by the site service's own clock."""
    with person.wherry.client() as client:
        user = client.accounts.me().name
    statement = 'update site_session set expire_ms = :now where "user" = :user and site_id = :site'
    assert flow.change_rows_of("site", statement, now=int(time.time() * 1000), user=user, site=site) == 1


def _identities(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.fixture(autouse=True, scope="module")
def signed_in_in_the_end(flow: FlowDeployment, alice: Person, two_sites: _Sites) -> Iterator[None]:
    yield
    flow.start_both("site")
    flow.sign_in_at(alice, two_sites[1], "bob")


# --- in the middle of a real copy, and the feed that tells of it loses the message


@dataclass(frozen=True)
class Expired:
    """A copy during which the sign-in at its destination ended.

    Attributes:
        cuts: messages of the site service's feed that told the queue's replicas of it, and were lost.
        waiting: the job while it waited.
        running: tasks of it that ran then, by the queue's rows.
        arrived: the files that were there already.
        engines: processes of the worker, when the copy ran and when it waited.
        job: at its end.
    """

    folders: Folders
    cuts: Sequence[Cut]
    waiting: pb.Job
    running: int
    arrived: dict[str, tuple[int, int]]
    temporaries: Sequence[Path]
    job: pb.Job
    chunk: dict[str, Any]


@pytest.fixture(scope="module")
def expired(
    flow: FlowDeployment,
    alice: Person,
    first: ReplicaCaller,
    second: ReplicaCaller,
    two_sites: _Sites,
    fresh_folders: Callable[[], Folders],
) -> Expired:
    folders = fresh_folders()
    write_many(folders.source, MANY)
    folders.source_site.own("alice")
    with flow.worker(at=1, settings=FILE_BY_FILE):
        job = first.create(copy_between(folders))
        under_way(first, job.name, lambda: folders.arrived() >= 3)
        relays = [flow.relay("queue", "site", replica) for replica in (0, 1)]
        cuts = [relay.cut("WatchSessions", holding=b"sites/site-b") for relay in relays]
        _end_session(flow, alice, "site-b")
        waiting = in_state(first, job.name, WAITING, within_s=PARKED_WITHIN_S)
        running = len(flow.task_rows_running(job.name))
        until(lambda: not folders.temporaries(), "nothing unfinished is there", 10)
        arrived, temporaries = _identities(folders.destination / "data"), folders.temporaries()
        flow.sign_in_at(alice, two_sites[1], "bob")
        ended = second.ended(job.name)
    flow.disarm()
    (chunk,) = [row for row in flow.task_rows(job.name) if row["kind"] == COPY_FILES]
    return Expired(folders, cuts, waiting, running, arrived, temporaries, ended, chunk)


def test_a_job_whose_sign_in_ends_waits_for_the_next_one_and_names_the_site(expired: Expired) -> None:
    reason = expired.waiting.waiting_reason
    assert (reason.reason, reason.site) == ("SIGN_IN_REQUIRED", "sites/site-b")
    assert expired.running == 0
    assert 3 <= len(expired.arrived) < MANY


def test_the_end_of_a_session_is_heard_of_though_the_word_of_it_was_lost(expired: Expired) -> None:
    assert any(cut.done for cut in expired.cuts)
    assert expired.waiting.state == WAITING


def test_the_job_goes_on_by_itself_exactly_where_it_was(expired: Expired) -> None:
    assert expired.job.state == pb.JOB_STATE_SUCCEEDED
    assert same_trees(expired.folders.source, expired.folders.destination / "data")
    assert expired.arrived.items() <= _identities(expired.folders.destination / "data").items()


def test_the_end_of_a_session_counts_no_attempt_and_leaves_nothing_unfinished(expired: Expired) -> None:
    assert (expired.chunk["tries"], expired.chunk["lapses"]) == (0, 0)
    assert (expired.job.progress.files_done, expired.job.progress.files_failed) == (MANY, 0)
    assert expired.temporaries == []


# --- a site service that is down meanwhile


@pytest.fixture
def parked(flow: FlowDeployment, alice: Person, first: ReplicaCaller, synthetic: Callable[[str], str]) -> pb.Job:
    """A job that waits for the sign-in at its destination."""
    job = first.create(copy_of(synthetic("0x0x5"), synthetic("0x0x0")))
    _end_session(flow, alice, "site-b")
    return in_state(first, job.name, WAITING, within_s=PARKED_WITHIN_S)


def test_a_sign_in_is_not_lost_with_the_site_service_that_was_killed_before_it_told_of_it(
    flow: FlowDeployment, alice: Person, second: ReplicaCaller, two_sites: _Sites, parked: pb.Job
) -> None:
    relays = [flow.relay("queue", "site", replica) for replica in (0, 1)]
    for relay in relays:
        relay.sever()
    try:
        flow.sign_in_at(alice, two_sites[1], "bob")
        flow.kill_both("site")
    finally:
        for relay in relays:
            relay.restore()
    assert second.get(parked.name).state == WAITING
    flow.start_both("site")
    with flow.worker(at=1, pretending=[]):
        assert second.ended(parked.name).state == pb.JOB_STATE_SUCCEEDED


def test_a_session_that_ends_while_the_site_service_is_down_fails_nothing_and_parks_the_job(
    flow: FlowDeployment,
    alice: Person,
    first: ReplicaCaller,
    second: ReplicaCaller,
    two_sites: _Sites,
    synthetic: Callable[[str], str],
) -> None:
    flow.sign_in_at(alice, two_sites[1], "bob")
    job = first.create(copy_of(synthetic("0x0x5"), synthetic("0x0x0")))
    flow.kill_both("site")
    with flow.worker(at=1, pretending=["--credentials"]) as worker:
        until(lambda: worker.events("task_returned"), "the worker gets no credential, and gives the task back")
        _end_session(flow, alice, "site-b")
        flow.start_both("site")
        waiting = in_state(first, job.name, WAITING)
        assert waiting.waiting_reason.site == "sites/site-b"
        flow.sign_in_at(alice, two_sites[1], "bob")
        assert second.ended(job.name).state == pb.JOB_STATE_SUCCEEDED
    assert {row["tries"] for row in flow.task_rows(job.name)} == {0}


# --- a session that is too short to begin with


def test_nothing_starts_under_a_session_that_ends_too_soon(
    flow: FlowDeployment,
    alice: Person,
    first: ReplicaCaller,
    second: ReplicaCaller,
    two_sites: _Sites,
    fresh_folders: Callable[[], Folders],
) -> None:
    folders = fresh_folders()
    write_many(folders.source, 2)
    folders.source_site.own("alice")
    flow.sign_in_at(alice, two_sites[1], "bob", lifetime_s=60)
    with flow.worker(at=1):
        job = first.create(copy_between(folders))
        waiting = in_state(first, job.name, WAITING)
        assert waiting.waiting_reason.reason == "SESSION_TOO_SHORT"
        assert folders.arrived() == 0
        flow.sign_in_at(alice, two_sites[1], "bob")
        ended = second.ended(job.name)
    assert ended.state == pb.JOB_STATE_SUCCEEDED
    assert {row["tries"] for row in flow.task_rows(job.name)} == {0}
    assert same_trees(folders.source, folders.destination / "data")


# --- what is kept warm


@pytest.mark.row("S5", missing="a VO, a lifetime cut short in the browser")
@pytest.mark.parametrize("replica", [0, 1])
def test_a_sign_out_at_a_site_ends_warm_engines_that_do_nothing_at_whichever_replica_their_worker_is(
    flow: FlowDeployment,
    alice: Person,
    first: ReplicaCaller,
    two_sites: _Sites,
    fresh_folders: Callable[[], Folders],
    replica: int,
) -> None:
    folders = fresh_folders()
    write_many(folders.source, 1)
    folders.source_site.own("alice")
    with flow.worker(at=replica) as worker, alice.wherry.client() as client:
        assert first.ended(first.create(copy_between(folders)).name).state == pb.JOB_STATE_SUCCEEDED
        assert worker.children()
        assert flow.worker_keys()
        client.site_sessions.sign_out("site-b")
        try:
            until(lambda: not worker.children(), "the warm engines are gone", WIPED_WITHIN_S)
            until(lambda: not flow.worker_keys(), "their credentials are wiped", WIPED_WITHIN_S)
        finally:
            flow.sign_in_at(alice, two_sites[1], "bob")
