"""The same key and the same request are one call, however often and from wherever it comes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from app.storage.idempotency import IdempotencyKey
from tests.test_recovery import upstream_creates
from tests.world import ORDERS, World, open_world

pytestmark = pytest.mark.anyio

BODY = {"provider": "generic", **ORDERS["generic"]}


async def send(world: World, key: Any, path: str = "/v1/invoices", body: Any = BODY, **headers: str) -> Any:
    return await world.http.post(path, json=body, headers={"Idempotency-Key": key, **headers})


async def test_the_first_answer_is_given_again_byte_for_byte(world: World) -> None:
    first, second = await send(world, "k"), await send(world, "k")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert first.headers["location"] == second.headers["location"]
    assert await upstream_creates(world, "generic") == 1


async def test_fifty_at_once_make_one_invoice(world: World) -> None:
    answers = await asyncio.gather(*(send(world, "k") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 49
    assert await upstream_creates(world, "generic") == 1


async def test_how_a_body_is_written_does_not_matter_but_what_it_says(world: World) -> None:
    first = await send(world, "k")
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    spaced = ' { "currency":"EUR", "amount" : "49.9" ,\n"provider": "generic"}'
    again = await world.http.post("/v1/invoices", content=spaced, headers=headers)
    assert again.content == first.content
    other = await send(world, "k", body={**BODY, "amount": "49.91"})
    assert (other.status_code, other.json()["code"], other.json()["outcome"]) == (422, "idempotency_mismatch", "none")
    elsewhere = await send(world, "k", f"/v1/invoices/{first.json()['id']}/checkout", {})
    assert elsewhere.json()["code"] == "idempotency_mismatch"
    assert await upstream_creates(world, "generic") == 1


async def test_a_failure_in_which_nothing_happened_frees_the_key(world: World) -> None:
    await world.arm("generic", "create", "status:400")
    assert (await send(world, "k")).json()["code"] == "provider_rejected"
    assert (await send(world, "k")).status_code == 201
    invalid = await send(world, "j", body={**BODY, "amount": "x"})
    assert invalid.status_code == 422
    assert (await send(world, "j")).status_code == 201, "a corrected request may use its key again"


async def test_a_twin_waits_a_while_and_is_then_told_to_come_back(world: World) -> None:
    await world.arm("generic", "create", "slow", seconds=0.5)
    first, second = await asyncio.gather(send(world, "k"), send(world, "k"))
    assert first.content == second.content
    await world.arm("generic", "create", "timeout", seconds=5)
    first, second = await asyncio.gather(send(world, "j"), send(world, "j"))
    assert {first.json()["code"], second.json()["code"]} <= {"outcome_unknown", "idempotency_in_progress"}
    assert await upstream_creates(world, "generic") == 2


@pytest.mark.parametrize("kind", ["sellapp", "bluetape"])
async def test_checkouts_and_cancels_have_keys_too(world: World, kind: str) -> None:
    id = (await world.created(kind))["id"]
    for step in ("checkout", "cancel"):
        path = f"/v1/invoices/{id}/{step}"
        first = await send(world, step, path, {})
        again = await send(world, step, path, {})
        assert first.status_code == 200, first.text
        assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    assert (await send(world, "new", f"/v1/invoices/{id}/cancel", {})).json()["code"] == "invoice_finished"


async def test_a_doubtful_checkout_may_be_made_again_with_its_key(world: World) -> None:
    id = (await world.created("sellapp"))["id"]
    await world.arm("sellapp", "checkout", "reset_after_accept")
    path = f"/v1/invoices/{id}/checkout"
    doubtful = await send(world, "k", path, {})
    assert (doubtful.status_code, doubtful.json()["invoice_id"]) == (504, id)
    assert (await send(world, "k", path, {})).json()["outcome"] == "redirect"


@pytest.mark.parametrize("key", ["", "é", "x" * 256, "a\tb"])
async def test_a_key_that_is_none_is_refused(world: World, key: str) -> None:
    refused = await send(world, key.encode("latin-1"))
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "header:idempotency-key"


async def test_a_late_withdrawal_does_not_free_the_key_of_a_twin(world: World) -> None:
    store, key = world.app.state.services.store, IdempotencyKey(caller="shop", value="k", fingerprint=b"f")
    now = world.clock()
    assert await store.take_key(key, "inv_of_the_twin", now, now + timedelta(seconds=5))
    await store.withdraw("inv_that_was_never_reserved", key)
    kept = await store.kept(key, now)
    assert kept is not None
    assert kept.running(now)


async def test_a_key_is_kept_for_a_day_and_then_forgotten(world: World) -> None:
    first = await send(world, "k")
    world.clock.pass_time(hours=23)
    assert (await send(world, "k")).content == first.content
    store = world.app.state.services.store
    assert await store.sweep_keys(world.clock()) == 0
    world.clock.pass_time(hours=2)
    assert (await send(world, "k")).json()["id"] != first.json()["id"]
    world.clock.pass_time(hours=25)
    assert await store.sweep_keys(world.clock()) == 1


@pytest.fixture
async def replicas(postgresql_url: str) -> AsyncIterator[tuple[World, World]]:
    """Two services on one database and one sandbox."""
    async with open_world(postgresql_url) as one, open_world(postgresql_url, beside=one) as two:
        yield one, two


async def test_fifty_at_once_over_two_replicas_make_one_invoice(replicas: tuple[World, World]) -> None:
    one, two = replicas
    answers = await asyncio.gather(*(send(world, "k") for world in (one, two) for _ in range(25)))
    assert {answer.status_code for answer in answers} == {201}, {answer.text for answer in answers}
    assert len({answer.content for answer in answers}) == 1
    assert await upstream_creates(one, "generic") == 1


async def test_forty_identical_snapshots_over_two_replicas_make_one_event(replicas: tuple[World, World]) -> None:
    one, two = replicas
    created = await one.created("generic")
    await one.settle("generic", created["provider_invoice_id"], "paid")
    await asyncio.gather(*(world.read(created["id"], refresh="true") for world in (one, two) for _ in range(20)))
    types = [event.type for event in await one.app.state.services.feed.log.of_invoice(created["id"])]
    assert types.count("invoice.completed") == 1
