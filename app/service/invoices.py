"""Create invoices (reserve, send once, record), read them, cancel them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydantic import ValidationError

from app.domain.errors import (
    AmountMismatch,
    Fault,
    InvalidRequest,
    InvoiceFinished,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    ProviderError,
    Rejected,
    UnsupportedOperation,
)
from app.domain.invoice import Customer, Invoice, Item, Snapshot, Status, new_id
from app.domain.money import Money
from app.exchange import Exchange
from app.provider import Order, Provider
from app.service.addresses import Addresses, filled
from app.service.changes import apply, told
from app.service.clock import Clock
from app.service.flights import Flights
from app.storage.store import Store

log = structlog.get_logger()

# How long after the provider's deadline a create may still be under way, before it counts as abandoned.
GRACE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a caller asks to be created."""

    provider: str | None = None
    amount: Money | None = None
    order_id: str | None = None
    description: str | None = None
    customer: Customer | None = None
    items: tuple[Item, ...] = ()
    redirect_url: str | None = None
    redirect_button_title: str | None = None
    callback_url: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An invoice, and whether its provider could not be asked just now."""

    invoice: Invoice
    stale: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoices:
    store: Store
    exchange: Exchange
    providers: Mapping[str, Provider]
    addresses: Addresses
    clock: Clock
    max_age: timedelta
    flights: Flights = field(default_factory=Flights)

    def faults(self, draft: Draft) -> list[Fault]:
        """Everything that keeps the chosen provider from creating this."""
        try:
            return self._misses(self._chosen(draft), draft)
        except InvalidRequest as error:
            return error.faults

    async def create(self, draft: Draft) -> Invoice:
        provider = self._chosen(draft)
        if faults := self._misses(provider, draft):
            raise InvalidRequest(faults)
        invoice = self._reservation(provider, draft)
        await self.store.reserve(invoice)
        return await self._send_once(provider, invoice)

    async def get(self, id: str, *, refresh: bool | None = None) -> Reading:
        """The current state: asked from the provider when it may have changed, or insisted on, or left alone."""
        invoice = await self.stored(id)
        provider = self.providers.get(invoice.provider)
        if refresh is False or invoice.reference is None:
            return Reading(invoice=invoice)
        if provider is None or not provider.can("get"):
            return Reading(invoice=invoice, stale=True)
        if refresh is None and not self._may_have_changed(provider, invoice):
            return Reading(invoice=invoice)
        try:
            return Reading(invoice=await self.flights.join(id, lambda: self.ask(provider, invoice)))
        except ProviderError:
            if refresh:
                raise
            return Reading(invoice=invoice, stale=True)

    async def cancel(self, id: str) -> Invoice:
        invoice = await self.stored(id)
        provider = self.serving(invoice, "cancel")
        self.refuse_unless_open(invoice)
        try:
            seen = await self.exchange.run(provider, "cancel", provider.cancel_invoice(invoice))
        except OutcomeUnknown as error:
            error.invoice_id = id
            raise
        except Rejected as error:
            await self.refuse_if_ended(id, error)
            raise
        return await self.record(id, seen)

    async def stored(self, id: str) -> Invoice:
        invoice = await self.store.invoice(id)
        if invoice is None:
            raise NotFound("There is no such invoice.")
        return invoice

    async def ask(self, provider: Provider, invoice: Invoice) -> Invoice:
        """What the provider says now, taken in."""
        seen = await self.exchange.run(provider, "get", provider.fetch_invoice(invoice))
        now = await self.record(invoice.id, seen)
        return await self.undo(provider, now) if now.mismatched and not invoice.mismatched else now

    async def record(self, id: str, seen: Snapshot) -> Invoice:
        at = self.clock()
        return await self.store.change(id, lambda invoice: apply(invoice, seen, at))

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
        if invoice.status is Status.UNKNOWN:
            raise OutcomeUnknown(
                "It is not known whether the provider created this invoice.",
                provider=invoice.provider,
                retry_after=1,
                invoice_id=invoice.id,
            )

    async def refuse_if_ended(self, id: str, error: ProviderError) -> None:
        """The provider refused: where the reason is that the invoice has ended meanwhile, say that instead."""
        reading = await self.get(id, refresh=None)
        if reading.invoice.finished or reading.invoice.paid:
            raise InvoiceFinished(f"The invoice is {reading.invoice.status}.") from error

    def _chosen(self, draft: Draft) -> Provider:
        if draft.provider is None and len(self.providers) != 1:
            raise InvalidRequest([Fault("/provider", "is required, since more than one provider is configured")])
        name = draft.provider or next(iter(self.providers))
        if name not in self.providers:
            raise InvalidRequest([Fault("/provider", "is not a configured provider")])
        provider = self.providers[name]
        if not provider.can("create"):
            raise UnsupportedOperation(f"{provider.name} cannot create invoices; see its sheet.")
        return provider

    def _misses(self, provider: Provider, draft: Draft) -> list[Fault]:
        try:
            provider.Options.model_validate(draft.options)
        except ValidationError as error:
            without = replace(draft, options={})
            return [option_fault(found) for found in error.errors()] + self._misses(provider, without)
        return list(provider.faults(self._order(provider, self._reservation(provider, draft))))

    def _reservation(self, provider: Provider, draft: Draft) -> Invoice:
        now, id = self.clock(), new_id("inv")
        return Invoice(
            id=id,
            provider=provider.name,
            status=Status.UNKNOWN,
            created_at=now,
            updated_at=now,
            amount=draft.amount,
            order_id=draft.order_id,
            description=draft.description,
            customer=draft.customer,
            items=draft.items,
            metadata=draft.metadata,
            redirect_url=filled(draft.redirect_url, invoice_id=id, order_id=draft.order_id),
            redirect_button_title=draft.redirect_button_title,
            callback_url=draft.callback_url,
            options=draft.options,
            asked_until=now + timedelta(seconds=provider.timeout) + GRACE,
        )

    def _order(self, provider: Provider, invoice: Invoice) -> Order:
        return Order(
            id=invoice.id,
            notification_url=self.addresses.notification(provider.name, invoice.id),
            created_at=invoice.created_at,
            amount=invoice.amount,
            order_id=invoice.order_id,
            description=invoice.description,
            customer=invoice.customer or Customer(),
            items=invoice.items,
            redirect_url=invoice.redirect_url,
            redirect_button_title=invoice.redirect_button_title,
            options=provider.Options.model_validate(invoice.options),
        )

    async def _send_once(self, provider: Provider, invoice: Invoice) -> Invoice:
        order = self._order(provider, invoice)
        try:
            seen = await self.exchange.run(provider, "create", provider.create_invoice(order))
        except OutcomeUnknown as error:
            await self._doubt(invoice.id)
            error.invoice_id = invoice.id
            raise
        except ProviderError:
            await self.store.withdraw(invoice.id)
            raise
        return await self._created(provider, invoice.id, seen)

    async def _created(self, provider: Provider, id: str, seen: Snapshot) -> Invoice:
        try:
            invoice = await self.record(id, seen)
        except Overloaded as error:
            raise OutcomeUnknown(
                "The provider created it, but it could not be recorded yet.",
                provider=provider.name,
                retry_after=1,
                invoice_id=id,
            ) from error
        if invoice.mismatched:
            raise self.mismatch(await self.undo(provider, invoice))
        return invoice

    async def _doubt(self, id: str) -> None:
        at = self.clock()
        await self.store.change(id, lambda invoice: told(invoice.doubted(at), at))

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

    def mismatch(self, invoice: Invoice) -> AmountMismatch:
        return AmountMismatch(
            f"{invoice.provider} invoices another amount than asked.", provider=invoice.provider, invoice_id=invoice.id
        )

    def _may_have_changed(self, provider: Provider, invoice: Invoice) -> bool:
        return provider.unsettled(invoice) and self._old(invoice.synced_at)

    def _old(self, synced_at: datetime | None) -> bool:
        return synced_at is None or self.clock() - synced_at > self.max_age


def option_fault(found: Mapping[str, Any]) -> Fault:
    return Fault("/provider_options/" + "/".join(str(part) for part in found["loc"]), found["msg"])
