"""Fair share as a pure choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wherry_queue.fairness import (
    WORK_PER_PRIORITY,
    LaneQueue,
    Picked,
    UserShare,
    Waiting,
    pick,
    rank,
    work,
)


def lane(
    number: int,
    user: int,
    tasks: int,
    *,
    limits: Sequence[Hashable] = (),
    priority: int = 5,
    cost: float = 1.0,
    since: float = 0.0,
) -> LaneQueue:
    """A lane that was last served, or made, at a virtual time of its user's."""
    waiting = [Waiting(number * 1000 + i, cost) for i in range(tasks)]
    return LaneQueue(number, user, priority, rank(since, priority), waiting, limits)


def share(user: int, vtime: float = 0.0, weight: float = 1.0) -> UserShare:
    return UserShare(user, vtime, weight)


def chosen(
    lanes: Iterable[LaneQueue], users: Iterable[UserShare], want: int, rooms: Mapping[Hashable, int] | None = None
) -> Sequence[Picked]:
    return pick(lanes, users, rooms or {}, want).picked


@pytest.mark.row("D3")
def test_users_take_turns_however_many_lanes_they_have() -> None:
    lanes = [lane(1, 1, 5), lane(2, 1, 5), lane(3, 1, 5), lane(4, 2, 5)]
    users = [choice.user_id for choice in chosen(lanes, [share(1), share(2)], 8)]
    assert users == [1, 2] * 4


@pytest.mark.row("D3")
def test_large_tasks_cost_their_user_more_turns() -> None:
    lanes = [lane(1, 1, 10, cost=work(1000, 0)), lane(2, 2, 20, cost=work(1, 0))]
    first = [choice.user_id for choice in chosen(lanes, [share(1), share(2)], 10)]
    assert first.count(1) == 1


@pytest.mark.row("D3")
def test_bytes_cost_turns_as_files_do() -> None:
    lanes = [lane(1, 1, 10, cost=work(1, 1_000_000_000)), lane(2, 2, 20, cost=work(1, 0))]
    first = [choice.user_id for choice in chosen(lanes, [share(1), share(2)], 10)]
    assert first.count(1) == 1


@pytest.mark.row("D3")
def test_a_user_of_twice_the_weight_gets_twice_the_turns() -> None:
    lanes = [lane(1, 1, 40), lane(2, 2, 40)]
    users = [choice.user_id for choice in chosen(lanes, [share(1, weight=2.0), share(2)], 30)]
    assert users.count(1) == 20


@pytest.mark.row("J1")
def test_priority_orders_ones_own_lanes_and_takes_nothing_from_others() -> None:
    lanes = [lane(1, 1, 2, priority=1), lane(2, 1, 2, priority=9), lane(3, 2, 4, priority=0)]
    choices = chosen(lanes, [share(1), share(2)], 8)
    assert [choice.lane_id for choice in choices if choice.user_id == 1] == [2, 2, 1, 1]
    assert [choice.user_id for choice in choices[:4]] == [1, 2, 1, 2]


def test_lanes_of_one_priority_go_in_turn() -> None:
    lanes = [lane(1, 1, 4), lane(2, 1, 4), lane(3, 1, 4)]
    assert [choice.lane_id for choice in chosen(lanes, [share(1)], 9)] == [1, 2, 3] * 3


def test_a_small_job_does_not_wait_behind_ones_own_million_files() -> None:
    # The large one has been served for long; the small one is made now, at its user's virtual time.
    lanes = [lane(1, 1, 100, since=10_000.0), lane(2, 1, 3, since=10_000.0)]
    order = [choice.lane_id for choice in chosen(lanes, [share(1, 10_000.0)], 10)]
    assert order[:6].count(2) == 3


def test_a_lane_keeps_its_turn_between_one_lease_and_the_next() -> None:
    tasks = {1: 20, 2: 20}
    ranks = {number: rank(0.0, 5) for number in tasks}
    vtime, served = 0.0, []
    for _ in range(20):
        lanes = [
            LaneQueue(number, 1, 5, ranks[number], [Waiting(number * 1000 + left, 1.0)])
            for number, left in tasks.items()
        ]
        choice = pick(lanes, [share(1, vtime)], {}, 1)
        (picked,) = choice.picked
        assert set(choice.ranks) == {picked.lane_id}, "a lane that was not served has lost its place"
        ranks |= choice.ranks
        vtime += picked.charge
        tasks[picked.lane_id] -= 1
        served.append(picked.lane_id)
    assert served == [1, 2] * 10


@pytest.mark.row("J1")
@settings(max_examples=25, deadline=None)
@given(
    priorities=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    costs=st.lists(st.floats(0.5, 20.0), min_size=1, max_size=6),
    weight=st.sampled_from([0.5, 1.0, 4.0]),
)
def test_a_lane_of_the_lowest_priority_gets_its_turn_whatever_comes(
    priorities: list[int], costs: list[float], weight: float
) -> None:
    # At each turn a new lane is made that is more urgent, at the moment's virtual time.
    start, most = 1000.0, max(costs)
    oldest = LaneQueue(0, 1, 0, rank(start, 0), [Waiting(0, 1.0)])
    vtime, others, done = start, [], 0.0
    for turn in range(100_000):
        urgent = priorities[turn % len(priorities)]
        task = Waiting(turn + 1, costs[turn % len(costs)])
        others.append(LaneQueue(turn + 1, 1, urgent, rank(vtime, urgent), [task]))
        (picked,) = chosen([oldest, *others], [share(1, vtime, weight)], 1)
        if picked.lane_id == 0:
            break
        others = [other for other in others if other.lane_id != picked.lane_id]
        vtime += picked.charge
        done += picked.charge * weight
        # Their own work, in units, of a user who is as heavy as all others; a heavier one has more done in that time.
        assert done <= (9 * WORK_PER_PRIORITY * weight) + most + 1e-6, "it has been passed over for too long"
    else:
        pytest.fail("it never got its turn")


def test_a_full_link_is_passed_over_for_another() -> None:
    lanes = [lane(1, 1, 5, limits=["link 1"]), lane(2, 1, 5, limits=["link 2"])]
    choices = chosen(lanes, [share(1)], 6, {"link 1": 2, "link 2": 100})
    assert Counter(choice.lane_id for choice in choices) == {1: 2, 2: 4}


def test_a_task_needs_room_in_every_one_of_its_limits() -> None:
    lanes = [
        lane(1, 1, 5, limits=["link", "out"]),
        lane(2, 2, 5, limits=["out", "in"]),
        lane(3, 3, 5, limits=["in"]),
    ]
    choices = chosen(lanes, [share(1), share(2), share(3)], 15, {"link": 1, "out": 3, "in": 4})
    assert Counter(choice.lane_id for choice in choices) == {1: 1, 2: 2, 3: 2}


def test_a_limit_that_is_passed_already_lets_nothing_start() -> None:
    assert not chosen([lane(1, 1, 5, limits=["link"])], [share(1)], 5, {"link": -2})


_SHAPES = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 8), st.sets(st.sampled_from("abc"))), max_size=12
)  # fmt: skip


@given(
    shapes=_SHAPES,
    want=st.integers(0, 40),
    rooms=st.fixed_dictionaries({limit: st.integers(-1, 10) for limit in "abc"}),
    vtimes=st.lists(st.floats(0, 100), min_size=5, max_size=5),
)
def test_nothing_is_chosen_twice_no_limit_is_passed_and_no_place_is_left_empty(
    shapes: list[tuple[int, int, set[str]]], want: int, rooms: dict[Hashable, int], vtimes: list[float]
) -> None:
    lanes = [lane(number, user, tasks, limits=sorted(limits)) for number, (user, tasks, limits) in enumerate(shapes)]
    choices = chosen(lanes, [share(user, vtimes[user - 1]) for user in range(1, 6)], want, rooms)
    ids = [choice.task_id for choice in choices]
    assert len(ids) == len(set(ids)) <= want
    taken = Counter(choice.lane_id for choice in choices)
    used = Counter(limit for choice in choices for limit in lanes[choice.lane_id].limits)
    for limit, count in used.items():
        assert count <= rooms[limit]
    for one in lanes:
        in_order = [task.task_id for task in one.tasks[: taken[one.lane_id]]]
        assert [task_id for task_id in ids if task_id // 1000 == one.lane_id] == in_order
        if len(ids) < want and taken[one.lane_id] < len(one.tasks):
            assert any(rooms[limit] - used[limit] <= 0 for limit in one.limits), "there was room for it"


@given(st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0.5, 1.0, 2.0])), min_size=2, max_size=6))
def test_nobody_gets_ahead_of_another_who_waits_by_more_than_a_task(loads: list[tuple[int, float]]) -> None:
    lanes = [lane(user, user, tasks) for user, (tasks, _) in enumerate(loads, 1)]
    users = [share(user, weight=weight) for user, (_, weight) in enumerate(loads, 1)]
    left = {user: tasks for user, (tasks, _) in enumerate(loads, 1)}
    paid = dict.fromkeys(left, 0.0)
    for choice in chosen(lanes, users, sum(left.values())):
        waiting = [paid[user] for user, tasks in left.items() if tasks]
        assert paid[choice.user_id] == min(waiting)
        paid[choice.user_id] += choice.charge
        left[choice.user_id] -= 1
