"""Flow 7: sign-out at a site, sign-out of Wherry, and the end of an account, across both replicas."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_testing.deployment import Person
from wherry_testing.deployment_processes import is_alive
from wherry_testing.flow_callers import ReplicaCaller, copy_between, copy_of
from wherry_testing.flows import FILE_BY_FILE, FlowDeployment, in_state, under_way, until
from wherry_testing.leaving import Leaver, confirmed, outbox, swept
from wherry_testing.running_copies import Folders, same_trees, write_many
from wherry_testing.sites import RealSite

MANY = 14
REVOKED_WITHIN_S = 5.0
CONFIRMED_WITHIN_S = 100.0
_Sites = tuple[RealSite, RealSite]


# --- the end of an account, with the queue away


@pytest.mark.row("U6", missing="export of one's data")
def test_a_deletion_waits_for_a_queue_that_is_away(leaver: Leaver) -> None:
    assert leaver.kept


@pytest.mark.row("U6", missing="export of one's data")
def test_a_queue_that_was_away_cancels_the_jobs_when_it_is_back(flow: FlowDeployment, leaver: Leaver) -> None:
    until(lambda: flow.job_row(leaver.job)["ended_ms"], "the job has ended", 10)
    row = flow.job_row(leaver.job)
    assert row["cancelled"]
    assert row["files_done"] == 0


@pytest.mark.row("U6", missing="export of one's data")
def test_a_queue_that_was_away_gives_the_history_a_pseudonym(flow: FlowDeployment, leaver: Leaver) -> None:
    def names() -> list[str]:
        return [str(row["name"]) for row in flow.rows("select name from queue_user")]

    until(lambda: f"users/{leaver.user}" not in names(), "the user has another name", 10)
    assert any(name.startswith("users/deleted-") for name in names())


# --- sign-out at a site


@dataclass(frozen=True)
class SignedOut:
    """A copy whose user signed out at its destination in the middle, and in again.

    Attributes:
        held: files of keys while it ran.
        engines: processes that ran then.
        waiting: the job while it waited.
        left: files of keys then.
        job: at its end.
    """

    folders: Folders
    held: Sequence[Path]
    engines: Sequence[int]
    waiting: pb.Job
    left: Sequence[Path]
    job: pb.Job


@pytest.fixture(scope="module")
def signed_out(
    flow: FlowDeployment,
    alice: Person,
    first: ReplicaCaller,
    two_sites: _Sites,
    fresh_folders: Callable[[], Folders],
) -> SignedOut:
    folders = fresh_folders()
    write_many(folders.source, MANY)
    folders.source_site.own("alice")
    with flow.worker(at=1, settings=FILE_BY_FILE) as worker, alice.wherry.client() as client:
        job = first.create(copy_between(folders))
        under_way(first, job.name, lambda: folders.arrived() >= 2)
        held, engines = flow.worker_keys(), worker.children()
        client.site_sessions.sign_out("site-b")
        waiting = in_state(first, job.name, pb.JOB_STATE_WAITING_FOR_SIGN_IN, within_s=10)
        until(lambda: not any(is_alive(engine) for engine in engines), "the engines are gone", REVOKED_WITHIN_S)
        until(lambda: not flow.worker_keys(), "the credentials are wiped", REVOKED_WITHIN_S)
        left = flow.worker_keys()
        flow.sign_in_at(alice, two_sites[1], "bob")
        ended = first.ended(job.name)
    return SignedOut(folders, held, engines, waiting, left, ended)


@pytest.mark.row("W4")
def test_a_sign_out_at_a_site_parks_what_needs_it(signed_out: SignedOut) -> None:
    reason = signed_out.waiting.waiting_reason
    assert (reason.reason, reason.site) == ("SIGN_IN_REQUIRED", "sites/site-b")


@pytest.mark.row("S5", missing="a VO, a lifetime cut short in the browser")
def test_a_sign_out_at_a_site_ends_the_engines_and_wipes_their_credentials(signed_out: SignedOut) -> None:
    assert signed_out.engines
    assert signed_out.held
    assert signed_out.left == []


@pytest.mark.row("B4")
def test_what_was_parked_by_a_sign_out_goes_on_after_the_next_sign_in(signed_out: SignedOut) -> None:
    assert signed_out.job.state == pb.JOB_STATE_SUCCEEDED
    assert same_trees(signed_out.folders.source, signed_out.folders.destination / "data")


# --- sign-out of Wherry


@dataclass(frozen=True)
class Gone:
    """Somebody who signed out while both replicas streamed their jobs to them.

    Attributes:
        refused: by replica, how a call was refused in the end.
        ended: by replica, how the stream ended.
        cut: whether the word of it was lost on its way to a replica of the queue.
    """

    refused: Sequence[grpc.StatusCode]
    ended: Sequence[grpc.StatusCode]
    cut: bool


def _refusal(caller: ReplicaCaller) -> grpc.StatusCode | None:
    try:
        caller.ask(caller.jobs.ListJobs, pb.ListJobsRequest())
    except grpc.RpcError as error:
        return _code(error)
    return None


def _code(error: Any) -> grpc.StatusCode:  # an RpcError is its call too, of which the stubs do not know
    code: grpc.StatusCode = error.code()
    return code


@pytest.fixture(scope="module")
def gone(flow: FlowDeployment) -> Gone:
    person = flow.person(f"{secrets.token_hex(4)}@example.org")
    token = str(person.tokens()["access_token"])
    session = str(jwt.decode(token, options={"verify_signature": False})["sid"])
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(flow.caller(person, at=replica)) for replica in (0, 1)]
        for caller in callers:
            caller.keep_token()
        streams = [caller.jobs.WatchJobs(pb.WatchJobsRequest(), metadata=caller.metadata) for caller in callers]
        for stream in streams:
            next(stream)
        relays = [flow.relay("queue", "user", replica) for replica in (0, 1)]
        cuts = [relay.cut("WatchRevocations", holding=session.encode()) for relay in relays]
        with person.wherry.client() as client:
            client.accounts.sign_out()
        refused = [until(partial(_refusal, caller), "the token is refused", REVOKED_WITHIN_S) for caller in callers]
        ended = []
        for stream in streams:
            with pytest.raises(grpc.RpcError) as error:
                for _ in stream:
                    pass
            ended.append(_code(error.value))
        return Gone(refused, ended, any(cut.done for cut in cuts))


@pytest.mark.row("U3", missing="session length, idle time-out")
@pytest.mark.row("D15")
def test_a_sign_out_is_known_to_both_replicas_within_seconds_though_the_word_of_it_was_lost(gone: Gone) -> None:
    assert gone.cut
    assert gone.refused == [grpc.StatusCode.UNAUTHENTICATED] * 2


@pytest.mark.row("D15")
def test_a_sign_out_ends_open_streams_at_both_replicas(gone: Gone) -> None:
    assert gone.ended == [grpc.StatusCode.UNAUTHENTICATED] * 2


def test_nothing_else_of_the_deployment_noticed(
    flow: FlowDeployment, leaver: Leaver, first: ReplicaCaller, second: ReplicaCaller, synthetic: Callable[[str], str]
) -> None:
    with flow.worker(at=1, pretending=[]):
        job = first.create(copy_of(synthetic("0x0x5"), synthetic("0x0x0")))
        assert second.ended(job.name).state == pb.JOB_STATE_SUCCEEDED


@pytest.mark.row("U6", missing="export of one's data")
def test_a_deletion_is_forgotten_once_both_have_confirmed_it_though_answers_to_that_were_lost(
    flow: FlowDeployment, leaver: Leaver
) -> None:
    until(lambda: min(confirmed(flow).values()) >= leaver.cursor, "both have confirmed", CONFIRMED_WITHIN_S)
    assert any(cut.done for cut in leaver.cuts)
    swept(flow)
    until(lambda: not outbox(flow, leaver.user), "the outbox is empty", 10)
