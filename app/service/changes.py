"""The one way an invoice changes: what a provider says is taken in, and every fact of the change becomes an event."""

from dataclasses import replace
from datetime import datetime

import msgspec

from app.domain.invoice import Change, Deposit, Event, Invoice, Snapshot, Status, new_id
from app.service.views import invoice_view


def apply(invoice: Invoice, seen: Snapshot, at: datetime) -> tuple[Invoice, list[Event]]:
    return told(invoice.learn(seen, at), at)


def told(change: Change, at: datetime) -> tuple[Invoice, list[Event]]:
    return change.invoice, events_of(change, at)


def events_of(change: Change, at: datetime) -> list[Event]:
    """The facts of a change, each with the invoice as callers see it from now on."""
    if not change.facts:
        return []
    invoice = change.invoice
    data = msgspec.json.encode(invoice_view(invoice))
    return [Event(id=new_id("evt"), type=fact, invoice_id=invoice.id, at=at, data=data) for fact in change.facts]


def deposited(invoice: Invoice, deposit: Deposit, at: datetime) -> Event:
    """Money that came in, in its own asset, whatever it does to the invoice."""
    told = {"id": deposit.id, "amount": deposit.amount, "asset": deposit.asset}
    data = msgspec.json.encode({**invoice_view(invoice), "deposit": told})
    return Event(id=new_id("evt"), type="invoice.deposit", invoice_id=invoice.id, at=at, data=data)


def adopted(provider: str, seen: Snapshot, at: datetime) -> Invoice:
    """An invoice that was made elsewhere: listed and read like any other, silent until its next change."""
    shell = Invoice(
        id=new_id("inv"),
        provider=provider,
        status=Status.PENDING,
        created_at=seen.created_at or at,
        updated_at=at,
        reference=seen.reference,
        adopted=True,
        order_id=seen.order_id,
        description=seen.description,
    )
    return replace(shell.learn(seen, at).invoice, linked_reference=None, version=shell.version)
