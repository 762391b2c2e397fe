"""Which of what a provider has came of a create whose answer is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest

from app.domain.invoice import Invoice, Snapshot
from app.provider import Order, Provider
from app.service.records import Records


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """`settle` is how long a provider may take to show what it has accepted; before, absence proves nothing."""

    records: Records
    settle: timedelta

    async def find(self, provider: Provider, invoice: Invoice, order: Order) -> Snapshot | None:
        """None: it has nothing that is ours. OutcomeUnknown: it has something, and it can't be told whose."""
        seen = await self.records.exchange.run(provider, "find", provider.find_invoice(order), invoice.id)
        return await self._mine(provider, invoice, seen)

    def settled_at(self, invoice: Invoice) -> datetime:
        return (invoice.sent_at or invoice.created_at) + self.settle

    async def _mine(self, provider: Provider, invoice: Invoice, seen: Sequence[Snapshot]) -> Snapshot | None:
        """What bears our id; else what is nobody else's, shared out by age among the creates that look alike."""
        if own := next((one for one in seen if one.our_id == invoice.id), None):
            return own
        free = await self.records.store.unlinked(provider.name, seen)
        if not free:
            return None
        alike = [one for one in await self.records.store.doubtful(invoice) if one.looks_like(invoice)]
        settled = max((self.settled_at(one) for one in alike), default=self.settled_at(invoice))
        wait = settled - self.records.clock()
        if len(free) > len(alike) or (len(free) < len(alike) and wait > timedelta()):
            raise self.records.unknown(invoice, wait)
        oldest_first = sorted(free, key=lambda one: one.created_at or invoice.created_at)
        return {one.id: snapshot for one, snapshot in zip_longest(alike, oldest_first)}.get(invoice.id)
