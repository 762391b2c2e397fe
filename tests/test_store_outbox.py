"""Events on their way out: written with their deliveries, in order per invoice, each to be seen to by one at a time."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import IntegrityError

from app.domain.delivery import Attempt, Backlog, Delivery
from app.domain.invoice import Invoice
from app.storage.engine import open_engine
from app.storage.events import tell
from app.storage.feed import EventLog
from app.storage.outbox import FAILING_FOR, FAILURES, MOST_AT_ONCE, MOST_ATTEMPTS, PROBED_EVERY, SOON, Health, Outbox
from app.storage.store import Store
from app.storage.tables import Instant
from tests.stores import few_at_once
from tests.test_store import NOW, SECOND, a_pending, an_event, cut, steps

pytestmark = pytest.mark.anyio


LEASE = timedelta(seconds=20)
HOUR = timedelta(hours=1)
SHOP, OTHER = "https://shop.example", "https://other.example:8443"
TYPES = ("invoice.created", "invoice.updated", "invoice.processing", "invoice.completed", "invoice.refunded")


async def happened(store: Store, types: Sequence[str] = TYPES[:1], **fields: Any) -> Invoice:
    """A new invoice that this has happened to."""
    invoice = a_pending(**{"callback_url": f"{SHOP}/hooks", **fields})
    await store.reserve(invoice)
    await happens(store, invoice, types)
    return invoice


async def happens(store: Store, invoice: Invoice, types: Sequence[str]) -> None:
    await store.change(invoice.id, lambda old: (old, [an_event(invoice, type) for type in types]))


async def claimed(
    outbox: Outbox, now: datetime = NOW, *, receiver: str = SHOP, limit: int = 1000, lease: timedelta = LEASE
) -> list[Delivery]:
    return [delivery for delivery, _ in await outbox.claim(receiver, now, now + lease, limit)]


def an_attempt(at: datetime = NOW, status: int | None = 204, error: str | None = None) -> Attempt:
    return Attempt(at=at, status=status, error=error, ms=7)


async def taken(outbox: Outbox, delivery: Delivery, at: datetime = NOW) -> Health | None:
    return await outbox.record(delivery, an_attempt(at), "delivered", None)


async def refused(
    outbox: Outbox, delivery: Delivery, at: datetime = NOW, again: timedelta = timedelta()
) -> Health | None:
    return await outbox.record(delivery, an_attempt(at, 500), "pending", at + again)


async def as_it_is(outbox: Outbox, delivery: Delivery) -> Delivery:
    return next(each for each in await outbox.of_invoice(delivery.invoice_id) if each.id == delivery.id)


# Written with what happened


async def test_an_event_is_written_with_its_delivery(store: Store) -> None:
    invoice = await happened(store, TYPES[:2])
    outbox, events = Outbox(store.engine), await EventLog(store.engine).of_invoice(invoice.id)
    first, second = await outbox.of_invoice(invoice.id)
    assert first == Delivery(
        id=first.id,
        event_id=events[0].id,
        type="invoice.created",
        invoice_id=invoice.id,
        url=f"{SHOP}/hooks",
        receiver=SHOP,
        state="pending",
        attempts=(),
        tries=0,
        due_at=cut(NOW),
        created_at=cut(NOW),
    )
    assert first.id.startswith("dlv_")
    assert (second.event_id, second.due_at) == (events[1].id, None)
    [(delivery, event)] = await outbox.claim(SHOP, NOW, NOW + LEASE, 9)
    assert (delivery, event) == (replace(first, due_at=cut(NOW) + LEASE), events[0])


async def test_the_configured_receiver_is_told_of_an_invoice_that_names_none(store: Store) -> None:
    configured = replace(store, webhook_url=f"{OTHER}/in")
    silent = await happened(store, callback_url=None)
    told = await happened(configured, callback_url=None)
    own = await happened(configured)
    outbox = Outbox(store.engine)
    assert await outbox.of_invoice(silent.id) == []
    assert [one.url for invoice in (told, own) for one in await outbox.of_invoice(invoice.id)] == [
        f"{OTHER}/in",
        f"{SHOP}/hooks",
    ]


async def test_a_change_that_raises_leaves_no_delivery(store: Store) -> None:
    invoice = await happened(store, ())
    event = an_event(invoice)
    with pytest.raises(IntegrityError):
        await store.change(invoice.id, lambda old: (old, [event, event]))
    assert await Outbox(store.engine).of_invoice(invoice.id) == []


@pytest.mark.parametrize(
    ("url", "receiver"),
    [
        ("https://Shop.Example/a?b=c", SHOP),
        ("https://shop.example:443/x", SHOP),
        ("https://u:p@shop.example/x", SHOP),
        ("http://shop.example:80", "http://shop.example"),
        ("https://shop.example:4443/x", "https://shop.example:4443"),
        ("http://[::1]:8080/x", "http://[::1]:8080"),
    ],
)
async def test_a_receiver_is_one_however_its_address_is_spelt(sqlite_store: Store, url: str, receiver: str) -> None:
    invoice = await happened(sqlite_store, callback_url=url)
    outbox = Outbox(sqlite_store.engine)
    assert [one.receiver for one in await outbox.of_invoice(invoice.id)] == [receiver]
    assert await outbox.receivers_due(NOW) == [receiver]


async def test_a_late_record_takes_over_the_line_of_what_was_adopted(store: Store) -> None:
    outbox = Outbox(store.engine)
    late = await happened(store, TYPES[:2], reference=None)
    adopted = await happened(store, TYPES[2:4], adopted=True, reference="r-1")
    await store.change(late.id, lambda old: (replace(old, reference="r-1"), [an_event(late, TYPES[4])]))
    assert await outbox.of_invoice(adopted.id) == []
    assert [type async for type in in_turn(outbox)] == list(TYPES)


async def in_turn(outbox: Outbox) -> Any:
    """The types of what is delivered, one after the other."""
    while found := await claimed(outbox):
        for delivery in found:
            yield delivery.type
            await taken(outbox, delivery)


# Claims


async def test_two_processes_share_what_is_due(postgresql_url: str) -> None:
    async with open_engine(postgresql_url) as one, open_engine(postgresql_url) as two:
        await few_at_once(happened(Store(one)) for _ in range(60))
        shares = await asyncio.gather(*(claimed(Outbox(each), limit=7) for each in (one, two) * 6))
    ids = [delivery.id for share in shares for delivery in share]
    assert len(ids) == len(set(ids)) == 60
    assert max(map(len, shares)) == 7


async def test_a_claim_ends_when_it_lapses(store: Store) -> None:
    await happened(store)
    outbox = Outbox(store.engine)
    [first] = await claimed(outbox)
    assert await claimed(outbox, NOW + LEASE - SECOND) == []
    [second] = await claimed(outbox, NOW + LEASE)
    assert await refused(outbox, first) is None
    noted = await as_it_is(outbox, first)
    assert noted == replace(second, attempts=noted.attempts)  # that it was tried is told, and changes nothing else
    assert len(noted.attempts) == 1
    await taken(outbox, second)
    ended = await as_it_is(outbox, first)
    assert ended == replace(second, state="delivered", attempts=(an_attempt(),), tries=1, due_at=None)


async def test_a_claim_that_is_given_back_is_due_at_once(store: Store) -> None:
    await happened(store)
    outbox = Outbox(store.engine)
    [first] = await claimed(outbox)
    await outbox.give_back(first, NOW)
    [second] = await claimed(outbox, NOW + SECOND)
    await outbox.give_back(first, NOW)  # somebody else's by now
    assert await claimed(outbox, NOW + SECOND) == []
    assert (second.tries, second.attempts) == (0, ())


async def test_a_failure_comes_again_when_it_is_due_with_what_was_tried(store: Store) -> None:
    await happened(store)
    outbox = Outbox(store.engine)
    [delivery] = await claimed(outbox)
    attempt = an_attempt(status=None, error="refused")
    await outbox.record(delivery, attempt, "pending", NOW + HOUR)
    assert await outbox.receivers_due(NOW + HOUR - SECOND) == []
    assert await outbox.receivers_due(NOW + HOUR) == [SHOP]
    [again] = await claimed(outbox, NOW + HOUR)
    assert (again.tries, again.attempts) == (1, (attempt,))


async def test_the_next_of_an_invoice_comes_when_the_one_before_has_ended(store: Store) -> None:
    await happened(store, TYPES[:3])
    outbox = Outbox(store.engine)
    [created] = await claimed(outbox)
    await refused(outbox, created, again=HOUR)
    assert (await outbox.receivers_due(NOW + SECOND), await claimed(outbox, NOW + SECOND)) == ([], [])
    [created] = await claimed(outbox, NOW + HOUR)
    await outbox.record(created, an_attempt(NOW + HOUR, 410), "failed", None)
    [updated] = await claimed(outbox, NOW + HOUR)
    assert updated.type == "invoice.updated"
    await taken(outbox, updated, NOW + HOUR)
    assert [one.type for one in await claimed(outbox, NOW + HOUR)] == ["invoice.processing"]


async def test_what_happens_later_gets_in_line(store: Store) -> None:
    invoice = await happened(store)
    outbox = Outbox(store.engine)
    [created] = await claimed(outbox)
    await happens(store, invoice, TYPES[1:2])
    assert await claimed(outbox) == []
    assert [one.due_at for one in await outbox.of_invoice(invoice.id)] == [created.due_at, None]
    await taken(outbox, created)
    assert [one.type for one in await claimed(outbox)] == ["invoice.updated"]


async def test_what_happens_just_as_the_one_before_ends_is_not_left_in_line(postgresql_store: Store) -> None:
    invoice = await happened(postgresql_store)
    outbox = Outbox(postgresql_store.engine)
    [created] = await claimed(outbox)

    def slow(connection: Connection) -> None:
        tell(connection, invoice, [an_event(invoice)], None)
        connection.execute(text("SELECT pg_sleep(0.3)"))

    writing = asyncio.create_task(postgresql_store.engine.write(slow))
    await asyncio.sleep(0.1)
    await asyncio.gather(taken(outbox, created), writing)
    assert len(await claimed(outbox)) == 1


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_overtakes_within_an_invoice(store: Store, seed: int) -> None:
    """Four who work at the same time, with failures, and with claims that lapse unrecorded."""
    chance = random.Random(seed)  # noqa: S311  # what fails
    outbox = Outbox(store.engine)
    await few_at_once(happened(store, TYPES) for _ in range(200))
    tried: dict[tuple[str, str], None] = {}
    clock = NOW

    async def work() -> None:
        nonlocal clock
        while await outbox.page(1, state="pending"):
            for delivery in await claimed(outbox, clock, limit=12):
                tried[delivery.invoice_id, delivery.type] = None
                fate = chance.random()
                if fate < 0.1:
                    await refused(outbox, delivery, clock, again=SECOND)
                elif fate < 0.95:
                    await taken(outbox, delivery, clock)
            clock += SECOND

    await asyncio.gather(*(work() for _ in range(4)))
    lines: dict[str, list[str]] = {}
    for id, type in tried:
        lines.setdefault(id, []).append(type)
    assert len(lines) == 200
    assert {tuple(types) for types in lines.values()} == {TYPES}


async def test_whoever_is_due_is_found_however_much_waits_for_a_dead_receiver(sqlite_store: Store) -> None:
    outbox = Outbox(sqlite_store.engine)

    async def look() -> None:
        for receiver in await outbox.receivers_due(NOW + SECOND):
            await claimed(outbox, NOW + SECOND, receiver=receiver, limit=8)

    async def pile_up(invoices: int) -> None:
        await asyncio.gather(*(happened(sqlite_store, TYPES[:4]) for _ in range(invoices)))
        for number, delivery in enumerate(await claimed(outbox)):
            await refused(outbox, delivery, again=HOUR if number else timedelta())
        await happened(sqlite_store, callback_url=OTHER)

    await pile_up(25)
    few = await steps(sqlite_store, look)
    await pile_up(225)
    assert await steps(sqlite_store, look) < 1.3 * few + 200


async def test_a_thousand_for_a_dead_receiver_delay_nobody_else(store: Store) -> None:
    outbox = Outbox(store.engine)
    alone = await seconds_to_be_told(store, outbox)
    await few_at_once(happened(store, TYPES) for _ in range(200))
    held = await claimed(outbox, limit=8)
    assert await seconds_to_be_told(store, outbox) < 0.1 + 10 * alone
    assert len(held) == 8


async def seconds_to_be_told(store: Store, outbox: Outbox) -> float:
    await happened(store, callback_url=OTHER)
    assert OTHER in await outbox.receivers_due(NOW)
    began = time.perf_counter()
    [other] = await claimed(outbox, receiver=OTHER)
    await taken(outbox, other)
    return time.perf_counter() - began


# How receivers do


async def failing(
    outbox: Outbox, times: int, since: datetime = NOW, until: datetime = NOW + FAILING_FOR
) -> list[Health | None]:
    """So many failures, the first then and the others at the end."""
    ends = [since, *[until] * (times - 1)]
    found: list[Health | None] = []
    for at in ends:
        [delivery] = await claimed(outbox, at, limit=1)
        found.append(await refused(outbox, delivery, at))
    return found


async def paused(store: Store, invoices: int = 3) -> Outbox:
    """Of a receiver that is paused since NOW + FAILING_FOR, to be probed PROBED_EVERY later."""
    outbox = Outbox(store.engine)
    for _ in range(invoices):
        await happened(store, TYPES[:2])
    assert await failing(outbox, FAILURES) == [None] * (FAILURES - 1) + ["paused"]
    return outbox


PAUSED = NOW + FAILING_FOR
PROBE = PAUSED + PROBED_EVERY


@pytest.mark.parametrize(("times", "until"), [(FAILURES - 1, PAUSED), (FAILURES + 5, PAUSED - SECOND)])
async def test_who_failed_seldom_or_not_for_long_is_not_paused(store: Store, times: int, until: datetime) -> None:
    await happened(store)
    outbox = Outbox(store.engine)
    assert set(await failing(outbox, times, until=until)) == {None}
    assert await outbox.page(9, state="paused") == []
    assert await outbox.receivers_due(PAUSED) == [SHOP]


async def test_a_success_forgets_the_failures_before_it(store: Store) -> None:
    await asyncio.gather(*(happened(store) for _ in range(3)))
    outbox = Outbox(store.engine)
    await failing(outbox, FAILURES - 1)
    [delivery] = await claimed(outbox, PAUSED, limit=1)
    assert await taken(outbox, delivery, PAUSED) is None
    assert set(await failing(outbox, FAILURES - 1, since=PAUSED, until=PAUSED + HOUR)) == {None}


async def test_after_a_success_the_hour_begins_anew(store: Store) -> None:
    await asyncio.gather(*(happened(store) for _ in range(3)))
    outbox = Outbox(store.engine)
    await failing(outbox, 1)
    [delivery] = await claimed(outbox, PAUSED, limit=1)
    await taken(outbox, delivery, PAUSED)
    until = PAUSED + FAILING_FOR - SECOND
    assert set(await failing(outbox, FAILURES + 1, since=PAUSED, until=until)) == {None}


async def test_a_paused_receiver_gets_one_probe_now_and_then(store: Store) -> None:
    outbox = await paused(store)
    assert len(await outbox.page(9, state="paused")) == 6
    assert (await outbox.receivers_due(PROBE - SECOND), await claimed(outbox, PROBE - SECOND)) == ([], [])
    assert await outbox.receivers_due(PROBE) == [SHOP]
    [probe] = await claimed(outbox, PROBE)
    assert (await outbox.receivers_due(PROBE), await claimed(outbox, PROBE)) == ([], [])
    assert await refused(outbox, probe, PROBE) is None
    assert (await as_it_is(outbox, probe)).tries == probe.tries
    assert await claimed(outbox, PROBE + PROBED_EVERY - SECOND) == []
    assert len(await claimed(outbox, PROBE + PROBED_EVERY)) == 1


async def test_of_many_who_would_probe_one_does(store: Store) -> None:
    outbox = await paused(store)
    shares = await asyncio.gather(*(claimed(outbox, PROBE) for _ in range(10)))
    assert sorted(map(len, shares)) == [0] * 9 + [1]


async def test_a_probe_need_not_be_due(store: Store) -> None:
    """Whoever is back is not left alone until the next try, which may be hours away."""
    await happened(store)
    outbox = Outbox(store.engine)
    await failing(outbox, FAILURES - 1)
    [delivery] = await claimed(outbox, PAUSED)
    assert await refused(outbox, delivery, PAUSED, again=10 * HOUR) == "paused"
    assert await outbox.receivers_due(PROBE) == [SHOP]
    assert len(await claimed(outbox, PROBE)) == 1


async def test_whoever_is_back_gets_everything_at_once(store: Store) -> None:
    outbox = await paused(store)
    [probe] = await claimed(outbox, PROBE)
    await refused(outbox, probe, PROBE, again=2 * HOUR)
    [probe] = await claimed(outbox, PROBE + PROBED_EVERY)
    assert await taken(outbox, probe, PROBE + PROBED_EVERY) == "resumed"
    assert await outbox.page(9, state="paused") == []
    assert len(await claimed(outbox, PROBE + PROBED_EVERY)) == 3
    assert await outbox.receivers_due(PROBE + PROBED_EVERY) == []


async def test_whoever_is_back_after_very_much_gets_what_one_transaction_can_carry(store: Store) -> None:
    outbox = await paused(store, invoices=1)
    fill = text(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :many)"
        " INSERT INTO deliveries"
        " (id, event_id, invoice_id, url, receiver, state, attempts, tries, due_at, created_at)"
        " SELECT id || n, event_id, id || n, url, receiver, state, attempts, tries, due_at + 36000000 + n, created_at"
        " FROM deliveries, n WHERE due_at IS NOT NULL"
    )
    await store.engine.write(lambda connection: connection.execute(fill, {"many": MOST_AT_ONCE + 9}).rowcount)
    [probe] = await claimed(outbox, PROBE)
    assert await taken(outbox, probe, PROBE) == "resumed"
    count = text("SELECT count(*) FROM deliveries WHERE state = 'pending' AND due_at = :now")
    now = bindparam("now", PROBE, Instant)
    due = await store.engine.read(lambda connection: connection.execute(count.bindparams(now)).scalar_one())
    assert due == MOST_AT_ONCE + 1  # and the next of the invoice that was probed with


async def test_what_is_under_way_when_a_receiver_is_back_is_not_sent_twice(store: Store) -> None:
    outbox = await paused(store)
    [probe] = await claimed(outbox, PROBE)
    third = next(one for one in await outbox.page(9, state="paused") if one.invoice_id != probe.invoice_id)
    await outbox.redeliver(third.id, PROBE)
    [again] = await claimed(outbox, PROBE)
    await taken(outbox, probe, PROBE)
    assert again.id not in {one.id for one in await claimed(outbox, PROBE)}
    assert LEASE < SOON


async def test_an_empty_line_is_not_probed(store: Store) -> None:
    outbox = await paused(store, invoices=1)
    for at in (PROBE, PROBE + PROBED_EVERY):
        [probe] = await claimed(outbox, at)
        await outbox.record(probe, an_attempt(at, 410), "failed", None)
    assert await outbox.receivers_due(PROBE + HOUR) == []
    await happened(store)
    assert await outbox.receivers_due(PROBE + HOUR) == [SHOP]


async def test_the_attempts_that_are_kept_have_an_end(store: Store) -> None:
    await happened(store)
    outbox = Outbox(store.engine)
    for number in range(MOST_ATTEMPTS + 5):
        at = NOW + number * SECOND
        [delivery] = await claimed(outbox, at)
        await refused(outbox, delivery, at)
    [delivery] = await outbox.page(1)
    assert (len(delivery.attempts), delivery.attempts[-1].at, delivery.tries) == (MOST_ATTEMPTS, at, MOST_ATTEMPTS + 5)


# Once more


async def test_what_was_delivered_can_be_delivered_again_before_what_came_later(store: Store) -> None:
    await happened(store, TYPES[:2])
    outbox = Outbox(store.engine)
    [created] = await claimed(outbox)
    await taken(outbox, created)
    again = await outbox.redeliver(created.id, NOW + SECOND)
    assert again == replace(created, due_at=cut(NOW) + SECOND, attempts=(an_attempt(),), tries=0)
    [created] = await claimed(outbox, NOW + SECOND)
    assert created.type == "invoice.created"
    await taken(outbox, created, NOW + SECOND)
    assert [one.type for one in await claimed(outbox, NOW + SECOND)] == ["invoice.updated"]


async def test_what_is_put_off_stays_so_when_one_before_it_was_delivered_again(store: Store) -> None:
    await happened(store, TYPES[:2])
    outbox = Outbox(store.engine)
    [created] = await claimed(outbox)
    await taken(outbox, created)
    [updated] = await claimed(outbox)
    await refused(outbox, updated, again=HOUR)
    await outbox.redeliver(created.id, NOW)
    [created] = await claimed(outbox)
    await taken(outbox, created)
    assert await claimed(outbox, NOW + HOUR - SECOND) == []


async def test_what_is_in_line_stays_there_when_it_is_to_be_delivered_again(store: Store) -> None:
    invoice = await happened(store, TYPES[:3])
    outbox = Outbox(store.engine)
    await outbox.redeliver((await outbox.of_invoice(invoice.id))[1].id, NOW)
    assert [type async for type in in_turn(outbox)] == list(TYPES[:3])


async def test_a_paused_receiver_is_probed_at_once_with_what_is_to_be_delivered_again(store: Store) -> None:
    outbox = await paused(store)
    wanted = (await outbox.page(9, state="paused"))[-1]
    again = await outbox.redeliver(wanted.id, PAUSED + SECOND)
    assert again is not None
    assert again.paused
    assert await outbox.receivers_due(PAUSED + SECOND) == [SHOP]
    assert len(await claimed(outbox, PAUSED + SECOND)) == 1


async def test_what_there_is_not_is_not_delivered_again(store: Store) -> None:
    assert await Outbox(store.engine).redeliver("dlv_x", NOW) is None


# The log


async def test_what_waits_is_counted_and_who_is_paused_is_named(store: Store) -> None:
    assert (await Outbox(store.engine).backlog(), await Outbox(store.engine).paused()) == (Backlog(0, None), [])
    outbox = await paused(store, invoices=2)
    await happened(store, callback_url=OTHER)
    [delivery] = await claimed(outbox, receiver=OTHER)
    assert await outbox.backlog() == Backlog(5, cut(NOW))
    await taken(outbox, delivery)
    assert await outbox.backlog() == Backlog(4, cut(NOW))
    assert await outbox.paused() == [(SHOP, cut(NOW))]


async def test_the_log_is_newest_first_and_each_filter_finds_its_own(store: Store) -> None:
    outbox = await paused(store, invoices=1)
    other = await happened(store, TYPES[:2], callback_url=OTHER)
    [created] = await claimed(outbox, receiver=OTHER)
    await taken(outbox, created)

    async def found(**query: Any) -> list[str]:
        return [f"{one.receiver} {one.type}" for one in await outbox.page(9, **query)]

    shop = [f"{SHOP} invoice.updated", f"{SHOP} invoice.created"]
    assert await found() == [f"{OTHER} invoice.updated", f"{OTHER} invoice.created", *shop]
    assert await found(state="paused") == shop
    assert await found(state="pending") == [f"{OTHER} invoice.updated"]
    assert await found(state="delivered", invoice_id=other.id) == [f"{OTHER} invoice.created"]
    assert await found(state="failed") == []
    assert len(await found(invoice_id=other.id)) == 2


async def test_the_log_is_read_in_pages_without_gaps_and_doubles(store: Store) -> None:
    await asyncio.gather(*(happened(store, TYPES[:3]) for _ in range(7)))
    outbox, collected, after = Outbox(store.engine), list[str](), None
    while page := await outbox.page(4, after=after):
        collected += [one.id for one in page]
        after = (page[-1].created_at, page[-1].id)
    assert len(collected) == len(set(collected)) == 21
    assert collected == sorted(collected, reverse=True)


@pytest.mark.parametrize(
    "query", [{}, {"state": "failed"}, {"state": "delivered"}, {"invoice_id": "inv_x"}, {"after": (NOW, "dlv_x")}]
)
async def test_a_page_of_the_log_costs_the_same_whatever_else_there_is(
    sqlite_store: Store, query: dict[str, Any]
) -> None:
    outbox = Outbox(sqlite_store.engine)

    async def read() -> None:
        await outbox.page(10, **query)

    async def deliver(invoices: int) -> None:
        await asyncio.gather(*(happened(sqlite_store, TYPES[:1]) for _ in range(invoices)))
        for delivery in await claimed(outbox):
            await taken(outbox, delivery)

    await deliver(50)
    few = await steps(sqlite_store, read)
    await deliver(300)
    assert await steps(sqlite_store, read) < 1.3 * few + 200
