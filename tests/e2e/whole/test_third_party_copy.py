"""T1: the bytes go from site to site; centre and worker see control traffic only. Counted by the kernel.

And what is left of sites, hosts and centre when all of them have been stopped: nothing.
"""

from __future__ import annotations

import filecmp
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from wherry_testing.deployment import RealDeployment
from wherry_testing.network_hosts import NETWORK, NetworkHosts, Traffic
from wherry_testing.running_copies import write_large
from wherry_testing.sites import RealSite
from wherry_testing.traces import processes_of, state_of
from wherry_testing.wherry_command import WherryCommand

CENTRE, SITE_A, SITE_B = "centre.test", "site-a.test", "site-b.test"
SIZE_BYTES = 200_000_000
CONTROL_BYTES = 2_000_000
"""What steering a copy of one file may take: about 40 KB were seen."""


@dataclass(frozen=True)
class CountedCopy:
    """A copy that was made; everything that made it has been stopped.

    Attributes:
        traffic: what each host's cables carried meanwhile.
        same: whether what arrived is what was sent.
        folder: where all of it lay.
        running, still_running: processes that have to do with the folder, during the copy and at the end.
        before, after: the machine's configuration.
    """

    traffic: dict[str, Traffic]
    same: bool
    folder: Path
    running: Mapping[int, str]
    still_running: Mapping[int, str]
    before: Mapping[str, object]
    after: Mapping[str, object]


def _sign_in_at(wherry: WherryCommand, site: RealSite, username: str) -> None:
    description = site.folder / "registration.json"
    description.write_text(json.dumps(site.description))
    wherry.must("site", "add", "--from", str(description))
    login = ("site", "login", site.name, "--username", username, "--password-stdin")
    wherry.must(*login, stdin=site.accounts[username])


@pytest.fixture(scope="module")
def counted_copy(tmp_path_factory: pytest.TempPathFactory) -> CountedCopy:
    """200 MB from site A to site B, steered by a centre that is a host of its own: services, worker and command."""
    folder = tmp_path_factory.mktemp("counted")
    for above in (folder, folder.parent):
        above.chmod(0o755)  # the sites' accounts are other users
    before = state_of(Path("/etc"))
    with ExitStack() as stack:
        hosts = stack.enter_context(NetworkHosts([SITE_A, SITE_B, CENTRE]))
        site_a, site_b = (
            stack.enter_context(RealSite(name, host=host, folder=folder / name, prefix=hosts.enter(host)))
            for name, host in (("site-a", SITE_A), ("site-b", SITE_B))
        )
        deployment = RealDeployment(folder / "centre", prefix=hosts.enter(CENTRE), allow=[NETWORK])
        wherry = stack.enter_context(deployment).person("alice@example.org", by_command=True).wherry
        for site, username in ((site_a, "alice"), (site_b, "bob")):
            _sign_in_at(wherry, site, username)
        source, destination = site_a.data_dir("alice") / "sent.dat", site_b.data_dir("bob") / "received.dat"
        write_large(source, SIZE_BYTES)
        site_a.own("alice")
        laid = {host: hosts.traffic(host) for host in hosts.addresses}
        wherry.must("cp", "site-a:sent.dat", "site-b:received.dat")
        traffic = {host: hosts.traffic(host).since(laid[host]) for host in hosts.addresses}
        running = processes_of(folder)
        same = filecmp.cmp(source, destination, shallow=False)
    return CountedCopy(traffic, same, folder, running, processes_of(folder), before, state_of(Path("/etc")))


@pytest.mark.row("T1")
def test_no_payload_byte_goes_through_the_centre_or_the_worker(counted_copy: CountedCopy) -> None:
    centre = counted_copy.traffic[CENTRE]
    assert 0 < centre.sent_bytes + centre.received_bytes < CONTROL_BYTES


@pytest.mark.row("T1")
def test_the_source_sends_all_of_the_payload_and_the_destination_receives_it(counted_copy: CountedCopy) -> None:
    assert counted_copy.traffic[SITE_A].sent_bytes >= SIZE_BYTES
    assert counted_copy.traffic[SITE_B].received_bytes >= SIZE_BYTES
    assert counted_copy.traffic[SITE_B].sent_bytes < SIZE_BYTES // 10


@pytest.mark.row("T1")
def test_what_arrived_without_the_centre_is_what_was_sent(counted_copy: CountedCopy) -> None:
    assert counted_copy.same


def test_sites_and_centre_leave_nothing_running(counted_copy: CountedCopy) -> None:
    assert len(counted_copy.running) > 8
    assert any("envoy" in line for line in counted_copy.running.values())
    assert counted_copy.still_running == {}


@pytest.mark.row("I1", missing="registration, XRootD, systemd")
def test_sites_and_centre_leave_the_machines_configuration_as_it_was(counted_copy: CountedCopy) -> None:
    assert counted_copy.before
    assert counted_copy.after == counted_copy.before


def test_a_worker_that_has_ended_leaves_no_credential(counted_copy: CountedCopy) -> None:
    state = counted_copy.folder / "centre" / "data" / "worker"
    assert state.is_dir()
    assert list(state.rglob("*.pem")) == []


_SEND = "import socket, sys; socket.create_connection((sys.argv[1], 5001)).sendall(bytes(3_000_000))"
_RECEIVE = """
import socket, sys
with socket.create_server(("", 5001)) as server:
    print("listening", flush=True)
    connection, _ = server.accept()
    while connection.recv(1 << 16):
        pass
"""


def test_the_counters_of_such_hosts_count_what_goes_over_their_cables() -> None:
    with NetworkHosts([SITE_A, CENTRE]) as hosts:
        receiving = subprocess.Popen([*hosts.enter(CENTRE), sys.executable, "-c", _RECEIVE], stdout=subprocess.PIPE)
        assert receiving.stdout is not None
        with receiving.stdout as said:
            assert said.readline() == b"listening\n"
            subprocess.run([*hosts.enter(SITE_A), sys.executable, "-c", _SEND, CENTRE], check=True, timeout=30)
            assert receiving.wait(30) == 0
        assert hosts.traffic(SITE_A).sent_bytes >= 3_000_000
        assert hosts.traffic(CENTRE).received_bytes >= 3_000_000
