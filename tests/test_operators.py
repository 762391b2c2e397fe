"""What operators can see and do: an invoice's whole life, a pause that every replica obeys, a dry run, routes."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.callers import is_problem, pointers
from tests.world import ORDERS, World, open_world

pytestmark = pytest.mark.anyio

BECAUSE = {"reason": "maintenance there"}


async def trace(world: World, id: str) -> list[dict[str, Any]]:
    answer = await world.http.get(f"/v1/invoices/{id}/trace")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def words(steps: list[dict[str, Any]]) -> list[str]:
    return [step.get("operation") or step.get("type") or step["kind"] for step in steps]


async def test_the_trace_tells_an_invoices_whole_life(world: World) -> None:
    invoice = await world.created("sellapp", metadata={"cart": "c-9"})
    await world.checkout(invoice["id"])
    await world.settle("sellapp", invoice["provider_invoice_id"], "paid", "once")
    life = ["create", "checkout", "notification", "invoice.completed"]
    async with asyncio.timeout(5):
        while len(told := [word for word in words(await trace(world, invoice["id"])) if word in life]) < len(life):
            await asyncio.sleep(0.02)
    assert told == life
    steps = await trace(world, invoice["id"])
    create = next(step for step in steps if step.get("operation") == "create")
    assert (create["method"], create["path"], create["status"], create["outcome"]) == (
        "POST",
        "/v2/invoices",
        201,
        "ok",
    )
    assert create["ms"] > 0
    assert create["request"]["product_variants"] == {"1001": {"quantity": 1}}
    assert [step["at"] for step in steps] == sorted(step["at"] for step in steps)


async def test_nothing_secret_is_in_a_trace(world: World) -> None:
    for kind in ORDERS:
        invoice = await world.created(kind, customer={"email": "secret.reader@example.org"})
        await world.checkout(invoice["id"])
        told = json.dumps(await trace(world, invoice["id"]))
        for secret in ("secret.reader", "sandbox-generic-private", "sandbox-sellapp-key"):
            assert secret not in told, (kind, secret)
        assert not re.search("token=[0-9a-f]", told)


async def test_a_late_word_is_an_echo(world: World) -> None:
    invoice = await world.created("generic")
    await world.settle("generic", invoice["provider_invoice_id"], "paid")
    await world.read(invoice["id"], refresh="true")
    await world.settle("generic", invoice["provider_invoice_id"], "failed")
    assert (await world.read(invoice["id"], refresh="true"))["status"] == "completed"
    echoes = [step for step in await trace(world, invoice["id"]) if step["kind"] == "echo"]
    assert [(each["provider_status"], each["status"]) for each in echoes] == [("DECLINED", "completed")]


async def test_a_trace_is_bounded(world: World) -> None:
    invoice = await world.created("generic")
    traces = world.app.state.services.history.traces
    for _ in range(700):
        traces.operator(invoice["id"], by="a test", action="noted", reason=None)
    await traces.flush()
    await traces.journal.prune([*(f"inv_{number}" for number in range(250)), invoice["id"]])
    assert len(await trace(world, invoice["id"])) <= 502


async def test_a_paused_provider_takes_no_creates_and_no_checkouts(world: World) -> None:
    invoice = await world.created("sellapp")
    paused = await world.http.post("/v1/providers/sellapp/pause", json=BECAUSE)
    assert (paused.status_code, paused.json()["health"]["state"]) == (200, "paused")
    await world.sandbox.delete("/_control/sellapp/requests")
    is_problem(await world.create("sellapp"), 503, "provider_unavailable")
    is_problem(await world.checkout(invoice["id"]), 503, "provider_unavailable")
    assert await world.requests("sellapp") == []
    assert (await world.read(invoice["id"], refresh="true"))["stale"] is False
    assert (await world.create("generic")).status_code == 201
    resumed = await world.http.post("/v1/providers/sellapp/resume", json=BECAUSE)
    assert resumed.json()["health"]["state"] == "up"
    assert (await world.create("sellapp")).status_code == 201


async def test_every_replica_obeys_a_pause(postgresql_url: str) -> None:
    async with open_world(postgresql_url) as here, open_world(postgresql_url, beside=here) as there:
        await here.http.post("/v1/providers/generic/pause", json=BECAUSE)
        async with asyncio.timeout(5):
            while (await there.http.get("/v1/providers/generic")).json()["health"]["state"] != "paused":
                await asyncio.sleep(0.05)
        is_problem(await there.create("generic"), 503, "provider_unavailable")
    async with open_world(postgresql_url) as later:
        assert (await later.http.get("/v1/providers/generic")).json()["health"]["state"] == "paused"


@pytest.mark.parametrize("path", ["/v1/providers/nobody/pause", "/v1/providers/nobody/resume"])
async def test_nobody_is_paused_who_is_not_there(world: World, path: str) -> None:
    is_problem(await world.http.post(path, json=BECAUSE), 404, "not_found")


async def test_a_pause_needs_a_reason(world: World) -> None:
    answer = await world.http.post("/v1/providers/generic/pause", json={})
    assert pointers(is_problem(answer, 422, "invalid_request")) == ["/reason"]


@pytest.mark.parametrize("kind", ORDERS)
async def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(world: World, kind: str) -> None:
    answer = await world.http.post("/v1/invoices?dry_run=true", json={"provider": kind, **ORDERS[kind]})
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert (plan["provider"], plan["reason"]) == (kind, "requested")
    request = plan["request"]
    assert request["method"] == "POST"
    assert request["url"].startswith(str(world.sandbox.base_url).rstrip("/"))
    assert "***" in request["headers"].values()
    assert "sandbox-" not in json.dumps(request["headers"])
    assert request["body"]
    assert await world.requests(kind) == []
    assert (await world.http.get("/v1/invoices")).json()["data"] == []


async def test_the_token_of_our_address_is_hidden_in_a_dry_run(world: World) -> None:
    plan = (
        await world.http.post("/v1/invoices?dry_run=true", json={"provider": "generic", **ORDERS["generic"]})
    ).json()
    assert plan["request"]["body"]["callbackUrl"].endswith("?token=***")


ROUTES = json.dumps(
    [
        {"currencies": ["EUR"], "max": "100", "countries": ["DE"], "providers": ["turinpay", "generic"]},
        {"currencies": ["EUR"], "providers": ["generic"]},
        {"currencies": ["USD"], "min": "50", "providers": ["bluetape"]},
    ]
)
IN_EUROS = {"amount": "49.90", "currency": "EUR"}


@pytest.fixture
async def routed(tmp_path: Path) -> Any:
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db", routes=ROUTES) as world:
        yield world


async def unnamed(world: World, **fields: Any) -> httpx.Response:
    return await world.http.post("/v1/invoices", json=fields)


async def test_the_first_rule_that_matches_decides(routed: World) -> None:
    german = await unnamed(routed, **IN_EUROS, customer={"country": "DE"})
    assert (german.json()["provider"], german.headers["gatehouse-route"]) == ("turinpay", "rule 1")
    other = await unnamed(routed, **IN_EUROS)
    assert (other.json()["provider"], other.headers["gatehouse-route"]) == ("generic", "rule 2")
    dear = await unnamed(routed, amount="100.01", currency="EUR", customer={"country": "DE"})
    assert dear.json()["provider"] == "generic"
    named = await routed.create("generic")
    assert named.headers["gatehouse-route"] == "requested"


async def test_without_a_rule_a_provider_must_be_named(routed: World) -> None:
    answer = await unnamed(routed, amount="10.00", currency="USD")
    assert pointers(is_problem(answer, 422, "invalid_request")) == ["/provider"]


async def test_who_cannot_is_passed_over_and_who_is_paused_too(routed: World) -> None:
    await routed.http.post("/v1/providers/turinpay/pause", json=BECAUSE)
    answer = await unnamed(routed, **IN_EUROS, customer={"country": "DE"})
    assert (answer.status_code, answer.json()["provider"]) == (201, "generic")


async def test_where_nothing_happened_the_next_is_tried(routed: World) -> None:
    await routed.arm("turinpay", "create", "status:429")
    answer = await unnamed(routed, **IN_EUROS, customer={"country": "DE"})
    assert (answer.status_code, answer.json()["provider"]) == (201, "generic")
    assert answer.headers["gatehouse-route"] == "rule 1, after turinpay (provider_rate_limited)"
    listed = (await routed.http.get("/v1/invoices")).json()["data"]
    assert [invoice["provider"] for invoice in listed] == ["generic"]


async def test_where_something_may_have_happened_nobody_else_is_asked(routed: World) -> None:
    await routed.arm("turinpay", "create", "reset_after_accept")
    answer = await unnamed(routed, **IN_EUROS, customer={"country": "DE"})
    is_problem(answer, 504, "outcome_unknown")
    assert [each for each in await routed.requests("generic") if each["method"] == "POST"] == []


async def test_a_key_holds_over_the_routes(routed: World) -> None:
    key = {"Idempotency-Key": "routed-1"}
    await routed.arm("turinpay", "create", "status:429")
    body = {**IN_EUROS, "customer": {"country": "DE"}}
    first = await routed.http.post("/v1/invoices", json=body, headers=key)
    again = await routed.http.post("/v1/invoices", json=body, headers=key)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"


async def test_options_are_keyed_by_kind_where_nobody_is_named(routed: World) -> None:
    options = {"generic": {"deposit_callbacks": True}}
    plan = await routed.http.post("/v1/invoices?dry_run=true", json={**IN_EUROS, "provider_options": options})
    assert plan.json()["request"]["body"]["shouldSendTransactionalCallback"] is True
    wrong = await unnamed(routed, **IN_EUROS, provider_options={"generic": {"colour": "red"}})
    assert pointers(is_problem(wrong, 422, "invalid_request")) == ["/provider_options/generic/colour"]
    strange = await unnamed(routed, **IN_EUROS, provider_options={"deposit_callbacks": True})
    assert pointers(is_problem(strange, 422, "invalid_request")) == ["/provider_options/deposit_callbacks"]
