"""The OpenAPI document says what the service does, holds together, and is shown from local files only."""

import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from functools import reduce
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from jsonschema import Draft202012Validator, ValidationError
from openapi_spec_validator import validate

from app.api.openapi import document
from app.api.problems import kinds as problem_kinds
from app.api.schemas import ListQuery, OneQuery
from app.providers import kinds
from tests.callers import bare, behind_doors, knocking
from tests.contract.breaking import breaks
from tests.world import ORDERS

pytestmark = pytest.mark.anyio

COMMITTED = Path(__file__).parent.parent / "openapi/gatehouse.yaml"
RELEASED = COMMITTED.with_name("released.yaml")
WITH_BODY = {
    "createInvoice": True,
    "startCheckout": False,
    "cancelInvoice": False,
    "resolveInvoice": True,
    "pauseProvider": True,
    "resumeProvider": True,
    "redeliverEvent": False,
    "takeNotification": True,
    "takeInvoiceNotification": True,
}


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return behind_doors(bare())


@pytest.fixture(scope="module")
def openapi(app: FastAPI) -> dict[str, Any]:
    return document(app)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with knocking(app) as client:
        yield client


def operations(openapi: dict[str, Any]) -> dict[str, Any]:
    return {one["operationId"]: one for path in openapi["paths"].values() for one in path.values()}


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from ([part["$ref"]] if "$ref" in part else [])
        part = list(part.values())
    if isinstance(part, list):
        for held in part:
            yield from references(held)


def body_validator(openapi: dict[str, Any]) -> Draft202012Validator:
    schema = operations(openapi)["createInvoice"]["requestBody"]["content"]["application/json"]["schema"]
    return Draft202012Validator({**schema, "components": openapi["components"]})


def test_it_is_a_valid_document(openapi: dict[str, Any]) -> None:
    validate(openapi)


def test_every_schema_is_one(openapi: dict[str, Any]) -> None:
    assert openapi["openapi"].startswith("3.1.")
    for schema in openapi["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere_and_nothing_is_left_over(openapi: dict[str, Any]) -> None:
    found = set(references(openapi))
    there = {f"#/components/{kind}/{name}" for kind in ("schemas", "headers") for name in openapi["components"][kind]}
    assert found == there


def test_every_operation_is_told_in_full(openapi: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in openapi["tags"]}
    for name, operation in operations(openapi).items():
        assert re.fullmatch("[a-z]+[A-Z][A-Za-z]+", name)
        assert operation["summary"]
        assert set(operation["tags"]) <= tags
        for response in operation["responses"].values():
            assert response["description"]
            assert "X-Request-Id" in response["headers"]


def test_every_failure_is_told_as_a_problem_with_its_codes(openapi: dict[str, Any]) -> None:
    codes = {kind.code for kind in problem_kinds()}
    assert set(openapi["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == codes
    for operation in operations(openapi).values():
        failures = {status: told for status, told in operation["responses"].items() if status >= "400"}
        assert "500" in failures
        for told in failures.values():
            if "text/html" in told["content"]:
                continue  # a page for a shopper
            assert told["content"] == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
            assert set(re.findall("`([a-z_]+)`:", told["description"])) <= codes


def test_a_create_tells_every_way_in_which_it_may_fail(openapi: dict[str, Any]) -> None:
    responses = operations(openapi)["createInvoice"]["responses"]
    told = {status: re.findall("`([a-z_]+)`:", response["description"]) for status, response in responses.items()}
    assert {(status, code) for status, codes in told.items() for code in codes} == {
        ("400", "invalid_request"),
        ("401", "unauthenticated"),
        ("403", "forbidden"),
        ("409", "idempotency_in_progress"),
        ("413", "payload_too_large"),
        ("415", "unsupported_media_type"),
        ("422", "idempotency_mismatch"),
        ("422", "invalid_request"),
        ("422", "unsupported_operation"),
        ("422", "provider_rejected"),
        ("429", "rate_limited"),
        ("500", "internal_error"),
        ("502", "provider_auth_failed"),
        ("502", "amount_mismatch"),
        ("503", "overloaded"),
        ("503", "provider_rate_limited"),
        ("503", "provider_unavailable"),
        ("504", "outcome_unknown"),
    }


def test_bodies_and_parameters_are_those_that_are_read(openapi: dict[str, Any]) -> None:
    told = operations(openapi)
    assert {name: one["requestBody"]["required"] for name, one in told.items() if "requestBody" in one} == WITH_BODY
    for name, fields in {"listInvoices": ListQuery.model_fields, "getInvoice": OneQuery.model_fields}.items():
        parameters = {one["name"]: one for one in told[name]["parameters"] if one["in"] == "query"}
        assert parameters.keys() == fields.keys()
        assert not any(one["required"] or "null" in json.dumps(one) for one in parameters.values())


@pytest.mark.parametrize("provider", ORDERS)
def test_what_a_provider_takes_is_what_is_told(provider: str, openapi: dict[str, Any]) -> None:
    body_validator(openapi).validate({"provider": provider, **ORDERS[provider]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"a": 1},
        {"amount": 49.9},
        {"amount": "49,90"},
        {"currency": "eur"},
        {"order_id": ""},
        {"items": [{"quantity": 0}]},
        {"metadata": {"a": 1}},
        {"provider_options": {"nobody_knows": 1}},
    ],
)
def test_what_is_refused_is_told_to_be(wrong: dict[str, Any], openapi: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        body_validator(openapi).validate(wrong)


def test_each_kind_of_provider_tells_its_options(openapi: dict[str, Any]) -> None:
    schemas = openapi["components"]["schemas"]
    names = [ref.rpartition("/")[2] for ref in references(schemas["NewInvoice"]["properties"]["provider_options"])]
    taken = [set(kind.Options.model_fields) for kind in kinds().values()]
    assert [set(schemas[name].get("properties", {})) for name in names] == taken


def test_the_document_in_the_repository_is_this_one(openapi: dict[str, Any]) -> None:
    committed = yaml.safe_load(COMMITTED.read_text())
    assert {**committed, "info": {}} == {**openapi, "info": {}}
    assert committed["info"]["description"] == openapi["info"]["description"]


def test_nothing_is_broken_that_was_released(openapi: dict[str, Any]) -> None:
    broken = breaks(yaml.safe_load(RELEASED.read_text()), openapi)
    assert not broken, "\n".join(broken)


INVOICE, CREATE, CANCEL = (
    "components schemas InvoiceOut",
    "paths /v1/invoices post",
    "paths /v1/invoices/{id}/cancel post",
)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("paths /v1/events", {}, "gone: GET /v1/events"),
        (f"{CREATE} parameters", [], "gone: POST /v1/invoices query dry_run is boolean"),
        (f"{CREATE} responses 201 headers", {}, "gone: POST /v1/invoices 201 header Location"),
        (f"{CANCEL} requestBody required", True, "new: POST /v1/invoices/{id}/cancel body must be sent"),
        (f"{INVOICE} properties paid type", "string", "gone: InvoiceOut/paid is boolean"),
        (f"{INVOICE} properties", {}, "gone: InvoiceOut/paid is boolean"),
        (f"{INVOICE} required", [], "gone: InvoiceOut/id is always there"),
        ("components schemas NewInvoice required", ["amount"], "new: NewInvoice/amount must be sent"),
        ("components schemas NewItem properties quantity type", "string", "gone: NewItem/quantity is integer"),
        ("components schemas Status enum", ["pending"], "gone: Status may be expired"),
    ],
)
def test_what_would_break_a_caller_is_named(place: str, value: Any, said: str, openapi: dict[str, Any]) -> None:
    changed = deepcopy(openapi)
    *path, last = place.split()
    reduce(dict.__getitem__, path, changed)[last] = value
    assert said in breaks(openapi, changed)


def test_what_is_added_breaks_nobody(openapi: dict[str, Any]) -> None:
    before = deepcopy(openapi)
    del before["paths"]["/v1/events/{id}"]
    del before["components"]["schemas"]["NewReason"]
    del before["components"]["schemas"]["InvoiceOut"]["properties"]["paid"]
    assert breaks(before, openapi) == []


async def test_the_document_is_served(client: httpx.AsyncClient, openapi: dict[str, Any]) -> None:
    for _ in range(2):
        answer = await client.get("/openapi.json")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == openapi


async def test_the_documentation_comes_from_here_alone(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "http" not in page.text.replace("http-equiv", "")
    assert '"validatorUrl": null' in page.text
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(linked) == 3
    types = {"js": "javascript", "css": "text/css", "png": "image/png"}
    for path in linked:
        part = await client.get(path)
        assert part.status_code == 200
        assert types[path.rpartition(".")[2]] in part.headers["content-type"]
    styles = await client.get("/docs/static/swagger-ui.css")
    assert not re.search(r"url\([\"']?(https?:)?//", styles.text)


async def test_the_documentation_runs_no_other_script(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    [script] = re.findall("<script>(.*?)</script>", page.text, re.DOTALL)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert policy["script-src"] == f"'self' 'sha256-{digest}'"
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert "/openapi.json" in script
