"""What providers tell us is kept once, seen to by one at a time, and ends once."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.domain.delivery import Backlog
from app.domain.invoice import Event, Invoice, Snapshot, Status
from app.domain.notification import ReceivedNotification
from app.storage.engine import open_engine
from app.storage.feed import EventLog
from app.storage.inbox import Inbox
from app.storage.store import Store
from tests.test_store import NOW, SECOND, a_pending, an_event, cut, found, learned, seen, steps, stored, told

pytestmark = pytest.mark.anyio


LEASE = timedelta(seconds=30)


def a_notice(number: int = 1, **fields: Any) -> ReceivedNotification:
    return ReceivedNotification(
        **{
            "provider": "acme",
            "digest": number.to_bytes(32, "big"),
            "received_at": cut(NOW),
            "body": b'\x00\xff{"id": 1}',
            "signed": True,
            **fields,
        }
    )


async def received(store: Store, *notices: ReceivedNotification, until: datetime = NOW) -> list[ReceivedNotification]:
    kept = [await Inbox(store.engine).receive(notice, until) for notice in notices]
    return [notice for notice in kept if notice is not None]


async def test_a_notice_comes_back_as_it_was(store: Store) -> None:
    notice = a_notice(invoice_id="inv_1", reference="réf-1", signed=False)
    [kept] = await received(store, notice)
    assert replace(kept, position=0) == notice
    assert await Inbox(store.engine).claim(NOW, NOW + LEASE, 9) == [kept]
    assert await Inbox(store.engine).of_invoice("inv_1") == [kept]


async def test_of_forty_who_bring_the_same_at_once_one_is_kept(store: Store) -> None:
    inbox = Inbox(store.engine)
    answers = await asyncio.gather(*(inbox.receive(a_notice(), NOW) for _ in range(40)))
    assert len([answer for answer in answers if answer is not None]) == 1
    assert len(await inbox.claim(NOW, NOW + LEASE, 99)) == 1


async def test_what_another_provider_says_in_the_same_words_is_another_thing(store: Store) -> None:
    assert len(await received(store, a_notice(), a_notice(provider="other"), a_notice())) == 2


async def test_what_was_settled_is_not_taken_in_again(store: Store) -> None:
    [notice] = await received(store, a_notice())
    await Inbox(store.engine).close(notice, None, NOW)
    assert await received(store, a_notice()) == []
    assert await Inbox(store.engine).claim(NOW + LEASE, NOW + 2 * LEASE, 9) == []


async def test_who_receives_it_has_it_alone_until_then(store: Store) -> None:
    [notice] = await received(store, a_notice(), until=NOW + LEASE)
    inbox = Inbox(store.engine)
    assert await inbox.claim(NOW + LEASE - SECOND, NOW + 2 * LEASE, 9) == []
    assert await inbox.claim(NOW + LEASE, NOW + 2 * LEASE, 9) == [notice]
    assert await inbox.claim(NOW + LEASE, NOW + 2 * LEASE, 9) == []


async def test_no_more_are_claimed_than_asked_for_the_longest_due_first(store: Store) -> None:
    for number in range(5):
        await received(store, a_notice(number), until=NOW - number * SECOND)
    claimed = await Inbox(store.engine).claim(NOW, NOW + LEASE, 2)
    assert {notice.digest for notice in claimed} == {a_notice(4).digest, a_notice(3).digest}


async def test_two_processes_share_what_is_due(postgresql_url: str) -> None:
    async with open_engine(postgresql_url) as one, open_engine(postgresql_url) as two:
        await received(Store(one), *(a_notice(number) for number in range(60)))
        shares = await asyncio.gather(*(Inbox(each).claim(NOW, NOW + LEASE, 7) for each in (one, two) * 6))
    positions = [notice.position for share in shares for notice in share]
    assert len(positions) == len(set(positions)) == 60
    assert max(map(len, shares)) == 7


async def test_what_is_put_off_comes_later_and_counts_its_tries(store: Store) -> None:
    inbox = Inbox(store.engine)
    [notice] = await received(store, a_notice())
    await inbox.claim(NOW, NOW + LEASE, 9)
    await inbox.postpone(notice.position, NOW + SECOND, tries=1)
    assert await inbox.claim(NOW, NOW + LEASE, 9) == []
    assert await inbox.claim(NOW + SECOND, NOW + LEASE, 9) == [replace(notice, tries=1)]


async def test_what_is_settled_cannot_be_put_off(store: Store) -> None:
    inbox = Inbox(store.engine)
    [notice] = await received(store, a_notice())
    await inbox.close(notice, None, NOW)
    await inbox.postpone(notice.position, NOW, tries=1)
    assert await inbox.claim(NOW, NOW + LEASE, 9) == []


async def test_the_same_words_open_what_is_settled_again_where_that_is_wanted(store: Store) -> None:
    inbox = Inbox(store.engine)
    [notice] = await received(store, a_notice())
    later = a_notice(received_at=cut(NOW) + SECOND)
    await inbox.close(notice, None, NOW)
    assert await inbox.receive(later, NOW + LEASE) is None
    again = await inbox.receive(later, NOW + LEASE, again=True)
    assert again == replace(later, position=notice.position)
    assert await inbox.claim(NOW + LEASE, NOW + 2 * LEASE, 9) == [again]


async def test_what_is_told_again_meanwhile_is_not_settled_by_a_look_that_began_before(store: Store) -> None:
    inbox = Inbox(store.engine)
    [notice] = await received(store, a_notice(), until=NOW + LEASE)
    later = a_notice(received_at=cut(NOW) + SECOND)
    assert await inbox.receive(later, NOW + 2 * LEASE, again=True) is None  # it is being looked into
    assert await inbox.claim(NOW + LEASE - SECOND, NOW + 2 * LEASE, 9) == []
    await inbox.close(notice, "inv_1", NOW + SECOND)
    [again] = await inbox.claim(NOW + SECOND, NOW + LEASE, 9)
    assert again == replace(later, position=notice.position, invoice_id="inv_1")
    await inbox.close(again, None, NOW)
    assert await inbox.claim(NOW + LEASE, NOW + 2 * LEASE, 9) == []


async def test_what_is_told_again_just_as_it_is_settled_is_not_lost(store: Store) -> None:
    inbox = Inbox(store.engine)
    notices = await received(store, *(a_notice(number) for number in range(50)), until=NOW + LEASE)
    later = [replace(notice, received_at=cut(NOW) + SECOND) for notice in notices]
    answers = await asyncio.gather(
        *(inbox.close(notice, None, NOW + SECOND) for notice in notices),
        *(inbox.receive(notice, NOW + 2 * LEASE, again=True) for notice in later),
    )
    opened = [answer for answer in answers if answer is not None]
    due = await inbox.claim(NOW + SECOND, NOW + LEASE, 99)
    assert sorted(notice.position for notice in opened + due) == [notice.position for notice in notices]


async def test_what_is_not_settled_is_counted(store: Store) -> None:
    inbox = Inbox(store.engine)
    assert await inbox.backlog() == Backlog(0, None)
    settled, _, _ = await received(
        store, *(a_notice(number, received_at=cut(NOW) + number * SECOND) for number in range(3))
    )
    await inbox.close(settled, None, NOW)
    assert await inbox.backlog() == Backlog(2, cut(NOW) + SECOND)


async def test_claiming_costs_the_same_however_much_is_settled(sqlite_store: Store) -> None:
    async def claim() -> None:
        await received(sqlite_store, a_notice())
        await Inbox(sqlite_store.engine).claim(NOW, NOW + LEASE, 20)

    few = await steps(sqlite_store, claim)
    fill = text(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 3000) "
        "INSERT INTO inbox (provider, digest, received_at, body, signed, tries)"
        " SELECT 'acme', 'd' || n, 0, '', 1, 0 FROM n"
    )
    await sqlite_store.engine.write(lambda connection: connection.execute(fill).rowcount)
    assert await steps(sqlite_store, claim) < 1.3 * few + 200


# Deposits


async def test_a_deposit_is_told_once_however_many_see_to_it(store: Store) -> None:
    [invoice] = await stored(store, a_pending(callback_url="https://shop.example/hooks"))
    [notice] = await received(store, a_notice(invoice_id=invoice.id))
    answers = await asyncio.gather(*(store.deposit(notice.position, invoice.id, a_deposit) for _ in range(20)))
    assert sorted(answers) == [False] * 19 + [True]
    assert [event.type for event in await EventLog(store.engine).of_invoice(invoice.id)] == ["invoice.deposit"]
    assert await store.invoice(invoice.id) == invoice
    assert await Inbox(store.engine).claim(NOW + LEASE, NOW + 2 * LEASE, 9) == []


def a_deposit(invoice: Invoice) -> Event:
    return an_event(invoice, "invoice.deposit")


async def test_a_deposit_that_goes_wrong_leaves_its_notice_open(store: Store) -> None:
    [invoice] = await stored(store, a_pending())
    [notice] = await received(store, a_notice())
    with pytest.raises(ZeroDivisionError):
        await store.deposit(notice.position, invoice.id, lambda _: 1 // 0)  # type: ignore[arg-type, return-value]
    assert not await store.deposit(notice.position, "inv_x", a_deposit)
    assert await Inbox(store.engine).claim(NOW, NOW + LEASE, 9) == [notice]


async def test_a_deposit_wakes_who_waits_only_when_it_is_new(store: Store) -> None:
    [invoice] = await stored(store, a_pending())
    [notice] = await received(store, a_notice())
    woken: list[str] = []
    listening = replace(store, changed=woken.extend)
    for _ in range(2):
        await listening.deposit(notice.position, invoice.id, a_deposit)
    assert woken == [invoice.id]


# Whose it is


async def test_an_invoice_is_found_by_either_of_its_providers_ids(store: Store) -> None:
    one, two, _ = await stored(
        store,
        a_pending(reference="r-1"),
        a_pending(reference="r-2", linked_reference="l-2"),
        a_pending(provider="other", reference="r-3"),
    )
    assert await store.by_reference("acme", "r-1") == one
    assert await store.by_reference("acme", "l-2") == two
    assert await store.by_reference("acme", "r-3") is None


async def test_a_late_record_takes_over_the_notices_of_what_was_adopted(store: Store) -> None:
    late, adopted = await stored(store, a_pending(reference=None), a_pending(adopted=True, reference="r-1"))
    [notice] = await received(store, a_notice(invoice_id=adopted.id))
    await store.change(late.id, lambda old: told(old, reference="r-1"))
    assert await Inbox(store.engine).of_invoice(adopted.id) == []
    assert await Inbox(store.engine).of_invoice(late.id) == [replace(notice, invoice_id=late.id)]


async def test_versions_are_told_of_those_that_there_are(store: Store) -> None:
    one, two = await stored(store, a_pending(), a_pending(version=7))
    assert await store.versions([one.id, two.id, "inv_x"]) == {one.id: 1, two.id: 7}
    assert await store.versions([]) == {}


# Who waits


async def test_only_what_happened_is_heard(store: Store) -> None:
    [known, other] = await stored(store, a_pending(), a_pending())
    heard: list[str] = []
    listening = replace(store, changed=heard.extend)
    await listening.change(known.id, lambda old: (replace(old, synced_at=NOW), []))
    with pytest.raises(ZeroDivisionError):
        await listening.change(known.id, lambda _: 1 // 0)  # type: ignore[arg-type, return-value]
    assert heard == []
    await listening.change(known.id, lambda old: told(old, version=2))
    assert heard == [known.id]
    listed = [seen(reference=known.reference), seen(reference=other.reference, status=Status.COMPLETED), seen()]
    await listening.adopt("acme", listed, found, heard_of)
    assert heard == [known.id, other.id]


def heard_of(invoice: Invoice, snapshot: Snapshot) -> tuple[Invoice, list[Event]]:
    """Every look is remembered; only some find anything."""
    now, events = learned(invoice, snapshot)
    return replace(now, synced_at=NOW + SECOND), events


async def test_nobody_is_woken_before_there_is_something_to_read(sqlite_store: Store, sqlite_file: Path) -> None:
    [invoice] = await stored(sqlite_store, a_pending())
    versions: list[int] = []
    with closing(sqlite3.connect(sqlite_file)) as other:

        def look(_: object) -> None:
            versions.append(other.execute("SELECT version FROM invoices").fetchone()[0])

        await replace(sqlite_store, changed=look).change(invoice.id, lambda old: told(old, version=2))
    assert versions == [2]
