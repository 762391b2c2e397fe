"""The operator's page as operators meet it: in a real browser, which may complain of nothing."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.browser import FAILED_TO_LOAD, Sight, looking, served
from tests.callers import SECRETS
from tests.receiver import SECRET, Receiver, receiving
from tests.world import SHOPPER, World, open_world

pytestmark = pytest.mark.anyio

PHONE = {"viewport": {"width": 390, "height": 844}}
WHY = {"reason": "maintenance there"}
# A page that is loaded again forgets it.
MARK = "document.body.dataset.kept = 'yes'"
KEPT = "document.body.dataset.kept"


@dataclass(frozen=True, kw_only=True)
class Office:
    """The service on a socket, its receiver of events, and a browser."""

    world: World
    receiver: Receiver
    browser: Browser
    url: str

    @asynccontextmanager
    async def desk(self, **options: Any) -> AsyncIterator[Sight]:
        """An operator who has signed in."""
        async with looking(self.browser, self.url, **options) as sight:
            await sign_in(sight)
            yield sight


@pytest.fixture
async def office(tmp_path: Path, browser: Browser) -> AsyncIterator[Office]:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        told: dict[str, Any] = {"worker": True, "webhook_secret": SECRET, "webhook_url": receiver.url}
        world = await stack.enter_async_context(open_world(f"sqlite:///{tmp_path}/gatehouse.db", **told))
        url = await stack.enter_async_context(served(world))
        yield Office(world=world, receiver=receiver, browser=browser, url=url)


async def sign_in(sight: Sight, path: str = "/ops", key: str = SECRETS["admin"]) -> None:
    await sight.open(path)
    await sight.page.get_by_label("Admin key").fill(key)
    await sight.page.keyboard.press("Enter")
    await expect(sight.page.get_by_role("button", name="Sign out")).to_be_visible()


def status(page: Page) -> Any:
    return page.locator("#state .badge")


async def doubtful(world: World) -> str:
    """An invoice of which nothing is known, and nothing can be found: it was never created."""
    await world.arm("sellapp", "create", "reset")
    id: str = (await world.create("sellapp", order_id="order-17")).json()["invoice_id"]
    return id


async def test_an_operator_signs_in_and_out(office: Office) -> None:
    async with looking(office.browser, office.url) as sight:
        sight.allowed = (FAILED_TO_LOAD,)
        await sight.open("/ops/invoices")
        await sight.page.get_by_label("Admin key").fill("not-the-key-of-this")
        await sight.page.get_by_role("button", name="Sign in").click()
        await expect(sight.page.get_by_role("alert")).to_contain_text("does not open")
        await sight.page.get_by_label("Admin key").fill(SECRETS["admin"])
        await sight.page.get_by_role("button", name="Sign in").click()
        await expect(sight.page).to_have_url(f"{office.url}/ops/invoices")
        await sight.page.get_by_role("button", name="Sign out").click()
        await expect(sight.page.get_by_label("Admin key")).to_be_visible()
        await sight.open("/ops/invoices")
        await expect(sight.page.get_by_label("Admin key")).to_be_visible()


async def test_the_keyboard_alone_will_do(office: Office) -> None:
    async with office.desk() as sight:
        await sight.page.keyboard.press("Tab")
        skip = sight.page.get_by_role("link", name="Skip to the content")
        await expect(skip).to_be_focused()
        await expect(skip).to_be_in_viewport()
        await sight.page.keyboard.press("Enter")
        await sight.page.keyboard.press("Tab")
        await expect(sight.page.locator("#provider-bluetape summary")).to_be_focused()
        outline = await sight.page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert outline == "3px"
        await sight.page.keyboard.press("Enter")
        await sight.page.keyboard.press("Tab")
        await sight.page.keyboard.type(WHY["reason"])
        await sight.page.keyboard.press("Enter")
        await expect(sight.page.locator("#provider-bluetape .badge")).to_have_text("paused")


async def test_an_invoice_completes_while_somebody_watches(office: Office) -> None:
    invoice = await office.world.created("sellapp")
    async with office.desk() as sight:
        page = sight.page
        await sight.open(f"/ops/invoices/{invoice['id']}")
        await expect(status(page)).to_have_text("pending")
        request = page.locator(".step.call details").first
        await request.locator("summary").click()
        await page.evaluate(MARK)
        await office.world.settle("sellapp", invoice["provider_invoice_id"], "paid", "once")
        await expect(status(page)).to_have_text("completed")
        await expect(page.locator(".step.delivery", has_text="invoice.completed")).to_be_visible()
        await expect(page.locator("#live")).not_to_have_attribute("hx-get", "/ops")
        await expect(page.locator("#cancel")).to_have_count(0)
        assert await request.evaluate("details => details.open")
        assert await page.evaluate(KEPT) == "yes"


async def test_what_is_being_typed_is_kept_while_the_page_changes(office: Office) -> None:
    async with office.desk() as sight:
        page = sight.page
        await page.evaluate(MARK)
        card = page.locator("#provider-generic")
        await card.locator("summary").click()
        reason = card.get_by_label("Reason")
        await reason.press_sequentially("maintenance re")
        await reason.press("ArrowLeft")
        await office.world.http.post("/v1/providers/bluetape/pause", json=WHY)
        await office.world.created("generic")
        await expect(page.locator("#needs")).to_contain_text("bluetape is paused")
        await expect(card).to_contain_text("Latest 1 call")
        await expect(reason).to_be_focused()
        await page.keyboard.type("the")
        await expect(reason).to_have_value("maintenance rthee")
        assert await page.evaluate(KEPT) == "yes"
        await reason.press("Enter")
        await expect(page.get_by_role("status").filter(has_text="The provider is paused")).to_be_visible()
        await expect(card).to_contain_text("Paused by sandbox: maintenance rthee")
        await card.locator("summary").click()
        await card.get_by_label("Reason").fill("it is back")
        await card.get_by_role("button", name="Resume generic").click()
        await expect(card.locator(".badge")).to_have_text("up")


async def test_nothing_moves_where_there_is_no_news(office: Office) -> None:
    await doubtful(office.world)
    async with office.desk() as sight:
        beats: list[int] = []
        sight.page.on("response", lambda answer: beats.append(answer.status) if "/live" in answer.url else None)
        await sight.page.evaluate(
            "new MutationObserver(all => all.forEach(() => document.title += '!'))"
            ".observe(document.getElementById('needs'), {subtree: true, childList: true, characterData: true})"
        )
        async with sight.page.expect_response("**/ops/live?*"):
            pass
        assert set(beats) == {204}
        assert "!" not in await sight.page.title()


async def test_an_invoice_is_found_on_a_phone(office: Office) -> None:
    wanted = await office.world.created("generic", customer={"email": "Ada@Example.org"}, order_id="order-17")
    await office.world.created("bluetape")
    async with office.desk(**PHONE) as sight:
        page = sight.page
        await page.get_by_role("link", name="Invoices").click()
        await expect(page.get_by_role("row")).to_have_count(3)
        await page.get_by_label("Search").fill("ada@example.org")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("row")).to_have_count(2)
        await expect(page.get_by_role("cell", name="order-17")).to_be_visible()
        await page.get_by_label("Search").fill("")
        await page.get_by_label("Provider").select_option("bluetape")
        await page.get_by_role("button", name="Show").click()
        await expect(page.get_by_role("cell", name=SHOPPER["email"])).to_be_visible()
        await page.get_by_label("Search").fill(wanted["id"])
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{office.url}/ops/invoices/{wanted['id']}")
        await expect(page.get_by_role("heading", level=1)).to_have_text(wanted["id"])


async def test_an_event_is_sent_again(office: Office) -> None:
    invoice = await office.world.created("generic")
    await office.receiver.has(1)
    async with office.desk() as sight:
        await sight.open(f"/ops/invoices/{invoice['id']}")
        await sight.page.get_by_role("button", name="Send again invoice.created").click()
        await expect(sight.page.get_by_role("status").filter(has_text="on its way again")).to_be_visible()
        await office.receiver.has(2)
        await expect(sight.page.locator("#deliveries")).to_contain_text("2 attempts")
        await expect(sight.page.locator(".step.operator")).to_contain_text("sandbox redelivered dlv_")


async def test_an_unknown_invoice_is_resolved(office: Office) -> None:
    id = await doubtful(office.world)
    async with office.desk() as sight:
        page = sight.page
        await page.get_by_role("link", name="Created or not?").click()
        await expect(page).to_have_url(f"{office.url}/ops/invoices/{id}")
        there = page.locator("#created")
        sight.allowed = (FAILED_TO_LOAD,)
        await there.get_by_label("The provider's id").fill("999999")
        await there.get_by_label("Reason").fill("I thought that I saw it there")
        await there.get_by_role("button", name="It is this one").click()
        await expect(page.get_by_role("alert")).to_contain_text("The provider does not know this invoice")
        sight.allowed = ()
        await page.locator("#not-created").get_by_label("Reason").fill("it is not in their list")
        await page.locator("#not-created").get_by_role("button").click()
        await expect(status(page)).to_have_text("failed")
        await expect(page.locator(".step.operator")).to_contain_text("it is not in their list")
        await sight.open("/ops")
        await expect(page.locator("#needs")).to_contain_text("Nothing just now.")


async def test_a_page_that_cannot_be_brought_up_to_date_says_so(office: Office) -> None:
    async with office.desk() as sight:
        sight.allowed = (FAILED_TO_LOAD, "Failed to load resource: net::ERR_INTERNET_DISCONNECTED", "htmx: htmx:error")
        notice = sight.page.get_by_text("The service can't be reached just now.")
        await expect(notice).to_be_hidden()
        await sight.page.context.set_offline(True)
        await expect(notice).to_be_visible()
        await sight.page.context.set_offline(False)
        await expect(notice).to_be_hidden()
        office.world.clock.pass_time(hours=13)
        await expect(sight.page.get_by_label("Admin key")).to_be_visible()


async def test_it_works_without_scripts(office: Office) -> None:
    invoice = await office.world.created("generic")
    async with office.desk(java_script_enabled=False) as sight:
        page = sight.page
        await page.locator("#provider-generic summary").click()
        await page.locator("#provider-generic").get_by_label("Reason").fill(WHY["reason"])
        await page.get_by_role("button", name="Pause generic").click()
        await expect(page.locator("#needs")).to_contain_text("generic is paused")
        await page.get_by_role("link", name="Invoices").click()
        await page.get_by_role("link", name=invoice["id"]).click()
        await expect(status(page)).to_have_text("pending")


@pytest.mark.parametrize(("scheme", "shape"), [("light", {}), ("dark", PHONE)])
async def test_nobody_is_kept_from_using_it(office: Office, scheme: str, shape: dict[str, Any]) -> None:
    world = office.world
    paid = await world.created("sellapp", order_id="order-1")
    await world.checkout(paid["id"])
    await world.settle("sellapp", paid["provider_invoice_id"], "paid", "once")
    unknown = await doubtful(world)
    await world.arm("generic", "list", "status:500", times=2)
    await world.http.post("/v1/providers/turinpay/pause", json=WHY)
    async with looking(office.browser, office.url, color_scheme=scheme, **shape) as sight:
        sight.allowed = (FAILED_TO_LOAD,)
        await sight.open("/ops")
        faults = {"sign in": await sight.faults()}
        await sign_in(sight)
        for path in ("", "/invoices", f"/invoices/{paid['id']}", f"/invoices/{unknown}", "/invoices/nonsense"):
            await sight.open(f"/ops{path}")
            await sight.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
            faults[path] = await sight.faults()
            assert await sight.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        assert {where: found for where, found in faults.items() if found} == {}


async def test_a_fault_is_seen(office: Office) -> None:
    async with looking(office.browser, office.url) as sight:
        await sight.open("/ops")
        await sight.page.evaluate("document.querySelector('label').remove()")
        assert any("label" in fault for fault in await sight.faults())
