"""The store, on SQLite and on a real PostgreSQL: nothing is lost, nothing is doubled, and it says when it is away."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it brings no types
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.domain.errors import NotFound, Overloaded
from app.domain.invoice import Checkout, Customer, Event, Invoice, Item, Snapshot, Status, new_id
from app.domain.money import Money
from app.storage.engine import StoreInUse, StoreUnusable, open_engine
from app.storage.feed import EventLog
from app.storage.intake import SKEW, TOGETHER
from app.storage.pages import Query
from app.storage.postgres import TRIES
from app.storage.rows import ReferenceTaken
from app.storage.sqlite import MOST_WAITING, Sqlite
from app.storage.store import Store, prepare
from app.storage.tables import metadata
from tests.stores import Server, few_at_once

pytestmark = pytest.mark.anyio


NOW = datetime(2026, 11, 25, 8, 0, 0, 123_456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FIFTY = Money.parse("49.90", "EUR")


def an_invoice(**fields: Any) -> Invoice:
    return Invoice(
        **{
            "id": new_id("inv"),
            "provider": "acme",
            "status": Status.UNKNOWN,
            "created_at": NOW,
            "updated_at": NOW,
            "amount": FIFTY,
            **fields,
        }
    )


def a_pending(**fields: Any) -> Invoice:
    return an_invoice(**{"status": Status.PENDING, "reference": new_id("ref"), **fields})


def an_event(invoice: Invoice, type: str = "invoice.updated") -> Event:
    return Event(id=new_id("evt"), type=type, invoice_id=invoice.id, at=NOW, data=b'{"status":"pending"}')


def told(invoice: Invoice, **fields: Any) -> tuple[Invoice, list[Event]]:
    """The invoice with these fields, and an event of it."""
    return replace(invoice, **fields), [an_event(invoice)]


def echo(invoice: Invoice, _: Snapshot | None = None) -> tuple[Invoice, list[Event]]:
    return invoice, []


def learned(invoice: Invoice, seen: Snapshot) -> tuple[Invoice, list[Event]]:
    change = invoice.learn(seen, NOW)
    return change.invoice, [an_event(invoice, fact) for fact in change.facts]


def found(seen: Snapshot) -> Invoice:
    return an_invoice(
        status=seen.status,
        reference=seen.reference,
        created_at=seen.created_at or NOW,
        adopted=True,
        amount=seen.amount,
    )


def seen(**fields: Any) -> Snapshot:
    return Snapshot(
        **{"reference": new_id("ref"), "status": Status.PENDING, "amount": FIFTY, "created_at": NOW, **fields}
    )


def cut(at: datetime) -> datetime:
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


async def ids(store: Store, **query: Any) -> list[str]:
    return [invoice.id for invoice in await store.page(Query(**{"limit": 100, **query}), NOW)]


async def stored(store: Store, *invoices: Invoice) -> list[Invoice]:
    for invoice in invoices:
        await store.reserve(invoice)
    return [found for invoice in invoices if (found := await store.invoice(invoice.id))]


# One invoice


EVERYTHING = Invoice(
    id="inv_01jdgt7hsje4kt4xvkgjh2vn0e",
    provider="acme",
    status=Status.PARTIALLY_PAID,
    created_at=cut(NOW),
    updated_at=cut(NOW) + SECOND,
    reference="réf-1",
    linked_reference="ссылка-2",
    adopted=True,
    provider_status="TEILZAHLUNG – 部分",
    amount=Money.parse("0.000000000000000001", "ETH"),
    amount_paid=Money.parse("1500", "JPY"),
    order_id="Bestellung №17",
    description="Zwei Bücher 📚 'quoted' \"twice\" \\",
    customer=Customer(email="ä@example.org", name="Zoë Ωμέγα", phone="+49 30 1", country="DE"),
    items=(Item(description="本", quantity=2, unit_amount="24.95", variant_id="4321"), Item()),
    metadata={"cart": "c-9", "ключ": "значение"},
    checkout=Checkout(url="https://a.example/é", lightning="lnbc1", bitcoin_address="bc1q", expires_at=NOW),
    redirect_url="https://shop.example/thanks?ü=1#end",
    redirect_button_title="Zurück zum Laden",
    callback_url="https://shop.example/hooks",
    options={"questionnaire": ["email"], "deposit_callbacks": True, "deep": {"er": None}},
    expires_at=cut(NOW) + 2 * SECOND,
    completed_at=datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    synced_at=datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    asked_until=cut(NOW) - SECOND,
    version=2_000_000_000,
    raw=b'\x00\xff{"id": 1}',
)
BARE = Invoice(
    id="inv_01jdgt7hsje4kt4xvkgjh2vn0f", provider="acme", status=Status.UNKNOWN, created_at=NOW, updated_at=NOW
)


async def test_every_field_comes_back_as_it_was(store: Store) -> None:
    assert await stored(store, EVERYTHING) == [EVERYTHING]


async def test_a_change_of_every_field_comes_back_as_it_was(store: Store) -> None:
    await store.reserve(replace(BARE, id=EVERYTHING.id))
    assert await store.change(EVERYTHING.id, lambda _: (EVERYTHING, [])) == EVERYTHING
    assert await store.invoice(EVERYTHING.id) == EVERYTHING


async def test_every_field_can_be_taken_back(store: Store) -> None:
    await store.reserve(EVERYTHING)
    bare = replace(BARE, id=EVERYTHING.id, created_at=cut(NOW), updated_at=cut(NOW))
    await store.change(EVERYTHING.id, lambda _: (bare, []))
    assert await store.invoice(EVERYTHING.id) == bare


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (datetime(2026, 1, 1, 0, 0, 0, 999_999, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 0, 999_000, tzinfo=UTC)),
        (datetime(1960, 1, 1, 0, 0, 0, 1, tzinfo=UTC), datetime(1960, 1, 1, tzinfo=UTC)),
        (datetime.fromisoformat("2026-01-01T02:00:00.5+02:00"), datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        (datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)),
    ],
)
async def test_an_instant_is_cut_to_milliseconds_in_utc(store: Store, written: datetime, read: datetime) -> None:
    [invoice] = await stored(store, an_invoice(expires_at=written))
    assert invoice.expires_at == read
    assert invoice.expires_at.tzinfo is UTC


async def test_an_unknown_invoice_is_none(store: Store) -> None:
    assert await store.invoice("inv_x") is None
    assert await EventLog(store.engine).of_invoice("inv_x") == []
    with pytest.raises(NotFound):
        await store.change("inv_x", echo)


async def test_an_id_is_given_once(store: Store) -> None:
    [invoice] = await stored(store, an_invoice())
    with pytest.raises(IntegrityError):
        await store.reserve(invoice)


async def test_a_reservation_is_withdrawn_only_while_it_is_nothing_else(store: Store) -> None:
    nothing, something = await stored(store, an_invoice(), a_pending())
    for invoice in (nothing, something):
        await store.withdraw(invoice.id)
    assert await ids(store) == [something.id]


# Changes


async def test_a_change_is_written_with_its_events_in_order(store: Store) -> None:
    [invoice] = await stored(store, an_invoice())
    events = [an_event(invoice, "invoice.created"), an_event(invoice, "invoice.completed")]
    changed = replace(invoice, status=Status.COMPLETED, version=2)
    assert await store.change(invoice.id, lambda _: (changed, events)) == changed
    assert await store.invoice(invoice.id) == changed
    assert await EventLog(store.engine).of_invoice(invoice.id) == [replace(event, at=cut(NOW)) for event in events]


async def test_what_is_not_changed_is_not_written(store: Store, store_url: str) -> None:
    [invoice] = await stored(store, a_pending())
    before = await traces(store, store_url)
    assert await store.change(invoice.id, echo) == invoice
    assert await traces(store, store_url) == before
    await store.change(invoice.id, lambda old: (replace(old, version=2), []))
    assert await traces(store, store_url) != before


async def traces(store: Store, url: str) -> object:
    """What a write to an invoice leaves behind: the log of pages, or the transaction in its row."""
    wal = Path(f"{url.removeprefix('sqlite:///')}-wal")
    row = text("SELECT xmin FROM invoices")
    if url.startswith("sqlite"):
        return await asyncio.to_thread(wal.read_bytes)
    return await store.engine.read(lambda connection: connection.execute(row).scalars().all())


async def test_a_change_that_raises_leaves_nothing(store: Store) -> None:
    [invoice] = await stored(store, a_pending())
    event = an_event(invoice)
    with pytest.raises(IntegrityError):
        await store.change(invoice.id, lambda old: (replace(old, version=2), [event, event]))
    with pytest.raises(ZeroDivisionError):
        await store.change(invoice.id, lambda _: 1 // 0)  # type: ignore[arg-type, return-value]
    assert await store.invoice(invoice.id) == invoice
    assert await EventLog(store.engine).of_invoice(invoice.id) == []


async def test_forty_who_say_the_same_at_once_make_one_event(store: Store) -> None:
    [invoice] = await stored(store, a_pending())
    paid = seen(reference=invoice.reference, status=Status.COMPLETED)
    await asyncio.gather(*(store.change(invoice.id, lambda old: learned(old, paid)) for _ in range(40)))
    assert [event.type for event in await EventLog(store.engine).of_invoice(invoice.id)] == ["invoice.completed"]


async def test_no_increment_is_lost(store: Store) -> None:
    invoices = await stored(store, a_pending(), a_pending(), a_pending())
    await few_at_once(
        store.change(one.id, lambda old: told(old, version=old.version + 1)) for _ in range(20) for one in invoices
    )
    for invoice in invoices:
        assert replace(invoice, version=21) == await store.invoice(invoice.id)
        assert len(await EventLog(store.engine).of_invoice(invoice.id)) == 20


# References


@pytest.mark.parametrize("theirs", ["reference", "linked_reference"])
@pytest.mark.parametrize("ours", ["reference", "linked_reference"])
async def test_a_late_record_takes_over_what_was_adopted_under_its_reference(
    store: Store, theirs: str, ours: str
) -> None:
    late, adopted, other = await stored(
        store,
        an_invoice(),
        an_invoice(adopted=True, **{theirs: "r-1"}),
        an_invoice(adopted=True, provider="other", **{theirs: "r-1"}),
    )
    await store.change(adopted.id, lambda old: told(old, version=2))
    [event] = await EventLog(store.engine).of_invoice(adopted.id)

    await store.change(late.id, lambda old: told(old, **{ours: "r-1"}))

    assert await store.invoice(adopted.id) is None
    assert await EventLog(store.engine).of_invoice(adopted.id) == []
    assert [one.id for one in await EventLog(store.engine).of_invoice(late.id)][:1] == [event.id]
    assert len(await EventLog(store.engine).of_invoice(late.id)) == 2
    assert await store.invoice(late.id) == told(late, **{ours: "r-1"})[0]
    assert await store.invoice(other.id) == other


@pytest.mark.parametrize("theirs", ["reference", "linked_reference"])
@pytest.mark.parametrize("ours", ["reference", "linked_reference"])
async def test_a_reference_is_taken_from_no_invoice_of_ours(store: Store, theirs: str, ours: str) -> None:
    late, owner = await stored(store, an_invoice(), an_invoice(**{theirs: "r-1"}))
    with pytest.raises(ReferenceTaken):
        await store.change(late.id, lambda old: told(old, **{ours: "r-1"}))
    assert await store.invoice(late.id) == late
    assert await store.invoice(owner.id) == owner
    assert await EventLog(store.engine).of_invoice(late.id) == []


async def test_of_many_who_take_a_reference_at_once_one_gets_it(store: Store) -> None:
    invoices = await stored(store, *(an_invoice() for _ in range(12)))
    answers = await asyncio.gather(
        *(store.change(one.id, lambda old: told(old, reference="r-1")) for one in invoices), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Invoice", *["ReferenceTaken"] * 11]
    assert len(await ids(store, provider_invoice_id="r-1")) == 1


# Pages


async def test_a_page_is_newest_first_and_ties_are_told_apart_by_id(store: Store) -> None:
    old, low, high, new = await stored(
        store,
        an_invoice(created_at=NOW - SECOND),
        an_invoice(id="inv_1"),
        an_invoice(id="inv_2"),
        an_invoice(created_at=NOW + SECOND),
    )
    assert await ids(store) == [new.id, high.id, low.id, old.id]
    assert await ids(store, limit=2) == [new.id, high.id]


async def test_each_filter_finds_its_own(store: Store) -> None:
    one, two, three = await stored(
        store,
        an_invoice(created_at=NOW, provider="a", status=Status.PENDING, order_id="o-1", reference="r-1"),
        an_invoice(
            created_at=NOW + SECOND, provider="b", status=Status.PENDING, order_id="o-2", linked_reference="r-1"
        ),
        an_invoice(created_at=NOW + 2 * SECOND, provider="a", status=Status.COMPLETED, order_id="o-2", reference="r-3"),
    )
    assert await ids(store, provider="a") == [three.id, one.id]
    assert await ids(store, status=Status.PENDING) == [two.id, one.id]
    assert await ids(store, order_id="o-2") == [three.id, two.id]
    assert await ids(store, provider_invoice_id="r-1") == [two.id, one.id]
    assert await ids(store, created_after=NOW) == [three.id, two.id]
    assert await ids(store, created_before=NOW + 2 * SECOND) == [two.id, one.id]
    assert await ids(store, created_after=NOW, created_before=NOW + 2 * SECOND) == [two.id]
    assert await ids(store, provider="a", provider_invoice_id="r-1", status=Status.PENDING, order_id="o-1") == [one.id]
    assert await ids(store, provider="b", order_id="o-1") == []
    assert await ids(store, after=(two.created_at, two.id), provider="a", created_before=NOW + 9 * SECOND) == [one.id]


async def test_a_create_under_way_is_not_listed_until_it_should_have_ended(store: Store) -> None:
    under_way, ended, done = await stored(
        store,
        an_invoice(asked_until=NOW + SECOND),
        an_invoice(asked_until=NOW),
        a_pending(created_at=NOW - SECOND),
    )
    assert await ids(store) == [ended.id, done.id]
    assert await ids(store, status=Status.UNKNOWN) == [ended.id]
    assert await store.invoice(under_way.id) == under_way


async def test_pages_under_inserts_have_no_gaps_and_no_doubles(store: Store) -> None:
    before = [an_invoice(created_at=NOW + timedelta(milliseconds=number // 3)) for number in range(50)]
    await stored(store, *before)
    collected: list[str] = []
    after = None
    while page := await store.page(Query(limit=7, after=after), NOW):
        collected += [invoice.id for invoice in page]
        after = (page[-1].created_at, page[-1].id)
        await stored(store, an_invoice(created_at=NOW + SECOND), an_invoice(created_at=NOW + SECOND))
    assert collected == sorted(collected, key=[one.id for one in sorted(before, key=place, reverse=True)].index)
    assert set(collected) == {invoice.id for invoice in before}


def place(invoice: Invoice) -> tuple[datetime, str]:
    return cut(invoice.created_at), invoice.id


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"provider": "rare"},
        {"provider": "acme"},
        {"status": Status.DISPUTED},
        {"status": Status.PENDING, "provider": "rare"},
        {"order_id": "o-1", "provider": "acme", "status": Status.PENDING},
        {"provider_invoice_id": "r-1"},
        {"provider_invoice_id": "r-1", "provider": "acme", "status": Status.PENDING, "order_id": "o-9"},
        {"created_before": NOW - 400 * SECOND, "provider": "acme"},
        {"after": (NOW - 500 * SECOND, "inv_x"), "status": Status.PENDING},
    ],
)
async def test_a_page_costs_the_same_whatever_else_there_is(sqlite_store: Store, query: dict[str, Any]) -> None:
    await crowd(sqlite_store, 1_000)
    few = await steps(sqlite_store, lambda: sqlite_store.page(Query(limit=20, **query), NOW))
    await crowd(sqlite_store, 4_000)
    assert await steps(sqlite_store, lambda: sqlite_store.page(Query(limit=20, **query), NOW)) < 1.3 * few + 200


async def test_recording_and_taking_in_cost_the_same_whatever_else_there_is(sqlite_store: Store) -> None:

    async def record() -> None:
        [invoice] = await stored(sqlite_store, an_invoice())
        known = seen(our_id=invoice.id, linked_reference="l-1")
        await sqlite_store.change(invoice.id, lambda old: told(old, reference=known.reference))
        await sqlite_store.adopt("acme", [known, seen()], found, echo)

    await crowd(sqlite_store, 1_000)
    few = await steps(sqlite_store, record)
    await crowd(sqlite_store, 4_000)
    assert await steps(sqlite_store, record) < 1.3 * few + 200


async def crowd(store: Store, number: int) -> None:
    """This many invoices, a second apart, almost all alike."""
    sample = a_pending()
    await store.reserve(sample)
    copy = text(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :number) "
        "INSERT INTO invoices (id, provider, status, created_at, updated_at, reference, adopted, mismatched,"
        " order_id, items,"
        " metadata, options, asks, version, raw)"
        " SELECT id || ':' || n, provider, status, created_at - n * 1000, updated_at,"
        " reference || ':' || n, adopted, mismatched, 'o-' || (n % 500 + 10), items, metadata, options, asks, version,"
        " raw"
        " FROM invoices, n WHERE id = :id"
    )
    await store.engine.write(lambda connection: connection.execute(copy, {"id": sample.id, "number": number}).rowcount)


async def steps(store: Store, do: Callable[[], Any]) -> int:
    """How many hundred instructions SQLite's machine took for it."""
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    def watch(every: int) -> None:
        assert isinstance(store.engine, Sqlite)
        for engine in (store.engine._reading, store.engine._writing):
            with engine.connect() as connection:
                raw: Any = connection.connection.driver_connection
                raw.set_progress_handler(step, every)

    watch(1)
    await do()
    watch(0)
    return taken


# Adoption


async def adopt(store: Store, *snapshots: Snapshot, provider: str = "acme") -> None:
    await store.adopt(provider, snapshots, found, learned)


async def test_what_we_do_not_know_is_adopted_once(store: Store) -> None:
    one, two = seen(), seen(created_at=NOW - SECOND)
    await adopt(store, one, two, one)
    await adopt(store, one, two)
    page = await store.page(Query(limit=9), NOW)
    assert [(invoice.reference, invoice.adopted) for invoice in page] == [(one.reference, True), (two.reference, True)]
    assert [await EventLog(store.engine).of_invoice(invoice.id) for invoice in page] == [[], []]


@pytest.mark.parametrize("by", ["our_id", "reference", "linked_reference", "linked", "crossed"])
async def test_what_we_know_is_decided_on(store: Store, by: str) -> None:
    known = an_invoice(status=Status.PENDING, reference="r-1", linked_reference="l-1")
    [invoice] = await stored(store, an_invoice() if by == "our_id" else known)
    snapshot = {
        "our_id": seen(our_id=invoice.id),
        "reference": seen(reference="r-1"),
        "linked_reference": seen(linked_reference="l-1"),
        "linked": seen(reference="l-1"),
        "crossed": seen(linked_reference="r-1"),
    }[by]
    await store.adopt("acme", [replace(snapshot, status=Status.COMPLETED)], found, lambda old, _: told(old, version=2))
    assert await store.page(Query(limit=9), NOW) == [replace(invoice, version=2)]
    assert len(await EventLog(store.engine).of_invoice(invoice.id)) == 1


async def test_a_twin_that_bears_our_id_does_not_speak_for_what_we_have(store: Store) -> None:
    [invoice] = await stored(store, an_invoice(status=Status.PENDING, reference="r-1"))
    await adopt(store, replace(seen(reference="r-2", our_id=invoice.id), status=Status.EXPIRED))
    assert await store.invoice(invoice.id) == invoice


async def test_what_another_provider_has_is_not_ours(store: Store) -> None:
    [invoice] = await stored(store, a_pending(provider="other"))
    await adopt(store, seen(reference=invoice.reference, our_id=invoice.id))
    assert len(await ids(store)) == 2
    assert await store.invoice(invoice.id) == invoice


async def test_each_of_several_snapshots_of_one_invoice_follows_the_one_before(store: Store) -> None:
    [invoice] = await stored(store, a_pending())
    words = [Status.PROCESSING, Status.COMPLETED, Status.PENDING, Status.COMPLETED]
    await adopt(store, *(seen(reference=invoice.reference, status=word) for word in words))
    assert [event.type for event in await EventLog(store.engine).of_invoice(invoice.id)] == [
        "invoice.processing",
        "invoice.completed",
    ]


@pytest.mark.parametrize(
    ("doubt", "created_at", "adopted"),
    [
        ({}, NOW - SKEW - SECOND, True),
        ({}, NOW - SKEW + SECOND, False),
        ({}, NOW + SKEW, False),
        ({}, None, False),
        ({"asked_until": NOW + SECOND}, NOW, False),
        ({"provider": "other"}, NOW, True),
        ({"reference": "r-1"}, None, True),
        ({"status": Status.FAILED}, NOW, True),
    ],
)
async def test_nothing_is_adopted_that_may_have_come_of_a_create_in_doubt(
    store: Store, doubt: dict[str, Any], created_at: datetime | None, adopted: bool
) -> None:
    await stored(store, an_invoice(**doubt), an_invoice(**{**doubt, "reference": None, "provider": "other"}))
    stranger = seen(created_at=created_at)
    await adopt(store, stranger)
    assert bool(await ids(store, provider_invoice_id=stranger.reference)) is adopted


async def test_the_oldest_create_in_doubt_decides(store: Store) -> None:
    await stored(store, *(an_invoice(created_at=NOW + hours * timedelta(hours=1)) for hours in (2, 0, 1)))
    early, late = seen(created_at=NOW - 2 * SKEW), seen(created_at=NOW + timedelta(minutes=30))
    await adopt(store, early, late)
    assert len(await ids(store, provider_invoice_id=early.reference)) == 1
    assert len(await ids(store, provider_invoice_id=late.reference)) == 0


async def test_a_snapshot_that_names_our_invoice_settles_its_doubt(store: Store) -> None:
    [invoice] = await stored(store, an_invoice())
    snapshot = seen(our_id=invoice.id)
    await adopt(store, snapshot, seen(created_at=NOW))
    assert await ids(store) == [invoice.id]
    assert (await stored_again(store, invoice)).reference == snapshot.reference
    assert [event.type for event in await EventLog(store.engine).of_invoice(invoice.id)] == ["invoice.created"]


async def stored_again(store: Store, invoice: Invoice) -> Invoice:
    again = await store.invoice(invoice.id)
    assert again is not None
    return again


async def test_a_snapshot_that_fits_two_invoices_of_ours_spoils_no_other(store: Store) -> None:
    in_doubt, owner = await stored(store, an_invoice(), a_pending())
    good = await stored(store, a_pending(), a_pending())
    await adopt(
        store,
        seen(reference=good[0].reference, status=Status.COMPLETED),
        seen(our_id=in_doubt.id, reference=owner.reference, status=Status.COMPLETED),
        seen(reference=good[1].reference, status=Status.COMPLETED),
    )
    assert [(await stored_again(store, one)).status for one in good] == [Status.COMPLETED] * 2
    assert await store.invoice(in_doubt.id) == in_doubt
    assert await store.invoice(owner.id) == owner


async def test_a_list_of_any_length_is_taken_in(store: Store) -> None:
    snapshots = [seen(created_at=NOW - number * SECOND) for number in range(2 * TOGETHER + 1)]
    await adopt(store, *snapshots)
    await adopt(store, *snapshots)
    assert len(await ids(store, limit=1000)) == len(snapshots)


async def test_an_empty_list_is_taken_in(store: Store) -> None:
    await adopt(store)
    assert await ids(store) == []


async def test_many_who_adopt_the_same_at_once_adopt_it_once(store: Store) -> None:
    snapshots = [seen() for _ in range(30)]
    await asyncio.gather(*(adopt(store, *snapshots) for _ in range(8)))
    assert len(await ids(store)) == 30


async def test_nothing_is_both_recorded_and_adopted(store: Store) -> None:
    async def create() -> None:
        invoice = an_invoice(created_at=NOW)
        await store.reserve(invoice)
        snapshot = seen(created_at=NOW + SECOND)
        listed.append(snapshot)
        await store.change(invoice.id, lambda old: learned(old, snapshot))

    async def listing() -> None:
        for _ in range(10):
            await adopt(store, *listed)

    listed: list[Snapshot] = []
    await asyncio.gather(few_at_once(create() for _ in range(40)), listing(), listing())
    assert len(await ids(store)) == len(listed) == 40
    assert not any(invoice.adopted for invoice in await store.page(Query(limit=100), NOW))


async def test_of_two_strangers_with_one_link_the_first_is_adopted(store: Store) -> None:
    def linked(one: Snapshot) -> Invoice:
        return replace(found(one), linked_reference=one.linked_reference)

    first = seen(linked_reference="l-1")
    await store.adopt("acme", [first, seen(linked_reference="l-1"), seen()], linked, echo)
    assert [invoice.reference for invoice in await store.page(Query(limit=9, provider_invoice_id="l-1"), NOW)] == [
        first.reference
    ]
    assert len(await ids(store)) == 2


async def test_what_is_being_recorded_is_not_adopted(postgresql_store: Store, postgresql_url: str) -> None:
    [invoice] = await stored(postgresql_store, a_pending())
    async with not_yet_committed(postgresql_url, "UPDATE invoices SET linked_reference = 'l-1'"):
        listing = asyncio.create_task(adopt(postgresql_store, seen(reference="l-1")))
        await asyncio.sleep(0.2)
    await listing
    assert await ids(postgresql_store) == [invoice.id]


async def test_what_is_being_changed_is_decided_on_as_it_then_is(postgresql_store: Store, postgresql_url: str) -> None:
    [invoice] = await stored(postgresql_store, a_pending())
    async with not_yet_committed(postgresql_url, "UPDATE invoices SET version = 7"):
        snapshots = [seen(reference=invoice.reference)]
        listing = asyncio.create_task(
            postgresql_store.adopt("acme", snapshots, found, lambda old, _: told(old, version=old.version + 1))
        )
        await asyncio.sleep(0.2)
    await listing
    assert (await stored_again(postgresql_store, invoice)).version == 8


@asynccontextmanager
async def not_yet_committed(url: str, statement: str) -> AsyncIterator[None]:
    """Somebody else's transaction, which has done this and is committed at the end."""
    other = await asyncpg.connect(url)
    async with other.transaction():
        await other.execute(statement)
        yield
    await other.close()


async def test_a_list_without_news_disturbs_no_writer(sqlite_store: Store, sqlite_file: Path) -> None:
    known = seen()
    await adopt(sqlite_store, known)
    in_doubt = an_invoice()
    await sqlite_store.reserve(in_doubt)
    with closing(sqlite3.connect(sqlite_file, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        await sqlite_store.adopt("acme", [known, seen(created_at=NOW)], found, echo)


# The schema


async def test_the_migrations_make_the_tables(store: Store) -> None:
    def differences(connection: Connection) -> list[Any]:
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)

    assert await store.is_current()
    assert await store.engine.read(differences) == []


async def test_many_who_migrate_at_once_migrate_once(empty_url: str) -> None:
    async with open_engine(empty_url) as engine:
        await asyncio.gather(*(Store(engine).migrate() for _ in range(4)))
        assert await Store(engine).is_current()


async def test_many_processes_that_migrate_at_once_migrate_once(empty_postgresql_url: str) -> None:
    await asyncio.gather(*(prepare(empty_postgresql_url) for _ in range(4)))
    await prepare(empty_postgresql_url)
    async with open_engine(empty_postgresql_url) as engine:
        assert await Store(engine).is_current()


async def test_a_change_of_the_schema_that_fails_leaves_all_as_it_was(store: Store) -> None:
    def alter(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE invoices ADD COLUMN later text"))
        connection.execute(text("UPDATE alembic_version SET version_num = NULL"))

    with pytest.raises(DBAPIError):
        await store.engine.alter(alter)
    assert await store.is_current()
    await write(store, "ALTER TABLE invoices ADD COLUMN later text")
    with pytest.raises(IntegrityError, match=r"(?i)foreign key"):
        await store.change((await stored(store, a_pending()))[0].id, lambda old: (old, [an_event(an_invoice())]))


async def test_a_store_without_its_schema_is_not_ready(empty_url: str) -> None:
    async with open_engine(empty_url) as engine:
        store = Store(engine)
        assert not await store.is_current()
        with pytest.raises(Overloaded, match="behind"):
            await store.ping()
        await store.migrate()
        await store.ping()


async def test_a_newer_schema_serves_who_runs_and_refuses_who_starts(store: Store) -> None:
    await write(store, "UPDATE alembic_version SET version_num = '9999'")
    await store.ping()
    assert not await store.is_current()
    with pytest.raises(StoreUnusable, match="newer"):
        await store.migrate()


async def write(store: Store, statement: str) -> None:
    await store.engine.write(lambda connection: connection.execute(text(statement)).rowcount)


# What carries it


async def test_a_reader_cannot_write(sqlite_store: Store) -> None:
    for carry in (sqlite_store.engine.read, sqlite_store.engine.look):
        with pytest.raises(Overloaded) as refused:
            await carry(lambda connection: connection.execute(text("DELETE FROM invoices")).rowcount)
        assert "readonly" in str(refused.value.__cause__)


async def test_what_was_committed_last_is_seen_at_once(store: Store) -> None:
    await store.reserve(invoice := an_invoice())
    for asks in range(1, 20):
        await store.change(invoice.id, lambda found: (replace(found, asks=found.asks + 1), ()))
        seen = await store.invoice(invoice.id)
        assert seen is not None
        assert seen.asks == asks


async def test_who_is_cancelled_harms_nobody(store: Store) -> None:
    invoices = [an_invoice() for _ in range(30)]
    tasks = [asyncio.create_task(store.reserve(invoice)) for invoice in invoices]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError, bool] * 15
    await store.reserve(last := an_invoice())
    assert {*(invoice.id for invoice in invoices[1::2]), last.id} <= set(await ids(store))


async def test_what_is_under_way_is_finished_before_the_store_closes(store_url: str) -> None:
    invoices = [an_invoice() for _ in range(8)]
    async with open_engine(store_url) as engine:
        tasks = [asyncio.create_task(Store(engine).reserve(invoice)) for invoice in invoices]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    async with open_engine(store_url) as engine:
        assert len(await ids(Store(engine))) == 8


async def test_sqlite_keeps_what_it_has_answered(sqlite_store: Store) -> None:
    def pragma(name: str) -> Callable[[Connection], object]:
        return lambda connection: connection.exec_driver_sql(f"PRAGMA {name}").scalar()

    wanted = {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 1000, "foreign_keys": 1}
    for name, value in wanted.items():
        assert await sqlite_store.engine.write(pragma(name)) == value
        assert await sqlite_store.engine.read(pragma(name)) == value


async def test_nothing_is_answered_before_it_is_committed(sqlite_store: Store, sqlite_file: Path) -> None:
    with closing(sqlite3.connect(sqlite_file)) as other:

        async def reserved() -> int:
            invoice = an_invoice()
            await sqlite_store.reserve(invoice)
            number: int = other.execute("SELECT count(*) FROM invoices WHERE id = ?", [invoice.id]).fetchone()[0]
            return number

        assert await asyncio.gather(*(reserved() for _ in range(100))) == [1] * 100


async def test_those_who_wait_together_share_a_commit(sqlite_store: Store) -> None:
    commits = 0

    def committed(_: Connection) -> None:
        nonlocal commits
        commits += 1

    assert isinstance(sqlite_store.engine, Sqlite)
    event.listen(sqlite_store.engine._writing, "commit", committed)
    await asyncio.gather(*(sqlite_store.reserve(an_invoice()) for _ in range(60)))
    assert commits == 1


async def test_one_that_fails_leaves_those_who_share_its_commit(sqlite_store: Store) -> None:
    taken, *others = [an_invoice() for _ in range(20)]
    await sqlite_store.reserve(taken)
    half = sqlite_store.change(taken.id, lambda old: (replace(old, version=7), [an_event(an_invoice())]))
    answers = await asyncio.gather(
        *(sqlite_store.reserve(one) for one in others[:9]),
        sqlite_store.reserve(taken),
        half,
        *(sqlite_store.reserve(one) for one in others[9:]),
        return_exceptions=True,
    )
    assert [type(answer).__name__ for answer in answers] == [
        *["bool"] * 9,
        *["IntegrityError"] * 2,
        *["bool"] * 10,
    ]
    assert len(await ids(sqlite_store)) == 20
    assert (await stored_again(sqlite_store, taken)).version == 1


async def test_a_full_disk_refuses_writes_and_goes_on_reading(sqlite_store: Store) -> None:
    await write(sqlite_store, "PRAGMA max_page_count = 1")
    big = [an_invoice(raw=bytes(100_000)) for _ in range(5)]
    answers = await asyncio.gather(*(sqlite_store.reserve(one) for one in big), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Overloaded] * 5
    assert await ids(sqlite_store) == []
    await write(sqlite_store, "PRAGMA max_page_count = 100000")
    await asyncio.gather(*(sqlite_store.reserve(one) for one in big))
    assert len(await ids(sqlite_store)) == 5


async def test_a_locked_file_refuses_writes_until_it_is_free(sqlite_store: Store, sqlite_file: Path) -> None:
    with closing(sqlite3.connect(sqlite_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        tasks = [asyncio.create_task(sqlite_store.reserve(an_invoice())) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="waits"):
            await sqlite_store.reserve(an_invoice())
        done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert [type(task.exception()) for task in done] == [Overloaded] * len(done)
        assert time.monotonic() - began < 5, "all are refused together, not one after the other"
    await asyncio.gather(*waiting)
    assert len(await ids(sqlite_store, limit=MOST_WAITING)) == MOST_WAITING - len(done)


async def test_a_mistake_of_ours_is_no_overload(store: Store) -> None:
    with pytest.raises(DBAPIError, match="no_such_table"):
        await store.engine.read(lambda connection: connection.execute(text("SELECT * FROM no_such_table")).all())


async def test_a_second_engine_on_the_same_file_is_refused(sqlite_url: str) -> None:
    async with open_engine(sqlite_url):
        with pytest.raises(StoreInUse, match="PostgreSQL serves many"):
            async with open_engine(sqlite_url):
                pass
    async with open_engine(sqlite_url):
        pass


async def test_a_second_process_on_the_same_file_is_refused(sqlite_url: str) -> None:
    program = (
        "import asyncio, sys\nfrom app.storage.engine import StoreInUse\nfrom app.storage.store import prepare\n"
        f"try: asyncio.run(prepare({sqlite_url!r}))\nexcept StoreInUse as error: sys.exit(str(error))"
    )
    async with open_engine(sqlite_url):
        refused = await asyncio.to_thread(python, program)
    assert (refused.returncode, "Another process uses this SQLite file" in refused.stderr) == (1, True)


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:///file:x?mode=memory&uri=true", "needs a file"),
        ("sqlite:////no/such/folder/x.db", "No such file"),
        ("mysql://user:secret@host/x", "mysql is not supported"),
        ("secret", "cannot be read"),
        ("postgresql://user:secret@host:port/x", "cannot be read"),
    ],
)
async def test_an_address_that_cannot_work_is_refused(url: str, reason: str) -> None:
    with pytest.raises(StoreUnusable, match=reason) as refused:
        async with open_engine(url):
            pass
    assert "secret" not in str(refused.value)


def test_a_file_that_is_no_database_is_refused(sqlite_url: str, sqlite_file: Path) -> None:
    sqlite_file.write_text("Dear diary, " * 1000)
    for _ in range(2):
        with pytest.raises(StoreUnusable, match="not a database"):
            asyncio.run(prepare(sqlite_url))


# PostgreSQL that is not well


async def outcomes(*works: Any) -> tuple[list[type], float]:
    """What came of each, and after how many seconds of all."""
    began = time.monotonic()
    answers = await asyncio.gather(*works, return_exceptions=True)
    return [type(answer) for answer in answers], time.monotonic() - began


async def test_a_frozen_server_is_given_up_and_used_again(postgres: Server, postgresql_store: Store) -> None:
    [invoice] = await stored(postgresql_store, a_pending())
    with postgres.frozen():
        answers, seconds = await outcomes(
            *(postgresql_store.reserve(an_invoice()) for _ in range(20)),
            postgresql_store.invoice(invoice.id),
            postgresql_store.ping(),
        )
        assert (answers, seconds < 3) == ([Overloaded] * 22, True)
        answers, seconds = await outcomes(postgresql_store.ping())
        assert (answers, seconds < 2) == ([Overloaded], True)
    await postgresql_store.change(invoice.id, lambda old: told(old, version=2))
    await asyncio.sleep(0.2)
    assert await ids(postgresql_store) == [invoice.id], "what was given up is not done later"


async def test_a_store_closes_though_its_server_is_frozen(postgres: Server, postgresql_url: str) -> None:
    async with open_engine(postgresql_url) as engine:
        await Store(engine).ping()
        began = time.monotonic()
        with postgres.frozen():
            await engine.close()
            assert time.monotonic() - began < 3


async def test_a_server_that_was_down_is_used_again(postgres: Server, postgresql_store: Store) -> None:
    await few_at_once(postgresql_store.reserve(an_invoice()) for _ in range(30))
    with postgres.down():
        answers, seconds = await outcomes(postgresql_store.ping(), postgresql_store.reserve(an_invoice()))
        assert (answers, seconds < 2) == ([Overloaded] * 2, True)
    answers, _ = await outcomes(*(postgresql_store.reserve(an_invoice()) for _ in range(30)))
    assert answers == [bool] * 30


async def test_a_restart_between_two_calls_is_not_noticed(postgres: Server, postgresql_store: Store) -> None:
    await few_at_once(postgresql_store.reserve(an_invoice()) for _ in range(30))
    with postgres.down():
        pass
    answers, _ = await outcomes(
        *(postgresql_store.reserve(an_invoice()) for _ in range(15)), *(ids(postgresql_store) for _ in range(15))
    )
    assert answers == [bool] * 15 + [list] * 15


async def test_a_server_need_not_be_up_yet(postgres: Server, empty_postgresql_url: str) -> None:
    async with open_engine(empty_postgresql_url) as engine:
        with postgres.down(), pytest.raises(Overloaded):
            await Store(engine).migrate()
        await Store(engine).migrate()


@pytest.mark.parametrize("prefix", ["postgresql", "postgres", "postgresql+asyncpg"])
async def test_each_spelling_of_the_address_is_understood(postgresql_url: str, prefix: str) -> None:
    await prepare(postgresql_url.replace("postgresql", prefix, 1) + "&sslmode=disable")


async def test_what_takes_too_long_is_overload(postgresql_store: Store, postgresql_url: str) -> None:
    [invoice] = await stored(postgresql_store, a_pending())
    async with not_yet_committed(postgresql_url, "SELECT id FROM invoices FOR UPDATE"):
        slow, locked = await asyncio.gather(
            postgresql_store.engine.read(lambda connection: connection.execute(text("SELECT pg_sleep(9)")).all()),
            postgresql_store.change(invoice.id, lambda old: told(old, version=2)),
            return_exceptions=True,
        )
    for answer, cause in ((slow, "due to statement timeout"), (locked, "due to lock timeout")):
        assert isinstance(answer, Overloaded)
        assert cause in str(answer.__cause__)


async def test_a_connection_that_is_lost_again_and_again_is_overload(postgresql_store: Store) -> None:
    tries = 0

    def lose(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        raw: Any = connection.connection.driver_connection
        raw.terminate()
        connection.execute(text("SELECT 1"))

    with pytest.raises(Overloaded):
        await postgresql_store.engine.write(lose)
    assert tries == TRIES
    await postgresql_store.ping()


async def test_who_would_wait_too_long_for_a_connection_is_told_at_once(postgresql_store: Store) -> None:
    def slow(connection: Connection) -> None:
        connection.execute(text("SELECT pg_sleep(1.5)")).all()

    busy = [asyncio.create_task(postgresql_store.engine.write(slow)) for _ in range(10)]
    await asyncio.sleep(0.1)
    answers, seconds = await outcomes(*(postgresql_store.ping() for _ in range(5)))
    assert (answers, seconds < 1.3) == ([Overloaded] * 5, True)
    await asyncio.gather(*busy)


async def test_of_two_in_each_others_way_both_get_through(postgresql_store: Store) -> None:
    one, two = await stored(postgresql_store, a_pending(), a_pending())

    def both(first: Invoice, second: Invoice) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            for invoice in (first, second):
                raise_version(connection, invoice.id)
                connection.execute(text("SELECT pg_sleep(0.1)")).all()

        return work

    await asyncio.gather(postgresql_store.engine.write(both(one, two)), postgresql_store.engine.write(both(two, one)))
    assert [(await stored_again(postgresql_store, invoice)).version for invoice in (one, two)] == [3, 3]


def raise_version(connection: Connection, id: str) -> None:
    connection.execute(text("UPDATE invoices SET version = version + 1 WHERE id = :id"), {"id": id})


async def test_a_change_of_the_schema_beneath_us_is_not_noticed(postgresql_store: Store) -> None:
    [invoice] = await stored(postgresql_store, a_pending())
    await write(postgresql_store, "ALTER TABLE invoices ALTER COLUMN version TYPE bigint")
    await write(postgresql_store, "ALTER TABLE invoices ADD COLUMN later text")
    assert await postgresql_store.invoice(invoice.id) == invoice
    await postgresql_store.change(invoice.id, lambda old: told(old, version=2))
