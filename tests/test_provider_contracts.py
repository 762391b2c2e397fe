"""Each provider's part of the wire is written down, and both we and the sandbox keep to it.

Three readings of one documentation are held against each other: what we send, what the simulators answer, and the
documents in openapi/providers. A document may hold no call that was not sent and answered here.
"""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from app.providers import kinds
from app.simulator import credentials
from tests.provider_contracts import DOCUMENTED, JSON, Contract, Operation, Request, contract, read
from tests.simulator_desk import BLUETAPE, BOARDS, CART, GENERIC, SELLAPP, TURINPAY, Sandbox, client, open_sandbox
from tests.test_cases import CASES, Case, Turn
from tests.test_cases import read as read_case
from tests.world import SHOPPER, World

pytestmark = pytest.mark.anyio

CREDENTIALS = {"sellapp": SELLAPP, "bluetape": BLUETAPE, "turinpay": TURINPAY, "generic": GENERIC}
PLACES = ("schemas", "responses", "parameters", "requestBodies", "securitySchemes")
MARK = re.compile("documented|seen in an SDK|seen in third-party code|inferred|not found", re.IGNORECASE)
OF_THE_CONNECTION = {"accept-encoding", "connection", "content-length", "host"}
BUYER = {**SHOPPER, "phone": "+11234567890", "country": "DE"}
BACK = {"redirect_url": "https://shop.example/thanks?step=3", "redirect_button_title": "Back to the shop"}
RICH = {"order_id": "order-17", "description": "Two books", "customer": BUYER, "metadata": {"cart": "c-9"}}
UUID = "3f0d3c1e-0000-4000-8000-000000000001"

# Recorded answers that nothing documents and that are read nevertheless, each with what is not as documented.
TOLERATED: dict[str, str] = {
    "bluetape/create_answered_with_details_alone": "createInvoice answers 202",
    "generic/assets_with_little_said_of_them": "$: [",
    "generic/create_answered_without_a_wrapper": "createInvoice answers 200",
    "generic/get_answered_without_a_wrapper": "$: 'data' is a required property",
    "generic/list_without_a_wrapper": "$: [",
    "generic/questionnaire_of_bare_names": "$: [",
    "sellapp/get_tolerates_integers_and_new_fields": "$.data.payment.full_price.base: 1999",
    "sellapp/get_with_an_empty_gateway_and_no_customer": "$.data.payment.gateway.data: []",
    "turinpay/create_of_a_price_that_no_float_could_hold": "$.checkoutId: 'c/x'",
    "turinpay/get_adopted_asking_in_words_of_its_own": "$.checkout.ln: 'lightning:none'",
    "turinpay/get_an_intent_whose_payment_is_the_whole_list": "$: 'data' is a required property",
    "turinpay/get_an_intent_whose_payment_is_the_whole_wrapped_list": "$.data: {",
    "turinpay/list_of_one_alone": "$: 'data' is a required property",
}


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def succeeds(case: Case) -> bool:
    """What comes of it is a value, not the name of an error."""
    return not isinstance(case.outcome, str)


def is_whole(path: Path) -> bool:
    """Word for word from the provider's documentation, and not an excerpt."""
    return "documented" in path.stem


def sent_in(documented: Contract, case: Case, turn: Turn) -> Request:
    """Only some headers of a request are recorded."""
    servers = [server["url"] for server in documented.document["servers"]]
    base = case.settings.get("base_url", servers[0]).rstrip("/")
    assert turn.request.url.startswith(f"{base}/")
    path, _, query = turn.request.url.removeprefix(base).partition("?")
    body = read(bytes(turn.request.json)) if turn.request.json else None
    return Request(method=turn.request.method, path=path, query=query, body=body)


def answer_faults(documented: Contract, case: Case, turn: Turn, *, excerpt: bool) -> list[str]:
    sent, answer = sent_in(documented, case, turn), turn.response.answer()
    operation = documented.operation(sent.method, sent.path)
    return documented.answer_faults(operation, answer.status, answer.body, None, excerpt=excerpt)


CONVERSATIONS = [path for path in CASES if path.parent.name in DOCUMENTED and read_case(path).exchange]


# The documents


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_it_is_a_document_of_a_provider_that_is_here(kind: str) -> None:
    document = contract(kind).document
    assert document["openapi"] == "3.1.0"
    validate(document)
    ours = str(kinds()[kind].model_fields["base_url"].default).rstrip("/")
    assert ours in [server["url"] for server in document["servers"]]
    names = [operation.name for operation in operations(contract(kind))]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_every_schema_is_one_and_every_example_fits_it(kind: str) -> None:
    document = contract(kind).document
    for schema in schemas(document):
        Draft202012Validator.check_schema(schema)
    shown = [(schema, schema) for schema in schemas(document)]
    shown += [(media, media["schema"]) for media in values_of(document, "application/json")]
    examples = [(part["example"], schema) for part, schema in shown if "example" in part]
    assert examples
    assert not [fault for example, schema in examples for fault in contract(kind).faults(example, schema)]


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_every_reference_leads_somewhere_and_nothing_is_left_over(kind: str) -> None:
    document = contract(kind).document
    there = {f"#/components/{place}/{name}" for place in PLACES for name in document["components"].get(place, {})}
    used = {*values_of(document, "$ref")}
    required = [*values_of(document, "security")]
    used |= {f"#/components/securitySchemes/{name}" for ways in required for way in ways for name in way}
    assert used == there


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_every_path_names_its_parameters(kind: str) -> None:
    for operation in operations(contract(kind)):
        named = {told["name"] for told in operation.parameters if told["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", operation.path))


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_it_says_of_everything_how_well_it_is_known(kind: str) -> None:
    for operation in operations(contract(kind)):
        bodies = [operation.said["requestBody"]] if "requestBody" in operation.said else []
        for part in (operation.said, *operation.parameters, *bodies, *operation.said["responses"].values()):
            assert MARK.search(contract(kind).follow(part)["description"]), (operation.name, part)
    for part in contract(kind).document["components"]["securitySchemes"].values():
        assert MARK.search(part["description"])


def operations(documented: Contract) -> tuple[Operation, ...]:
    return (*documented.operations, *documented.webhooks)


def schemas(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from document["components"]["schemas"].values()
    yield from values_of({**document, "components": {**document["components"], "schemas": {}}}, "schema")


def values_of(part: Any, name: str) -> Iterator[Any]:
    """Whatever goes by this name, at any depth; examples say nothing."""
    if isinstance(part, dict):
        yield from ([part[name]] if name in part else [])
        part = [held for key, held in part.items() if key != "example"]
    if isinstance(part, list):
        for held in part:
            yield from values_of(held, name)


# What we send


@pytest.mark.parametrize("kind", DOCUMENTED)
async def test_everything_that_the_service_sends_is_documented(world: World, kind: str) -> None:
    await ROADS[kind](world)
    sent = await requests(world, kind)
    faults = [(request, fault) for request in sent for fault in contract(kind).request_faults(request)]
    assert not faults
    called = {contract(kind).operation(request.method, request.path).name for request in sent}
    assert called == {operation.name for operation in contract(kind).operations}


async def sellapp_road(world: World) -> None:
    options = {
        "payment_method": "COINBASE",
        "coupon": "SUMMER",
        "country": "DE",
        "vat_id": "DE123456789",
        "customer_ip": "203.0.113.9",
    }
    items = [{"variant_id": "1001", "quantity": 2}, {"variant_id": "1001", "unit_amount": "19.99", "quantity": 1}]
    await world.created("sellapp", **RICH, items=items, redirect_url=BACK["redirect_url"], provider_options=options)
    await visits(world, "sellapp")
    free = await world.created("sellapp", items=[{"variant_id": "1000"}])
    ok(await world.checkout(free["id"]))
    await cancels(world, "sellapp")


async def bluetape_road(world: World) -> None:
    options = {"due_date": "2030-01-31", "expiration_date": "2030-02-15", "tax_amount": "19.99", "business_name": "Ltd"}
    items = [{"description": "Board", "quantity": 2, "unit_amount": "80.00"}, {"unit_amount": "40.00"}]
    rich = {**RICH, "amount": "219.99", "items": items, "redirect_url": BACK["redirect_url"]}
    there = await world.created("bluetape", **rich, provider_options=options)
    ok(await world.checkout(there["id"]))
    ok(await world.checkout(there["id"], redirect_url="https://shop.example/other#top"))
    await world.created("bluetape", customer={"phone": "+11234567890"})
    await visits(world, "bluetape")
    await cancels(world, "bluetape")


async def turinpay_road(world: World) -> None:
    await world.created("turinpay", **RICH, currency="USD", amount="7")
    there = await visits(world, "turinpay")
    page = ok(await world.checkout(there["id"]))["url"]
    assert (await world.sandbox.get(page)).status_code == 200
    for _ in range(2):
        await world.read(there["id"], refresh="true")


async def generic_road(world: World) -> None:
    options = {"questionnaire": ["email", "phone"], "deposit_callbacks": True, "product_category": "books"}
    await world.created("generic", **RICH, **BACK, provider_options=options)
    await world.created("generic", currency="BTC", amount="0.00012345")
    await visits(world, "generic")
    ok(await world.http.get("/v1/providers/generic/assets"))
    ok(await world.http.get("/v1/providers/generic/questionnaire"))


ROADS: dict[str, Callable[[World], Awaitable[None]]] = {
    "sellapp": sellapp_road,
    "bluetape": bluetape_road,
    "turinpay": turinpay_road,
    "generic": generic_road,
}


async def visits(world: World, kind: str, **fields: Any) -> dict[str, Any]:
    """Create it, check it out twice, read and list it."""
    there = await world.created(kind, **fields)
    for _ in range(2):
        ok(await world.checkout(there["id"]))
    await world.read(there["id"], refresh="true")
    ok(await world.http.get("/v1/invoices", params={"provider": kind}))
    return there


async def cancels(world: World, kind: str) -> None:
    there = await world.created(kind)
    ok(await world.http.post(f"/v1/invoices/{there['id']}/cancel"))


def ok(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


async def requests(world: World, kind: str) -> list[Request]:
    """What the sandbox heard of us; of its own pages it was asked by a browser."""
    below = urlsplit(str(base_url(world.sandbox, kind))).path
    return [
        Request(
            method=heard["method"],
            path=heard["path"].removeprefix(below),
            query=heard["query"],
            headers=heard["headers"],
            body=heard["body"],
        )
        for heard in await world.requests(kind)
        if "/checkout/" not in heard["path"]
    ]


def base_url(sandbox: httpx.AsyncClient, kind: str) -> str:
    return credentials(str(sandbox.base_url).rstrip("/"))[kind]["base_url"]


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"headers": {}}, "its credentials are not as documented"),
        ({"headers": {"public-key": "k", "nonce": "1"}}, "its credentials are not as documented"),
        ({"query": "page=1"}, "query page: is not documented"),
        ({"body": None}, "it has no body"),
        ({"body": {"asset": "EUR"}}, "$: 'amount' is a required property"),
        ({"body": {"asset": "EUR", "amount": 49.9}}, "$.amount: 49.9 is not of type 'string'"),
        ({"method": "GET"}, "it has a body, and none is documented"),
        ({"method": "GET", "body": None, "query": "take=0"}, "query take: $: 0 is less than the minimum of 1"),
        (
            {"method": "GET", "body": None, "query": "take=1&take=2"},
            "query take: $: ['1', '2'] is not of type 'integer'",
        ),
        ({"method": "GET", "body": None, "query": "createdTo=now"}, "query createdTo: $: 'now' is not a 'date-time'"),
    ],
)
def test_a_request_that_is_not_documented_is_noticed(wrong: dict[str, Any], fault: str) -> None:
    good: dict[str, Any] = {"method": "POST", "headers": GENERIC, "body": {"asset": "EUR", "amount": "49.90"}}
    assert not contract("generic").request_faults(Request(path="/v1/invoice", **good))
    assert contract("generic").request_faults(Request(path="/v1/invoice", **{**good, **wrong})) == [fault]


# What the sandbox answers


@dataclass
class Line:
    """A caller of one simulator, below its base address, who remembers every answer."""

    kind: str
    http: httpx.AsyncClient
    sandbox: httpx.AsyncClient
    heard: list[httpx.Response] = field(default_factory=list)

    async def ask(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        answer = await self.http.request(method, path, **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def fails(self, method: str, path: str, operation: str, *statuses: int) -> None:
        """By faults that are asked for."""
        for status in statuses:
            fault = "retry_after" if status == 429 else f"status:{status}"
            await self.control("POST", "faults", operation=operation, fault=fault)
            await self.ask(method, path, status)

    async def settle(self, reference: Any, *outcomes: str) -> None:
        for outcome in outcomes:
            await self.control("POST", "settle", reference=reference, outcome=outcome, notify="none")

    async def switch(self, **switches: Any) -> None:
        await self.control("PUT", "switches", **switches)

    async def control(self, method: str, call: str, **said: Any) -> None:
        answer = await self.sandbox.request(method, f"/_control/{self.kind}/{call}", json=said)
        assert answer.is_success, answer.text


@asynccontextmanager
async def line(world: World, kind: str) -> AsyncIterator[Line]:
    heard: list[httpx.Response] = []

    async def hear(response: httpx.Response) -> None:
        await response.aread()
        heard.append(response)

    hooks = {"response": [hear]}
    base = base_url(world.sandbox, kind)
    async with client(base_url=base, headers=CREDENTIALS[kind], event_hooks=hooks) as http:
        yield Line(kind=kind, http=http, sandbox=world.sandbox, heard=heard)


@pytest.mark.parametrize("kind", DOCUMENTED)
async def test_everything_that_a_simulator_answers_is_documented(world: World, kind: str) -> None:
    await ROADS[kind](world)
    async with line(world, kind) as speaking:
        await replay(speaking, await requests(world, kind))
        await SCENES[kind](speaking)
        await refuse_the_unknown(speaking)
    answers = [(operation_of(speaking, answer), answer) for answer in speaking.heard]
    faults = [
        (answer.request.method, str(answer.request.url), answer.status_code, fault)
        for operation, answer in answers
        for fault in contract(kind).answer_faults(operation, answer.status_code, answer.content, answer.headers)
    ]
    assert not faults
    given = {(operation.name, answer.status_code) for operation, answer in answers}
    wanted = {(it.name, status) for it in contract(kind).operations for status in {*it.successes, 401}}
    assert wanted - given == set()
    declared = {int(status) for it in contract(kind).operations for status in it.said["responses"]}
    assert {status for _, status in given} == declared


async def replay(speaking: Line, sent: list[Request]) -> None:
    """All that the service sent is sent again, for the log keeps no answers; what happened once may be refused now."""
    for request in sent:
        headers = {name: value for name, value in (request.headers or {}).items() if name not in OF_THE_CONNECTION}
        body = None if request.body is None else json.dumps(request.body, ensure_ascii=False, separators=(",", ":"))
        target = f"{request.path}?{request.query}" if request.query else request.path
        await speaking.http.request(request.method, target, headers=headers, content=body)


async def refuse_the_unknown(speaking: Line) -> None:
    """What was answered once is asked for again, by somebody with other credentials."""
    wrong = dict.fromkeys(CREDENTIALS[speaking.kind], "wrong")
    first = {operation_of(speaking, answer).name: answer.request for answer in reversed(speaking.heard)}
    for request in first.values():
        answer = await speaking.http.request(request.method, request.url, headers=wrong, content=request.content)
        assert answer.status_code == 401, answer.text


def operation_of(speaking: Line, answer: httpx.Response) -> Operation:
    below = urlsplit(str(speaking.http.base_url)).path.rstrip("/")
    return contract(speaking.kind).operation(answer.request.method, answer.request.url.path.removeprefix(below))


async def sellapp_scenes(speaking: Line) -> None:
    ask, all_invoices, none = speaking.ask, "/v2/invoices", "/v2/invoices/4711"
    for outcome in ("paid", "partial", "failed", "expired", "canceled", "refunded"):
        made = (await ask("POST", all_invoices, 201, json=CART))["data"]["id"]
        await ask("POST", f"{all_invoices}/{made}/checkout", 201)
        await ask("POST", f"{all_invoices}/{made}/checkout", 200, json={})
        await ask("PATCH", f"{all_invoices}/{made}/mark-voided", 422, json={"expected_status": "PAID"})
        await speaking.settle(made, outcome)
        await ask("GET", f"{all_invoices}/{made}")
    await ask("POST", f"{all_invoices}/{made}/checkout", 422)
    await ask("PATCH", f"{all_invoices}/{made}/mark-voided", 422)
    for body in (b"", b'{"expected_status": "PENDING"}'):
        made = (await ask("POST", all_invoices, 201, json=CART))["data"]["id"]
        await ask("PATCH", f"{all_invoices}/{made}/mark-voided", content=body)
    for word in ("PAID", "COMPLETED"):
        await speaking.switch(free_status=word)
        cart = {**CART, "product_variants": {"1000": {"quantity": 1}}}
        made = (await ask("POST", all_invoices, 201, json=cart))["data"]["id"]
        assert "payment_url" not in await ask("POST", f"{all_invoices}/{made}/checkout")
    for query in ({}, {"limit": 2, "page": 2}, {"page": 99}, {"email": "nobody@example.org"}, {"status[]": "PAID"}):
        await ask("GET", all_invoices, params=query)
    await ask("GET", all_invoices, 422, params={"limit": 101})
    await ask("POST", all_invoices, 422, json={})
    await ask("POST", all_invoices, 422, json={**CART, "product_variants": {"4711": {"quantity": 0}}})
    await ask("POST", all_invoices, 400, content=b"no")
    await ask("GET", none, 403, headers={"X-STORE": "another"})
    await ask("GET", none, 404)
    await ask("POST", f"{none}/checkout", 404)
    await ask("PATCH", f"{none}/mark-voided", 404)
    await speaking.fails("GET", none, "get", 429, 500)


async def bluetape_scenes(speaking: Line) -> None:
    ask, one, none = speaking.ask, "/integration/invoice/inv-1001", "/integration/invoice/none"
    back = {"redirectUrl": "https://shop.example/thanks?step=3"}
    simplify = "/integration/invoice/simplify"
    for shape in ("empty", "details", "both", "blueTapeId"):
        await speaking.switch(create_answer=shape)
        await ask("POST", simplify, 201, json={**BOARDS, "id": f"inv-{shape}", "totalAmount": 220.5})
    await ask("POST", simplify, 201, json=BOARDS)
    await ask("POST", simplify, 409, json=BOARDS)
    await ask("POST", simplify, 400, json={})
    for outcome in ("partial", "paid", "canceled"):
        await ask("GET", f"{one}/status")
        await speaking.settle("inv-1001", outcome)
    await ask("GET", f"{one}/checkout")
    await ask("GET", f"{one}/checkout-redirect")
    await ask("GET", f"{one}/checkout-redirect", params=back)
    await ask("PUT", f"{one}/cancel", 409)
    for shape, body in (("empty", b""), ("details", b"{}"), ("both", b"null")):
        await ask("PUT", f"/integration/invoice/inv-{shape}/cancel", 202, content=body)
    for call in ("status", "checkout", "checkout-redirect"):
        await ask("GET", f"{none}/{call}", 404)
    await ask("PUT", f"{none}/cancel", 404)
    await speaking.fails("GET", f"{one}/status", "get", 500)


async def turinpay_scenes(speaking: Line) -> None:
    ask = speaking.ask
    for wrapped in (True, False):
        await speaking.switch(wrapped=wrapped)
        for status, ln, price in ((200, "null", 5000), (201, "missing", 5000), (201, "missing", 23.5)):
            await speaking.switch(create_status=status, ln_above_limit=ln)
            made = await ask("POST", "/intents", status, json={"price": price, "currency": "EUR", "orderId": "o-1"})
            intent = made.get("data", made)["checkoutId"]
            await speaking.settle(intent, "paid")
            [newest, *_] = await ask("GET", "/invoice")
            assert ("ln" in newest["checkout"]) == (ln == "null" or price < 5000)
            await ask("GET", f"/invoices/{newest['id']}")
    await speaking.settle(intent, "expired")
    for shape in ("data", "array"):
        await speaking.switch(list_shape=shape)
        await ask("GET", "/invoice")
    await ask("POST", "/intents", 201, json={"price": 1, "currency": "USD"})
    await ask("POST", "/intents", 400, json={})
    await ask("POST", "/intents", 400, content=b"no")
    await ask("GET", f"/invoices/{'0' * 64}", 404)
    await speaking.fails("GET", "/invoice", "list", 500)


async def generic_scenes(speaking: Line) -> None:
    ask, all_invoices = speaking.ask, "/v1/invoice"
    order = {"asset": "EUR", "amount": "49.90", "externalOrderId": "order-17"}
    for outcome in ("paid", "partial", "failed", "expired", "canceled"):
        made = (await ask("POST", all_invoices, 201, json=order))["data"]["id"]
        await speaking.settle(made, outcome)
        await ask("GET", f"{all_invoices}/{made}")
    await ask("POST", all_invoices, 201, json={"asset": "EUR", "amount": "1000"})
    day = {"createdFrom": "2020-01-01T00:00:00Z", "completedTo": "2099-01-01T00:00:00Z"}
    for query in ({}, {"take": 2, "skip": 1}, {"externalOrderId": "order-17"}, {"orderBy": "status"}, day):
        await ask("GET", all_invoices, params=query)
    await ask("GET", f"{all_invoices}/assets", params={"take": 1, "skip": 1})
    await ask("GET", f"{all_invoices}/questionnaire")
    await ask("GET", all_invoices, 400, params={"take": 101})
    await ask("POST", all_invoices, 400, json={})
    await ask("POST", all_invoices, 400, content=b"no")
    await ask("GET", f"{all_invoices}/{UUID}", 404)
    await speaking.fails("GET", all_invoices, "list", 403, 429, 500)


SCENES: dict[str, Callable[[Line], Awaitable[None]]] = {
    "sellapp": sellapp_scenes,
    "bluetape": bluetape_scenes,
    "turinpay": turinpay_scenes,
    "generic": generic_scenes,
}


@pytest.mark.parametrize(
    ("status", "body", "media", "fault"),
    [
        (418, b"{}", JSON, "listQuestions answers 418, which is not documented"),
        (200, b'{"data":[]}', "text/html", "it is not said to be JSON"),
        (200, b"", JSON, "$: b'' is not of type 'object'"),
        (200, b'{"data":[{"name":null}]}', JSON, "$.data[0].name: None is not of type 'string'"),
        (401, b'{"errors":[]}', JSON, "$.errors: [] should be non-empty"),
    ],
)
def test_an_answer_that_is_not_documented_is_noticed(status: int, body: bytes, media: str, fault: str) -> None:
    questions = contract("generic").operation("GET", "/v1/invoice/questionnaire")
    assert not contract("generic").answer_faults(questions, 200, b'{"data":[]}', {"Content-Type": JSON})
    assert contract("generic").answer_faults(questions, status, body, {"Content-Type": media}) == [fault]


# What the sandbox tells unasked


@pytest.mark.parametrize("kind", [kind for kind in DOCUMENTED if contract(kind).webhooks])
async def test_every_notification_of_a_simulator_is_documented(kind: str) -> None:
    async with open_sandbox() as sandbox:
        await NOTICES[kind](sandbox)
        fitting = set()
        for notice in sandbox.shop.told:
            faults = {it.name: contract(kind).notice_faults(it, notice) for it in contract(kind).webhooks}
            assert [] in faults.values(), faults
            fitting |= {name for name, found in faults.items() if not found}
    assert fitting == {webhook.name for webhook in contract(kind).webhooks}


async def sellapp_notices(sandbox: Sandbox) -> None:
    for stamped in (False, True):
        await sandbox.switch("sellapp", standard_webhooks=stamped)
        made = await sandbox.sold()
        await sandbox.settle("sellapp", made["id"], "partial")
        await sandbox.settle("sellapp", made["id"], "paid", notify="reordered")


async def turinpay_notices(sandbox: Sandbox) -> None:
    for shape in ("later", "invoice"):
        await sandbox.switch("turinpay", notification=shape)
        made = await sandbox.intended(notificationUrl=f"{sandbox.shop.url}/told")
        await sandbox.settle("turinpay", made, "paid")


async def generic_notices(sandbox: Sandbox) -> None:
    made = await sandbox.invoiced(callbackUrl=f"{sandbox.shop.url}/told", shouldSendTransactionalCallback=True)
    for outcome in ("partial", "paid"):
        await sandbox.settle("generic", made["id"], outcome)


NOTICES: dict[str, Callable[[Sandbox], Awaitable[None]]] = {
    "sellapp": sellapp_notices,
    "turinpay": turinpay_notices,
    "generic": generic_notices,
}


# The recorded conversations


@pytest.mark.parametrize("path", CONVERSATIONS, ids=name_of)
def test_what_is_sent_in_a_recorded_conversation_is_documented(path: Path) -> None:
    documented, case = contract(path.parent.name), read_case(path)
    for request in (sent_in(documented, case, turn) for turn in case.exchange):
        assert not documented.request_faults(request)


@pytest.mark.parametrize("path", [path for path in CONVERSATIONS if succeeds(read_case(path))], ids=name_of)
def test_what_is_answered_in_a_recorded_conversation_is_documented(path: Path) -> None:
    documented, case = contract(path.parent.name), read_case(path)
    whole = is_whole(path)
    faults = [
        fault
        for turn in case.exchange
        if turn.response.status // 100 == 2
        for fault in answer_faults(documented, case, turn, excerpt=not whole)
    ]
    assert (
        (faults == [])
        if (known := TOLERATED.get(name_of(path))) is None
        else any(fault.startswith(known) for fault in faults)
    ), faults


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_an_example_of_the_providers_own_is_among_the_conversations(kind: str) -> None:
    assert [path for path in CONVERSATIONS if path.parent.name == kind and is_whole(path)]
