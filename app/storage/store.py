"""Every method of the store is one whole transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import (
    Connection,
    Integer,
    bindparam,
    func,
    or_,
    select,
    update,
)

from app.domain.errors import NotFound, Overloaded
from app.domain.invoice import Event, Invoice, Snapshot
from app.storage import keys
from app.storage.engine import Engine, StoreUnusable, open_engine
from app.storage.intake import TOGETHER, Intake
from app.storage.keys import IdempotencyKey, Kept
from app.storage.migrations import standing, upgrade
from app.storage.pages import BETWEEN, EQUAL, Query, page_of
from app.storage.rows import (
    ADD,
    CHANGE,
    KEY,
    PROVIDER,
    REFERENCES,
    REMOVE,
    WHOLE,
    Decided,
    columns,
    invoices_of,
    run,
    sifting,
    write,
)
from app.storage.tables import Instant, events, in_doubt, invoices


@dataclass(frozen=True, slots=True)
class Doubts:
    provider: str
    count: int
    oldest: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What to keep under a key with a change: the answer, or that there is none yet and the call may be made again."""

    key: IdempotencyKey
    at: datetime
    answer: Callable[[Invoice], bytes | None]

    def settle(self, connection: Connection, invoice: Invoice) -> None:
        answer = self.answer(invoice)
        if answer is None:
            keys.doubt(connection, self.key)
        else:
            keys.settle(connection, self.key, self.at, answer)


ONE = select(*WHOLE).where(invoices.c.id == KEY)
ONE_TO_CHANGE = ONE.with_for_update()
WITHDRAW = REMOVE.where(invoices.c.reference.is_(None))

IN_DOUBT = (
    select(*WHOLE).where(invoices.c.provider == PROVIDER, in_doubt).order_by(invoices.c.created_at).limit(TOGETHER)
)
NOW, UNTIL = bindparam("now", type_=Instant), bindparam("until_at", type_=Instant)

TAKE_OVER = (
    update(invoices)
    .where(
        invoices.c.id == KEY,
        in_doubt,
        or_(invoices.c.asked_until.is_(None), invoices.c.asked_until <= NOW),
        or_(invoices.c.taken_until.is_(None), invoices.c.taken_until <= NOW),
    )
    .values(taken_until=UNTIL)
    .returning(*WHOLE)
)

CLAIM_DUE = (
    update(invoices)
    .where(
        invoices.c.id.in_(
            select(invoices.c.id)
            .where(invoices.c.due_at <= NOW)
            .order_by(invoices.c.due_at)
            .limit(bindparam("limit", type_=Integer))
            .with_for_update(skip_locked=True)
        )
    )
    .values(due_at=UNTIL, asks=invoices.c.asks + 1)
    .returning(*WHOLE)
)

TAKEN = select(invoices.c.reference, invoices.c.linked_reference).where(
    sifting(invoices.c.provider) == PROVIDER,
    or_(invoices.c.reference.in_(REFERENCES), invoices.c.linked_reference.in_(REFERENCES)),
    ~invoices.c.adopted,
)

OLDEST_DOUBTS = (
    select(invoices.c.provider, func.count(), func.min(invoices.c.created_at))
    .where(in_doubt)
    .group_by(invoices.c.provider)
)

EVENTS = (
    select(events.c.id, events.c.type, events.c.at, events.c.data)
    .where(events.c.invoice_id == KEY)
    .order_by(events.c.position)
)


@dataclass(frozen=True, slots=True)
class Store:
    engine: Engine

    async def reserve(self, invoice: Invoice, key: IdempotencyKey | None = None) -> bool:
        """Write it down with its key before anything is sent; False where the key is another call's."""

        def work(connection: Connection) -> bool:
            until = invoice.asked_until or invoice.created_at
            if key and not keys.take(connection, key, invoice.id, invoice.created_at, until):
                return False
            run(connection, ADD, columns(invoice))
            return True

        return await self.engine.write(work)

    async def withdraw(self, id: str, key: IdempotencyKey | None = None) -> None:
        """Forget a reservation, and its key, of which it is known that nothing came: one without a reference."""

        def work(connection: Connection) -> None:
            run(connection, WITHDRAW, {"key": id})
            if key:
                keys.forget(connection, key)

        await self.engine.write(work)

    async def change(self, id: str, decide: Callable[[Invoice], Decided], keep: Keep | None = None) -> Invoice:
        """Write what `decide` makes of the invoice, which nobody else changes meanwhile. NotFound, ReferenceTaken."""

        def work(connection: Connection) -> Invoice:
            for invoice in invoices_of(connection, ONE_TO_CHANGE, {"key": id}):
                changed = write(connection, invoice, decide(invoice))
                if keep:
                    keep.settle(connection, changed)
                return changed
            raise NotFound("There is no such invoice.")

        return await self.engine.write(work)

    async def kept(self, key: IdempotencyKey, now: datetime) -> Kept | None:
        return await self.engine.read(partial(keys.find, key=key, now=now))

    async def take_key(self, key: IdempotencyKey, invoice_id: str, now: datetime, until: datetime) -> bool:
        """Whether the key was free, or its call was cut off, and is now this call's until then."""

        def work(connection: Connection) -> bool:
            return keys.take(connection, key, invoice_id, now, until) or keys.go_on(connection, key, now, until)

        return await self.engine.write(work)

    async def doubt_key(self, key: IdempotencyKey) -> None:
        await self.engine.write(partial(keys.doubt, key=key))

    async def settle_key(self, key: IdempotencyKey, now: datetime, answer: bytes) -> None:
        await self.engine.write(partial(keys.settle, key=key, now=now, answer=answer))

    async def free_key(self, key: IdempotencyKey) -> None:
        await self.engine.write(partial(keys.forget, key=key))

    async def sweep_keys(self, now: datetime) -> int:
        """How many expired keys were forgotten, some hundred at most."""
        return await self.engine.write(partial(keys.sweep, now=now))

    async def take_over(self, id: str, now: datetime, until: datetime) -> Invoice | None:
        """An invoice in doubt, this caller's alone to resolve until then; None where it is not, or is another's."""
        values = {"key": id, "now": now, "until_at": until}
        found = await self.engine.write(partial(invoices_of, statement=TAKE_OVER, values=values))
        return found[0] if found else None

    async def let_go(self, id: str, asked_at: datetime) -> None:
        """Nobody resolves it any more; its provider was asked then."""
        values = {"key": id, "taken_until": None, "synced_at": asked_at}
        await self.engine.write(partial(run, statement=CHANGE, values=values))

    async def doubtful(self, provider: str) -> list[Invoice]:
        """Its invoices in doubt, oldest first."""
        return await self.engine.read(partial(invoices_of, statement=IN_DOUBT, values={"provider": provider}))

    async def unlinked(self, provider: str, seen: Sequence[Snapshot]) -> list[Snapshot]:
        """Those that are no other invoice of ours; what was only adopted counts as nobody's."""
        values = {"provider": provider, "references": [one.reference for one in seen]}

        def work(connection: Connection) -> list[Snapshot]:
            taken = {reference for row in connection.execute(TAKEN, values) for reference in row}
            return [one for one in seen if one.reference not in taken]

        return await self.engine.read(work)

    async def claim_due(self, now: datetime, until: datetime, limit: int) -> list[Invoice]:
        """What is to be asked about now, claimed so that nobody else does until then."""
        values = {"now": now, "until_at": until, "limit": limit}
        return await self.engine.write(partial(invoices_of, statement=CLAIM_DUE, values=values))

    async def schedule(self, id: str, due_at: datetime | None) -> None:
        await self.engine.write(partial(run, statement=CHANGE, values={"key": id, "due_at": due_at}))

    async def doubts(self) -> list[Doubts]:
        """How many invoices are in doubt at each provider, and since when."""

        def work(connection: Connection) -> list[Doubts]:
            return [Doubts(*row) for row in connection.execute(OLDEST_DOUBTS)]

        return await self.engine.read(work)

    async def invoice(self, id: str) -> Invoice | None:
        found = await self.engine.read(partial(invoices_of, statement=ONE, values={"key": id}))
        return found[0] if found else None

    async def page(self, query: Query, now: datetime) -> list[Invoice]:
        """The newest by (created_at, id), without those whose create is under way."""
        wanted = {name: value for name in (*EQUAL, *BETWEEN) if (value := getattr(query, name)) is not None}
        values = {**wanted, "now": now, "limit": query.limit}
        if query.after is not None:
            values["after_at"], values["after_id"] = values.pop("after")
        return await self.engine.read(partial(invoices_of, statement=page_of(frozenset(wanted)), values=values))

    async def adopt(
        self,
        provider: str,
        seen: Sequence[Snapshot],
        adopt: Callable[[Snapshot], Invoice],
        decide: Callable[[Invoice, Snapshot], Decided],
    ) -> None:
        """Take in what a provider lists, some hundred in one transaction: decide on what we know, adopt what we don't.

        What is younger than a create in doubt may be what came of it, and is left alone; a change that would take a
        reference from another invoice of ours is left out. Usually there is nothing new, and one query that disturbs no
        writer tells.
        """
        for start in range(0, len(seen), TOGETHER):
            intake = Intake(provider, seen[start : start + TOGETHER], adopt, decide)
            strangers, changes = await self.engine.read(intake.news)
            if strangers or changes:
                await self.engine.write(partial(intake.take, alone=bool(strangers)))

    async def events(self, invoice_id: str) -> list[Event]:
        """Oldest first."""
        return await self.engine.read(partial(events_of, invoice_id=invoice_id))

    async def ping(self) -> None:
        """The store can be read and has every table we need; what a newer version has added doesn't matter."""
        if await self.engine.read(standing) == "behind":
            raise Overloaded("The schema of the store is behind.", retry_after=1)

    async def is_current(self) -> bool:
        return await self.engine.read(standing) == "at head"

    async def migrate(self) -> None:
        """Bring the schema to head. StoreUnusable where a newer version of this service has been."""
        if not await self.is_current():
            await self.engine.alter(bring_to_head)


async def migrate(url: str) -> None:
    async with open_engine(url) as engine:
        await Store(engine).migrate()


def bring_to_head(connection: Connection) -> None:
    if standing(connection) == "ahead":
        raise StoreUnusable("The schema of the store is newer than this version of the service knows.")
    upgrade(connection)


def events_of(connection: Connection, invoice_id: str) -> list[Event]:
    found = connection.execute(EVENTS, {"key": invoice_id})
    return [Event(id=id, type=type, invoice_id=invoice_id, at=at, data=data) for id, type, at, data in found]
