"""The page behind each problem's type: what its code means, and what to do about it."""

from collections.abc import Mapping
from html import escape

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from typing_extensions import TypedDict

from app.api.answers import answer
from app.api.problems import documented, kinds, status_of
from app.domain.errors import NotFound, PaymentError
from app.service.views import described

router = APIRouter(tags=["service"])

ADVICE: Mapping[str, str] = {
    "invalid_request": "Nothing was done. Put right everything that errors names, then send it again.",
    "unauthenticated": "Nothing was done. Send a key that is configured here, as Authorization: Bearer <key>.",
    "forbidden": "Nothing was done. Use a key whose role may do this: read, write or admin.",
    "not_found": "Check the address and the id. An id that was never given out is told in the same way.",
    "method_not_allowed": "Use one of the methods that the Allow header names.",
    "payload_too_large": "Nothing was done. Send less: a body may have at most 256 KiB.",
    "unsupported_media_type": "Nothing was done. Send Content-Type: application/json, in UTF-8, not compressed.",
    "unsupported_operation": "Nothing was done. The provider's sheet, /v1/providers/{name}, says what it can do.",
    "invoice_finished": "Read the invoice: it is paid, or it has ended. For a new try, create a new invoice.",
    "redirect_fixed_at_creation": "Give redirect_url and redirect_button_title when you create the invoice instead.",
    "checkout_unavailable": "The provider told the address once and it was lost on the way. Create a new invoice.",
    "idempotency_in_progress": "The first call with this key still runs. Send the same again after Retry-After.",
    "idempotency_mismatch": "Nothing was done. Use a new key for a new request, or send just what was sent first.",
    "rate_limited": "Nothing was done. Send the same call again after the seconds in Retry-After, and more slowly.",
    "overloaded": "Nothing was done. Send the same call again after the seconds that Retry-After names.",
    "internal_error": "It is not known what was done. Read first, then send it again; the operator needs request_id.",
    "provider_rejected": "The provider did nothing; provider tells its reason. The same call will be refused again.",
    "provider_not_found": "The provider does not know this invoice, though it once did. Ask the provider.",
    "provider_auth_failed": "The provider did nothing: the operator has to put its credentials right.",
    "provider_rate_limited": "The provider did nothing. Send the same call again after the seconds in Retry-After.",
    "provider_unavailable": "Nothing reached the provider. Send the same call again after the seconds in Retry-After.",
    "provider_error": "The provider failed while it was read; nothing was changed. Send the same call again later.",
    "provider_invalid_response": "The provider's answer could not be understood; nothing was changed.",
    "provider_timeout": "The provider did not answer in time; nothing was changed. Send the same call again later.",
    "outcome_unknown": "It may have happened. Do not create another: read invoice_id until its status is known.",
    "amount_mismatch": "Do not let the shopper pay. The invoice stays unknown until the operator settles it.",
}


@described
class AdviceOut(TypedDict):
    code: str
    title: str
    statuses: list[int]
    outcome: str
    retryable: bool
    advice: str


CODES = {"name": "code", "in": "path", "required": True, "schema": {"type": "string", "enum": list(ADVICE)}}


@router.get(
    "/problems/{code}",  # noqa: FAST003  # documented below, with every code that there is
    operation_id="explainProblem",
    summary="What a problem's code means",
    response_model=AdviceOut,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **documented(NotFound)},
    openapi_extra={"parameters": [CODES]},
)
async def explain_problem(request: Request) -> Response:
    """As a page, or as JSON, whichever is accepted."""
    code = request.path_params["code"]
    found = [kind for kind in kinds() if kind.code == code]
    if not found:
        raise NotFound("There is no problem with this code.")
    view = explained(code, found)
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(page(view), headers={"Vary": "Accept"})
    return answer(view, headers={"Vary": "Accept"})


def explained(code: str, found: list[type[PaymentError]]) -> AdviceOut:
    return {
        "code": code,
        "title": found[0].title,
        "statuses": sorted({status_of(kind) for kind in found}),
        "outcome": found[0].outcome,
        "retryable": found[0].retryable,
        "advice": ADVICE[code],
    }


def page(view: AdviceOut) -> str:
    rows = {
        "HTTP status": ", ".join(map(str, view["statuses"])),
        "Outcome at the provider": view["outcome"],
        "The same call, later": "may succeed" if view["retryable"] else "will fail again",
    }
    facts = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows.items())
    title = escape(view["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>'
        f"<p><code>{escape(view['code'])}</code></p><p>{escape(view['advice'])}</p><dl>{facts}</dl></html>"
    )
