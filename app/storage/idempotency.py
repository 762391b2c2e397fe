"""Idempotency keys: who has one, until when its call may run, and what was answered under it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from app.storage.tables import Instant, idempotency_keys

# How long a final answer is replayed.
KEPT_FOR = timedelta(hours=24)
SWEPT_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A caller's key. `fingerprint` is the SHA-256 of what was asked under it: the path and the canonical body."""

    caller: str
    value: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is kept under a key. Without an answer its call runs until `until`; past that it was cut off or doubtful."""

    fingerprint: bytes
    invoice_id: str
    until: datetime | None
    answer: bytes | None

    def running(self, now: datetime) -> bool:
        return self.answer is None and self.until is not None and self.until > now


KEPT = select(
    idempotency_keys.c.fingerprint,
    idempotency_keys.c.invoice_id,
    idempotency_keys.c.until,
    idempotency_keys.c.answer,
)
MINE = (
    idempotency_keys.c.caller == bindparam("whose"),
    idempotency_keys.c.value == bindparam("which"),
)
NOW = bindparam("now", type_=Instant)

FIND = KEPT.where(*MINE, or_(idempotency_keys.c.expires_at.is_(None), idempotency_keys.c.expires_at > NOW))
ADD = insert(idempotency_keys).on_conflict_do_nothing().returning(idempotency_keys.c.value)
FORGET_EXPIRED = delete(idempotency_keys).where(*MINE, idempotency_keys.c.expires_at <= NOW)
FORGET = delete(idempotency_keys).where(
    *MINE, idempotency_keys.c.invoice_id == bindparam("invoice"), idempotency_keys.c.answer.is_(None)
)
SETTLE = update(idempotency_keys).where(*MINE)
GO_ON = SETTLE.where(
    idempotency_keys.c.answer.is_(None), or_(idempotency_keys.c.until.is_(None), idempotency_keys.c.until <= NOW)
)
SWEEP = delete(idempotency_keys).where(
    idempotency_keys.c.id.in_(
        select(idempotency_keys.c.id).where(idempotency_keys.c.expires_at <= NOW).limit(SWEPT_AT_ONCE)
    )
)


def mine(key: IdempotencyKey) -> dict[str, object]:
    return {"whose": key.caller, "which": key.value}


def find(connection: Connection, key: IdempotencyKey, now: datetime) -> Kept | None:
    row = connection.execute(FIND, {**mine(key), "now": now}).one_or_none()
    return (
        None
        if row is None
        else Kept(fingerprint=row.fingerprint, invoice_id=row.invoice_id, until=row.until, answer=row.answer)
    )


def take(connection: Connection, key: IdempotencyKey, invoice_id: str, now: datetime, until: datetime) -> bool:
    """Whether the key was free and is now this call's."""
    connection.execute(FORGET_EXPIRED, {**mine(key), "now": now})
    row = {
        "caller": key.caller,
        "value": key.value,
        "fingerprint": key.fingerprint,
        "invoice_id": invoice_id,
        "until": until,
    }
    return connection.execute(ADD, row).one_or_none() is not None


def go_on(connection: Connection, key: IdempotencyKey, now: datetime, until: datetime) -> bool:
    """Whether a call that was cut off, or is in doubt, is now this one's to finish."""
    return connection.execute(GO_ON, {**mine(key), "now": now, "until": until}).rowcount == 1


def settle(connection: Connection, key: IdempotencyKey, now: datetime, answer: bytes) -> None:
    connection.execute(SETTLE, {**mine(key), "answer": answer, "until": None, "expires_at": now + KEPT_FOR})


def doubt(connection: Connection, key: IdempotencyKey) -> None:
    """Its call has ended without knowing what came of it: the next with this key goes on."""
    connection.execute(SETTLE, {**mine(key), "until": None})


def forget(connection: Connection, key: IdempotencyKey, invoice_id: str) -> None:
    """Nothing came of its call for this invoice; a call for another one that has the key by now keeps it."""
    connection.execute(FORGET, {**mine(key), "invoice": invoice_id})


def sweep(connection: Connection, now: datetime) -> int:
    """How many expired ones were forgotten, some hundred at most."""
    return connection.execute(SWEEP, {"now": now}).rowcount
