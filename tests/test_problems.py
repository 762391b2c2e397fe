"""Every failure is told as a problem, with what callers need and nothing that they should not see."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from structlog.testing import capture_logs

from app.api.advice import ADVICE
from app.api.problems import kinds
from app.domain import errors
from app.domain.errors import Complaint, Fault, PaymentError, ProviderError
from tests.callers import bare, bearer, behind_doors, is_problem, knocking
from tests.world import SERVICE

pytestmark = pytest.mark.anyio

# Class: status, code, outcome at the provider, whether the same call may succeed later.
PROMISED = {
    "InvalidRequest": (422, "invalid_request", "none", False),
    "Malformed": (400, "invalid_request", "none", False),
    "NotStrictJson": (400, "invalid_request", "none", False),
    "Unauthenticated": (401, "unauthenticated", "none", False),
    "Forbidden": (403, "forbidden", "none", False),
    "NotFound": (404, "not_found", "none", False),
    "MethodNotAllowed": (405, "method_not_allowed", "none", False),
    "TooLarge": (413, "payload_too_large", "none", False),
    "UnsupportedMediaType": (415, "unsupported_media_type", "none", False),
    "UnsupportedOperation": (422, "unsupported_operation", "none", False),
    "IdempotencyInProgress": (409, "idempotency_in_progress", "none", True),
    "IdempotencyMismatch": (422, "idempotency_mismatch", "none", False),
    "InvoiceFinished": (409, "invoice_finished", "none", False),
    "RedirectFixed": (409, "redirect_fixed_at_creation", "none", False),
    "CheckoutUnavailable": (409, "checkout_unavailable", "none", False),
    "RateLimited": (429, "rate_limited", "none", True),
    "Overloaded": (503, "overloaded", "none", True),
    "InternalError": (500, "internal_error", "unknown", True),
    "Rejected": (422, "provider_rejected", "none", False),
    "AlreadyExists": (422, "provider_rejected", "none", False),
    "ProviderNotFound": (404, "provider_not_found", "none", False),
    "Misconfigured": (502, "provider_auth_failed", "none", False),
    "Throttled": (503, "provider_rate_limited", "none", True),
    "Unavailable": (503, "provider_unavailable", "none", True),
    "Faulty": (502, "provider_error", "none", True),
    "Unreadable": (502, "provider_invalid_response", "none", False),
    "TimedOut": (504, "provider_timeout", "none", True),
    "OutcomeUnknown": (504, "outcome_unknown", "unknown", True),
    "AmountMismatch": (502, "amount_mismatch", "happened", False),
}
SECRET = "postgresql://gatehouse:very-secret@db/gatehouse"


def every_class(root: type[PaymentError] = PaymentError) -> Iterator[type[PaymentError]]:
    for cls in root.__subclasses__():
        yield from every_class(cls)
        if hasattr(cls, "code"):
            yield cls


def made(kind: type[PaymentError], **more: Any) -> PaymentError:
    if issubclass(kind, errors.InvalidRequest):
        return kind([Fault("/amount", "is required")])
    if issubclass(kind, ProviderError):
        return kind("It went wrong.", provider="shop2", **more)
    return kind("It went wrong.", **more)


class Stage:
    """What the one route of the application raises next."""

    error: Exception


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


@pytest.fixture(scope="module")
def app(stage: Stage) -> FastAPI:
    app = bare()

    @app.get("/fails")
    async def fails() -> None:
        raise stage.error

    @app.get("/typed/{number}")
    async def typed(number: int, limit: int) -> None: ...

    @app.post("/fails")
    async def posted() -> None: ...

    return behind_doors(app)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with knocking(app) as client:
        yield client


def test_every_class_that_can_be_raised_is_promised() -> None:
    assert {cls.__name__ for cls in every_class()} == PROMISED.keys()
    assert set(kinds()) == {cls for cls in every_class() if "code" in vars(cls)}


@pytest.mark.parametrize("name", PROMISED)
async def test_a_failure_is_told_as_promised(name: str, client: httpx.AsyncClient, stage: Stage) -> None:
    status, code, outcome, retryable = PROMISED[name]
    stage.error = made(getattr(errors, name))
    body = is_problem(await client.get("/fails"), status, code)
    assert (body["outcome"], body["retryable"]) == (outcome, retryable)
    assert body["title"] == stage.error.title
    assert body["detail"] == stage.error.detail


async def test_what_does_not_exist_is_not_in_it(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.error = errors.NotFound("No.")
    body = is_problem(await client.get("/fails"), 404, "not_found")
    assert body.keys() == {"type", "title", "status", "detail", "code", "retryable", "outcome", "request_id"}


async def test_an_invoice_is_named(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.error = made(errors.OutcomeUnknown, invoice_id="inv_1", retry_after=7)
    answer = await client.get("/fails")
    assert is_problem(answer, 504, "outcome_unknown")["invoice_id"] == "inv_1"
    assert answer.headers["retry-after"] == "7"


async def test_a_provider_is_quoted(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.error = made(errors.Rejected, complaint=Complaint(http_status=422, code="E1", message="No such variant"))
    body = is_problem(await client.get("/fails"), 422, "provider_rejected")
    assert body["provider"] == {"name": "shop2", "http_status": 422, "code": "E1", "message": "No such variant"}


async def test_a_provider_that_said_nothing_is_named(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.error = made(errors.Unavailable)
    body = is_problem(await client.get("/fails"), 503, "provider_unavailable")
    assert body["provider"] == {"name": "shop2", "http_status": None, "code": None, "message": None}


async def test_a_providers_words_are_kept_short_and_on_one_line(client: httpx.AsyncClient, stage: Stage) -> None:
    said = "a\r\n\tb\x1b[31m\ud800" + "c" * 500
    stage.error = made(errors.Rejected, complaint=Complaint(message=said, code=said))
    quoted = is_problem(await client.get("/fails"), 422, "provider_rejected")["provider"]
    assert quoted["message"] == ("a b [31m " + "c" * 500)[:300]
    assert quoted["code"] == quoted["message"]


@pytest.mark.parametrize("name", [name for name, (status, *_) in PROMISED.items() if status == 503])
async def test_whoever_has_to_come_back_is_told_when(name: str, client: httpx.AsyncClient, stage: Stage) -> None:
    stage.error = made(getattr(errors, name))
    assert (await client.get("/fails")).headers["retry-after"] == "1"
    stage.error = made(getattr(errors, name), retry_after=30)
    assert (await client.get("/fails")).headers["retry-after"] == "30"


async def test_a_401_says_how_to_come_in(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.error = made(errors.Unauthenticated)
    assert (await client.get("/fails")).headers["www-authenticate"] == "Bearer"


NOWHERE = ["/", "/nowhere", "/v1", "/v1/invoices/", "/v1/invoices/a/b/c", "/docs/", "/docs/static/nothing.js"]


@pytest.mark.parametrize("path", NOWHERE)
async def test_an_unknown_address_is_a_problem(path: str, client: httpx.AsyncClient) -> None:
    is_problem(await client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/fails", "GET, POST"),
        ("PUT", "/v1/invoices", "GET, POST"),
        ("DELETE", "/v1/invoices/inv_1", "GET"),
        ("GET", "/v1/invoices/inv_1/checkout", "POST"),
        ("POST", "/docs/static/swagger-ui.css", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    method: str, path: str, allowed: str, client: httpx.AsyncClient
) -> None:
    answer = await client.request(method, path)
    is_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


async def test_parameters_that_the_framework_judges_are_named(client: httpx.AsyncClient) -> None:
    body = is_problem(await client.get("/typed/whatever"), 422, "invalid_request")
    assert {fault["pointer"] for fault in body["errors"]} == {"path:number", "query:limit"}
    assert "whatever" not in str(body["errors"])


async def test_a_header_that_the_framework_judges_is_named(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.error = RequestValidationError([{"loc": ("header", "x-a"), "type": "missing", "msg": "", "input": SECRET}])
    body = is_problem(await client.get("/fails"), 422, "invalid_request")
    assert body["errors"] == [{"pointer": "header:x-a", "message": "is required"}]


async def test_the_frameworks_own_413_is_a_problem(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.error = HTTPException(413)
    is_problem(await client.get("/fails"), 413, "payload_too_large")


async def test_anything_unforeseen_leaks_nothing(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.error = RuntimeError(SECRET)
    with capture_logs() as logs:
        answer = await client.get("/fails")
    body = is_problem(answer, 500, "internal_error")
    assert "very-secret" not in answer.text
    assert "RuntimeError" not in answer.text
    [failed] = [line for line in logs if line["event"] == "request.failed"]
    assert failed["exc_info"] is stage.error
    assert failed["log_level"] == "error"
    assert body["request_id"] == answer.headers["x-request-id"]


async def test_an_http_exception_that_nobody_foresaw_leaks_nothing(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.error = HTTPException(418, detail=SECRET)
    answer = await client.get("/fails")
    is_problem(answer, 500, "internal_error")
    assert "very-secret" not in answer.text


async def test_a_caller_who_hangs_up_is_no_failure_of_ours(app: FastAPI) -> None:
    sent = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/invoices",
        "query_string": b"",
        "headers": [(b"authorization", bearer("admin")["Authorization"].encode())],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("a", 80),
    }

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    with capture_logs() as logs:
        await app(scope, receive, send)
    assert [line["event"] for line in logs] == ["request"]
    assert sent[0]["status"] == 400


@pytest.mark.parametrize("code", sorted({code for _, code, *_ in PROMISED.values()}))
async def test_every_code_has_a_page_that_says_what_to_do(code: str, client: httpx.AsyncClient) -> None:
    page = await client.get(f"/problems/{code}", headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert code in page.text
    explained = await client.get(f"/problems/{code}")
    promised = [row for row in PROMISED.values() if row[1] == code]
    assert explained.json() == {
        "code": code,
        "title": next(cls.title for cls in every_class() if cls.code == code),
        "statuses": sorted({row[0] for row in promised}),
        "outcome": promised[0][2],
        "retryable": promised[0][3],
        "advice": ADVICE[code],
    }
    assert page.headers["vary"] == explained.headers["vary"] == "Accept"


def test_no_advice_is_left_over() -> None:
    assert ADVICE.keys() == {cls.code for cls in every_class()}


@pytest.mark.parametrize("code", ["nothing", "<script>", "%00"])
async def test_an_unknown_code_is_a_problem_itself(code: str, client: httpx.AsyncClient) -> None:
    answer = await client.get(f"/problems/{code}", headers={"Accept": "text/html"})
    is_problem(answer, 404, "not_found")


async def test_a_problems_type_is_its_page(client: httpx.AsyncClient, stage: Stage) -> None:
    stage.error = made(errors.Forbidden)
    type_ = (await client.get("/fails")).json()["type"]
    assert type_.startswith(SERVICE)
    assert (await client.get(type_)).status_code == 200
