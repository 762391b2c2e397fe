"""Routes for invoices: create, read, list, pay, cancel."""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Request, Response

from app.api.admission import leave
from app.api.answers import ENCODER, answer
from app.api.audience import audience, invoice_shown, shown, visit_shown
from app.api.context import caller, services
from app.api.deps import Asks, Sends
from app.api.idempotency import given, idempotent, keyed
from app.api.problems import AUTHENTICATED, READING, SENDING, WITH_BODY, documented
from app.api.queries import asked
from app.api.schemas import CreateQuery, ListQuery, NewCheckout, NewInvoice, NewResolution, Nothing, OneQuery
from app.domain import errors
from app.domain.errors import Fault
from app.domain.invoice import Invoice
from app.observe import note
from app.service.checkouts import Visit
from app.service.cursors import page_cursor, read_page_cursor
from app.service.invoices import known
from app.service.keys import Role
from app.service.services import Services
from app.service.views import InvoiceOut, ListOut, PlanOut, TraceOut, VisitOut, invoice_view, plan_view
from app.storage.idempotency import Kept
from app.storage.pages import Query

router = APIRouter(prefix="/v1/invoices", tags=["invoices"])

REFRESH: Mapping[str | None, bool | None] = {"true": True, "false": False, None: None}

InvoiceId = Annotated[str, Path(examples=["inv_01jd7q8m3zf5k9w2x4y6a8b0c2"])]


LOCATION = {"description": "The invoice", "schema": {"type": "string"}}
ROUTE = {"description": "Why it was created at this provider", "schema": {"type": "string"}}


class Made(msgspec.Struct):
    """What is needed of a create's answer, which may be one that was given before."""

    id: str
    provider: str


def provider_faults(services: Services, new: NewInvoice) -> list[Fault]:
    return services.creation.faults(new.draft())


ONE = Asks(Role.READ, OneQuery, shoppers=True)
MANY = Asks(Role.READ, ListQuery)
CREATE = Sends(Role.WRITE, NewInvoice, judge=provider_faults, query=CreateQuery)
CHECKOUT = Sends(Role.WRITE, NewCheckout, optional=True, shoppers=True)
RESOLVE = Sends(Role.ADMIN, NewResolution)
TRACE = Asks(Role.ADMIN, Nothing)
CANCEL = Sends(Role.WRITE, Nothing, optional=True)

CHANGING = (
    *AUTHENTICATED,
    *WITH_BODY,
    errors.Overloaded,
    errors.UnsupportedOperation,
    errors.IdempotencyInProgress,
    errors.IdempotencyMismatch,
)
OPEN_ONLY = (errors.NotFound, errors.InvoiceFinished, errors.AmountMismatch)


@router.get(
    "/{id}",
    operation_id="getInvoice",
    summary="Read an invoice",
    response_model=InvoiceOut,
    responses={
        200: {"headers": {"ETag": {"description": "Weak, over its version", "schema": {"type": "string"}}}},
        304: {"description": "Nothing has changed since the answer with the tag in If-None-Match"},
        **documented(*AUTHENTICATED, errors.NotFound, errors.Overloaded, *READING),
    },
    openapi_extra=ONE.docs,
)
async def get_invoice(request: Request, id: InvoiceId, query: Annotated[OneQuery, ONE.required]) -> Response:
    """Its current state, asked from the provider when that may tell more. `stale` says that it couldn't be asked."""
    if query.include:
        caller(request).require(Role.ADMIN)
    if query.wait:
        leave()
    reading = await services(request).invoices.get(
        known(id), refresh=REFRESH[query.refresh], wait=query.wait, since=query.since
    )
    mention(request, reading.invoice)
    tag = etag(reading.invoice, audience(request).word, query.include)
    if tag in tags(request):
        return Response(status_code=304, headers={"ETag": tag})
    view = shown(request, invoice_view(reading.invoice, stale=reading.stale))
    extra = {"provider_data": provider_data(reading.invoice)} if query.include else {}
    return answer({**view, **extra}, headers={"ETag": tag})


@router.post(
    "",
    operation_id="createInvoice",
    summary="Create an invoice at one provider",
    status_code=201,
    response_model=InvoiceOut,
    responses={
        200: {"description": "A dry run", "model": PlanOut},
        201: {"headers": {"Location": LOCATION, "Gatehouse-Route": ROUTE}},
        **documented(*CHANGING, *SENDING, errors.AmountMismatch),
    },
    openapi_extra=CREATE.docs,
)
async def create_invoice(request: Request, new: Annotated[NewInvoice, CREATE.required]) -> Response:
    """What the provider needs of the fields, its sheet says; what is missing is named before it is asked.

    `dry_run=true` (role admin) shows what would be sent, and to whom, and sends nothing.
    """
    offered, draft = services(request), new.draft()
    if asked(CreateQuery, request)[0].dry_run:
        caller(request).require(Role.ADMIN)
        return answer(plan_view(*offered.creation.plan(draft)))
    key, routes = keyed(request, draft), {}

    async def create(kept: Kept | None) -> bytes:
        invoice, reason = await offered.invoices.create(draft, key, kept)
        routes["Gatehouse-Route"] = reason
        return ENCODER.encode(invoice_view(invoice))

    told = await offered.idempotency.once(key, create)
    made = msgspec.json.decode(told.body, type=Made)
    note(request.scope, provider=made.provider, invoice_id=made.id)
    return given(told, invoice_shown(request, told.body), 201, {"Location": f"/v1/invoices/{made.id}", **routes})


@router.post(
    "/{id}/checkout",
    operation_id="startCheckout",
    summary="Start or resume its checkout",
    response_model=VisitOut,
    responses=documented(
        *CHANGING, *OPEN_ONLY, errors.RedirectFixed, errors.CheckoutUnavailable, *dict.fromkeys((*SENDING, *READING))
    ),
    openapi_extra=CHECKOUT.docs,
)
async def start_checkout(request: Request, id: InvoiceId, new: Annotated[NewCheckout, CHECKOUT.required]) -> Response:
    """Where to send the shopper; or `completed`, where nothing is owed."""

    async def start() -> VisitOut:
        visit = await services(request).checkouts.start(
            id,
            redirect_url=new.redirect_url,
            redirect_button_title=new.redirect_button_title,
            shopper=caller(request).invoice_id is not None,
        )
        mention(request, visit.invoice)
        return visit_view(visit)

    return await idempotent(request, known(id), new, start, show=visit_shown)


@router.get(
    "",
    operation_id="listInvoices",
    summary="List every provider's invoices",
    response_model=ListOut,
    responses=documented(*AUTHENTICATED, errors.Overloaded),
    openapi_extra=MANY.docs,
)
async def list_invoices(request: Request, query: Annotated[ListQuery, MANY.required]) -> Response:
    """Newest first. `sources` says which providers were asked, and `partial` that one of them couldn't be."""
    page = await services(request).listing.page(wanted(query))
    view = {
        "data": [shown(request, invoice_view(invoice)) for invoice in page.invoices],
        "next_cursor": page_cursor(page.invoices[-1]) if page.more else None,
        "has_more": page.more,
        "partial": page.partial,
        "sources": page.sources,
    }
    return answer(view)


@router.post(
    "/{id}/cancel",
    operation_id="cancelInvoice",
    summary="Cancel an invoice, where its provider can",
    response_model=InvoiceOut,
    responses=documented(*CHANGING, *OPEN_ONLY, errors.ProviderNotFound, *SENDING),
    openapi_extra=CANCEL.docs,
)
async def cancel_invoice(request: Request, id: InvoiceId, new: Annotated[Nothing, CANCEL.required]) -> Response:

    async def cancel() -> InvoiceOut:
        invoice = await services(request).invoices.cancel(id)
        mention(request, invoice)
        return invoice_view(invoice)

    return await idempotent(request, known(id), new, cancel, show=invoice_shown)


@router.get(
    "/{id}/trace",
    operation_id="traceInvoice",
    summary="An invoice's life, step by step",
    response_model=TraceOut,
    responses=documented(*AUTHENTICATED, errors.NotFound, errors.Overloaded),
    openapi_extra=TRACE.docs,
)
async def trace_invoice(request: Request, id: InvoiceId, _query: Annotated[Nothing, TRACE.required]) -> Response:
    """Every call about it, notification, move, echo and delivery, oldest first, without anything secret."""
    offered = services(request)
    mention(request, await offered.invoices.stored(id))
    view: TraceOut = {"data": await offered.history.of(id)}
    return answer(view)


@router.post(
    "/{id}/resolve",
    operation_id="resolveInvoice",
    summary="Settle an unknown invoice by hand",
    response_model=InvoiceOut,
    responses=documented(*CHANGING, *OPEN_ONLY, errors.OutcomeUnknown, *READING),
    openapi_extra=RESOLVE.docs,
)
async def resolve_invoice(request: Request, id: InvoiceId, new: Annotated[NewResolution, RESOLVE.required]) -> Response:
    """For an operator who has looked at the provider. `outcome_unknown`: just now something else is settling it."""

    async def resolve() -> InvoiceOut:
        there = new.provider_invoice_id
        invoice = await services(request).operators.resolve(
            id, by=caller(request).name, reason=new.reason, provider_invoice_id=there
        )
        mention(request, invoice)
        return invoice_view(invoice)

    return await idempotent(request, known(id), new, resolve, show=invoice_shown)


def etag(invoice: Invoice, *view: str | None) -> str:
    """Weak: an answer with the same tag says the same, except when the provider was asked."""
    return f'W/"{"-".join([str(invoice.version), *filter(None, view)])}"'


def tags(request: Request) -> set[str]:
    """Those that the caller has; a strong one is compared as a weak one."""
    given = ",".join(request.headers.getlist("if-none-match")).split(",")
    return {tag if tag.startswith("W/") else f"W/{tag}" for each in given if (tag := each.strip())}


def visit_view(visit: Visit) -> VisitOut:
    return {
        "outcome": visit.outcome,
        "url": visit.url,
        "message": visit.message,
        "invoice": invoice_view(visit.invoice),
    }


def mention(request: Request, invoice: Invoice) -> None:
    note(request.scope, provider=invoice.provider, invoice_id=invoice.id)


def provider_data(invoice: Invoice) -> msgspec.Raw | None:
    """The provider's last raw answer, as it was; null where there is none, or where it was no JSON in UTF-8."""
    try:
        msgspec.json.decode(invoice.raw.decode(), type=msgspec.Raw)
    except ValueError:
        return None
    return msgspec.Raw(invoice.raw)


def wanted(query: ListQuery) -> Query:
    return Query(
        provider=query.provider,
        status=query.status,
        order_id=query.order_id,
        provider_invoice_id=query.provider_invoice_id,
        created_after=query.created_after,
        created_before=query.created_before,
        after=read_page_cursor(query.cursor) if query.cursor else None,
        limit=query.limit,
    )
