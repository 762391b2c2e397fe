"""The one place that knows which HTTP status an error has, and how it is told (RFC 9457)."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NotRequired, cast

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect
from typing_extensions import TypedDict

from app.domain import errors
from app.domain.errors import PaymentError
from app.observe import note, request_id
from app.service.faults import fault_of

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
SCHEMA = {"$ref": "#/components/schemas/Problem"}
LONGEST_WORD = 300
UNSHOWN = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")

STATUS: Mapping[type[PaymentError], int] = {
    errors.InvalidRequest: 422,
    errors.Malformed: 400,
    errors.NotStrictJson: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.TooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.UnsupportedOperation: 422,
    errors.Conflict: 409,
    errors.IdempotencyInProgress: 409,
    errors.IdempotencyMismatch: 422,
    errors.RateLimited: 429,
    errors.Overloaded: 503,
    errors.InternalError: 500,
    errors.Rejected: 422,
    errors.ProviderNotFound: 404,
    errors.Misconfigured: 502,
    errors.Throttled: 503,
    errors.Unavailable: 503,
    errors.Faulty: 502,
    errors.Unreadable: 502,
    errors.TimedOut: 504,
    errors.OutcomeUnknown: 504,
    errors.AmountMismatch: 502,
}

# What Starlette says by number.
NUMBERED: Mapping[int, tuple[type[PaymentError], str]] = {
    404: (errors.NotFound, "There is nothing at this address."),
    405: (errors.MethodNotAllowed, "The Allow header names what this address takes."),
    413: (errors.TooLarge, "The body is larger than this address takes."),
}

# What is said beside a problem; where a request stopped half-way, nobody knows where the next would begin.
BESIDE: Mapping[type[PaymentError], Mapping[str, str]] = {
    errors.Unauthenticated: {"WWW-Authenticate": "Bearer"},
    errors.Malformed: {"Connection": "close"},
}
LATER = frozenset({429, 503})

RETRY_AFTER = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
RATE_LIMIT = {
    "RateLimit": {
        "description": "How many calls are left, and in how many seconds all are",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {"description": "How many there are in how many seconds", "schema": {"type": "string"}},
}
TOLD_LATER: Mapping[int, Mapping[str, Any]] = {429: {**RETRY_AFTER, **RATE_LIMIT}, 503: RETRY_AFTER}

EVERYWHERE = (errors.InternalError,)
AUTHENTICATED = (errors.Unauthenticated, errors.Forbidden, errors.InvalidRequest, errors.RateLimited)
WITH_BODY = (errors.TooLarge, errors.UnsupportedMediaType, errors.Malformed, errors.NotStrictJson)
SENDING = (errors.Rejected, errors.Misconfigured, errors.Throttled, errors.Unavailable, errors.OutcomeUnknown)
READING = (
    errors.ProviderNotFound,
    errors.Rejected,
    errors.Misconfigured,
    errors.Throttled,
    errors.Unavailable,
    errors.Faulty,
    errors.Unreadable,
    errors.TimedOut,
)


class SaidOut(TypedDict):
    """What the provider itself said."""

    name: str
    http_status: int | None
    code: str | None
    message: str | None


class FaultOut(TypedDict):
    """A JSON pointer into the body, or `query:x`, `header:x`, `path:x`, and what is wrong there."""

    pointer: str
    message: str


class ProblemOut(TypedDict):
    """A failure. Switch on `code`; `outcome` is what happened at the provider; `retryable`: the same call, later."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    outcome: Literal["none", "happened", "unknown"]
    request_id: str
    provider: NotRequired[SaidOut]
    errors: NotRequired[list[FaultOut]]
    invoice_id: NotRequired[str]


def status_of(kind: type[PaymentError]) -> int:
    return next(STATUS[cls] for cls in kind.__mro__ if cls in STATUS)


def kinds() -> list[type[PaymentError]]:
    """Every class that has a code of its own to tell."""
    return [kind for cls in STATUS for kind in ([cls] if hasattr(cls, "code") else cls.__subclasses__())]


def problem(request: Request, error: PaymentError, headers: Mapping[str, str] | None = None) -> Response:
    status = status_of(type(error))
    body = view(request, error, status)
    note(request.scope, **{name: value for name, value in facts(error).items() if value is not None})
    return Response(msgspec.json.encode(body), status, {**headers_of(error, status), **(headers or {})}, MEDIA_TYPE)


def view(request: Request, error: PaymentError, status: int) -> ProblemOut:
    body: ProblemOut = {
        "type": f"{request.app.state.public_url}/problems/{error.code}",
        "title": error.title,
        "status": status,
        "detail": error.detail,
        "code": error.code,
        "retryable": error.retryable,
        "outcome": error.outcome,
        "request_id": request_id(request.scope),
    }
    if isinstance(error, errors.ProviderError):
        body["provider"] = said(error)
    if isinstance(error, errors.InvalidRequest):
        body["errors"] = [{"pointer": fault.pointer, "message": fault.message} for fault in error.faults]
    if error.invoice_id is not None:
        body["invoice_id"] = error.invoice_id
    return body


def said(error: errors.ProviderError) -> SaidOut:
    complaint = error.complaint
    return {
        "name": error.provider,
        "http_status": complaint.http_status,
        "code": tidy(complaint.code),
        "message": tidy(complaint.message),
    }


def tidy(words: str | None) -> str | None:
    """A stranger's words on one line and not too many."""
    return UNSHOWN.sub(" ", words)[:LONGEST_WORD] if words is not None else None


def headers_of(error: PaymentError, status: int) -> dict[str, str]:
    """When to come back is always said where the caller should."""
    headers = next((said for kind, said in BESIDE.items() if isinstance(error, kind)), {})
    wait = error.retry_after or (1 if status in LATER else None)
    return {**headers} if wait is None else {**headers, "Retry-After": str(wait)}


def facts(error: PaymentError) -> dict[str, str | None]:
    provider = error.provider if isinstance(error, errors.ProviderError) else None
    return {"code": error.code, "provider": provider, "invoice_id": error.invoice_id}


def install(app: FastAPI) -> None:
    app.exception_handlers |= {
        PaymentError: payment_error,
        HTTPException: numbered,
        RequestValidationError: not_valid,
        ClientDisconnect: gone,
    }
    app.add_middleware(ExceptionMiddleware, handlers={PaymentError: payment_error, Exception: unexpected})
    methods: dict[str | None, set[str]] = {}
    for route in iter_route_contexts(app.routes):
        methods.setdefault(route.path_format, set()).update(route.methods or ())
    app.state.methods = {path: ", ".join(sorted(found)) for path, found in methods.items()}


async def payment_error(request: Request, error: Exception) -> Response:
    return problem(request, cast("PaymentError", error))


async def numbered(request: Request, error: HTTPException) -> Response:
    kind, detail = NUMBERED.get(error.status_code, (errors.InternalError, "The request could not be served."))
    headers = dict(error.headers or {})
    if "Allow" in headers and "route" in request.scope:
        headers["Allow"] = request.app.state.methods[request.scope["route"].path_format]
    return problem(request, kind(detail), headers)


async def not_valid(request: Request, error: RequestValidationError) -> Response:
    found = [fault_of(one, lambda where: ":".join(map(str, where))) for one in error.errors()]
    return problem(request, errors.InvalidRequest(found))


async def gone(request: Request, _error: Exception) -> Response:
    """Nobody is left to read this, but the line about the request says so."""
    return problem(request, errors.Malformed("The body ended before it was whole."))


async def unexpected(request: Request, error: Exception) -> Response:
    log.error("request.failed", method=request.method, exc_info=error)
    return problem(request, errors.InternalError("It has been logged under this request's id."))


def documented(*found: type[PaymentError]) -> dict[int | str, dict[str, Any]]:
    """The responses of an operation for its OpenAPI: by status, and within it by code."""
    by_status: dict[int, list[type[PaymentError]]] = {}
    for kind in (*found, *EVERYWHERE):
        by_status.setdefault(status_of(kind), []).append(kind)
    return {status: described(status, same) for status, same in sorted(by_status.items())}


def described(status: int, same: Iterable[type[PaymentError]]) -> dict[str, Any]:
    said = "\n\n".join(f"`{kind.code}`: {kind.title}." for kind in same)
    told = {"headers": TOLD_LATER[status]} if status in TOLD_LATER else {}
    return {"description": said, "content": {MEDIA_TYPE: {"schema": SCHEMA}}, **told}
