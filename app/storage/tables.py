"""The schema, as SQLAlchemy Core tables and the types that turn our values into columns and back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    literal_column,
)
from typing_extensions import override

from app.domain.delivery import Attempt
from app.domain.invoice import Checkout, Customer, Item, Status
from app.domain.milliseconds import from_milliseconds, to_milliseconds

T = TypeVar("T")


class Instant(TypeDecorator[datetime]):
    """An aware datetime, kept as whole milliseconds since 1970; what is finer than that is cut off."""

    impl = BigInteger
    cache_ok = True

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_milliseconds(value)

    @override
    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else from_milliseconds(value)


class Word(TypeDecorator[Status]):
    impl = Text
    cache_ok = True

    @override
    def process_bind_param(self, value: Status | None, dialect: Dialect) -> str | None:
        return None if value is None else value.value

    @override
    def process_result_value(self, value: str | None, dialect: Dialect) -> Status | None:
        return None if value is None else Status(value)


class Json(TypeDecorator[T], Generic[T]):
    """A value of one type, kept as the text of its JSON."""

    impl = Text
    cache_ok = True

    def __init__(self, type: Any) -> None:
        super().__init__()
        self.type = type
        self._decoder = msgspec.json.Decoder(type)

    @override
    def process_bind_param(self, value: T | None, dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    @override
    def process_result_value(self, value: str | None, dialect: Dialect) -> T | None:
        return None if value is None else self._decoder.decode(value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

invoices = Table(
    "invoices",
    metadata,
    Column("id", Text, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("status", Word, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("reference", Text),
    Column("linked_reference", Text),
    Column("adopted", Boolean, nullable=False),
    Column("mismatched", Boolean, nullable=False),
    Column("provider_status", Text),
    Column("amount", Text),
    Column("currency", Text),
    Column("amount_paid", Text),
    Column("paid_currency", Text),
    Column("order_id", Text),
    Column("description", Text),
    Column("customer", Json[Customer](Customer)),
    Column("items", Json[tuple[Item, ...]](tuple[Item, ...]), nullable=False),
    Column("metadata", Json[Mapping[str, str]](dict[str, str]), nullable=False),
    Column("checkout", Json[Checkout](Checkout)),
    Column("redirect_url", Text),
    Column("redirect_button_title", Text),
    Column("callback_url", Text),
    Column("options", Json[Mapping[str, Any]](dict[str, Any]), nullable=False),
    Column("expires_at", Instant),
    Column("completed_at", Instant),
    Column("synced_at", Instant),
    Column("sent_at", Instant),
    Column("asked_until", Instant),
    Column("doubted_at", Instant),
    Column("due_at", Instant),
    Column("asks", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("taken_until", Instant),
    # The id comes first, so that it can be looked up without knowing whose it is.
    UniqueConstraint("reference", "provider"),
    UniqueConstraint("linked_reference", "provider"),
)

# What a create has left open or in doubt. SQLite uses the index only where a query repeats the very words.
in_doubt = invoices.c.reference.is_(None) & (invoices.c.status == literal_column("'unknown'"))

Index(None, invoices.c.created_at, invoices.c.id)
Index(None, invoices.c.provider, invoices.c.created_at, invoices.c.id)
Index(None, invoices.c.status, invoices.c.created_at, invoices.c.id)
Index(None, invoices.c.provider, invoices.c.status, invoices.c.created_at, invoices.c.id)
Index(None, invoices.c.order_id, invoices.c.created_at, invoices.c.id)
Index(
    "ix_invoices_in_doubt",
    invoices.c.provider,
    invoices.c.created_at,
    sqlite_where=in_doubt,
    postgresql_where=in_doubt,
)

due = invoices.c.due_at.is_not(None)
Index("ix_invoices_due_at", invoices.c.due_at, sqlite_where=due, postgresql_where=due)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("caller", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("invoice_id", Text, nullable=False),
    Column("until", Instant),
    Column("answer", LargeBinary),
    Column("expires_at", Instant),
    UniqueConstraint("caller", "value"),
    Index(None, "expires_at"),
)

events = Table(
    "events",
    metadata,
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("type", Text, nullable=False),
    Column("invoice_id", ForeignKey("invoices.id"), nullable=False),
    Column("at", Instant, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("number", BigInteger),
    Index(None, "invoice_id", "position"),
    Index(None, "invoice_id", "number"),
    Index(None, "type", "number"),
    sqlite_autoincrement=True,  # a position is never given twice, whatever has been deleted
)

Index("uq_events_number", events.c.number, unique=True)

unnumbered = events.c.number.is_(None)
Index("ix_events_unnumbered", events.c.position, sqlite_where=unnumbered, postgresql_where=unnumbered)

inbox = Table(
    "inbox",
    metadata,
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("provider", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("invoice_id", Text),
    Column("reference", Text),
    Column("body", LargeBinary, nullable=False),
    Column("signed", Boolean, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due_at", Instant),
    UniqueConstraint("provider", "digest"),
    Index(None, "invoice_id", "position"),
    Index(None, "received_at"),
)

unsettled = inbox.c.due_at.is_not(None)
Index("ix_inbox_due_at", inbox.c.due_at, sqlite_where=unsettled, postgresql_where=unsettled)

receivers = Table(
    "receivers",
    metadata,
    Column("receiver", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("failing_since", Instant),
    Column("paused", Boolean, nullable=False),
    Column("due_at", Instant),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("event_id", ForeignKey("events.id"), nullable=False),
    Column("invoice_id", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("receiver", ForeignKey("receivers.receiver"), nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Json[tuple[Attempt, ...]](tuple[Attempt, ...]), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due_at", Instant),
    Column("created_at", Instant, nullable=False),
    Index(None, "created_at", "id"),
    Index(None, "state", "created_at", "id"),
    Index(None, "invoice_id", "position"),
    sqlite_autoincrement=True,
)

pending = deliveries.c.state == literal_column("'pending'")
Index(
    "ix_deliveries_due",
    deliveries.c.receiver,
    deliveries.c.due_at,
    sqlite_where=pending,
    postgresql_where=pending,
)
Index(
    "ix_deliveries_line",
    deliveries.c.invoice_id,
    deliveries.c.position,
    sqlite_where=pending,
    postgresql_where=pending,
)

steps = Table(
    "steps",
    metadata,
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("invoice_id", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("kind", Text, nullable=False),
    Column("facts", Json[Mapping[str, Any]](dict[str, Any]), nullable=False),
    Index(None, "invoice_id", "position"),
    Index(None, "at"),
)

pauses = Table(
    "pauses",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("since", Instant, nullable=False),
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
)
