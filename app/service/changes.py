"""The one way an invoice changes: what a provider says is taken in, and every fact of the change becomes an event."""

from datetime import datetime

from app.domain.invoice import Change, Event, Invoice, Snapshot, Status, new_id
from app.service.views import events_of


def apply(invoice: Invoice, seen: Snapshot, at: datetime) -> tuple[Invoice, list[Event]]:
    return told(invoice.learn(seen, at), at)


def told(change: Change, at: datetime) -> tuple[Invoice, list[Event]]:
    return change.invoice, events_of(change, at)


def adopted(provider: str, seen: Snapshot, at: datetime) -> Invoice:
    """An invoice that was made elsewhere: listed and read like any other, silent until its next change."""
    return Invoice(
        id=new_id("inv"),
        provider=provider,
        status=seen.status or Status.PENDING,
        created_at=seen.created_at or at,
        updated_at=at,
        reference=seen.reference,
        adopted=True,
        provider_status=seen.word,
        amount=seen.amount,
        amount_paid=seen.amount_paid,
        order_id=seen.order_id,
        description=seen.description,
        customer=seen.customer,
        checkout=seen.checkout,
        expires_at=seen.expires_at,
        completed_at=seen.completed_at,
        synced_at=at,
        raw=seen.raw,
    )
