"""Events in the order of their commits: a number is given to each only once it is there for everybody to see.

Who goes by number skips none, not even one whose transaction began early and was committed late.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, Integer, Text, bindparam, func, select, text, update

from app.domain.invoice import Event
from app.storage.engine import Engine
from app.storage.rows import KEY
from app.storage.tables import events

# How many get their number in one transaction.
TOGETHER = 2000
ALONE = text("SELECT pg_advisory_xact_lock(104851123)")

UNNUMBERED = select(events.c.position).where(events.c.number.is_(None)).limit(1)
fresh = (
    select(events.c.position, func.row_number().over(order_by=events.c.position).label("turn"))
    .where(events.c.number.is_(None))
    .order_by(events.c.position)
    .limit(TOGETHER)
    .subquery("fresh")
)
NUMBER = update(events).where(events.c.position == fresh.c.position).values(number=bindparam("last") + fresh.c.turn)
LAST = select(func.coalesce(func.max(events.c.number), 0))

PARTS = (events.c.number, events.c.id, events.c.type, events.c.invoice_id, events.c.at, events.c.data)
NEXT = (
    select(*PARTS)
    .where(events.c.number > bindparam("after", type_=BigInteger))
    .order_by(events.c.number)
    .limit(bindparam("limit", type_=Integer))
)
OF_INVOICE = select(*PARTS).where(events.c.invoice_id == KEY).order_by(events.c.position)
ONE = select(*PARTS).where(events.c.id == KEY)
BY = {"type": events.c.type, "invoice_id": events.c.invoice_id}


@dataclass(frozen=True, slots=True)
class EventLog:
    engine: Engine

    async def number(self) -> None:
        """Give numbers to those that were committed since the last time."""
        while await self.engine.read(lambda connection: connection.execute(UNNUMBERED).first()):
            await self.engine.write(number)

    async def newest(self) -> int:
        """The last number that was given; 0 where none was."""
        found: int = await self.engine.read(lambda connection: connection.execute(LAST).scalar_one())
        return found

    async def after(
        self, number: int, limit: int, *, type: str | None = None, invoice_id: str | None = None
    ) -> list[tuple[int, Event]]:
        """The next by number, each with its own."""
        wanted = {name: value for name, value in (("type", type), ("invoice_id", invoice_id)) if value is not None}
        statement = NEXT.where(*(BY[name] == bindparam(name, type_=Text) for name in wanted))
        values: dict[str, Any] = {"after": number, "limit": limit, **wanted}

        def work(connection: Connection) -> list[tuple[int, Event]]:
            return [(row.number, event_of(row)) for row in connection.execute(statement, values)]

        return await self.engine.read(work)

    async def of_invoice(self, id: str) -> list[Event]:
        """Oldest first, numbered or not yet."""

        def work(connection: Connection) -> list[Event]:
            return [event_of(row) for row in connection.execute(OF_INVOICE, {"key": id})]

        return await self.engine.read(work)

    async def one(self, id: str) -> Event | None:
        def work(connection: Connection) -> Event | None:
            row = connection.execute(ONE, {"key": id}).one_or_none()
            return None if row is None else event_of(row)

        return await self.engine.read(work)


def number(connection: Connection) -> None:
    """One at a time: whoever comes second sees what the first has done."""
    if connection.dialect.name == "postgresql":
        connection.execute(ALONE)
    connection.execute(NUMBER, {"last": connection.execute(LAST).scalar_one()})


def event_of(row: Any) -> Event:
    return Event(id=row.id, type=row.type, invoice_id=row.invoice_id, at=row.at, data=row.data)
