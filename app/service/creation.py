"""Create an invoice at a provider: reserve, send once, record."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

import msgspec
import structlog
from pydantic import ValidationError

from app.domain.errors import (
    AlreadyExists,
    Fault,
    InvalidRequest,
    OutcomeUnknown,
    Overloaded,
    ProviderError,
)
from app.domain.invoice import Customer, Invoice, Snapshot, Status, new_id
from app.domain.redirects import filled
from app.provider import Order, Provider
from app.service.addresses import Addresses
from app.service.changes import told
from app.service.destinations import Destinations
from app.service.draft import Draft
from app.service.faults import body_pointer, faults_of
from app.service.flights import Flights
from app.service.records import Records
from app.service.routing import Choice, Routing
from app.service.schedule import Schedule
from app.service.search import Search
from app.service.views import invoice_view
from app.storage.idempotency import IdempotencyKey
from app.storage.store import Keep

log = structlog.get_logger()

# How long after the provider's deadline a create may still be under way, before it counts as cut off.
GRACE = timedelta(seconds=5)

# Seconds between the tries to withdraw what never happened, all before it would count as cut off.
WITHDRAWALS = (0.2, 0.5, 1, 1, 1, 1)


class KeyTaken(Exception):
    """Another call came first with the same idempotency key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    records: Records
    search: Search
    addresses: Addresses
    schedule: Schedule
    routing: Routing
    destinations: Destinations
    flights: Flights = field(default_factory=Flights)

    def faults(self, draft: Draft) -> list[Fault]:
        """Everything that keeps the chosen provider from creating this."""
        try:
            self.routing.choices(draft, self._misses)
        except InvalidRequest as error:
            return error.faults
        return []

    def plan(self, draft: Draft) -> tuple[Choice, Order]:
        """Who would be asked first, and for what; nothing is written, and nothing sent."""
        choice = self.routing.choices(draft, self._misses)[0]
        return choice, self.order(choice.provider, self._reservation(choice.provider, choice.draft))

    async def create(self, draft: Draft, key: IdempotencyKey | None = None) -> tuple[Invoice, str]:
        """At the first provider that takes it, and why there. The next is tried only where nothing happened before."""
        choices = self.routing.choices(draft, self._misses)
        reason = choices[0].reason
        for choice in choices[:-1]:
            try:
                return await self._create(choice, key), reason
            except ProviderError as error:
                if error.outcome != "none":
                    raise
                log.warning("create.failed_over", provider=choice.provider.name, code=error.code)
                reason = f"{reason}, after {choice.provider.name} ({error.code})"
        return await self._create(choices[-1], key), reason

    async def _create(self, choice: Choice, key: IdempotencyKey | None) -> Invoice:
        invoice = self._reservation(choice.provider, choice.draft)
        try:
            free = await self.records.store.reserve(invoice, key)
        except Overloaded:
            self._withdraw_in_time(invoice.id, key)
            raise
        if not free:
            raise KeyTaken
        return await self._send(choice.provider, invoice, key)

    async def created(self, provider: Provider, id: str, seen: Snapshot, key: IdempotencyKey | None = None) -> Invoice:
        """It exists: record that. AmountMismatch, if it is not what was asked."""
        invoice = await self.records.record_done(id, provider, seen, self.keep(key))
        if invoice.mismatched:
            raise self.records.mismatch(await self.records.undo(provider, invoice))
        return invoice

    async def _send(self, provider: Provider, invoice: Invoice, key: IdempotencyKey | None) -> Invoice:
        """Send what is reserved, and record what came of it; AmountMismatch and OutcomeUnknown leave it stored."""
        order = self.order(provider, invoice)
        try:
            seen = await self._sent(provider, invoice, order)
        except OutcomeUnknown as error:
            error.invoice_id = invoice.id
            with suppress(Overloaded):
                await self.doubt(invoice.id, key)
            raise
        except ProviderError:
            await self._withdraw(invoice.id, key)
            raise
        return await self.created(provider, invoice.id, seen, key)

    async def _sent(self, provider: Provider, invoice: Invoice, order: Order) -> Snapshot:
        """Where the provider says that it has it already, that may be our own earlier try: then it is looked for."""
        try:
            return await self.records.exchange.run(provider, "create", provider.create_invoice(order), invoice.id)
        except AlreadyExists:
            try:
                seen = await self.search.find(provider, invoice, order)
            except ProviderError as unknown:
                raise self.records.unknown(invoice) from unknown
            if seen is None:
                raise
            return seen

    async def _withdraw(self, id: str, key: IdempotencyKey | None) -> None:
        try:
            await self.records.store.withdraw(id, key)
        except Overloaded:
            self._withdraw_in_time(id, key)

    def _withdraw_in_time(self, id: str, key: IdempotencyKey | None) -> None:
        """Nothing came of it, and the store is away: before anyone takes the reservation for a create in doubt."""
        self.flights.start(id, lambda: self._withdraw_patiently(id, key))

    async def _withdraw_patiently(self, id: str, key: IdempotencyKey | None) -> None:
        for wait in WITHDRAWALS:
            await asyncio.sleep(wait)
            with suppress(Overloaded):
                await self.records.store.withdraw(id, key)
                return

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

    def _misses(self, provider: Provider, draft: Draft) -> list[Fault]:
        try:
            provider.Options.model_validate(draft.options)
        except ValidationError as error:
            where = ("provider_options",) if draft.provider else ("provider_options", provider.kind())
            without = replace(draft, options={})
            return [
                *faults_of(error, lambda path: body_pointer((*where, *path))),
                *self._misses(provider, without),
            ]
        order = self.order(provider, self._reservation(provider, draft))
        return [
            *self.destinations.faults(callback_url=draft.callback_url, redirect_url=draft.redirect_url),
            *provider.faults(order),
        ]

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
