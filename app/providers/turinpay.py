"""TurinPay (turinpay.com), spoken to over its REST API: intents out, Lightning invoices back.

Documented: address and X-API-Key, POST /intents, GET /invoice (the whole list, no paging), GET /invoices/{id}, the
invoice's fields, {message} of a failure, `ln` left out above 4 294 967 sat, CONFIRMED, PAID. Inferred: an id is the
payment hash, a list is an array, every other word. SDK (its button): the page of an intent. Not found: an amount or an
order id on an invoice, any signature, a notification's body (the later API's is documented in part), whether answers
are wrapped in `data`: both forms are read.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Any, ClassVar, cast
from urllib.parse import quote

import msgspec
from pydantic import Field, HttpUrl
from typing_extensions import override

from app.domain.errors import Complaint, Fault
from app.domain.invoice import ID, Checkout, Invoice, Snapshot, Status, merged
from app.domain.money import Money
from app.provider import (
    WHOLE_LIST,
    Answer,
    Flow,
    Notices,
    Notification,
    Order,
    Provider,
    Recovery,
    Secret,
    Started,
    decoded,
)

STATUSES: Mapping[str, Status] = {
    "PENDING": Status.PENDING,
    "CONFIRMED": Status.COMPLETED,
    "PAID": Status.COMPLETED,
    "EXPIRED": Status.EXPIRED,
}
PAYMENT_HASH = re.compile(r"[0-9a-f]{64}")
BOLT11 = re.compile(r"lnbc([0-9]+)([munp]?)1[02-9ac-hj-np-z]+")
Wire = list[msgspec.Raw] | dict[str, msgspec.Raw]
SCALES = {"": 0, "m": -3, "u": -6, "n": -9, "p": -12}
LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Intent(msgspec.Struct, rename="camel"):
    checkout_id: Annotated[str, msgspec.Meta(min_length=1)]


class Ways(msgspec.Struct):
    url: str | None = None
    ln: str | None = None
    btc: str | None = None


class Seen(msgspec.Struct, rename="camel"):
    id: str
    status: str
    checkout: Ways | None = None
    description: str | None = None
    callback_url: str | None = None
    created_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class Said(msgspec.Struct):
    message: str = ""


class TurinPay(Provider):
    """One user's key. `checkout_url` is where the page of an intent is, with {checkout_id} for its id."""

    currencies: ClassVar[tuple[str, ...] | None] = ("EUR", "USD")
    create_recovery: ClassVar[Recovery] = "safe_to_repeat"
    required: ClassVar[tuple[str, ...]] = ("amount", "currency")
    list_every: ClassVar[int] = 30
    example: ClassVar[Mapping[str, Any]] = {"amount": "23.00", "currency": "EUR", "order_id": "order-17"}

    base_url: HttpUrl = HttpUrl("https://api.turinpay.com")
    api_key: Secret
    checkout_url: Annotated[str, Field(pattern=r"^https?://[^\s{]+\{checkout_id\}[^\s{]*$")] = (
        "https://app.turinpay.com/checkout/{checkout_id}"
    )

    @property
    def notices(self) -> Notices:
        return "token"

    def faults(self, order: Order) -> Iterator[Fault]:
        if order.amount is None:
            yield Fault("/amount", "is required")
            return
        if order.amount.currency not in ("EUR", "USD"):
            yield Fault("/currency", "must be EUR or USD")
        if order.amount.amount <= 0:
            yield Fault("/amount", "must be more than 0")

    def create_invoice(self, order: Order) -> Flow[Snapshot]:
        """An intent; the invoice grows out of it when a shopper opens its page. The price is a JSON number, exactly."""
        amount = cast("Money", order.amount)
        body = {
            "notificationUrl": order.notification_url,
            "orderId": order.id,
            "currency": amount.currency,
            "price": msgspec.Raw(amount.text.encode()),
        }
        answer = yield self.call("POST", "/intents", json=body)
        raw = unwrapped(answer.body)
        intent = msgspec.json.decode(raw, type=Intent).checkout_id
        return Snapshot(reference=intent, status=Status.PENDING, checkout=self._page(intent), raw=raw)

    def find_invoice(self, order: Order) -> Flow[Sequence[Snapshot]]:
        """A payment that grew out of its intent. An intent that nobody opened cannot be seen, and has no payer."""
        found = yield from self.list_invoices()
        return [each for each in found if each.our_id == order.id]

    @override
    def start_checkout(self, invoice: Invoice, redirect_url: str | None) -> Flow[Started]:
        """Where the invoice is paid, once there is one; until then the page of its intent."""
        seen = yield from self.fetch_invoice(invoice)
        return Started(snapshot=replace(seen, checkout=merged(self._page(seen.reference), seen.checkout)))

    def fetch_invoice(self, invoice: Invoice) -> Flow[Snapshot]:
        """The payment where we know which, else the one in the list that names us; an intent itself cannot be read."""
        reference = str(invoice.reference)
        payment = invoice.linked_reference or (reference if PAYMENT_HASH.fullmatch(reference) else None)
        if payment is None:
            found = yield from self.list_invoices()
            seen = next((each for each in found if each.our_id == invoice.id), None)
        else:
            answer = yield self.call("GET", "/invoices/{}", payment)
            seen = self._snapshot(unwrapped(answer.body))
        if seen is None:
            return Snapshot(reference=reference, status=Status.PENDING)
        linked = seen.reference if seen.reference != reference else None
        return replace(
            seen, reference=reference, linked_reference=linked, amount=seen.amount if invoice.adopted else None
        )

    def list_invoices(self) -> Flow[Sequence[Snapshot]]:
        """Of several payments of one intent the paid one, else the newest."""
        answer = yield self.call("GET", "/invoice", cap=WHOLE_LIST)
        raw = unwrapped(answer.body)
        found = msgspec.json.decode(raw, type=Wire)
        seen = [self._snapshot(each) for each in (found if isinstance(found, list) else [raw])]
        seen.sort(key=lambda each: (each.status is Status.COMPLETED, created(each)))
        one_each = {each.our_id or each.reference: each for each in seen}
        return sorted(one_each.values(), key=created, reverse=True)

    @override
    def auth(self, method: str, target: str, body: bytes | None) -> Mapping[str, str]:
        return {"X-API-Key": self.api_key.get_secret_value()}

    @override
    def read_notification(self, headers: Mapping[str, str], body: bytes) -> Notification:
        """An invoice, or the later API's body; nothing in it is needed, as the address that it came to names ours."""
        told = decoded(body, dict[str, Any])
        ours = self._our_id(str(told.get("callbackUrl", "")))
        return Notification(digest=sha256(body).digest(), reference=payment_hash(told), our_id=ours)

    def complaint(self, answer: Answer) -> Complaint:
        try:
            return Complaint(http_status=answer.status, message=answer.read(Said).message[:300] or None)
        except (ValueError, RecursionError):
            return super().complaint(answer)

    def _page(self, intent: str) -> Checkout:
        return Checkout(url=self.checkout_url.replace("{checkout_id}", quote(intent, safe="")))

    def _snapshot(self, raw: bytes | msgspec.Raw) -> Snapshot:
        """One payment; one of ours tells no amount, since it is in BTC and ours in EUR or USD."""
        seen = msgspec.json.decode(raw, type=Seen)
        ways, ours = seen.checkout or Ways(), self._our_id(seen.callback_url or "")
        return Snapshot(
            reference=seen.id,
            linked_reference=seen.id if ours else None,
            our_id=ours,
            status=STATUSES.get(seen.status),
            word=seen.status,
            amount=None if ours else bolt11_amount(ways.ln or ""),
            checkout=Checkout(url=ways.url, lightning=ways.ln, bitcoin_address=ways.btc) if seen.checkout else None,
            description=seen.description,
            created_at=seen.created_at,
            raw=bytes(raw),
        )

    def _our_id(self, callback_url: str) -> str | None:
        """The id that a notification address of ours ends with; None in any other address."""
        match callback_url.partition("?")[0].rsplit("/", 3):
            case [_, "webhooks", self.name, id] if ID.fullmatch(id):
                return id
        return None


def bolt11_amount(invoice: str) -> Money | None:
    """What a Lightning invoice asks for, exactly, parts of a satoshi included; None where it names no amount in BTC.

    `lnbc`, digits, a multiplier (milli, micro, nano, pico), `1`, data without a `1`: lnbc11120n1… asks for 1112 sat.
    """
    found = BOLT11.fullmatch(invoice.lower())
    return Money.of(Decimal(found[1]).scaleb(SCALES[found[2]]), "BTC") if found else None


def payment_hash(told: Mapping[str, Any]) -> str | None:
    """The payment that a notification is about, where it says so by an id that can be read back."""
    match told:
        case {"id": str(id)} | {"invoice": {"_id": str(id)}} if PAYMENT_HASH.fullmatch(id):
            return id
    return None


def unwrapped(body: bytes) -> bytes:
    """What is in `data`, or the whole where nothing is."""
    found = msgspec.json.decode(body, type=Wire)
    return bytes(found["data"]) if isinstance(found, dict) and "data" in found else body


def created(seen: Snapshot) -> datetime:
    return seen.created_at or LONG_AGO
