from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from wherry_deploy.gateway_health import is_answering, is_serving
from wherry_testing.buildout_up import BIN, RunningDeployment, buildout_command, wait_until
from wherry_testing.gateway_callers import HttpCaller


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDeployment]:
    with RunningDeployment(tmp_path_factory.mktemp("deployment"), options=("--workers", "2")) as running:
        yield running


def grpcurl(
    deployment: RunningDeployment, service: str, *words: str, who: str | None
) -> subprocess.CompletedProcess[str]:
    certificate = []
    if who is not None:
        certificate = ["-cert", deployment.trust(f"{who}.pem"), "-key", deployment.trust(f"{who}.key")]
    command = [str(BIN / "grpcurl"), "-cacert", deployment.trust("ca.pem"), *certificate, deployment.address(service)]
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=30, check=False)


def test_all_processes_of_the_deployment_run(deployment: RunningDeployment) -> None:
    commands = list(deployment.processes().values())
    for service in ("user", "site", "queue"):
        assert sum(f"-m wherry_{service} serve" in command for command in commands) == 1
    assert sum("-m wherry_worker serve" in command for command in commands) == 2
    assert sum("-m wherry_gateway assets" in command for command in commands) == 1
    assert sum("envoy --config-path" in command for command in commands) == 1


def test_the_log_names_each_process(deployment: RunningDeployment) -> None:
    lines = deployment.log_text().splitlines()
    for name in ("user", "site", "queue", "gateway", "worker-0", "worker-1"):
        assert any(line.startswith(f"{name:<14} | ") for line in lines), name


@pytest.mark.row("K2")
@pytest.mark.parametrize(
    ("service", "names"),
    [
        ("user", {"UserService", "SessionService", "KeyService", "RevocationService"}),
        ("site", {"SiteService", "SiteSessionService", "SiteDirectoryService", "CredentialService"}),
        ("queue", {"JobService", "AdminService", "FileService", "LeaseService", "LeaseKeyService"}),
    ],
)
def test_grpcurl_with_an_operators_certificate_lists_a_services_rpcs(
    deployment: RunningDeployment, service: str, names: set[str]
) -> None:
    listed = grpcurl(deployment, service, "list", who="operator")
    assert listed.returncode == 0, listed.stderr
    expected = {f"wherry.{service}.v1.{name}" for name in names}
    assert expected | {"grpc.health.v1.Health"} <= set(listed.stdout.split())
    for name in expected:
        described = grpcurl(deployment, service, "describe", name, who="operator")
        assert "rpc " in described.stdout


@pytest.mark.row("K2")
def test_grpcurl_with_an_operators_certificate_calls_services(deployment: RunningDeployment) -> None:
    for service in ("user", "site", "queue"):
        said = grpcurl(deployment, service, "grpc.health.v1.Health/Check", who="operator")
        assert json.loads(said.stdout) == {"status": "SERVING"}
    keys = grpcurl(deployment, "user", "wherry.user.v1.KeyService/GetJwks", who="operator")
    assert json.loads(keys.stdout)["keys"][0]["alg"] == "EdDSA"


@pytest.mark.row("K2")
def test_grpcurl_is_told_what_an_operators_certificate_does_not_open(deployment: RunningDeployment) -> None:
    said = grpcurl(deployment, "site", "wherry.site.v1.SiteService/ListSites", who="operator")
    assert said.returncode != 0
    assert "TOKEN_MISSING" in said.stderr
    said = grpcurl(deployment, "site", "-d", "{}", "wherry.site.v1.CredentialService/FetchCredentials", who="operator")
    assert said.returncode != 0


@pytest.mark.row("K2")
@pytest.mark.parametrize("service", ["user", "site", "queue"])
def test_grpcurl_without_a_certificate_is_refused(deployment: RunningDeployment, service: str) -> None:
    refused = grpcurl(deployment, service, "list", who=None)
    assert refused.returncode != 0
    assert refused.stdout == ""


@pytest.mark.row("K2")
@pytest.mark.parametrize("who", ["gateway", "worker"])
def test_grpcurl_with_a_certificate_of_another_role_lists_nothing(deployment: RunningDeployment, who: str) -> None:
    refused = grpcurl(deployment, "queue", "list", who=who)
    assert refused.returncode != 0
    assert "PermissionDenied" in refused.stderr


def test_a_second_up_beside_the_first_names_the_ports(deployment: RunningDeployment) -> None:
    second = buildout_command("up", "--buildout", str(deployment.file))
    assert second.returncode == 1
    assert f"{deployment.file}:" in second.stderr
    assert "service.queue.listen: " in second.stderr
    assert "gateway.listen: " in second.stderr


def test_check_takes_the_running_deployment_for_what_it_is(deployment: RunningDeployment) -> None:
    checked = buildout_command("check", "--buildout", str(deployment.file))
    assert checked.returncode == 0, checked.stdout


def test_a_service_that_is_killed_is_started_again_and_serves(deployment: RunningDeployment) -> None:
    (before,) = [pid for pid, command in deployment.processes().items() if "wherry_site" in command]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: "was ended by SIGKILL; starting it again" in deployment.log_text())
    wait_until(lambda: "SERVING" in grpcurl(deployment, "site", "grpc.health.v1.Health/Check", who="operator").stdout)


def test_once_up_says_ready_the_page_and_every_service_answer_at_the_public_address(
    deployment: RunningDeployment,
) -> None:
    (port,) = re.findall(r":(\d+)$", deployment.gateway.public_url)
    caller = HttpCaller("localhost", int(port), Path(deployment.trust("web-ca.pem")))
    assert b"<html" in caller.ask("GET", "/").body
    answered = {
        path: caller.ask("GET", path, headers={"authorization": "Bearer none"}).refusal
        for path in ("/v1/users/me", "/v1/sites", "/v1/jobs")
    }
    caller.close()
    assert set(answered.values()) == {("UNAUTHENTICATED", "TOKEN_INVALID")}, answered


def test_a_gateway_that_is_killed_is_started_again_and_answers(deployment: RunningDeployment) -> None:
    (before,) = [pid for pid, command in deployment.processes().items() if "envoy --config-path" in command]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not is_answering(deployment.gateway))
    wait_until(lambda: is_serving(deployment.gateway))


def test_another_server_is_not_taken_for_the_gateway(deployment: RunningDeployment, tmp_path: Path) -> None:
    """A certificate of the same authority for the same host is not enough."""
    with RunningDeployment(tmp_path) as other:
        mistaken = deployment.gateway.model_copy(update={"listen": other.gateway.listen})
        assert not is_answering(mistaken)
        assert is_answering(other.gateway)


def test_ctrl_c_stops_everything_in_order_and_leaves_nothing(tmp_path: Path) -> None:
    with RunningDeployment(tmp_path) as deployment:
        pids = deployment.processes()
        assert len(pids) == 6
        assert deployment.stop(signal.SIGINT) == 0
        assert deployment.processes() == {}
        said = [line.split(" | ")[0].strip() for line in deployment.log_text().splitlines() if "stopped" in line]
        assert said.index("worker") < said.index("queue") < said.index("site")
        for address in (*map(deployment.address, ("user", "site", "queue")), deployment.gateway.listen):
            host, port = address.split(":")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, int(port)), 5)


def test_when_up_is_killed_its_processes_end_too(tmp_path: Path) -> None:
    with RunningDeployment(tmp_path) as deployment:
        assert deployment.processes()
        deployment.stop(signal.SIGKILL)
        wait_until(lambda: deployment.processes() == {})


def test_init_takes_the_public_host_and_the_gateways_port(tmp_path: Path) -> None:
    made = buildout_command("init", str(tmp_path), "--public-host", "wherry.example.org", "--gateway-port", "443")
    assert made.returncode == 0, made.stderr
    assert "for wherry.example.org, localhost" in made.stdout
    assert RunningDeployment(tmp_path).gateway.public_url == "https://wherry.example.org"
    assert 'gateway = "https://wherry.example.org"' in (tmp_path / "client.toml").read_text()


def test_a_fault_in_the_configuration_is_one_line_and_nothing_is_started(tmp_path: Path) -> None:
    deployment = RunningDeployment(tmp_path)
    deployment.init()
    (tmp_path / "trust" / "queue.key").write_bytes((tmp_path / "trust" / "site.key").read_bytes())
    up = buildout_command("up", "--buildout", str(deployment.file))
    faults = [line for line in up.stderr.splitlines() if "warning" not in line]
    assert up.returncode == 1
    assert len(faults) == 1
    assert "service.queue.key" in faults[0]
    assert "does not belong" in faults[0]
    assert deployment.processes() == {}


def test_a_process_that_does_not_start_ends_the_others_with_one_line(tmp_path: Path) -> None:
    """A schema of a later release is nothing that the check looks for."""
    deployment = RunningDeployment(tmp_path)
    deployment.init()
    for service in ("user", "site", "queue"):
        migrated = subprocess.run(
            [str(BIN / f"wherry-{service}"), "migrate", "--buildout", str(deployment.file)], check=False
        )
        assert migrated.returncode == 0

    with sqlite3.connect(tmp_path / "data" / "queue.db") as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    connection.close()
    up = buildout_command("up", "--buildout", str(deployment.file))
    assert up.returncode == 1
    assert up.stderr.splitlines()[-1].startswith("wherry-buildout: queue")
    assert deployment.processes() == {}
