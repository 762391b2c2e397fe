"""Invoices over HTTP: what comes back is what the OpenAPI says, and lists turn their pages without a gap."""

from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from jsonschema import Draft202012Validator
from structlog.testing import capture_logs

from app.domain.errors import NotFound
from app.domain.invoice import Invoice, Status
from app.providers import kinds
from app.service.cursors import page_cursor, read_page_cursor
from app.service.invoices import known
from tests.callers import bearer, is_problem, pointers, world_of_roles
from tests.world import ORDERS, World

pytestmark = pytest.mark.anyio

UNKNOWN_ID = "inv_01h455vb4pex5vsknk084sn02q"
PROVIDER = next(iter(ORDERS))
# Ids that could never be one.
ODD_IDS = ["inv_1", UNKNOWN_ID.upper(), f"{UNKNOWN_ID}0", f"{UNKNOWN_ID}%0a", f"evt{UNKNOWN_ID[3:]}", "%00", "'", "é"]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world_of_roles(Path(tmp_path_factory.mktemp("invoices"))) as world:
        yield world


@pytest.fixture(scope="module")
async def schemas(world: World) -> Any:
    return (await world.http.get("/openapi.json")).json()["components"]


def conforms(body: Any, name: str, components: Any) -> None:
    Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components}).validate(body)


@pytest.mark.parametrize("provider", ORDERS)
async def test_what_is_created_can_be_read_where_it_says(provider: str, world: World, schemas: Any) -> None:
    created = await world.create(provider)
    assert created.status_code == 201, created.text
    assert created.headers["content-type"] == "application/json"
    read = await world.http.get(created.headers["location"], params={"refresh": "false"})
    assert read.json() == created.json()
    conforms(read.json(), "InvoiceOut", schemas)


@pytest.mark.parametrize("kind", kinds())
async def test_the_documented_example_of_a_create_is_one(kind: str, world: World) -> None:
    openapi = (await world.http.get("/openapi.json")).json()
    [media_type] = openapi["paths"]["/v1/invoices"]["post"]["requestBody"]["content"].values()
    created = await world.http.post("/v1/invoices", json=media_type["examples"][kind]["value"])
    assert (created.status_code, created.json().get("provider")) == (201, kind), created.text


@pytest.mark.parametrize("provider", ORDERS)
async def test_a_checkout_is_as_documented(provider: str, world: World, schemas: Any) -> None:
    id = (await world.created(provider))["id"]
    for visit in (await world.checkout(id), await world.http.post(f"/v1/invoices/{id}/checkout")):
        assert visit.status_code == 200, visit.text
        conforms(visit.json(), "VisitOut", schemas)
        assert visit.json()["url"].startswith("http")


async def test_a_canceled_invoice_is_as_documented(world: World, schemas: Any) -> None:
    id = (await world.created(PROVIDER))["id"]
    canceled = await world.http.post(f"/v1/invoices/{id}/cancel")
    assert canceled.json()["status"] == "canceled"
    conforms(canceled.json(), "InvoiceOut", schemas)


async def test_sheets_and_lists_are_as_documented(world: World, schemas: Any) -> None:
    conforms((await world.http.get("/v1/invoices")).json(), "ListOut", schemas)
    sheets = (await world.http.get("/v1/providers")).json()
    conforms(sheets, "SheetsOut", schemas)
    for sheet in sheets["data"]:
        path = f"/v1/providers/{sheet['name']}"
        assert (await world.http.get(path)).json()["operations"] == sheet["operations"]
        for operation, shape in {"assets": "AssetsOut", "questionnaire": "QuestionsOut"}.items():
            answer = await world.http.get(f"{path}/{operation}")
            if sheet["operations"][operation]:
                conforms(answer.json(), shape, schemas)
            else:
                conforms(is_problem(answer, 422, "unsupported_operation"), "Problem", schemas)


@pytest.mark.parametrize("path", ["nobody", "nobody/assets", "nobody/questionnaire", "%00", "%00/assets"])
async def test_an_unknown_provider_is_not_found(path: str, world: World) -> None:
    is_problem(await world.http.get(f"/v1/providers/{path}"), 404, "not_found")


@pytest.mark.parametrize("id", [UNKNOWN_ID, *ODD_IDS])
async def test_an_id_that_could_never_be_one_is_not_found_like_any_other(id: str, world: World) -> None:
    answers = [
        await world.http.get(f"/v1/invoices/{id}"),
        await world.http.post(f"/v1/invoices/{id}/checkout"),
        await world.http.post(f"/v1/invoices/{id}/cancel"),
    ]
    assert {is_problem(answer, 404, "not_found")["detail"] for answer in answers} == {"There is no such invoice."}


@pytest.mark.parametrize("id", ODD_IDS)
def test_an_odd_id_never_reaches_the_store(id: str) -> None:
    assert known(UNKNOWN_ID) == UNKNOWN_ID
    with pytest.raises(NotFound):
        known(unquote(id))


async def test_an_operator_may_see_the_providers_last_word(world: World) -> None:
    id = (await world.created(PROVIDER))["id"]
    plain = await world.read(id, refresh="false")
    told = await world.read(id, refresh="false", include="provider_data")
    assert told.pop("provider_data")
    assert told == plain


async def test_the_line_in_the_log_names_the_invoice(world: World) -> None:
    with capture_logs() as logs:
        invoice = await world.created(PROVIDER)
    [line] = [line for line in logs if line["event"] == "request"]
    assert (line["invoice_id"], line["provider"], line["caller"]) == (invoice["id"], PROVIDER, "the admin")


async def test_a_doubtful_create_is_told_with_its_invoice(world: World, schemas: Any) -> None:
    await world.arm(PROVIDER, "create", "timeout_after_accept")
    with capture_logs() as logs:
        answer = await world.create(PROVIDER)
    body = is_problem(answer, 504, "outcome_unknown")
    conforms(body, "Problem", schemas)
    assert body["provider"]["name"] == PROVIDER
    assert "retry-after" in answer.headers
    [line] = [line for line in logs if line["event"] == "request"]
    assert (line["code"], line["invoice_id"], line["provider"]) == ("outcome_unknown", body["invoice_id"], PROVIDER)
    doubtful = await world.read(body["invoice_id"], include="provider_data", refresh="false")
    assert (doubtful["status"], doubtful["provider_data"]) == ("unknown", None)


FAULTY = {
    "limit=0": "limit",
    "limit=101": "limit",
    "limit=-1": "limit",
    "limit=1.0": "limit",
    "limit=%2B1": "limit",
    "limit=1_0": "limit",
    "limit=%D9%A1": "limit",
    "limit=01": "limit",
    "limit=": "limit",
    "limit=1&limit=2": "limit",
    "offset=1": "offset",
    "status=paid": "status",
    "status=": "status",
    "status=pending,failed": "status",
    "provider=": "provider",
    "provider=%00": "provider",
    "order_id=a%0ab": "order_id",
    "order_id=" + "a" * 129: "order_id",
    "provider_invoice_id=" + "a" * 201: "provider_invoice_id",
    "created_after=yesterday": "created_after",
    "created_after=1700000000": "created_after",
    "created_after=2026-11-22": "created_after",
    "created_after=2026-11-22T08:00:00": "created_after",
    "created_after=2026-11-22T08:00:00+01:00": "created_after",
    "created_after=2026-02-30T08:00:00Z": "created_after",
    "created_after=0001-01-01T00:00:00%2B01:00": "created_after",
    "created_before=2026-11-22T24:00:01Z": "created_before",
    "cursor=": "cursor",
    "cursor=a": "cursor",
    "cursor=%00": "cursor",
    "cursor=" + "a" * 200: "cursor",
    "%3Cscript%3E=1": "<script>",
}


@pytest.mark.parametrize("query", FAULTY)
async def test_a_wrong_parameter_is_named(query: str, world: World) -> None:
    body = is_problem(await world.http.get(f"/v1/invoices?{query}"), 422, "invalid_request")
    assert pointers(body) == [f"query:{FAULTY[query]}"]


async def test_every_wrong_parameter_is_named(world: World) -> None:
    answer = await world.http.get("/v1/invoices?limit=0&a=1&status=paid&limit=5&cursor=x")
    assert pointers(is_problem(answer, 422, "invalid_request")) == [
        "query:a",
        "query:cursor",
        "query:limit",
        "query:status",
    ]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"/v1/invoices/{UNKNOWN_ID}?refresh=yes", "refresh"),
        (f"/v1/invoices/{UNKNOWN_ID}?include=everything", "include"),
        (f"/v1/invoices/{UNKNOWN_ID}?limit=1", "limit"),
        ("/v1/providers?limit=1", "limit"),
    ],
)
async def test_only_known_parameters_are_taken(path: str, name: str, world: World) -> None:
    assert pointers(is_problem(await world.http.get(path), 422, "invalid_request")) == [f"query:{name}"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=1",
        "limit=100",
        "status=partially_paid",
        "provider=nobody",
        "order_id=%F0%9F%93%9A",
        "created_after=2026-11-22T08:00:00Z&created_before=2026-11-22t10:00:00.123456789%2B02:00",
    ],
)
async def test_a_right_parameter_is_taken(query: str, world: World) -> None:
    answer = await world.http.get(f"/v1/invoices?{query}")
    assert answer.status_code == 200, answer.text


async def test_a_filter_keeps_what_it_names(world: World) -> None:
    mine = await world.created(PROVIDER, order_id="order-of-the-filter")
    for name, value in {
        "order_id": mine["order_id"],
        "provider_invoice_id": mine["provider_invoice_id"],
        "created_after": shifted(mine["created_at"], -1),
    }.items():
        found = (await world.http.get("/v1/invoices", params={name: value})).json()["data"]
        assert [one["id"] for one in found] == [mine["id"]], name
    before = await world.http.get("/v1/invoices", params={"created_before": mine["created_at"], "limit": 100})
    assert mine["id"] not in [one["id"] for one in before.json()["data"]]


def shifted(at: str, milliseconds: int) -> str:
    moved = datetime.fromisoformat(at) + timedelta(milliseconds=milliseconds)
    return moved.astimezone(UTC).isoformat()


async def test_pages_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    async with world_of_roles(tmp_path) as world:
        made = [(await world.created(PROVIDER))["id"] for _ in range(5)]
        seen, page = [], (await world.http.get("/v1/invoices?limit=2")).json()
        while True:
            seen += [one["id"] for one in page["data"]]
            if not page["has_more"]:
                break
            late = (await world.created(PROVIDER))["id"]
            page = (await world.http.get(f"/v1/invoices?limit=2&cursor={page['next_cursor']}")).json()
    assert page["next_cursor"] is None
    assert seen == made[::-1]
    assert late not in seen


PLACE = Invoice(
    id=UNKNOWN_ID,
    provider="shop",
    status=Status.PENDING,
    created_at=datetime(2026, 11, 22, 8, 0, 0, 123_000, UTC),
    updated_at=datetime(2026, 11, 22, tzinfo=UTC),
)


def test_a_cursor_is_opaque_and_leads_back() -> None:
    text = page_cursor(PLACE)
    assert quote(text, safe="") == text
    assert UNKNOWN_ID not in text
    assert read_page_cursor(text) == (PLACE.created_at, PLACE.id)


FORGED = {
    "padded": page_cursor(PLACE) + "=",
    "cut": page_cursor(PLACE)[:-2],
    "longer": page_cursor(PLACE) + "AA",
    "in two": page_cursor(PLACE)[:10] + "\n" + page_cursor(PLACE)[10:],
    "of another id": urlsafe_b64encode(b"1 evt_01h455vb4pex5vsknk084sn02q").rstrip(b"=").decode(),
    "of no time": urlsafe_b64encode(f"-1 {UNKNOWN_ID}".encode()).rstrip(b"=").decode(),
    "of a time without end": urlsafe_b64encode(f"{10**14} {UNKNOWN_ID}".encode()).rstrip(b"=").decode(),
    "not ASCII": "é",
    "not UTF-8": "_-_-",
}


@pytest.mark.parametrize("name", FORGED)
def test_a_cursor_that_we_never_gave_leads_nowhere(name: str) -> None:
    with pytest.raises(ValueError, match="is not a cursor"):
        read_page_cursor(FORGED[name])


async def test_a_service_that_is_about_to_end_is_not_ready(world: World) -> None:
    assert (await world.http.get("/readyz")).json() == {"status": "ready"}
    world.app.state.services.watch.draining = True
    try:
        answer = await world.http.get("/readyz")
        is_problem(answer, 503, "overloaded")
        assert answer.headers["retry-after"] == "1"
        assert (await world.http.get("/livez")).status_code == 200
        assert (await world.http.get("/v1/providers", headers=bearer("read"))).status_code == 200
    finally:
        world.app.state.services.watch.draining = False
