"""Settle by hand what no look-up could settle."""

from dataclasses import dataclass, replace

import structlog

from app.domain.errors import Fault, InvalidRequest, InvoiceFinished
from app.domain.invoice import Invoice, Status
from app.service.changes import told
from app.service.records import Records
from app.storage.rows import ReferenceTaken

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    records: Records

    async def resolve(self, id: str, *, reason: str, provider_invoice_id: str | None) -> Invoice:
        """The invoice is that one at the provider, which is read there; or, without an id, nothing was created."""
        invoice = await self.records.stored(id)
        if invoice.status is not Status.UNKNOWN:
            raise InvoiceFinished(f"The invoice is {invoice.status}: nothing about it is unknown.")
        now = await self._found(invoice, provider_invoice_id) if provider_invoice_id else await self._abandoned(id)
        log.info("operator.resolved", invoice_id=id, status=now.status, reason=reason)
        return now

    async def _found(self, invoice: Invoice, reference: str) -> Invoice:
        provider = self.records.serving(invoice, "get")
        there = replace(invoice, reference=reference, linked_reference=None)
        seen = await self.records.exchange.run(provider, "get", provider.fetch_invoice(there))
        try:
            now = await self.records.record(invoice.id, seen)
        except ReferenceTaken:
            raise InvalidRequest([Fault("/provider_invoice_id", "is another invoice's already")]) from None
        if now.mismatched:
            raise self.records.mismatch(now)
        return now

    async def _abandoned(self, id: str) -> Invoice:
        at = self.records.clock()
        return await self.records.store.change(id, lambda invoice: told(invoice.abandoned(at), at))
