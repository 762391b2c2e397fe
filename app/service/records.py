"""What providers say of invoices, taken into the store; and what an invoice's state forbids."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog

from app.domain.errors import (
    AmountMismatch,
    InvoiceFinished,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    UnsupportedOperation,
)
from app.domain.invoice import Invoice, Snapshot
from app.exchange import Exchange
from app.provider import Provider
from app.service.changes import apply
from app.service.clock import Clock
from app.storage.store import Keep, Store

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    store: Store
    exchange: Exchange
    providers: Mapping[str, Provider]
    clock: Clock

    async def stored(self, id: str) -> Invoice:
        invoice = await self.store.invoice(id)
        if invoice is None:
            raise NotFound("There is no such invoice.")
        return invoice

    async def record(self, id: str, seen: Snapshot, keep: Keep | None = None) -> Invoice:
        at = self.clock()
        return await self.store.change(id, lambda invoice: apply(invoice, seen, at), keep)

    async def ask(self, provider: Provider, invoice: Invoice) -> Invoice:
        """What the provider says now, taken in."""
        seen = await self.exchange.run(provider, "get", provider.fetch_invoice(invoice))
        now = await self.record(invoice.id, seen)
        return await self.undo(provider, now) if now.mismatched and not invoice.mismatched else now

    async def undo(self, provider: Provider, invoice: Invoice) -> Invoice:
        """Cancel at once what was not asked for, where the provider can."""
        log.error("invoice.mismatched", invoice_id=invoice.id, provider=provider.name)
        if not provider.can("cancel"):
            return invoice
        try:
            seen = await self.exchange.run(provider, "cancel", provider.cancel_invoice(invoice))
        except ProviderError as error:
            log.warning("mismatch.not_canceled", invoice_id=invoice.id, provider=provider.name, code=error.code)
            return invoice
        return await self.record(invoice.id, replace(seen, amount=None))

    def serving(self, invoice: Invoice, operation: str) -> Provider:
        """The provider that has the invoice, if it can do that."""
        provider = self.providers.get(invoice.provider)
        if provider is None:
            raise UnsupportedOperation(f"{invoice.provider} is no longer configured.")
        if not provider.can(operation):
            raise UnsupportedOperation(f"{provider.name} has no operation {operation}; see its sheet.")
        return provider

    def refuse_unless_open(self, invoice: Invoice) -> None:
        if invoice.finished or invoice.paid:
            raise InvoiceFinished(f"The invoice is {invoice.status}.")
        if invoice.mismatched:
            raise self.mismatch(invoice)
        if invoice.in_doubt:
            raise OutcomeUnknown(
                "It is not known yet whether the provider created this invoice.",
                provider=invoice.provider,
                retry_after=1,
                invoice_id=invoice.id,
            )

    async def refuse_if_ended(self, provider: Provider, invoice: Invoice, refusal: ProviderError) -> None:
        """The provider refused: where the reason is that the invoice has ended meanwhile, say that instead."""
        try:
            now = await self.ask(provider, invoice)
        except ProviderError:
            return
        if now.finished or now.paid:
            raise InvoiceFinished(f"The invoice is {now.status}.") from refusal

    def mismatch(self, invoice: Invoice) -> AmountMismatch:
        return AmountMismatch(
            f"{invoice.provider} invoices another amount than asked.", provider=invoice.provider, invoice_id=invoice.id
        )
