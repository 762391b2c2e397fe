"""Whoever proves nothing is read last, and leaves room for whoever does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from app.api.admission import MOST_BYTES_OF_STRANGERS
from app.api.bodies import MOST_BYTES
from tests.callers import JSON, is_problem
from tests.test_notifications import address
from tests.world import ORDERS, World, open_world

pytestmark = pytest.mark.anyio

ALMOST = MOST_BYTES - 100
ROOM = MOST_BYTES_OF_STRANGERS // ALMOST
MOST_OF_SHOPPER = 16 * 1024


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db") as world:
        yield world


@dataclass
class Slow:
    """A body of which the last byte is to come; `asked` once anybody has read of it."""

    size: int = ALMOST
    last: asyncio.Event = field(default_factory=asyncio.Event)
    asked: bool = False

    async def pieces(self) -> AsyncIterator[bytes]:
        self.asked = True
        yield b" " * self.size
        await self.last.wait()
        yield b" "


@asynccontextmanager
async def coming_in(world: World, path: str, bodies: int) -> AsyncIterator[None]:
    """So many bodies are on their way meanwhile, from callers without a key."""
    door, slow = httpx.ASGITransport(world.app), Slow()
    async with httpx.AsyncClient(transport=door, base_url=world.http.base_url) as nobody, asyncio.TaskGroup() as calls:
        for _ in range(bodies):
            calls.create_task(nobody.post(path, content=slow.pieces()))
        await asyncio.sleep(0.1)
        yield
        slow.last.set()


UNKNOWN = "inv_01h455vb4pex5vsknk084sn02q"
NOWHERE = {
    "/webhooks/nobody": (404, "not_found"),
    f"/webhooks/nobody/{UNKNOWN}?token={'0' * 40}": (404, "not_found"),
    "/webhooks/bluetape": (404, "not_found"),
    "/webhooks/turinpay": (401, "unauthenticated"),
    f"/webhooks/turinpay/{UNKNOWN}": (401, "unauthenticated"),
    f"/webhooks/turinpay/{UNKNOWN}?token={'0' * 40}": (401, "unauthenticated"),
    f"/webhooks/generic/{UNKNOWN}?token={'0' * 40}": (401, "unauthenticated"),
    "/webhooks/generic/nonsense": (401, "unauthenticated"),
}


@pytest.mark.parametrize("path", NOWHERE)
async def test_nobody_reads_what_is_sent_to_an_address_that_was_never_given_away(path: str, world: World) -> None:
    letter = Slow()
    answer = await asyncio.wait_for(world.http.post(path, content=letter.pieces()), 2)
    is_problem(answer, *NOWHERE[path])
    assert not letter.asked


async def test_what_is_sent_to_an_address_that_was_given_away_is_read(world: World) -> None:
    await world.created("turinpay")
    for path in ("/webhooks/sellapp", await address(world, "turinpay")):
        letter = Slow()
        letter.last.set()
        assert (await world.http.post(path, content=letter.pieces())).status_code < 500
        assert letter.asked


async def test_a_wrong_token_is_logged_as_before(world: World) -> None:
    with capture_logs() as logs:
        await world.http.post(f"/webhooks/turinpay/{UNKNOWN}?token={'0' * 40}", content=b"{}")
    assert [line["provider"] for line in logs if line["event"] == "notification.refused"] == ["turinpay"]


async def test_of_a_name_that_nobody_has_only_the_beginning_is_logged(world: World) -> None:
    with capture_logs() as logs:
        await world.http.post(f"/webhooks/{'a' * 5000}", content=b"{}")
    assert [line["provider"] for line in logs if line["event"] == "request"] == ["a" * 60]


@pytest.mark.parametrize("path", ["/webhooks/sellapp", "/ops/session"])
async def test_what_strangers_send_leaves_room_for_whoever_has_a_key(path: str, world: World) -> None:
    order = {"provider": "generic", **ORDERS["generic"], "provider_options": {"x": "x" * 200_000}}
    async with coming_in(world, path, ROOM):
        refused = await world.http.post("/webhooks/sellapp", content=b" " * ALMOST)
        is_problem(refused, 503, "overloaded")
        assert (await world.http.post("/v1/invoices", json=order)).status_code == 422, "it was read"
        assert (await world.create("generic")).status_code == 201
    assert (await world.http.post("/webhooks/sellapp", content=b" " * ALMOST)).status_code == 401


@pytest.fixture
async def made(world: World) -> dict[str, Any]:
    return await world.created("generic")


@pytest.fixture
async def shopper(world: World, made: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {made['client_secret']}", **JSON}
    door, base = httpx.ASGITransport(world.app), f"{world.http.base_url}/v1/invoices/{made['id']}/"
    async with httpx.AsyncClient(transport=door, base_url=base, headers=headers) as shopper:
        yield shopper


async def test_a_shopper_sends_little(world: World, made: dict[str, Any], shopper: httpx.AsyncClient) -> None:
    just, more = b"{}".ljust(MOST_OF_SHOPPER), b"{}".ljust(MOST_OF_SHOPPER + 1)
    assert (await shopper.post("checkout", content=just)).status_code == 200
    is_problem(await shopper.post("checkout", content=more), 413, "payload_too_large")
    unsized = await shopper.post("checkout", content=Slow(MOST_OF_SHOPPER + 1).pieces())
    is_problem(unsized, 413, "payload_too_large")
    keyed = await world.http.post(f"/v1/invoices/{made['id']}/checkout", content=more, headers=JSON)
    assert keyed.status_code == 200
