"""Several hosts on this machine: a network namespace for each, joined by a cable (a veth pair) between any two.

    with NetworkHosts(["site-a.test", "site-b.test", "centre.test"]) as hosts:
        subprocess.run([*hosts.enter("centre.test"), "ping", "site-a.test"])
        hosts.traffic("site-a.test").sent_bytes

A host has one address, whichever cable leads to it, and knows the others by name (an /etc/hosts of its own, mounted in
a mount namespace of its own: the machine's is not touched). Nothing has a name outside, and everything is gone when the
processes that hold the namespaces end, which the kernel sees to if the tests are killed.

As root this needs nothing else; an ordinary user gets the right from a user namespace in which they stay who they are.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from wherry_testing.deployment_processes import children_of, wait_until

_FIRST_ADDRESS = "10.213.77.{}"
NETWORK = "10.213.77.0/24"
_HOLD = "exec sleep infinity"


@dataclass(frozen=True)
class Traffic:
    """What went over a host's cables, loopback left out."""

    sent_bytes: int
    received_bytes: int

    def since(self, before: Traffic) -> Traffic:
        """Returns what came on top."""
        return Traffic(self.sent_bytes - before.sent_bytes, self.received_bytes - before.received_bytes)


class NetworkHosts:
    """Hosts, by name; a context manager."""

    def __init__(self, names: Sequence[str]) -> None:
        self.addresses = {name: _FIRST_ADDRESS.format(number) for number, name in enumerate(names, start=1)}
        self._holders: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._hosts_file = Path()

    def __enter__(self) -> NetworkHosts:
        handle, name = tempfile.mkstemp(prefix="wherry-hosts-")
        os.close(handle)
        self._hosts_file = Path(name)
        lines = [f"{address}\t{host}\n" for host, address in self.addresses.items()]
        self._hosts_file.write_text("127.0.0.1\tlocalhost\n::1\tlocalhost\n" + "".join(lines))
        self._hosts_file.chmod(0o644)
        try:
            self._make()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def enter(self, host: str) -> list[str]:
        """Returns what to put before a command that shall run on a host; the command keeps its process id."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self._holders[host]), *user, "--net", "--mount", f"--wd={Path.cwd()}", "--"]

    def traffic(self, host: str) -> Traffic:
        """Returns what went over a host's cables since they were laid."""
        sent = received = 0
        for line in Path(f"/proc/{self._holders[host]}/net/dev").read_text().splitlines()[2:]:
            cable, _, numbers = line.partition(":")
            if cable.strip() != "lo":
                fields = numbers.split()
                received, sent = received + int(fields[0]), sent + int(fields[8])
        return Traffic(sent, received)

    def _make(self) -> None:
        mount = f"mount --bind {shlex.quote(str(self._hosts_file))} /etc/hosts && ip link set lo up && {_HOLD}"
        # Each holder dies with the shell, and that with us.
        hold = f"setpriv --pdeathsig KILL -- unshare --net --mount sh -c {shlex.quote(mount)} & echo $!"
        hosts = [hold for _ in self.addresses]
        # The cables' orders come on the standard input of a shell that lives inside the user namespace.
        script = "; ".join([*hosts, "exec sh -e"])
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *_with_rights(), "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        for host in self.addresses:
            self._holders[host] = int(self._process.stdout.readline())
        pids = self._holders.values()
        wait_until(lambda: all(_program(pid) == "sleep" for pid in pids), "the hosts are there")
        orders = [order for pair in itertools.combinations(self.addresses, 2) for order in self._cable(*pair)]
        self._process.stdin.write("".join(f"{shlex.join(order)}\n" for order in orders).encode() + b"echo laid\n")
        self._process.stdin.flush()
        laid = self._process.stdout.readline()
        assert laid == b"laid\n", "the hosts could not be joined; the reason is above"

    def _cable(self, one: str, other: str) -> list[list[str]]:
        numbers = [list(self.addresses).index(host) for host in (one, other)]
        ends = [f"to{numbers[1]}", f"to{numbers[0]}"]
        pids = [str(self._holders[host]) for host in (one, other)]
        orders = [["ip", "link", "add", ends[0], "netns", pids[0], "type", "veth", "peer", ends[1], "netns", pids[1]]]
        for host, peer, pid, end in zip((one, other), (other, one), pids, ends, strict=True):
            inside = ["nsenter", "--target", pid, "--net", "--", "ip"]
            own = ["addr", "replace", f"{self.addresses[host]}/32", "dev", "lo"]
            route = ["route", "add", f"{self.addresses[peer]}/32", "dev", end, "src", self.addresses[host]]
            orders += [[*inside, *own], [*inside, "link", "set", end, "up"], [*inside, *route]]
        return orders

    def _end(self) -> None:
        if self._process is not None:
            for pid in {*self._holders.values(), *children_of(self._process.pid)}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process.kill()
            self._process.wait()
        self._hosts_file.unlink()


def _with_rights() -> list[str]:
    if os.geteuid() == 0:
        return []
    # A network namespace too: links are made from one that the user namespace owns.
    return ["unshare", "--user", "--map-current-user", "--keep-caps", "--net", "--"]


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
