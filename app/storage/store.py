"""Every query we make; a method of the store is one whole transaction."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache, partial
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Integer,
    Row,
    Select,
    Text,
    bindparam,
    delete,
    func,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from app.domain.errors import NotFound, Overloaded
from app.domain.invoice import Event, Invoice, Snapshot, Status
from app.domain.money import Money
from app.storage.engine import Engine, StoreUnusable, open_engine
from app.storage.migrations import standing, upgrade
from app.storage.tables import Instant, events, in_doubt, invoices

Decided: TypeAlias = tuple[Invoice, Sequence[Event]]
News: TypeAlias = tuple[list[Snapshot], list[tuple[Invoice, Decided]]]

# How many snapshots one transaction takes in, and how far a provider's clock may be off.
TOGETHER = 200
SKEW = timedelta(seconds=60)

# Money is one field in two columns; every other field is the column of its name.
CURRENCIES = {"amount": "currency", "amount_paid": "paid_currency"}
FIELDS = tuple(field.name for field in fields(Invoice))
COLUMNS = tuple(column.name for column in invoices.columns)


class ReferenceTaken(Exception):
    """The provider's id is another invoice's already."""

    def __init__(self, invoice: Invoice) -> None:
        super().__init__(f"{invoice.provider} has another invoice under an id of {invoice.id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to list; None is no matter. Times are compared in whole milliseconds, and neither end is included.

    `provider_invoice_id` may be either of the provider's ids; `after` is the (created_at, id) of the last one seen.
    """

    limit: int
    provider: str | None = None
    status: Status | None = None
    order_id: str | None = None
    provider_invoice_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    after: tuple[datetime, str] | None = None


def sifting(column: ColumnElement[str]) -> ColumnElement[str]:
    """The column, of which no index is thought: SQLite, which keeps no statistics, takes any for a good one."""
    return column.concat(literal_column("''"))


KEY = bindparam("key", type_=Text)
PROVIDER = bindparam("provider", type_=Text)
FIRST, SECOND = bindparam("first", type_=Text), bindparam("second", type_=Text)
REFERENCES = bindparam("references", type_=Text, expanding=True)
rivals = invoices.alias("rivals")

ONE = select(invoices).where(invoices.c.id == KEY)
ONE_TO_CHANGE = ONE.with_for_update()
ADD = insert(invoices).inline()
ADOPT = ADD.on_conflict_do_nothing()
CHANGE = update(invoices).where(invoices.c.id == KEY)
REMOVE = delete(invoices).where(invoices.c.id == KEY)
WITHDRAW = REMOVE.where(invoices.c.reference.is_(None))
RIVALS = select(rivals.c.id, rivals.c.adopted).where(
    sifting(rivals.c.provider) == bindparam("whose", type_=Text),
    rivals.c.id != KEY,
    or_(*(column.in_((FIRST, SECOND)) for column in (rivals.c.reference, rivals.c.linked_reference))),
)
CHANGE_IF_FREE = CHANGE.where(~RIVALS.exists())
KNOWN = select(invoices).where(
    sifting(invoices.c.provider) == PROVIDER,
    or_(
        invoices.c.id.in_(bindparam("ids", type_=Text, expanding=True)),
        invoices.c.reference.in_(REFERENCES),
        invoices.c.linked_reference.in_(REFERENCES),
    ),
)
KNOWN_TO_CHANGE = KNOWN.order_by(invoices.c.id).with_for_update()
OLDEST_IN_DOUBT = select(func.min(invoices.c.created_at)).where(invoices.c.provider == PROVIDER, in_doubt)
ALONE = text("LOCK TABLE invoices IN EXCLUSIVE MODE")

EVENTS = (
    select(events.c.id, events.c.type, events.c.at, events.c.data)
    .where(events.c.invoice_id == KEY)
    .order_by(events.c.position)
)
ADD_EVENTS = insert(events).inline()
HAND_OVER_EVENTS = update(events).where(events.c.invoice_id == bindparam("rival")).values(invoice_id=KEY)

NEWEST = (
    select(invoices)
    .where(or_(invoices.c.asked_until.is_(None), invoices.c.asked_until <= bindparam("now")))
    .order_by(invoices.c.created_at.desc(), invoices.c.id.desc())
    .limit(bindparam("limit", type_=Integer))
)
EQUAL: Mapping[str, Sequence[ColumnElement[str]]] = {
    "provider_invoice_id": (invoices.c.reference, invoices.c.linked_reference),
    "order_id": (invoices.c.order_id,),
    "status": (invoices.c.status,),
    "provider": (invoices.c.provider,),
}
TELLING = ("provider_invoice_id", "order_id")
BETWEEN: Mapping[str, ColumnElement[bool]] = {
    "created_after": invoices.c.created_at > bindparam("created_after"),
    "created_before": invoices.c.created_at < bindparam("created_before"),
    "after": tuple_(invoices.c.created_at, invoices.c.id)
    < tuple_(bindparam("after_at", type_=Instant), bindparam("after_id", type_=Text)),
}


@dataclass(frozen=True, slots=True)
class Store:
    engine: Engine

    async def reserve(self, invoice: Invoice) -> None:
        await self.engine.write(partial(run, statement=ADD, values=columns(invoice)))

    async def withdraw(self, id: str) -> None:
        """Forget a reservation of which it is known that nothing came: one without a reference."""
        await self.engine.write(partial(run, statement=WITHDRAW, values={"key": id}))

    async def change(self, id: str, decide: Callable[[Invoice], Decided]) -> Invoice:
        """Write what `decide` makes of the invoice, which nobody else changes meanwhile. NotFound, ReferenceTaken."""

        def work(connection: Connection) -> Invoice:
            for invoice in invoices_of(connection, ONE_TO_CHANGE, {"key": id}):
                return write(connection, invoice, decide(invoice))
            raise NotFound("There is no such invoice.")

        return await self.engine.write(work)

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


@dataclass(frozen=True, slots=True)
class Intake:
    """What a provider lists, and what becomes of it."""

    provider: str
    seen: Sequence[Snapshot]
    adopt: Callable[[Snapshot], Invoice]
    decide: Callable[[Invoice, Snapshot], Decided]

    def news(self, connection: Connection, known: Select[Any] | None = None) -> News:
        """Those to adopt, and what becomes of those we know, each with all that is said of it."""
        find = self._known(connection, KNOWN if known is None else known)
        strangers: dict[str, Snapshot] = {}
        changes: dict[str, tuple[Invoice, Decided]] = {}
        for snapshot in self.seen:
            invoice = find(snapshot)
            if invoice is None:
                strangers.setdefault(snapshot.reference, snapshot)
                continue
            before, (now, told) = changes.get(invoice.id, (invoice, (invoice, ())))
            later, facts = self.decide(now, snapshot)
            if facts or later != now:
                changes[invoice.id] = before, (later, [*told, *facts])
        return self._certain(connection, list(strangers.values())), list(changes.values())

    def take(self, connection: Connection, *, alone: bool) -> None:
        """`alone`: nobody else writes meanwhile, so that nothing is adopted that is being recorded just now."""
        if alone and connection.dialect.name == "postgresql":
            connection.execute(ALONE)
        strangers, changes = self.news(connection, KNOWN_TO_CHANGE)
        for before, decided in changes:
            with suppress(ReferenceTaken), connection.begin_nested():
                write(connection, before, decided)
        if alone and strangers:
            connection.execute(ADOPT, [columns(self.adopt(snapshot)) for snapshot in strangers])

    def _known(self, connection: Connection, known: Select[Any]) -> Callable[[Snapshot], Invoice | None]:
        ids = {one.our_id for one in self.seen} - {None}
        references = {reference for one in self.seen for reference in (one.reference, one.linked_reference)} - {None}
        values = {"provider": self.provider, "ids": list(ids), "references": list(references)}
        found = invoices_of(connection, known, values)
        by_id = {invoice.id: invoice for invoice in found}
        by_reference = {
            reference: invoice for invoice in found for reference in (invoice.linked_reference, invoice.reference)
        }

        def find(one: Snapshot) -> Invoice | None:
            return (
                by_id.get(one.our_id or "")
                or by_reference.get(one.reference)
                or (by_reference.get(one.linked_reference) if one.linked_reference else None)
            )

        return find

    def _certain(self, connection: Connection, strangers: list[Snapshot]) -> list[Snapshot]:
        """Without what may have come of a create that is in doubt."""
        if not strangers:
            return []
        oldest: datetime | None = connection.execute(OLDEST_IN_DOUBT, {"provider": self.provider}).scalar_one()
        if oldest is None:
            return strangers
        return [one for one in strangers if one.created_at is not None and one.created_at < oldest - SKEW]


@cache
def page_of(filters: frozenset[str]) -> Select[Any]:
    """What tells most finds, by its index, and the others sift; where nothing tells much, all find."""
    telling = next((name for name in TELLING if name in filters), None)
    page = NEWEST.where(*(BETWEEN[name] for name in BETWEEN if name in filters))
    for name in EQUAL:
        if name in filters:
            by = EQUAL[name] if telling in (name, None) else [sifting(column) for column in EQUAL[name]]
            page = page.where(or_(*(column == bindparam(name, type_=column.type) for column in by)))
    return page


def run(connection: Connection, statement: Executable, values: Mapping[str, Any]) -> None:
    connection.execute(statement, values)


def invoices_of(connection: Connection, statement: Executable, values: Mapping[str, Any]) -> list[Invoice]:
    return [invoice_of(row) for row in connection.execute(statement, values)]


def events_of(connection: Connection, invoice_id: str) -> list[Event]:
    found = connection.execute(EVENTS, {"key": invoice_id})
    return [Event(id=id, type=type, invoice_id=invoice_id, at=at, data=data) for id, type, at, data in found]


def write(connection: Connection, before: Invoice, decided: Decided) -> Invoice:
    """Only what has changed, and the events of it."""
    invoice, facts = decided
    values = columns(invoice, [name for name in FIELDS if getattr(invoice, name) != getattr(before, name)])
    if "reference" in values or "linked_reference" in values:
        take_reference(connection, invoice, values)
    elif values:
        connection.execute(CHANGE, {"key": invoice.id, **values})
    if facts:
        connection.execute(ADD_EVENTS, [event_columns(event) for event in facts])
    return invoice


def take_reference(connection: Connection, invoice: Invoice, values: Mapping[str, Any]) -> None:
    """Change what now has the provider's id, even if that was adopted before. ReferenceTaken, if it was not adopted."""
    key = {"key": invoice.id}
    owner = {**key, "whose": invoice.provider, "first": invoice.reference, "second": invoice.linked_reference}
    try:
        if connection.execute(CHANGE_IF_FREE, {**owner, **values}).rowcount == 0:
            absorb(connection, invoice, connection.execute(RIVALS, owner).all())
            connection.execute(CHANGE, {**key, **values})
    except IntegrityError as error:
        raise ReferenceTaken(invoice) from error


def absorb(connection: Connection, invoice: Invoice, rivals: Sequence[Row[str, bool]]) -> None:
    if not all(adopted for _, adopted in rivals):
        raise ReferenceTaken(invoice)
    for rival, _ in rivals:
        connection.execute(HAND_OVER_EVENTS, {"rival": rival, "key": invoice.id})
        connection.execute(REMOVE, {"key": rival})


def columns(invoice: Invoice, names: Iterable[str] = FIELDS) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in names:
        value = getattr(invoice, name)
        if name in CURRENCIES:
            values[name], values[CURRENCIES[name]] = (value.text, value.currency) if value else (None, None)
        else:
            values[name] = value
    return values


def invoice_of(row: Iterable[Any]) -> Invoice:
    values = dict(zip(COLUMNS, row, strict=True))
    for name, column in CURRENCIES.items():
        currency = values.pop(column)
        values[name] = Money(Decimal(values[name]), currency) if currency else None
    return Invoice(**values)


def event_columns(event: Event) -> dict[str, Any]:
    return {"id": event.id, "type": event.type, "invoice_id": event.invoice_id, "at": event.at, "data": event.data}
