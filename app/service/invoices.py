"""Create, read and cancel invoices: what callers ask for, in the order that keeps money safe."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from app.domain.errors import OutcomeUnknown, ProviderError
from app.domain.invoice import Invoice
from app.provider import Provider
from app.service.creation import Creation, Draft
from app.service.flights import Flights
from app.service.records import Records
from app.service.recovery import Recovery
from app.service.steps import Steps
from app.service.views import invoice_view
from app.storage.idempotency import IdempotencyKey, Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An invoice, and whether its provider could not be asked just now."""

    invoice: Invoice
    stale: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoices:
    records: Records
    creation: Creation
    recovery: Recovery
    steps: Steps
    max_age: timedelta
    flights: Flights = field(default_factory=Flights)

    async def create(self, draft: Draft, key: IdempotencyKey | None, kept: Kept | None) -> bytes:
        """The answer to a create; with what is kept of an earlier try, that is brought to its end instead."""
        if key and kept:
            invoice = await self.recovery.finish(kept.invoice_id, key)
        else:
            invoice = await self.creation.create(draft, key)
        return msgspec.json.encode(invoice_view(invoice))

    async def get(self, id: str, *, refresh: bool | None = None) -> Reading:
        """The current state: asked from the provider when it may have changed, or insisted on, or left alone."""
        invoice = await self.records.stored(id)
        if refresh is False or self._under_way(invoice):
            return Reading(invoice=invoice)
        provider = self.records.providers.get(invoice.provider)
        if provider is None or not provider.can("get"):
            return Reading(invoice=invoice, stale=True)
        if refresh is None and not self._may_have_changed(provider, invoice):
            return Reading(invoice=invoice)
        try:
            return Reading(invoice=await self.flights.join(id, lambda: self._now(provider, invoice)))
        except ProviderError:
            if refresh:
                raise
            return Reading(invoice=invoice, stale=True)

    async def cancel(self, id: str) -> Invoice:
        provider, invoice = await self.steps.opened(id, "cancel")
        seen = await self.steps.take(provider, invoice, "cancel", provider.cancel_invoice(invoice))
        return await self.records.record_done(id, provider, seen)

    async def _now(self, provider: Provider, invoice: Invoice) -> Invoice:
        if not invoice.in_doubt:
            return await self.records.ask(provider, invoice)
        try:
            return await self.recovery.resolve(invoice.id)
        except OutcomeUnknown:
            return await self.records.stored(invoice.id)

    def _under_way(self, invoice: Invoice) -> bool:
        """Its create is running just now, here or in another process."""
        until = invoice.asked_until
        return invoice.in_doubt and until is not None and until > self.records.clock()

    def _may_have_changed(self, provider: Provider, invoice: Invoice) -> bool:
        return provider.unsettled(invoice) and self._old(invoice.synced_at)

    def _old(self, synced_at: datetime | None) -> bool:
        return synced_at is None or self.records.clock() - synced_at > self.max_age
