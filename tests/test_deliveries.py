"""Merchants are told everything, in order, signed, and as long as it takes; and can read it all up."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from tests.callers import is_problem
from tests.receiver import EARLIER, SECRET, Receiver, receiving
from tests.world import World, open_world

pytestmark = pytest.mark.anyio

A_DAY: dict[str, Any] = {"delivery_schedule": "5,60,300,1800,7200,18000,36000,50400"}


@pytest.fixture
async def telling(tmp_path: Path) -> AsyncIterator[World]:
    """A world that works in the background, and signs."""
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db", worker=True, webhook_secret=SECRET, **A_DAY) as world:
        yield world


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def paid(world: World, receiver: Receiver, **fields: Any) -> str:
    invoice = await world.created("generic", callback_url=receiver.url, **fields)
    await world.settle("generic", invoice["provider_invoice_id"], "paid", "once")
    id: str = invoice["id"]
    return id


async def log(world: World, **query: Any) -> list[dict[str, Any]]:
    answer = await world.http.get("/v1/deliveries", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def until(world: World, state: str, count: int = 1, **query: Any) -> list[dict[str, Any]]:
    async with asyncio.timeout(10):
        while len(found := await log(world, state=state, **query)) < count:
            await asyncio.sleep(0.02)
    return found


async def test_every_event_is_delivered_signed_and_in_order(telling: World, receiver: Receiver) -> None:
    id = await paid(telling, receiver)
    await receiver.has(2)
    assert receiver.types(id) == ["invoice.created", "invoice.completed"]
    assert receiver.unsigned == 0
    body = receiver.received[-1]
    assert set(body) == {"id", "type", "timestamp", "data"}
    assert (body["data"]["id"], body["data"]["status"], body["data"]["paid"]) == (id, "completed", True)
    delivered = await until(telling, "delivered", 2)
    assert [each["type"] for each in delivered] == ["invoice.completed", "invoice.created"]
    assert [len(each["attempts"]) for each in delivered] == [1, 1]
    assert delivered[0]["event_id"] == body["id"]
    assert (delivered[0]["attempts"][0]["status"], delivered[0]["next_attempt_at"]) == (204, None)


async def test_the_configured_receiver_serves_who_names_none(tmp_path: Path, receiver: Receiver) -> None:
    settings: dict[str, Any] = {"worker": True, "webhook_secret": SECRET, "webhook_url": receiver.url}
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db", **settings) as world:
        invoice = await world.created("turinpay")
        await receiver.has(1)
        assert receiver.types(invoice["id"]) == ["invoice.created"]


async def test_without_any_receiver_nothing_is_sent(telling: World) -> None:
    await telling.created("generic")
    assert await log(telling) == []


async def test_both_secrets_sign_while_one_is_rotated(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"worker": True, "webhook_secret": f"{SECRET},{EARLIER}"}
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db", **settings) as world:
        for secret in (SECRET, EARLIER):
            async with receiving(secret=secret) as receiver:
                await world.created("generic", callback_url=receiver.url)
                await receiver.has(1)
                assert receiver.unsigned == 0


async def test_a_failure_is_tried_again_as_scheduled_and_the_later_event_waits(
    telling: World, receiver: Receiver
) -> None:
    receiver.answers = lambda _: Response(status_code=500)
    id = await paid(telling, receiver)
    async with asyncio.timeout(10):
        while not (first := (await log(telling))[-1])["attempts"]:
            await asyncio.sleep(0.02)
    assert (first["type"], first["attempts"][0]["status"]) == ("invoice.created", 500)
    await asyncio.sleep(0.3)
    assert len(receiver.attempts) == 1
    receiver.answers = lambda _: Response(status_code=200)
    telling.clock.pass_time(seconds=6)
    await receiver.has(2)
    assert receiver.types(id) == ["invoice.created", "invoice.completed"]
    assert len(set(receiver.attempts)) == 2  # the id of an event never changes


async def test_after_the_last_try_it_has_failed_and_the_next_event_goes_on(tmp_path: Path, receiver: Receiver) -> None:
    settings: dict[str, Any] = {"worker": True, "webhook_secret": SECRET, "delivery_schedule": "0.05,0.05"}
    receiver.answers = lambda event: Response(status_code=500 if event["type"] == "invoice.created" else 200)
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db", **settings) as world:
        id = await paid(world, receiver)
        await receiver.has(1)
        assert receiver.types(id) == ["invoice.completed"]
        failed = (await until(world, "failed"))[0]
        assert [each["status"] for each in failed["attempts"]] == [500, 500, 500]
        assert failed["next_attempt_at"] is None


async def test_410_ends_it_at_once(telling: World, receiver: Receiver) -> None:
    receiver.answers = lambda _: Response(status_code=410)
    await telling.created("generic", callback_url=receiver.url)
    failed = await until(telling, "failed")
    assert [each["status"] for each in failed[0]["attempts"]] == [410]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_says_how_long_it_wants_to_be_left_alone(
    telling: World, receiver: Receiver, status: int
) -> None:
    receiver.answers = lambda _: Response(status_code=status, headers={"Retry-After": "600"})
    await telling.created("generic", callback_url=receiver.url)
    async with asyncio.timeout(10):
        while not receiver.attempts:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    receiver.answers = lambda _: Response(status_code=200)
    telling.clock.pass_time(seconds=500)
    await asyncio.sleep(1.3)
    assert len(receiver.attempts) == 1
    telling.clock.pass_time(seconds=101)
    await receiver.has(1)


@pytest.mark.parametrize("status", [301, 302, 307])
async def test_a_redirect_is_a_failure_and_not_followed(telling: World, receiver: Receiver, status: int) -> None:
    async with receiving() as elsewhere:
        receiver.answers = lambda _: Response(status_code=status, headers={"Location": elsewhere.url})
        await telling.created("generic", callback_url=receiver.url)
        async with asyncio.timeout(10):
            while not (await log(telling))[0]["attempts"]:
                await asyncio.sleep(0.02)
        assert (await log(telling))[0]["attempts"][0]["status"] == status
        assert (elsewhere.attempts, elsewhere.unsigned) == ([], 0)


async def test_a_dead_receiver_delays_nobody_else(telling: World, receiver: Receiver) -> None:
    async with receiving() as dead:
        dead.seconds = 30
        for _ in range(30):
            await telling.created("generic", callback_url=dead.url)
        await asyncio.sleep(0.2)
        began = time.perf_counter()
        await paid(telling, receiver)
        await receiver.has(2)
        assert time.perf_counter() - began < 2
        assert len(dead.attempts) <= 8


async def test_a_slow_receiver_is_cut_off_and_a_chatty_one_too(telling: World, receiver: Receiver) -> None:
    receiver.answers = lambda _: Response(b"x" * 1024 * 1024)
    await telling.created("generic", callback_url=receiver.url)
    async with asyncio.timeout(10):
        while not (found := (await log(telling))[0])["attempts"]:
            await asyncio.sleep(0.02)
    assert (found["state"], found["attempts"][0]["error"]) == ("pending", "too_large")


async def test_a_day_of_absence_loses_nothing(telling: World, receiver: Receiver) -> None:
    receiver.answers = lambda _: Response(status_code=502)
    ids = [await paid(telling, receiver) for _ in range(20)]
    for _ in range(24):
        telling.clock.pass_time(hours=1)
        await asyncio.sleep(0.1)
    receiver.answers = lambda _: Response(status_code=200)
    telling.clock.pass_time(hours=8)
    async with asyncio.timeout(30):
        while len(receiver.received) < 40:
            telling.clock.pass_time(minutes=10)
            await asyncio.sleep(0.1)
    for id in ids:
        assert receiver.types(id) == ["invoice.created", "invoice.completed"]


async def test_what_was_delivered_can_be_sent_again(telling: World, receiver: Receiver) -> None:
    await telling.created("generic", callback_url=receiver.url)
    await receiver.has(1)
    delivered = (await until(telling, "delivered"))[0]
    answer = await telling.http.post(f"/v1/deliveries/{delivered['id']}/redeliver")
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    await receiver.has(2)
    assert receiver.attempts[0] == receiver.attempts[1]
    again = (await until(telling, "delivered"))[0]
    assert [each["status"] for each in again["attempts"]] == [204, 204]


async def test_redelivering_by_key_is_done_once(telling: World, receiver: Receiver) -> None:
    await telling.created("generic", callback_url=receiver.url)
    await receiver.has(1)
    delivered = (await until(telling, "delivered"))[0]
    url, key = f"/v1/deliveries/{delivered['id']}/redeliver", {"Idempotency-Key": "again-1"}
    first, second = [await telling.http.post(url, headers=key) for _ in range(2)]
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.headers["idempotency-replayed"] == "true"
    await receiver.has(2)
    await asyncio.sleep(0.3)
    assert len(receiver.received) == 2


async def test_an_unknown_delivery_or_event_is_not_found(telling: World) -> None:
    for method, path in (
        ("POST", "/v1/deliveries/dlv_01jd7q8m3zf5k9w2x4y6a8b0c2/redeliver"),
        ("POST", "/v1/deliveries/nonsense/redeliver"),
        ("GET", "/v1/events/evt_01jd7q8m3zf5k9w2x4y6a8b0c2"),
        ("GET", "/v1/events/nonsense"),
        ("GET", "/v1/invoices/inv_01jd7q8m3zf5k9w2x4y6a8b0c2/events"),
    ):
        is_problem(await telling.http.request(method, path), 404, "not_found")


async def test_the_log_is_read_in_pages(telling: World, receiver: Receiver) -> None:
    for _ in range(5):
        await telling.created("generic", callback_url=receiver.url)
    await until(telling, "delivered", 5)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await telling.http.get("/v1/deliveries", params={"limit": 2, **cursor})).json()
        seen += [each["id"] for each in page["data"]]
        if not page["has_more"]:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(seen) == len(set(seen)) == 5
    assert page["next_cursor"] is None


async def test_the_feed_tells_everything_once_in_order(telling: World, receiver: Receiver) -> None:
    ids = [await paid(telling, receiver) for _ in range(3)]
    await receiver.has(6)
    seen: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await telling.http.get("/v1/events", params={"limit": 4, **cursor})).json()
        seen += page["data"]
        cursor = {"cursor": page["next_cursor"]}
        if not page["has_more"]:
            break
    assert [each["id"] for each in seen] == list(dict.fromkeys(each["id"] for each in seen))
    assert {each["invoice_id"] for each in seen} == set(ids)
    assert {each["id"] for each in seen} == {each["id"] for each in receiver.received}
    one = (await telling.http.get(f"/v1/events/{seen[0]['id']}")).json()
    assert one == seen[0]
    completed = (await telling.http.get("/v1/events", params={"type": "invoice.completed"})).json()["data"]
    assert [each["type"] for each in completed] == ["invoice.completed"] * 3
    of_one = (await telling.http.get("/v1/events", params={"invoice_id": ids[1]})).json()["data"]
    assert [each["type"] for each in of_one] == ["invoice.created", "invoice.completed"]
    rest = (await telling.http.get("/v1/events", params=cursor)).json()
    assert (rest["data"], rest["has_more"], rest["next_cursor"]) == ([], False, cursor["cursor"])


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"cursor": "nonsense"}, "query:cursor"),
        ({"type": "invoice.sold"}, "query:type"),
        ({"wait": "61"}, "query:wait"),
        ({"wait": "-1"}, "query:wait"),
        ({"limit": "0"}, "query:limit"),
    ],
)
async def test_a_wrong_question_about_events_is_refused(telling: World, query: dict[str, str], pointer: str) -> None:
    body = is_problem(await telling.http.get("/v1/events", params=query), 422, "invalid_request")
    assert [fault["pointer"] for fault in body["errors"]] == [pointer]


async def test_whoever_follows_the_feed_is_told_at_once(telling: World) -> None:
    began = time.perf_counter()
    following = asyncio.create_task(telling.http.get("/v1/events", params={"wait": "20"}))
    await asyncio.sleep(0.3)
    invoice = await telling.created("generic")
    page = (await following).json()
    assert [each["invoice_id"] for each in page["data"]] == [invoice["id"]]
    assert time.perf_counter() - began < 5


async def test_whoever_follows_in_vain_gets_an_empty_page_in_time(telling: World) -> None:
    began = time.perf_counter()
    page = (await telling.http.get("/v1/events", params={"wait": "1"})).json()
    assert (page["data"], page["has_more"]) == ([], False)
    assert 0.9 < time.perf_counter() - began < 3


async def test_a_poisoned_header_is_no_reason_to_send_again(telling: World, receiver: Receiver) -> None:
    poison = {"Retry-After": "Mon, 01 Jan 2024 00:00:00 +99999999999999"}
    receiver.answers = lambda _: Response(status_code=204, headers=poison)
    await telling.created("generic", callback_url=receiver.url)
    await until(telling, "delivered")
    receiver.answers = lambda _: Response(status_code=503, headers=poison)
    await telling.created("generic", callback_url=receiver.url)
    async with asyncio.timeout(10):
        while not (found := (await log(telling))[0])["attempts"]:
            await asyncio.sleep(0.02)
    assert (found["state"], found["attempts"][0]["status"]) == ("pending", 503)


async def test_one_slow_answer_keeps_nobody_of_its_receiver_waiting(telling: World, receiver: Receiver) -> None:
    slow = await telling.created("generic", callback_url=receiver.url)
    await receiver.has(1)
    receiver.seconds = 4
    await telling.settle("generic", slow["provider_invoice_id"], "paid", "once")
    await asyncio.sleep(0.5)
    receiver.seconds = 0
    began = time.perf_counter()
    await telling.created("generic", callback_url=receiver.url)
    await receiver.has(2)
    assert time.perf_counter() - began < 3
