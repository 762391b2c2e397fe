"""Whoever waits for an invoice is told as soon as it changes, and costs next to nothing until then."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from app.service.watch import FEED, Watch
from tests.world import World, open_world

pytestmark = pytest.mark.anyio


@pytest.fixture
async def replicas(postgresql_url: str) -> AsyncIterator[tuple[World, World]]:
    async with open_world(postgresql_url) as first, open_world(postgresql_url, beside=first) as second:
        yield first, second


async def test_a_notification_wakes_who_waits(world: World) -> None:
    invoice = await world.created("sellapp")
    waiting = asyncio.create_task(world.read(invoice["id"], wait=20, since=invoice["version"]))
    await asyncio.sleep(0.3)
    began = time.perf_counter()
    await world.settle("sellapp", invoice["provider_invoice_id"], "paid", "once")
    now = await waiting
    assert (now["status"], now["version"] > invoice["version"]) == ("completed", True)
    assert time.perf_counter() - began < 0.5


async def test_a_change_by_another_replica_wakes_too(replicas: tuple[World, World]) -> None:
    here, there = replicas
    invoice = await here.created("generic")
    waiting = asyncio.create_task(there.read(invoice["id"], wait=20, refresh="false"))
    await asyncio.sleep(0.5)
    began = time.perf_counter()
    await here.settle("generic", invoice["provider_invoice_id"], "paid", "once")
    assert (await waiting)["status"] == "completed"
    assert time.perf_counter() - began < 0.8


async def test_what_the_caller_has_not_seen_yet_is_told_at_once(world: World) -> None:
    invoice = await world.created("generic")
    began = time.perf_counter()
    await world.read(invoice["id"], wait=20, since=invoice["version"] - 1)
    assert time.perf_counter() - began < 1


async def test_a_finished_invoice_is_not_waited_for(world: World) -> None:
    invoice = await world.created("generic")
    await world.settle("generic", invoice["provider_invoice_id"], "paid")
    await world.read(invoice["id"], refresh="true")
    began = time.perf_counter()
    assert (await world.read(invoice["id"], wait=20))["status"] == "completed"
    assert time.perf_counter() - began < 1


async def test_in_vain_it_ends_in_time_with_what_there_is(world: World) -> None:
    invoice = await world.created("generic")
    began = time.perf_counter()
    now = await world.read(invoice["id"], wait=1)
    assert (now["status"], now["version"]) == ("pending", invoice["version"])
    assert 0.9 < time.perf_counter() - began < 2.5


async def test_who_is_not_told_by_the_provider_still_sees_it(world: World) -> None:
    """A provider that notifies nobody is asked while somebody waits."""
    invoice = await world.created("bluetape")
    waiting = asyncio.create_task(world.read(invoice["id"], wait=20))
    await asyncio.sleep(0.2)
    await world.settle("bluetape", invoice["provider_invoice_id"], "paid")
    assert (await asyncio.wait_for(waiting, 5))["status"] == "completed"


async def test_five_hundred_who_wait_cost_one_look_an_interval(world: World) -> None:
    invoice = await world.created("generic")
    await world.read(invoice["id"], refresh="true")
    await world.sandbox.delete("/_control/generic/requests")
    began = time.perf_counter()
    waiting = [asyncio.create_task(world.read(invoice["id"], wait=30)) for _ in range(500)]
    await asyncio.sleep(5)
    await world.settle("generic", invoice["provider_invoice_id"], "paid", "once")
    assert {now["status"] for now in await asyncio.gather(*waiting)} == {"completed"}
    looks = [each for each in await world.requests("generic") if each["method"] == "GET"]
    assert len(looks) <= (time.perf_counter() - began) / 2 + 3


async def test_those_who_wait_leave_their_place_to_others(world: World) -> None:
    invoice = await world.created("generic")
    waiting = [asyncio.create_task(world.read(invoice["id"], wait=30, refresh="false")) for _ in range(300)]
    await asyncio.sleep(1)
    assert (await world.http.get("/v1/invoices")).status_code == 200
    world.app.state.services.watch.drain()
    began = time.perf_counter()
    assert {now["status"] for now in await asyncio.gather(*waiting)} == {"pending"}
    assert time.perf_counter() - began < 3
    assert (await world.read(invoice["id"], wait=30))["status"] == "pending"  # nobody waits any more


async def test_an_unchanged_invoice_is_not_told_again(world: World) -> None:
    invoice = await world.created("generic")
    url = f"/v1/invoices/{invoice['id']}"
    first = await world.http.get(url, params={"refresh": "false"})
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    for given in (tag, tag.removeprefix("W/"), f'"other", {tag}'):
        again = await world.http.get(url, params={"refresh": "false"}, headers={"If-None-Match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other_view = await world.http.get(url, params={"include": "provider_data"}, headers={"If-None-Match": tag})
    assert other_view.status_code == 200
    await world.settle("generic", invoice["provider_invoice_id"], "paid")
    changed = await world.http.get(url, params={"refresh": "true"}, headers={"If-None-Match": tag})
    assert (changed.status_code, changed.headers["etag"] != tag) == (200, True)


async def test_an_unknown_invoice_is_not_waited_for(world: World) -> None:
    began = time.perf_counter()
    answer = await world.http.get("/v1/invoices/inv_01jd7q8m3zf5k9w2x4y6a8b0c2", params={"wait": "20"})
    assert answer.status_code == 404
    assert time.perf_counter() - began < 1


async def test_a_ring_does_not_swallow_a_cancellation() -> None:
    """Whoever is told to end just when there is news ends."""
    watch = Watch()
    with watch.over(FEED) as bell:
        for _ in range(100):
            waiting = asyncio.create_task(bell.wait(10))
            await asyncio.sleep(0)
            watch.ring(())
            await asyncio.sleep(0)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
            bell.rung.clear()

        async def follow() -> None:
            while True:
                await bell.wait(10)

        for pauses in range(4):
            following = asyncio.create_task(follow())
            await asyncio.sleep(0)
            watch.ring(())
            for _ in range(pauses):
                await asyncio.sleep(0)
            following.cancel()
            await asyncio.wait({following}, timeout=1)
            assert following.cancelled()
