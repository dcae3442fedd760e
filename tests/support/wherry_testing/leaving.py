"""Somebody leaves: their account is deleted while both replicas of the queue are dead."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wherry.queue.v1 import job_service_pb2 as pb
from wherry_client import registration
from wherry_testing.answer_cutting import Cut
from wherry_testing.flows import FlowDeployment
from wherry_testing.sites import RealSite


@dataclass(frozen=True)
class Leaver:
    """Somebody whose account was deleted while both replicas of the queue were dead.

    Attributes:
        user: who it was, without `users/`.
        job: that they had, `jobs/{job}`.
        cursor: of the deletion in the user service's outbox.
        kept: whether it was still there when its time was over, and the user service had swept.
        cuts: answers to confirmations that were to be lost.
    """

    user: str
    job: str
    cursor: int
    kept: bool
    cuts: Sequence[Cut]


def outbox(flow: FlowDeployment, user: str) -> list[dict[str, Any]]:
    """Returns what the user service still tells of a user's deletion."""
    return flow.rows_of("user", "select * from revocation where subject = :user", user=user)


def confirmed(flow: FlowDeployment) -> dict[str, int]:
    """Returns up to where each follower of the user service has done its part."""
    return {row["role"]: row["confirmed"] for row in flow.rows_of("user", "select * from revocation_follower")}


def swept(flow: FlowDeployment) -> None:
    """Has the user service sweep: it does when it starts."""
    flow.service("user", 0).kill()
    flow.start_both("user")


def leave(flow: FlowDeployment, two_sites: tuple[RealSite, RealSite], job: pb.Job) -> Leaver:
    """Has somebody with a job, at sites of their own, delete their account while the queue is dead; it is back then."""
    person = flow.person(f"{secrets.token_hex(4)}@example.org")
    names = [f"own-{secrets.token_hex(4)}" for _ in two_sites]
    with person.wherry.client() as client, contextlib.closing(flow.https()) as https:
        user = client.accounts.me().name.removeprefix("users/")
        for name, site, username in zip(names, two_sites, ("alice", "bob"), strict=True):
            _, described = registration.from_kit(json.dumps(site.description))
            described.title = name
            client.sites.create(name, described)
            client.site_sessions.sign_in(name, username, site.accounts[username])
        job.copy.items[0].source.site, job.copy.items[0].destination.site = (f"sites/{name}" for name in names)
        with flow.caller(person, at=0) as caller:
            made = caller.create(job)
        flow.kill_both("queue")
        headers = {"authorization": f"Bearer {person.tokens()['access_token']}"}
        answer = https.json("POST", "/v1/users/me:delete", {"password": person.password}, headers)
        assert answer.http_status == 200, answer.body
    (row,) = outbox(flow, user)
    # As if its tokens had died of age: from here on only the followers keep it.
    flow.change_rows_of("user", "update revocation set expires_ms = 0 where cursor = :cursor", cursor=row["cursor"])
    swept(flow)
    kept = bool(outbox(flow, user))
    cuts = [flow.relay("queue", "user", replica).cut("ConfirmRevocations") for replica in (0, 1)]
    flow.start_both("queue")
    return Leaver(user, made.name, row["cursor"], kept, cuts)
