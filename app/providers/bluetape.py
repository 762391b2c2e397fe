"""BlueTape (bluetape.com), spoken to over the Generic Connector API, version 1.1.0.

Documented: both addresses and headers, the simplified create's fields, status, cancel, both ways to the checkout's link
(one answers an object, one a bare string), {code, reason}. Inferred: our `id` is the id in paths, amounts are USD, a
create answers 201 with `blueTapeId` and/or `details`, 409 where the id is taken, every word but Placed. Not found: a
list, what is appended to `redirectUrl`, and the contract of the callbacks: so it is polled.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, cast

import msgspec
from pydantic import AfterValidator, Field, HttpUrl
from typing_extensions import override

from app import provider
from app.domain.errors import Complaint, Fault, Rejected
from app.domain.invoice import Checkout, Customer, Invoice, Snapshot, Status
from app.domain.money import Money
from app.domain.redirects import returning
from app.provider import Answer, Flow, Order, Recovery, Redirect, Secret, Started

STATUSES: Mapping[str, Status] = {
    "Placed": Status.PENDING,
    "PartiallyPaid": Status.PARTIALLY_PAID,
    "Partially Paid": Status.PARTIALLY_PAID,
    "Paid": Status.COMPLETED,
    "Canceled": Status.CANCELED,
    "Cancelled": Status.CANCELED,
}
TIME_TO_PAY = timedelta(days=30)


def midnight(day: str) -> str:
    """The simplified create takes days as instants."""
    return f"{date.fromisoformat(day)}T00:00:00.000Z"


def dollars(text: str) -> str:
    return Money.parse(text, "USD").text


Day = Annotated[str, Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), AfterValidator(lambda day: midnight(day)[:10])]
Address = Annotated[str, msgspec.Meta(pattern="^https?://")]


class Details(msgspec.Struct, rename="camel"):
    total_amount: Decimal | None = None

    def money(self) -> Money | None:
        return Money.of(self.total_amount, "USD") if self.total_amount is not None else None


class Created(msgspec.Struct):
    """The answer is not documented; one in the form of an error creates nothing."""

    details: Details | None = None
    reason: None = None


class Seen(Details, rename="camel", kw_only=True):
    status: str


class Link(msgspec.Struct, rename="camel"):
    check_out_url: Address


class Said(msgspec.Struct):
    code: str | int = ""
    reason: str = ""


class Options(provider.Options):
    due_date: Day | None = None
    expiration_date: Day | None = None
    tax_amount: Annotated[str, AfterValidator(dollars)] = "0"
    business_name: Annotated[str, Field(min_length=1, max_length=255)] | None = None


class BlueTape(provider.Provider):
    """One integrating account, which knows an invoice by our own id."""

    currencies: ClassVar[tuple[str, ...] | None] = ("USD",)
    redirect: ClassVar[Redirect] = "at_checkout"
    create_recovery: ClassVar[Recovery] = "by_reference"
    required: ClassVar[tuple[str, ...]] = ("amount", "currency", "customer.email or customer.phone")
    Options: ClassVar[type[provider.Options]] = Options
    example: ClassVar[Mapping[str, Any]] = {
        "amount": "120.50",
        "currency": "USD",
        "order_id": "order-17",
        "description": "Boards",
        "customer": {"email": "a@example.org", "name": "A. Reader"},
    }

    base_url: HttpUrl = HttpUrl("https://api.bluetape.com/genericBthubService")
    api_key: Secret
    account_id: Secret

    def faults(self, order: Order) -> Iterator[Fault]:
        if not (order.customer.email or order.customer.phone):
            yield Fault("/customer", "must have an email or a phone")
        if order.amount is None:
            yield Fault("/amount", "is required")
            return
        if order.amount.currency != "USD":
            yield Fault("/currency", "must be USD")
        if order.amount.amount <= 0:
            yield Fault("/amount", "must be more than 0")
        if order.amount.amount < Decimal((order.options or Options()).tax_amount):
            yield Fault("/provider_options/tax_amount", "must not be more than the amount")

    def create_invoice(self, order: Order) -> Flow[Snapshot]:
        """Where the id is taken, that may be our own earlier try: then it is looked at."""
        body = simplified(order, order.options or Options())
        answer = yield self.call("POST", "/integration/invoice/simplify", json=body, accepts={HTTPStatus.CONFLICT})
        if answer.status == HTTPStatus.CONFLICT:
            return (yield from self._status(order.id))
        details = answer.read(Created).details or Details()
        return Snapshot(reference=order.id, status=Status.PENDING, amount=details.money(), raw=answer.body)

    def find_invoice(self, order: Order) -> Flow[Sequence[Snapshot]]:
        path = "/integration/invoice/{}/status"
        answer = yield self.call("GET", path, order.id, accepts={HTTPStatus.NOT_FOUND})
        return [] if answer.status == HTTPStatus.NOT_FOUND else [replace(self._seen(order.id, answer), our_id=order.id)]

    @override
    def start_checkout(self, invoice: Invoice, redirect_url: str | None) -> Flow[Started]:
        """A read, which tells the link and nothing of the status."""
        path, reference = "/integration/invoice/{}/checkout", reference_of(invoice)
        if redirect_url:
            query = {"redirectUrl": returning(redirect_url, invoice)}
            answer = yield self.call("GET", f"{path}-redirect", reference, query=query)
            url = msgspec.json.decode(answer.body, type=Address)
        else:
            answer = yield self.call("GET", path, reference)
            url = answer.read(Link).check_out_url
        return Started(snapshot=Snapshot(reference=reference, status=None, checkout=Checkout(url=url)))

    def fetch_invoice(self, invoice: Invoice) -> Flow[Snapshot]:
        return self._status(reference_of(invoice))

    def cancel_invoice(self, invoice: Invoice) -> Flow[Snapshot]:
        path, reference = "/integration/invoice/{}/cancel", reference_of(invoice)
        answer = yield self.call("PUT", path, reference, json={}, accepts={HTTPStatus.CONFLICT})
        said = self.complaint(answer)
        if answer.status == HTTPStatus.CONFLICT and "already canceled" not in (said.message or ""):
            raise Rejected(f"{self.name} answered 409 to cancel.", provider=self.name, complaint=said)
        answer.read(dict[str, Any])
        return Snapshot(reference=reference, status=Status.CANCELED)

    @override
    def auth(self, method: str, target: str, body: bytes | None) -> Mapping[str, str]:
        key, account = self.api_key.get_secret_value(), self.account_id.get_secret_value()
        return {"X-BlueTape-Key": key, "X-Integration-AccountId": account}

    def complaint(self, answer: Answer) -> Complaint:
        try:
            said = answer.read(Said)
        except (ValueError, RecursionError):
            return super().complaint(answer)
        return Complaint(http_status=answer.status, code=str(said.code) or None, message=said.reason[:300] or None)

    def _status(self, reference: str) -> Flow[Snapshot]:
        answer = yield self.call("GET", "/integration/invoice/{}/status", reference)
        return self._seen(reference, answer)

    def _seen(self, reference: str, answer: Answer) -> Snapshot:
        seen = answer.read(Seen)
        return Snapshot(
            reference=reference,
            status=STATUSES.get(seen.status),
            word=seen.status,
            amount=seen.money(),
            raw=answer.body,
        )


def reference_of(invoice: Invoice) -> str:
    return invoice.reference or invoice.id


def simplified(order: Order, options: Options) -> dict[str, Any]:
    """An invoice as the simplified create takes it; due where no option says so: in thirty days, our own choice."""
    total, tax = cast("Money", order.amount).amount, Decimal(options.tax_amount)
    due = midnight(options.due_date) if options.due_date else instant(order.created_at + TIME_TO_PAY)
    return {
        "id": order.id,
        "invoiceNumber": order.order_id or order.id,
        "invoiceDate": instant(order.created_at),
        "dueDate": due,
        "expirationDate": midnight(options.expiration_date) if options.expiration_date else due,
        **totals(total - tax, tax),
        "amountDue": number(total),
        "lines": lines(order, total - tax, tax),
        "sourceModifiedDate": instant(order.created_at),
        "payersInfo": [payer(order.customer, options.business_name)],
    }


def lines(order: Order, net: Decimal, tax: Decimal) -> list[dict[str, Any]]:
    """The items where all are priced and add up to `net`, else one line; the first bears the tax."""
    items = [(item.description, Decimal(item.unit_amount), item.quantity) for item in order.items if item.unit_amount]
    if len(items) < len(order.items) or sum(unit * quantity for _, unit, quantity in items) != net:
        items = [(order.description, net, 1)]
    return [
        {
            "description": description or order.description or "Invoice",
            "unitAmount": number(unit),
            "quantity": quantity,
            **totals(unit * quantity, Decimal(0) if place else tax),
        }
        for place, (description, unit, quantity) in enumerate(items)
    ]


def totals(net: Decimal, tax: Decimal) -> dict[str, Any]:
    return {"subTotal": number(net), "taxAmount": number(tax), "totalAmount": number(net + tax)}


def payer(customer: Customer, business_name: str | None) -> dict[str, str]:
    first, _, last = (customer.name or "").partition(" ")
    told = {
        "firstName": first,
        "lastName": last,
        "emailAddress": customer.email,
        "cellPhoneNumber": customer.phone,
        "businessName": business_name,
    }
    return {field: text for field, text in told.items() if text}


def number(amount: Decimal) -> msgspec.Raw:
    """A JSON number, exactly as it is; msgspec would write a Decimal as a string."""
    return msgspec.Raw(format(amount, "f").encode())


def instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
