"""The session with grpcurl that docs/operator.md shows for steering the queue, command by command, in a deployment."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wherry_chassis.buildout import database_url
from wherry_testing.buildout_up import BIN, RunningDeployment, wait_until

SERVICE = "wherry.queue.v1.AdminService"
SECTION = re.compile(r"^## Steer the queue$(.*?)^## ", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDeployment]:
    with RunningDeployment(tmp_path_factory.mktemp("deployment"), options=("--workers", "1")) as running:
        yield running


class Session:
    """Runs the commands of the documentation as they stand, but for the names and the port."""

    def __init__(self, deployment: RunningDeployment) -> None:
        self._deployment = deployment
        self.names: dict[str, str] = {}

    def run(self, command: str, who: str = "operator") -> subprocess.CompletedProcess[str]:
        for placeholder, name in self.names.items():
            command = re.sub(rf"\b{placeholder}\b", name, command)
        words = [
            {"localhost:50053": self._deployment.address("queue")}.get(word, word.replace("$Q", SERVICE))
            for word in shlex.split(command)
        ]
        trust = self._deployment.trust
        certificate = ["-cacert", trust("ca.pem"), "-cert", trust(f"{who}.pem"), "-key", trust(f"{who}.key")]
        grpcurl = [str(BIN / "grpcurl"), *certificate, *words]
        return subprocess.run(grpcurl, capture_output=True, text=True, timeout=30, check=False)

    def ask(self, command: str) -> dict[str, Any]:
        said = self.run(command)
        assert said.returncode == 0, f"{command}: {said.stderr}"
        answer: dict[str, Any] = json.loads(said.stdout)
        return answer


def documented(root: Path) -> list[str]:
    """Returns the calls of the section, without the alias that they begin with."""
    section = SECTION.search((root / "docs" / "operator.md").read_text(encoding="utf-8"))
    assert section is not None
    return [line.removeprefix("$ g ") for line in section[1].splitlines() if line.startswith("$ g ")]


def queue_something(deployment: RunningDeployment, user: str) -> None:
    """Writes a user down as one for whom something was queued, which takes sites to be signed in at."""
    file = database_url(deployment.buildout.service.queue).removeprefix("sqlite:///")
    with sqlite3.connect(file, timeout=30) as database:
        database.execute(
            "insert into queue_user (name, vtime, weight, active_interactive, active_bulk, inflight, leaving)"
            " values (?, 0, 1, 0, 0, 0, false)",
            (user,),
        )
    database.close()


@pytest.mark.row("K2")
def test_the_documented_session_of_an_operator_works_command_by_command(
    deployment: RunningDeployment, pytestconfig: pytest.Config
) -> None:
    commands = documented(pytestconfig.rootpath)
    session = Session(deployment)
    queue_something(deployment, "users/4711")
    session.names["USER"] = "4711"
    answers: dict[str, dict[str, Any]] = {}

    def there_is_a_worker() -> bool:
        return bool(session.ask("localhost:50053 $Q/ListWorkers").get("workers"))

    wait_until(there_is_a_worker)
    for command in commands:
        method = command.rpartition("/")[2]
        answer = session.ask(command)
        answers[method] = answer
        match method:
            case "ListWorkers":
                session.names["WORKER"] = answer["workers"][0]["name"].removeprefix("workers/")
            case "ListReplicas":
                session.names["REPLICA"] = answer["replicas"][0]["name"].removeprefix("replicas/")
            case "CreateBan":
                session.names["BAN"] = answer["name"].removeprefix("bans/")
    assert set(answers) == {
        "GetOverview", "ListReplicas", "ListWorkers", "SetLimit", "ListLimits", "SetWeight", "CreateBan", "ListBans",
        "DeleteBan", "DrainWorker", "DrainReplica", "ListAuditEntries",
    }, "the documentation shows each method"  # fmt: skip
    assert [overview["work_class"] for overview in answers["GetOverview"]["classes"]] == [
        "WORK_CLASS_INTERACTIVE", "WORK_CLASS_BULK"
    ]  # fmt: skip
    assert answers["ListWorkers"]["workers"][0]["version"]
    assert answers["ListReplicas"]["replicas"][0]["answering"]
    limits = answers["ListLimits"]["limits"]
    assert {json.dumps(limit["subject"]) for limit in limits} == {
        '{"site_out": "sites/a"}', '{"site_in": "sites/b"}',
        '{"link": {"source_site": "sites/a", "destination_site": "sites/b"}}',
    }  # fmt: skip
    entries = answers["ListAuditEntries"]["entries"]
    changes = [command.rpartition("/")[2] for command in commands]
    acts = [method for method in changes if not method.startswith(("Get", "List"))]
    assert [entry["act"] for entry in reversed(entries)] == acts
    assert {entry["actor"] for entry in entries} == set(deployment.buildout.access.roles["operator"])
    wait_until(lambda: "worker_told_to_drain" in deployment.log_text())
    wait_until(lambda: "replica_drained" in deployment.log_text())
    wait_until(lambda: "NOT_SERVING" in session.run("localhost:50053 grpc.health.v1.Health/Check").stdout)


@pytest.mark.row("K2")
@pytest.mark.parametrize("who", ["gateway", "worker", "queue"])
def test_nobody_else_steers_the_queue(deployment: RunningDeployment, who: str) -> None:
    refused = Session(deployment).run("localhost:50053 $Q/ListLimits", who=who)
    assert refused.returncode != 0
    assert "PermissionDenied" in refused.stderr
