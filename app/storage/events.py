"""Every event is written with its delivery, in the transaction that makes it true."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from sqlalchemy import Connection, Text, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from app.domain.invoice import Event, Invoice, new_id
from app.storage.tables import deliveries, events, pending, receivers

ADD_EVENTS = insert(events).inline()
ADD = insert(deliveries).inline()
ADD_RECEIVER = insert(receivers).on_conflict_do_nothing()
# Held until we commit, so that it cannot end without seeing those that get in line behind it.
AHEAD = (
    select(deliveries.c.id)
    .where(deliveries.c.invoice_id == bindparam("invoice", type_=Text), pending)
    .order_by(deliveries.c.position)
    .limit(1)
    .with_for_update()
)
PORTS = {"http": ":80", "https": ":443"}


def tell(connection: Connection, invoice: Invoice, facts: Sequence[Event], webhook_url: str | None) -> None:
    """To where the invoice says, else to the configured receiver, else to nobody."""
    connection.execute(ADD_EVENTS, [event_columns(event) for event in facts])
    url = invoice.callback_url or webhook_url
    if url is not None:
        put(connection, invoice.id, facts, url)


def put(connection: Connection, invoice_id: str, facts: Sequence[Event], url: str) -> None:
    """On their way, in line behind what is still to be delivered of the same invoice."""
    receiver = origin(url)
    in_line = connection.execute(AHEAD, {"invoice": invoice_id}).first() is not None
    first = None if in_line else facts[0]
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
            "due_at": event.at if event is first else None,
            "created_at": event.at,
        }
        for event in facts
    ]
    connection.execute(ADD, rows)


def origin(url: str) -> str:
    """Scheme, host and port, however the address is spelt."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2].lower().removesuffix(PORTS.get(parts.scheme, ""))
    return f"{parts.scheme}://{place}"


def event_columns(event: Event) -> dict[str, object]:
    return {"id": event.id, "type": event.type, "invoice_id": event.invoice_id, "at": event.at, "data": event.data}
