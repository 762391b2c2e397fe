"""What providers tell us, kept until it is settled; each thing once."""

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from sqlalchemy import BigInteger, Connection, Integer, bindparam, case, func, null, select, update
from sqlalchemy.dialects.postgresql import insert

from app.domain.delivery import Backlog
from app.domain.notification import ReceivedNotification
from app.storage.engine import Engine
from app.storage.rows import run
from app.storage.tables import Instant, inbox

FIELDS = ("provider", "digest", "received_at", "body", "signed", "invoice_id", "reference", "position", "tries")
WHOLE = tuple(inbox.c[name] for name in FIELDS)
NOW, UNTIL = bindparam("now", type_=Instant), bindparam("until_at", type_=Instant)
TOLD, AT = bindparam("told_at", type_=Instant), bindparam("at", type_=BigInteger)

ADD = insert(inbox).on_conflict_do_nothing().returning(inbox.c.position)
due = (
    select(inbox.c.position)
    .where(inbox.c.due_at <= NOW)
    .order_by(inbox.c.due_at, inbox.c.position)
    .limit(bindparam("limit", type_=Integer))
    .with_for_update(skip_locked=True)
    .cte("due")
)
CLAIM = update(inbox).where(inbox.c.position.in_(select(due.c.position))).values(due_at=UNTIL).returning(*WHOLE)
OPEN = update(inbox).where(inbox.c.position == AT, inbox.c.due_at.is_not(None))
CLOSE = OPEN.values(due_at=None)
CLOSE_UNLESS_TOLD_AGAIN = OPEN.values(due_at=case((inbox.c.received_at == TOLD, null()), else_=UNTIL))
POSTPONE = OPEN.values(due_at=UNTIL)
SAME = update(inbox).where(inbox.c.provider == bindparam("whose"), inbox.c.digest == bindparam("which"))
TELL_AGAIN = SAME.values(received_at=TOLD)
REOPEN = SAME.where(inbox.c.due_at.is_(None)).values(due_at=UNTIL, tries=0).returning(inbox.c.position)
BACKLOG = select(func.count(), func.min(inbox.c.received_at)).where(inbox.c.due_at.is_not(None))
OF_INVOICE = select(*WHOLE).where(inbox.c.invoice_id == bindparam("invoice")).order_by(inbox.c.position).limit(500)


@dataclass(frozen=True, slots=True)
class Inbox:
    engine: Engine

    async def receive(
        self, notice: ReceivedNotification, until: datetime, *, again: bool = False
    ) -> ReceivedNotification | None:
        """Keep it, this caller's alone to see to until then; None where it is kept already.

        `again`: the same words may tell of another change, so that one that was settled is opened again, and one that
        is being looked into is not settled by a look that began before.
        """
        values = {name: getattr(notice, name) for name in FIELDS if name != "position"}

        def work(connection: Connection) -> ReceivedNotification | None:
            position = connection.execute(ADD, {**values, "due_at": until}).scalar_one_or_none()
            if position is None and again:
                same = {"whose": notice.provider, "which": notice.digest}
                # From here on it is ours until the commit: nobody settles it in between.
                connection.execute(TELL_AGAIN, {**same, "told_at": notice.received_at})
                position = connection.execute(REOPEN, {**same, "until_at": until}).scalar_one_or_none()
            return None if position is None else replace(notice, position=position)

        return await self.engine.write(work)

    async def claim(self, now: datetime, until: datetime, limit: int) -> list[ReceivedNotification]:
        """Those to be seen to now, claimed so that nobody else does until then."""
        values = {"now": now, "until_at": until, "limit": limit}

        def work(connection: Connection) -> list[ReceivedNotification]:
            return [ReceivedNotification(**row._mapping) for row in connection.execute(CLAIM, values)]  # noqa: SLF001  # its public name

        return await self.engine.write(work)

    async def close(self, notice: ReceivedNotification, invoice_id: str | None, until: datetime) -> None:
        """It is settled, and was about that invoice; if it was told again meanwhile, it is due again then."""
        whose = {"invoice_id": invoice_id} if invoice_id else {}
        values = {"at": notice.position, "told_at": notice.received_at, "until_at": until, **whose}
        await self.engine.write(partial(run, statement=CLOSE_UNLESS_TOLD_AGAIN, values=values))

    async def postpone(self, position: int, until: datetime, *, tries: int) -> None:
        values = {"at": position, "until_at": until, "tries": tries}
        await self.engine.write(partial(run, statement=POSTPONE, values=values))

    async def of_invoice(self, id: str) -> list[ReceivedNotification]:
        """Oldest first."""

        def work(connection: Connection) -> list[ReceivedNotification]:
            return [ReceivedNotification(**row._mapping) for row in connection.execute(OF_INVOICE, {"invoice": id})]  # noqa: SLF001

        return await self.engine.read(work)

    async def backlog(self) -> Backlog:
        return await self.engine.read(lambda connection: Backlog(*connection.execute(BACKLOG).one()))
