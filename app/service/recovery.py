"""Find out what came of a create whose answer is missing; send it again only where that cannot make a second one."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from app.domain.errors import AlreadyExists, AmountMismatch, OutcomeUnknown, ProviderError, Rejected
from app.domain.invoice import Event, Invoice
from app.provider import Provider
from app.service.creation import GRACE, Creation
from app.service.flights import Flights
from app.service.records import Records
from app.service.search import Search
from app.storage.idempotency import IdempotencyKey

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    records: Records
    creation: Creation
    search: Search
    flights: Flights = field(default_factory=Flights)

    async def resolve(self, id: str) -> Invoice:
        """The invoice once it is certain; OutcomeUnknown while it is not, ProviderError where nobody can be asked."""
        return await self.flights.join(id, lambda: self._resolve(id))

    async def certain(self, id: str) -> Invoice:
        """For who can do nothing without knowing: whatever keeps us from finding out leaves it unknown."""
        try:
            return await self.resolve(id)
        except (OutcomeUnknown, AmountMismatch) as error:
            error.invoice_id = id
            raise
        except ProviderError as error:
            wait = timedelta(seconds=error.retry_after or 1)
            raise self.records.unknown(await self.records.stored(id), wait) from error

    async def finish(self, id: str, key: IdempotencyKey) -> Invoice:
        """What a create that was cut off, or whose answer is missing, has come to; kept under its key from then on."""
        invoice = await self.certain(id)
        if invoice.mismatched:
            raise self.records.mismatch(invoice)
        if invoice.reference is None:
            await self.records.store.free_key(key, id)
            raise Rejected("The provider did not take it.", provider=invoice.provider, invoice_id=id)
        return await self.records.store.change(id, unchanged, self.creation.keep(key))

    async def _resolve(self, id: str) -> Invoice:
        now = self.records.clock()
        invoice = await self.records.stored(id)
        if not invoice.in_doubt:
            return invoice
        provider = self.records.serving(invoice, "create")
        until = now + timedelta(seconds=2 * provider.timeout) + GRACE
        if await self.records.store.take_over(id, now, until) is None:
            raise self.records.unknown(invoice)
        try:
            return await self._resolved(provider, await self.creation.doubt(id))
        finally:
            await self.records.store.let_go(id)

    async def _resolved(self, provider: Provider, invoice: Invoice) -> Invoice:
        seen = await self.search.find(provider, invoice, self.creation.order(provider, invoice))
        if seen is not None:
            return await self.creation.created(provider, invoice.id, seen)
        await self.records.store.asked(invoice.id, self.records.clock())
        return await self._again(provider, invoice)

    async def _again(self, provider: Provider, invoice: Invoice) -> Invoice:
        """Nothing is there: send it again, if absence proves anything and nobody has settled it meanwhile."""
        wait = self.search.settled_at(invoice) - self.records.clock()
        if provider.create_recovery == "by_search":
            raise self.records.unknown(invoice)
        if provider.create_recovery == "by_reference" and wait > timedelta():
            raise self.records.unknown(invoice, wait)
        at = self.records.clock()
        invoice = await self.records.store.change(invoice.id, lambda before: sent_again(before, at))
        if not invoice.in_doubt:
            return invoice
        log.info("create.sent_again", invoice_id=invoice.id, provider=provider.name)
        try:
            flow = provider.create_invoice(self.creation.order(provider, invoice))
            seen = await self.records.exchange.run(provider, "create", flow, invoice.id)
        except AlreadyExists as error:
            raise self.records.unknown(invoice) from error
        except Rejected:
            return await self.records.abandon(invoice.id)
        return await self.creation.created(provider, invoice.id, seen)


def sent_again(invoice: Invoice, at: datetime) -> tuple[Invoice, list[Event]]:
    return (replace(invoice, sent_at=at) if invoice.in_doubt else invoice), []


def unchanged(invoice: Invoice) -> tuple[Invoice, list[Event]]:
    return invoice, []
