"""SellApp stores (sell.app), spoken to over the v2 invoices API.

Documented: address, bearer key and X-STORE, each answer's wrapper, a checkout's 201 and 200, a free invoice completed
at once, mark-voided, `sort`, `limit`, an event's {event, data, store} and its `Signature`. SDK (official): the create's
body, the words, `payment_url` left out where nothing is owed, reads cached unless told otherwise, no idempotency.
Third-party receivers: the timestamped signature, its secret as plain bytes; what `order.*` carries is like an invoice.
Inferred: amounts are in minor units. Not found: the status after `expires_at` (we conclude `expired`), a reference or
redirect that an invoice could carry, 4xx bodies.
"""

import hmac
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from pydantic import Field, HttpUrl
from typing_extensions import override

from app import provider
from app.domain.errors import Complaint, Fault
from app.domain.invoice import Checkout, Customer, Invoice, Snapshot, Status
from app.domain.money import Money
from app.provider import (
    Answer,
    Flow,
    Notices,
    Notification,
    Order,
    Recovery,
    Secret,
    Secrets,
    Started,
    decoded,
    is_digest,
)

STATUSES: Mapping[str, Status] = {
    "PENDING": Status.PENDING,
    "REVIEW": Status.PROCESSING,
    "PARTIAL": Status.PARTIALLY_PAID,
    "PAID": Status.COMPLETED,
    "COMPLETED": Status.COMPLETED,
    "VOIDED": Status.CANCELED,
    "FAILED": Status.FAILED,
    "REFUNDED": Status.REFUNDED,
    "REVERSED": Status.REFUNDED,
    "DISPUTING": Status.DISPUTED,
}
MINOR_UNITS = re.compile(r"-?[0-9]{1,18}")
STAMP = re.compile("[0-9]{1,12}", re.ASCII)
VARIANT_ID = re.compile(r"[0-9]{1,18}")
ABOUT_INVOICES = ("order.", "invoice.")
TOLERANCE_SECONDS = 300
EXPIRY_IN_DOUBT = timedelta(hours=1)

Text = Annotated[str, Field(min_length=1, max_length=255)]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
Wrapped = dict[str, msgspec.Raw]
# fmt: off
Method = Literal[
    "AUTHNET", "BTCPAY", "CASHAPP", "COINBASE", "PADDLE", "PAYDASH", "PAYPAL", "PAYSTACK", "SQUARE", "STRIPE", "VENMO",
    "NMI", "MERCADO_PAGO", "MOLLIE", "RAZORPAY", "CUSTOM_PAYMENT_METHOD", "LIFI", "BTC", "LTC", "ETH", "XMR", "SOL",
    "ADA", "BNB", "TRX", "MATIC", "ETH_USDT", "ETH_USDC", "ETH_UNI", "ETH_SHIB", "ETH_DAI", "BNB_USDT", "BNB_USDC",
    "TRX_USDT", "TRX_USDC", "SOL_USDT", "SOL_USDC",
]
# fmt: on


class Total(msgspec.Struct):
    inclusive: str | int


class Price(msgspec.Struct):
    currency: str
    total: Total

    def money(self) -> Money:
        """Digits are minor units; anything else ("1999/100", "19.99") is not guessed at: ValueError."""
        if not MINOR_UNITS.fullmatch(units := str(self.total.inclusive)):
            raise ValueError("an amount must be digits, in minor units")
        return Money.of_minor(int(units), self.currency)


class Opened(msgspec.Struct):
    checkout_url: str | None = None


class Gateway(msgspec.Struct):
    """An object that is empty may be told as an empty array."""

    data: Opened | list[Any] | None = None


class Buyer(msgspec.Struct):
    email: str | None = None


class Payment(msgspec.Struct):
    full_price: Price
    expires_at: Instant | None = None
    gateway: Gateway | None = None


class Word(msgspec.Struct, rename="camel"):
    status: str
    set_at: Instant | None = None


class Now(msgspec.Struct):
    status: Word


class Sold(msgspec.Struct):
    id: int


class Seen(msgspec.Struct):
    id: int
    payment: Payment
    status: Now
    created_at: Instant | None = None
    checkout: str | None = None
    customer_information: Buyer | None = None
    product_variants: list[Sold] | None = None


class Session(msgspec.Struct):
    invoice: msgspec.Raw
    message: str | None = None
    payment_url: Annotated[str, msgspec.Meta(pattern="^https?://")] | None = None


class Told(msgspec.Struct):
    event: str
    data: msgspec.Raw


class Said(msgspec.Struct):
    message: str | None = None
    code: str | int | None = None
    type: str | None = None
    errors: dict[str, Any] | list[Any] | None = None


class Options(provider.Options):
    payment_method: Method | None = None
    coupon: Text | None = None
    country: Text | None = None
    vat_id: Text | None = None
    customer_ip: Text | None = None


class SellApp(provider.Provider):
    """One store. `payment_method` is what an invoice is paid with where its options name none."""

    create_recovery: ClassVar[Recovery] = "by_search"
    required: ClassVar[tuple[str, ...]] = ("customer.email", "items.variant_id")
    refund_looks: ClassVar[tuple[timedelta, ...]] = (timedelta(days=1), timedelta(days=7), timedelta(days=30))
    Options: ClassVar[type[provider.Options]] = Options
    example: ClassVar[Mapping[str, Any]] = {
        "customer": {"email": "a@example.org"},
        "items": [{"variant_id": "1001", "quantity": 1}],
        "order_id": "order-17",
    }

    base_url: HttpUrl = HttpUrl("https://sell.app/api")
    api_key: Secret
    store: Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$")]
    payment_method: Method | None = None
    webhook_secret: Secrets = ()

    @property
    def notices(self) -> Notices:
        return "signed" if self.webhook_secret else "none"

    def faults(self, order: Order) -> Iterator[Fault]:
        if not order.customer.email:
            yield Fault("/customer/email", "is required")
        if not order.items:
            yield Fault("/items", "must name at least one variant")
        for place, item in enumerate(order.items):
            if not VARIANT_ID.fullmatch(item.variant_id or ""):
                yield Fault(f"/items/{place}/variant_id", "must be digits" if item.variant_id else "is required")
        if "payment_method" not in self._choices(order):
            yield Fault("/provider_options/payment_method", "is required, since this provider has no default")

    def unsettled(self, invoice: Invoice) -> bool:
        """That it expired is our own conclusion, so it is asked about for another hour."""
        ended = invoice.expires_at if invoice.status is Status.EXPIRED else None
        return not invoice.finished or (ended is not None and self.clock() - ended < EXPIRY_IN_DOUBT)

    def create_invoice(self, order: Order) -> Flow[Snapshot]:
        """The price is the variants'; two items of one variant are added up."""
        quantities = Counter[str]()
        for item in order.items:
            quantities[str(int(item.variant_id or 0))] += item.quantity
        variants = {variant: {"quantity": quantity} for variant, quantity in quantities.items()}
        body = {"customer_email": order.customer.email, "product_variants": variants, **self._choices(order)}
        answer = yield self.call("POST", "/v2/invoices", json=body)
        return self._snapshot(answer.read(Wrapped)["data"])

    def find_invoice(self, order: Order) -> Flow[Sequence[Snapshot]]:
        """Nothing of ours is kept there: the newest of this e-mail with these variants."""
        query = {"limit": "100", "sort": "-created_at", "email": str(order.customer.email)}
        answer = yield self.call("GET", "/v2/invoices", query=query)
        found = msgspec.json.decode(answer.read(Wrapped)["data"], type=list[msgspec.Raw])
        wanted = {int(item.variant_id or 0) for item in order.items}
        seen = [self._snapshot(each) for each in found if variants(each) in (wanted, None)]
        return [each for each in seen if same_buyer(each, order) and order.may_be(each)]

    @override
    def start_checkout(self, invoice: Invoice, redirect_url: str | None) -> Flow[Started]:
        """Without a `payment_url` nothing is owed: it was free, or a wallet covered it. It must be completed then."""
        answer = yield self.call("POST", "/v2/invoices/{}/checkout", str(invoice.reference))
        session = answer.read(Session)
        seen = self._snapshot(session.invoice)
        if session.payment_url:
            checkout = Checkout(url=session.payment_url, expires_at=seen.expires_at)
            return Started(snapshot=replace(seen, checkout=checkout), message=session.message)
        if seen.status is not Status.COMPLETED:
            raise ValueError("there is nothing to pay, yet it is not paid")
        return Started(snapshot=seen, message=session.message)

    def fetch_invoice(self, invoice: Invoice) -> Flow[Snapshot]:
        answer = yield self.call("GET", "/v2/invoices/{}", str(invoice.reference))
        return self._snapshot(answer.read(Wrapped)["data"])

    def list_invoices(self) -> Flow[Sequence[Snapshot]]:
        answer = yield self.call("GET", "/v2/invoices", query={"limit": "100", "sort": "-created_at"})
        found = msgspec.json.decode(answer.read(Wrapped)["data"], type=list[msgspec.Raw])
        return [self._snapshot(each) for each in found]

    def cancel_invoice(self, invoice: Invoice) -> Flow[Snapshot]:
        answer = yield self.call("PATCH", "/v2/invoices/{}/mark-voided", str(invoice.reference), json={})
        return self._snapshot(answer.body)

    @override
    def auth(self, method: str, target: str, body: bytes | None) -> Mapping[str, str]:
        key = self.api_key.get_secret_value()
        return {"Authorization": f"Bearer {key}", "X-STORE": self.store, "Cache-Control": "no-cache"}

    @override
    def verify(self, headers: Mapping[str, str], body: bytes, at: datetime) -> bool:
        """`Signature` decides; the timestamped form, which only receivers speak of, where it is absent."""
        if "signature" in headers:
            return any(is_digest(headers["signature"], key, body, "sha256") for key in self.webhook_secret)
        return any(is_stamped(headers, key, body, at) for key in self.webhook_secret)

    @override
    def read_notification(self, headers: Mapping[str, str], body: bytes) -> Notification:
        """An event about an invoice has its number; any other says nothing to us. Told apart by what was signed."""
        told = decoded(body, Told)
        signed_id = "" if "signature" in headers else headers.get("webhook-id", "")
        digest = sha256(signed_id.encode(errors="replace") or body).digest()
        if not told.event.startswith(ABOUT_INVOICES):
            return Notification(digest=digest)
        return Notification(digest=digest, reference=str(decoded(told.data, Sold).id))

    def complaint(self, answer: Answer) -> Complaint:
        try:
            said = answer.read(Said)
        except (ValueError, RecursionError):
            return super().complaint(answer)
        code = said.code or said.type or next(iter(said.errors or ()), "")
        return Complaint(http_status=answer.status, code=str(code) or None, message=(said.message or "")[:300] or None)

    def _choices(self, order: Order) -> dict[str, Any]:
        chosen = order.options.model_dump(exclude_none=True) if order.options else {}
        return {"payment_method": self.payment_method, **chosen} if self.payment_method else chosen

    def _snapshot(self, raw: bytes | msgspec.Raw) -> Snapshot:
        seen = msgspec.json.decode(raw, type=Seen)
        payment, now = seen.payment, seen.status.status
        status = STATUSES.get(now.status)
        if status is Status.PENDING and payment.expires_at and payment.expires_at <= self.clock():
            status = Status.EXPIRED
        opened, buyer = payment.gateway and payment.gateway.data, seen.customer_information
        url = seen.checkout or (opened.checkout_url if isinstance(opened, Opened) else None)
        return Snapshot(
            reference=str(seen.id),
            status=status,
            word=now.status,
            amount=payment.full_price.money(),
            checkout=Checkout(url=url, expires_at=payment.expires_at) if url else None,
            customer=Customer(email=buyer.email) if buyer else None,
            created_at=seen.created_at,
            expires_at=payment.expires_at,
            completed_at=now.set_at if status is Status.COMPLETED else None,
            raw=bytes(raw),
        )


def variants(raw: msgspec.Raw) -> set[int] | None:
    """Which were sold; None where it is not told, as in older answers."""
    sold = msgspec.json.decode(raw, type=Seen).product_variants
    return None if sold is None else {each.id for each in sold}


def same_buyer(seen: Snapshot, order: Order) -> bool:
    email = seen.customer.email if seen.customer else None
    return (email or "").casefold() == (order.customer.email or "").casefold()


def is_stamped(headers: Mapping[str, str], key: Secret, body: bytes, at: datetime) -> bool:
    """As Standard Webhooks signs, but with the secret's plain bytes; too old or too new, it is a replay."""
    id, sent_at, given = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not id or not STAMP.fullmatch(sent_at) or abs(at.timestamp() - int(sent_at)) > TOLERANCE_SECONDS:
        return False
    message = f"{id}.{sent_at}.".encode(errors="replace") + body
    expected = b"v1," + b64encode(hmac.digest(key.get_secret_value().encode(), message, "sha256"))
    several = given.encode(errors="replace").split(b" ")
    return ", " not in given and any(hmac.compare_digest(each, expected) for each in several)
