"""An invoice, its statuses, and the only moves it may make between them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Context, Decimal
from enum import StrEnum
from typing import Any, Literal, Self

from typeid import TypeID

from app.domain.money import Money


def id_pattern(prefix: str) -> re.Pattern[str]:
    """The form of an id that `new_id` makes."""
    return re.compile(rf"{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}", re.ASCII)


ID = id_pattern("inv")
PAGE = re.compile(r"https?://[^\s\x00-\x1f\x7f]+", re.IGNORECASE)

# Before the point or after it, in what providers tell of money.
MOST_DIGITS = 18
# As many digits of an amount that came in are told, and arithmetic keeps.
MOST_TOLD = 27
EXACT = Context(prec=1000)


class Status(StrEnum):
    UNKNOWN = "unknown"
    PENDING = "pending"
    PROCESSING = "processing"
    PARTIALLY_PAID = "partially_paid"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELED = "canceled"
    FAILED = "failed"
    REFUNDED = "refunded"
    DISPUTED = "disputed"


FINISHED = frozenset({Status.COMPLETED, Status.EXPIRED, Status.CANCELED, Status.FAILED, Status.REFUNDED})
PAID = frozenset({Status.COMPLETED, Status.DISPUTED})

AFTER_MONEY = frozenset({Status.REFUNDED, Status.DISPUTED})
ENDS = frozenset({Status.COMPLETED, Status.EXPIRED, Status.CANCELED, Status.FAILED}) | AFTER_MONEY
UNPAID_ENDS = frozenset({Status.EXPIRED, Status.CANCELED, Status.FAILED})
LATE_MONEY = frozenset({Status.COMPLETED}) | AFTER_MONEY

# A move that is not listed is no error but an echo: providers repeat themselves and speak out of order.
MOVES: Mapping[Status, frozenset[Status]] = {
    Status.UNKNOWN: frozenset({Status.PENDING, Status.PROCESSING, Status.PARTIALLY_PAID}) | ENDS,
    Status.PENDING: frozenset({Status.PROCESSING, Status.PARTIALLY_PAID}) | ENDS,
    Status.PROCESSING: frozenset({Status.PARTIALLY_PAID}) | ENDS,
    Status.PARTIALLY_PAID: ENDS,
    Status.EXPIRED: LATE_MONEY,
    Status.CANCELED: LATE_MONEY,
    Status.FAILED: LATE_MONEY,
    Status.COMPLETED: AFTER_MONEY,
    Status.DISPUTED: frozenset({Status.REFUNDED}),
    Status.REFUNDED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    email: str | None = None
    name: str | None = None
    phone: str | None = None
    country: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    description: str | None = None
    quantity: int = 1
    unit_amount: str | None = None
    variant_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """Where the shopper pays: a hosted page, a Lightning invoice, a Bitcoin address. No URL but a page's is kept."""

    url: str | None = None
    lightning: str | None = None
    bitcoin_address: str | None = None
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        to_the_millisecond(self, "expires_at")
        if self.url is not None and not PAGE.fullmatch(self.url):
            object.__setattr__(self, "url", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """Money that came in toward an invoice, in its own asset; `amount` is a decimal text in major units."""

    id: str
    amount: str
    asset: str

    @classmethod
    def of(cls, id: str, amount: Decimal, asset: str) -> Self:
        """In the scale of its asset, where that is known; ValueError where no such amount can have come in."""
        if not amount.is_finite() or amount <= 0 or abs(amount.adjusted()) > MOST_DIGITS:
            raise ValueError("an amount that came in must be a sum of money")
        money = Money.of(amount, asset)
        if money.amount != amount or len(amount.normalize(EXACT).as_tuple().digits) > MOST_TOLD:
            raise ValueError("an amount that came in must have no more digits than can be told")
        return cls(id=id, amount=money.text, asset=asset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a provider says about an invoice at one moment, in our words; None is what it does not tell."""

    reference: str
    status: Status | None
    word: str | None = None
    our_id: str | None = None
    linked_reference: str | None = None
    amount: Money | None = None
    amount_paid: Money | None = None
    checkout: Checkout | None = None
    order_id: str | None = None
    description: str | None = None
    customer: Customer | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    completed_at: datetime | None = None
    deposits: tuple[Deposit, ...] = ()
    raw: bytes = b""

    def __post_init__(self) -> None:
        to_the_millisecond(self, "created_at", "expires_at", "completed_at")


def to_the_millisecond(value: object, *names: str) -> None:
    """Times are told, kept and compared in milliseconds; what a provider says beyond that is no news each time."""
    for name in names:
        at = getattr(value, name)
        if at is not None and at.microsecond % 1000:
            object.__setattr__(value, name, at.replace(microsecond=at.microsecond // 1000 * 1000))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An invoice as it is from now on, and the facts that made it so; none: callers see no change."""

    invoice: "Invoice"
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """What is owed, created at exactly one provider.

    `reference` is the id that the provider's create gave, `linked_reference` the id of the payment that grew out of it
    where the provider has two. `adopted`: it was made elsewhere and found at the provider. `mismatched`: the provider
    has it, but invoices something else than was asked. `options` are the caller's provider_options. `raw` is the
    provider's last answer.

    Of its create: `sent_at` is when it was last sent, `asked_until` is set while it is under way, `doubted_at` when its
    outcome was found to be doubtful. `due_at` is when to ask about it next if nobody tells, `asks` how often that was.
    """

    id: str
    provider: str
    status: Status
    created_at: datetime
    updated_at: datetime
    reference: str | None = None
    linked_reference: str | None = None
    adopted: bool = False
    mismatched: bool = False
    provider_status: str | None = None
    amount: Money | None = None
    amount_paid: Money | None = None
    order_id: str | None = None
    description: str | None = None
    customer: Customer | None = None
    items: tuple[Item, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    checkout: Checkout | None = None
    redirect_url: str | None = None
    redirect_button_title: str | None = None
    callback_url: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    expires_at: datetime | None = None
    completed_at: datetime | None = None
    synced_at: datetime | None = None
    sent_at: datetime | None = None
    asked_until: datetime | None = None
    doubted_at: datetime | None = None
    due_at: datetime | None = None
    asks: int = 0
    version: int = 1
    raw: bytes = b""

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @property
    def paid(self) -> bool:
        return self.status in PAID

    @property
    def ended(self) -> bool:
        """It is finished; or it was paid, which is disputed."""
        return self.status in ENDS

    @property
    def changeable(self) -> bool:
        """Whether it may still be paid or canceled: it has not ended, and is what was asked for."""
        return not (self.ended or self.mismatched)

    @property
    def in_doubt(self) -> bool:
        """It is not known whether the provider created it."""
        return self.status is Status.UNKNOWN and self.reference is None

    def looks_like(self, other: "Invoice") -> bool:
        """Nothing that a provider could tell them apart by differs."""
        return asked_of(self) == asked_of(other)

    def contradicts(self, seen: Snapshot) -> bool:
        return None not in (self.amount, seen.amount) and self.amount != seen.amount

    def learn(self, seen: Snapshot, at: datetime) -> Change:
        """Take in what the provider says: a step along MOVES, news within a status, or an echo that changes nothing."""
        if self.contradicts(seen):
            return self._doubt(seen, at)
        late = seen.status is not None and seen.status != self.status and seen.status not in MOVES[self.status]
        if late or (self.mismatched and seen.amount is None and seen.status not in UNPAID_ENDS):
            return Change(invoice=replace(self, reference=self.reference or seen.reference, synced_at=at))
        status = seen.status or (Status.PENDING if self.status is Status.UNKNOWN else self.status)
        return self._changed(self._told(seen, status, at), at)

    def doubted(self, at: datetime) -> Change:
        """No usable answer came to its create."""
        if not self.in_doubt or self.doubted_at is not None:
            return Change(invoice=replace(self, asked_until=None))
        doubted = replace(self, asked_until=None, doubted_at=at, updated_at=at)
        return Change(invoice=doubted, facts=("invoice.unknown",))

    def abandoned(self, at: datetime) -> Change:
        """It is certain that the provider did not create it, or that what it created is not to be paid."""
        if self.status is not Status.UNKNOWN:
            return Change(invoice=self)
        return self._changed(replace(self, status=Status.FAILED, asked_until=None), at)

    def returning(self, redirect_url: str | None, at: datetime) -> Change:
        """The shopper is to return to another address than was given before."""
        return self._changed(replace(self, redirect_url=redirect_url), at)

    def _doubt(self, seen: Snapshot, at: datetime) -> Change:
        if self.ended:
            return Change(invoice=replace(self, synced_at=at))
        doubted = replace(
            self,
            status=Status.UNKNOWN,
            mismatched=True,
            reference=self.reference or seen.reference,
            provider_status=seen.word or self.provider_status,
            checkout=None,
            synced_at=at,
            asked_until=None,
            raw=seen.raw,
        )
        return self._changed(doubted, at)

    def _told(self, seen: Snapshot, status: Status, at: datetime) -> Self:
        completed_at = (seen.completed_at or at) if status is Status.COMPLETED else None
        return replace(
            self,
            status=status,
            reference=self.reference or seen.reference,
            linked_reference=seen.linked_reference or self.linked_reference,
            mismatched=self.mismatched and seen.amount is None,
            provider_status=seen.word or self.provider_status,
            amount=self.amount or seen.amount,
            amount_paid=self._paid_so_far(seen, status),
            checkout=merged(self.checkout, seen.checkout),
            customer=self.customer or seen.customer,
            expires_at=seen.expires_at or self.expires_at,
            completed_at=self.completed_at or completed_at,
            synced_at=at,
            asked_until=None,
            raw=seen.raw or self.raw,
        )

    def _paid_so_far(self, seen: Snapshot, status: Status) -> Money | None:
        """In the invoice's currency only; a completed one was paid in full unless the provider says otherwise."""
        amount = self.amount or seen.amount
        if seen.amount_paid and amount and seen.amount_paid.currency == amount.currency:
            return seen.amount_paid
        return self.amount_paid or (amount if status is Status.COMPLETED else None)

    def _changed(self, now: Self, at: datetime) -> Change:
        facts = tuple(self._facts(now))
        if not facts:
            return Change(invoice=now)
        return Change(invoice=replace(now, version=self.version + 1, updated_at=at), facts=facts)

    def _facts(self, now: Self) -> list[str]:
        facts = ["invoice.created"] if self.reference is None and now.reference is not None else []
        if now.status != self.status and now.status is not Status.PENDING:
            return [*facts, f"invoice.{now.status}"]
        if now.status is Status.UNKNOWN and facts:
            return [*facts, "invoice.unknown"]
        return facts or (["invoice.updated"] if self._visible() != now._visible() else [])

    def _visible(self) -> tuple[object, ...]:
        return (
            self.status,
            self.provider_status,
            self.amount,
            self.amount_paid,
            self.checkout,
            self.customer,
            self.redirect_url,
            self.expires_at,
            self.completed_at,
        )


def asked_of(invoice: Invoice) -> tuple[object, ...]:
    return (
        invoice.provider,
        invoice.amount,
        invoice.order_id,
        invoice.description,
        invoice.customer,
        invoice.items,
    )


def merged(known: Checkout | None, seen: Checkout | None) -> Checkout | None:
    """A later answer adds to what is known of a checkout and takes nothing away."""
    if known is None or seen is None:
        return seen or known
    return Checkout(
        url=seen.url or known.url,
        lightning=seen.lightning or known.lightning,
        bitcoin_address=seen.bitcoin_address or known.bitcoin_address,
        expires_at=seen.expires_at or known.expires_at,
    )


EventType = Literal[
    "invoice.created",
    "invoice.updated",
    "invoice.processing",
    "invoice.partially_paid",
    "invoice.completed",
    "invoice.expired",
    "invoice.canceled",
    "invoice.failed",
    "invoice.refunded",
    "invoice.disputed",
    "invoice.deposit",
    "invoice.unknown",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact about an invoice, written once; `data` is the invoice as callers saw it then, in JSON."""

    id: str
    type: str
    invoice_id: str
    at: datetime
    data: bytes


def new_id(prefix: str) -> str:
    """A TypeID: sorts by the time it was made."""
    return str(TypeID(prefix))
