"""Routes of the event feed and of the log of deliveries."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.api.admission import leave
from app.api.answers import answer
from app.api.context import services
from app.api.deps import Asks, Sends
from app.api.idempotency import idempotent
from app.api.invoices import InvoiceId
from app.api.problems import AUTHENTICATED, WITH_BODY, documented
from app.api.schemas import DeliveriesQuery, EventsQuery, FeedQuery, Nothing
from app.domain import errors
from app.domain.delivery import DELIVERY_ID
from app.domain.errors import NotFound
from app.observe import note
from app.service.cursors import feed_cursor, page_cursor, read_feed_cursor, read_page_cursor
from app.service.feed import Page, Wanted
from app.service.keys import Role
from app.service.views import DeliveriesOut, DeliveryOut, EventOut, EventsOut, delivery_view, event_view

router = APIRouter(prefix="/v1", tags=["events"])

FEED = Asks(Role.READ, FeedQuery)
OF_ONE = Asks(Role.READ, EventsQuery)
ONE = Asks(Role.READ, Nothing)
LOG = Asks(Role.READ, DeliveriesQuery)
AGAIN = Sends(Role.WRITE, Nothing, optional=True)

READ = (*AUTHENTICATED, errors.Overloaded)
SENT = (*READ, *WITH_BODY, errors.NotFound, errors.IdempotencyInProgress, errors.IdempotencyMismatch)

EventId = Annotated[str, Path(examples=["evt_01jd7q8m3zf5k9w2x4y6a8b0c2"])]
DeliveryId = Annotated[str, Path(examples=["dlv_01jd7q8m3zf5k9w2x4y6a8b0c2"])]


@router.get(
    "/events",
    operation_id="listEvents",
    summary="Follow the events",
    response_model=EventsOut,
    responses=documented(*READ),
    openapi_extra=FEED.docs,
)
async def list_events(request: Request, query: Annotated[FeedQuery, FEED.required]) -> Response:
    """In the order in which they were committed: whoever goes on from `next_cursor` skips none."""
    wanted = Wanted(
        after=read_feed_cursor(query.cursor) if query.cursor else 0,
        limit=query.limit,
        type=query.type,
        invoice_id=query.invoice_id,
    )
    if query.wait:
        leave()
    return told(await services(request).feed.page(wanted, query.wait))


@router.get(
    "/events/{id}",
    operation_id="getEvent",
    summary="Read an event",
    response_model=EventOut,
    responses=documented(*READ, errors.NotFound),
    openapi_extra=ONE.docs,
)
async def get_event(request: Request, id: EventId, _query: Annotated[Nothing, ONE.required]) -> Response:
    return answer(event_view(await services(request).feed.event(id)))


@router.get(
    "/invoices/{id}/events",
    operation_id="listInvoiceEvents",
    summary="What happened to an invoice",
    response_model=EventsOut,
    responses=documented(*READ, errors.NotFound),
    openapi_extra=OF_ONE.docs,
)
async def list_invoice_events(
    request: Request, id: InvoiceId, query: Annotated[EventsQuery, OF_ONE.required]
) -> Response:
    """Oldest first."""
    offered = services(request)
    invoice = await offered.invoices.stored(id)
    note(request.scope, provider=invoice.provider, invoice_id=id)
    after = read_feed_cursor(query.cursor) if query.cursor else 0
    return told(await offered.feed.page(Wanted(after=after, limit=query.limit, invoice_id=id)))


@router.get(
    "/deliveries",
    operation_id="listDeliveries",
    summary="The log of deliveries",
    response_model=DeliveriesOut,
    responses=documented(*READ),
    openapi_extra=LOG.docs,
)
async def list_deliveries(request: Request, query: Annotated[DeliveriesQuery, LOG.required]) -> Response:
    """Newest first, each with its attempts."""
    page = await services(request).deliveries.page(
        query.limit,
        state=query.state,
        invoice_id=query.invoice_id,
        after=read_page_cursor(query.cursor, DELIVERY_ID) if query.cursor else None,
    )
    view: DeliveriesOut = {
        "data": [delivery_view(delivery) for delivery in page.deliveries],
        "next_cursor": page_cursor(page.deliveries[-1]) if page.more else None,
        "has_more": page.more,
    }
    return answer(view)


@router.post(
    "/deliveries/{id}/redeliver",
    operation_id="redeliverEvent",
    summary="Send an event again",
    status_code=202,
    response_model=DeliveryOut,
    responses=documented(*SENT),
    openapi_extra=AGAIN.docs,
)
async def redeliver(request: Request, id: DeliveryId, new: Annotated[Nothing, AGAIN.required]) -> Response:
    """At once, and from the beginning of the schedule; a receiver that is paused is tried too."""
    if not DELIVERY_ID.fullmatch(id):
        raise NotFound("There is no such delivery.")

    async def again() -> DeliveryOut:
        delivery = await services(request).deliveries.redeliver(id)
        note(request.scope, invoice_id=delivery.invoice_id)
        return delivery_view(delivery)

    return await idempotent(request, id, new, again, status=202)


def told(page: Page) -> Response:
    view: EventsOut = {
        "data": [event_view(event) for event in page.events],
        "next_cursor": feed_cursor(page.last),
        "has_more": page.more,
    }
    return answer(view)
