"""Ask providers about the invoices that they have not told us about, less and less often."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta

import structlog

from app.domain.errors import PaymentError
from app.domain.invoice import Invoice
from app.provider import Provider
from app.service.records import Records
from app.service.recovery import Recovery
from app.service.schedule import Schedule

log = structlog.get_logger()

AT_ONCE = 20
AT_ONE_PROVIDER = 8
LEASE = timedelta(seconds=60)
UNANSWERED = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconcile:
    """What is due is claimed, so that replicas share it out; a claim that is not followed up lapses."""

    records: Records
    recovery: Recovery
    schedule: Schedule
    seats: dict[str, asyncio.Semaphore] = field(default_factory=dict)

    async def ask_due(self) -> int:
        """How many were due and have been seen to."""
        now = self.records.clock()
        due = await self.records.store.claim_due(now, now + LEASE, AT_ONCE)
        ends = await asyncio.gather(*(self._see_to(invoice) for invoice in due), return_exceptions=True)
        for invoice, end in zip(due, ends, strict=True):
            if isinstance(end, Exception):
                log.error("reconcile.failed", invoice_id=invoice.id, provider=invoice.provider, exc_info=end)
                await self.records.store.schedule(invoice.id, self.schedule.last(now), invoice.asks)
        return len(due)

    async def _see_to(self, invoice: Invoice) -> None:
        provider = self.records.providers.get(invoice.provider)
        if provider is None:
            await self.records.store.schedule(invoice.id, self.schedule.last(self.records.clock()), invoice.asks)
            return
        try:
            async with self.seats.setdefault(provider.name, asyncio.Semaphore(AT_ONE_PROVIDER)):
                await self._ask_if_due(provider, invoice)
        except asyncio.CancelledError:
            await self.records.store.schedule(invoice.id, self.records.clock(), invoice.asks)
            raise

    async def _ask_if_due(self, provider: Provider, invoice: Invoice) -> None:
        """An ask that was not answered is made again, though not at once, and counts for nothing."""
        now, least = invoice, self.records.clock()
        if self.schedule.due(provider, invoice, self.records.clock()):
            try:
                now = replace(await self._answer(provider, invoice), asks=invoice.asks + 1)
            except PaymentError as error:
                log.info("reconcile.not_seen", invoice_id=invoice.id, provider=provider.name, code=error.code)
                least += UNANSWERED
        due_at = self.schedule.next(provider, now, self.records.clock())
        await self.records.store.schedule(invoice.id, due_at and max(due_at, least), now.asks)

    async def _answer(self, provider: Provider, invoice: Invoice) -> Invoice:
        if invoice.in_doubt:
            return await self.recovery.resolve(invoice.id)
        return await self.records.ask(provider, invoice) if provider.can("get") else invoice
