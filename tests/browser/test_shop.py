"""The demo shop as shoppers meet it: in a real browser, before the whole sandbox on sockets."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page, Request, Route, ViewportSize, expect

from app.cli import played
from app.configured import sandbox_keys
from app.main import create_app
from app.providers import kinds
from app.settings import SANDBOX_KEY, SANDBOX_WEBHOOK_SECRET, Settings
from app.simulator import credentials
from tests.browser.browser import FAILED_TO_LOAD, Sight, looking
from tests.serving import serving
from tests.world import OPEN

pytestmark = pytest.mark.anyio

KINDS = sorted(kinds())
PHONE: ViewportSize = {"width": 390, "height": 844}
DESK: ViewportSize = {"width": 1280, "height": 900}
GO, PAY_NOW, AGAIN = "Go to payment", "Pay now", "Try again"
DONE = "Nothing is left to pay here"

# The service asks a provider whenever it is asked itself.
HURRY = 0
CLICK_MS = 80

# All that is different in the dark.
COLOURS = "axe.run({runOnly: ['color-contrast']})"


@dataclass(kw_only=True)
class Street:
    """The service's API with a key, the simulators, and the address of the shop beside them."""

    service: httpx.AsyncClient
    sandbox: httpx.AsyncClient
    shop: str

    async def invoices(self, order_id: str) -> list[dict[str, Any]]:
        answer = await self.service.get("/v1/invoices", params={"order_id": order_id})
        found: list[dict[str, Any]] = answer.json()["data"]
        return found

    async def invoice(self, order_id: str) -> dict[str, Any]:
        (found,) = await self.invoices(order_id)
        return found

    async def creates(self, kind: str) -> int:
        """How often the provider was asked to create something since this was last forgotten."""
        asked = (await self.sandbox.get(f"/_control/{kind}/requests")).json()["data"]
        return sum(one["method"] == "POST" and re.search(CREATES[kind], one["path"]) is not None for one in asked)

    async def arm(self, kind: str, fault: str, operation: str = "create", **more: Any) -> None:
        armed = {"operation": operation, "fault": fault, **more}
        answer = await self.sandbox.post(f"/_control/{kind}/faults", json=armed)
        assert answer.status_code == 201, answer.text


CREATES = {"sellapp": r"/v2/invoices$", "bluetape": r"/simplify$", "turinpay": r"/intents$", "generic": r"/v1/invoice$"}


@dataclass(kw_only=True)
class Shopper:
    """A browser of one person, who sees what `sight` sees."""

    street: Street
    sight: Sight

    @property
    def page(self) -> Page:
        return self.sight.page

    async def choose(self, kind: str, product: str = "Enamel mug") -> None:
        """The form of the front page is filled in."""
        await self.sight.open(f"/?provider={kind}")
        await self.page.get_by_role("radio", name=product).check()

    async def go(self, kind: str, product: str = "Enamel mug") -> str:
        """To the pay page; the id of what was ordered."""
        await self.choose(kind, product)
        order_id = await self.intended()
        await self.press(GO)
        await self.is_asked_to_pay()
        return order_id

    async def intended(self) -> str:
        """The id of the order that the form will make."""
        form_id = await self.page.locator("[name=form_id]").input_value()
        return f"{form_id}-{await self.page.locator('[name=product]:checked').input_value()}"

    async def press(self, name: str) -> None:
        await self.page.get_by_role("button", name=name, exact=True).click()

    async def press_twice(self, name: str) -> None:
        """As people do it: the second time before anything has come of the first."""
        await self.page.get_by_role("button", name=name, exact=True).dblclick(delay=CLICK_MS)

    async def is_asked_to_pay(self) -> None:
        await expect(self.page.locator("h1")).to_contain_text("(sandbox)")
        await expect(self.page.locator(".amount")).to_have_text("19.99 USD")
        await expect(self.page.get_by_role("button", name="Pay", exact=True)).to_be_visible()

    async def is_done(self) -> None:
        """The pay page has nothing more to offer, or has sent the shopper back."""
        await expect(self.page.locator("main")).to_contain_text(re.compile(f"{DONE}|Your order"))

    async def return_to(self, order_id: str) -> None:
        """By the link among the latest orders, where the provider's page leads nowhere."""
        if f"/orders/{order_id}" not in self.page.url:
            await self.sight.open("/")
            await self.page.locator(f"section a[href$='{order_id}']").click()

    async def sees(self, status: str, title: str) -> None:
        await expect(self.page.locator(f"#status [data-status={status}] .title")).to_have_text(title)

    async def told(self, type: str) -> None:
        """The newest event that the shop has received."""
        await expect(self.page.locator("#events code").last).to_have_text(type)

    async def fits(self) -> None:
        """Everybody can use it, and read it in the dark too; nothing sticks out of a phone."""
        assert await self.sight.faults() == []
        await self.page.emulate_media(color_scheme="dark")
        assert (await self.page.evaluate(COLOURS))["violations"] == []
        await self.page.emulate_media(color_scheme="light")
        await self.page.set_viewport_size(PHONE)
        assert await self.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        await self.page.set_viewport_size(DESK)


@pytest.fixture(scope="module")
async def street(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Street]:
    """As `gatehouse serve` opens it."""
    database = tmp_path_factory.mktemp("street") / "gatehouse.db"
    told: dict[str, Any] = {"webhook_secret": SANDBOX_WEBHOOK_SECRET, "max_age": HURRY}
    settings = Settings(_env_file=None, database_url=f"sqlite:///{database}", **told, **OPEN)
    with free() as here, free() as there:
        service, beside = address(here), address(there)
        app = create_app(
            settings,
            provider_settings=credentials(beside),
            keys=sandbox_keys(settings, "127.0.0.1"),
            public_url=service,
        )
        key = {"Authorization": f"Bearer {SANDBOX_KEY}"}
        play = played(settings, beside, service)
        mount: Any = play.routes[-1]
        async with (
            mount.app.router.lifespan_context(mount.app),
            serving(play, there),
            serving(app, here),
            httpx.AsyncClient(base_url=service, headers=key) as api,
            httpx.AsyncClient(base_url=beside) as sandbox,
        ):
            yield Street(service=api, sandbox=sandbox, shop=f"{beside}/shop")


def free() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def address(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@asynccontextmanager
async def shopping(browser: Browser, street: Street, **options: Any) -> AsyncIterator[Shopper]:
    async with looking(browser, street.shop, **options) as sight:
        sight.page.on("requestfailed", lambda request: lost(sight, request))
        yield Shopper(street=street, sight=sight)


def lost(sight: Sight, request: Request) -> None:
    """Whoever goes on to another page gives up what this one still asks for; all else is a failure."""
    if request.failure != "net::ERR_ABORTED":
        sight.heard(f"failed: {request.method} {request.url}: {request.failure}")


@pytest.fixture
async def shopper(browser: Browser, street: Street) -> AsyncIterator[Shopper]:
    for kind in KINDS:
        await street.sandbox.delete(f"/_control/{kind}/requests")
    async with shopping(browser, street) as shopper:
        yield shopper


async def test_the_front_page_leads_to_every_way_to_pay(shopper: Shopper) -> None:
    await shopper.sight.open("/")
    await shopper.fits()
    for kind in KINDS:
        await shopper.page.get_by_role("link", name=kind).click()
        await expect(shopper.page.locator("[aria-current]")).to_have_text(kind)
        await expect(shopper.page.locator("legend")).to_have_text(f"What can be paid with {kind}")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_shopper_who_went_back_from_the_pay_page_pays_the_same_order(
    shopper: Shopper, street: Street, kind: str
) -> None:
    order_id = await shopper.go(kind)
    await shopper.page.go_back()
    await expect(shopper.page.get_by_role("button", name=GO)).to_be_visible()
    await shopper.return_to(order_id)
    await shopper.sees("pending", "Waiting for your payment")
    assert (await street.invoice(order_id))["status"] == "pending"

    await shopper.press_twice(PAY_NOW)
    await shopper.is_asked_to_pay()
    await shopper.press("Pay")
    await shopper.is_done()
    await shopper.return_to(order_id)
    await shopper.sees("completed", "Paid")
    await shopper.told("invoice.completed")
    await expect(shopper.page.get_by_role("button")).to_have_count(0)

    invoice = await street.invoice(order_id)
    assert (invoice["status"], invoice["paid"], invoice["amount"]) == ("completed", True, "19.99")
    assert await street.creates(kind) == 1


async def test_what_is_free_is_had_at_once(shopper: Shopper, street: Street) -> None:
    await shopper.choose("sellapp", "Sticker")
    order_id = await shopper.intended()
    await shopper.press(GO)
    await shopper.sees("completed", "Paid")
    await shopper.told("invoice.completed")
    assert (await street.invoice(order_id))["paid"]


ENDS = [
    ("sellapp", "Let it fail", "failed", "Payment failed"),
    ("sellapp", "Let it expire", "expired", "Expired"),
    ("turinpay", "Let it expire", "expired", "Expired"),
    ("generic", "Let it fail", "failed", "Payment failed"),
    ("generic", "Let it expire", "expired", "Expired"),
]


@pytest.mark.parametrize(("kind", "button", "status", "title"), ENDS)
async def test_a_shopper_is_told_why_nothing_was_paid(
    shopper: Shopper, street: Street, kind: str, button: str, status: str, title: str
) -> None:
    order_id = await shopper.go(kind)
    await shopper.press(button)
    await expect(shopper.page.locator("main")).to_contain_text(DONE)
    await shopper.return_to(order_id)
    await shopper.sees(status, title)
    await shopper.told(f"invoice.{status}")
    await expect(shopper.page.get_by_role("button")).to_have_count(0)
    if (kind, status) == ("generic", "failed"):
        await shopper.fits()
    invoice = await street.invoice(order_id)
    assert (invoice["status"], invoice["paid"]) == (status, False)


@pytest.mark.parametrize("kind", ["sellapp", "bluetape", "generic"])
async def test_a_shopper_who_has_paid_half_pays_the_rest(shopper: Shopper, street: Street, kind: str) -> None:
    order_id = await shopper.go(kind)
    await shopper.press("Pay half")
    await shopper.return_to(order_id)
    await shopper.sees("partially_paid", "Partly paid")
    if kind == "generic":
        await shopper.fits()
    assert (await street.invoice(order_id))["status"] == "partially_paid"

    await shopper.press("Pay the rest")
    await shopper.press("Pay")
    await shopper.is_done()
    await shopper.return_to(order_id)
    await shopper.sees("completed", "Paid")
    assert (await street.invoice(order_id))["paid"]
    assert await street.creates(kind) == 1


async def test_back_after_paying_there_is_nothing_left_to_pay(shopper: Shopper, street: Street) -> None:
    order_id = await shopper.go("generic")
    await shopper.press("Pay")
    await shopper.sees("completed", "Paid")
    await shopper.fits()

    await shopper.page.go_back()
    await expect(shopper.page.locator("main")).to_contain_text(DONE)
    await expect(shopper.page.get_by_role("button")).to_have_count(0)
    await shopper.page.get_by_role("link").click()
    await shopper.sees("completed", "Paid")
    assert (await street.invoice(order_id))["paid"]
    assert await street.creates("generic") == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_double_click_orders_and_pays_once(shopper: Shopper, street: Street, kind: str) -> None:
    await street.arm(kind, "slow", seconds=0.3)
    await shopper.choose(kind)
    order_id = await shopper.intended()
    await shopper.press_twice(GO)
    await shopper.is_asked_to_pay()

    await shopper.page.route(shopper.page.url, late)
    await shopper.press_twice("Pay")
    await shopper.is_done()
    await shopper.return_to(order_id)
    await shopper.sees("completed", "Paid")
    assert await street.creates(kind) == 1
    assert (await street.invoice(order_id))["paid"]


async def late(asked: Route) -> None:
    """It is done at once, and answered after a while."""
    answer = await asked.fetch(max_redirects=0)
    await asyncio.sleep(0.3)
    await asked.fulfill(response=answer)


async def test_a_form_sent_again_by_a_reload_is_the_same_order(shopper: Shopper, street: Street) -> None:
    shopper.sight.allowed = (FAILED_TO_LOAD,)
    await street.arm("generic", "status:400")
    await shopper.choose("generic")
    order_id = await shopper.intended()
    await shopper.press(GO)
    await expect(shopper.page.locator("article")).to_have_attribute("data-code", "provider_rejected")
    await shopper.fits()
    assert await street.invoices(order_id) == []

    await shopper.page.reload()
    await shopper.is_asked_to_pay()
    pay_page = shopper.page.url
    await shopper.page.reload()
    await expect(shopper.page).to_have_url(pay_page)
    assert (await street.invoice(order_id))["status"] == "pending"
    assert await street.creates("generic") == 2


async def test_what_was_refused_is_tried_again_as_the_same_order(shopper: Shopper, street: Street) -> None:
    shopper.sight.allowed = (FAILED_TO_LOAD,)
    await street.arm("turinpay", "status:400")
    await shopper.choose("turinpay")
    order_id = await shopper.intended()
    await shopper.press(GO)
    await shopper.page.get_by_role("link", name="See how the order stands").click()
    await shopper.sees("none", "Not placed yet")
    await shopper.fits()

    await shopper.press(AGAIN)
    await shopper.is_asked_to_pay()
    assert (await street.invoice(order_id))["status"] == "pending"
    assert await street.creates("turinpay") == 2


async def test_an_order_in_doubt_is_told_as_such_and_comes_right(shopper: Shopper, street: Street) -> None:
    shopper.sight.allowed = (FAILED_TO_LOAD,)
    await street.arm("generic", "reset_after_accept")
    await street.arm("generic", "status:500", "list", times=10_000)
    await shopper.choose("generic")
    order_id = await shopper.intended()
    await shopper.press(GO)
    await expect(shopper.page.locator("article")).to_have_attribute("data-code", "outcome_unknown")
    await shopper.fits()
    await shopper.page.get_by_role("link", name="See how the order stands").click()
    await shopper.sees("unknown", "We don't know yet")
    await shopper.fits()

    await street.sandbox.delete("/_control/generic/faults")
    await shopper.sees("pending", "Waiting for your payment")
    await shopper.press(PAY_NOW)
    await shopper.is_asked_to_pay()
    assert (await street.invoice(order_id))["status"] == "pending"
    assert await street.creates("generic") == 1


async def test_an_order_that_is_paid_elsewhere_changes_by_itself(
    shopper: Shopper, browser: Browser, street: Street
) -> None:
    order_id = await shopper.go("generic")
    pay_page = shopper.page.url
    await shopper.sight.open(f"/orders/{order_id}")
    await shopper.sees("pending", "Waiting for your payment")
    await shopper.fits()
    await shopper.page.get_by_role("button", name=PAY_NOW).focus()

    async with shopping(browser, street, viewport=PHONE, has_touch=True) as other:
        await other.page.goto(pay_page)
        await other.fits()
        await other.page.get_by_role("button", name="Pay", exact=True).tap()
        await other.sees("completed", "Paid")

    await shopper.sees("completed", "Paid")
    await expect(shopper.page.locator("h1")).to_be_focused()


async def test_an_order_says_that_it_cannot_be_asked_for_and_catches_up(shopper: Shopper, street: Street) -> None:
    shopper.sight.allowed = ("Failed to load resource: net::ERR_FAILED", "failed: GET")
    order_id = await shopper.go("generic")
    await shopper.page.route("**/state?*", lambda asked: asked.abort())
    await shopper.sight.open(f"/orders/{order_id}")
    await expect(shopper.page.locator("#unasked")).to_be_visible()

    invoice = await street.invoice(order_id)
    settled = {"reference": invoice["provider_invoice_id"], "outcome": "paid"}
    assert (await street.sandbox.post("/_control/generic/settle", json=settled)).is_success
    await shopper.page.unroute_all()
    await shopper.sees("completed", "Paid")
    await expect(shopper.page.locator("#unasked")).to_be_hidden()


async def test_a_shopper_without_javascript_pays(browser: Browser, street: Street) -> None:
    async with shopping(browser, street, java_script_enabled=False) as shopper:
        await shopper.go("generic")
        await shopper.press("Pay")
        await shopper.sees("completed", "Paid")


async def test_a_page_that_is_not_there_fits_everybody(shopper: Shopper) -> None:
    shopper.sight.allowed = (FAILED_TO_LOAD,)
    await shopper.sight.open("/orders/nothing")
    await expect(shopper.page.locator("h1")).to_have_text("Not here")
    await shopper.fits()
