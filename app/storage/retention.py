"""What is kept for a while only: how an invoice was dealt with, once that is over; what happened to it stays."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import Column, ColumnElement, Connection, Delete, Table, bindparam, delete, select

from app.storage.engine import Engine
from app.storage.tables import Instant, deliveries, inbox, steps

FORGOTTEN_AT_ONCE = 500
BEFORE = bindparam("before", type_=Instant)


def forgetting(table: Table, at: Column[datetime], *over: ColumnElement[bool]) -> Delete:
    """The oldest first, and none that somebody changes just now: it may not be over any more."""
    old = (
        select(table.c.position)
        .where(at < BEFORE, *over)
        .order_by(at)
        .limit(FORGOTTEN_AT_ONCE)
        .with_for_update(skip_locked=True)
        .cte("old", nesting=True)
    )
    return delete(table).where(table.c.position.in_(select(old.c.position)))


FORGET: Sequence[Delete] = (
    forgetting(steps, steps.c.at),
    forgetting(inbox, inbox.c.received_at, inbox.c.due_at.is_(None)),
    forgetting(deliveries, deliveries.c.created_at, deliveries.c.state == "delivered"),
    forgetting(deliveries, deliveries.c.created_at, deliveries.c.state == "failed"),
)


@dataclass(frozen=True, slots=True)
class Purge:
    engine: Engine

    async def forget(self, before: datetime) -> list[int]:
        """How many steps, settled notifications, and deliveries that were taken or given up; some hundred of each."""
        return [await self.engine.write(partial(forgotten, statement=each, before=before)) for each in FORGET]


def forgotten(connection: Connection, statement: Delete, before: datetime) -> int:
    return connection.execute(statement, {"before": before}).rowcount
