"""Scripts: curl with a bearer token, on real services and real sites."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from wherry_testing.deployment import Person, RealDeployment
from wherry_testing.running_copies import Folders, write_many

_K1 = "clients in other languages, the asynchronous Python client"
_EMPTY = 5_001
"""More entries than a site lists in a few messages."""


@dataclass(frozen=True)
class Curl:
    """curl as somebody would use it, with a token that stands on no command line."""

    deployment: RealDeployment
    token: str

    def __call__(self, path: str, *arguments: str, accept: str = "application/json") -> tuple[int, str]:
        """Returns the HTTP status and the body."""
        command = [
            *("curl", "--silent", "--config", "-", "--cacert", str(self.deployment.folder / "trust" / "web-ca.pem")),
            *("--max-time", "60", "--write-out", "\n%{http_code}", "--header", f"accept: {accept}", *arguments),
            f"{self.deployment.gateway_url}{path}",
        ]
        header = f'header = "authorization: Bearer {self.token}"\n'
        done = subprocess.run(command, input=header, capture_output=True, text=True, check=True, timeout=90)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def post(self, path: str, content: object) -> tuple[int, Any]:
        """Sends JSON; returns the status and what the answer says."""
        status, body = self(path, "--request", "POST", "--data", json.dumps(content))
        return status, json.loads(body)


@pytest.fixture
def curl(deployment: RealDeployment, alice: Person) -> Curl:
    with alice.wherry.client() as client:
        client.accounts.me()  # renews the tokens if need be
    return Curl(deployment, str(alice.tokens()["access_token"]))


@pytest.fixture
def folders(fresh_folders: Callable[[], Folders]) -> Folders:
    made = fresh_folders()
    write_many(made.source, 5)
    made.source_site.own("alice")
    return made


@pytest.mark.row("K1", missing=_K1)
def test_curl_with_a_token_gets_json(curl: Curl, alice: Person) -> None:
    status, body = curl("/v1/users/me")
    assert status == 200
    assert json.loads(body)["email"] == alice.email


@pytest.mark.row("U3", missing="session length, idle time-out")
def test_curl_with_a_token_that_is_none_gets_a_status(curl: Curl) -> None:
    status, body = Curl(curl.deployment, "e30.e30.c2ln")("/v1/users/me")
    said = json.loads(body)
    assert (status, said["code"]) == (401, 16)
    assert said["details"][0]["reason"] == "TOKEN_INVALID"


@pytest.mark.row("D18")
def test_a_listing_is_lines_of_json_and_says_that_it_is_whole(curl: Curl, folders: Folders) -> None:
    expected = [f"file {number:03}.dat" for number in range(5)] + [f"none {number:04}" for number in range(_EMPTY)]
    for name in expected[5:]:
        (folders.source / name).touch()
    folders.source_site.own("alice")
    status, body = curl(f"/v1/sites/site-a:listDirectory?location.path={folders.source.name}")
    lines = [json.loads(line) for line in body.splitlines()]
    assert status == 200
    assert len(lines) >= 3
    assert 0 < len(lines[0]["entries"]) < len(expected)
    names = [entry["name"] for line in lines for entry in line["entries"]]
    assert len(names) == len(expected)
    assert sorted(names) == expected
    assert [line["last"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert "failure" not in lines[-1]
    assert "error" not in lines[-1]


@pytest.mark.row("J1")
def test_a_listing_to_a_depth_tells_paths_below_the_directory(curl: Curl, folders: Folders) -> None:
    (folders.source / "deep" / "deeper" / "deepest").mkdir(parents=True)
    folders.source_site.own("alice")
    status, body = curl(f"/v1/sites/site-a:listDirectory?location.path={folders.source.name}&depth=2")
    lines = [json.loads(line) for line in body.splitlines()]
    names = [entry["name"] for line in lines for entry in line["entries"]]
    assert (status, lines[-1]["last"], lines[-1]["depth"]) == (200, True, 2)
    assert names[-2:] == ["file 004.dat", "deep/deeper"]
    assert curl("/v1/sites/site-a:listDirectory?location.path=x&depth=33")[0] == 400


def test_a_listing_that_fails_says_so_in_its_last_line(curl: Curl) -> None:
    status, body = curl("/v1/sites/site-a:listDirectory?location.path=nowhere")
    last = json.loads(body.splitlines()[-1])
    assert (status, last["last"]) == (200, True)
    assert last["failure"]["reason"].endswith("NOT_FOUND")


@pytest.mark.row("J5")
def test_a_copy_is_asked_for_and_watched_as_events_to_its_last(curl: Curl, folders: Folders) -> None:
    source = {"site": "sites/site-a", "path": folders.source.name}
    destination = {"site": "sites/site-b", "path": f"{folders.destination.name}/data"}
    items = [{"source": source, "destination": destination}]
    status, job = curl.post("/v1/jobs?requestId=by-curl", {"copy": {"items": items, "recursive": True}})
    assert status == 200
    again, same = curl.post("/v1/jobs?requestId=by-curl", {"copy": {"items": items, "recursive": True}})
    assert (again, same["name"]) == (200, job["name"])
    status, body = curl(f"/v1/{job['name']}:watch", accept="text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in body.splitlines() if line.startswith("data: ")]
    assert status == 200
    assert [event["last"] for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1]["job"]["state"] == "JOB_STATE_SUCCEEDED"
    assert events[-1]["job"]["progress"]["filesDone"] == "5"
    assert folders.arrived() == 5


def test_an_error_names_its_field_in_json(curl: Curl) -> None:
    status, said = curl.post("/v1/jobs", {"copy": {"items": []}})
    assert (status, said["code"]) == (400, 3)
    kinds = {detail["@type"].rpartition(".")[2]: detail for detail in said["details"]}
    assert kinds["ErrorInfo"]["reason"] == "INVALID_FIELDS"
    assert kinds["BadRequest"]["fieldViolations"][0]["field"] == "job.copy.items"
