"""A page of invoices: which are wanted, and the statement that finds them by an index."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    func,
    or_,
    select,
    tuple_,
    type_coerce,
)

from app.domain.invoice import Status
from app.storage.rows import (
    WHOLE,
    sifting,
)
from app.storage.tables import Instant, invoices


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to list; None is no matter. Times are compared in whole milliseconds, and neither end is included.

    `provider_invoice_id` may be either of the provider's ids; `after` is the (created_at, id) of the last one seen.
    """

    limit: int
    provider: str | None = None
    status: Status | None = None
    order_id: str | None = None
    provider_invoice_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    after: tuple[datetime, str] | None = None


NEWEST = (
    select(*WHOLE)
    .where(or_(invoices.c.asked_until.is_(None), invoices.c.asked_until <= bindparam("now")))
    .order_by(invoices.c.created_at.desc(), invoices.c.id.desc())
    .limit(bindparam("limit", type_=Integer))
)

EQUAL: Mapping[str, Sequence[ColumnElement[str]]] = {
    "provider_invoice_id": (invoices.c.reference, invoices.c.linked_reference),
    "order_id": (invoices.c.order_id,),
    "status": (invoices.c.status,),
    "provider": (invoices.c.provider,),
}
TELLING = ("provider_invoice_id", "order_id")

BETWEEN: Mapping[str, ColumnElement[bool]] = {
    "created_after": invoices.c.created_at > bindparam("created_after"),
    "created_before": invoices.c.created_at < bindparam("created_before"),
    "after": tuple_(invoices.c.created_at, invoices.c.id)
    < tuple_(bindparam("after_at", type_=Instant), bindparam("after_id", type_=Text)),
}

# Nobody is found by an e-mail address among more than the newest so many.
SEARCHED = 10_000
WILD = re.compile("[%_^]")
latest = select(invoices.c.id).order_by(invoices.c.created_at.desc(), invoices.c.id.desc()).limit(SEARCHED)
BY_EMAIL = NEWEST.where(
    invoices.c.id.in_(latest),
    func.lower(type_coerce(invoices.c.customer, Text)).like(bindparam("like", type_=Text), escape="^"),
)


@cache
def page_of(filters: frozenset[str]) -> Select[Any]:
    """What tells most finds, by its index, and the others sift; where nothing tells much, all find."""
    telling = next((name for name in TELLING if name in filters), None)
    page = NEWEST.where(*(BETWEEN[name] for name in BETWEEN if name in filters))
    for name in EQUAL:
        if name in filters:
            by = EQUAL[name] if telling in (name, None) else [sifting(column) for column in EQUAL[name]]
            page = page.where(or_(*(column == bindparam(name, type_=column.type) for column in by)))
    return page


def having_email(email: str) -> str:
    """The pattern of a customer, as JSON in small letters, who has this e-mail address."""
    field = f'"email":{msgspec.json.encode(email.lower()).decode()}'
    literal = WILD.sub(r"^\g<0>", field)
    return f"%{literal}%"
