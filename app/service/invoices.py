"""Create, read and cancel invoices: what callers ask for, in the order that keeps money safe."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.domain.errors import NotFound, OutcomeUnknown, ProviderError
from app.domain.invoice import ID, Invoice
from app.provider import Provider
from app.service.creation import Creation
from app.service.draft import Draft
from app.service.flights import Flights
from app.service.records import Records
from app.service.recovery import Recovery
from app.service.steps import Steps
from app.service.watch import Watch
from app.storage.idempotency import IdempotencyKey, Kept

SHORTEST_PACE_SECONDS = 0.5


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
    watch: Watch
    max_age: timedelta
    flights: Flights = field(default_factory=Flights)
    shared: Flights = field(default_factory=Flights)

    async def create(self, draft: Draft, key: IdempotencyKey | None, kept: Kept | None) -> tuple[Invoice, str]:
        """What was created, and why there; with what is kept of an earlier try, that is brought to its end instead."""
        if key and kept:
            return await self.recovery.finish(kept.invoice_id, key), "begun before"
        return await self.creation.create(draft, key)

    async def stored(self, id: str) -> Invoice:
        """As it was last known."""
        return await self.records.stored(known(id))

    async def get(self, id: str, *, refresh: bool | None = None, wait: float = 0, since: int | None = None) -> Reading:
        """The current state: asked from the provider when it may have changed, or insisted on, or left alone.

        With `wait`, the answer is held until the version is beyond `since` (by default the current one) or the invoice
        is finished, for so many seconds at most. However many wait for one invoice, it is read for all of them.
        """
        if not wait:
            return await self._read(id, refresh)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        with self.watch.over(id) as bell:
            reading = await self._read(id, refresh)
            known = reading.invoice.version if since is None else since
            while not (reading.invoice.finished or reading.invoice.version > known or self.watch.draining):
                left = until - loop.time()
                if left <= 0:
                    break
                bell.version = reading.invoice.version
                await bell.wait(min(left, self._pace()))
                reading = await self.shared.join(id, lambda: self._read(id, refresh and None))
            return reading

    async def _read(self, id: str, refresh: bool | None) -> Reading:  # noqa: FBT001  # as its caller's
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

    def _pace(self) -> float:
        """How often, in seconds, whoever waits looks whether the provider is to be asked."""
        return max(self.max_age.total_seconds(), SHORTEST_PACE_SECONDS)

    def _old(self, synced_at: datetime | None) -> bool:
        return synced_at is None or self.records.clock() - synced_at > self.max_age


def known(id: str) -> str:
    """An id that could be one; what never could is as unknown as any other."""
    if not ID.fullmatch(id):
        raise NotFound("There is no such invoice.")
    return id
