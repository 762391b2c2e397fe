"""A link for the shopper's browser, which leads to where the invoice is paid, or to the truth about it."""

import re
from base64 import b64encode
from hashlib import sha256
from html import escape

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from app.api import rate_limits
from app.api.context import services
from app.api.problems import documented
from app.domain.errors import AmountMismatch, Conflict, InvalidRequest, NotFound, PaymentError, RateLimited
from app.domain.invoice import Invoice, Status
from app.domain.redirects import returning
from app.observe import note

router = APIRouter(tags=["pay"])

WRONG = ("This link is not valid", "Ask the shop for a new one.")
AWAY = ("The payment page can't be reached just now", "Try again in a moment; nothing is paid twice.")
AHEAD = ("This link leads to a payment page", "Open it in a browser to pay.")
TOO_OFTEN = ("There are too many visitors from your network just now", "Try again in a moment.")
STUCK = ("This can't be paid here", "Ask the shop how to go on.")
TRUTH = {
    Status.COMPLETED: ("This is paid", "There is nothing more to do."),
    Status.REFUNDED: ("This was refunded", "The money has been sent back."),
    Status.DISPUTED: ("This is paid, and disputed", "The shop knows about it."),
    Status.EXPIRED: ("This has expired", "It can't be paid any more. Ask the shop for a new link."),
    Status.CANCELED: ("This was canceled", "It can't be paid any more."),
    Status.FAILED: ("This payment has failed", "Ask the shop for a new link."),
}

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #fff; --ground: #eef1f6 }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf3; --paper: #1a202b; --ground: #10141b } }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--ground);
  color: var(--ink); font: 17px/1.5 system-ui, sans-serif }
main { max-width: 26rem; margin: 1rem; padding: 2rem; border-radius: 16px; background: var(--paper) }
h1 { margin: 0 0 .5rem; font-size: 1.35rem } p { margin: .25rem 0 }
"""
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{title}</title><style>{style}</style></head>
<body><main><h1>{title}</h1><p>{text}</p></main></body>
</html>
"""
POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
UNSTORED = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
AHEAD_OF_TIME = re.compile("prefetch|prerender|preview", re.IGNORECASE)


@router.head("/pay/{client_secret}", include_in_schema=False)
@router.get(
    "/pay/{client_secret}",
    operation_id="payInvoice",
    summary="Send a shopper to where the invoice is paid",
    status_code=303,
    response_class=RedirectResponse,
    responses={
        200: {"description": "A page with the truth, where there is nowhere to go", "content": {"text/html": {}}},
        303: {"description": "To the provider's page, or back to the shop", "content": {}},
        401: {"description": "The secret is wrong", "content": {"text/html": {}}},
        429: {"description": "Too many visits from one address", "content": {"text/html": {}}},
        503: {"description": "The provider can't be reached", "content": {"text/html": {}}},
        **documented(InvalidRequest),
    },
)
async def pay(request: Request, client_secret: str) -> Response:
    """What only looks ahead starts nothing: HEAD, a prefetch, the preview of a link in a message."""
    try:
        rate_limits.visit(request)
    except RateLimited as error:
        return too_often(request, error)
    id = services(request).addresses.client_of(client_secret)
    if id is None:
        return page(WRONG, 401)
    note(request.scope, invoice_id=id)
    if looks_ahead(request):
        return page(AHEAD)
    try:
        return await led(request, id)
    except NotFound:
        return page(WRONG, 401)
    except PaymentError as error:
        note(request.scope, code=error.code)
        return page(AWAY, 503)


async def led(request: Request, id: str) -> Response:
    """To the provider's page, back to the shop, or to the truth."""
    offered = services(request)
    reading = await offered.invoices.get(id)
    if reading.invoice.ended:
        return ended(reading.invoice)
    try:
        visit = await offered.checkouts.start(id, redirect_url=None, redirect_button_title=None)
    except (Conflict, AmountMismatch):
        reading = await offered.invoices.get(id, refresh=False)
        return ended(reading.invoice)
    return away(visit.url) if visit.url else ended(visit.invoice)


def ended(invoice: Invoice) -> Response:
    if invoice.redirect_url and invoice.ended:
        return away(returning(invoice.redirect_url, invoice))
    return page(TRUTH.get(invoice.status, STUCK))


def looks_ahead(request: Request) -> bool:
    purpose = " ".join(request.headers.get(name, "") for name in ("sec-purpose", "purpose", "x-purpose"))
    return request.method == "HEAD" or AHEAD_OF_TIME.search(purpose) is not None


def away(url: str) -> Response:
    return RedirectResponse(url, 303, UNSTORED)


def too_often(request: Request, error: RateLimited) -> Response:
    note(request.scope, code=error.code)
    refused = page(TOO_OFTEN, 429)
    refused.headers["Retry-After"] = str(error.retry_after)
    return refused


def page(words: tuple[str, str], status: int = 200) -> Response:
    title, text = map(escape, words)
    headers = {**UNSTORED, "Content-Security-Policy": POLICY}
    return HTMLResponse(PAGE.format(title=title, text=text, style=STYLE), status, headers)
