"""Events on their way to merchants: claimed in order per invoice, tried until they are taken, and how receivers do.

Only the first of an invoice is due at some time; those in line behind it are not until it has ended. So what is due is
found among the firsts, however long the lines are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Row,
    Select,
    Text,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)

from app.domain.delivery import Attempt, Backlog, Delivery, State
from app.domain.invoice import Event
from app.storage.engine import Engine
from app.storage.rows import KEY, run
from app.storage.tables import Instant, deliveries, events, pending, receivers

# A receiver that has failed so often, and for so long, is paused: then it is only probed, so often.
FAILURES = 10
FAILING_FOR = timedelta(hours=1)
PROBED_EVERY = timedelta(minutes=5)
# When a receiver is back, what is due this soon comes by itself: it may be under way just now. So does what is beyond
# the number that one transaction can carry.
SOON = timedelta(minutes=1)
MOST_AT_ONCE = 5_000
# Only probes of a receiver that is away for long come to more attempts than are kept.
MOST_ATTEMPTS = 100

Health: TypeAlias = Literal["paused", "resumed"]
Claimed: TypeAlias = list[tuple[Delivery, Event]]

NOW, UNTIL = bindparam("now", type_=Instant), bindparam("until_at", type_=Instant)
EVER = datetime.max.replace(tzinfo=UTC)
RECEIVER = bindparam("whose", type_=Text)
PENDING: ColumnElement[str] = literal_column("'pending'")
earlier = deliveries.alias("earlier")

# Said so that PostgreSQL, too, looks at a few rows in an index and never joins whole tables.
first_in_line = (
    select(func.min(earlier.c.position))
    .where(earlier.c.invoice_id == deliveries.c.invoice_id, earlier.c.state == PENDING)
    .scalar_subquery()
)
first = (pending, deliveries.c.position == first_in_line)
PLAIN = ("id", "event_id", "invoice_id", "url", "receiver", "state", "attempts", "tries", "due_at", "created_at")
PARTS = (*(deliveries.c[name] for name in PLAIN), events.c.type, receivers.c.paused)
WHOLE = (
    select(*PARTS)
    .join(events, events.c.id == deliveries.c.event_id)
    .join(receivers, receivers.c.receiver == deliveries.c.receiver)
)

RECEIVERS_DUE = select(receivers.c.receiver).where(
    or_(~receivers.c.paused, receivers.c.due_at <= NOW),
    select(deliveries.c.position)
    .where(
        deliveries.c.receiver == receivers.c.receiver,
        deliveries.c.due_at <= case((receivers.c.paused, bindparam("ever", EVER, Instant)), else_=NOW),
        *first,
    )
    .order_by(deliveries.c.due_at)
    .limit(1)
    .scalar_subquery()
    .is_not(None),
)
due = (
    select(deliveries.c.position)
    .where(deliveries.c.receiver == RECEIVER, deliveries.c.due_at <= NOW, *first)
    .order_by(deliveries.c.due_at)
    .limit(bindparam("limit", type_=Integer))
    .with_for_update(skip_locked=True)
    .cte("due")
)
CLAIM = (
    update(deliveries)
    .where(deliveries.c.position.in_(select(due.c.position)))
    .values(due_at=UNTIL)
    .returning(deliveries.c.position)
)
RECEIVER_STATE = select(receivers.c.paused, receivers.c.due_at, receivers.c.failures, receivers.c.failing_since).where(
    receivers.c.receiver == RECEIVER
)
CLAIMED = (
    WHOLE.add_columns(events.c.at, events.c.data)
    .where(deliveries.c.position.in_(bindparam("positions", type_=BigInteger, expanding=True)))
    .order_by(deliveries.c.position)
)
PROBE = (
    update(receivers)
    .where(receivers.c.receiver == RECEIVER, receivers.c.paused, receivers.c.due_at <= NOW)
    .values(due_at=UNTIL)
)
CHANGE = update(deliveries).where(deliveries.c.id == KEY)
HELD = CHANGE.where(pending, deliveries.c.due_at == bindparam("lease", type_=Instant))
NEXT_IN_LINE = (
    update(deliveries)
    .where(
        deliveries.c.due_at.is_(None),
        deliveries.c.position
        == select(func.min(earlier.c.position))
        .where(earlier.c.invoice_id == bindparam("invoice", type_=Text), earlier.c.state == PENDING)
        .scalar_subquery(),
    )
    .values(due_at=NOW)
)
CHANGE_RECEIVER = update(receivers).where(receivers.c.receiver == RECEIVER)
PROBE_AT_ONCE = CHANGE_RECEIVER.where(receivers.c.paused)
put_off = (
    select(deliveries.c.position)
    .where(deliveries.c.receiver == RECEIVER, pending, deliveries.c.due_at > bindparam("soon", type_=Instant))
    .order_by(deliveries.c.due_at)
    .limit(MOST_AT_ONCE)
)
ALL_DUE = (
    update(deliveries)
    .where(deliveries.c.position.in_(put_off), deliveries.c.due_at > bindparam("soon", type_=Instant))
    .values(due_at=NOW)
)
ONE = WHOLE.where(deliveries.c.id == KEY)
NEWEST = WHOLE.order_by(deliveries.c.created_at.desc(), deliveries.c.id.desc()).limit(bindparam("limit", type_=Integer))
OF_INVOICE = WHOLE.where(deliveries.c.invoice_id == KEY).order_by(deliveries.c.position).limit(500)
BACKLOG = select(func.count(), func.min(deliveries.c.created_at)).where(pending)
PAUSED = (
    select(receivers.c.receiver, receivers.c.failing_since).where(receivers.c.paused).order_by(receivers.c.receiver)
)
STATES: Mapping[str, tuple[ColumnElement[bool], ...]] = {
    "pending": (pending, ~receivers.c.paused),
    "paused": (pending, receivers.c.paused),
    "delivered": (deliveries.c.state == "delivered",),
    "failed": (deliveries.c.state == "failed",),
}


@dataclass(frozen=True, slots=True)
class Outbox:
    engine: Engine

    async def receivers_due(self, now: datetime) -> list[str]:
        """Those that something is to be tried at now."""

        def work(connection: Connection) -> list[str]:
            return list(connection.execute(RECEIVERS_DUE, {"now": now}).scalars())

        return await self.engine.read(work)

    async def claim(self, receiver: str, now: datetime, until: datetime, limit: int) -> Claimed:
        """Due deliveries, the first of each invoice, nobody else's until then.

        Of a paused receiver it is one, now and then, which need not be due: it probes whether the receiver is back.
        """
        values = {"whose": receiver, "now": now, "until_at": until, "limit": limit}

        def work(connection: Connection) -> Claimed:
            paused = connection.execute(RECEIVER_STATE, values).one().paused
            if paused and not connection.execute(PROBE, {**values, "until_at": now + PROBED_EVERY}).rowcount:
                return []
            reach = {"now": EVER, "limit": 1} if paused else {}
            positions = list(connection.execute(CLAIM, {**values, **reach}).scalars())
            return [claimed(row) for row in connection.execute(CLAIMED, {"positions": positions})] if positions else []

        return await self.engine.write(work)

    async def record(
        self, delivery: Delivery, attempt: Attempt, state: State, due_at: datetime | None
    ) -> Health | None:
        """What came of an attempt, and whether its receiver has changed with it; of a lapsed claim it is only noted.

        While a receiver is paused an attempt is a probe, and counts for nothing.
        """
        values = {
            "key": delivery.id,
            "lease": delivery.due_at,
            "attempts": (*delivery.attempts, attempt)[-MOST_ATTEMPTS:],
            "state": state,
            "tries": delivery.tries + (not delivery.paused),
            "due_at": due_at,
        }

        def work(connection: Connection) -> Health | None:
            invoice = connection.execute(HELD.returning(deliveries.c.invoice_id), values).scalar_one_or_none()
            if invoice is None:
                connection.execute(CHANGE, {"key": delivery.id, "attempts": values["attempts"]})
                return None
            if state != "pending":
                connection.execute(NEXT_IN_LINE, {"invoice": invoice, "now": attempt.at})
            whose = {"whose": delivery.receiver, "now": attempt.at, "soon": attempt.at + SOON}
            return judge(connection, whose, taken=state == "delivered", at=attempt.at)

        return await self.engine.write(work)

    async def give_back(self, delivery: Delivery, now: datetime) -> None:
        """A claim that is not followed up is due again at once."""
        values = {"key": delivery.id, "lease": delivery.due_at, "due_at": now}
        await self.engine.write(partial(run, statement=HELD, values=values))

    async def page(
        self,
        limit: int,
        *,
        state: str | None = None,
        invoice_id: str | None = None,
        after: tuple[datetime, str] | None = None,
    ) -> list[Delivery]:
        """The newest by (created_at, id)."""
        page: Select[Any] = NEWEST.where(*STATES[state]) if state else NEWEST
        values: dict[str, Any] = {"limit": limit}
        if invoice_id is not None:
            page, values["key"] = page.where(deliveries.c.invoice_id == KEY), invoice_id
        if after is not None:
            here = tuple_(bindparam("after_at", type_=Instant), bindparam("after_id", type_=Text))
            page = page.where(tuple_(deliveries.c.created_at, deliveries.c.id) < here)
            values["after_at"], values["after_id"] = after
        return await self._found(page, values)

    async def of_invoice(self, id: str) -> list[Delivery]:
        """Oldest first."""
        return await self._found(OF_INVOICE, {"key": id})

    async def redeliver(self, id: str, now: datetime) -> Delivery | None:
        """Due at once and tried from the beginning, at a paused receiver too; None where there is none."""

        def work(connection: Connection) -> Delivery | None:
            again = {"key": id, "state": "pending", "tries": 0, "due_at": now}
            if connection.execute(CHANGE, again).rowcount == 0:
                return None
            delivery = delivery_of(connection.execute(ONE, {"key": id}).one())
            connection.execute(PROBE_AT_ONCE, {"whose": delivery.receiver, "due_at": now})
            return delivery

        return await self.engine.write(work)

    async def backlog(self) -> Backlog:
        return await self.engine.read(lambda connection: Backlog(*connection.execute(BACKLOG).one()))

    async def paused(self) -> list[tuple[str, datetime]]:
        """The receivers that are only probed, and since when each has failed."""

        def work(connection: Connection) -> list[tuple[str, datetime]]:
            return [(receiver, since) for receiver, since in connection.execute(PAUSED)]

        return await self.engine.read(work)

    async def _found(self, statement: Select[Any], values: Mapping[str, Any]) -> list[Delivery]:
        def work(connection: Connection) -> list[Delivery]:
            return [delivery_of(row) for row in connection.execute(statement, values)]

        return await self.engine.read(work)


def judge(connection: Connection, whose: Mapping[str, Any], *, taken: bool, at: datetime) -> Health | None:
    """What an attempt says of its receiver; None: nothing new."""
    now = connection.execute(RECEIVER_STATE.with_for_update(key_share=True), whose).one()
    if taken:
        if now.failures or now.paused:
            well = {"failures": 0, "failing_since": None, "paused": False, "due_at": None}
            connection.execute(CHANGE_RECEIVER, {**whose, **well})
        if now.paused:
            connection.execute(ALL_DUE, whose)
        return "resumed" if now.paused else None
    since = now.failing_since or at
    pausing = not now.paused and now.failures + 1 >= FAILURES and at - since >= FAILING_FOR
    ill = {"failures": now.failures + 1, "failing_since": since}
    if pausing:
        ill |= {"paused": True, "due_at": at + PROBED_EVERY}
    connection.execute(CHANGE_RECEIVER, {**whose, **ill})
    return "paused" if pausing else None


def claimed(row: Row[Any]) -> tuple[Delivery, Event]:
    delivery = delivery_of(row)
    event = Event(id=delivery.event_id, type=delivery.type, invoice_id=delivery.invoice_id, at=row.at, data=row.data)
    return delivery, event


def delivery_of(row: Row[Any]) -> Delivery:
    values = {name: getattr(row, name) for name in (*PLAIN, "type")}
    return Delivery(**values, paused=row.paused and row.state == "pending")
