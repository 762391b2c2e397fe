"""What a storefront's browser may do with a client secret, and where the pay link leads."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.callers import bearer, is_problem, knocking, world_of_roles
from tests.world import SHOPPER, World, open_world

pytestmark = pytest.mark.anyio

ORIGIN = "https://shop.example"
FREE = {"items": [{"variant_id": "1000"}], "customer": SHOPPER}
PRIVATE = {"customer", "metadata", "callback_url", "client_secret", "pay_url"}


@pytest.fixture
async def browser(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a key."""
    async with knocking(world.app) as client:
        yield client


def secret(invoice: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {invoice['client_secret']}"}


def path(invoice: dict[str, Any]) -> str:
    return str(invoice["pay_url"]).removeprefix("http://gatehouse.test")


async def test_only_who_may_write_is_given_the_secret(tmp_path: Path) -> None:
    async with world_of_roles(tmp_path) as world, knocking(world.app) as client:
        made = await client.post(
            "/v1/invoices", json={"provider": "generic", "amount": "1.00", "currency": "EUR"}, headers=bearer("write")
        )
        id = made.json()["id"]
        assert made.json()["client_secret"].startswith(f"{id}.")
        assert made.json()["pay_url"].endswith(f"/pay/{made.json()['client_secret']}")
        for role, sees in (("read", False), ("write", True), ("admin", True)):
            one = (await client.get(f"/v1/invoices/{id}", headers=bearer(role))).json()
            many = (await client.get("/v1/invoices", headers=bearer(role))).json()["data"][0]
            assert [("client_secret" in each, "pay_url" in each) for each in (one, many)] == [(sees, sees)] * 2


async def test_a_replay_tells_the_same_secret_and_events_tell_none(world: World) -> None:
    key = {"Idempotency-Key": "k-1"}
    body = {"provider": "generic", "amount": "1.00", "currency": "EUR"}
    first, again = [await world.http.post("/v1/invoices", json=body, headers=key) for _ in range(2)]
    assert first.content == again.content
    events = (await world.http.get("/v1/events")).json()["data"]
    assert not {"client_secret", "pay_url"} & events[0]["data"].keys()
    visits = [(await world.checkout(first.json()["id"])).json()["invoice"] for _ in range(2)]
    assert {visit["client_secret"] for visit in visits} == {first.json()["client_secret"]}


async def test_a_shopper_reads_the_public_view_and_starts_the_checkout(
    world: World, browser: httpx.AsyncClient
) -> None:
    invoice = await world.created("generic", metadata={"cart": "c-9"}, customer=SHOPPER)
    read = await browser.get(f"/v1/invoices/{invoice['id']}", headers=secret(invoice))
    assert read.status_code == 200
    assert read.json().keys() == invoice.keys() - PRIVATE
    visit = await browser.post(f"/v1/invoices/{invoice['id']}/checkout", headers=secret(invoice))
    assert (visit.status_code, visit.json()["outcome"]) == (200, "redirect")
    assert not PRIVATE & visit.json()["invoice"].keys()


async def test_a_shopper_may_do_nothing_else(world: World, browser: httpx.AsyncClient) -> None:
    invoice = await world.created("generic")
    other = await world.created("generic")
    id = invoice["id"]
    for method, where, status in (
        ("GET", f"/v1/invoices/{other['id']}", 404),
        ("POST", f"/v1/invoices/{other['id']}/checkout", 404),
        ("GET", "/v1/invoices", 403),
        ("POST", "/v1/invoices", 403),
        ("POST", f"/v1/invoices/{id}/cancel", 403),
        ("GET", f"/v1/invoices/{id}/events", 403),
        ("GET", f"/v1/invoices/{id}/trace", 403),
        ("GET", f"/v1/invoices/{id}?include=provider_data", 403),
        ("GET", "/v1/events", 403),
        ("GET", "/v1/deliveries", 403),
        ("GET", "/v1/providers", 403),
        ("GET", "/metrics", 403),
    ):
        body = {"provider": "generic", "amount": "1.00", "currency": "EUR"} if where == "/v1/invoices" else {}
        answer = await browser.request(method, where, headers=secret(invoice), json=body if method == "POST" else None)
        assert answer.status_code == status, (method, where, answer.text)


@pytest.mark.parametrize("wrong", ["{id}", "{id}.", "{id}.0000", "nonsense", "{id}.{mac}0", "{other}.{mac}"])
async def test_a_wrong_secret_opens_nothing(world: World, browser: httpx.AsyncClient, wrong: str) -> None:
    invoice, other = await world.created("generic"), await world.created("generic")
    mac = invoice["client_secret"].partition(".")[2]
    given = wrong.format(id=invoice["id"], other=other["id"], mac=mac)
    answer = await browser.get(f"/v1/invoices/{invoice['id']}", headers={"Authorization": f"Bearer {given}"})
    is_problem(answer, 401, "unauthenticated")
    page = await browser.get(f"/pay/{given}")
    assert (page.status_code, page.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert given not in page.text


async def test_the_link_leads_to_the_providers_page(world: World, browser: httpx.AsyncClient) -> None:
    invoice = await world.created("sellapp")
    answer = await browser.get(path(invoice))
    assert answer.status_code == 303
    assert answer.headers["location"] == (await world.checkout(invoice["id"])).json()["url"]
    assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "no-referrer")


async def test_what_looks_ahead_starts_nothing(world: World, browser: httpx.AsyncClient) -> None:
    invoice = await world.created("sellapp", **FREE)
    await world.sandbox.delete("/_control/sellapp/requests")
    looks = [
        await browser.head(path(invoice)),
        await browser.get(path(invoice), headers={"Sec-Purpose": "prefetch;prerender"}),
        await browser.get(path(invoice), headers={"Purpose": "prefetch"}),
    ]
    assert [look.status_code for look in looks] == [200, 200, 200]
    assert [each for each in await world.requests("sellapp") if each["method"] == "POST"] == []
    assert (await world.read(invoice["id"], refresh="false"))["status"] == "pending"


async def test_where_nothing_is_owed_it_leads_back_to_the_shop(world: World, browser: httpx.AsyncClient) -> None:
    back = "https://shop.example/thanks?a=1&id={invoice_id}#done"
    invoice = await world.created("sellapp", **FREE, redirect_url=back, order_id="order 17")
    answer = await browser.get(path(invoice))
    id = invoice["id"]
    where = f"https://shop.example/thanks?a=1&id={id}&invoiceId={id}&orderId=order+17#done"
    assert (answer.status_code, answer.headers["location"]) == (303, where)
    again = await browser.get(path(invoice))
    assert (again.status_code, again.headers["location"]) == (303, where)


async def test_without_a_shop_to_go_to_it_tells_the_truth(world: World, browser: httpx.AsyncClient) -> None:
    invoice = await world.created("sellapp", **FREE)
    page = await browser.get(path(invoice))
    assert page.status_code == 200
    assert "This is paid" in page.text
    assert "style-src 'sha256-" in page.headers["content-security-policy"]


async def test_a_provider_that_is_away_is_told_as_that(world: World, browser: httpx.AsyncClient) -> None:
    invoice = await world.created("sellapp")
    await world.arm("sellapp", "checkout", "status:500", times=5)
    page = await browser.get(path(invoice))
    assert page.status_code == 503
    assert page.headers["content-type"] == "text/html; charset=utf-8"


async def test_a_double_click_on_the_link_opens_one_checkout(world: World, browser: httpx.AsyncClient) -> None:
    invoice = await world.created("sellapp")
    answers = await asyncio.gather(*(browser.get(path(invoice)) for _ in range(8)))
    assert len({answer.headers["location"] for answer in answers}) == 1


async def test_a_storefronts_script_may_call_from_its_origin_only(tmp_path: Path) -> None:
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db", cors_origins=ORIGIN) as world:
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
        preflight = await world.http.options("/v1/invoices/x/checkout", headers={"Origin": ORIGIN, **asks})
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == ORIGIN
        assert preflight.headers["x-request-id"]
        invoice = await world.created("generic")
        read = await world.http.get(f"/v1/invoices/{invoice['id']}", headers={"Origin": ORIGIN})
        exposed = read.headers["access-control-expose-headers"].lower()
        assert read.headers["access-control-allow-origin"] == ORIGIN
        assert all(name in exposed for name in ("etag", "x-request-id", "idempotency-replayed", "retry-after"))
        assert "origin" in read.headers["vary"].lower()
        refused = await world.http.get("/v1/invoices/nothing", headers={"Origin": ORIGIN})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (404, ORIGIN)
        stranger = await world.http.get(f"/v1/invoices/{invoice['id']}", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in stranger.headers
