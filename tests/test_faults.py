"""Every fault of a provider, at every operation of every provider, has the one meaning that was promised."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.world import World, open_world

pytestmark = pytest.mark.anyio

# What a fault means when something was to be changed, and when something was only asked.
WRITE: Mapping[str, str] = {
    "status:400": "provider_rejected",
    "status:401": "provider_auth_failed",
    "status:403": "provider_auth_failed",
    "status:404": "provider_not_found",
    "status:408": "outcome_unknown",
    "status:422": "provider_rejected",
    "status:302": "outcome_unknown",
    "status:500": "outcome_unknown",
    "status:503": "outcome_unknown",
    "timeout": "outcome_unknown",
    "timeout_after_accept": "outcome_unknown",
    "reset": "outcome_unknown",
    "reset_after_accept": "outcome_unknown",
    "drip": "outcome_unknown",
    "garbage": "outcome_unknown",
    "html": "outcome_unknown",
    "truncated": "outcome_unknown",
    "empty": "outcome_unknown",
    "huge": "outcome_unknown",
    "retry_after": "provider_rate_limited",
}
READ: Mapping[str, str] = {
    **WRITE,
    "status:408": "provider_timeout",
    "status:302": "provider_invalid_response",
    "status:500": "provider_error",
    "status:503": "provider_error",
    "timeout": "provider_timeout",
    "timeout_after_accept": "provider_timeout",
    "reset": "provider_error",
    "reset_after_accept": "provider_error",
    "drip": "provider_timeout",
    "garbage": "provider_invalid_response",
    "html": "provider_error",
    "truncated": "provider_error",
    "empty": "provider_invalid_response",
    "huge": "provider_invalid_response",
}
STATUS: Mapping[str, int] = {
    "provider_rejected": 422,
    "provider_auth_failed": 502,
    "provider_not_found": 404,
    "provider_timeout": 504,
    "provider_error": 502,
    "provider_invalid_response": 502,
    "provider_rate_limited": 503,
    "outcome_unknown": 504,
}
OUTCOME: Mapping[str, str] = {"outcome_unknown": "unknown"}
CREATES = {**WRITE, "status:404": "provider_rejected"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db", provider_timeout=0.8) as world:
        yield world


def checked(problem: Any, answer: Any, code: str) -> str:
    """The code, once everything else about the problem agrees with it."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"]) == (STATUS.get(code, 0),) * 2, problem
    assert problem["outcome"] == OUTCOME.get(code, "none")
    assert answer.headers["x-request-id"] == problem["request_id"]
    assert ("retry-after" in answer.headers) >= (answer.status_code == 503)
    return problem["code"]


@pytest.mark.parametrize("fault", CREATES)
@pytest.mark.parametrize("kind", ["sellapp", "bluetape", "turinpay", "generic"])
async def test_at_create(world: World, kind: str, fault: str) -> None:
    await world.arm(kind, "create", fault)
    answer = await world.create(kind)
    problem = answer.json()
    assert checked(problem, answer, CREATES[fault]) == CREATES[fault]
    if CREATES[fault] == "outcome_unknown":
        assert (await world.read(problem["invoice_id"], refresh="false"))["status"] == "unknown"
    else:
        kept = (await world.http.get("/v1/invoices", params={"provider": kind})).json()["data"]
        assert kept == [], "what is known not to have happened leaves nothing behind"
        assert (await world.create(kind)).status_code == 201


@pytest.mark.parametrize("fault", READ)
@pytest.mark.parametrize("kind", ["sellapp", "bluetape", "turinpay", "generic"])
async def test_at_get(world: World, kind: str, fault: str) -> None:
    created = await world.created(kind)
    await world.arm(kind, "get", fault, times=4)
    insisted = await world.http.get(f"/v1/invoices/{created['id']}", params={"refresh": "true"})
    assert checked(insisted.json(), insisted, READ[fault]) == READ[fault]
    world.clock.pass_time(seconds=3)
    read = await world.read(created["id"])
    assert (read["stale"], read["status"]) == (True, "pending"), "a read never fails because a provider does"


@pytest.mark.parametrize("fault", WRITE)
async def test_at_checkout_that_writes(world: World, fault: str) -> None:
    created = await world.created("sellapp")
    await world.arm("sellapp", "checkout", fault)
    answer = await world.checkout(created["id"])
    assert checked(answer.json(), answer, WRITE[fault]) == WRITE[fault]
    if WRITE[fault] == "outcome_unknown":
        assert answer.json()["invoice_id"] == created["id"]
    assert (await world.read(created["id"], refresh="false"))["status"] == "pending"
    assert (await world.checkout(created["id"])).json()["outcome"] == "redirect"


@pytest.mark.parametrize("fault", READ)
@pytest.mark.parametrize("kind", ["bluetape", "turinpay"])
async def test_at_checkout_that_only_reads(world: World, kind: str, fault: str) -> None:
    created = await world.created(kind)
    await world.arm(kind, "checkout", fault, times=2)
    answer = await world.checkout(created["id"])
    assert checked(answer.json(), answer, READ[fault]) == READ[fault]


@pytest.mark.parametrize("fault", WRITE)
@pytest.mark.parametrize("kind", ["sellapp", "bluetape"])
async def test_at_cancel(world: World, kind: str, fault: str) -> None:
    created = await world.created(kind)
    await world.arm(kind, "cancel", fault)
    answer = await world.http.post(f"/v1/invoices/{created['id']}/cancel")
    assert checked(answer.json(), answer, WRITE[fault]) == WRITE[fault]
    assert (await world.read(created["id"], refresh="false"))["status"] == "pending"


@pytest.mark.parametrize("fault", READ)
@pytest.mark.parametrize("kind", ["sellapp", "turinpay", "generic"])
async def test_at_list(world: World, kind: str, fault: str) -> None:
    created = await world.created(kind)
    await world.arm(kind, "list", fault, times=2)
    listed = await world.http.get("/v1/invoices")
    assert listed.status_code == 200, "a list never fails because a provider does"
    page = listed.json()
    assert page["partial"]
    assert {source["provider"]: source["code"] for source in page["sources"]}[kind] == READ[fault]
    assert [invoice["id"] for invoice in page["data"]] == [created["id"]]


@pytest.mark.parametrize("kind", ["sellapp", "bluetape", "turinpay", "generic"])
async def test_extra_fields_and_unknown_words_break_nothing(world: World, kind: str) -> None:
    for fault in ("extra_fields", "unknown_status"):
        await world.arm(kind, "create", fault)
        created = await world.created(kind)
        assert created["status"] == "pending"
        await world.arm(kind, "get", fault)
        assert (await world.read(created["id"], refresh="true"))["status"] == "pending"


async def test_a_word_that_is_not_known_is_counted(world: World) -> None:
    created = await world.created("generic")
    await world.arm("generic", "get", "unknown_status")
    read = await world.read(created["id"], refresh="true")
    assert read["provider_status"] not in (None, "CREATED")
    sheet = (await world.http.get("/v1/providers/generic")).json()
    assert sheet["health"]["drift"] == 1


async def test_another_amount_than_asked_is_canceled_at_once_where_that_can_be(world: World) -> None:
    await world.arm("sellapp", "create", "wrong_amount")
    answer = await world.create("sellapp", amount="19.99", currency="USD")
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["outcome"]) == (502, "amount_mismatch", "happened")
    read = await world.read(problem["invoice_id"])
    assert (read["status"], read["checkout"]["url"]) == ("canceled", None)


async def test_another_amount_seen_at_the_first_read_leaves_it_unknown_where_it_cannot_be_canceled(
    world: World,
) -> None:
    created = await world.created("generic")
    await world.arm("generic", "get", "wrong_amount")
    read = await world.read(created["id"], refresh="true")
    assert (read["status"], read["checkout"]["url"], read["amount"]) == ("unknown", None, "49.90")
    refused = await world.checkout(created["id"])
    assert (refused.status_code, refused.json()["code"]) == (502, "amount_mismatch")


async def test_a_provider_that_nobody_answers_for_is_unavailable(world: World) -> None:
    created = await world.created("generic")
    for _ in range(11):
        await world.arm("generic", "create", "status:500")
        await world.create("generic")
    refused = await world.create("generic")
    assert (refused.status_code, refused.json()["code"]) == (503, "provider_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    sheet = (await world.http.get("/v1/providers/generic")).json()
    assert (sheet["health"]["state"], sheet["health"]["circuit"]) == ("down", "open")
    world.clock.pass_time(seconds=3)
    assert (await world.read(created["id"]))["stale"]
    assert (await world.http.get("/readyz")).status_code == 200, "no provider decides on our readiness"
