"""What providers tell us: only what proves its origin is kept, and only what the provider confirms changes anything."""

import asyncio
import hmac
import json
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.callers import is_problem
from tests.world import ORDERS, SERVICE, World, open_world

pytestmark = pytest.mark.anyio

# How long a test waits for what happens after the answer.
SOON = 5.0


@dataclass
class Letter:
    """A notification as its provider would send it."""

    path: str
    body: bytes
    headers: dict[str, str]

    async def send(self, world: World, **changes: Any) -> httpx.Response:
        body = changes.get("body", self.body)
        headers = {"Content-Type": "application/json", **self.headers, **changes.get("headers", {})}
        return await world.http.post(changes.get("path", self.path), content=body, headers=headers)


def sellapp_letter(invoice: dict[str, Any], secret: str = "sandbox-sellapp-webhook-secret-0001") -> Letter:
    number = int(invoice["provider_invoice_id"])
    body = json.dumps({"event": "order.completed", "data": {"id": number}, "store": 1}).encode()
    return Letter("/webhooks/sellapp", body, {"Signature": hmac.digest(secret.encode(), body, "sha256").hex()})


def generic_letter(invoice: dict[str, Any], path: str, secret: str = "sandbox-generic-private") -> Letter:
    body = json.dumps({"event": "Invoice", "data": {"id": invoice["provider_invoice_id"]}}).encode()
    return Letter(path, body, {"kun-signature": hmac.digest(secret.encode(), body, "sha384").hex()})


async def letter(world: World, kind: str, invoice: dict[str, Any]) -> Letter:
    if kind == "sellapp":
        return sellapp_letter(invoice)
    path = await address(world, kind)
    if kind == "generic":
        return generic_letter(invoice, path)
    return Letter(path, json.dumps({"id": invoice["provider_invoice_id"]}).encode(), {})


async def address(world: World, kind: str) -> str:
    """Where the provider was told to notify, of its newest create."""
    creates = [each for each in await world.requests(kind) if each["method"] == "POST"]
    asked = creates[-1]["body"] if isinstance(creates[-1]["body"], dict) else json.loads(creates[-1]["body"])
    url: str = asked.get("callbackUrl") or asked["notificationUrl"]
    return url.removeprefix(SERVICE)


async def paid(world: World, kind: str) -> tuple[dict[str, Any], Letter]:
    """An invoice that has been paid without anybody telling us, and the notification that would."""
    invoice = await world.created(kind)
    told = await letter(world, kind, invoice)
    await world.settle(kind, invoice["provider_invoice_id"], "paid")
    await world.sandbox.delete(f"/_control/{kind}/requests")
    return invoice, told


async def becomes(world: World, id: str, status: str) -> dict[str, Any]:
    until = time.monotonic() + SOON
    while (now := await world.read(id, refresh="false"))["status"] != status:
        assert time.monotonic() < until, f"still {now['status']}"
        await asyncio.sleep(0.02)
    return now


async def stays(world: World, id: str, status: str) -> None:
    await asyncio.sleep(0.3)
    assert (await world.read(id, refresh="false"))["status"] == status


async def events(world: World, id: str) -> list[str]:
    answer = await world.http.get(f"/v1/invoices/{id}/events")
    assert answer.status_code == 200, answer.text
    return [event["type"] for event in answer.json()["data"]]


TOLD = ["sellapp", "generic", "turinpay"]


@pytest.mark.parametrize("kind", TOLD)
async def test_a_true_notification_is_answered_at_once_and_then_looked_into(world: World, kind: str) -> None:
    invoice, told = await paid(world, kind)
    began = time.perf_counter()
    answer = await told.send(world)
    took = time.perf_counter() - began
    assert (answer.status_code, answer.content) == (200, b"")
    assert took < 0.5  # 50 ms where nothing else runs on the machine
    await becomes(world, invoice["id"], "completed")
    assert await events(world, invoice["id"]) == ["invoice.created", "invoice.completed"]


@pytest.mark.parametrize("kind", TOLD)
@pytest.mark.parametrize("notify", ["once", "twice", "reordered"])
async def test_the_provider_itself_is_understood(world: World, kind: str, notify: str) -> None:
    invoice = await world.created(kind)
    await world.settle(kind, invoice["provider_invoice_id"], "paid", notify)
    await becomes(world, invoice["id"], "completed")
    await asyncio.sleep(0.1)
    assert await events(world, invoice["id"]) == ["invoice.created", "invoice.completed"]


@pytest.mark.parametrize("kind", TOLD)
async def test_what_is_forged_changes_nothing_and_asks_nobody(world: World, kind: str) -> None:
    invoice = await world.created(kind)
    await world.sandbox.delete(f"/_control/{kind}/requests")
    await world.settle(kind, invoice["provider_invoice_id"], "paid", "forged")
    await stays(world, invoice["id"], "pending")
    assert await world.requests(kind) == []


@pytest.mark.parametrize("kind", TOLD)
@pytest.mark.parametrize("times", [2, 40])
async def test_however_often_it_is_told_at_once_it_happens_once(world: World, kind: str, times: int) -> None:
    invoice, told = await paid(world, kind)
    answers = await asyncio.gather(*(told.send(world) for _ in range(times)))
    assert {answer.status_code for answer in answers} == {200}
    await becomes(world, invoice["id"], "completed")
    await asyncio.sleep(0.2)
    assert await events(world, invoice["id"]) == ["invoice.created", "invoice.completed"]
    assert len(await world.requests(kind)) == 1


@pytest.mark.parametrize("kind", TOLD)
async def test_a_replay_changes_nothing_and_costs_next_to_nothing(world: World, kind: str) -> None:
    """What signs nothing may mean another change by the same words: a few looks in five seconds settle that."""
    invoice, told = await paid(world, kind)
    await told.send(world)
    await becomes(world, invoice["id"], "completed")
    for _ in range(50):
        assert (await told.send(world)).status_code == 200
    await asyncio.sleep(0.2)
    assert len(await world.requests(kind)) <= (4 if kind == "turinpay" else 1)
    assert await events(world, invoice["id"]) == ["invoice.created", "invoice.completed"]


@pytest.mark.parametrize("kind", ["sellapp", "generic"])
async def test_a_thousand_different_true_ones_cost_a_handful_of_reads(world: World, kind: str) -> None:
    invoice, told = await paid(world, kind)
    for number in range(200):
        body = told.body + b" " * number
        headers = signed(kind, body)
        assert (await told.send(world, body=body, headers=headers)).status_code == 200
    await becomes(world, invoice["id"], "completed")
    await asyncio.sleep(0.3)
    assert len(await world.requests(kind)) <= 5


def signed(kind: str, body: bytes) -> dict[str, str]:
    if kind == "sellapp":
        return {"Signature": hmac.digest(b"sandbox-sellapp-webhook-secret-0001", body, "sha256").hex()}
    return {"kun-signature": hmac.digest(b"sandbox-generic-private", body, "sha384").hex()}


MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"paid=1",
    "not UTF-8": b'{"event": "\xff\xfe"}',
    "not an object": b"[1]",
    "deep": b"[" * 100_000,
    "no id": b'{"event": "order.completed", "data": {}}',
}


@pytest.mark.parametrize("kind", ["sellapp", "generic"])
@pytest.mark.parametrize("case", MALFORMED)
async def test_what_is_signed_and_unreadable_is_refused_and_not_kept(world: World, kind: str, case: str) -> None:
    invoice, told = await paid(world, kind)
    body = MALFORMED[case]
    answer = await told.send(world, body=body, headers=signed(kind, body), path=f"/webhooks/{kind}")
    is_problem(answer, 400, "invalid_request")
    await stays(world, invoice["id"], "pending")


@pytest.mark.parametrize("kind", TOLD)
async def test_what_is_cut_short_or_altered_proves_nothing(world: World, kind: str) -> None:
    invoice, told = await paid(world, kind)
    if kind == "turinpay":
        spoiled = [await told.send(world, path=told.path[:-1]), await told.send(world, path=told.path.split("?")[0])]
    else:
        spoiled = [await told.send(world, body=told.body[:-1]), await told.send(world, body=told.body + b"\n ")]
    for answer in spoiled:
        is_problem(answer, 401, "unauthenticated")
    await stays(world, invoice["id"], "pending")
    assert await world.requests(kind) == []


@pytest.mark.parametrize("kind", TOLD)
async def test_a_megabyte_is_refused_before_it_is_judged(world: World, kind: str) -> None:
    _, told = await paid(world, kind)
    is_problem(await told.send(world, body=b" " * 1024 * 1024), 413, "payload_too_large")


@pytest.mark.parametrize("kind", TOLD)
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_the_content_type_is_the_providers_business(world: World, kind: str, content_type: str) -> None:
    invoice, told = await paid(world, kind)
    answer = await told.send(world, headers={"Content-Type": content_type})
    assert answer.status_code == 200
    await becomes(world, invoice["id"], "completed")


@pytest.mark.parametrize("name", ["Signature", "kun-signature"])
@pytest.mark.parametrize("value", [b"", b"\xff\xfe", b"0" * 64, b"%00", "ﬀ".encode() * 32])
async def test_no_signature_makes_it_stumble(world: World, name: str, value: bytes) -> None:
    for path in ("/webhooks/sellapp", "/webhooks/generic"):
        answer = await world.http.post(path, content=b"{}", headers=[(name.encode(), value)])
        is_problem(answer, 401, "unauthenticated")


async def test_the_token_of_one_invoice_is_worth_nothing_at_another(world: World) -> None:
    first = await world.created("turinpay")
    token = (await address(world, "turinpay")).partition("?")[2]
    second = await world.created("turinpay")
    assert first["id"] != second["id"]
    answer = await world.http.post(f"/webhooks/turinpay/{second['id']}?{token}", content=b"{}")
    is_problem(answer, 401, "unauthenticated")


async def test_who_takes_no_notifications_has_no_address_for_them(world: World) -> None:
    for path in ("/webhooks/bluetape", "/webhooks/nobody", "/webhooks/nobody/inv_01jd7q8m3zf5k9w2x4y6a8b0c2"):
        answer = await world.http.post(path, content=b"{}")
        assert answer.status_code in {401, 404}, answer.text
    is_problem(await world.http.post("/webhooks/nobody", content=b"{}"), 404, "not_found")


async def test_an_invoice_that_was_made_elsewhere_is_adopted(world: World) -> None:
    account = {"api-key": "sandbox-generic-key"}
    made = await world.sandbox.post(
        "/generic/v1/invoice", json={"asset": "EUR", "amount": "7.00", "externalOrderId": "theirs-1"}, headers=account
    )
    assert made.status_code < 300, made.text
    reference = made.json()["data"]["id"]
    await world.settle("generic", reference, "paid")
    body = json.dumps({"event": "Invoice", "data": {"id": reference}}).encode()
    answer = await world.http.post("/webhooks/generic", content=body, headers=signed("generic", body))
    assert answer.status_code == 200
    async with asyncio.timeout(SOON):
        while not (found := await found_by(world, reference)):
            await asyncio.sleep(0.02)
    assert (found[0]["amount"], found[0]["order_id"]) == ("7.00", "theirs-1")
    assert await events(world, found[0]["id"]) == []


async def found_by(world: World, reference: str) -> list[dict[str, Any]]:
    answer = await world.http.get("/v1/invoices", params={"provider_invoice_id": reference, "provider": "generic"})
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_one_that_nobody_has_is_forgotten(world: World) -> None:
    body = json.dumps({"event": "Invoice", "data": {"id": "506c695a-4187-4463-ac41-07dc0782cb0e"}}).encode()
    answer = await world.http.post("/webhooks/generic", content=body, headers=signed("generic", body))
    assert answer.status_code == 200
    await asyncio.sleep(0.2)
    assert await world.app.state.services.notifications.inbox.claim(world.clock(), world.clock(), 10) == []


async def test_a_notification_may_come_before_the_create_is_answered(world: World) -> None:
    """The create is answered late; the payment is told before, waits, and is taken in once the invoice is recorded."""
    await world.arm("generic", "create", "slow", seconds=1)
    creating = asyncio.create_task(world.create("generic"))
    async with asyncio.timeout(SOON):
        while not [each for each in await world.requests("generic") if each["method"] == "POST"]:
            await asyncio.sleep(0.02)
    path = await address(world, "generic")
    body = json.dumps({"event": "Invoice", "data": {"id": "not-known-yet"}}).encode()
    assert (await world.http.post(path, content=body, headers=signed("generic", body))).status_code == 200
    invoice = (await creating).json()
    await world.settle("generic", invoice["provider_invoice_id"], "paid")
    async with asyncio.timeout(SOON):
        while (await world.read(invoice["id"], refresh="false"))["status"] != "completed":
            world.clock.pass_time(seconds=1)
            await world.app.state.services.notifications.see_to_due()
    assert await events(world, invoice["id"]) == ["invoice.created", "invoice.completed"]


async def test_the_token_tells_two_doubtful_twins_apart(world: World) -> None:
    """Both creates got no answer and look alike; each is linked to what its own address was given for."""
    twins = {}
    for _ in range(2):
        await world.arm("generic", "create", "reset_after_accept")
        doubtful = (await world.create("generic", order_id="twin")).json()
        assert doubtful["code"] == "outcome_unknown"
        twins[doubtful["invoice_id"]] = await address(world, "generic")
    account = {"api-key": "sandbox-generic-key"}
    listed = (await world.sandbox.get("/generic/v1/invoice", headers=account)).json()["data"]
    references = [each["id"] for each in sorted(listed, key=lambda each: each["createdAt"])]
    links = dict(zip(twins, reversed(references), strict=True))  # the other way round than by age
    for id, reference in links.items():
        body = json.dumps({"event": "Invoice", "data": {"id": reference}}).encode()
        answer = await world.http.post(twins[id], content=body, headers=signed("generic", body))
        assert answer.status_code == 200
    for id, reference in links.items():
        now = await becomes(world, id, "pending")
        assert now["provider_invoice_id"] == reference


async def test_a_deposit_is_an_event_with_its_own_amount_and_asset(world: World) -> None:
    invoice = await world.created("generic", provider_options={"deposit_callbacks": True})
    await world.settle("generic", invoice["provider_invoice_id"], "partial", "twice")
    await becomes(world, invoice["id"], "partially_paid")
    async with asyncio.timeout(SOON):
        while "invoice.deposit" not in await events(world, invoice["id"]):
            await asyncio.sleep(0.02)
    found = (await world.http.get("/v1/events", params={"type": "invoice.deposit"})).json()["data"]
    assert len(found) == 1
    deposit = found[0]["data"]["deposit"]
    assert deposit["asset"] == "USDT"
    assert float(deposit["amount"]) > 0
    assert found[0]["data"]["amount_paid"] is None


async def test_what_was_cut_off_is_seen_to_later(world: World) -> None:
    """The service ends between its answer and its look: whoever works next goes on."""
    invoice, told = await paid(world, "sellapp")
    offered = world.app.state.services
    await world.arm("sellapp", "get", "slow", seconds=2)
    assert (await told.send(world)).status_code == 200
    await asyncio.sleep(0.3)
    await offered.notifications.close()
    await stays(world, invoice["id"], "pending")
    world.clock.pass_time(seconds=31)
    assert await offered.notifications.see_to_due() == 1
    await becomes(world, invoice["id"], "completed")


async def test_a_provider_that_cannot_be_asked_is_asked_later(world: World) -> None:
    invoice, told = await paid(world, "turinpay")
    await world.arm("turinpay", "get", "status:500", times=2)
    assert (await told.send(world)).status_code == 200
    await stays(world, invoice["id"], "pending")
    async with asyncio.timeout(SOON):
        while (await world.read(invoice["id"], refresh="false"))["status"] != "completed":
            world.clock.pass_time(seconds=10)
            await world.app.state.services.notifications.see_to_due()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    postgresql = request.param == "postgresql"
    return request.getfixturevalue("postgresql_url") if postgresql else f"sqlite:///{tmp_path}/gatehouse.db"


async def test_the_same_words_again_during_a_look_make_for_another(database_url: str) -> None:
    """What signs nothing says the same of each change: the look under way may have come before this one."""
    async with open_world(database_url) as world:
        invoice = await world.created("turinpay")
        told = await letter(world, "turinpay", invoice)
        await world.sandbox.delete("/_control/turinpay/requests")
        await world.arm("turinpay", "get", "slow", seconds=0.5)
        await told.send(world)
        async with asyncio.timeout(SOON):
            while not await world.requests("turinpay"):
                await asyncio.sleep(0.02)
        assert (await told.send(world)).status_code == 200
        notifications = world.app.state.services.notifications
        await asyncio.gather(*notifications.under_way)
        await world.settle("turinpay", invoice["provider_invoice_id"], "paid")
        world.clock.pass_time(seconds=1)
        assert await notifications.see_to_due() == 1
        await becomes(world, invoice["id"], "completed")
        await asyncio.gather(*notifications.under_way)
        assert len(await world.requests("turinpay")) == 2
        assert (await notifications.inbox.backlog()).count == 0


def test_every_provider_that_notifies_is_tried_here() -> None:
    assert set(TOLD) | {"bluetape"} == set(ORDERS)


async def test_a_second_payment_of_an_intent_is_found_by_its_notification(world: World) -> None:
    """The first payment expired; the shopper opened another, and paid that."""
    invoice = await world.created("turinpay")
    path = await address(world, "turinpay")
    key = {"X-API-Key": "sandbox-turinpay-key"}
    await world.sandbox.get(f"/turinpay/checkout/{invoice['provider_invoice_id']}")
    listed = (await world.sandbox.get("/turinpay/invoice", headers=key)).json()
    first = listed[-1]["id"] if isinstance(listed, list) else listed["data"][-1]["id"]
    body = json.dumps({"id": "f" * 64}).encode()
    assert (await world.http.post(path, content=body)).status_code == 200
    await asyncio.sleep(0.3)
    now = await world.read(invoice["id"], refresh="true")
    assert now["status"] == "pending"
    await world.settle("turinpay", first, "paid")
    assert (await world.http.post(path, content=json.dumps({"id": first}).encode())).status_code == 200
    await becomes(world, invoice["id"], "completed")


async def test_an_unsigned_deposit_is_told_as_we_have_seen_it(tmp_path: Path) -> None:
    """In plain key mode only the token vouches: what the body says of a sum is not repeated."""
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db") as outer:
        url = str(outer.sandbox.base_url).rstrip("/")
        plain = {"generic": {"base_url": f"{url}/generic", "api_key": "sandbox-generic-key"}}
        async with open_world(f"sqlite:///{tmp_path}/plain.db", beside=outer, accounts=plain) as world:
            invoice = await world.created("generic")
            path = await address(world, "generic")
            await world.settle("generic", invoice["provider_invoice_id"], "partial")
            account = {"api-key": "sandbox-generic-key"}
            there = await world.sandbox.get(f"/generic/v1/invoice/{invoice['provider_invoice_id']}", headers=account)
            deposit = there.json()["data"]["transactions"][0]
            told = {
                "id": deposit["id"],
                "amount": "1000000",
                "asset": "BTC",
                "invoiceId": invoice["provider_invoice_id"],
            }
            body = json.dumps({"event": "InvoiceDeposit", "data": told}).encode()
            assert (await world.http.post(path, content=body)).status_code == 200
            async with asyncio.timeout(SOON):
                while "invoice.deposit" not in await events(world, invoice["id"]):
                    await asyncio.sleep(0.02)
            found = (await world.http.get("/v1/events", params={"type": "invoice.deposit"})).json()["data"]
            assert [each["data"]["deposit"]["asset"] for each in found] == [deposit["asset"]]
            assert Decimal(found[0]["data"]["deposit"]["amount"]) == Decimal(deposit["amount"])
