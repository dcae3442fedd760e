"""Fair share: stride scheduling over users, and turns with priorities within a user.

The user with the least virtual time goes next and pays for the work, divided by their weight. Work is files and bytes,
not tasks, so that a user of large chunks pays for large chunks. Within a user the lane with the least rank goes next.
A priority never takes a place from another user.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

WORK_PER_PRIORITY = 50.0
"""A step of priority is worth so much of the user's own work, divided by weight: 5,000 files, or 5 GB."""
_FILES_PER_UNIT = 100
_BYTES_PER_UNIT = 100_000_000


def work(entry_count: int, total_bytes: int) -> float:
    """Returns what a task costs, in units: 1 for itself, 1 for each 100 files, 1 for each 100 MB."""
    return 1 + entry_count / _FILES_PER_UNIT + total_bytes / _BYTES_PER_UNIT


def rank(vtime: float, priority: int) -> float:
    """Returns the place of a lane among its user's lanes, least first.

    Lanes of the same priority go in turn: the one that has waited longest is next, so that a small job does not wait
    behind one's own million files. A more urgent one goes first, until so much of the user's other work has been done
    since the last turn of the less urgent one that its age makes up for the difference; nothing waits for ever.

    Args:
        vtime: the user's virtual time when the lane was last served, or made.
        priority: 0 (last) to 9 (first).
    """
    return vtime - priority * WORK_PER_PRIORITY


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task that could be leased."""

    task_id: int
    cost: float


@dataclass(slots=True)
class LaneQueue:
    """A lane with the tasks at its head, in order.

    Attributes:
        limits: the limits that its tasks count against, as keys of `pick`'s `rooms`.
    """

    lane_id: int
    user_id: int
    priority: int
    rank: float
    tasks: Sequence[Waiting]
    limits: Sequence[Hashable] = ()


@dataclass(slots=True)
class UserShare:
    """A user's virtual time and weight."""

    user_id: int
    vtime: float
    weight: float


@dataclass(frozen=True, slots=True)
class Picked:
    """A task chosen, and what its user pays."""

    task_id: int
    lane_id: int
    user_id: int
    charge: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, in the order in which it is served, and the new ranks of the lanes it was taken from."""

    picked: Sequence[Picked]
    ranks: Mapping[int, float]


def pick(lanes: Iterable[LaneQueue], users: Iterable[UserShare], rooms: Mapping[Hashable, int], want: int) -> Choice:
    """Chooses up to `want` tasks.

    Args:
        lanes: the candidates.
        users: the users of those lanes.
        rooms: for each limit, how many more tasks it lets start.
    """
    shares = {user.user_id: user for user in users}
    left = dict(rooms)
    queues: dict[int, list[tuple[float, int, LaneQueue]]] = {}
    for lane in lanes:
        queues.setdefault(lane.user_id, []).append((lane.rank, lane.lane_id, lane))
    for queue in queues.values():
        heapq.heapify(queue)
    positions: dict[int, int] = {}
    turn = itertools.count()
    heap = [(shares[user].vtime, next(turn), user) for user in sorted(queues)]
    heapq.heapify(heap)
    picked: list[Picked] = []
    ranks: dict[int, float] = {}
    while heap and len(picked) < want:
        vtime, _, user = heapq.heappop(heap)
        lane_or_none = _next_lane(queues[user], positions, left)
        if lane_or_none is None:
            continue
        lane = lane_or_none
        task = lane.tasks[positions.get(lane.lane_id, 0)]
        positions[lane.lane_id] = positions.get(lane.lane_id, 0) + 1
        for limit in lane.limits:
            left[limit] -= 1
        charge = task.cost / shares[user].weight
        picked.append(Picked(task.task_id, lane.lane_id, user, charge))
        ranks[lane.lane_id] = rank(vtime + charge, lane.priority)
        heapq.heappush(queues[user], (ranks[lane.lane_id], lane.lane_id, lane))
        heapq.heappush(heap, (vtime + charge, next(turn), user))
    return Choice(picked, ranks)


def _next_lane(
    queue: list[tuple[float, int, LaneQueue]], positions: Mapping[int, int], left: Mapping[Hashable, int]
) -> LaneQueue | None:
    """Takes the user's next lane out of their queue. One without tasks or room is dropped: it gets none any more."""
    while queue:
        _, lane_id, lane = heapq.heappop(queue)
        if positions.get(lane_id, 0) < len(lane.tasks) and all(left[limit] > 0 for limit in lane.limits):
            return lane
    return None
