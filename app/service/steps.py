"""A step of an open invoice at its provider: what must hold before it, and what its failure means."""

from dataclasses import dataclass
from typing import TypeVar

from app.domain.errors import InvoiceFinished, OutcomeUnknown, ProviderError, Rejected
from app.domain.invoice import Invoice
from app.provider import Flow, Provider
from app.service.records import Records
from app.service.recovery import Recovery

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    records: Records
    recovery: Recovery

    async def opened(self, id: str, operation: str) -> tuple[Provider, Invoice]:
        """The invoice, if it is open, and its provider, if that can do it; a doubt is resolved first."""
        invoice = await self.records.stored(id)
        provider = self.records.serving(invoice, operation)
        if invoice.in_doubt:
            invoice = await self.recovery.certain(id)
        if invoice.ended:
            raise InvoiceFinished(f"The invoice is {invoice.status}.")
        if not invoice.changeable:
            raise self.records.mismatch(invoice)
        return provider, invoice

    async def take(self, provider: Provider, invoice: Invoice, operation: str, flow: Flow[T]) -> T:
        """What came of it. A refusal because the invoice has ended meanwhile is told as that."""
        try:
            return await self.records.exchange.run(provider, operation, flow, invoice.id)
        except OutcomeUnknown as error:
            error.invoice_id = invoice.id
            raise
        except Rejected as error:
            await self._refuse_if_ended(provider, invoice, error)
            raise

    async def _refuse_if_ended(self, provider: Provider, invoice: Invoice, refusal: ProviderError) -> None:
        try:
            now = await self.records.ask(provider, invoice)
        except ProviderError:
            return
        if now.ended:
            raise InvoiceFinished(f"The invoice is {now.status}.") from refusal
