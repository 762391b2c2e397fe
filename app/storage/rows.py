"""An invoice as a row and back, and how a changed one is written with its events."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Row,
    Text,
    bindparam,
    delete,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from app.domain.invoice import Event, Invoice
from app.domain.money import Money
from app.storage.events import tell
from app.storage.tables import deliveries, events, inbox, invoices, steps

Decided: TypeAlias = tuple[Invoice, Sequence[Event]]

# Money is one field in two columns; every other field is the column of its name.
CURRENCIES = {"amount": "currency", "amount_paid": "paid_currency"}
FIELDS = tuple(field.name for field in fields(Invoice))
COLUMNS = tuple(column.name for column in invoices.columns if column.name != "taken_until")
WHOLE = tuple(invoices.c[name] for name in COLUMNS)


class ReferenceTaken(Exception):
    """The provider's id is another invoice's already."""

    def __init__(self, invoice: Invoice) -> None:
        super().__init__(f"{invoice.provider} has another invoice under an id of {invoice.id}")


def sifting(column: ColumnElement[str]) -> ColumnElement[str]:
    """The column, of which no index is thought: SQLite, which keeps no statistics, takes any for a good one."""
    return column.concat(literal_column("''"))


KEY = bindparam("key", type_=Text)
PROVIDER = bindparam("provider", type_=Text)
FIRST, SECOND = bindparam("first", type_=Text), bindparam("second", type_=Text)
REFERENCES = bindparam("references", type_=Text, expanding=True)
rivals = invoices.alias("rivals")
ADD = insert(invoices).inline()
CHANGE = update(invoices).where(invoices.c.id == KEY)
REMOVE = delete(invoices).where(invoices.c.id == KEY)

RIVALS = select(rivals.c.id, rivals.c.adopted).where(
    sifting(rivals.c.provider) == bindparam("whose", type_=Text),
    rivals.c.id != KEY,
    or_(*(column.in_((FIRST, SECOND)) for column in (rivals.c.reference, rivals.c.linked_reference))),
)
CHANGE_IF_FREE = CHANGE.where(~RIVALS.exists())
HAND_OVER = [
    update(table).where(table.c.invoice_id == bindparam("rival")).values(invoice_id=KEY)
    for table in (events, deliveries, inbox, steps)
]


def run(connection: Connection, statement: Executable, values: Mapping[str, Any]) -> None:
    connection.execute(statement, values)


def invoices_of(connection: Connection, statement: Executable, values: Mapping[str, Any]) -> list[Invoice]:
    return [invoice_of(row) for row in connection.execute(statement, values)]


def write(connection: Connection, before: Invoice, decided: Decided, webhook_url: str | None) -> Invoice:
    """Only what has changed, and the events of it on their way."""
    invoice, facts = decided
    values = columns(invoice, [name for name in FIELDS if getattr(invoice, name) != getattr(before, name)])
    if "reference" in values or "linked_reference" in values:
        take_reference(connection, invoice, values)
    elif values:
        connection.execute(CHANGE, {"key": invoice.id, **values})
    if facts:
        tell(connection, invoice, facts, webhook_url)
    return invoice


def take_reference(connection: Connection, invoice: Invoice, values: Mapping[str, Any]) -> None:
    """Change what now has the provider's id, even if that was adopted before. ReferenceTaken, if it was not adopted."""
    key = {"key": invoice.id}
    owner = {**key, "whose": invoice.provider, "first": invoice.reference, "second": invoice.linked_reference}
    try:
        if connection.execute(CHANGE_IF_FREE, {**owner, **values}).rowcount == 0:
            absorb(connection, invoice, connection.execute(RIVALS, owner).all())
            connection.execute(CHANGE, {**key, **values})
    except IntegrityError as error:
        raise ReferenceTaken(invoice) from error


def absorb(connection: Connection, invoice: Invoice, rivals: Sequence[Row[str, bool]]) -> None:
    if not all(adopted for _, adopted in rivals):
        raise ReferenceTaken(invoice)
    for rival, _ in rivals:
        for statement in HAND_OVER:
            connection.execute(statement, {"rival": rival, "key": invoice.id})
        connection.execute(REMOVE, {"key": rival})


def columns(invoice: Invoice, names: Iterable[str] = FIELDS) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in names:
        value = getattr(invoice, name)
        if name in CURRENCIES:
            values[name], values[CURRENCIES[name]] = (value.text, value.currency) if value else (None, None)
        else:
            values[name] = value
    return values


def invoice_of(row: Iterable[Any]) -> Invoice:
    values = dict(zip(COLUMNS, row, strict=True))
    for name, column in CURRENCIES.items():
        currency = values.pop(column)
        values[name] = Money(Decimal(values[name]), currency) if currency else None
    return Invoice(**values)
