"""What operators see and do: the steps of an invoice's life, and the providers that they have paused."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from sqlalchemy import Connection, Text, bindparam, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from app.domain.trace import Pause, Step
from app.storage.engine import Engine
from app.storage.rows import KEY, run
from app.storage.tables import pauses, steps

# So many steps of one invoice are kept, the newest.
MOST_STEPS = 500
PRUNED_AT_ONCE = 100

ADD = insert(steps).inline()
OF_INVOICE = (
    select(steps.c.invoice_id, steps.c.at, steps.c.kind, steps.c.facts)
    .where(steps.c.invoice_id == KEY)
    .order_by(steps.c.position.desc())
    .limit(MOST_STEPS)
)
turns = (
    select(
        steps.c.position,
        func.row_number().over(partition_by=steps.c.invoice_id, order_by=steps.c.position.desc()).label("turn"),
    )
    .where(steps.c.invoice_id.in_(bindparam("ids", type_=Text, expanding=True)))
    .subquery("turns")
)
PRUNE = delete(steps).where(steps.c.position.in_(select(turns.c.position).where(turns.c.turn > MOST_STEPS)))

PAUSES = select(pauses.c.provider, pauses.c.since, pauses.c.by, pauses.c.reason)
put = insert(pauses)
PAUSE = put.on_conflict_do_update(
    index_elements=["provider"], set_={name: put.excluded[name] for name in ("since", "by", "reason")}
)
RESUME = delete(pauses).where(pauses.c.provider == KEY)


@dataclass(frozen=True, slots=True)
class Journal:
    engine: Engine

    async def add(self, new: Sequence[Step]) -> None:
        rows = [{"invoice_id": one.invoice_id, "at": one.at, "kind": one.kind, "facts": one.facts} for one in new]

        def work(connection: Connection) -> None:
            connection.execute(ADD, rows)

        await self.engine.write(work)

    async def prune(self, ids: Collection[str]) -> None:
        """Forget the oldest steps of those that have too many.

        So many of them at once, no fewer: a statement for each number would be kept prepared, and they are large.
        """
        every = list(ids)
        for start in range(0, len(every), PRUNED_AT_ONCE):
            some = every[start : start + PRUNED_AT_ONCE]
            some += some[-1:] * (PRUNED_AT_ONCE - len(some))
            await self.engine.write(partial(run, statement=PRUNE, values={"ids": some}))

    async def of_invoice(self, id: str) -> list[Step]:
        """Oldest first."""

        def work(connection: Connection) -> list[Step]:
            found = connection.execute(OF_INVOICE, {"key": id})
            return [Step(invoice_id=id, at=row.at, kind=row.kind, facts=row.facts) for row in found][::-1]

        return await self.engine.read(work)

    async def pauses(self) -> list[Pause]:
        def work(connection: Connection) -> list[Pause]:
            found = connection.execute(PAUSES)
            return [Pause(provider=row.provider, since=row.since, by=row.by, reason=row.reason) for row in found]

        return await self.engine.read(work)

    async def pause(self, pause: Pause) -> None:
        await self.engine.write(partial(run, statement=PAUSE, values=asdict(pause)))

    async def resume(self, provider: str) -> None:
        await self.engine.write(partial(run, statement=RESUME, values={"key": provider}))
