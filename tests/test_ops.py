"""The operator's page over HTTP: who is let in, what is shown, and that every action is a person's own."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.responses import Response
from structlog.testing import capture_logs

from app import ops
from app.api.problems import status_of
from app.ops.sparklines import HEIGHT, Sparklines
from app.service.cursors import feed_cursor
from app.service.keys import Caller, Keys, Role
from app.service.signing import Signer
from app.settings import SANDBOX_KEY as ADMIN
from tests.callers import SECRETS, knocking, world_of_roles
from tests.receiver import SECRET, receiving
from tests.world import SECRET_KEY, SERVICE, SHOPPER, World, open_world

pytestmark = pytest.mark.anyio

WHY = {"reason": "maintenance there"}
TOKEN = re.compile(r'name="token" value="([0-9a-f]{64})"')
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
POSTS = [
    "/ops/sign-out",
    "/ops/providers/generic/pause",
    "/ops/providers/generic/resume",
    "/ops/invoices/{id}/refresh",
    "/ops/invoices/{id}/cancel",
    "/ops/invoices/{id}/resolve",
    "/ops/invoices/{id}/deliveries/dlv_1/redeliver",
]
GETS = ["/ops/live", "/ops/invoices", "/ops/invoices/{id}", "/ops/invoices/{id}/live"]


@asynccontextmanager
async def visiting(world: World, key: str = ADMIN) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that has signed in."""
    async with knocking(world.app) as browser:
        answer = await browser.post("/ops/session", data={"key": key})
        assert (answer.status_code, answer.headers["location"]) == (303, "/ops"), answer.text
        yield browser


@pytest.fixture
async def operator(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with visiting(world) as browser:
        yield browser


@pytest.fixture
async def stranger(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with knocking(world.app) as browser:
        yield browser


async def seen(browser: httpx.AsyncClient, path: str, status: int = 200) -> str:
    answer = await browser.get(path)
    assert answer.status_code == status, answer.text
    return answer.text


async def act(browser: httpx.AsyncClient, path: str, **form: str) -> httpx.Response:
    return await browser.post(path, data={"token": await token(browser), **form})


async def token(browser: httpx.AsyncClient) -> str:
    """Of the session, as its forms have it."""
    found = TOKEN.search(await seen(browser, "/ops"))
    assert found
    return found[1]


def is_back(answer: httpx.Response, where: str) -> None:
    assert (answer.status_code, answer.headers.get("location")) == (303, where), answer.text


def is_refused(answer: httpx.Response, status: int, title: str, *words: str) -> None:
    """The page that it was asked on, with the problem."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert 'role="alert"' in answer.text
    for word in (title, *words):
        assert word in answer.text


async def audits(world: World, id: str) -> list[tuple[str, str, str | None]]:
    steps = (await world.http.get(f"/v1/invoices/{id}/trace")).json()["data"]
    return [(step["by"], step["action"], step["reason"]) for step in steps if step["kind"] == "operator"]


async def is_audited(world: World, id: str, action: str, reason: str | None = None) -> None:
    """As soon as it is kept, which nobody waits for."""
    async with asyncio.timeout(5):
        while not (found := await audits(world, id)):
            await asyncio.sleep(0.02)
    assert found == [("sandbox", action, reason)]


async def doubtful(world: World, **fields: Any) -> str:
    """An invoice of which nothing is known, and nothing can be found: it was never created."""
    await world.arm("sellapp", "create", "reset")
    answer = await world.create("sellapp", **fields)
    assert answer.status_code == 504, answer.text
    id: str = answer.json()["invoice_id"]
    return id


async def mismatched(world: World) -> str:
    await world.arm("generic", "create", "wrong_amount")
    invoice = (await world.create("generic")).json()
    id: str = invoice.get("invoice_id") or invoice["id"]
    assert (await world.http.get(f"/v1/invoices/{id}?refresh=true")).json()["status"] == "unknown"
    return id


async def test_whoever_is_not_signed_in_finds_the_form(world: World, stranger: httpx.AsyncClient) -> None:
    id = (await world.created("generic", order_id="order-17"))["id"]
    assert 'name="key"' in await seen(stranger, "/ops")
    for path in GETS:
        page = await seen(stranger, path.format(id=id), 401)
        assert 'name="key"' in page
        assert "order-17" not in page


async def test_whoever_is_not_signed_in_does_nothing(world: World, stranger: httpx.AsyncClient) -> None:
    id = (await world.created("generic"))["id"]
    for path in POSTS:
        answer = await stranger.post(path.format(id=id), data={**WHY, "token": "0" * 64})
        assert answer.status_code == 401, path
    assert (await world.http.get("/v1/providers/generic")).json()["health"]["state"] == "up"
    assert await audits(world, id) == []


async def test_a_key_opens_a_session_for_the_page_alone(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.post("/ops/session", data={"key": ADMIN, "after": "/ops/invoices"})
    is_back(answer, "/ops/invoices")
    cookie = answer.headers["set-cookie"]
    assert {part.strip() for part in cookie.split(";")[1:]} == {
        "HttpOnly",
        "Max-Age=43200",
        "Path=/ops",
        "SameSite=strict",
    }
    assert ADMIN not in cookie
    assert "Signed in as <strong>sandbox</strong>" in await seen(stranger, "/ops")


async def test_signing_in_leads_to_no_other_place(stranger: httpx.AsyncClient) -> None:
    for after in ("https://evil.example/", "//evil.example", "/ops/session", "/v1/invoices", "/opsx", "/ops\r\nX: y"):
        is_back(await stranger.post("/ops/session", data={"key": ADMIN, "after": after}), "/ops")


async def test_behind_https_the_cookie_is_for_https_alone() -> None:
    async with knocking(bare(sessions(), secure=True)) as browser:
        answer = await browser.post("/ops/session", data={"key": ADMIN})
        assert "Secure" in answer.headers["set-cookie"]


async def test_no_other_key_is_let_in_and_nobody_learns_why(tmp_path: Path) -> None:
    async with world_of_roles(tmp_path) as world, knocking(world.app) as browser:
        secret = (await world.created("generic"))["client_secret"]
        pages = set()
        for key in (SECRETS["read"], SECRETS["write"], secret, ADMIN.upper(), f"{ADMIN} ", "", "\ud800"):
            body = urlencode({"key": key.encode(errors="surrogatepass")})
            answer = await browser.post("/ops/session", content=body, headers=FORM)
            assert answer.status_code == 401
            assert "set-cookie" not in answer.headers
            assert not key.strip() or key not in answer.text
            pages.add(answer.text)
        assert len(pages) == 1
        async with visiting(world, SECRETS["admin"]) as admin:
            assert "Signed in as <strong>the admin</strong>" in await seen(admin, "/ops")


def sessions(**changed: Any) -> ops.Sessions:
    """At the same moment, whenever they are made."""
    known = ops.Sessions(
        keys=keys_of(ada=ADMIN),
        signer=Signer(secret=SecretStr(SECRET_KEY)),
        clock=lambda: datetime(2026, 11, 25, tzinfo=UTC),
    )
    return replace(known, **changed)


def keys_of(**secrets: str) -> Keys:
    """Of operators, by their names."""
    return Keys((SecretStr(secret), Caller(name=name, role=Role.ADMIN)) for name, secret in secrets.items())


def bare(known: ops.Sessions, *, secure: bool = False) -> Starlette:
    app = Starlette()
    ops.install(app, sessions=known, secure=secure, read=unread, status_of=status_of)
    return app


async def unread(request: Any) -> bytes:
    return bytes(await request.body())


def begun(known: ops.Sessions, key: str = ADMIN) -> str:
    cookie = known.begin(key)
    assert cookie
    return cookie


def test_a_session_is_found_again() -> None:
    found = sessions().find(begun(sessions()))
    assert found
    assert found.name == "ada"
    assert begun(sessions()) != begun(sessions())


NEW = "another-key-of-the-same-name"
LATER = {"clock": lambda: datetime(2026, 11, 25, tzinfo=UTC) + timedelta(hours=12)}


@pytest.mark.parametrize(
    "changed",
    [
        {"keys": Keys()},
        {"keys": keys_of(ada=NEW)},
        {"keys": keys_of(bob=ADMIN)},
        {"keys": Keys([(SecretStr(ADMIN), Caller(name="ada", role=Role.WRITE))])},
        {"signer": Signer(secret=SecretStr("another-secret-that-signs-from-now-on"))},
        LATER,
    ],
    ids=["its key removed", "its key changed", "another's key", "its role", "another secret", "twelve hours later"],
)
def test_a_session_ends_with(changed: dict[str, Any]) -> None:
    assert sessions(**changed).find(begun(sessions())) is None


def test_a_session_survives_the_rotation_of_the_secret_and_of_another_key_of_its_name() -> None:
    signer = Signer(secret=SecretStr("the-next-secret-of-this-service-ok"), earlier=SecretStr(SECRET_KEY))
    assert sessions(signer=signer).find(begun(sessions()))
    ada = Caller(name="ada", role=Role.ADMIN)
    both = Keys((SecretStr(secret), ada) for secret in (NEW, ADMIN))
    assert sessions(keys=both).find(begun(sessions()))


def forgeries() -> list[str]:
    """A session that we never gave out, in every part of it."""
    nonce, ends, name, mac = begun(sessions()).split(".")
    return [
        "",
        "nonsense",
        "\u2028",
        f"{nonce}.{ends}.{name}.{'0' * 64}",
        f"{'0' * 16}.{ends}.{name}.{mac}",
        f"{nonce}.{int(ends) + 1}.{name}.{mac}",
        f"{nonce}.99999999999.{name}.{mac}",
        f"{nonce}.{ends}.Ym9i.{mac}",
        f"{nonce}.{ends}.{name}A.{mac}",
        f"{nonce}.{ends}.{name}.{mac} ",
        f"{nonce}.{ends}.{name}.{mac.upper()}",
        f"{nonce}.{ends}.{'A' * 399}.{mac}",
        f"{nonce}.{ends}.{name}.{mac}" * 20,
    ]


@pytest.mark.parametrize("cookie", forgeries(), ids=range(len(forgeries())))
def test_a_forged_session_is_none(cookie: str) -> None:
    assert sessions().find(cookie) is None


async def test_a_session_ends_after_its_time_and_when_one_signs_out(world: World, operator: httpx.AsyncClient) -> None:
    assert 'name="key"' not in await seen(operator, "/ops")
    async with visiting(world) as other:
        is_back(await act(other, "/ops/sign-out"), "/ops")
        assert 'name="key"' in await seen(other, "/ops")
    world.clock.pass_time(hours=12, seconds=1)
    assert 'name="key"' in await seen(operator, "/ops")
    part = await operator.get("/ops/live", headers={"HX-Request": "true"})
    assert (part.status_code, part.headers["hx-refresh"]) == (401, "true")


async def test_an_action_is_done_for_the_sessions_own_form_alone(world: World, operator: httpx.AsyncClient) -> None:
    id = (await world.created("generic"))["id"]
    own = await token(operator)
    async with visiting(world) as other:
        strange = await token(other)
    assert own != strange
    for path in POSTS:
        for sent, headers in (
            ("", {}),
            (strange, {}),
            (own, {"Sec-Fetch-Site": "cross-site"}),
            (own, {"Sec-Fetch-Site": "same-site"}),
            (own, {"Origin": "https://evil.example"}),
            (own, {"Origin": "null"}),
            (own, {"Origin": f"{SERVICE}:8443"}),
        ):
            answer = await operator.post(path.format(id=id), data={"token": sent, **WHY}, headers=headers)
            assert (answer.status_code, "set-cookie" in answer.headers) == (403, False), (path, headers)
    assert (await world.http.get("/v1/providers/generic")).json()["health"]["state"] == "up"
    assert await audits(world, id) == []
    asked = {"Origin": SERVICE, "Sec-Fetch-Site": "same-origin"}
    for path in reversed(POSTS):
        known = await operator.post(path.format(id=id), data={"token": own, **WHY}, headers=asked)
        assert known.status_code not in {401, 403}, path


FOREIGN = ["https://evil.example", "null", "", "http://[", "http://[::1", f"{SERVICE}.evil.example"]


async def test_nobody_is_signed_in_by_another_sites_form(stranger: httpx.AsyncClient) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, *({"Origin": origin} for origin in FOREIGN)):
        answer = await stranger.post("/ops/session", data={"key": ADMIN}, headers=headers)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


async def test_every_page_lets_a_browser_do_no_more_than_it_must(world: World, operator: httpx.AsyncClient) -> None:
    id = (await world.created("generic"))["id"]
    async with knocking(world.app) as stranger:
        answers = [
            await stranger.get("/ops"),
            await operator.get("/ops"),
            *[await operator.get(path.format(id=id)) for path in GETS],
            await operator.get("/ops/invoices/nonsense"),
            await act(operator, "/ops/providers/generic/pause", **WHY),
        ]
    for answer in answers:
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self' data:",
            "connect-src": "'self'",
            "form-action": "'self'",
            "frame-ancestors": "'none'",
            "base-uri": "'none'",
        }
        assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "same-origin")
        assert not re.search(r"<script(?! src=\"/ops/static/)|<style|\sstyle=|\son\w+=|javascript:", answer.text)


async def test_a_page_asks_for_files_of_ours_alone(operator: httpx.AsyncClient) -> None:
    files = set(re.findall(r'(?:src|href)="(/ops/static/[^"]+)"', await seen(operator, "/ops")))
    assert len(files) >= 4
    for file in files:
        assert await seen(operator, file)
    assert "Permission to use" in await seen(operator, "/ops/static/htmx-LICENSE.txt")


async def test_nothing_needs_a_person_where_all_is_well(world: World, operator: httpx.AsyncClient) -> None:
    await world.created("generic")
    assert "Nothing just now." in await seen(operator, "/ops")


async def test_the_overview_says_what_needs_a_person(world: World, operator: httpx.AsyncClient) -> None:
    wrong, unknown = await mismatched(world), await doubtful(world, order_id="order-17")
    await world.http.post("/v1/providers/turinpay/pause", json=WHY)
    await world.arm("bluetape", "get", "unknown_status")
    strange = await world.created("bluetape")
    await world.read(strange["id"], refresh="true")
    lane(world, "sellapp").failed(1.0, "provider_auth_failed")
    page = await seen(operator, "/ops")
    needs = page.partition('id="providers"')[0]
    titles = re.findall(r"<strong>(?:<a href=\"([^\"]+)\">)?([^<]+)", needs)
    assert [title for title in titles if title[1] != "sandbox"] == [
        (f"/ops/invoices/{unknown}", "Created or not?"),
        (f"/ops/invoices/{wrong}", "Another amount than asked"),
        ("#provider-bluetape", "bluetape says things we don&#39;t know"),
        ("#provider-sellapp", "sellapp refuses our credentials"),
        ("#provider-turinpay", "turinpay is paused"),
    ]
    assert "19.99 USD at sellapp, order order-17" in needs or "An invoice at sellapp, order order-17" in needs
    assert "By sandbox: maintenance there" in needs


async def test_a_receiver_that_is_only_probed_needs_a_person(tmp_path: Path) -> None:
    async with (
        receiving(answers=lambda _: Response(status_code=500)) as receiver,
        open_world(f"sqlite:///{tmp_path}/gatehouse.db", worker=True, delivery_schedule="0.01," * 20) as world,
    ):
        await world.created("generic", callback_url=receiver.url)
        async with visiting(world) as operator, asyncio.timeout(30):
            while "Receiver is paused" not in (page := await seen(operator, "/ops")):
                world.clock.pass_time(minutes=2)
                await asyncio.sleep(0.1)
            assert receiver.url.removesuffix("/hooks") in page


def lane(world: World, name: str) -> Any:
    catalog = world.app.state.services.catalog
    return catalog.exchange.lane(catalog.providers[name])


async def test_the_overview_shows_how_each_provider_is_doing(world: World, operator: httpx.AsyncClient) -> None:
    invoice = await world.created("generic")
    await world.arm("generic", "get", "status:500", times=2)
    await world.http.get(f"/v1/invoices/{invoice['id']}?refresh=true")
    card = (await seen(operator, "/ops")).partition('id="provider-generic"')[2].partition("</article>")[0]
    assert ">degraded</span>" in card
    assert "Latest 3 calls" in card
    assert "2 failed" in card
    assert "<dd>66.7 %</dd>" in card
    assert "<dd>provider_error</dd>" in card
    assert re.search(r'<polyline points="0.0,[0-9.]+ 100.0,[0-9.]+ 200.0,[0-9.]+"/>', card)
    assert card.count("<rect") == 2


@pytest.mark.parametrize(
    ("calls", "line", "bars"),
    [
        ([(7.0, True)], "0.0,1.0 200.0,1.0", []),
        ([(0.0, True), (10.0, False)], "0.0,31.0 200.0,1.0", [(10, 0, 8, HEIGHT)]),
        ([(0.2, True), (0.0, True)], "0.0,25.0 200.0,31.0", []),
    ],
)
def test_a_sparkline_is_of_the_latest_calls(
    calls: list[tuple[float, bool]], line: str, bars: list[tuple[int, int, int, int]]
) -> None:
    drawn = Sparklines.of(calls)
    assert drawn
    assert (drawn.line, drawn.bars) == (line, bars)


def test_a_sparkline_of_many_calls_has_a_bar_for_each_stretch_with_failures() -> None:
    drawn = Sparklines.of([(1.0, n % 20 != 0 and n >= 100) for n in range(200)])
    assert drawn
    assert (drawn.count, drawn.failed) == (200, 105)
    assert [height for _, _, _, height in drawn.bars] == [HEIGHT] * 10 + [round(HEIGHT / 10)] * 5
    assert Sparklines.of([]) is None


async def test_a_provider_is_paused_and_resumed_with_a_reason(world: World, operator: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        is_back(
            await act(operator, "/ops/providers/generic/pause", reason="  maintenance\n there "), "/ops?done=paused"
        )
    said = next(line for line in logs if line["event"] == "operator.paused")
    assert (said["provider"], said["by"], said["reason"]) == ("generic", "sandbox", "maintenance there")
    page = await seen(operator, "/ops?done=paused")
    assert "The provider is paused" in page
    assert "Paused by sandbox: maintenance there" in page
    assert (await world.create("generic")).status_code == 503
    is_back(await act(operator, "/ops/providers/generic/resume", **WHY), "/ops?done=resumed")
    assert (await world.create("generic")).status_code == 201


UNREADABLE = {
    "": "is required",
    " \n ": "is required",
    "a" * 501: "must have at most 500 characters",
    "a\0b": "has characters that can&#39;t be shown",
    "a\u202eb": "has characters that can&#39;t be shown",
}


async def test_a_pause_needs_a_reason_that_can_be_read(world: World, operator: httpx.AsyncClient) -> None:
    for reason, fault in UNREADABLE.items():
        answer = await act(operator, "/ops/providers/generic/pause", reason=reason)
        is_refused(answer, 422, "The request is not valid", "<strong>reason</strong>", fault, "What needs a person")
    assert (await world.http.get("/v1/providers/generic")).json()["health"]["state"] == "up"


async def test_nobody_is_paused_who_is_not_there(operator: httpx.AsyncClient) -> None:
    answer = await act(operator, "/ops/providers/nobody/pause", **WHY)
    is_refused(answer, 404, "There is no such thing", "There is no such provider.")


def listed(page: str) -> list[str]:
    return re.findall(r'<td role="cell" data-label="Invoice"><a href="/ops/invoices/([^"]+)">', page)


async def test_an_invoice_is_found_by_what_people_know_of_it(world: World, operator: httpx.AsyncClient) -> None:
    ada = {"email": "Ada_L@Example.org", "name": "Ada"}
    wanted = await world.created("generic", order_id="order 17/ä", customer=ada)
    await world.created("generic", order_id="order-18", customer={"email": "adaXl@example.org"})
    await world.created("generic", customer={"name": '","email":"ada_l@example.org'})
    is_back(await operator.get("/ops/invoices", params={"q": f" {wanted['id']} "}), f"/ops/invoices/{wanted['id']}")
    for text in (wanted["provider_invoice_id"], "order 17/ä", "ada_l@example.org", "ADA_L@EXAMPLE.ORG"):
        answer = await operator.get("/ops/invoices", params={"q": text})
        assert listed(answer.text) == [wanted["id"]], text
    for text in ("order", "%@example.org", "_@_", "ada", "inv_01jd7q8m3zf5k9w2x4y6a8b0c2", '@"}'):
        answer = await operator.get("/ops/invoices", params={"q": text})
        assert listed(answer.text) == [], text
        assert "There is no such invoice." in answer.text


async def test_an_e_mail_address_is_found_on_postgresql_too(postgresql_url: str) -> None:
    async with open_world(postgresql_url) as world, visiting(world) as operator:
        wanted = await world.created("generic", customer={"email": "Ada_L@Example.org"})
        await world.created("generic", customer={"email": "adaXl@example.org"})
        answer = await operator.get("/ops/invoices", params={"q": "ada_l@example.ORG"})
        assert listed(answer.text) == [wanted["id"]]


async def test_invoices_are_filtered(world: World, operator: httpx.AsyncClient) -> None:
    here, there = await world.created("generic", customer=SHOPPER), await world.created("bluetape")
    await world.settle("generic", here["provider_invoice_id"], "paid")
    await world.read(here["id"], refresh="true")
    for query, found in (
        ({}, [there["id"], here["id"]]),
        ({"provider": "generic"}, [here["id"]]),
        ({"status": "completed"}, [here["id"]]),
        ({"status": "pending", "provider": "generic"}, []),
        ({"q": SHOPPER["email"], "provider": "bluetape"}, [there["id"]]),
        ({"q": SHOPPER["email"], "status": "completed"}, [here["id"]]),
    ):
        assert listed((await operator.get("/ops/invoices", params=query)).text) == found, query


async def test_every_invoice_is_on_one_page_and_on_one_only(world: World, operator: httpx.AsyncClient) -> None:
    made = [(await world.created("bluetape", order_id=f"o-{n}"))["id"] for n in range(30)]
    await world.created("generic")
    first = await seen(operator, "/ops/invoices?provider=bluetape&status=pending")
    older = re.search(r'<a href="(/ops/invoices\?[^"]+)" rel="next">', first)
    assert older
    second = await seen(operator, older[1].replace("&amp;", "&"))
    assert [*listed(first), *listed(second)] == made[::-1]
    assert 'rel="next"' not in second


async def test_what_cannot_be_looked_for_is_refused(operator: httpx.AsyncClient) -> None:
    for query in (
        "status=nonsense",
        "before=1",
        f"before={feed_cursor(1)}",
        "q=a%00b",
        f"q={'a' * 255}",
        "provider=%00",
    ):
        is_refused(await operator.get(f"/ops/invoices?{query}"), 422, "is nothing that can be looked for")


async def test_a_provider_that_cannot_be_asked_is_named(world: World, operator: httpx.AsyncClient) -> None:
    await world.arm("generic", "list", "status:500", times=4)
    assert "generic could not be asked" in await seen(operator, "/ops/invoices")


async def test_an_invoices_page_tells_its_whole_life(world: World, operator: httpx.AsyncClient) -> None:
    invoice = await world.created("sellapp", order_id="order-17", customer=SHOPPER)
    await world.checkout(invoice["id"])
    await world.settle("sellapp", invoice["provider_invoice_id"], "paid", "once")
    async with asyncio.timeout(5):
        while (await world.read(invoice["id"], refresh="false"))["status"] != "completed":
            await asyncio.sleep(0.02)
    page = await seen(operator, f"/ops/invoices/{invoice['id']}")
    for word in ("19.99 USD", "order-17", SHOPPER["email"], "POST /v2/invoices", "&#34;product_variants&#34;"):
        assert word in page, word
    told = re.findall(r"<strong>(Call|Notification|Event)</strong> (?:<code>)?(\S+?)[<\s]", page)
    assert [word for _, word in told if word in {"create", "checkout", "with", "invoice.completed"}] == [
        "create",
        "checkout",
        "with",
        "invoice.completed",
    ]


async def test_a_part_of_a_page_is_sent_only_when_there_is_news(world: World, operator: httpx.AsyncClient) -> None:
    invoice = await world.created("generic")
    path = f"/ops/invoices/{invoice['id']}"
    part = re.search(rf'hx-get="({path}/live\?seen=[0-9a-f]+)"', await seen(operator, path))
    assert part
    assert await seen(operator, part[1], 204) == ""
    await world.settle("generic", invoice["provider_invoice_id"], "paid")
    assert await seen(operator, part[1], 204) == ""
    await world.read(invoice["id"], refresh="true")
    news = await seen(operator, part[1])
    assert ">completed</span>" in news
    assert "<html" not in news
    assert "hx-get" not in news
    front = re.search(r'hx-get="(/ops/live\?seen=[0-9a-f]+)"', await seen(operator, "/ops"))
    assert front
    assert await seen(operator, front[1], 204) == ""
    await world.http.post("/v1/providers/generic/pause", json=WHY)
    assert "generic is paused" in await seen(operator, front[1])


@pytest.mark.parametrize("id", ["inv_01jd7q8m3zf5k9w2x4y6a8b0c2", "nonsense", "inv_%00"])
async def test_there_is_no_page_of_what_is_not_there(operator: httpx.AsyncClient, id: str) -> None:
    is_refused(await operator.get(f"/ops/invoices/{id}"), 404, "There is no such invoice.")
    is_refused(await act(operator, f"/ops/invoices/{id}/refresh"), 404, "There is no such invoice.")


async def test_the_provider_is_asked_when_an_operator_wants_it(world: World, operator: httpx.AsyncClient) -> None:
    invoice = await world.created("generic")
    await world.settle("generic", invoice["provider_invoice_id"], "paid")
    path = f"/ops/invoices/{invoice['id']}"
    is_back(await act(operator, f"{path}/refresh"), f"{path}?done=refreshed")
    page = await seen(operator, f"{path}?done=refreshed")
    assert "The provider was asked." in page
    assert ">completed</span>" in page
    await is_audited(world, invoice["id"], "refreshed")


async def test_a_provider_that_fails_is_told_on_the_page(world: World, operator: httpx.AsyncClient) -> None:
    invoice = await world.created("generic")
    await world.arm("generic", "get", "retry_after", times=2)
    answer = await act(operator, f"/ops/invoices/{invoice['id']}/refresh")
    is_refused(answer, 503, "The provider asked us to slow down", "What happened")
    assert int(answer.headers["retry-after"]) >= 1
    assert await audits(world, invoice["id"]) == []


async def test_an_invoice_is_canceled_where_its_provider_can(world: World, operator: httpx.AsyncClient) -> None:
    invoice = await world.created("sellapp")
    path = f"/ops/invoices/{invoice['id']}"
    assert 'id="cancel"' in await seen(operator, path)
    is_refused(await act(operator, f"{path}/cancel"), 422, "<strong>reason</strong> is required")
    assert (await world.read(invoice["id"]))["status"] == "pending"
    is_back(await act(operator, f"{path}/cancel", **WHY), f"{path}?done=canceled")
    assert (await world.read(invoice["id"]))["status"] == "canceled"
    await is_audited(world, invoice["id"], "asked to cancel", "maintenance there")
    assert 'id="cancel"' not in await seen(operator, path)
    is_refused(await act(operator, f"{path}/cancel", **WHY), 409, "The invoice is finished")


async def test_what_is_in_doubt_may_be_canceled_and_another_amount_may_not(
    world: World, operator: httpx.AsyncClient
) -> None:
    assert 'id="cancel"' in await seen(operator, f"/ops/invoices/{await doubtful(world)}")
    await world.arm("sellapp", "create", "wrong_amount")
    await world.arm("sellapp", "cancel", "status:400")
    wrong = (await world.create("sellapp", amount="19.99", currency="USD")).json()["invoice_id"]
    page = await seen(operator, f"/ops/invoices/{wrong}")
    assert "another amount" in page
    assert 'id="cancel"' not in page
    is_refused(await act(operator, f"/ops/invoices/{wrong}/cancel", **WHY), 502, "another amount")


async def test_where_its_provider_cannot_cancel_nobody_can(world: World, operator: httpx.AsyncClient) -> None:
    invoice = await world.created("turinpay")
    path = f"/ops/invoices/{invoice['id']}"
    assert 'id="cancel"' not in await seen(operator, path)
    is_refused(await act(operator, f"{path}/cancel", **WHY), 422, "The provider has no such operation")


async def test_an_unknown_invoice_is_found_to_be_one_of_the_providers(
    world: World, operator: httpx.AsyncClient
) -> None:
    id = await doubtful(world)
    twin = await world.created("sellapp")
    path = f"/ops/invoices/{id}"
    page = await seen(operator, path)
    assert 'id="created"' in page
    assert 'id="not-created"' in page
    for form, status, title in (
        ({**WHY}, 422, "must be one of the two"),
        ({**WHY, "outcome": "created"}, 422, "<strong>provider invoice id</strong> is required"),
        ({"outcome": "created", "provider_invoice_id": "1"}, 422, "<strong>reason</strong> is required"),
        ({**WHY, "outcome": "created", "provider_invoice_id": "999999"}, 404, "does not know this invoice"),
        (
            {**WHY, "outcome": "created", "provider_invoice_id": twin["provider_invoice_id"]},
            422,
            "another invoice&#39;s already",
        ),
    ):
        is_refused(await act(operator, f"{path}/resolve", **form), status, title)
    assert await audits(world, id) == []
    reference = await made_there(world)
    is_back(
        await act(operator, f"{path}/resolve", outcome="created", provider_invoice_id=reference, **WHY),
        f"{path}?done=resolved",
    )
    assert (await world.read(id))["provider_invoice_id"] == reference
    await is_audited(world, id, "resolved", "maintenance there")
    is_refused(await act(operator, f"{path}/resolve", outcome="not_created", **WHY), 409, "The invoice is finished")


async def made_there(world: World) -> str:
    """An invoice that somebody has made at the provider itself."""
    answer = await world.sandbox.post(
        "/sellapp/api/v2/invoices",
        json={
            "customer_email": SHOPPER["email"],
            "payment_method": "STRIPE",
            "product_variants": {"1001": {"quantity": 1}},
        },
        headers={"Authorization": "Bearer sandbox-sellapp-key", "X-STORE": "sandbox"},
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["data"]["id"])


async def test_an_unknown_invoice_is_found_not_to_be_there(world: World, operator: httpx.AsyncClient) -> None:
    id = await doubtful(world)
    path = f"/ops/invoices/{id}"
    is_refused(
        await act(operator, f"{path}/resolve", outcome="not_created"), 422, "<strong>reason</strong> is required"
    )
    is_back(await act(operator, f"{path}/resolve", outcome="not_created", **WHY), f"{path}?done=resolved")
    assert (await world.read(id))["status"] == "failed"
    await is_audited(world, id, "resolved", "maintenance there")
    assert 'id="created"' not in await seen(operator, path)


async def test_an_event_is_delivered_again(tmp_path: Path) -> None:
    async with (
        receiving() as receiver,
        open_world(f"sqlite:///{tmp_path}/gatehouse.db", worker=True, webhook_secret=SECRET) as world,
        visiting(world) as operator,
    ):
        invoice, other = [await world.created("generic", callback_url=receiver.url) for _ in range(2)]
        await receiver.has(2)
        path = f"/ops/invoices/{invoice['id']}"
        strange = (await deliveries(world, other["id"]))[0]["id"]
        is_refused(await act(operator, f"{path}/deliveries/{strange}/redeliver"), 404, "There is no such delivery.")
        delivery = (await deliveries(world, invoice["id"]))[0]["id"]
        assert f"{path}/deliveries/{delivery}/redeliver" in await seen(operator, path)
        is_back(await act(operator, f"{path}/deliveries/{delivery}/redeliver"), f"{path}?done=redelivered")
        await receiver.has(3)
        assert receiver.types(invoice["id"]) == ["invoice.created"] * 2
        await is_audited(world, invoice["id"], f"redelivered {delivery}")


async def deliveries(world: World, id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await world.http.get("/v1/deliveries", params={"invoice_id": id})).json()["data"]
    return found


async def test_no_secret_is_on_any_page_or_in_any_line(world: World) -> None:
    with capture_logs() as logs:
        async with visiting(world) as operator:
            pages = [await seen(operator, "/ops"), await seen(operator, "/ops/invoices")]
            hook = "https://shop.example/hooks?token=f00dfeed"
            for kind in ("generic", "sellapp", "bluetape", "turinpay"):
                invoice = await world.created(kind, customer=SHOPPER, callback_url=hook)
                await world.checkout(invoice["id"])
                await act(operator, f"/ops/invoices/{invoice['id']}/refresh")
                pages.append(await seen(operator, f"/ops/invoices/{invoice['id']}"))
                assert invoice["client_secret"] not in pages[-1]
    told = "".join(pages) + json.dumps(logs, default=repr)
    for secret in (ADMIN, SECRET_KEY, "f00dfeed", "sandbox-generic-", "sandbox-sellapp-", "sandbox-turinpay-key"):
        assert secret not in told, secret
    assert not re.search("token=[0-9a-f]", told)


async def test_the_page_is_no_part_of_the_api(world: World) -> None:
    assert "/ops" not in (await world.http.get("/openapi.json")).text.replace("/ops`", "")
    for method, path, status in (("PUT", "/ops", 405), ("GET", "/ops/session", 405), ("GET", "/ops/nothing", 404)):
        answer = await world.http.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_an_operators_request_is_logged_under_the_name_of_the_key(
    world: World, operator: httpx.AsyncClient
) -> None:
    id = (await world.created("generic"))["id"]
    with capture_logs() as logs:
        await act(operator, f"/ops/invoices/{id}/cancel")
    lines = [line for line in logs if line["event"] == "request" and line["method"] == "POST"]
    assert [(line["route"], line["caller"], line["code"]) for line in lines] == [
        ("/ops/invoices/{id}/cancel", "sandbox", "invalid_request")
    ]
