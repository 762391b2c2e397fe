"""The circuit rests a provider that fails, and lets exactly one probe through after each rest."""

import asyncio

import pytest

from app.lane import AT_ONCE, FAILURES_IN_A_ROW, LONGEST_REST_SECONDS, RATE_OVER_CALLS, Full, Lane, Resting

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Lane:
    lane = Lane(clock)
    for _ in range(FAILURES_IN_A_ROW):
        lane.failed(1, "provider_error")
    assert_state(lane, "open")
    return lane


def assert_state(lane: Lane, state: str) -> None:
    assert lane.circuit.state == state


async def visit(lane: Lane) -> None:
    async with lane.seat(1):
        pass


async def test_one_probe_closes_the_circuit() -> None:
    clock = Clock()
    lane = opened(clock)
    with pytest.raises(Resting):
        await visit(lane)
    clock.now += 6
    async with lane.seat(1):
        assert_state(lane, "half_open")
        with pytest.raises(Resting):
            await visit(lane)
        lane.succeeded(1)
    assert_state(lane, "closed")
    await visit(lane)


async def test_a_failed_probe_doubles_the_rest_up_to_a_bound() -> None:
    clock = Clock()
    lane = opened(clock)
    for _ in range(8):
        clock.now += LONGEST_REST_SECONDS + 1
        async with lane.seat(1):
            lane.failed(1, "provider_error")
        with pytest.raises(Resting) as caught:
            await visit(lane)
    assert LONGEST_REST_SECONDS * 0.7 < caught.value.seconds <= LONGEST_REST_SECONDS


async def test_a_probe_that_is_cancelled_makes_room_for_another() -> None:
    clock = Clock()
    lane = opened(clock)
    clock.now += 6

    async def hang() -> None:
        async with lane.seat(1):
            await asyncio.sleep(60)

    probe = asyncio.create_task(hang())
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    await visit(lane)


async def test_a_bad_rate_opens_it_too() -> None:
    lane = Lane(Clock())
    for _ in range(RATE_OVER_CALLS):
        lane.succeeded(1)
    for _ in range(FAILURES_IN_A_ROW - 1):
        lane.failed(1, "provider_error")
    assert_state(lane, "closed")
    lane.succeeded(1)
    for _ in range(4):
        for _ in range(FAILURES_IN_A_ROW - 1):
            lane.failed(1, "provider_error")
        lane.circuit.failures = 0
    assert_state(lane, "open")


async def test_only_so_many_calls_are_under_way_and_a_seat_is_never_lost() -> None:
    lane = Lane(Clock())
    leave = asyncio.Event()

    async def stay() -> None:
        async with lane.seat(1):
            await leave.wait()

    seated = [asyncio.create_task(stay()) for _ in range(AT_ONCE)]
    await asyncio.sleep(0)
    with pytest.raises(Full):
        await visit(lane)
    waiting = asyncio.create_task(visit(lane))
    await asyncio.sleep(0)
    waiting.cancel()
    leave.set()
    await asyncio.gather(*seated)
    await asyncio.wait_for(asyncio.gather(*(visit(lane) for _ in range(AT_ONCE))), 1)


async def test_retries_are_paid_for_by_successes() -> None:
    lane = Lane(Clock())
    assert sum(lane.may_retry() for _ in range(50)) == 10
    for _ in range(10):
        lane.succeeded(1)
    assert lane.may_retry()
    assert not lane.may_retry()


def test_health_is_told_from_the_last_calls() -> None:
    lane = Lane(Clock())
    assert (lane.percentile(0.5), lane.error_rate) == (None, None)
    for ms in range(1, 101):
        lane.succeeded(ms)
    assert (lane.percentile(0.5), lane.percentile(0.99)) == (50, 99)
    lane.failed(1, "provider_timeout")
    assert lane.error_rate == pytest.approx(1 / 101, abs=1e-4)
    assert lane.last_error == "provider_timeout"
