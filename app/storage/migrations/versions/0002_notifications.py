"""Notifications in, events out: the inbox, the order of the feed, deliveries and their receivers."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
PENDING = sa.text("state = 'pending'")


def upgrade() -> None:
    number_events()
    create_inbox()
    create_receivers()
    create_deliveries()


def number_events() -> None:
    """Those that are there were committed in the order of their positions, as far as anybody can still tell."""
    op.add_column("events", sa.Column("number", sa.BigInteger()))
    op.execute("UPDATE events SET number = position")
    op.create_index("uq_events_number", "events", ["number"], unique=True)
    op.create_index("ix_events_invoice_id_number", "events", ["invoice_id", "number"])
    op.create_index("ix_events_type_number", "events", ["type", "number"])
    unnumbered = sa.text("number IS NULL")
    op.create_index(
        "ix_events_unnumbered", "events", ["position"], sqlite_where=unnumbered, postgresql_where=unnumbered
    )


def create_inbox() -> None:
    op.create_table(
        "inbox",
        sa.Column("position", POSITION, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("invoice_id", sa.Text()),
        sa.Column("reference", sa.Text()),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("signed", sa.Boolean(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("position", name="pk_inbox"),
        sa.UniqueConstraint("provider", "digest", name="uq_inbox_provider_digest"),
    )
    due = sa.text("due_at IS NOT NULL")
    op.create_index("ix_inbox_invoice_id_position", "inbox", ["invoice_id", "position"])
    op.create_index("ix_inbox_received_at", "inbox", ["received_at"])
    op.create_index("ix_inbox_due_at", "inbox", ["due_at"], sqlite_where=due, postgresql_where=due)


def create_receivers() -> None:
    op.create_table(
        "receivers",
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", sa.BigInteger()),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("due_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("receiver", name="pk_receivers"),
    )


def create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("position", POSITION, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_deliveries"),
        sa.UniqueConstraint("id", name="uq_deliveries_id"),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name="fk_deliveries_event_id_events"),
        sa.ForeignKeyConstraint(["receiver"], ["receivers.receiver"], name="fk_deliveries_receiver_receivers"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_deliveries_created_at_id", "deliveries", ["created_at", "id"])
    op.create_index("ix_deliveries_state_created_at_id", "deliveries", ["state", "created_at", "id"])
    op.create_index("ix_deliveries_invoice_id_position", "deliveries", ["invoice_id", "position"])
    op.create_index(
        "ix_deliveries_due", "deliveries", ["receiver", "due_at"], sqlite_where=PENDING, postgresql_where=PENDING
    )
    op.create_index(
        "ix_deliveries_line",
        "deliveries",
        ["invoice_id", "position"],
        sqlite_where=PENDING,
        postgresql_where=PENDING,
    )
