"""Find out what came of a create whose answer is missing; send it again only where that cannot make a second one."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import zip_longest

import structlog

from app.domain.errors import OutcomeUnknown
from app.domain.invoice import Event, Invoice, Snapshot
from app.provider import Provider
from app.service.creation import GRACE, Creation
from app.service.flights import Flights
from app.storage.keys import IdempotencyKey

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """`settle` is how long a provider may take to show what it has accepted; before, absence proves nothing."""

    creation: Creation
    settle: timedelta
    flights: Flights = field(default_factory=Flights)

    async def resolve(self, id: str) -> Invoice:
        """The invoice once it is certain; OutcomeUnknown while it is not, ProviderError where nobody can be asked."""
        return await self.flights.join(id, lambda: self._resolve(id))

    async def finish(self, id: str, key: IdempotencyKey) -> Invoice:
        """What a create that was cut off, or whose answer is missing, has come to; kept under its key from then on."""
        invoice = await self.resolve(id)
        if invoice.mismatched:
            raise self.creation.records.mismatch(invoice)
        return await self.creation.records.store.change(id, unchanged, self.creation.keep(key))

    async def _resolve(self, id: str) -> Invoice:
        records, now = self.creation.records, self.creation.records.clock()
        invoice = await records.stored(id)
        if not invoice.in_doubt:
            return invoice
        provider = records.serving(invoice, "create")
        until = now + timedelta(seconds=2 * provider.timeout) + GRACE
        if await records.store.take_over(id, now, until) is None:
            raise self._unknown(invoice, timedelta())
        invoice = await self.creation.doubt(id)
        try:
            return await self._found(provider, invoice, now) or await self._again(provider, invoice, now)
        finally:
            await records.store.let_go(id, now)

    async def _found(self, provider: Provider, invoice: Invoice, now: datetime) -> Invoice | None:
        """The invoice with what the provider has of it; None where it has nothing."""
        order = self.creation.order(provider, invoice)
        seen = await self.creation.records.exchange.run(provider, "find", provider.find_invoice(order))
        mine = await self._mine(provider, invoice, seen, now)
        return await self.creation.created(provider, invoice.id, mine) if mine else None

    async def _mine(
        self, provider: Provider, invoice: Invoice, seen: Sequence[Snapshot], now: datetime
    ) -> Snapshot | None:
        """What bears our id; else what is nobody else's, shared out by age among the creates that look alike."""
        if own := next((one for one in seen if one.our_id == invoice.id), None):
            return own
        store = self.creation.records.store
        free = await store.unlinked(provider.name, seen)
        if not free:
            return None
        alike = [one for one in await store.doubtful(provider.name) if one.looks_like(invoice)]
        too_early = len(free) < len(alike) and now < self._settled_at(invoice)
        if too_early or len(free) > len(alike):
            raise self._unknown(invoice, self._settled_at(invoice) - now)
        oldest_first = sorted(free, key=lambda one: one.created_at or invoice.created_at)
        return {one.id: snapshot for one, snapshot in zip_longest(alike, oldest_first)}[invoice.id]

    async def _again(self, provider: Provider, invoice: Invoice, now: datetime) -> Invoice:
        """Nothing is there."""
        if provider.create_recovery == "by_search":
            raise self._unknown(invoice, timedelta())
        if provider.create_recovery == "by_reference" and now < self._settled_at(invoice):
            raise self._unknown(invoice, self._settled_at(invoice) - now)
        log.info("create.sent_again", invoice_id=invoice.id, provider=provider.name)
        again = await self.creation.records.store.change(invoice.id, lambda before: (replace(before, sent_at=now), []))
        return await self.creation.send(provider, again)

    def _settled_at(self, invoice: Invoice) -> datetime:
        return (invoice.sent_at or invoice.created_at) + self.settle

    def _unknown(self, invoice: Invoice, wait: timedelta) -> OutcomeUnknown:
        return OutcomeUnknown(
            "It is not known yet whether the provider created this invoice.",
            provider=invoice.provider,
            retry_after=max(int(wait.total_seconds()) + 1, 1),
            invoice_id=invoice.id,
        )


def unchanged(invoice: Invoice) -> tuple[Invoice, list[Event]]:
    return invoice, []
