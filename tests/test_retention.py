"""How an invoice was dealt with is forgotten after a while, in small steps; what happened to it never is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it brings no types
import pytest
from sqlalchemy import Connection, Table, func, select, text
from structlog.testing import capture_logs

from app.domain.errors import Overloaded
from app.domain.milliseconds import to_milliseconds
from app.domain.trace import Step
from app.main import working
from app.service.retention import Retention
from app.storage.engine import open_engine
from app.storage.inbox import Inbox
from app.storage.journal import Journal
from app.storage.outbox import Outbox
from app.storage.retention import FORGOTTEN_AT_ONCE, Purge
from app.storage.store import Store
from app.storage.tables import deliveries, events, inbox, invoices, receivers
from app.storage.tables import steps as traces
from app.worker import AFTER_FAILURE_SECONDS, FORGET_EVERY_SECONDS, forever
from tests.receiver import SECRET, receiving
from tests.test_store import NOW, SECOND, steps
from tests.test_store_inbox import a_notice, received
from tests.test_store_outbox import OTHER, SHOP, an_attempt, claimed, happened, refused, taken
from tests.world import World, open_world

pytestmark = pytest.mark.anyio


DAY = timedelta(days=1)
LATER = NOW + 100 * DAY


async def counted(store: Store, table: Table) -> int:
    def work(connection: Connection) -> int:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()

    return await store.engine.read(work)


def a_step(at: datetime = NOW) -> Step:
    return Step(invoice_id="inv_1", at=at, kind="call", facts={"outcome": "ok"})


def retention(store: Store, now: datetime, days: int = 90) -> Retention:
    return Retention(purge=Purge(store.engine), clock=lambda: now, kept_for=days * DAY)


async def test_old_steps_are_forgotten_and_young_ones_are_not(store: Store) -> None:
    journal = Journal(store.engine)
    await journal.add([a_step(), a_step(NOW + SECOND), a_step(NOW + 10 * DAY)])
    assert await Purge(store.engine).forget(NOW + SECOND) == [1, 0, 0, 0]
    assert not await retention(store, NOW + 91 * DAY).forget()
    assert [step.at - NOW > 9 * DAY for step in await journal.of_invoice("inv_1")] == [True]


async def test_what_was_told_is_forgotten_once_it_is_settled(store: Store) -> None:
    settled, unsettled, young = await received(
        store, a_notice(1), a_notice(2), a_notice(3, received_at=LATER), until=LATER
    )
    for notice in (settled, young):
        await Inbox(store.engine).close(notice, None, NOW)
    assert await Purge(store.engine).forget(LATER) == [0, 1, 0, 0]
    assert await counted(store, inbox) == 2
    [waits] = await Inbox(store.engine).claim(LATER, LATER + SECOND, 9)
    assert waits.digest == unsettled.digest


async def test_deliveries_that_have_ended_are_forgotten_and_their_events_stay(store: Store) -> None:
    outbox = Outbox(store.engine)
    await happened(store)
    await happened(store, callback_url=OTHER)
    waiting = await happened(store, callback_url="https://third.example")
    [delivered] = await claimed(outbox, receiver=SHOP)
    await taken(outbox, delivered)
    [failed] = await claimed(outbox, receiver=OTHER)
    await outbox.record(failed, an_attempt(status=410), "failed", None)
    [tried] = await claimed(outbox, receiver="https://third.example")
    await refused(outbox, tried)
    assert await Purge(store.engine).forget(LATER) == [0, 0, 1, 1]
    assert [one.state for one in await outbox.page(9)] == ["pending"]
    assert [len(one.attempts) for one in await outbox.of_invoice(waiting.id)] == [1]
    assert [await counted(store, table) for table in (events, invoices, receivers)] == [3, 3, 3]


async def test_what_is_delivered_again_is_not_forgotten(store: Store) -> None:
    outbox = Outbox(store.engine)
    await happened(store)
    [delivery] = await claimed(outbox)
    await taken(outbox, delivery)
    await outbox.redeliver(delivery.id, LATER)
    assert await Purge(store.engine).forget(LATER) == [0, 0, 0, 0]
    assert await outbox.page(9)


async def test_it_is_forgotten_in_small_steps_until_nothing_is_left(store: Store) -> None:
    await Journal(store.engine).add([a_step() for _ in range(FORGOTTEN_AT_ONCE + 3)])
    forgetting = retention(store, LATER)
    with capture_logs() as logs:
        assert await forgetting.forget()
        assert await counted(store, traces) == 3
        assert not await forgetting.forget()
        assert not await forgetting.forget()
    assert [line["count"] for line in logs if line["event"] == "retention.forgot"] == [FORGOTTEN_AT_ONCE, 3]


async def test_several_who_forget_at_once_do_not_get_in_each_others_way(store: Store) -> None:
    await Journal(store.engine).add([a_step() for _ in range(FORGOTTEN_AT_ONCE)])
    counts = await asyncio.gather(*(Purge(store.engine).forget(LATER) for _ in range(4)))
    assert sum(map(sum, counts)) == FORGOTTEN_AT_ONCE
    assert await counted(store, traces) == 0


async def test_what_has_just_become_due_again_elsewhere_is_passed_over(postgresql_url: str) -> None:
    async with open_engine(postgresql_url) as engine, connected(postgresql_url) as other:
        outbox = Outbox(engine)
        await happened(Store(engine))
        [delivery] = await claimed(outbox)
        await taken(outbox, delivery)
        async with other.transaction():
            await other.execute("UPDATE deliveries SET state = 'pending', due_at = 0")
            assert await Purge(engine).forget(LATER) == [0, 0, 0, 0]
        assert await Purge(engine).forget(LATER) == [0, 0, 0, 0]
        assert [one.state for one in await outbox.page(9)] == ["pending"]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


FILL = """
INSERT INTO receivers (receiver, failures, paused) VALUES ('r', 0, 0);
INSERT INTO invoices (id, provider, status, created_at, updated_at, adopted, mismatched, items, metadata, options, asks,
  version, raw) VALUES ('i', 'acme', 'pending', 0, 0, 0, 0, '[]', '{}', '{}', 0, 1, '');
INSERT INTO events (id, type, invoice_id, at, data) VALUES ('e', 't', 'i', 0, '');
INSERT INTO steps (invoice_id, at, kind, facts) SELECT 'i', :young, 'call', '{}' FROM n;
INSERT INTO inbox (provider, digest, received_at, body, signed, tries) SELECT 'acme', n, :young, '', 1, 0 FROM n;
INSERT INTO deliveries (id, event_id, invoice_id, url, receiver, state, attempts, tries, created_at)
  SELECT 'd' || n, 'e', 'i', 'u', 'r', CASE n % 2 WHEN 0 THEN 'pending' ELSE 'delivered' END, '[]', 0,
  CASE n % 2 WHEN 0 THEN 0 ELSE :young END FROM n
"""
YOUNG = to_milliseconds(LATER)
NUMBERS = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 4000) "


async def test_it_costs_the_same_however_much_is_kept(sqlite_store: Store) -> None:
    async def forget() -> None:
        await Journal(sqlite_store.engine).add([a_step()])
        assert sum(await Purge(sqlite_store.engine).forget(NOW + SECOND)) == 1

    def fill(connection: Connection) -> None:
        for statement in FILL.split(";"):
            many = text(NUMBERS + statement).bindparams(young=YOUNG) if ":young" in statement else text(statement)
            connection.execute(many)

    few = await steps(sqlite_store, forget)
    await sqlite_store.engine.write(fill)
    assert await counted(sqlite_store, deliveries) == 4000
    assert await steps(sqlite_store, forget) < 1.3 * few + 200


async def test_the_worker_forgets_by_itself(tmp_path: Path) -> None:
    """Everything of an invoice that is told, but the invoice and its events."""
    async with receiving(secret=SECRET) as receiver:
        url = f"sqlite:///{tmp_path}/gatehouse.db"
        told: dict[str, Any] = {"webhook_url": receiver.url, "webhook_secret": SECRET, "retention_days": 30}
        async with open_world(url, worker=True, **told) as world:
            created = await world.created("generic")
            await world.settle("generic", created["provider_invoice_id"], "paid", notify="once")
            await receiver.has(2)
            before = kinds(await life(world, created["id"]))
            assert {"call", "notification", "delivery", "move"} <= before
        async with open_world(url, worker=True, **told) as world:
            world.clock.pass_time(days=29)
            assert not await gone(world, created["id"])
        async with open_world(url, worker=False, **told) as world:
            world.clock.pass_time(days=31)
            async with working(world.app.state.services):
                assert await gone(world, created["id"])
            kept = (await world.http.get("/v1/events", params={"invoice_id": created["id"]})).json()["data"]
            assert [event["type"] for event in kept] == ["invoice.created", "invoice.completed"]
            assert (await world.read(created["id"], refresh="false"))["status"] == "completed"


async def life(world: World, id: str) -> list[dict[str, Any]]:
    answer = await world.http.get(f"/v1/invoices/{id}/trace")
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def kinds(life: list[dict[str, Any]]) -> set[str]:
    return {step["kind"] for step in life}


async def gone(world: World, id: str) -> bool:
    """Whether only what happened is left, at last."""
    for _ in range(20):
        if kinds(await life(world, id)) == {"move"}:
            return True
        await asyncio.sleep(0.05)
    return False


async def test_no_failure_ends_it() -> None:
    turns: list[bool | Exception] = [True, Overloaded("The store is away.", retry_after=1), RuntimeError("no"), False]
    waits: list[float] = []

    async def once() -> bool:
        turn = turns[len(waits)]
        if isinstance(turn, Exception):
            raise turn
        return turn

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == len(turns):
            raise asyncio.CancelledError

    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await forever("retention", once, pause, FORGET_EVERY_SECONDS)
    assert waits == [0.0, FORGET_EVERY_SECONDS, AFTER_FAILURE_SECONDS, FORGET_EVERY_SECONDS]
    assert {line["chore"] for line in logs} == {"retention"}
