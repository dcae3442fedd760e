"""Copies and listings between two real GridFTP servers, against the tools that people have for them by hand.

Ours is measured from the asking for a job to its end, through all services; the others without any of that. Ours and
theirs take turns, and medians are compared: what the machine does besides hits both.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable

from wherry.queue.v1 import file_service_pb2
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.type.v1 import data_channel_pb2, entry_pb2
from wherry_worker.engine_process import resident_bytes

from bench.gridftp_place import Place, running_place
from bench.measure import Bench, BenchmarkError, Measurement, Peer, benchmark

_GROUP = "gridftp"
_ROUNDS = 3
_CLEAR = data_channel_pb2.DATA_CHANNEL_CLEAR
"""The peers send in clear: equal work. What encrypting costs, as small files are unless told so, is measured apart."""
_VERIFIED = pb.CopyOptions(data_channel=_CLEAR)
_UNVERIFIED = pb.CopyOptions(data_channel=_CLEAR, verification=pb.VERIFICATION_SIZE)
_SETS = {"10KB": (5000, 10_000), "100KB": (2000, 100_000), "1MB": (200, 1_000_000)}
"""Files and their size in bytes."""
_TREE = (1000, 19, 10_000)
"""Directories, files in each, their size: 20,000 entries in all."""
_LARGE_BYTES = 2_000_000_000
_LISTED = 20_000
_WARM = 100
_GFAL_FILES = 50
_TASKS, _FILES_OF_TASK = 10_000, 10
_FIRST_TASKS = 1000


def _turns(bench: Bench, ours: Callable[[int], float], theirs: Callable[[int], float]) -> tuple[float, float]:
    """Lets both work by turns; returns the medians of their seconds."""
    our_s, their_s = [], []
    for turn in range(_ROUNDS):
        our_s.append(ours(turn))
        their_s.append(theirs(turn))
        bench.say(f"ours {our_s[-1]:.2f} s, theirs {their_s[-1]:.2f} s")
    return statistics.median(our_s), statistics.median(their_s)


@benchmark(_GROUP)
def large_file(bench: Bench) -> list[Measurement]:
    """One file of 2 GB, unverified on both sides, against the best of three ways of globus-url-copy."""
    with running_place(bench.folder) as place:
        (path,) = place.files("large", 1, _LARGE_BYTES)
        ways = {"-p 1": ("-p", "1"), "-p 4": ("-p", "4"), "-fast": ("-fast",)}
        place.copied("large", "warm", _UNVERIFIED)
        our_s: list[float] = []
        their_s: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(_ROUNDS):
            our_s.append(place.copied("large", f"ours{turn}", _UNVERIFIED))
            for number, (way, options) in enumerate(ways.items()):
                name = f"theirs{turn}{number}"
                place.room(name)
                their_s[way].append(place.by_globus([path], name, *options))
                _empty(place, name)
            _empty(place, f"ours{turn}")
        best = min(ways, key=lambda way: statistics.median(their_s[way]))
        rates = {way: _LARGE_BYTES / 1e6 / statistics.median(their_s[way]) for way in ways}
        bench.say(", ".join(f"globus-url-copy {way}: {rate:.0f} MB/s" for way, rate in rates.items()))
        ours = _LARGE_BYTES / 1e6 / statistics.median(our_s)
    return [Measurement("gridftp/large-vs-guc", ours, "MB/s", Peer(f"globus-url-copy {best}", rates[best]))]


@benchmark(_GROUP)
def small_files(bench: Bench) -> list[Measurement]:
    """Many small files: verified and not, encrypted and clear, and against a loop over gfal2."""
    measured = []
    with running_place(bench.folder) as place:
        sets = {name: place.files(name, count, size) for name, (count, size) in _SETS.items()}
        directories, files, size_bytes = _TREE
        sets["tree"] = place.tree("tree", directories, files, size_bytes)
        place.copied("1MB", "warm")
        verified, unverified = {}, {}
        for name, paths in sets.items():
            bench.say(f"{name}: {len(paths)} files, verified")
            verified[name] = _against_globus(bench, place, name, paths, verify=True)
            bench.say(f"{name}, not verified")
            unverified[name] = _against_globus(bench, place, name, paths, verify=False)
        measured += _ratios("small-vs-guc-verified", "globus-url-copy -fast -pp -verify-checksum", verified)
        measured += _ratios("small-vs-guc", "globus-url-copy -fast -pp", unverified)
        first = sets["10KB"][:_GFAL_FILES]
        theirs = len(first) / place.by_gfal2(first, "gfal")
        ours = verified["10KB"][0]
        measured.append(
            Measurement("gridftp/small-vs-gfal", ours, "files/s", Peer("gfal2 loop, two credentials", theirs))
        )
        measured.append(_encrypted_against_clear(bench, place, len(sets["10KB"])))
    return measured


def _against_globus(bench: Bench, place: Place, name: str, paths: list[str], *, verify: bool) -> tuple[float, float]:
    """Returns both rates, in files a second."""
    options = ("-fast", "-pp", *(("-verify-checksum",) if verify else ()))

    def ours(turn: int) -> float:
        target = f"ours-{name}-{turn}-{verify}"
        taken_s = place.copied(name, target, _VERIFIED if verify else _UNVERIFIED)
        _empty(place, target)
        return taken_s

    def theirs(turn: int) -> float:
        target = f"theirs-{name}-{turn}-{verify}"
        place.room(target)
        taken_s = place.by_globus(paths, target, *options)
        _empty(place, target)
        return taken_s

    our_s, their_s = _turns(bench, ours, theirs)
    return len(paths) / our_s, len(paths) / their_s


def _ratios(name: str, peer: str, rates: dict[str, tuple[float, float]]) -> list[Measurement]:
    """Returns a measurement for each set, and the least of them under the bare name: that has to reach the target."""
    each = [
        Measurement(f"gridftp/{name}-{what}", ours, "files/s", Peer(peer, theirs))
        for what, (ours, theirs) in rates.items()
    ]
    least = min(rates.values(), key=lambda pair: pair[0] / pair[1])
    return [*each, Measurement(f"gridftp/{name}", least[0], "files/s", Peer(peer, least[1]))]


def _encrypted_against_clear(bench: Bench, place: Place, count: int) -> Measurement:
    def copied(channel: data_channel_pb2.DataChannel.ValueType, turn: int) -> float:
        target = f"channel-{channel}-{turn}"
        taken_s = place.copied("10KB", target, pb.CopyOptions(data_channel=channel))
        _empty(place, target)
        return taken_s

    encrypted_s, clear_s = _turns(
        bench,
        lambda turn: copied(data_channel_pb2.DATA_CHANNEL_ENCRYPTED, turn),
        lambda turn: copied(_CLEAR, turn),
    )
    peer = Peer("the same in clear", count / clear_s)
    return Measurement("gridftp/encrypted-small-vs-clear", count / encrypted_s, "files/s", peer)


@benchmark(_GROUP)
def listings(bench: Bench) -> list[Measurement]:
    """A directory of 20,000 against a bare loop over gfal2, and a small one while everything is warm."""
    with running_place(bench.folder) as place:
        place.files("many", _LISTED, 10)
        place.files("few", _WARM, 10)
        _list(place, "few")
        ours_s, theirs_s = _turns(
            bench, lambda _turn: _list(place, "many", _LISTED), lambda _turn: place.listed_by_gfal2("many")
        )
        warm_ms = statistics.median(_list(place, "few", _WARM) for _ in range(20)) * 1000
    return [
        Measurement("gridftp/list-vs-gfal", ours_s, "s", Peer("gfal2 readpp loop", theirs_s)),
        Measurement("gridftp/list-warm-ms", warm_ms, "ms"),
    ]


def _list(place: Place, name: str, expected: int | None = None) -> float:
    request = file_service_pb2.ListDirectoryRequest(location=entry_pb2.Location(site="sites/site-a", path=name))
    began_s = time.perf_counter()
    count = sum(
        len(message.entries)
        for message in place.caller.files.ListDirectory(request, metadata=place.caller.metadata, timeout=120)
    )
    taken_s = time.perf_counter() - began_s
    if expected is not None and count != expected:
        raise BenchmarkError(f"{count} entries of {expected} were listed")
    return taken_s


@benchmark(_GROUP)
def memory(bench: Bench) -> list[Measurement]:
    """What the worker and its engines hold after 10,000 tasks of ten files, against after 1,000; the same processes."""
    with running_place(bench.folder, settings={"worker": "bulk = 1\ninteractive = 1"}) as place:
        place.tree("tasks", _TASKS // 10, _FILES_OF_TASK, 10_000)
        worker = place.deployment.workers[0]
        copied, first = 0, (0.0, frozenset[int]())
        while copied < _TASKS:
            place.copied("tasks", f"copy{copied}")
            copied += _TASKS // 10
            _empty(place, f"copy{copied - _TASKS // 10}")
            pids = frozenset({worker.pid, *worker.children()})
            held_mb = sum(resident_bytes(pid) for pid in pids) / 1e6
            bench.say(f"{copied} tasks: {held_mb:.0f} MB in {len(pids)} processes")
            if copied == _FIRST_TASKS:
                first = held_mb, pids
        if pids != first[1]:
            raise BenchmarkError("the processes are not the same any more")
    return [Measurement("gridftp/memory-growth", held_mb, "MB", Peer(f"after {_FIRST_TASKS} tasks", first[0]))]


def _empty(place: Place, name: str) -> None:
    """Removes what was copied, so that disks do not fill; by hand, as no part of the measurement."""
    shutil.rmtree(place.destination.data_dir("bob") / name)
