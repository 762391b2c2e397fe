"""Invoices, idempotency keys and events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_invoices()
    create_idempotency_keys()
    create_events()


def create_invoices() -> None:
    op.create_table(
        "invoices",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("reference", sa.Text()),
        sa.Column("linked_reference", sa.Text()),
        sa.Column("adopted", sa.Boolean(), nullable=False),
        sa.Column("mismatched", sa.Boolean(), nullable=False),
        sa.Column("provider_status", sa.Text()),
        sa.Column("amount", sa.Text()),
        sa.Column("currency", sa.Text()),
        sa.Column("amount_paid", sa.Text()),
        sa.Column("paid_currency", sa.Text()),
        sa.Column("order_id", sa.Text()),
        sa.Column("description", sa.Text()),
        sa.Column("customer", sa.Text()),
        sa.Column("items", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("checkout", sa.Text()),
        sa.Column("redirect_url", sa.Text()),
        sa.Column("redirect_button_title", sa.Text()),
        sa.Column("callback_url", sa.Text()),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("completed_at", sa.BigInteger()),
        sa.Column("synced_at", sa.BigInteger()),
        sa.Column("sent_at", sa.BigInteger()),
        sa.Column("asked_until", sa.BigInteger()),
        sa.Column("doubted_at", sa.BigInteger()),
        sa.Column("due_at", sa.BigInteger()),
        sa.Column("asks", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("taken_until", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_invoices"),
        sa.UniqueConstraint("reference", "provider", name="uq_invoices_reference_provider"),
        sa.UniqueConstraint("linked_reference", "provider", name="uq_invoices_linked_reference_provider"),
    )
    in_doubt = sa.text("reference IS NULL AND status = 'unknown'")
    op.create_index("ix_invoices_created_at_id", "invoices", ["created_at", "id"])
    op.create_index("ix_invoices_provider_created_at_id", "invoices", ["provider", "created_at", "id"])
    op.create_index("ix_invoices_status_created_at_id", "invoices", ["status", "created_at", "id"])
    op.create_index("ix_invoices_provider_status_created_at_id", "invoices", ["provider", "status", "created_at", "id"])
    op.create_index("ix_invoices_order_id_created_at_id", "invoices", ["order_id", "created_at", "id"])
    op.create_index(
        "ix_invoices_in_doubt",
        "invoices",
        ["provider", "created_at"],
        sqlite_where=in_doubt,
        postgresql_where=in_doubt,
    )

    due = sa.text("due_at IS NOT NULL")
    op.create_index("ix_invoices_due_at", "invoices", ["due_at"], sqlite_where=due, postgresql_where=due)


def create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger()),
        sa.Column("answer", sa.LargeBinary()),
        sa.Column("expires_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_idempotency_keys"),
        sa.UniqueConstraint("caller", "value", name="uq_idempotency_keys_caller_value"),
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"])


def create_events() -> None:
    op.create_table(
        "events",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_events"),
        sa.UniqueConstraint("id", name="uq_events_id"),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name="fk_events_invoice_id_invoices"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_invoice_id_position", "events", ["invoice_id", "position"])
