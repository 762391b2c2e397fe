"""Ask providers about the invoices that they have not told us about, less and less often."""

import asyncio
from dataclasses import dataclass, field
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
        await asyncio.gather(*(self._see_to(invoice) for invoice in due))
        return len(due)

    async def _see_to(self, invoice: Invoice) -> None:
        provider = self.records.providers.get(invoice.provider)
        if provider is None:
            await self.records.store.schedule(invoice.id, None)
            return
        try:
            async with self.seats.setdefault(provider.name, asyncio.Semaphore(AT_ONE_PROVIDER)):
                if self.schedule.due(provider, invoice, self.records.clock()):
                    invoice = await self._ask(provider, invoice)
        except asyncio.CancelledError:
            await self.records.store.schedule(invoice.id, self.records.clock())
            raise
        await self.records.store.schedule(invoice.id, self.schedule.next(provider, invoice, self.records.clock()))

    async def _ask(self, provider: Provider, invoice: Invoice) -> Invoice:
        try:
            if invoice.in_doubt:
                return await self.recovery.resolve(invoice.id)
            if provider.can("get"):
                return await self.records.ask(provider, invoice)
        except PaymentError as error:
            log.info("reconcile.not_seen", invoice_id=invoice.id, provider=provider.name, code=error.code)
        return invoice
