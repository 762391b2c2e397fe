"""The demo shop as its shoppers and the payment service meet it: over HTTP, with the real service and the sandbox."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from app.providers import kinds
from app.settings import SANDBOX_KEY
from app.shop import create_shop
from app.shop.goods import PRODUCTS, is_served
from app.shop.orders import MOST_EVENTS, MOST_ORDERS, Order, Orders
from app.shop.pages import HERE
from app.shop.payments import Event, Health, Invoice, Sheet
from tests.serving import serving
from tests.world import SERVICE, World, open_world

pytestmark = pytest.mark.anyio

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KINDS = sorted(kinds())
BY_LIST = "sellapp"
DOLLARS_ONLY = "bluetape"
PATIENT = httpx.Timeout(30)


@dataclass(kw_only=True)
class Market:
    """A shop on a socket, and a browser in front of it."""

    world: World
    browser: httpx.AsyncClient
    url: str

    async def form(self, provider: str, product: str = "mug") -> dict[str, str]:
        page = await self.browser.get("", params={"provider": provider})
        assert page.status_code == 200, page.text
        assert product in products(page)
        return {**hidden(page), "product": product, "email": "a@example.org"}

    async def buy(self, form: dict[str, str]) -> httpx.Response:
        return await self.browser.post("orders", data=form)

    async def bought(self, provider: str, product: str = "mug") -> tuple[str, str]:
        """The order's id, and where it is paid."""
        form = await self.form(provider, product)
        answer = await self.buy(form)
        assert answer.status_code == 303, answer.text
        return f"{form['form_id']}-{product}", answer.headers["location"]

    async def order(self, id: str) -> httpx.Response:
        """Its page, no sooner than the service asks the provider again."""
        self.world.clock.pass_time(seconds=3)
        page = await self.browser.get(f"orders/{id}")
        assert page.status_code == 200, page.text
        return page

    async def invoices(self, order_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.world.http.get("/v1/invoices", params={"order_id": order_id})).json()[
            "data"
        ]
        return found

    async def invoice(self, order_id: str) -> dict[str, Any]:
        (found,) = await self.invoices(order_id)
        return found

    async def settle(self, order_id: str, outcome: str) -> None:
        invoice = await self.invoice(order_id)
        await self.world.settle(invoice["provider"], invoice["provider_invoice_id"], outcome)

    async def tell(self, id: str, invoice: dict[str, Any], type: str = "invoice.updated") -> httpx.Response:
        body = msgspec.json.encode({"id": id, "type": type, "timestamp": invoice["updated_at"], "data": invoice})
        return await self.browser.post("hooks", content=body, headers=signed(id, body))

    async def state(self, id: str, version: int) -> dict[str, Any]:
        answer = await self.browser.get(f"orders/{id}/state", params={"version": version})
        assert answer.status_code == 200, answer.text
        news: dict[str, Any] = answer.json()
        return news


@asynccontextmanager
async def open_market(world: World, api: str = SERVICE) -> AsyncIterator[Market]:
    """`api`: where the service is; in this process, if it is not on a socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/shop"
        inside = httpx.ASGITransport(world.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=inside) as phone:
            http = phone if api == SERVICE else None
            shop = create_shop(url=url, api=api, key=SANDBOX_KEY, webhook_secret=SECRET, http=http)
            browser = httpx.AsyncClient(base_url=f"{url}/", timeout=PATIENT)
            async with shop.router.lifespan_context(shop), serving(mounted("/shop", shop), listener), browser:
                yield Market(world=world, browser=browser, url=url)


def mounted(path: str, app: ASGIApp) -> Starlette:
    """Its lifespan is run elsewhere."""
    return Starlette(routes=[Mount(path, app)])


@pytest.fixture
async def market(world: World) -> AsyncIterator[Market]:
    async with open_market(world) as market:
        yield market


@asynccontextmanager
async def open_stall(phone: httpx.AsyncClient, **settings: str) -> AsyncIterator[httpx.AsyncClient]:
    """A browser before a shop at the root of its own host."""
    url = "http://shop.test"
    given = {"url": url, "api": SERVICE, "key": SANDBOX_KEY, "webhook_secret": SECRET, **settings}
    shop = httpx.ASGITransport(create_shop(**given, http=phone))
    async with httpx.AsyncClient(transport=shop, base_url=url) as browser:
        yield browser


@pytest.fixture
async def stall() -> AsyncIterator[httpx.AsyncClient]:
    """One that asks no service for anything."""
    async with httpx.AsyncClient() as phone, open_stall(phone) as browser:
        yield browser


def signed(id: str, body: bytes, secret: str = SECRET, at: datetime | None = None) -> dict[str, str]:
    at = at or datetime.now(UTC)
    signature = Webhook(secret).sign(id, at, body.decode())
    return {"webhook-id": id, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


def hidden(page: httpx.Response) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page.text))


def products(page: httpx.Response) -> list[str]:
    return re.findall(r'<input type="radio" name="product" value="([^"]+)"', page.text)


def status(html: str) -> str:
    (word,) = re.findall(r'data-status="([^"]+)"', html)
    return str(word)


def revision(page: httpx.Response) -> int:
    return int(re.findall(r'data-version="(\d+)"', page.text)[0])


def events(html: str) -> list[str]:
    return re.findall(r"<li><code>([^<]+)</code>", html)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_shopper_buys_with_every_provider(market: Market, kind: str) -> None:
    order_id, pay_page = await market.bought(kind)
    assert status((await market.order(order_id)).text) == "pending"

    assert pay_page.startswith(str(market.world.sandbox.base_url))
    await market.world.sandbox.post(pay_page, data={"outcome": "paid"})

    page = await market.order(order_id)
    assert status(page.text) == "completed"
    assert "<button" not in page.text


@pytest.mark.parametrize("kind", KINDS)
async def test_the_service_is_told_what_was_bought_and_where_to_send_shopper_and_events(
    market: Market, kind: str
) -> None:
    order_id, _ = await market.bought(kind)
    invoice = await market.invoice(order_id)
    assert (invoice["amount"], invoice["currency"]) == ("19.99", "USD")
    assert invoice["description"] == "Enamel mug"
    assert invoice["customer"]["email"] == "a@example.org"
    assert invoice["redirect_url"] == f"{market.url}/orders/{order_id}"
    assert invoice["callback_url"] == f"{market.url}/hooks"
    assert [item["variant_id"] for item in invoice["items"]] == (["1001"] if kind == BY_LIST else [])


async def test_the_ways_to_pay_are_those_of_the_service(market: Market) -> None:
    page = (await market.browser.get("")).text
    assert re.findall(r'href="/shop/\?provider=([^"]+)"', page) == list(kinds())
    assert re.findall(r'provider=([^"]+)" aria-current="true"', page) == [BY_LIST]


async def test_only_what_can_be_paid_in_a_way_is_offered_there(market: Market) -> None:
    offers = {kind: products(await market.browser.get("", params={"provider": kind})) for kind in KINDS}
    assert offers[BY_LIST] == list(PRODUCTS)
    assert offers[DOLLARS_ONLY] == ["mug"]
    assert all("sticker" not in offers[kind] for kind in KINDS if kind != BY_LIST)
    assert offers["generic"] == ["mug", "bag"]


async def test_where_the_currencies_cannot_be_told_the_create_says_what_goes(market: Market) -> None:
    await market.world.arm("generic", "assets", "status:500", times=10)
    form = await market.form("generic", "cards")
    refused = await market.buy(form)
    assert refused.status_code == 422
    assert "Try again" in refused.text


@pytest.mark.parametrize("product", [product for product in PRODUCTS if product != "sticker"])
async def test_the_price_is_that_of_the_providers_own_list(market: Market, product: str) -> None:
    order_id, _ = await market.bought(BY_LIST, product)
    invoice = await market.invoice(order_id)
    assert (invoice["amount"], invoice["currency"]) == (PRODUCTS[product].amount, PRODUCTS[product].currency)
    assert invoice["items"][0]["variant_id"] == PRODUCTS[product].variant


async def test_what_is_free_is_had_without_a_pay_page(market: Market) -> None:
    order_id, there = await market.bought(BY_LIST, "sticker")
    assert there == f"{market.url}/orders/{order_id}"
    assert status((await market.browser.get(there)).text) == "completed"


async def test_a_double_click_makes_one_invoice(market: Market) -> None:
    form = await market.form("generic")
    answers = await asyncio.gather(*(market.buy(form) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [303] * 5
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert len(await market.invoices(f"{form['form_id']}-mug")) == 1
    assert await creates(market, "generic") == 1


async def test_a_double_click_at_a_slow_provider_meets_no_refusal(tmp_path: Path) -> None:
    async with (
        open_world(f"sqlite:///{tmp_path}/gatehouse.db", provider_timeout=9, allow_private_networks=True) as world,
        open_market(world) as market,
    ):
        form = await market.form("generic")
        await world.arm("generic", "create", "slow", seconds=2.5)
        answers = await asyncio.gather(market.buy(form), market.buy(form))
        assert [answer.status_code for answer in answers] == [303, 303]
        assert await creates(market, "generic") == 1


async def test_a_form_sent_again_later_leads_to_the_same_pay_page(market: Market) -> None:
    form = await market.form("generic")
    first = await market.buy(form)
    again = await market.buy({**form, "email": "other@example.org"})
    assert again.headers["location"] == first.headers["location"]
    assert await creates(market, "generic") == 1


async def test_a_form_sent_again_after_it_was_paid_leads_to_its_order(market: Market) -> None:
    form = await market.form("generic")
    await market.buy(form)
    order_id = f"{form['form_id']}-mug"
    await market.settle(order_id, "paid")
    market.world.clock.pass_time(seconds=3)
    again = await market.buy(form)
    assert (again.status_code, again.headers["location"]) == (303, f"{market.url}/orders/{order_id}")
    assert status((await market.order(order_id)).text) == "completed"
    assert await creates(market, "generic") == 1


async def test_an_order_that_ends_while_it_is_to_be_paid_leads_to_its_page(market: Market) -> None:
    order_id, _ = await market.bought(BY_LIST)
    await market.settle(order_id, "failed")
    paying = await market.browser.post(f"orders/{order_id}/pay")
    assert (paying.status_code, paying.headers["location"]) == (303, f"{market.url}/orders/{order_id}")
    assert status((await market.browser.get(f"orders/{order_id}")).text) == "failed"


async def test_another_product_of_the_same_form_is_another_order(market: Market) -> None:
    form = await market.form("generic")
    await market.buy(form)
    await market.buy({**form, "product": "bag"})
    assert await creates(market, "generic") == 2


async def test_pay_now_leads_to_the_same_pay_page(market: Market) -> None:
    order_id, pay_page = await market.bought("generic")
    assert f'action="/shop/orders/{order_id}/pay"' in (await market.order(order_id)).text
    again = await market.browser.post(f"orders/{order_id}/pay")
    assert (again.status_code, again.headers["location"]) == (303, pay_page)
    assert await creates(market, "generic") == 1


REFUSALS = [
    ("status:400", 422, "provider_rejected"),
    ("status:401", 502, "provider_auth_failed"),
    ("retry_after", 503, "provider_rate_limited"),
]


@pytest.mark.parametrize(("fault", "shown", "code"), REFUSALS)
async def test_a_refusal_is_told_and_tried_again_as_the_same_order(
    market: Market, fault: str, shown: int, code: str
) -> None:
    form = await market.form("generic")
    await market.world.arm("generic", "create", fault)
    refused = await market.buy(form)
    order_id = f"{form['form_id']}-mug"

    assert refused.status_code == shown
    assert f'data-code="{code}"' in refused.text
    assert f'<form method="post" action="/shop/orders/{order_id}/pay">' in refused.text
    page = await market.order(order_id)
    assert status(page.text) == "none"
    assert "Not placed yet" in page.text

    again = await market.browser.post(f"orders/{order_id}/pay")
    assert again.status_code == 303
    assert status((await market.order(order_id)).text) == "pending"
    assert len(await market.invoices(order_id)) == 1


async def test_an_unknown_outcome_is_told_as_such_and_never_doubled(market: Market) -> None:
    await market.bought("generic")
    form = await market.form("generic")
    await market.world.arm("generic", "create", "reset_after_accept")
    await market.world.arm("generic", "list", "status:500", times=10)
    doubtful = await market.buy(form)
    order_id = f"{form['form_id']}-mug"

    assert doubtful.status_code == 504
    assert "We don't know yet" in unescape(doubtful.text)
    assert f'href="/shop/orders/{order_id}"' in doubtful.text
    assert status((await market.order(order_id)).text) == "unknown"

    await market.world.sandbox.delete("/_control/generic/faults")
    market.world.clock.pass_time(seconds=60)
    again = await market.browser.post(f"orders/{order_id}/pay")
    assert again.status_code == 303
    assert status((await market.order(order_id)).text) == "pending"
    assert await creates(market, "generic") == 2


OUTCOMES = [
    ("partial", "partially_paid", "Pay the rest"),
    ("failed", "failed", "Payment failed"),
    ("expired", "expired", "Expired"),
    ("canceled", "canceled", "Canceled"),
]


@pytest.mark.parametrize(("outcome", "word", "told"), OUTCOMES)
async def test_an_order_tells_what_became_of_its_payment(market: Market, outcome: str, word: str, told: str) -> None:
    order_id, _ = await market.bought("generic", "bag")
    await market.settle(order_id, outcome)
    page = await market.order(order_id)
    assert status(page.text) == word
    assert told in page.text
    assert ("<button" in page.text) is (outcome == "partial")


async def test_a_part_payment_is_told_as_how_much_of_how_much(market: Market) -> None:
    order_id, _ = await market.bought("generic", "bag")
    invoice = await market.invoice(order_id)
    part = {"status": "partially_paid", "amount_paid": "24.95", "version": invoice["version"] + 1}
    await market.tell("evt_1", {**invoice, **part}, "invoice.partially_paid")
    told = (await market.state(order_id, 0))["parts"]["status"]
    assert "24.95 of 49.90 EUR paid" in told
    assert '<progress value="24.95" max="49.90">' in told


async def test_a_part_payment_whose_amount_is_not_told_is_told_as_such(market: Market) -> None:
    order_id, _ = await market.bought("generic", "bag")
    await market.settle(order_id, "partial")
    page = (await market.order(order_id)).text
    assert "Owed are 49.90 EUR; the provider does not tell" in page
    assert "<progress" not in page


async def test_money_that_was_sent_back_is_told(market: Market) -> None:
    order_id, _ = await market.bought(BY_LIST)
    await market.settle(order_id, "refunded")
    assert status((await market.order(order_id)).text) == "refunded"


async def test_a_state_that_nobody_knows_is_told_as_such(market: Market) -> None:
    order_id, _ = await market.bought("generic")
    invoice = await market.invoice(order_id)
    await market.tell("evt_1", {**invoice, "status": "teleported", "version": invoice["version"] + 1})
    news = await market.state(order_id, 0)
    assert status(news["parts"]["status"]) == "teleported"


async def test_what_comes_back_in_the_query_is_not_believed(market: Market) -> None:
    order_id, _ = await market.bought("generic")
    page = await market.browser.get(f"orders/{order_id}", params={"invoiceId": "inv_x", "orderId": "<b>", "paid": "1"})
    assert status(page.text) == "pending"
    assert "inv_x" not in page.text
    assert "<b>" not in page.text


async def test_news_is_told_at_once(market: Market) -> None:
    order_id, _ = await market.bought("generic")
    news = await market.state(order_id, 0)
    assert status(news["parts"]["status"]) == "pending"
    assert news["version"] > 0


async def test_a_held_answer_comes_with_the_event(market: Market) -> None:
    order_id, _ = await market.bought("generic")
    page = await market.order(order_id)
    began = time.monotonic()
    held = asyncio.create_task(market.state(order_id, revision(page)))
    await asyncio.sleep(0.3)
    assert not held.done()

    invoice = await market.invoice(order_id)
    await market.tell("evt_1", {**invoice, "status": "processing", "version": invoice["version"] + 1})
    news = await held
    assert time.monotonic() - began < 5
    assert news["version"] > revision(page)
    assert status(news["parts"]["status"]) == "processing"
    assert events(news["parts"]["events"]) == ["invoice.updated"]


async def test_a_held_answer_comes_with_what_the_service_learns(market: Market) -> None:
    order_id, _ = await market.bought("generic")
    page = await market.order(order_id)
    held = asyncio.create_task(market.state(order_id, revision(page)))
    await asyncio.sleep(0.3)
    assert not held.done()

    await market.settle(order_id, "paid")
    await market.world.read((await market.invoice(order_id))["id"], refresh="true")
    news = await asyncio.wait_for(held, 5)
    assert status(news["parts"]["status"]) == "completed"


async def test_nothing_waits_for_a_browser_that_has_left(market: Market) -> None:
    order_id, _ = await market.bought(BY_LIST, "sticker")
    page = await market.order(order_id)
    with pytest.raises(httpx.ReadTimeout):
        await market.browser.get(f"orders/{order_id}/state?version={revision(page)}", timeout=0.3)
    await asyncio.sleep(0.2)
    assert not [task for task in asyncio.all_tasks() if "Order.changed" in repr(task)]


async def test_the_page_and_the_state_show_the_same(market: Market) -> None:
    order_id, _ = await market.bought("generic")
    page = await market.order(order_id)
    news = await market.state(order_id, 0)
    assert (news["version"], [part in page.text for part in news["parts"].values()]) == (revision(page), [True] * 3)


async def test_an_event_changes_the_order_and_is_listed(market: Market) -> None:
    order_id, _ = await market.bought("generic")
    invoice = await market.invoice(order_id)
    told = await market.tell("evt_1", {**invoice, "status": "processing", "version": invoice["version"] + 1})
    assert (told.status_code, told.content) == (204, b"")
    page = await market.order(order_id)
    assert events(page.text) == ["invoice.updated"]
    assert status(page.text) == "processing"


async def test_an_event_that_comes_twice_is_one(market: Market) -> None:
    order_id, _ = await market.bought("generic")
    invoice = await market.invoice(order_id)
    assert (await market.tell("evt_1", invoice)).status_code == 204
    once = await market.state(order_id, 0)
    assert (await market.tell("evt_1", invoice)).status_code == 204
    assert await market.state(order_id, 0) == once
    assert events(once["parts"]["events"]) == ["invoice.updated"]


async def test_an_event_that_comes_late_takes_nothing_back(market: Market) -> None:
    order_id, _ = await market.bought("generic")
    invoice = await market.invoice(order_id)
    version = invoice["version"]
    await market.tell("evt_2", {**invoice, "status": "completed", "paid": True, "version": version + 2})
    await market.tell("evt_1", {**invoice, "status": "processing", "version": version + 1})
    news = await market.state(order_id, 0)
    assert status(news["parts"]["status"]) == "completed"
    assert len(events(news["parts"]["events"])) == 2


async def test_an_event_of_another_invoice_or_of_no_order_here_changes_nothing(market: Market) -> None:
    order_id, _ = await market.bought("generic")
    invoice = await market.invoice(order_id)
    other = {**invoice, "id": "inv_other", "status": "completed", "version": 99}
    assert (await market.tell("evt_1", other)).status_code == 204
    assert (await market.tell("evt_2", {**invoice, "order_id": None})).status_code == 204
    page = await market.order(order_id)
    assert (status(page.text), events(page.text)) == ("pending", [])


async def test_the_service_tells_the_shop_by_itself(tmp_path: Path) -> None:
    told: dict[str, Any] = {"worker": True, "webhook_secret": SECRET, "allow_private_networks": True}
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db", **told) as world, open_market(world) as market:
        order_id, pay_page = await market.bought("generic")
        await world.sandbox.post(pay_page, data={"outcome": "paid"})
        news = await market.state(order_id, 0)
        while "invoice.completed" not in events(news["parts"]["events"]):
            news = await market.state(order_id, news["version"])
    assert status(news["parts"]["status"]) == "completed"
    assert events(news["parts"]["events"]) == ["invoice.created", "invoice.completed"]


FORGERIES = {
    "unsigned": {},
    "signed with another secret": signed("evt_1", b"{}", secret="whsec_b3RoZXJvdGhlcm90aGVyb3RoZXI="),
    "signed long ago": signed("evt_1", b"{}", at=datetime(2026, 1, 1, tzinfo=UTC)),
    "of another body": signed("evt_1", b"[]"),
    "of another id": {**signed("evt_1", b"{}"), "webhook-id": "evt_2"},
    "without a version": {**signed("evt_1", b"{}"), "webhook-signature": "AAAA"},
    "not base64": {**signed("evt_1", b"{}"), "webhook-signature": "v1,A"},
    "not ASCII": {**signed("evt_1", b"{}"), "webhook-signature": "v1,\xe9"},
    "never": {**signed("evt_1", b"{}"), "webhook-timestamp": "nan"},
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_event_is_refused(stall: httpx.AsyncClient, forgery: str) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in FORGERIES[forgery].items()]
    assert (await stall.post("hooks", content=b"{}", headers=headers)).status_code == 401


async def test_an_event_of_bytes_that_are_no_text_is_refused(stall: httpx.AsyncClient) -> None:
    answer = await stall.post("hooks", content=b"\xff", headers=signed("evt_1", b"{}"))
    assert answer.status_code == 401


@pytest.mark.parametrize("body", [b"{}", b"[]", b"nonsense", b'{"type": 1}'])
async def test_a_signed_event_without_sense_is_refused(stall: httpx.AsyncClient, body: bytes) -> None:
    answer = await stall.post("hooks", content=body, headers=signed("evt_1", body))
    assert answer.status_code == 400


WRONG = [
    ("GET", "nowhere", {}, 404),
    ("GET", "static/nothing.css", {}, 404),
    ("GET", "static/../__init__.py", {}, 404),
    ("GET", "orders/nothing", {}, 404),
    ("GET", "orders/nothing/state", {}, 404),
    ("POST", "orders/nothing/pay", {}, 404),
    ("GET", "orders", {}, 405),
    ("POST", "orders", {}, 422),
    ("POST", "orders", {"form_id": "../../x"}, 422),
    ("POST", "orders", {"form_id": "a" * 65}, 422),
    ("POST", "orders", {"email": "nobody"}, 422),
    ("POST", "orders", {"email": "a@" + "b" * 300}, 422),
    ("POST", "orders", {"email": "a\n@example.org"}, 422),
    ("POST", "orders", {f"more{number}": "x" for number in range(30)}, 422),
    ("POST", "orders", {"more": "x" * 20_000}, 413),
    ("POST", "hooks", {"more": "x" * 1_100_000}, 413),
]
WHOLE = {"form_id": "0123456789abcdef", "product": "mug", "provider": "generic", "email": "a@example.org"}


@pytest.mark.parametrize(("method", "path", "change", "code"), WRONG)
async def test_wrong_input_meets_a_friendly_page(
    stall: httpx.AsyncClient, method: str, path: str, change: dict[str, str], code: int
) -> None:
    form = {**WHOLE, **change} if change else {}
    answer = await stall.request(method, path, data=form or None)
    assert answer.status_code == code
    assert "Back to the shop" in answer.text
    assert answer.headers["content-type"].startswith("text/html")


async def test_what_is_not_sold_or_not_in_that_way_is_not_ordered(market: Market) -> None:
    form = await market.form("generic")
    for change in ({"product": "yacht"}, {"product": "sticker"}, {"product": "cards"}, {"provider": "nobody"}):
        refused = await market.buy({**form, **change})
        assert refused.status_code == 422
        assert "Back to the shop" in refused.text
    assert (await market.browser.get("?provider=nobody")).status_code == 404
    assert await creates(market, "generic") == 0


async def test_a_revision_that_is_no_number_is_refused(market: Market) -> None:
    order_id, _ = await market.bought("generic")
    for version in ("x", "-1", "1" * 10, "¹"):
        answer = await market.browser.get(f"orders/{order_id}/state", params={"version": version})
        assert answer.status_code == 422


async def test_bytes_that_are_no_form_are_refused(stall: httpx.AsyncClient) -> None:
    answer = await stall.post("orders", content=b"\xff\x00=%ff&&&=")
    assert answer.status_code == 422


async def test_without_the_service_the_shop_is_closed_and_an_order_shows_what_was_last_known(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with open_market(world, api) as market:
            async with serving(mounted("/", world.app), listener):
                form = await market.form("generic")
                order_id, _ = await market.bought("generic")
                page = await market.order(order_id)

            closed = await market.browser.get("")
            assert (closed.status_code, "closed just now" in closed.text) == (503, True)
            assert (await market.buy(form)).status_code == 503
            shown = await market.browser.get(f"orders/{order_id}")
            assert (shown.status_code, status(shown.text)) == (503, "pending")
            assert "could not be asked just now" in shown.text
            paying = await market.browser.post(f"orders/{order_id}/pay")
            assert (paying.status_code, "Try again" in paying.text) == (503, True)
            state = await market.browser.get(f"orders/{order_id}/state", params={"version": revision(page) + 1})
            assert state.status_code == 503


async def nonsense(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"<html>"})


async def test_a_service_that_makes_no_sense_is_no_error_of_the_shop() -> None:
    service = httpx.ASGITransport(nonsense)
    async with httpx.AsyncClient(transport=service) as phone, open_stall(phone) as browser:
        assert (await browser.get("/")).status_code == 502


async def test_a_shop_with_a_wrong_key_is_no_fault_of_the_shopper(world: World) -> None:
    service = httpx.ASGITransport(world.app)
    async with httpx.AsyncClient(transport=service) as phone, open_stall(phone, key="wrong") as browser:
        assert (await browser.get("/")).status_code == 502


async def test_every_answer_is_guarded(market: Market) -> None:
    order_id, _ = await market.bought("generic")
    for path in ("", f"orders/{order_id}", f"orders/{order_id}/state", "static/shop.css", "nowhere"):
        headers = (await market.browser.get(path)).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert f"form-action 'self' {market.url.removesuffix('/shop')} {SERVICE};" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


async def test_pages_are_never_stored(market: Market) -> None:
    order_id, _ = await market.bought("generic")
    for path in ("", f"orders/{order_id}", f"orders/{order_id}/state", "nowhere"):
        assert (await market.browser.get(path)).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("template", sorted(path.name for path in (HERE / "templates").rglob("*.html")))
def test_nothing_is_written_that_the_policy_forbids(template: str) -> None:
    (path,) = (HERE / "templates").rglob(template)
    text = path.read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|https?://|<script(?! src=)", text)


async def test_every_file_that_a_page_asks_for_is_there(market: Market) -> None:
    order_id, _ = await market.bought("generic")
    pages = [await market.browser.get(path) for path in (f"?provider={BY_LIST}", f"orders/{order_id}")]
    asked = {path for page in pages for path in re.findall(r'(?:src|href)="/shop/(static/[^"]+)"', page.text)}
    assert len(asked) == len(PRODUCTS) + 3
    for path in asked:
        assert (await market.browser.get(path)).status_code == 200


async def test_without_javascript_an_order_reloads_itself(market: Market) -> None:
    order_id, _ = await market.bought("generic")
    assert '<noscript><meta http-equiv="refresh"' in (await market.order(order_id)).text


async def test_what_a_shopper_types_is_shown_as_text(market: Market) -> None:
    form = await market.form("generic")
    await market.buy({**form, "email": "<b>&'\"@example.org"})
    page = (await market.order(f"{form['form_id']}-mug")).text
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;&#39;&#34;@example.org" in page


async def test_a_browser_finds_its_own_orders_again(market: Market) -> None:
    assert "Your latest orders" not in (await market.browser.get("")).text
    bought = [(await market.bought("generic"))[0] for _ in range(6)]
    page = (await market.browser.get("")).text
    assert re.findall(r'href="/shop/orders/([^"]+)"', page) == bought[:0:-1]

    market.browser.cookies.clear()
    assert "Your latest orders" not in (await market.browser.get("")).text


async def test_a_cookie_that_makes_no_sense_is_passed_over(market: Market) -> None:
    market.browser.cookies.set("orders", "x.y..<z>", path="/shop/")
    assert (await market.browser.get("")).status_code == 200


def sheet(*required: str, **operations: bool) -> Sheet:
    can = {"create": True, "checkout": True, **operations}
    return Sheet("x", can, None, required, Health("up"))


def test_a_provider_that_wants_what_the_shop_cannot_tell_is_no_way_to_pay() -> None:
    assert is_served(sheet())
    assert is_served(sheet("amount", "customer.phone or customer.email"))
    assert not is_served(sheet("customer.phone"))
    assert not is_served(sheet(checkout=False))


def order(id: str) -> Order:
    return Order(id=id, product=PRODUCTS["mug"], provider="x", asked={})


def seen(version: int) -> Invoice:
    return Invoice(
        id="inv_1",
        order_id="1",
        status="pending",
        finished=False,
        paid=False,
        amount="1",
        currency="EUR",
        amount_paid=None,
        version=version,
    )


def test_the_oldest_order_is_forgotten_first() -> None:
    orders = Orders()
    for number in range(MOST_ORDERS + 1):
        orders.open(order(str(number)))
    assert (orders.find("0"), len(orders.known)) == (None, MOST_ORDERS)
    assert orders.find("1")


def test_the_oldest_event_is_forgotten_first() -> None:
    one = order("1")
    for number in range(MOST_EVENTS + 1):
        one.receive(f"evt_{number}", Event("invoice.updated", "", seen(number)))
    assert ("evt_0" in one.events, len(one.events)) == (False, MOST_EVENTS)


async def creates(market: Market, kind: str) -> int:
    return sum(asked["method"] == "POST" for asked in await market.world.requests(kind))
