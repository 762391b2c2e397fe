"""Start a checkout, or resume the one that is open, or learn that nothing is owed."""

from dataclasses import dataclass, field, replace
from typing import Literal

from app.domain.errors import CheckoutUnavailable, Fault, InvalidRequest, InvoiceFinished, RedirectFixed
from app.domain.invoice import Checkout, Invoice
from app.domain.redirects import filled
from app.provider import Provider, Started
from app.service.changes import told
from app.service.destinations import Destinations
from app.service.flights import Flights
from app.service.records import Records
from app.service.steps import Steps


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
    steps: Steps
    destinations: Destinations
    flights: Flights = field(default_factory=Flights)

    async def start(
        self, id: str, *, redirect_url: str | None, redirect_button_title: str | None, shopper: bool = False
    ) -> Visit:
        """`redirect_url` overrides the one from creation, where the provider takes one at checkout.

        A `shopper` may say one only where it is set which hosts there are to return to: `/pay` leads there too.
        """
        faults = list(self.destinations.faults(redirect_url=redirect_url))
        if shopper and redirect_url and not self.destinations.redirect_hosts:
            faults.append(Fault("/redirect_url", "is the shop's to say"))
        if faults:
            raise InvalidRequest(faults)
        provider, invoice = await self.steps.opened(id, "checkout")
        there = filled(redirect_url, invoice_id=invoice.id, order_id=invoice.order_id) or invoice.redirect_url
        title = redirect_button_title or invoice.redirect_button_title
        as_created = (there, title) == (invoice.redirect_url, invoice.redirect_button_title)
        if provider.redirect == "at_creation" and not as_created:
            raise RedirectFixed(f"{provider.name} took the redirect address when the invoice was created.")
        return await self.flights.join((id, there), lambda: self._open(provider, invoice, there))

    async def _open(self, provider: Provider, invoice: Invoice, redirect_url: str | None) -> Visit:
        if provider.links_end_with_id and (invoice.checkout is None or invoice.checkout.url is None):
            invoice = await self._linked(invoice)
        flow = provider.start_checkout(invoice, redirect_url)
        started = await self.steps.take(provider, invoice, "checkout", flow)
        return self._visit(started, await self._recorded(provider, invoice.id, started, redirect_url))

    async def _linked(self, invoice: Invoice) -> Invoice:
        """With the address that was lost with its create's answer, built as an earlier one was; else as it is."""
        earlier = await self.records.store.latest_link(invoice.provider)
        if earlier is None:
            return invoice
        reference, url = earlier
        if not url.endswith(reference):
            return invoice
        return replace(invoice, checkout=Checkout(url=url.removesuffix(reference) + str(invoice.reference)))

    async def _recorded(self, provider: Provider, id: str, started: Started, redirect_url: str | None) -> Invoice:
        invoice = await self.records.record_done(id, provider, started.snapshot)
        if invoice.redirect_url != redirect_url:
            at = self.records.clock()
            invoice = await self.records.store.change(id, lambda before: told(before.returning(redirect_url, at), at))
        return await self.records.undo(provider, invoice)

    def _visit(self, started: Started, invoice: Invoice) -> Visit:
        if invoice.mismatched:
            raise self.records.mismatch(invoice)
        if invoice.paid:
            return Visit(outcome="completed", url=None, message=started.message, invoice=invoice)
        if invoice.finished:
            raise InvoiceFinished(f"The invoice is {invoice.status}.")
        checkout = started.snapshot.checkout
        if checkout is None or checkout.url is None:
            raise CheckoutUnavailable("The provider gave no address to pay at.")
        return Visit(outcome="redirect", url=checkout.url, message=started.message, invoice=invoice)
