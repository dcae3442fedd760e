"""U6: somebody deletes their account through the gateway, in JSON, while a copy of theirs runs between real sites."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf import json_format
from wherry_client import RemotePath, registration
from wherry_testing.deployment import Person, RealDeployment
from wherry_testing.deployment_processes import is_alive, wait_until
from wherry_testing.gateway_callers import HttpCaller
from wherry_testing.inbox import token_in
from wherry_testing.running_copies import Folders, write_large
from wherry_testing.sites import RealSite

pytestmark = pytest.mark.row("U6", missing="export of one's data")

EMAIL = "leaver@example.org"
OWN_SITES = ("leavers-a", "leavers-b")
SIZE_BYTES = 800_000_000
ENGINE_GONE_WITHIN_S = 5.0
"""The design's promise for what has been revoked."""
_TABLES = ("site", "site_session", "audit_event")


@dataclass(frozen=True)
class Left:
    """What is left of somebody whose account was deleted while a copy of theirs ran.

    Attributes:
        user: who it was, `users/{user}`.
        tokens: of their session.
        wrong: the answer to a try with a wrong password.
        answer: the answer to the right one.
        job: the copy, `jobs/{job}`.
        folders: of the copy.
    """

    deployment: RealDeployment
    person: Person
    user: str
    tokens: dict[str, Any]
    wrong: tuple[int, Any]
    answer: tuple[int, Any]
    job: str
    folders: Folders

    def ask(self, caller: HttpCaller, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Asks with the token of before; returns HTTP's status and the reason of the error."""
        found = caller.json(method, path, body, {"authorization": f"Bearer {self.tokens['access_token']}"})
        return found.http_status, found.refusal[1]


@pytest.fixture
def caller(deployment: RealDeployment) -> Iterator[HttpCaller]:
    with contextlib.closing(deployment.https()) as caller:
        yield caller


@pytest.fixture(scope="module")
def left(
    deployment: RealDeployment, two_sites: tuple[RealSite, RealSite], fresh_folders: Callable[[], Folders]
) -> Left:
    person = deployment.person(EMAIL)
    folders = fresh_folders()
    write_large(folders.source / "large.dat", SIZE_BYTES)
    folders.source_site.own("alice")
    with person.wherry.client() as client, contextlib.closing(deployment.https()) as caller:
        user = client.accounts.me().name
        tokens = person.tokens()
        headers = {"authorization": f"Bearer {tokens['access_token']}"}
        for name, site, username in zip(OWN_SITES, two_sites, ("alice", "bob"), strict=True):
            added = caller.json("POST", f"/v1/sites?siteId={name}", _described(name, site), headers)
            assert added.http_status == 200, added.body
            client.site_sessions.sign_in(name, username, site.accounts[username])
        source = RemotePath(OWN_SITES[0], folders.source.name.encode())
        destination = RemotePath(OWN_SITES[1], f"{folders.destination.name}/data".encode())
        job = client.jobs.copy([(source, destination)], recursive=True).name
        wait_until(lambda: folders.moved_bytes() > SIZE_BYTES // 20, "the copy is under way", 60, 0.005)
        engines = [engine for worker in deployment.workers for engine in worker.children()]

        def delete(password: str) -> tuple[int, Any]:
            answer = caller.json("POST", "/v1/users/me:delete", {"password": password}, headers)
            return answer.http_status, answer.json()

        wrong = delete("not the password")
        answer = delete(person.password)
        wait_until(lambda: not all(is_alive(engine) for engine in engines), "the engine is gone", ENGINE_GONE_WITHIN_S)
    (folders.source / "large.dat").unlink()
    return Left(deployment, person, user, tokens, wrong, answer, job, folders)


def _described(name: str, site: RealSite) -> dict[str, Any]:
    """Returns the JSON with which somebody registers a site under a name of their own, for everybody to see."""
    _, described = registration.from_kit(json.dumps(site.description))
    described.title = name
    described.public = True
    return json_format.MessageToDict(described)


def test_the_password_is_asked_for_once_more(left: Left) -> None:
    status, said = left.wrong
    assert (status, said["code"]) == (400, 9)
    assert said["details"][0]["reason"] == "PASSWORD_WRONG"
    assert left.answer == (200, {})


def test_every_service_refuses_the_session_from_then_on(left: Left, caller: HttpCaller) -> None:
    ended = (401, "SESSION_ENDED")
    assert left.ask(caller, "GET", "/v1/users/me") == ended
    assert left.ask(caller, "GET", "/v1/sites") == ended
    assert left.ask(caller, "GET", "/v1/jobs") == ended
    refresh = caller.json("POST", "/v1/sessions:refresh", {"refreshToken": left.tokens["refresh_token"]})
    assert (refresh.http_status, refresh.refusal[1]) == (401, "REFRESH_TOKEN_INVALID")


def test_the_copy_ends_as_cancelled_and_leaves_nothing_behind_at_the_destination(left: Left) -> None:
    wait_until(lambda: left.deployment.job_row(left.job)["ended_ms"], "the job has ended", 20)
    row = left.deployment.job_row(left.job)
    assert row["cancelled"]
    assert row["files_done"] == 0
    wait_until(lambda: not left.folders.temporaries(), "the temporary file is gone", 10)
    assert left.folders.arrived() == 0


def test_the_queue_knows_whose_it_was_by_a_pseudonym_only(left: Left) -> None:
    uid = left.job.removeprefix("jobs/")
    statement = "select name from queue_user join job on job.user_id = queue_user.id where uid = :uid"
    (row,) = left.deployment.rows(statement, uid=uid)
    assert row["name"].startswith("users/deleted-")
    assert left.deployment.rows("select * from queue_user where name = :name", name=left.user) == []


def test_the_queue_keeps_nothing_of_what_the_job_was_about(left: Left) -> None:
    uid = left.job.removeprefix("jobs/")
    of_job = "select task.id from task join job on task.job_id = job.id where uid = :uid"
    wait_until(lambda: not left.deployment.rows(of_job, uid=uid), "its tasks are gone", 30)
    (row,) = left.deployment.rows("select specification, failure from job where uid = :uid", uid=uid)
    assert (row["specification"], row["failure"]) == (b"", None)


def test_own_sites_and_sign_ins_at_sites_are_gone_and_the_trail_names_nobody(left: Left, alice: Person) -> None:
    with alice.wherry.client() as client:
        names = {site.name for site in client.sites.all()}
    assert "sites/site-a" in names
    assert not names & {f"sites/{name}" for name in OWN_SITES}
    with contextlib.closing(sqlite3.connect(f"file:{left.deployment.folder}/data/site.db?mode=ro", uri=True)) as rows:
        dump = {table: str(rows.execute(f"select * from {table}").fetchall()) for table in _TABLES}
    assert all(left.user not in text for text in dump.values())
    assert "users/deleted-" in dump["audit_event"]


def test_no_database_has_the_persons_address(left: Left) -> None:
    for name in ("user", "site", "queue"):
        database = f"file:{left.deployment.folder}/data/{name}.db?mode=ro"
        with contextlib.closing(sqlite3.connect(database, uri=True)) as rows:
            assert EMAIL not in "\n".join(rows.iterdump()), name


def test_the_address_can_be_registered_again_by_somebody_new(left: Left, caller: HttpCaller) -> None:
    credentials = {"email": EMAIL, "password": "another correct horse"}
    refused = caller.json("POST", "/v1/sessions", {"email": EMAIL, "password": left.person.password})
    assert (refused.http_status, refused.refusal[1]) == (401, "SIGN_IN_REFUSED")
    assert caller.json("POST", "/v1/users", credentials).http_status == 200
    token = token_in(left.deployment.mail_to(EMAIL, count=2))
    assert caller.json("POST", "/v1/users:verifyEmail", {"token": token}).http_status == 200
    signed_in = caller.json("POST", "/v1/sessions", credentials)
    assert signed_in.http_status == 200
    assert signed_in.json()["user"]["name"] != left.user
