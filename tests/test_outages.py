"""What goes down comes back without a restart, and nothing is sent meanwhile that could not be kept."""

import asyncio
import gc
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.stores import Server
from tests.test_metrics import scraped
from tests.world import World, open_world

pytestmark = pytest.mark.anyio


async def test_a_provider_that_is_out_for_an_hour(tmp_path: Path) -> None:
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db", provider_timeout=0.3) as world:
        created = await world.created("generic")
        for operation in ("create", "get", "list"):
            await world.arm("generic", operation, "status:500", times=10_000)
        refused: list[float] = []
        for _ in range(60):
            world.clock.pass_time(minutes=1)
            for _ in range(12):
                began = time.perf_counter()
                answer = await world.create("generic")
                took = time.perf_counter() - began
                refused += [took] if answer.json()["code"] == "provider_unavailable" else []
            assert (await world.read(created["id"]))["stale"]
        refused.sort()
        assert refused[len(refused) // 2] < 0.05, "most are refused at once"
        posts = [one for one in await world.requests("generic") if one["method"] == "POST"]
        assert len(posts) < 0.2 * 60 * 12, "the provider is left alone"
        assert (await world.http.get("/v1/providers/generic")).json()["health"]["state"] == "down"
        assert (await world.created("sellapp"))["status"] == "pending", "nobody else is concerned"

        await world.sandbox.delete("/_control/generic/faults")
        world.clock.pass_time(minutes=2)
        assert (await world.create("generic")).status_code == 201, "the first probe finds it well again"
        assert (await world.http.get("/v1/providers/generic")).json()["health"]["circuit"] == "closed"


async def answered_within(seconds: float, world: World) -> httpx.Response:
    began = time.perf_counter()
    answer = await world.create("generic")
    assert time.perf_counter() - began < seconds
    return answer


@pytest.fixture
def swept() -> Iterator[None]:
    """Connections that a server took down with it are dropped here, and not in the middle of another test."""
    yield
    gc.collect()


@pytest.mark.usefixtures("swept")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_store_that_is_frozen_or_down(postgres: Server, postgresql_url: str) -> None:
    async with open_world(postgresql_url) as world:
        await world.created("generic")
        before = len(await world.requests("generic"))
        for outage in (postgres.frozen, postgres.down):
            with outage():
                refused = await answered_within(3, world)
                assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
                assert refused.headers["retry-after"]
                assert (await world.http.get("/readyz")).status_code == 503
                assert (await world.http.get("/livez")).status_code == 200
                seen = await scraped(world)
                assert seen("gatehouse_store_up") == 0
                assert seen("gatehouse_provider_circuit", provider="generic", state="closed") == 1
                assert seen("gatehouse_overloaded_total") >= 2
                assert "gatehouse_inbox_open" not in seen.samples
            assert len(await world.requests("generic")) == before, "nothing was sent that could not be kept"
            async with asyncio.timeout(30):
                while (await world.http.get("/readyz")).status_code != 200:
                    await asyncio.sleep(0.02)
            assert (await world.create("generic")).status_code == 201
            before = len(await world.requests("generic"))


async def test_many_calls_are_refused_as_problems(world: World) -> None:
    await world.arm("generic", "create", "slow", times=400, seconds=1)
    answers = await asyncio.gather(*(world.create("generic") for _ in range(400)))
    codes = {answer.status_code for answer in answers}
    assert codes <= {201, 503}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 503} <= {
        "overloaded",
        "provider_unavailable",
    }
