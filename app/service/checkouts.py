"""Start a checkout, or resume the one that is open, or learn that nothing is owed."""

from dataclasses import dataclass, field, replace
from typing import Literal

from app.domain.errors import CheckoutUnavailable, OutcomeUnknown, RedirectFixed, Rejected
from app.domain.invoice import Change, Event, Invoice
from app.provider import Provider, Started
from app.service.addresses import filled
from app.service.changes import apply, told
from app.service.flights import Flights
from app.service.records import Records
from app.service.recovery import Recovery


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Where to send the shopper: to the provider's page, or nowhere because the invoice is completed."""

    outcome: Literal["redirect", "completed"]
    url: str | None
    message: str | None
    invoice: Invoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkouts:
    records: Records
    recovery: Recovery
    flights: Flights = field(default_factory=Flights)

    async def start(self, id: str, *, redirect_url: str | None, redirect_button_title: str | None) -> Visit:
        """`redirect_url` overrides the one from creation, where the provider takes one at checkout."""
        invoice = await self.records.stored(id)
        provider = self.records.serving(invoice, "checkout")
        if invoice.in_doubt:
            invoice = await self.recovery.resolve(id)
        self.records.refuse_unless_open(invoice)
        there = filled(redirect_url, invoice_id=invoice.id, order_id=invoice.order_id) or invoice.redirect_url
        title = redirect_button_title or invoice.redirect_button_title
        as_created = (there, title) == (invoice.redirect_url, invoice.redirect_button_title)
        if provider.redirect == "at_creation" and not as_created:
            raise RedirectFixed(f"{provider.name} took the redirect address when the invoice was created.")
        return await self.flights.join((id, there), lambda: self._open(provider, invoice, there))

    async def _open(self, provider: Provider, invoice: Invoice, redirect_url: str | None) -> Visit:
        try:
            started = await self.records.exchange.run(
                provider, "checkout", provider.start_checkout(invoice, redirect_url)
            )
        except OutcomeUnknown as error:
            error.invoice_id = invoice.id
            raise
        except Rejected as error:
            await self.records.refuse_if_ended(provider, invoice, error)
            raise
        return self._visit(started, await self._record(invoice.id, started, redirect_url))

    async def _record(self, id: str, started: Started, redirect_url: str | None) -> Invoice:
        at = self.records.clock()

        def decide(invoice: Invoice) -> tuple[Invoice, list[Event]]:
            if invoice.redirect_url == redirect_url:
                return apply(invoice, started.snapshot, at)
            changed = invoice.learn(started.snapshot, at)
            moved = replace(changed.invoice, redirect_url=redirect_url, version=invoice.version + 1, updated_at=at)
            return told(Change(invoice=moved, facts=changed.facts or ("invoice.updated",)), at)

        return await self.records.store.change(id, decide)

    def _visit(self, started: Started, invoice: Invoice) -> Visit:
        if invoice.mismatched:
            raise self.records.mismatch(invoice)
        if invoice.paid:
            return Visit(outcome="completed", url=None, message=started.message, invoice=invoice)
        checkout = started.snapshot.checkout
        if checkout is None or checkout.url is None:
            raise CheckoutUnavailable("The provider gave no address to pay at.")
        return Visit(outcome="redirect", url=checkout.url, message=started.message, invoice=invoice)
