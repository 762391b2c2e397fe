"""The shapes in which callers see things: over the API and inside events alike."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired, TypeAlias, cast

import msgspec
from pydantic import Field, with_config
from typing_extensions import TypedDict

from app.domain.delivery import Delivery
from app.domain.invoice import Checkout, Event, Invoice, Status
from app.provider import Notices, Order, Provider, Recovery, Redirect
from app.service.routing import Choice

Instant = Annotated[str, Field(description="RFC 3339, UTC, milliseconds", examples=["2026-11-22T08:00:00.000Z"])]
Amount = Annotated[str, Field(description="A decimal string in major units", examples=["49.90"])]

HIDDEN = "***"

# For a shape that the API's description tells: no answer is checked against it, so that nothing is built for that.
described = with_config(defer_build=True)

DeliveryState: TypeAlias = Literal["pending", "delivered", "failed", "paused"]


class CustomerOut(TypedDict):
    email: str | None
    name: str | None
    phone: str | None


class ItemOut(TypedDict):
    description: str | None
    quantity: int
    unit_amount: Amount | None
    variant_id: str | None


class CheckoutOut(TypedDict):
    url: str | None
    lightning: str | None
    bitcoin_address: str | None
    expires_at: Instant | None


@described
class InvoiceOut(TypedDict):
    id: Annotated[str, Field(examples=["inv_01jd7q8m3zf5k9w2x4y6a8b0c2"])]
    provider: str
    provider_invoice_id: str | None
    status: Status
    provider_status: Annotated[str | None, Field(description="The provider's own word")]
    finished: bool
    paid: bool
    amount: Amount | None
    currency: str | None
    amount_paid: Annotated[str | None, Field(description="In the invoice's currency; null where it isn't told")]
    order_id: str | None
    description: str | None
    customer: NotRequired[Annotated[CustomerOut | None, Field(description="Not for a shopper")]]
    items: list[ItemOut]
    metadata: NotRequired[Annotated[Mapping[str, str], Field(description="Not for a shopper")]]
    checkout: CheckoutOut
    redirect_url: str | None
    callback_url: NotRequired[Annotated[str | None, Field(description="Not for a shopper")]]
    pay_url: NotRequired[Annotated[str, Field(description="A link for the shopper's browser; role write")]]
    client_secret: NotRequired[
        Annotated[str, Field(description="Lets a browser read this invoice and start its checkout; role write")]
    ]
    created_at: Instant
    updated_at: Instant
    expires_at: Instant | None
    completed_at: Instant | None
    version: Annotated[int, Field(description="Rises with every change that a caller can see")]
    synced_at: Annotated[str | None, Field(description="When the provider was last asked")]
    stale: Annotated[bool, Field(description="The provider could not be asked just now: this is the last known state")]


@described
class VisitOut(TypedDict):
    outcome: Literal["redirect", "completed"]
    url: str | None
    message: str | None
    invoice: InvoiceOut


@described
class EventOut(TypedDict):
    id: Annotated[str, Field(examples=["evt_01jd7q8m3zf5k9w2x4y6a8b0c2"])]
    type: Annotated[str, Field(examples=["invoice.completed"])]
    timestamp: Instant
    invoice_id: str
    data: Annotated[InvoiceOut, Field(description="The invoice as it was then; a deposit's own facts are beside it")]


@described
class EventsOut(TypedDict):
    data: list[EventOut]
    next_cursor: Annotated[str, Field(description="Always given: with it, what comes later is read later")]
    has_more: bool


class AttemptOut(TypedDict):
    at: Instant
    status: Annotated[int | None, Field(description="What the receiver answered")]
    error: Annotated[str | None, Field(description="Why there is no answer")]
    ms: int


@described
class DeliveryOut(TypedDict):
    id: Annotated[str, Field(examples=["dlv_01jd7q8m3zf5k9w2x4y6a8b0c2"])]
    event_id: str
    type: str
    invoice_id: str
    url: str
    state: Annotated[DeliveryState, Field(description="`paused`: its receiver has failed for long, and is only probed")]
    attempts: list[AttemptOut]
    next_attempt_at: Instant | None


@described
class DeliveriesOut(TypedDict):
    data: list[DeliveryOut]
    next_cursor: str | None
    has_more: bool


class RequestOut(TypedDict):
    method: str
    url: str
    headers: Annotated[Mapping[str, str], Field(description="Secrets as ***")]
    body: Any


class PlanOut(TypedDict):
    """What a create would send."""

    provider: str
    reason: str
    request: RequestOut


class StepOut(TypedDict):
    """What else it says depends on its kind."""

    at: Instant
    kind: Literal["call", "notification", "move", "echo", "delivery", "operator"]


@described
class TraceOut(TypedDict):
    data: list[StepOut]


class SourceOut(TypedDict):
    provider: str
    state: Literal["live", "stored", "failed"]
    as_of: Instant | None
    code: str | None


@described
class ListOut(TypedDict):
    data: list[InvoiceOut]
    next_cursor: str | None
    has_more: bool
    partial: Annotated[bool, Field(description="A provider could not be asked: what only it knows may be missing")]
    sources: list[SourceOut]


class OperationsOut(TypedDict):
    create: bool
    checkout: bool
    get: bool
    list: bool
    cancel: bool
    assets: bool
    questionnaire: bool


class HealthOut(TypedDict):
    state: Literal["up", "degraded", "down", "paused"]
    circuit: Literal["closed", "open", "half_open"]
    last_success_at: Instant | None
    last_error: str | None
    p50_ms: float | None
    p99_ms: float | None
    error_rate: float | None
    drift: int


@described
class SheetOut(TypedDict):
    name: str
    kind: str
    operations: OperationsOut
    currencies: Annotated[list[str] | None, Field(description="null: ask the provider's assets")]
    redirect: Redirect
    notifications: Notices
    create_recovery: Recovery
    required_fields: list[str]
    health: HealthOut


@described
class SheetsOut(TypedDict):
    data: list[SheetOut]


class AssetOut(TypedDict):
    code: str
    name: str
    type: Literal["fiat", "crypto"]
    precision: int


@described
class AssetsOut(TypedDict):
    data: list[AssetOut]


class QuestionOut(TypedDict):
    name: str


@described
class QuestionsOut(TypedDict):
    data: list[QuestionOut]


def instant(at: datetime | None) -> str | None:
    return moment(at) if at else None


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def invoice_view(invoice: Invoice, *, stale: bool = False) -> InvoiceOut:
    return {
        "id": invoice.id,
        "provider": invoice.provider,
        "provider_invoice_id": invoice.reference,
        "status": invoice.status,
        "provider_status": invoice.provider_status,
        "finished": invoice.finished,
        "paid": invoice.paid,
        "amount": invoice.amount.text if invoice.amount else None,
        "currency": invoice.amount.currency if invoice.amount else None,
        "amount_paid": invoice.amount_paid.text if invoice.amount_paid else None,
        "order_id": invoice.order_id,
        "description": invoice.description,
        "customer": customer_view(invoice),
        "items": [
            {
                "description": item.description,
                "quantity": item.quantity,
                "unit_amount": item.unit_amount,
                "variant_id": item.variant_id,
            }
            for item in invoice.items
        ],
        "metadata": invoice.metadata,
        "checkout": checkout_view(invoice),
        "redirect_url": invoice.redirect_url,
        "callback_url": invoice.callback_url,
        "created_at": moment(invoice.created_at),
        "updated_at": moment(invoice.updated_at),
        "expires_at": instant(invoice.expires_at),
        "completed_at": instant(invoice.completed_at),
        "version": invoice.version,
        "synced_at": instant(invoice.synced_at),
        "stale": stale,
    }


def plan_view(choice: Choice, order: Order) -> PlanOut:
    """The first call of the provider's create; every credential, and the token in our address, is hidden."""
    call = next(choice.provider.create_invoice(order))
    body = None if call.body is None else call.body.decode().replace(order.notification_url, masked(order))
    return {
        "provider": choice.provider.name,
        "reason": choice.reason,
        "request": {
            "method": call.method,
            "url": call.url,
            "headers": {**call.headers, **dict.fromkeys(call.credentials, HIDDEN)},
            "body": body if body is None else msgspec.Raw(body.encode()),
        },
    }


def masked(order: Order) -> str:
    return f"{order.notification_url.partition('?')[0]}?token={HIDDEN}"


def event_view(event: Event) -> EventOut:
    told = {
        "id": event.id,
        "type": event.type,
        "timestamp": moment(event.at),
        "invoice_id": event.invoice_id,
        "data": msgspec.Raw(event.data),
    }
    return cast("EventOut", told)


def event_body(event: Event) -> bytes:
    """An event as it is delivered."""
    told = {"id": event.id, "type": event.type, "timestamp": moment(event.at), "data": msgspec.Raw(event.data)}
    return msgspec.json.encode(told)


def delivery_view(delivery: Delivery) -> DeliveryOut:
    return {
        "id": delivery.id,
        "event_id": delivery.event_id,
        "type": delivery.type,
        "invoice_id": delivery.invoice_id,
        "url": delivery.url,
        "state": "paused" if delivery.paused else delivery.state,
        "attempts": [
            {"at": moment(each.at), "status": each.status, "error": each.error, "ms": each.ms}
            for each in delivery.attempts
        ],
        "next_attempt_at": instant(delivery.due_at),
    }


def customer_view(invoice: Invoice) -> CustomerOut | None:
    customer = invoice.customer
    return {"email": customer.email, "name": customer.name, "phone": customer.phone} if customer else None


def checkout_view(invoice: Invoice) -> CheckoutOut:
    checkout = invoice.checkout or Checkout()
    return {
        "url": checkout.url,
        "lightning": checkout.lightning,
        "bitcoin_address": checkout.bitcoin_address,
        "expires_at": instant(checkout.expires_at),
    }


def sheet_view(provider: Provider, health: HealthOut) -> SheetOut:
    return {
        "name": provider.name,
        "kind": provider.kind(),
        "operations": {
            "create": provider.can("create"),
            "checkout": provider.can("checkout"),
            "get": provider.can("get"),
            "list": provider.can("list"),
            "cancel": provider.can("cancel"),
            "assets": provider.can("assets"),
            "questionnaire": provider.can("questionnaire"),
        },
        "currencies": list(provider.currencies) if provider.currencies else None,
        "redirect": provider.redirect,
        "notifications": provider.notices,
        "create_recovery": provider.create_recovery,
        "required_fields": list(provider.required),
        "health": health,
    }
