"""A create whose answer is missing ends as the true invoice, and never as two."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.world import ORDERS, World, open_world

pytestmark = pytest.mark.anyio

KINDS = sorted(ORDERS)
SETTLE = 30


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db", provider_timeout=0.4) as world:
        yield world


async def keyed(world: World, kind: str, key: str = "k1", **fields: Any) -> Any:
    body = {"provider": kind, **ORDERS[kind], **fields}
    return await world.http.post("/v1/invoices", json=body, headers={"Idempotency-Key": key})


async def upstream_creates(world: World, kind: str) -> int:
    """How many creates the provider has seen."""
    ends = {"sellapp": "/v2/invoices", "bluetape": "/simplify", "turinpay": "/intents", "generic": "/v1/invoice"}
    seen = await world.requests(kind)
    return sum(request["method"] == "POST" and request["path"].endswith(ends[kind]) for request in seen)


async def events(world: World, id: str) -> list[str]:
    return [event.type for event in await world.app.state.services.feed.log.of_invoice(id)]


@pytest.mark.parametrize("fault", ["timeout_after_accept", "reset_after_accept", "garbage", "truncated"])
@pytest.mark.parametrize("kind", KINDS)
async def test_what_the_provider_took_is_found_by_the_same_key(world: World, kind: str, fault: str) -> None:
    await world.arm(kind, "create", fault)
    doubtful = await keyed(world, kind)
    assert (doubtful.status_code, doubtful.json()["code"]) == (504, "outcome_unknown")
    id = doubtful.json()["invoice_id"]

    found = await keyed(world, kind)
    assert (found.status_code, found.json()["id"], found.json()["status"]) == (201, id, "pending"), found.text
    assert "idempotency-replayed" not in found.headers, "the call that resolves it answers like a first one"
    orphans = 1 if kind == "turinpay" else 0
    assert await upstream_creates(world, kind) == 1 + orphans
    assert await events(world, id) == ["invoice.unknown", "invoice.created"]

    replayed = await keyed(world, kind)
    assert (replayed.content, replayed.headers["idempotency-replayed"]) == (found.content, "true")
    assert await upstream_creates(world, kind) == 1 + orphans


@pytest.mark.parametrize("fault", ["timeout", "reset", "status:500", "html"])
@pytest.mark.parametrize("kind", KINDS)
async def test_what_the_provider_never_took_is_sent_again_only_where_absence_is_proof(
    world: World, kind: str, fault: str
) -> None:
    await world.arm(kind, "create", fault)
    id = (await keyed(world, kind)).json()["invoice_id"]
    early = await keyed(world, kind)
    if kind == "turinpay":
        assert early.status_code == 201, "an intent that nobody saw has no payer"
        return
    assert (early.status_code, early.json()["invoice_id"]) == (504, id)
    assert int(early.headers["retry-after"]) >= 1
    assert await upstream_creates(world, kind) == 1

    world.clock.pass_time(seconds=SETTLE + 1)
    late = await keyed(world, kind)
    if kind == "sellapp":
        assert late.status_code == 504, "a search that finds nothing proves nothing"
        assert await upstream_creates(world, kind) == 1
        return
    assert (late.status_code, late.json()["id"]) == (201, id)
    assert await upstream_creates(world, kind) == 2


@pytest.mark.parametrize("kind", ["sellapp", "bluetape", "generic"])
async def test_what_the_provider_takes_late_is_waited_for(world: World, kind: str) -> None:
    await world.arm(kind, "create", "late_accept", seconds=3)
    id = (await keyed(world, kind)).json()["invoice_id"]
    assert (await keyed(world, kind)).status_code == 504
    for _ in range(50):
        await asyncio.sleep(0.2)
        found = await keyed(world, kind)
        if found.status_code == 201:
            break
    assert found.json()["id"] == id
    assert await upstream_creates(world, kind) == 1


@pytest.mark.parametrize("kind", ["sellapp", "bluetape", "generic"])
async def test_a_read_finds_out_too(world: World, kind: str) -> None:
    await world.arm(kind, "create", "reset_after_accept")
    id = (await world.create(kind)).json()["invoice_id"]
    assert (await world.read(id))["status"] == "pending"
    assert (await world.checkout(id)).status_code in {200, 409}


async def test_a_checkout_looks_first_and_then_says_that_it_is_unknown(world: World) -> None:
    await world.arm("generic", "create", "reset")
    id = (await world.create("generic")).json()["invoice_id"]
    refused = await world.checkout(id)
    assert (refused.status_code, refused.json()["code"], refused.json()["invoice_id"]) == (504, "outcome_unknown", id)


async def test_many_who_ask_at_once_resolve_it_once(world: World) -> None:
    await world.arm("generic", "create", "reset")
    id = (await keyed(world, "generic")).json()["invoice_id"]
    world.clock.pass_time(seconds=SETTLE + 1)
    answers = await asyncio.gather(*(keyed(world, "generic") for _ in range(20)), *(world.read(id) for _ in range(20)))
    assert {answer.json()["id"] for answer in answers[:20] if answer.status_code == 201} == {id}
    assert await upstream_creates(world, "generic") == 2


async def test_two_that_look_alike_are_told_apart_by_age(world: World) -> None:
    await world.arm("sellapp", "create", "reset_after_accept", times=2)
    first = (await keyed(world, "sellapp", "k1")).json()["invoice_id"]
    second = (await keyed(world, "sellapp", "k2")).json()["invoice_id"]
    found = [(await keyed(world, "sellapp", key)).json() for key in ("k1", "k2")]
    assert [invoice["id"] for invoice in found] == [first, second]
    assert int(found[0]["provider_invoice_id"]) < int(found[1]["provider_invoice_id"])
    assert await upstream_creates(world, "sellapp") == 2


async def test_an_invoice_that_is_anothers_is_never_taken(world: World) -> None:
    other = await world.created("sellapp")
    await world.arm("sellapp", "create", "reset")
    id = (await keyed(world, "sellapp")).json()["invoice_id"]
    world.clock.pass_time(seconds=SETTLE + 1)
    assert (await keyed(world, "sellapp")).status_code == 504
    assert (await world.read(id))["status"] == "unknown"
    assert (await world.read(other["id"]))["status"] == "pending"


async def test_another_amount_stays_another_amount_for_the_same_key(world: World) -> None:
    await world.arm("sellapp", "create", "wrong_amount")
    answers = [await keyed(world, "sellapp", amount="19.99", currency="USD") for _ in range(2)]
    assert [answer.json()["code"] for answer in answers] == ["amount_mismatch"] * 2
    assert answers[0].json()["invoice_id"] == answers[1].json()["invoice_id"]
    assert await upstream_creates(world, "sellapp") == 1


async def test_the_reconciler_finds_out_when_nobody_asks(world: World) -> None:
    await world.arm("generic", "create", "reset_after_accept")
    id = (await world.create("generic")).json()["invoice_id"]
    reconcile = world.app.state.services.reconcile
    assert await reconcile.ask_due() == 0
    world.clock.pass_time(seconds=12)
    assert await reconcile.ask_due() == 1
    assert (await world.read(id, refresh="false"))["status"] == "pending"


async def test_the_reconciler_asks_less_and_less_often(world: World) -> None:
    created = await world.created("generic")
    reconcile = world.app.state.services.reconcile
    asked = []
    for minute in range(60 * 24):
        world.clock.pass_time(minutes=1)
        if await reconcile.ask_due():
            asked.append(minute)
    assert 5 <= len(asked) <= 7, asked
    gaps = [later - sooner for sooner, later in pairwise(asked)]
    assert gaps == sorted(gaps)
    await world.settle("generic", created["provider_invoice_id"], "paid")
    world.clock.pass_time(days=2)
    await reconcile.ask_due()
    assert (await world.read(created["id"], refresh="false"))["status"] == "completed"
    world.clock.pass_time(days=400)
    assert await reconcile.ask_due() == 0, "a completed invoice is let be"


async def test_late_money_is_looked_for(world: World) -> None:
    created = await world.created("generic")
    await world.settle("generic", created["provider_invoice_id"], "expired")
    assert (await world.read(created["id"], refresh="true"))["status"] == "expired"
    await world.settle("generic", created["provider_invoice_id"], "paid")
    reconcile = world.app.state.services.reconcile
    world.clock.pass_time(minutes=5)
    await reconcile.ask_due()
    assert (await world.read(created["id"], refresh="false"))["status"] == "expired"
    world.clock.pass_time(hours=1)
    await reconcile.ask_due()
    assert (await world.read(created["id"], refresh="false"))["status"] == "completed"


async def test_refunds_are_looked_for_where_they_can_be(world: World) -> None:
    created = await world.created("sellapp")
    await world.settle("sellapp", created["provider_invoice_id"], "paid")
    await world.read(created["id"], refresh="true")
    await world.settle("sellapp", created["provider_invoice_id"], "refunded")
    reconcile = world.app.state.services.reconcile
    for _ in range(3):
        world.clock.pass_time(hours=9)
        await reconcile.ask_due()
    assert (await world.read(created["id"], refresh="false"))["status"] == "refunded"


async def test_a_claim_that_is_not_followed_up_lapses(world: World) -> None:
    await world.created("generic")
    store, clock = world.app.state.services.store, world.clock
    clock.pass_time(seconds=20)
    now = clock()
    until = now.replace(year=now.year + 1)
    assert len(await store.claim_due(now, until, 10)) == 1
    assert await store.claim_due(now, until, 10) == []
    assert len(await store.claim_due(until, until, 10)) == 1


async def resolve(world: World, id: str, **body: Any) -> Any:
    return await world.http.post(f"/v1/invoices/{id}/resolve", json=body)


async def test_an_operator_settles_what_was_created_after_all(world: World) -> None:
    await world.arm("sellapp", "create", "reset")
    id = (await world.create("sellapp")).json()["invoice_id"]
    reference = (await world.created("sellapp"))["provider_invoice_id"]
    taken = await resolve(world, id, reason="seen in the dashboard", provider_invoice_id=reference)
    assert taken.json()["errors"][0]["pointer"] == "/provider_invoice_id"
    order = {
        "customer_email": "a@example.org",
        "payment_method": "STRIPE",
        "product_variants": {"1001": {"quantity": 1}},
    }
    key = {"Authorization": "Bearer sandbox-sellapp-key", "X-STORE": "sandbox"}
    made = (await world.sandbox.post("/sellapp/api/v2/invoices", json=order, headers=key)).json()["data"]
    found = await resolve(world, id, reason="seen in the dashboard", provider_invoice_id=str(made["id"]))
    assert (found.status_code, found.json()["status"]) == (200, "pending")
    assert await events(world, id) == ["invoice.unknown", "invoice.created"]


async def test_an_operator_settles_what_was_never_created(world: World) -> None:
    await world.arm("sellapp", "create", "reset")
    id = (await world.create("sellapp")).json()["invoice_id"]
    failed = await resolve(world, id, reason="not in the dashboard", not_created=True)
    assert (failed.status_code, failed.json()["status"]) == (200, "failed")
    assert await events(world, id) == ["invoice.unknown", "invoice.failed"]
    again = await resolve(world, id, reason="not in the dashboard", not_created=True)
    assert (again.status_code, again.json()["code"]) == (409, "invoice_finished")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"not_created": True}, "/reason"),
        ({"reason": "r"}, "/not_created"),
        ({"reason": "r", "not_created": False}, "/not_created"),
        ({"reason": "r", "not_created": True, "provider_invoice_id": "1"}, "/not_created"),
        ({"reason": "r", "not_created": True, "x": 1}, "/x"),
    ],
)
async def test_a_resolution_is_one_of_two_and_has_a_reason(world: World, body: Any, pointer: str) -> None:
    id = (await world.created("generic"))["id"]
    refused = await resolve(world, id, **body)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer)


@pytest.mark.parametrize("fault", ["status:500", "status:401", "retry_after", "reset"])
async def test_a_look_up_that_fails_leaves_it_unknown(world: World, fault: str) -> None:
    await world.arm("generic", "create", "reset_after_accept")
    id = (await keyed(world, "generic")).json()["invoice_id"]
    for again in (lambda: keyed(world, "generic"), lambda: world.checkout(id)):
        await world.arm("generic", "list", fault, times=2)
        answer = await again()
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["invoice_id"]) == (504, "outcome_unknown", id), problem
        assert answer.headers["retry-after"]
        await world.sandbox.delete("/_control/generic/faults")
    assert (await keyed(world, "generic")).json()["id"] == id


@pytest.mark.parametrize("fault", ["status:401", "retry_after", "status:500", "status:409"])
async def test_a_second_sending_that_fails_leaves_it_unknown(world: World, fault: str) -> None:
    await world.arm("generic", "create", "reset")
    id = (await keyed(world, "generic")).json()["invoice_id"]
    world.clock.pass_time(seconds=SETTLE + 1)
    await world.arm("generic", "create", fault)
    assert (await keyed(world, "generic")).json()["invoice_id"] == id
    assert (await world.read(id, refresh="false"))["status"] == "unknown"
    world.clock.pass_time(seconds=SETTLE + 1)
    assert (await keyed(world, "generic")).json()["id"] == id


async def test_a_second_sending_that_is_refused_ends_it(world: World) -> None:
    await world.arm("generic", "create", "reset")
    id = (await keyed(world, "generic")).json()["invoice_id"]
    world.clock.pass_time(seconds=SETTLE + 1)
    await world.arm("generic", "create", "status:400")
    refused = await keyed(world, "generic")
    assert (refused.status_code, refused.json()["code"]) == (422, "provider_rejected")
    assert (await world.read(id))["status"] == "failed"
    assert await events(world, id) == ["invoice.unknown", "invoice.failed"]
    assert (await keyed(world, "generic")).json()["id"] != id, "its key is free again"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_conflict_is_looked_up_before_it_is_believed(world: World, kind: str) -> None:
    await world.arm(kind, "create", "status:409")
    answer = await keyed(world, kind)
    if kind == "bluetape":
        assert answer.json()["code"] == "outcome_unknown", "the id is ours, so something is there"
    else:
        assert (answer.status_code, answer.json()["code"]) == (422, "provider_rejected")
    before = {"generic": "/v1/invoice", "sellapp": "/v2/invoices", "turinpay": "/invoice"}.get(kind, "/status")
    looked = [one for one in await world.requests(kind) if one["method"] == "GET" and before in one["path"]]
    assert looked


async def test_what_is_just_being_created_is_not_taken_by_an_older_doubt(world: World) -> None:
    await world.arm("generic", "create", "reset")
    older = (await keyed(world, "generic", "k1", order_id="same")).json()["invoice_id"]
    world.clock.pass_time(seconds=SETTLE + 1)
    await world.arm("generic", "create", "timeout_after_accept")
    newer = asyncio.create_task(keyed(world, "generic", "k2", order_id="same"))
    await asyncio.sleep(0.2)
    assert (await world.read(older))["status"] == "unknown"
    id = (await newer).json()["invoice_id"]
    assert (await world.read(older, refresh="false"))["status"] == "unknown"
    assert id != older


async def test_an_operator_does_not_cross_a_create_under_way(world: World) -> None:
    await world.arm("generic", "create", "slow", seconds=0.3)
    create = asyncio.create_task(world.create("generic"))
    await asyncio.sleep(0.1)
    [request] = [one for one in await world.requests("generic") if one["method"] == "POST"]
    refused = await resolve(world, request["body"]["externalOrderId"], reason="impatient", not_created=True)
    assert (refused.status_code, refused.json()["code"]) == (504, "outcome_unknown")
    assert (await create).json()["status"] == "pending"


async def test_a_mismatch_that_a_list_shows_is_canceled_by_the_next_read(world: World) -> None:
    created = await world.created("sellapp", amount="19.99", currency="USD")
    await world.arm("sellapp", "list", "wrong_amount")
    [listed] = (await world.http.get("/v1/invoices")).json()["data"]
    assert listed["status"] == "unknown"
    await world.arm("sellapp", "get", "wrong_amount")
    assert (await world.read(created["id"], refresh="true"))["status"] == "canceled"


async def test_a_link_that_was_lost_with_the_answer_is_built_as_earlier_ones_were(world: World) -> None:
    await world.arm("generic", "create", "reset_after_accept")
    first = (await world.create("generic")).json()["invoice_id"]
    nothing_to_go_by = await world.checkout(first)
    assert (nothing_to_go_by.status_code, nothing_to_go_by.json()["code"]) == (409, "checkout_unavailable")
    await world.created("generic")
    visit = (await world.checkout(first)).json()
    assert visit["outcome"] == "redirect"
    assert visit["url"].endswith(visit["invoice"]["provider_invoice_id"])
    assert (await world.sandbox.get(visit["url"])).status_code == 200
