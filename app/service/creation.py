"""Create an invoice at a provider: reserve, send once, record."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import msgspec
from pydantic import ValidationError

from app.domain.errors import (
    Fault,
    InvalidRequest,
    OutcomeUnknown,
    Overloaded,
    ProviderError,
    UnsupportedOperation,
)
from app.domain.invoice import Customer, Invoice, Item, Snapshot, Status, new_id
from app.domain.money import Money
from app.provider import Order, Provider
from app.service.addresses import Addresses, filled
from app.service.changes import told
from app.service.records import Records
from app.service.schedule import Schedule
from app.service.views import invoice_view
from app.storage.keys import IdempotencyKey
from app.storage.store import Keep

# How long after the provider's deadline a create may still be under way, before it counts as cut off.
GRACE = timedelta(seconds=5)


class KeyTaken(Exception):
    """Another call came first with the same idempotency key."""


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
class Creation:
    records: Records
    addresses: Addresses
    schedule: Schedule

    def faults(self, draft: Draft) -> list[Fault]:
        """Everything that keeps the chosen provider from creating this."""
        try:
            return self._misses(self._chosen(draft), draft)
        except InvalidRequest as error:
            return error.faults

    async def create(self, draft: Draft, key: IdempotencyKey | None = None) -> Invoice:
        provider = self._chosen(draft)
        if faults := self._misses(provider, draft):
            raise InvalidRequest(faults)
        invoice = self._reservation(provider, draft)
        if not await self.records.store.reserve(invoice, key):
            raise KeyTaken
        return await self.send(provider, invoice, key)

    async def send(self, provider: Provider, invoice: Invoice, key: IdempotencyKey | None = None) -> Invoice:
        """Send what is reserved, and record what came of it; AmountMismatch and OutcomeUnknown leave it stored."""
        try:
            flow = provider.create_invoice(self.order(provider, invoice))
            seen = await self.records.exchange.run(provider, "create", flow)
        except OutcomeUnknown as error:
            await self.doubt(invoice.id, key)
            error.invoice_id = invoice.id
            raise
        except ProviderError:
            await self.records.store.withdraw(invoice.id, key)
            raise
        return await self.created(provider, invoice.id, seen, key)

    async def created(self, provider: Provider, id: str, seen: Snapshot, key: IdempotencyKey | None = None) -> Invoice:
        """It exists: record that, whatever happens."""
        try:
            invoice = await self.records.record(id, seen, self.keep(key))
        except Overloaded as error:
            raise OutcomeUnknown(
                "The provider created it, but it could not be recorded yet.",
                provider=provider.name,
                retry_after=1,
                invoice_id=id,
            ) from error
        if invoice.mismatched:
            raise self.records.mismatch(await self.records.undo(provider, invoice))
        return invoice

    async def doubt(self, id: str, key: IdempotencyKey | None = None) -> Invoice:
        at = self.records.clock()
        return await self.records.store.change(id, lambda invoice: told(invoice.doubted(at), at), self.keep(key))

    def keep(self, key: IdempotencyKey | None) -> Keep | None:
        return Keep(key=key, at=self.records.clock(), answer=answer_of) if key else None

    def order(self, provider: Provider, invoice: Invoice) -> Order:
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

    def _chosen(self, draft: Draft) -> Provider:
        providers = self.records.providers
        if draft.provider is None and len(providers) != 1:
            raise InvalidRequest([Fault("/provider", "is required, since more than one provider is configured")])
        name = draft.provider or next(iter(providers))
        if name not in providers:
            raise InvalidRequest([Fault("/provider", "is not a configured provider")])
        provider = providers[name]
        if not provider.can("create"):
            raise UnsupportedOperation(f"{provider.name} cannot create invoices; see its sheet.")
        return provider

    def _misses(self, provider: Provider, draft: Draft) -> list[Fault]:
        try:
            provider.Options.model_validate(draft.options)
        except ValidationError as error:
            without = replace(draft, options={})
            return [option_fault(found) for found in error.errors()] + self._misses(provider, without)
        return list(provider.faults(self.order(provider, self._reservation(provider, draft))))

    def _reservation(self, provider: Provider, draft: Draft) -> Invoice:
        now, id = self.records.clock(), new_id("inv")
        patience = timedelta(seconds=provider.timeout) + GRACE
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
            sent_at=now,
            asked_until=now + patience,
            due_at=self.schedule.first(now, patience),
        )


def answer_of(invoice: Invoice) -> bytes | None:
    """What a create answers; None where it is in doubt, or is not what was asked for."""
    if invoice.in_doubt or invoice.mismatched:
        return None
    return msgspec.json.encode(invoice_view(invoice))


def option_fault(found: Mapping[str, Any]) -> Fault:
    return Fault("/provider_options/" + "/".join(str(part) for part in found["loc"]), found["msg"])
