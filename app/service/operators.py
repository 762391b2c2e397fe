"""What operators do to an invoice: settle by hand what no look-up could settle, and be named for it."""

from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from app.domain.errors import Fault, InvalidRequest, InvoiceFinished, Unreadable
from app.domain.invoice import Invoice, Status
from app.service.records import Records

log = structlog.get_logger()

# How long nobody else tries to settle it.
LEASE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    records: Records

    async def resolve(self, id: str, *, by: str, reason: str, provider_invoice_id: str | None) -> Invoice:
        """The invoice is that one at the provider, which is read there; or, without an id, nothing was created."""
        invoice, now = await self.records.stored(id), self.records.clock()
        if invoice.status is not Status.UNKNOWN:
            raise InvoiceFinished(f"The invoice is {invoice.status}: nothing about it is unknown.")
        if invoice.in_doubt and await self.records.store.take_over(id, now, now + LEASE) is None:
            raise self.records.unknown(invoice)
        try:
            found = await self._found(invoice, provider_invoice_id) if provider_invoice_id else None
            settled = found or await self.records.abandon(id)
        finally:
            await self.records.store.let_go(id)
        self.audit(id, by=by, action="resolved", reason=reason)
        log.warning("operator.resolved", invoice_id=id, status=settled.status, by=by, reason=reason)
        return settled

    def audit(self, id: str, *, by: str, action: str, reason: str | None = None) -> None:
        """Keep in the invoice's life who did it."""
        self.records.traces.operator(id, by=by, action=action, reason=reason)

    async def _found(self, invoice: Invoice, reference: str) -> Invoice:
        provider = self.records.serving(invoice, "get")
        there = replace(invoice, reference=reference, linked_reference=None)
        seen = await self.records.exchange.run(provider, "get", provider.fetch_invoice(there), invoice.id)
        try:
            now = await self.records.record(invoice.id, provider, seen)
        except Unreadable:
            raise InvalidRequest([Fault("/provider_invoice_id", "is another invoice's already")]) from None
        if now.mismatched:
            raise self.records.mismatch(now)
        return now
