"""The demonstration's directory, copied by Wherry and, by hand, by globus-url-copy between the same two servers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wherry_deploy.demonstration import source_data
from wherry_testing.deployment import Person, RealDeployment
from wherry_testing.sites import RealSite, merged_trust


@dataclass(frozen=True)
class Place:
    """A deployment with two sites and somebody who is signed in at both."""

    deployment: RealDeployment
    person: Person
    source: RealSite
    destination: RealSite
    folder: Path

    def directory(self, name: str) -> Path:
        """Returns a new folder at the destination, as seen on the disk, that its user owns."""
        path = self.destination.data_dir("bob") / name
        path.mkdir()
        self.destination.own("bob")
        return path


@contextlib.contextmanager
def running_place(folder: Path) -> Iterator[Place]:
    """Runs everything within the block, the demonstration's data at the source."""
    with (
        RealSite("site-a") as source,
        RealSite("site-b") as destination,
        RealDeployment(folder / "centre") as deployment,
    ):
        person = deployment.sign_in_at_both(deployment.person("bench@example.org"), (source, destination))
        source_data.make(source.data_dir("alice"))
        source.own("alice")
        yield Place(deployment, person, source, destination, folder)


SMALL = f"{source_data.NAME}/readings"
"""48 files of 1 to 40 KB in two directories."""
LARGE = f"{source_data.NAME}/detector"
"""One file of 300 MB."""
# The rest of the directory is left out: globus-url-copy cannot read a directory with its names ("error parsing url").


def data_size(what: str) -> tuple[int, int]:
    """Returns how many files and bytes a part of the demonstration's directory has."""
    part = what.removeprefix(f"{source_data.NAME}/") + "/"
    found = [file for file in source_data.files() if file.path.startswith(part)]
    return len(found), sum(file.size_bytes for file in found)


def copy_with_wherry(place: Place, name: str, what: str) -> float:
    """Copies a directory and returns the seconds from the command's start to its end, verification included."""
    place.directory(name)
    begun_s = time.perf_counter()
    place.person.wherry.must("cp", "-r", f"site-a:{what}", f"site-b:{name}/copy")
    return time.perf_counter() - begun_s


def copy_with_globus(place: Place, name: str, what: str) -> float:
    """Copies it with `globus-url-copy -fast -pp`, two credentials, no verification; returns the seconds that took."""
    place.directory(name)
    environment, credentials = _globus(place)
    source = f"{place.source.url('alice', what)}/"
    destination = f"{place.destination.url('bob', name, 'copy')}/"
    command = ["globus-url-copy", "-q", "-fast", "-pp", "-r", "-cd", "-nodcau", *credentials, source, destination]
    begun_s = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - begun_s


def list_with_wherry(place: Place) -> float:
    """Lists a directory with the command; returns the seconds."""
    begun_s = time.perf_counter()
    place.person.wherry.must("ls", f"site-a:{source_data.NAME}/readings/2024-05")
    return time.perf_counter() - begun_s


def list_with_globus(place: Place) -> float:
    """Lists the same directory with `globus-url-copy -list`; returns the seconds."""
    environment, credentials = _globus(place)
    url = place.source.url("alice", source_data.NAME, "readings", "2024-05") + "/"
    command = ["globus-url-copy", "-nodcau", "-cred", credentials[1], "-list", url]
    begun_s = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - begun_s


def _globus(place: Place) -> tuple[dict[str, str], list[str]]:
    """Returns the environment and the options with both credentials; signs in at the first call."""
    trust = place.folder / "trust"
    source, destination = place.folder / "source.pem", place.folder / "destination.pem"
    if not trust.exists():
        merged_trust(trust, [place.source, place.destination])
        place.source.sign_in("alice", source)
        place.destination.sign_in("bob", destination)
    environment = {"PATH": os.environ["PATH"], "HOME": str(place.folder), "X509_CERT_DIR": str(trust)}
    return environment, ["-src-cred", str(source), "-dst-cred", str(destination)]
