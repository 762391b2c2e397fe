"""Every method of the store is one whole transaction."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import (
    Connection,
    Integer,
    Text,
    bindparam,
    func,
    or_,
    select,
    update,
)

from app.domain.errors import NotFound, Overloaded
from app.domain.invoice import Event, Invoice, Snapshot
from app.storage import idempotency
from app.storage.engine import Engine, StoreUnusable, open_engine
from app.storage.events import tell
from app.storage.idempotency import IdempotencyKey, Kept
from app.storage.inbox import CLOSE
from app.storage.intake import TOGETHER, Intake
from app.storage.migrations import standing, upgrade
from app.storage.pages import BETWEEN, BY_EMAIL, EQUAL, Query, having_email, page_of
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
from app.storage.tables import Instant, in_doubt, invoices


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
            idempotency.doubt(connection, self.key)
        else:
            idempotency.settle(connection, self.key, self.at, answer)


ONE = select(*WHOLE).where(invoices.c.id == KEY)
ONE_TO_CHANGE = ONE.with_for_update()
BY_REFERENCE = select(*WHOLE).where(
    sifting(invoices.c.provider) == PROVIDER,
    or_(*(column == bindparam("reference") for column in (invoices.c.reference, invoices.c.linked_reference))),
)
VERSIONS = select(invoices.c.id, invoices.c.version).where(
    invoices.c.id.in_(bindparam("ids", type_=Text, expanding=True))
)
WITHDRAW = REMOVE.where(invoices.c.reference.is_(None))

IN_DOUBT = (
    select(*WHOLE)
    .where(
        invoices.c.provider == PROVIDER,
        in_doubt,
        invoices.c.order_id.is_not_distinct_from(bindparam("order_id", type_=Text)),
        invoices.c.amount.is_not_distinct_from(bindparam("amount", type_=Text)),
        invoices.c.currency.is_not_distinct_from(bindparam("currency", type_=Text)),
    )
    .order_by(invoices.c.created_at, invoices.c.id)
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
    .values(due_at=UNTIL)
    .returning(*WHOLE)
)

TAKEN = select(invoices.c.reference, invoices.c.linked_reference).where(
    sifting(invoices.c.provider) == PROVIDER,
    or_(invoices.c.reference.in_(REFERENCES), invoices.c.linked_reference.in_(REFERENCES)),
    ~invoices.c.adopted,
)

LATEST_LINK = (
    select(*WHOLE)
    .where(invoices.c.provider == PROVIDER, invoices.c.checkout.is_not(None), ~invoices.c.adopted)
    .order_by(invoices.c.created_at.desc(), invoices.c.id.desc())
    .limit(1)
)
OLDEST_DOUBTS = (
    select(invoices.c.provider, func.count(), func.min(invoices.c.created_at))
    .where(in_doubt)
    .group_by(invoices.c.provider)
)


@dataclass(frozen=True, slots=True)
class Store:
    """`webhook_url`: who is told of an invoice that names no address; `changed` hears which have changed here."""

    engine: Engine
    webhook_url: str | None = None
    changed: Callable[[Collection[str]], None] = lambda _: None

    async def reserve(self, invoice: Invoice, key: IdempotencyKey | None = None) -> bool:
        """Write it down with its key before anything is sent; False where the key is another call's."""

        def work(connection: Connection) -> bool:
            until = invoice.asked_until or invoice.created_at
            if key and not idempotency.take(connection, key, invoice.id, invoice.created_at, until):
                return False
            run(connection, ADD, columns(invoice))
            return True

        return await self.engine.write(work)

    async def withdraw(self, id: str, key: IdempotencyKey | None = None) -> None:
        """Forget a reservation, and its key, of which it is known that nothing came: one without a reference."""

        def work(connection: Connection) -> None:
            run(connection, WITHDRAW, {"key": id})
            if key:
                idempotency.forget(connection, key, id)

        await self.engine.write(work)

    async def change(self, id: str, decide: Callable[[Invoice], Decided], keep: Keep | None = None) -> Invoice:
        """Write what `decide` makes of the invoice, which nobody else changes meanwhile. NotFound, ReferenceTaken."""

        def work(connection: Connection) -> tuple[Invoice, bool]:
            for invoice in invoices_of(connection, ONE_TO_CHANGE, {"key": id}):
                decided = decide(invoice)
                now = write(connection, invoice, decided, self.webhook_url)
                if keep:
                    keep.settle(connection, now)
                return now, bool(decided[1])
            raise NotFound("There is no such invoice.")

        now, told = await self.engine.write(work)
        if told:
            self.changed([id])
        return now

    async def deposit(self, position: int, id: str, fact: Callable[[Invoice], Event]) -> bool:
        """Write the fact of a deposit with the end of the notification that told of it; False where that had ended."""

        def work(connection: Connection) -> bool:
            for invoice in invoices_of(connection, ONE_TO_CHANGE, {"key": id}):
                if connection.execute(CLOSE, {"at": position}).rowcount:
                    tell(connection, invoice, [fact(invoice)], self.webhook_url)
                    return True
            return False

        written = await self.engine.write(work)
        if written:
            self.changed([id])
        return written

    async def kept(self, key: IdempotencyKey, now: datetime) -> Kept | None:
        return await self.engine.look(partial(idempotency.find, key=key, now=now))

    async def take_key(self, key: IdempotencyKey, invoice_id: str, now: datetime, until: datetime) -> bool:
        """Whether the key was free, or its call was cut off, and is now this call's until then."""

        def work(connection: Connection) -> bool:
            free = idempotency.take(connection, key, invoice_id, now, until)
            return free or idempotency.go_on(connection, key, now, until)

        return await self.engine.write(work)

    async def doubt_key(self, key: IdempotencyKey) -> None:
        await self.engine.write(partial(idempotency.doubt, key=key))

    async def settle_key(self, key: IdempotencyKey, now: datetime, answer: bytes) -> None:
        await self.engine.write(partial(idempotency.settle, key=key, now=now, answer=answer))

    async def free_key(self, key: IdempotencyKey, invoice_id: str) -> None:
        await self.engine.write(partial(idempotency.forget, key=key, invoice_id=invoice_id))

    async def sweep_keys(self, now: datetime) -> int:
        """How many expired keys were forgotten, some hundred at most."""
        return await self.engine.write(partial(idempotency.sweep, now=now))

    async def take_over(self, id: str, now: datetime, until: datetime) -> Invoice | None:
        """An invoice in doubt, this caller's alone to resolve until then; None where it is not, or is another's."""
        values = {"key": id, "now": now, "until_at": until}
        found = await self.engine.write(partial(invoices_of, statement=TAKE_OVER, values=values))
        return found[0] if found else None

    async def let_go(self, id: str) -> None:
        """Nobody resolves it any more."""
        await self.engine.write(partial(run, statement=CHANGE, values={"key": id, "taken_until": None}))

    async def asked(self, id: str, at: datetime) -> None:
        """Its provider was asked then, and had nothing."""
        await self.engine.write(partial(run, statement=CHANGE, values={"key": id, "synced_at": at}))

    async def doubtful(self, invoice: Invoice) -> list[Invoice]:
        """The invoices in doubt at its provider that have its order and its amount, oldest first."""
        values = columns(invoice, ("provider", "order_id", "amount"))
        return await self.engine.read(partial(invoices_of, statement=IN_DOUBT, values=values))

    async def unlinked(self, provider: str, seen: Sequence[Snapshot]) -> list[Snapshot]:
        """Those that are no other invoice of ours; what was only adopted counts as nobody's."""
        values = {"provider": provider, "references": [one.reference for one in seen]}

        def work(connection: Connection) -> list[Snapshot]:
            taken = {reference for row in connection.execute(TAKEN, values) for reference in row}
            return [one for one in seen if one.reference not in taken]

        return await self.engine.read(work)

    async def latest_link(self, provider: str) -> tuple[str, str] | None:
        """The provider's id and the checkout's address of its newest invoice that has both."""
        found = await self.engine.read(partial(invoices_of, statement=LATEST_LINK, values={"provider": provider}))
        for invoice in found:
            if invoice.reference and invoice.checkout and invoice.checkout.url:
                return invoice.reference, invoice.checkout.url
        return None

    async def claim_due(self, now: datetime, until: datetime, limit: int) -> list[Invoice]:
        """What is to be asked about now, claimed so that nobody else does until then."""
        values = {"now": now, "until_at": until, "limit": limit}
        return await self.engine.write(partial(invoices_of, statement=CLAIM_DUE, values=values))

    async def schedule(self, id: str, due_at: datetime | None, asks: int) -> None:
        """When to ask next, after so many asks that were answered."""
        await self.engine.write(partial(run, statement=CHANGE, values={"key": id, "due_at": due_at, "asks": asks}))

    async def doubts(self) -> list[Doubts]:
        """How many invoices are in doubt at each provider, and since when."""

        def work(connection: Connection) -> list[Doubts]:
            return [Doubts(*row) for row in connection.execute(OLDEST_DOUBTS)]

        return await self.engine.read(work)

    async def invoice(self, id: str) -> Invoice | None:
        found = await self.engine.look(partial(invoices_of, statement=ONE, values={"key": id}))
        return found[0] if found else None

    async def by_reference(self, provider: str, reference: str) -> Invoice | None:
        """The one that has it as either of its provider's ids."""
        values = {"provider": provider, "reference": reference}
        found = await self.engine.read(partial(invoices_of, statement=BY_REFERENCE, values=values))
        return found[0] if found else None

    async def versions(self, ids: Collection[str]) -> dict[str, int]:
        def work(connection: Connection) -> dict[str, int]:
            return {row.id: row.version for row in connection.execute(VERSIONS, {"ids": list(ids)})}

        return await self.engine.read(work)

    async def page(self, query: Query, now: datetime) -> list[Invoice]:
        """The newest by (created_at, id), without those whose create is under way."""
        wanted = {name: value for name in (*EQUAL, *BETWEEN) if (value := getattr(query, name)) is not None}
        values = {**wanted, "now": now, "limit": query.limit}
        if query.after is not None:
            values["after_at"], values["after_id"] = values.pop("after")
        return await self.engine.read(partial(invoices_of, statement=page_of(frozenset(wanted)), values=values))

    async def by_email(self, email: str, limit: int, now: datetime) -> list[Invoice]:
        """The newest of a customer with that e-mail address, in letters of any size."""
        values = {"like": having_email(email), "limit": limit, "now": now}
        return await self.engine.read(partial(invoices_of, statement=BY_EMAIL, values=values))

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
            intake = Intake(provider, seen[start : start + TOGETHER], adopt, decide, self.webhook_url)
            strangers, changes = await self.engine.read(intake.news)
            if strangers or changes:
                self.changed(await self.engine.write(partial(intake.take, alone=bool(strangers))))

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


async def prepare(url: str, *, migrating: bool = True) -> None:
    """Whether it can be used, once it is at head: StoreUnusable, StoreInUse, Overloaded say why not."""
    async with open_engine(url) as engine:
        if migrating:
            await Store(engine).migrate()


def bring_to_head(connection: Connection) -> None:
    if standing(connection) == "ahead":
        raise StoreUnusable("The schema of the store is newer than this version of the service knows.")
    upgrade(connection)
