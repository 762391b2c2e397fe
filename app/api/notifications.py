"""Where providers knock, with a signature or with the token of the address that we gave them."""

from fastapi import APIRouter, Request, Response

from app.api import rate_limits
from app.api.bodies import read
from app.api.context import services
from app.api.problems import documented
from app.domain import errors
from app.domain.errors import Malformed, NotFound, Unauthenticated
from app.domain.invoice import ID
from app.observe import note

router = APIRouter(prefix="/webhooks", tags=["notifications"])

LONGEST_NAME = 60

TOLD = documented(
    errors.NotFound,
    errors.Unauthenticated,
    errors.Malformed,
    errors.NotStrictJson,
    errors.InvalidRequest,
    errors.TooLarge,
    errors.RateLimited,
    errors.Overloaded,
)
TOKEN = {
    "name": "token",
    "in": "query",
    "required": False,
    "description": "From the address that the provider was given",
    "schema": {"type": "string", "maxLength": 200},
}
BODY = {"requestBody": {"required": True, "content": {"*/*": {"schema": {"description": "As the provider sends it"}}}}}


@router.post(
    "/{provider}",
    operation_id="takeNotification",
    summary="Take a signed notification",
    status_code=200,
    response_class=Response,
    responses={200: {"description": "It is kept", "content": {}}, **TOLD},
    openapi_extra=BODY,
)
async def notify(request: Request, provider: str) -> Response:
    """A provider that signs may tell us here; it is a hint, on which the provider is asked."""
    return await taken(request, provider, None)


@router.post(
    "/{provider}/{invoice_id}",
    operation_id="takeInvoiceNotification",
    summary="Take a notification about one invoice",
    status_code=200,
    response_class=Response,
    responses={200: {"description": "It is kept", "content": {}}, **TOLD},
    openapi_extra={**BODY, "parameters": [TOKEN]},
)
async def notify_of_invoice(request: Request, provider: str, invoice_id: str) -> Response:
    """The token in the address shows that it is the one which the provider was given for this invoice."""
    return await taken(request, provider, invoice_id)


async def taken(request: Request, provider: str, invoice_id: str | None) -> Response:
    """Answered as soon as it is kept; whatever it leads to comes after. Who proves something is never limited."""
    try:
        await accept(request, provider, invoice_id)
    except (NotFound, Unauthenticated, Malformed):
        rate_limits.refuse(request)
        raise
    return Response(status_code=200)


async def accept(request: Request, provider: str, invoice_id: str | None) -> None:
    if invoice_id is not None and not ID.fullmatch(invoice_id):
        raise Unauthenticated("The notification does not prove where it comes from.")
    note(request.scope, provider=provider[:LONGEST_NAME], invoice_id=invoice_id)
    notifications = services(request).notifications
    sender = notifications.addressed(provider, invoice_id, request.query_params.get("token"))
    body = await read(request)
    headers = {name: ", ".join(request.headers.getlist(name)) for name in request.headers}
    await notifications.accept(sender, invoice_id, headers, body)
