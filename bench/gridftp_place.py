"""Two real GridFTP sites and a deployment that copies between them, and the same copies by hand with other tools."""

from __future__ import annotations

import contextlib
import os
import subprocess
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.type.v1 import entry_pb2
from wherry_chassis.tls import CHANNEL_OPTIONS
from wherry_testing.deployment import Person, RealDeployment
from wherry_testing.flow_callers import ReplicaCaller
from wherry_testing.sites import RealSite, merged_trust

from bench.measure import BenchmarkError

_BLOCK = 1 << 20
_WITHIN_S = 1800.0


@dataclass(frozen=True)
class Place:
    """A deployment with two sites and somebody who is signed in at both."""

    deployment: RealDeployment
    person: Person
    caller: ReplicaCaller
    source: RealSite
    destination: RealSite
    folder: Path

    def files(self, name: str, count: int, size_bytes: int) -> list[str]:
        """Makes a directory of files at the source, all different; returns their paths."""
        top = self.source.data_dir("alice") / name
        top.mkdir()
        for number in range(count):
            self._write(top / f"f{number:05}", size_bytes)
        self.source.own("alice")
        return [f"{name}/f{number:05}" for number in range(count)]

    def tree(self, name: str, directories: int, files: int, size_bytes: int) -> list[str]:
        """Makes directories of files at the source; returns the files' paths."""
        top = self.source.data_dir("alice") / name
        for outer in range(directories):
            folder = top / f"d{outer:04}"
            folder.mkdir(parents=True)
            for number in range(files):
                self._write(folder / f"f{number:03}", size_bytes)
        self.source.own("alice")
        return [f"{name}/d{outer:04}/f{number:03}" for outer in range(directories) for number in range(files)]

    @staticmethod
    def _write(path: Path, size_bytes: int) -> None:
        with path.open("wb") as file:
            while size_bytes > 0:
                file.write(os.urandom(min(_BLOCK, size_bytes)))
                size_bytes -= _BLOCK

    def room(self, name: str) -> Path:
        """Makes an empty directory at the destination."""
        path = self.destination.data_dir("bob") / name
        path.mkdir()
        self.destination.own("bob")
        return path

    # --- by Wherry ---

    def copied(self, source: str, destination: str, options: pb.CopyOptions | None = None) -> float:
        """Has a directory or file copied; returns the seconds from the asking to the end, all verified and renamed."""
        item = pb.CopyItem(
            source=entry_pb2.Location(site="sites/site-a", path=source),
            destination=entry_pb2.Location(site="sites/site-b", path=destination),
        )
        copy = pb.CopyOperation(items=[item], recursive=True, options=options)
        began_s = time.perf_counter()
        job = self.caller.create(pb.Job(copy=copy))
        ended = self.caller.ended(job.name, _WITHIN_S)
        taken_s = time.perf_counter() - began_s
        if ended.state != pb.JOB_STATE_SUCCEEDED:
            raise BenchmarkError(f"the copy of {source} ended as {pb.JobState.Name(ended.state)}: {ended.failure}")
        return taken_s

    # --- by hand ---

    def by_globus(self, paths: Sequence[str], destination: str, *options: str) -> float:
        """Has files copied by `globus-url-copy` with a list; returns the seconds."""
        pairs = self.folder / "pairs"
        lines = [f"{self.source.url('alice', path)} {self.destination.url('bob', destination, path)}" for path in paths]
        pairs.write_text("\n".join(lines) + "\n")
        environment, credentials = self.by_hand()
        command = ["globus-url-copy", "-q", "-nodcau", "-cd", *options, *credentials, "-f", str(pairs)]
        began_s = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return time.perf_counter() - began_s

    def by_gfal2(self, paths: Sequence[str], destination: str) -> float:
        """Has files copied by a loop over gfal2 with two credentials; returns the seconds that the loop took."""
        (self.destination.data_dir("bob") / destination).mkdir(exist_ok=True)
        self.destination.own("bob")
        pairs = [
            (self.source.url("alice", path), self.destination.url("bob", destination, path.replace("/", "_")))
            for path in paths
        ]
        return self._in_gfal2(_COPY_LOOP, *(word for pair in pairs for word in pair))

    def listed_by_gfal2(self, name: str) -> float:
        """Has a directory listed by a bare loop over gfal2; returns the seconds that it took."""
        return self._in_gfal2(_LIST_LOOP, self.source.url("alice", name))

    def _in_gfal2(self, program: str, *arguments: str) -> float:
        environment, credentials = self.by_hand()
        doors = [self.source.url("alice", "").rstrip("/") + "/", self.destination.url("bob", "").rstrip("/") + "/"]
        prefixes = [door.split("/", 3)[0] + "//" + door.split("/", 3)[2] + "/" for door in doors]
        command = ["/usr/bin/python3", "-I", "-c", program, *prefixes, credentials[1], credentials[3], *arguments]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return float(done.stdout.split()[-1])

    def by_hand(self) -> tuple[dict[str, str], list[str]]:
        """Returns an environment and the options with both credentials; signs in at the first call."""
        trust = self.folder / "trust"
        source, destination = self.folder / "source.pem", self.folder / "destination.pem"
        if not trust.exists():
            merged_trust(trust, [self.source, self.destination])
            self.source.sign_in("alice", source)
            self.destination.sign_in("bob", destination)
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "X509_CERT_DIR": str(trust)}
        return environment, ["-src-cred", str(source), "-dst-cred", str(destination)]


@contextlib.contextmanager
def running_place(folder: Path, *, settings: dict[str, str] | None = None) -> Iterator[Place]:
    """Runs two sites and a deployment within the block."""
    with (
        RealSite("site-a") as source,
        RealSite("site-b") as destination,
        RealDeployment(folder / "centre", settings=settings) as deployment,
    ):
        person = deployment.sign_in_at_both(deployment.person("bench@example.org"), (source, destination))
        authority, certificate, key = deployment.certificate("gateway")
        credentials = grpc.ssl_channel_credentials(authority, key, certificate)
        address = str(deployment.buildout.service.queue.listen[0])
        with grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS) as channel:
            caller = ReplicaCaller(channel, lambda: str(person.tokens()["access_token"]))
            yield Place(deployment, person, caller, source, destination, folder)


_PREAMBLE = textwrap.dedent(
    """
    import sys, time, gfal2
    source, destination, source_cred, destination_cred, *rest = sys.argv[1:]
    context = gfal2.creat_context()
    context.set_opt_boolean("GRIDFTP PLUGIN", "SESSION_REUSE", True)
    context.set_opt_boolean("GRIDFTP PLUGIN", "DCAU", False)
    for prefix, cred in ((source, source_cred), (destination, destination_cred)):
        for kind in ("X509_CERT", "X509_KEY"):
            context.cred_set(prefix, context.cred_new(kind, cred))
    began = time.perf_counter()
    """
)
_COPY_LOOP = _PREAMBLE + textwrap.dedent(
    """
    parameters = context.transfer_parameters()
    parameters.strict_copy, parameters.local_transfers = True, False
    for place in range(0, len(rest), 2):
        context.filecopy(parameters, rest[place], rest[place + 1])
    print(time.perf_counter() - began)
    """
)
_LIST_LOOP = _PREAMBLE + textwrap.dedent(
    """
    handle = context.opendir(rest[0])
    count = 0
    while True:
        entry, found = handle.readpp()
        if entry is None:
            break
        count += 1
    print(time.perf_counter() - began)
    """
)
