"""What providers say of invoices, taken into the store."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from math import ceil

import structlog

from app.domain.errors import (
    AmountMismatch,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    ProviderError,
    Unreadable,
    UnsupportedOperation,
)
from app.domain.invoice import Invoice, Snapshot, Status
from app.exchange import Exchange
from app.provider import Provider
from app.service.changes import apply, told
from app.service.clock import Clock
from app.service.traces import Traces
from app.storage.rows import ReferenceTaken
from app.storage.store import Keep, Store

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    store: Store
    exchange: Exchange
    providers: Mapping[str, Provider]
    clock: Clock
    traces: Traces

    async def stored(self, id: str) -> Invoice:
        invoice = await self.store.invoice(id)
        if invoice is None:
            raise NotFound("There is no such invoice.")
        return invoice

    async def record(self, id: str, provider: Provider, seen: Snapshot, keep: Keep | None = None) -> Invoice:
        """Unreadable, where what the provider says is of another invoice of ours."""
        at = self.clock()
        try:
            now = await self.store.change(id, lambda invoice: apply(invoice, seen, at), keep)
        except ReferenceTaken as error:
            log.warning("reference.taken", invoice_id=id, provider=provider.name)
            raise Unreadable(f"{provider.name} names another invoice of ours.", provider=provider.name) from error
        if seen.status not in (None, now.status):
            self.traces.echo(id, seen.word, now.status)
        return now

    async def record_done(self, id: str, provider: Provider, seen: Snapshot, keep: Keep | None = None) -> Invoice:
        """What a write has done: if that cannot be recorded, nobody may be told that nothing happened."""
        try:
            return await self.record(id, provider, seen, keep)
        except (Overloaded, Unreadable) as error:
            raise OutcomeUnknown(
                "The provider did it, but it could not be recorded.",
                provider=provider.name,
                retry_after=1,
                invoice_id=id,
            ) from error

    async def ask(self, provider: Provider, invoice: Invoice) -> Invoice:
        """What the provider says now, taken in."""
        seen = await self.exchange.run(provider, "get", provider.fetch_invoice(invoice), invoice.id)
        return await self.undo(provider, await self.record(invoice.id, provider, seen))

    async def abandon(self, id: str) -> Invoice:
        """It is certain that nothing came of it, unless somebody has found out otherwise meanwhile."""
        at = self.clock()
        return await self.store.change(id, lambda invoice: told(invoice.abandoned(at), at))

    async def undo(self, provider: Provider, invoice: Invoice) -> Invoice:
        """Cancel at once what was not asked for, where the provider can."""
        if not (invoice.mismatched and invoice.status is Status.UNKNOWN):
            return invoice
        log.error("invoice.mismatched", invoice_id=invoice.id, provider=provider.name)
        if not provider.can("cancel"):
            return invoice
        try:
            seen = await self.exchange.run(provider, "cancel", provider.cancel_invoice(invoice), invoice.id)
        except ProviderError as error:
            log.warning("mismatch.not_canceled", invoice_id=invoice.id, provider=provider.name, code=error.code)
            return invoice
        return await self.record(invoice.id, provider, replace(seen, amount=None))

    def serving(self, invoice: Invoice, operation: str) -> Provider:
        """The provider that has the invoice, if it can do that."""
        provider = self.providers.get(invoice.provider)
        if provider is None:
            raise UnsupportedOperation(f"{invoice.provider} is no longer configured.")
        provider.require(operation)
        return provider

    def unknown(self, invoice: Invoice, wait: timedelta = timedelta()) -> OutcomeUnknown:
        """`wait` is how long it will at least stay so."""
        return OutcomeUnknown(
            "It is not known yet whether the provider created this invoice.",
            provider=invoice.provider,
            retry_after=max(ceil(wait.total_seconds()), 1),
            invoice_id=invoice.id,
        )

    def mismatch(self, invoice: Invoice) -> AmountMismatch:
        return AmountMismatch(
            f"{invoice.provider} invoices another amount than asked.", provider=invoice.provider, invoice_id=invoice.id
        )
