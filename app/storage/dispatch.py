"""Every event is written with its delivery, in the transaction that makes it true."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from app.domain.invoice import Event, Invoice, new_id
from app.storage.tables import deliveries, events, receivers

ADD_EVENTS = insert(events).inline()
ADD = insert(deliveries).inline()
ADD_RECEIVER = insert(receivers).on_conflict_do_nothing()


def tell(connection: Connection, invoice: Invoice, facts: Sequence[Event], webhook_url: str | None) -> None:
    """To where the invoice says, else to the configured receiver, else to nobody."""
    connection.execute(ADD_EVENTS, [event_columns(event) for event in facts])
    url = invoice.callback_url or webhook_url
    if url is not None:
        put(connection, facts, url)


def put(connection: Connection, facts: Sequence[Event], url: str) -> None:
    receiver = origin(url)
    connection.execute(ADD_RECEIVER, {"receiver": receiver, "failures": 0, "paused": False})
    rows = [
        {
            "id": new_id("dlv"),
            "event_id": event.id,
            "invoice_id": event.invoice_id,
            "url": url,
            "receiver": receiver,
            "state": "pending",
            "attempts": (),
            "tries": 0,
            "due_at": event.at,
            "created_at": event.at,
        }
        for event in facts
    ]
    connection.execute(ADD, rows)


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def event_columns(event: Event) -> dict[str, object]:
    return {"id": event.id, "type": event.type, "invoice_id": event.invoice_id, "at": event.at, "data": event.data}
