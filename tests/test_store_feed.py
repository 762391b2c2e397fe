"""Whoever follows the events sees each once, in one order, however late it was committed."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it brings no types
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from app.domain.invoice import Invoice
from app.storage import migrations
from app.storage.engine import open_engine
from app.storage.feed import TOGETHER, EventLog
from app.storage.store import Store
from tests.test_store import a_pending, an_event, not_yet_committed, steps, stored

pytestmark = pytest.mark.anyio


async def happens(store: Store, invoice: Invoice, *types: str) -> list[str]:
    events = [an_event(invoice, type) for type in types or ("invoice.updated",)]
    await store.change(invoice.id, lambda old: (old, events))
    return [event.id for event in events]


async def read(store: Store, after: int = 0, limit: int = 1000, **wanted: str) -> list[tuple[int, str]]:
    """The numbers and ids of what there is to read now."""
    log = EventLog(store.engine)
    await log.number()
    return [(number, event.id) for number, event in await log.after(after, limit, **wanted)]


async def test_events_are_read_in_order_from_where_one_was(store: Store) -> None:
    one, two = await stored(store, a_pending(), a_pending())
    ids = [*await happens(store, one, "invoice.created", "invoice.updated"), *await happens(store, two)]
    assert await read(store) == list(enumerate(ids, start=1))
    assert await read(store, after=1, limit=1) == [(2, ids[1])]
    assert await read(store, after=3) == []
    ids += await happens(store, one)
    assert await read(store, after=3) == [(4, ids[3])]


async def test_each_filter_finds_its_own(store: Store) -> None:
    one, two = await stored(store, a_pending(), a_pending())
    created, completed = await happens(store, one, "invoice.created", "invoice.completed")
    [other] = await happens(store, two, "invoice.completed")
    assert await read(store, type="invoice.completed") == [(2, completed), (3, other)]
    assert await read(store, invoice_id=one.id) == [(1, created), (2, completed)]
    assert await read(store, type="invoice.completed", invoice_id=two.id) == [(3, other)]
    assert await read(store, type="invoice.completed", after=2) == [(3, other)]
    assert await read(store, type="invoice.failed") == []


async def test_one_event_is_found_before_it_has_its_number(store: Store) -> None:
    [invoice] = await stored(store, a_pending())
    [id] = await happens(store, invoice)
    assert await EventLog(store.engine).one(id) == (await EventLog(store.engine).of_invoice(invoice.id))[0]
    assert await EventLog(store.engine).one("evt_x") is None


async def test_what_is_committed_late_is_not_skipped(postgresql_store: Store, postgresql_url: str) -> None:
    await stored(postgresql_store, a_pending())
    write = (
        "INSERT INTO events (id, type, invoice_id, at, data)"
        " SELECT 'evt_late', 'invoice.updated', id, 0, '' FROM invoices"
    )
    followed: list[tuple[int, str]] = []

    async def follow() -> None:
        followed.extend(await read(postgresql_store, after=followed[-1][0] if followed else 0, limit=2))

    async with not_yet_committed(postgresql_url, write):
        other = a_pending()
        await postgresql_store.reserve(other)
        early = [id for _ in range(3) for id in await happens(postgresql_store, other)]
        for _ in range(3):
            await follow()
        assert [id for _, id in followed] == early
    early += await happens(postgresql_store, other)
    for _ in range(3):
        await follow()
    assert [number for number, _ in followed] == [1, 2, 3, 4, 5]
    assert [id for _, id in followed] == [*early[:3], "evt_late", early[3]]
    assert await read(postgresql_store) == followed


async def test_whoever_follows_while_many_write_sees_each_once(store: Store) -> None:
    invoices = await stored(store, *(a_pending() for _ in range(20)))
    followed: list[tuple[int, str]] = []

    async def write(invoice: Invoice) -> list[str]:
        return [id for _ in range(10) for id in await happens(store, invoice)]

    async def follow() -> None:
        while len(followed) < 200:
            followed.extend(await read(store, after=len(followed), limit=7))

    following = asyncio.create_task(follow())
    written = await asyncio.gather(*map(write, invoices))
    await following
    assert [number for number, _ in followed] == list(range(1, 201))
    assert {id for _, id in followed} == {id for ids in written for id in ids}
    assert await read(store) == followed
    for ids in written:
        assert [id for _, id in followed if id in ids] == ids


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
async def test_many_who_number_at_once_leave_no_gap_and_no_double(postgresql_url: str, isolation: str) -> None:
    """However the database was set up."""
    admin = await asyncpg.connect(postgresql_url)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    await admin.close()
    async with open_engine(postgresql_url) as one, open_engine(postgresql_url) as two:
        invoices = await stored(Store(one), *(a_pending() for _ in range(8)))

        async def both(invoice: Invoice) -> None:
            for _ in range(10):
                await happens(Store(one), invoice)
                await EventLog(two).number()

        await asyncio.gather(*map(both, invoices))
        assert [number for number, _ in await read(Store(two))] == list(range(1, 81))


async def test_any_number_of_events_get_theirs(store: Store) -> None:
    [invoice] = await stored(store, a_pending())
    [first] = await happens(store, invoice)
    fill = text(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :many)"
        " INSERT INTO events (id, type, invoice_id, at, data)"
        " SELECT id || n, type, invoice_id, at, data FROM events, n"
    )
    many = 2 * TOGETHER
    await store.engine.write(lambda connection: connection.execute(fill, {"many": many}).rowcount)
    numbers = await read(store, limit=2 * many)
    assert numbers[0] == (1, first)
    assert [number for number, _ in numbers] == list(range(1, many + 2))


async def test_reading_without_news_disturbs_no_writer(sqlite_store: Store, sqlite_file: Path) -> None:
    [invoice] = await stored(sqlite_store, a_pending())
    await happens(sqlite_store, invoice)
    before = await read(sqlite_store)
    with closing(sqlite3.connect(sqlite_file, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert await read(sqlite_store) == before


@pytest.mark.parametrize(
    "wanted", [{}, {"type": "invoice.failed"}, {"type": "invoice.updated"}, {"invoice_id": "inv_x"}, {"after": 40}]
)
async def test_reading_costs_the_same_whatever_else_there_is(sqlite_store: Store, wanted: dict[str, Any]) -> None:
    async def look() -> None:
        await read(sqlite_store, limit=10, **wanted)

    [invoice] = await stored(sqlite_store, a_pending())
    await happens(sqlite_store, invoice, *["invoice.updated"] * 50)
    await look()
    few = await steps(sqlite_store, look)
    await happens(sqlite_store, invoice, *["invoice.updated"] * 3000)
    await read(sqlite_store, limit=1)
    assert await steps(sqlite_store, look) < 1.3 * few + 200


# What was there before


async def test_what_happened_before_there_was_a_feed_is_in_it(empty_url: str) -> None:
    async with open_engine(empty_url) as engine:
        store = Store(engine)
        await engine.alter(to_the_first_schema)
        invoice, other = a_pending(), a_pending()
        await engine.alter(lambda connection: insert_old(connection, [invoice, other]))
        await store.migrate()
        old = await read(store)
        assert [id for _, id in old] == [f"evt_{number}" for number in range(4)]
        assert [one.id for one in await EventLog(store.engine).of_invoice(invoice.id)] == ["evt_0", "evt_2"]
        assert await store.invoice(invoice.id) is not None
        [new] = await happens(store, other)
        assert [id for _, id in await read(store, after=old[-1][0])] == [new]


def to_the_first_schema(connection: Connection) -> None:
    config = Config()
    config.attributes["connection"] = connection
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    command.upgrade(config, "0001")


def insert_old(connection: Connection, invoices: Sequence[Invoice]) -> None:
    """Two events of each, in turn."""
    add_invoice = text(
        "INSERT INTO invoices (id, provider, status, created_at, updated_at, adopted, mismatched, items, metadata,"
        " options, asks, version, raw)"
        " VALUES (:id, 'acme', 'pending', 0, 0, false, false, '[]', '{}', '{}', 0, 1, '')"
    )
    add_event = text(
        "INSERT INTO events (id, type, invoice_id, at, data) VALUES (:id, 'invoice.updated', :invoice, 0, '')"
    )
    connection.execute(add_invoice, [{"id": invoice.id} for invoice in invoices])
    connection.execute(add_event, [{"id": f"evt_{turn}", "invoice": invoices[turn % 2].id} for turn in range(4)])
