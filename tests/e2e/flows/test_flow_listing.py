"""Flow 4: a directory is listed by a worker at one replica for a caller at the other."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from wherry.queue.v1 import file_service_pb2
from wherry_queue.states import ENDED, TaskState
from wherry_testing.deployment_processes import LoggedProcess
from wherry_testing.flow_callers import ReplicaCaller
from wherry_testing.flows import FlowDeployment, until
from wherry_testing.sites import RealSite
from wherry_worker.work import Outcome

FILES = 12_000
NAMES = [f"f{number:06}" for number in range(FILES)]
GONE_WITHIN_S = 5.0
_LISTING = "select task.*, job.cancelled from task join job on task.job_id = job.id where task.source_path = :path"
_HOUR_MS = str(3_600_000)


def _names(call: Any) -> list[str]:
    """Reads a listing to its end."""
    messages: list[file_service_pb2.ListDirectoryResponse] = list(call)
    assert messages[-1].last
    assert not messages[-1].HasField("failure")
    return [entry.name for message in messages for entry in message.entries]


@pytest.fixture
def quick(flow: FlowDeployment) -> Iterator[LoggedProcess]:
    """A worker at the second replica whose listings take no time."""
    with flow.worker(at=1, pretending=[]) as worker:
        yield worker


@pytest.fixture
def slow(flow: FlowDeployment) -> Iterator[LoggedProcess]:
    """A worker at the second replica whose listings do not come to an end."""
    with flow.worker(at=1, pretending=["--task-ms", _HOUR_MS, "--spread", "fixed"]) as worker:
        yield worker


@pytest.mark.row("D18")
def test_a_real_directory_is_listed_by_a_worker_at_the_other_replica(
    flow: FlowDeployment, first: ReplicaCaller, two_sites: tuple[RealSite, RealSite]
) -> None:
    site, name = two_sites[0], f"listed-{secrets.token_hex(4)}"
    folder = site.data_dir("alice") / name
    folder.mkdir()
    for leaf in ("b", "a", "c d"):
        (folder / leaf).write_text(leaf)
    site.own("alice")
    with flow.worker(at=1):
        assert _names(first.listing("site-a", name)) == ["a", "b", "c d"]


@pytest.mark.row("D18")
def test_a_large_listing_arrives_whole_and_in_order_at_the_other_replica(
    quick: LoggedProcess, first: ReplicaCaller, synthetic: Callable[[str], str]
) -> None:
    assert _names(first.listing("site-a", synthetic(f"0x0x{FILES}"))) == NAMES


def test_a_listing_whose_report_is_repeated_shows_each_entry_once(
    flow: FlowDeployment, quick: LoggedProcess, first: ReplicaCaller, synthetic: Callable[[str], str]
) -> None:
    cut = flow.relay("worker", "queue", 1).cut("ReportEntries")
    assert _names(first.listing("site-a", synthetic(f"0x0x{FILES}"))) == NAMES
    assert cut.done


@pytest.mark.row("D18")
@pytest.mark.row("J1")
def test_a_tree_is_listed_whole_and_in_order_though_a_report_of_it_is_repeated(
    flow: FlowDeployment, quick: LoggedProcess, first: ReplicaCaller, synthetic: Callable[[str], str]
) -> None:
    cut = flow.relay("worker", "queue", 1).cut("ReportEntries")
    names = _names(first.listing("site-a", synthetic("4x2x500"), depth=3))
    folders = [f"d{number:03}" for number in range(4)]
    expected = folders + NAMES[:500]
    for one in folders:
        expected += [f"{one}/{name}" for name in folders + NAMES[:500]]
        expected += [f"{one}/{two}/{name}" for two in folders for name in NAMES[:500]]
    assert names == expected
    assert cut.done


@pytest.mark.row("J1")
def test_the_listing_of_a_tree_is_cancelled_in_its_midst_when_its_caller_leaves(
    flow: FlowDeployment, first: ReplicaCaller, synthetic: Callable[[str], str]
) -> None:
    path = synthetic("100x2x5")
    with flow.worker(at=1, pretending=["--task-ms", "300", "--spread", "fixed"]) as worker:
        listing = first.listing("site-a", path, depth=3)
        told = next(message for message in listing if any("/" in entry.name for entry in message.entries))
        assert told.depth == 3
        listing.cancel()
        (task,) = until(lambda: _all_ended(flow, path), "the listing has ended", GONE_WITHIN_S)
        assert (task["state"], task["cancelled"]) == (TaskState.CANCELLED, True)
        ended = until(lambda: worker.events("task_ended"), "its worker has stopped it")
        assert [said["outcome"] for said in ended] == [Outcome.CANCELLED.value]


def _running(flow: FlowDeployment, path: str) -> bool:
    return any(row["state"] == TaskState.RUNNING for row in flow.rows(_LISTING, path=path.encode()))


def _all_ended(flow: FlowDeployment, path: str) -> list[dict[str, Any]] | None:
    rows = flow.rows(_LISTING, path=path.encode())
    return rows if all(row["state"] in ENDED for row in rows) else None


@pytest.mark.row("D18")
def test_a_listing_is_cancelled_when_its_caller_leaves(
    flow: FlowDeployment, slow: LoggedProcess, first: ReplicaCaller, synthetic: Callable[[str], str]
) -> None:
    path = synthetic("0x0x10")
    listing = first.listing("site-a", path)
    until(lambda: _running(flow, path), "the listing runs")
    listing.cancel()
    (task,) = until(lambda: _all_ended(flow, path), "the listing has ended", GONE_WITHIN_S)
    assert (task["state"], task["cancelled"], task["attempt_count"]) == (TaskState.CANCELLED, True, 1)
    ended = until(lambda: slow.events("task_ended"), "its worker has stopped it")
    assert [said["outcome"] for said in ended] == [Outcome.CANCELLED.value]


@pytest.mark.row("D18")
def test_a_listing_is_cancelled_when_its_callers_connection_dies_and_nobody_takes_it_up_again(
    flow: FlowDeployment, slow: LoggedProcess, first: ReplicaCaller, synthetic: Callable[[str], str]
) -> None:
    path = synthetic("0x0x10")
    listing = first.listing("site-a", path)
    until(lambda: _running(flow, path), "the listing runs")
    relay = flow.relay("gateway", "queue", 0)
    relay.sever()
    try:
        with pytest.raises(grpc.RpcError):
            next(listing)
        (task,) = until(lambda: _all_ended(flow, path), "the listing has ended", GONE_WITHIN_S)
    finally:
        relay.restore()
    assert (task["state"], task["attempt_count"]) == (TaskState.CANCELLED, 1)


def test_a_caller_whose_listing_was_lost_lists_again_at_the_other_replica(
    flow: FlowDeployment,
    quick: LoggedProcess,
    first: ReplicaCaller,
    second: ReplicaCaller,
    synthetic: Callable[[str], str],
) -> None:
    path = synthetic(f"0x0x{FILES}")
    cut = flow.relay("gateway", "queue", 0).cut("ListDirectory", message=2)
    listing = first.listing("site-a", path)
    begun = next(listing)
    with pytest.raises(grpc.RpcError) as lost:
        list(listing)
    cut.wait()
    assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
    assert [entry.name for entry in begun.entries] == NAMES[: len(begun.entries)]
    assert _names(second.listing("site-a", path)) == NAMES
    tasks = until(lambda: _all_ended(flow, path), "both listings have ended", GONE_WITHIN_S)
    assert [task["attempt_count"] for task in tasks] == [1, 1]
