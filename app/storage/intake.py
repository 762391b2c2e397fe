"""What a provider lists is taken in: decided on where we know it, adopted where we don't."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from sqlalchemy import (
    Connection,
    Select,
    Text,
    bindparam,
    func,
    or_,
    select,
    text,
)

from app.domain.invoice import Invoice, Snapshot
from app.storage.rows import (
    ADD,
    PROVIDER,
    REFERENCES,
    WHOLE,
    Decided,
    ReferenceTaken,
    columns,
    invoices_of,
    sifting,
    write,
)
from app.storage.tables import in_doubt, invoices

News: TypeAlias = tuple[list[Snapshot], list[tuple[Invoice, Decided]]]

# How many snapshots one transaction takes in, and how far a provider's clock may be off.
TOGETHER = 200
SKEW = timedelta(seconds=60)
ADOPT = ADD.on_conflict_do_nothing()

KNOWN = select(*WHOLE).where(
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


@dataclass(frozen=True, slots=True)
class Intake:
    """What a provider lists, and what becomes of it."""

    provider: str
    seen: Sequence[Snapshot]
    adopt: Callable[[Snapshot], Invoice]
    decide: Callable[[Invoice, Snapshot], Decided]
    webhook_url: str | None

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

    def take(self, connection: Connection, *, alone: bool) -> list[str]:
        """The ids of those that something happened to.

        `alone`: nobody else writes meanwhile, so that nothing is adopted that is being recorded just now.
        """
        if alone and connection.dialect.name == "postgresql":
            connection.execute(ALONE)
        strangers, changes = self.news(connection, KNOWN_TO_CHANGE)
        changed: list[str] = []
        for before, decided in changes:
            with suppress(ReferenceTaken), connection.begin_nested():
                write(connection, before, decided, self.webhook_url)
                changed += [before.id] if decided[1] else []
        if alone and strangers:
            connection.execute(ADOPT, [columns(self.adopt(snapshot)) for snapshot in strangers])
        return changed

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
            own = by_id.get(one.our_id or "")
            if own and (own.reference in (None, one.reference) or one.linked_reference):
                return own
            return by_reference.get(one.reference) or (
                by_reference.get(one.linked_reference) if one.linked_reference else None
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
