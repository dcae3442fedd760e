"""Who is woken by what."""

from __future__ import annotations

from wherry_queue.hub import Hub, Waiter

AT_ONCE_S = 0.0


async def happened(waiter: Waiter) -> set[int]:
    return set(await waiter.wait(AT_ONCE_S))


async def test_a_waiter_hears_of_its_job_and_of_no_other() -> None:
    hub = Hub()
    with hub.waiting(1) as waiter:
        hub.notify([2])
        assert await happened(waiter) == set()
        hub.notify([1, 2])
        assert await happened(waiter) == {1}
        assert await happened(waiter) == set(), "once told is enough"


async def test_what_happens_between_two_waits_is_remembered() -> None:
    hub = Hub()
    with hub.waiting_for_jobs_of("users/a") as waiter:
        hub.begun("users/a", 1)
        hub.begun("users/a", 2)
        hub.notify([1])
        assert await happened(waiter) == {1, 2}


async def test_who_waits_for_a_users_jobs_hears_of_new_ones_and_what_becomes_of_them() -> None:
    hub = Hub()
    with hub.waiting_for_jobs_of("users/a") as waiter, hub.waiting_for_jobs_of("users/b") as other:
        hub.begun("users/a", 7)
        assert await happened(waiter) == {7}
        hub.notify([7])
        assert await happened(waiter) == {7}
        assert await happened(other) == set()


async def test_who_follows_some_jobs_hears_of_just_these() -> None:
    hub = Hub()
    with hub.waiting_for_jobs_of("users/a") as waiter:
        hub.follow("users/a", waiter, [1, 2])
        hub.follow("users/a", waiter, [2, 3])
        hub.notify([1, 2, 3])
        assert await happened(waiter) == {2, 3}


async def test_nothing_is_left_of_those_who_have_gone() -> None:
    hub = Hub()
    with hub.waiting(1), hub.waiting_for_jobs_of("users/a") as waiter, hub.waiting_for_jobs_of("users/a"):
        hub.follow("users/a", waiter, [1, 2])
        hub.begun("users/a", 3)
    assert vars(hub) == vars(Hub())


async def test_when_the_hub_is_closed_all_are_woken() -> None:
    hub = Hub()
    with hub.waiting(1) as one, hub.waiting_for_jobs_of("users/a") as all_:
        assert not hub.closed
        hub.close()
        for waiter in (one, all_):
            assert await waiter.wait(3600) == frozenset()
        assert hub.closed
