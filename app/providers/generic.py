"""The generic provider, which speaks the KUNA Pay protocol (kunapay.io).

Documented: address, plain key mode, the create's fields, the routes, what is appended to the redirect address, a
callback's {event, data}, InvoiceDeposit, Withdraw, and `kun-signature` of the body with the private key. SDK
(third-party, Go): signed mode, the shapes of answers, the words, {errors}, `invoiceId` of a transaction. Inferred: what
the words mean, GET for the questionnaire, fiat assets, that callbacks are signed as requests are. Not found: a sort
direction (`orderBy` has none, so the first page need not be the newest), totals, cancelling, the link in any answer but
the create's, the event of a new status, the shape of a question: an object with a name and a bare name are both read.
"""

import hmac
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from hashlib import sha256, sha384
from typing import Annotated, Any, ClassVar, cast

import msgspec
from pydantic import Field, HttpUrl, SecretStr, StrictBool, model_validator
from typing_extensions import override

from app import provider
from app.domain.errors import CheckoutUnavailable, Complaint, Fault
from app.domain.invoice import ID, Checkout, Deposit, Invoice, Snapshot, Status
from app.domain.milliseconds import to_milliseconds
from app.domain.money import Money, total
from app.provider import (
    Answer,
    Asset,
    Flow,
    Notices,
    Notification,
    Order,
    Recovery,
    Redirect,
    Secret,
    Secrets,
    Started,
    decoded,
    is_digest,
)

STATUSES: Mapping[str, Status] = {
    "CREATED": Status.PENDING,
    "PAYMENT_AWAITING": Status.PENDING,
    "CONFIRMATION_AWAITING": Status.PROCESSING,
    "PARTIALLY_PAID": Status.PARTIALLY_PAID,
    "PAID": Status.COMPLETED,
    "TIMEOUT": Status.EXPIRED,
    "DEACTIVATED": Status.CANCELED,
    "DECLINED": Status.FAILED,
    "LIMITS_OUT_OF_RANGE": Status.FAILED,
}
DEPOSITS = {"Deposit", "InvoiceDeposit"}
KEY_PAIR = {"public_key", "private_key"}
SIGNATURE = re.compile("[0-9a-f]{96}")
LONGEST_REWRITTEN = 16 * 1024

Text = Annotated[str, Field(min_length=1, max_length=255)]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
# What can be kept, looked for and put into an address.
Id = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,200}\Z")]
Code = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,20}\Z")]


class Created(msgspec.Struct, rename="camel"):
    id: Annotated[str, msgspec.Meta(min_length=1)]
    payment_link: str | None = None

    def page(self) -> Checkout | None:
        return Checkout(url=self.payment_link) if self.payment_link else None


class Transaction(msgspec.Struct):
    id: str | None = None
    amount: Decimal | None = None
    asset: str | None = None
    status: str | None = None
    type: str | None = None


class Seen(Created, rename="camel", kw_only=True):
    status: str
    external_order_id: str | None = None
    invoice_amount: Decimal | None = None
    invoice_asset_code: str | None = None
    product_description: str | None = None
    transactions: list[Transaction] | None = None
    created_at: Instant | None = None
    expire_at: Instant | None = None
    completed_at: Instant | None = None

    def money(self, amount: Decimal | None) -> Money | None:
        return Money.of(amount, self.invoice_asset_code) if amount is not None and self.invoice_asset_code else None

    def deposits(self) -> tuple[Deposit, ...]:
        return tuple(
            Deposit.of(each.id, each.amount, each.asset)
            for each in self.transactions or ()
            if each.type in DEPOSITS and each.id and each.amount and each.asset
        )

    def paid(self) -> Money | None:
        """What came in the invoice's own asset; what came in another one cannot be told in it."""
        settled = ("Processed", self.invoice_asset_code)
        deposits = [each for each in self.transactions or () if each.type in DEPOSITS]
        amounts = [each.amount for each in deposits if each.amount and (each.status, each.asset) == settled]
        return self.money(total(amounts)) if amounts else None


class AssetSeen(msgspec.Struct):
    code: str
    precision: int
    name: str | None = None
    type: str | None = None

    def asset(self) -> Asset:
        fiat = (self.type or "").lower() == "fiat"
        return Asset(
            code=self.code, name=self.name or self.code, type="fiat" if fiat else "crypto", precision=self.precision
        )


class Question(msgspec.Struct):
    name: str


class Told(msgspec.Struct):
    event: str
    data: msgspec.Raw


class Moved(msgspec.Struct, rename="camel"):
    """An invoice whose status may be another now."""

    id: Id
    external_order_id: str | None = None


class Paid(msgspec.Struct, rename="camel"):
    id: Id
    amount: Decimal
    asset: Code
    invoice_id: Id | None = None
    status: str | None = None


class Failure(msgspec.Struct):
    code: str | int = ""
    message: str = ""


class Said(msgspec.Struct):
    errors: tuple[Failure, ...] = ()


class Options(provider.Options):
    questionnaire: Annotated[tuple[Text, ...], Field(min_length=1, max_length=20)] | None = None
    deposit_callbacks: StrictBool = False
    product_category: Text | None = None


class Generic(provider.Provider):
    """One API key, used plainly, or its pair of keys, which sign: of two private ones the first."""

    redirect: ClassVar[Redirect] = "at_creation"
    create_recovery: ClassVar[Recovery] = "by_reference"
    required: ClassVar[tuple[str, ...]] = ("amount", "currency")
    links_end_with_id: ClassVar[bool] = True
    Options: ClassVar[type[provider.Options]] = Options
    example: ClassVar[Mapping[str, Any]] = {
        "amount": "49.90",
        "currency": "EUR",
        "order_id": "order-17",
        "redirect_url": "https://shop.example/thanks",
        "redirect_button_title": "Back to the shop",
    }

    base_url: HttpUrl = HttpUrl("https://api.kunapay.io")
    api_key: Secret = SecretStr("")
    public_key: Secret = SecretStr("")
    private_key: Secrets = ()

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: dict[str, Any]) -> dict[str, Any]:
        """What the chosen mode lacks counts as empty, which no key may be."""
        return dict.fromkeys(KEY_PAIR if KEY_PAIR & given.keys() else {"api_key"}, "") | given

    @property
    def notices(self) -> Notices:
        return "signed" if self.private_key else "token"

    def faults(self, order: Order) -> Iterator[Fault]:
        if order.redirect_button_title and not order.redirect_url:
            yield Fault("/redirect_button_title", "needs a redirect_url")
        if ID.fullmatch(order.order_id or ""):
            yield Fault("/order_id", "must not look like an invoice's id")
        if order.amount is None:
            yield Fault("/amount", "is required")
        elif order.amount.amount <= 0:
            yield Fault("/amount", "must be more than 0")

    def create_invoice(self, order: Order) -> Flow[Snapshot]:
        answer = yield self.call("POST", "/v1/invoice", json=request(order, order.options or Options()))
        raw = unwrapped(answer.body)
        made = msgspec.json.decode(raw, type=Created)
        return Snapshot(reference=made.id, status=Status.PENDING, checkout=made.page(), raw=raw)

    def find_invoice(self, order: Order) -> Flow[Sequence[Snapshot]]:
        """By the order id that we gave it; where that is the shop's own, others may have it too."""
        given, since = order.order_id or order.id, order.created_at - provider.CLOCK_SKEW
        query = {"take": "100", "skip": "0", "externalOrderId": given, "createdFrom": since.isoformat()}
        answer = yield self.call("GET", "/v1/invoice", query=query)
        found = [snapshot(each) for each in msgspec.json.decode(unwrapped(answer.body), type=list[msgspec.Raw])]
        return [each for each in found if each.our_id == order.id or (each.order_id == given and order.may_be(each))]

    @override
    def start_checkout(self, invoice: Invoice, redirect_url: str | None) -> Flow[Started]:
        """The link that its create gave; nothing is asked."""
        yield from ()
        if invoice.checkout is None or invoice.checkout.url is None:
            raise CheckoutUnavailable(f"{self.name} tells the address of a checkout only when the invoice is created.")
        return Started(snapshot=Snapshot(reference=str(invoice.reference), status=None, checkout=invoice.checkout))

    def fetch_invoice(self, invoice: Invoice) -> Flow[Snapshot]:
        answer = yield self.call("GET", "/v1/invoice/{}", str(invoice.reference))
        return snapshot(unwrapped(answer.body))

    def list_invoices(self) -> Flow[Sequence[Snapshot]]:
        answer = yield self.call("GET", "/v1/invoice", query={"take": "100", "skip": "0"})
        return [snapshot(each) for each in msgspec.json.decode(unwrapped(answer.body), type=list[msgspec.Raw])]

    def list_assets(self) -> Flow[Sequence[Asset]]:
        answer = yield self.call("GET", "/v1/invoice/assets", query={"take": "100"})
        return [each.asset() for each in msgspec.json.decode(unwrapped(answer.body), type=list[AssetSeen])]

    def list_questions(self) -> Flow[Sequence[str]]:
        answer = yield self.call("GET", "/v1/invoice/questionnaire")
        found = msgspec.json.decode(unwrapped(answer.body), type=list[Question | str])
        return [each if isinstance(each, str) else each.name for each in found]

    @override
    def auth(self, method: str, target: str, body: bytes | None) -> Mapping[str, str]:
        """Signed are the path from /v1 with its query, the time in milliseconds, and the body just as it is sent."""
        if not self.private_key:
            return {"api-key": self.api_key.get_secret_value()}
        nonce = str(to_milliseconds(self.clock()))
        message = target.encode() + nonce.encode() + (body or b"{}")
        key = self.private_key[0].get_secret_value().encode()
        signature = hmac.new(key, message, sha384).hexdigest()
        return {"public-key": self.public_key.get_secret_value(), "nonce": nonce, "signature": signature}

    @override
    def verify(self, headers: Mapping[str, str], body: bytes, at: datetime) -> bool:
        """Over the body just as it came, else over its compact form: which of them is signed was not found."""
        given = headers.get("kun-signature", "")
        if not SIGNATURE.fullmatch(given):
            return False
        return any(is_digest(given, key, form, "sha384") for form in forms(body) for key in self.private_key)

    @override
    def read_notification(self, headers: Mapping[str, str], body: bytes) -> Notification:
        """A deposit is the same however often it is told, and counts once it is processed; `Withdraw` says nothing."""
        told = decoded(body, Told)
        if told.event == "Withdraw":
            return Notification(digest=sha256(body).digest())
        if told.event in DEPOSITS:
            paid = decoded(told.data, Paid)
            if paid.status not in (None, "Processed"):
                return Notification(digest=sha256(body).digest(), reference=paid.invoice_id)
            digest = sha256(f"deposit {paid.id}".encode()).digest()
            deposit = Deposit.of(paid.id, paid.amount, paid.asset)
            return Notification(digest=digest, reference=paid.invoice_id, deposit=deposit)
        moved = decoded(told.data, Moved)
        ours = moved.external_order_id if ID.fullmatch(moved.external_order_id or "") else None
        return Notification(digest=sha256(body).digest(), reference=moved.id, our_id=ours)

    def complaint(self, answer: Answer) -> Complaint:
        try:
            said = answer.read(Said).errors[0]
        except (LookupError, ValueError, RecursionError):
            return super().complaint(answer)
        return Complaint(http_status=answer.status, code=str(said.code) or None, message=said.message[:300] or None)


def request(order: Order, options: Options) -> dict[str, Any]:
    amount = cast("Money", order.amount)
    back = {"redirectUrl": order.redirect_url, "redirectButtonTitle": order.redirect_button_title}
    questions = [{"name": name} for name in options.questionnaire or ()]
    return told(
        {
            "asset": amount.currency,
            "amount": amount.text,
            "externalOrderId": order.order_id or order.id,
            "productDescription": order.description,
            "productCategory": options.product_category,
            "callbackUrl": order.notification_url,
            "shouldSendTransactionalCallback": options.deposit_callbacks,
            "customization": told(back) if order.redirect_url else None,
            "questionnaire": {"schemaFields": questions} if questions else None,
        }
    )


def told(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in fields.items() if value is not None}


def snapshot(raw: bytes | msgspec.Raw) -> Snapshot:
    seen = msgspec.json.decode(raw, type=Seen)
    status, order_id = STATUSES.get(seen.status), seen.external_order_id or ""
    ours = ID.fullmatch(order_id) is not None
    return Snapshot(
        reference=seen.id,
        our_id=order_id if ours else None,
        status=status,
        word=seen.status,
        amount=seen.money(seen.invoice_amount),
        amount_paid=seen.paid(),
        checkout=seen.page(),
        order_id=None if ours else order_id or None,
        description=seen.product_description,
        created_at=seen.created_at,
        expires_at=seen.expire_at,
        completed_at=seen.completed_at if status is Status.COMPLETED else None,
        deposits=seen.deposits(),
        raw=bytes(raw),
    )


def forms(body: bytes) -> Iterator[bytes]:
    """The body, and, unless it is long, the same JSON as compact as can be; numbers and the order of members stay."""
    yield body
    if len(body) > LONGEST_REWRITTEN:
        return
    with suppress(ValueError, RecursionError):
        verbatim = msgspec.Raw
        found = json.loads(body.decode(), parse_int=verbatim, parse_float=verbatim, parse_constant=verbatim)
        yield msgspec.json.encode(found)


def unwrapped(body: bytes) -> bytes:
    """What is in `data`, or the whole where nothing is."""
    found = msgspec.json.decode(body, type=list[msgspec.Raw] | dict[str, msgspec.Raw])
    return bytes(found["data"]) if isinstance(found, dict) and "data" in found else body
