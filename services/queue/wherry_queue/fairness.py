"""Fair share: stride scheduling over users.

The user with the least virtual time goes next and pays for the work, divided by their weight. Work is files and bytes,
not tasks, so that a user of large chunks pays for large chunks. Within a user, lanes go by priority, then in order of
age. A priority never takes a place from another user.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_FILES_PER_UNIT = 100
_BYTES_PER_UNIT = 100_000_000


def work(entry_count: int, total_bytes: int) -> float:
    """Returns what a task costs, in units: 1 for itself, 1 for each 100 files, 1 for each 100 MB."""
    return 1 + entry_count / _FILES_PER_UNIT + total_bytes / _BYTES_PER_UNIT


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task that could be leased."""

    task_id: int
    cost: float


@dataclass(slots=True)
class LaneQueue:
    """A lane with the tasks at its head, in order."""

    lane_id: int
    user_id: int
    link_id: int
    priority: int
    tasks: Sequence[Waiting]


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
    link_id: int
    charge: float


def pick(lanes: Iterable[LaneQueue], users: Iterable[UserShare], rooms: dict[int, int], want: int) -> list[Picked]:
    """Chooses up to `want` tasks, in the order in which they are served.

    Args:
        lanes: the candidates.
        users: the users of those lanes.
        rooms: for links with a limit, how many more tasks they take.
    """
    shares = {user.user_id: user for user in users}
    rooms = dict(rooms)
    queues: dict[int, list[LaneQueue]] = {}
    for lane in sorted(lanes, key=lambda lane: (-lane.priority, lane.lane_id)):
        queues.setdefault(lane.user_id, []).append(lane)
    positions: dict[int, int] = {}
    turn = itertools.count()
    heap = [(shares[user].vtime, next(turn), user) for user in queues]
    heapq.heapify(heap)
    picked: list[Picked] = []
    while heap and len(picked) < want:
        vtime, _, user = heapq.heappop(heap)
        chosen = _next_lane(queues[user], positions, rooms)
        if chosen is None:
            continue
        position = positions.get(chosen.lane_id, 0)
        task = chosen.tasks[position]
        positions[chosen.lane_id] = position + 1
        if chosen.link_id in rooms:
            rooms[chosen.link_id] -= 1
        charge = task.cost / shares[user].weight
        picked.append(Picked(task.task_id, chosen.lane_id, user, chosen.link_id, charge))
        heapq.heappush(heap, (vtime + charge, next(turn), user))
    return picked


def _next_lane(lanes: list[LaneQueue], positions: dict[int, int], rooms: dict[int, int]) -> LaneQueue | None:
    for lane in lanes:
        if rooms.get(lane.link_id, 1) > 0 and positions.get(lane.lane_id, 0) < len(lane.tasks):
            return lane
    return None
