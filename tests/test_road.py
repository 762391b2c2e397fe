"""The whole road, for every provider: create, check out, pay, read, list; through the service and over real sockets."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from app.providers import kinds
from tests.world import ORDERS, SHOPPER, World, open_world

pytestmark = pytest.mark.anyio

KINDS = sorted(kinds())
FREE = {"items": [{"variant_id": "1000"}], "customer": SHOPPER}


def test_every_kind_of_provider_has_an_order_here() -> None:
    assert sorted(ORDERS) == KINDS


@pytest.mark.parametrize("kind", KINDS)
async def test_an_invoice_is_created_checked_out_paid_read_and_listed(world: World, kind: str) -> None:
    created = await world.created(kind, order_id="order-17", metadata={"cart": "c-9"})
    assert (created["status"], created["paid"], created["finished"]) == ("pending", False, False)

    visit = (await world.checkout(created["id"])).json()
    assert visit["outcome"] == "redirect"
    assert (await world.sandbox.get(visit["url"])).status_code == 200

    await world.settle(kind, created["provider_invoice_id"], "paid")
    read = await world.read(created["id"], refresh="true")
    assert (read["status"], read["paid"], read["finished"]) == ("completed", True, True)
    assert read["completed_at"]
    assert read["version"] > created["version"]
    assert (read["order_id"], read["metadata"]) == ("order-17", {"cart": "c-9"})

    listed = (await world.http.get("/v1/invoices", params={"provider": kind})).json()
    assert [invoice["id"] for invoice in listed["data"]] == [created["id"]]
    assert listed["data"][0]["status"] == "completed"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_finished_invoice_starts_no_checkout(world: World, kind: str) -> None:
    created = await world.created(kind)
    await world.settle(kind, created["provider_invoice_id"], "paid")
    await world.read(created["id"], refresh="true")
    refused = await world.checkout(created["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "invoice_finished")


@pytest.mark.parametrize("kind", KINDS)
async def test_either_id_finds_it_again(world: World, kind: str) -> None:
    created = await world.created(kind, order_id="order-17")
    await world.created(kind)
    for query in ({"provider_invoice_id": created["provider_invoice_id"]}, {"order_id": "order-17"}):
        found = (await world.http.get("/v1/invoices", params=query)).json()["data"]
        assert [invoice["id"] for invoice in found] == [created["id"]]


@pytest.mark.parametrize("word", ["COMPLETED", "PAID"])
async def test_a_free_invoice_completes_instead_of_opening_a_checkout(world: World, word: str) -> None:
    await world.sandbox.put("/_control/sellapp/switches", json={"free_status": word})
    created = await world.created("sellapp", **FREE)
    assert created["amount"] == "0.00"
    visit = (await world.checkout(created["id"])).json()
    assert (visit["outcome"], visit["url"], visit["invoice"]["status"]) == ("completed", None, "completed")
    assert visit["message"]
    read = await world.read(created["id"])
    assert (read["status"], read["paid"]) == ("completed", True)


async def test_a_double_click_opens_one_checkout(world: World) -> None:
    created = await world.created("sellapp")
    visits = await asyncio.gather(*(world.checkout(created["id"]) for _ in range(8)))
    assert len({visit.json()["url"] for visit in visits}) == 1
    assert (await world.checkout(created["id"])).json()["url"] == visits[0].json()["url"]


async def test_the_redirect_and_its_button_reach_a_provider_that_takes_them_at_creation(world: World) -> None:
    back = "https://shop.example/thanks?step=3&ours={invoice_id}#top"
    created = await world.created(
        "generic", order_id="order-17", redirect_url=back, redirect_button_title="Back to the shop"
    )
    [create] = [request for request in await world.requests("generic") if request["method"] == "POST"]
    filled = back.replace("{invoice_id}", created["id"])
    assert create["body"]["customization"] == {"redirectUrl": filled, "redirectButtonTitle": "Back to the shop"}
    assert created["redirect_url"] == filled

    landed = await paid_on_the_page(world, created["id"])
    assert (landed.scheme, landed.netloc, landed.path, landed.fragment) == ("https", "shop.example", "/thanks", "top")
    assert dict(parse_qsl(landed.query)) == {
        "step": "3",
        "ours": created["id"],
        "invoiceId": created["provider_invoice_id"],
        "orderId": "order-17",
    }

    other = await world.checkout(created["id"], redirect_url="https://shop.example/other")
    assert (other.status_code, other.json()["code"]) == (409, "redirect_fixed_at_creation")


async def test_the_redirect_reaches_a_provider_that_takes_it_at_checkout(world: World) -> None:
    created = await world.created("bluetape", order_id="o/1", redirect_url="https://shop.example/thanks?step=3")
    landed = await paid_on_the_page(world, created["id"])
    assert landed.path == "/thanks"
    assert dict(parse_qsl(landed.query)) == {"step": "3", "invoiceId": created["id"], "orderId": "o/1"}

    other = await world.created("bluetape")
    landed = await paid_on_the_page(world, other["id"], redirect_url="https://shop.example/other")
    assert (landed.path, dict(parse_qsl(landed.query))) == ("/other", {"invoiceId": other["id"]})
    assert (await world.read(other["id"]))["redirect_url"] == "https://shop.example/other"


async def paid_on_the_page(world: World, id: str, **fields: Any) -> Any:
    """Where the shopper's browser ends after clicking on pay."""
    visit = (await world.checkout(id, **fields)).json()
    answer = await world.sandbox.post(visit["url"], data={"outcome": "paid"})
    assert answer.status_code == 303, answer.text
    return urlsplit(answer.headers["location"])


async def test_a_bitcoin_payment_is_linked_with_its_intent(world: World) -> None:
    created = await world.created("turinpay")
    page = (await world.checkout(created["id"])).json()["url"]
    await world.sandbox.get(page)
    visit = (await world.checkout(created["id"])).json()
    checkout = visit["invoice"]["checkout"]
    assert checkout["lightning"].startswith("lnbc")
    assert checkout["bitcoin_address"].startswith("bc1")
    await world.settle("turinpay", created["provider_invoice_id"], "paid")
    assert (await world.read(created["id"], refresh="true"))["status"] == "completed"
    everything = (await world.http.get("/v1/invoices")).json()["data"]
    assert [invoice["id"] for invoice in everything] == [created["id"]], "a linked payment is never adopted again"


async def test_what_was_made_elsewhere_is_adopted_listed_and_readable(world: World) -> None:
    direct = await world.sandbox.post(
        "/generic/v1/invoice", json={"asset": "EUR", "amount": "7.5"}, headers={"api-key": "sandbox-generic-key"}
    )
    reference = direct.json()["data"]["id"]
    [listed] = (await world.http.get("/v1/invoices")).json()["data"]
    assert (listed["provider_invoice_id"], listed["amount"], listed["currency"]) == (reference, "7.50", "EUR")
    await world.settle("generic", reference, "paid")
    assert (await world.read(listed["id"], refresh="true"))["status"] == "completed"


async def test_the_provider_is_asked_once_for_many_readers_and_not_while_it_is_fresh(tmp_path: Path) -> None:
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db", max_age=60) as world:
        created = await world.created("generic")
        await world.read(created["id"])
        assert not [request for request in await world.requests("generic") if request["method"] == "GET"]
        world.clock.pass_time(seconds=61)
        reads = await asyncio.gather(*(world.read(created["id"]) for _ in range(20)))
        assert {read["status"] for read in reads} == {"pending"}
        assert len([request for request in await world.requests("generic") if request["method"] == "GET"]) == 1


@pytest.mark.parametrize("kind", ["sellapp", "bluetape"])
async def test_an_invoice_is_canceled_where_the_provider_can(world: World, kind: str) -> None:
    created = await world.created(kind)
    canceled = await world.http.post(f"/v1/invoices/{created['id']}/cancel")
    assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")
    assert (await world.checkout(created["id"])).json()["code"] == "invoice_finished"


async def test_what_a_provider_cannot_do_is_said_before_it_is_asked(world: World) -> None:
    created = await world.created("generic")
    before = len(await world.requests("generic"))
    refused = await world.http.post(f"/v1/invoices/{created['id']}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (422, "unsupported_operation")
    assert len(await world.requests("generic")) == before
    assert (await world.http.get("/v1/providers/bluetape/assets")).json()["code"] == "unsupported_operation"


async def test_assets_and_questions_come_from_the_provider(world: World) -> None:
    assets = (await world.http.get("/v1/providers/generic/assets")).json()["data"]
    assert {"code": "EUR", "name": "Euro", "type": "fiat", "precision": 2} in assets
    questions = (await world.http.get("/v1/providers/generic/questionnaire")).json()["data"]
    assert {"name": "email"} in questions


@pytest.mark.parametrize(
    ("kind", "outcome", "status"),
    [
        ("sellapp", "partial", "partially_paid"),
        ("sellapp", "failed", "failed"),
        ("sellapp", "expired", "expired"),
        ("sellapp", "canceled", "canceled"),
        ("sellapp", "refunded", "refunded"),
        ("generic", "partial", "partially_paid"),
        ("generic", "failed", "failed"),
        ("generic", "expired", "expired"),
        ("generic", "canceled", "canceled"),
        ("turinpay", "expired", "expired"),
        ("bluetape", "partial", "partially_paid"),
        ("bluetape", "canceled", "canceled"),
    ],
)
async def test_each_end_is_read_in_our_words(world: World, kind: str, outcome: str, status: str) -> None:
    created = await world.created(kind)
    await world.settle(kind, created["provider_invoice_id"], outcome)
    assert (await world.read(created["id"], refresh="true"))["status"] == status


async def test_money_that_comes_late_still_completes(world: World) -> None:
    created = await world.created("generic")
    await world.settle("generic", created["provider_invoice_id"], "expired")
    assert (await world.read(created["id"], refresh="true"))["status"] == "expired"
    await world.settle("generic", created["provider_invoice_id"], "paid")
    assert (await world.read(created["id"], refresh="true"))["status"] == "completed"


async def test_pages_follow_each_other_without_gaps_or_doubles(world: World) -> None:
    ids = [(await world.created("generic"))["id"] for _ in range(7)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    while True:
        page = (await world.http.get("/v1/invoices", params=query)).json()
        seen += [invoice["id"] for invoice in page["data"]]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
        await world.created("generic")
    assert seen == ids[::-1]
