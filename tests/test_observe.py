"""Each request has an id, safe headers and one line in the log; and no line tells a secret."""

import asyncio
import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI, Request, Response
from pydantic import SecretStr
from structlog.contextvars import bind_contextvars, get_contextvars
from structlog.testing import capture_logs

from app.observe import Foreign, Observed, cleared, note, redacted, rendered, shown, upstream
from app.observe.lines import Stopwatch
from tests.callers import bare, bearer, behind_doors, knocking
from tests.world import World

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def app() -> FastAPI:
    app = bare()

    @app.get("/things/{id}", operation_id="readThing")
    async def thing(id: str, request: Request) -> Any:
        note(request.scope, provider="shop2", invoice_id="inv_1")
        await asyncio.sleep(0)
        return get_contextvars()

    @app.get("/v1/kept")
    async def kept() -> Response:
        return Response(headers={"Cache-Control": "max-age=5", "Content-Security-Policy": "default-src 'self'"})

    @app.get("/asks")
    async def asks() -> None:
        async def ask(seconds: float) -> None:
            with upstream():
                await asyncio.sleep(seconds)

        await asyncio.gather(ask(0.2), ask(0.1))
        await asyncio.sleep(0.05)

    @app.get("/breaks")
    async def breaks() -> None:
        raise RuntimeError("no")

    return behind_doors(app)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with knocking(app) as client:
        yield client


def lines(logs: list[Any]) -> list[Any]:
    return [line for line in logs if line["event"] == "request"]


@pytest.mark.parametrize("sane", ["a", "order-17.retry_2", "A" * 128])
async def test_a_sane_request_id_is_kept(sane: str, client: httpx.AsyncClient) -> None:
    answer = await client.get("/things/1", headers={"X-Request-Id": sane})
    assert answer.headers["x-request-id"] == sane


@pytest.mark.parametrize("odd", ["", "a b", "a\nb", "A" * 129, "ä", '"', "a/b"])
async def test_an_odd_request_id_is_replaced(odd: str, client: httpx.AsyncClient) -> None:
    answer = await client.get("/things/1", headers={b"X-Request-Id": odd.encode()})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_no_two_requests_have_the_same_id(client: httpx.AsyncClient) -> None:
    ids = {(await client.get("/things/1")).headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


EVERYWHERE = ["/things/1", "/nowhere", "/breaks", "/v1/invoices", "/docs", "/docs/static/swagger-ui.css"]


@pytest.mark.parametrize("path", EVERYWHERE)
async def test_every_response_has_an_id_and_safe_headers(path: str, client: httpx.AsyncClient) -> None:
    with capture_logs():
        answer = await client.get(path, headers={"X-Request-Id": "mine"})
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_what_is_about_invoices_is_not_stored_on_the_way(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/invoices")).headers["cache-control"] == "no-store"
    assert "cache-control" not in (await client.get("/things/1")).headers


async def test_a_page_that_says_itself_what_it_needs_is_left_alone(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/kept")
    assert answer.headers.get_list("cache-control") == ["max-age=5"]
    assert answer.headers.get_list("content-security-policy") == ["default-src 'self'"]


async def test_a_request_is_told_in_one_line(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        await client.get("/things/secret-path?secret=query", headers={"X-Request-Id": "mine"})
    [line] = logs
    assert line.pop("ms") == pytest.approx(line.pop("own_ms") + line.pop("provider_ms"), abs=0.02)
    assert line == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "route": "/things/{id}",
        "operation": "readThing",
        "status": 200,
        "code": "ok",
        "request_id": "mine",
        "provider": "shop2",
        "invoice_id": "inv_1",
    }


async def test_the_line_of_a_failure_has_its_code_and_who_called(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        await client.get("/v1/invoices?limit=0", headers=bearer("read"))
    [line] = lines(logs)
    assert (line["status"], line["code"], line["caller"]) == (422, "invalid_request", "the read")
    assert line["route"] == "/v1/invoices"


async def test_an_address_that_does_not_exist_is_not_repeated(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        await client.get("/nowhere/whatever-is-secret")
    [line] = lines(logs)
    assert (line["route"], line["status"]) == (None, 404)
    assert "whatever-is-secret" not in str(logs)


async def test_a_sign_of_life_is_not_worth_a_line(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        await client.get("/livez")
    assert [line["log_level"] for line in lines(logs)] == ["debug"]


async def test_whatever_is_told_on_the_way_has_the_request_and_the_caller(client: httpx.AsyncClient) -> None:
    bind_contextvars(left="over")
    context = await client.get("/things/1", headers={"X-Request-Id": "mine"})
    assert context.json() == {"request_id": "mine"}


async def test_the_time_of_providers_is_told_apart_from_our_own(client: httpx.AsyncClient) -> None:
    """However many are asked at the same time, and whichever task does it."""
    with capture_logs() as logs:
        answer = await client.get("/asks")
    [line] = lines(logs)
    assert 195 < line["provider_ms"] < 290
    assert 45 < line["own_ms"] < 140
    assert line["ms"] == pytest.approx(line["provider_ms"] + line["own_ms"], abs=0.02)
    said = re.fullmatch(r"provider;dur=([0-9.]+), own;dur=([0-9.]+)", answer.headers["server-timing"])
    assert said
    assert float(said[1]) == pytest.approx(line["provider_ms"], abs=0.1)
    assert float(said[2]) <= line["own_ms"] + 0.1


def test_a_watch_runs_while_anything_is_under_way() -> None:
    watch = Stopwatch()
    with watch, watch:
        pass
    ended = watch.seconds()
    assert watch.seconds() == ended > 0
    with watch:
        assert watch.seconds() > ended


async def test_nobody_waits_for_what_no_request_asked() -> None:
    with upstream():
        await asyncio.sleep(0)


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NO_TRACES = [
    "",
    TRACE.upper(),
    f"ff{TRACE[2:]}",
    f"{TRACE}-more",
    f"00-{'0' * 32}-00f067aa0ba902b7-01",
    f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
    f"{TRACE},{TRACE}",
]


async def test_the_trace_of_a_caller_is_in_the_line(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        answer = await client.get("/things/1", headers={"traceparent": TRACE})
    [line] = lines(logs)
    assert line["traceparent"] == answer.json()["traceparent"] == TRACE


@pytest.mark.parametrize("odd", NO_TRACES)
async def test_what_is_no_trace_is_left_out(odd: str, client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        answer = await client.get("/things/1", headers={"traceparent": odd})
    [line] = lines(logs)
    assert "traceparent" not in line | answer.json()


async def test_a_trace_sent_twice_is_none(client: httpx.AsyncClient) -> None:
    answer = await client.get("/things/1", headers=[("traceparent", TRACE), ("traceparent", TRACE)])
    assert "traceparent" not in answer.json()


async def test_a_trace_goes_on_to_the_provider(world: World) -> None:
    invoice = await world.created("generic")
    await world.http.get(f"/v1/invoices/{invoice['id']}?refresh=true", headers={"traceparent": TRACE})
    create, look = await world.requests("generic")
    assert "traceparent" not in create["headers"]
    assert look["headers"]["traceparent"] == TRACE


async def test_the_line_has_what_the_provider_took(world: World) -> None:
    await world.arm("generic", "create", "slow", seconds=0.3)
    with capture_logs() as logs:
        await world.create("generic")
    [line] = lines(logs)
    assert line["provider_ms"] > 290
    assert line["own_ms"] < 200
    assert (line["operation"], line["provider"], line["code"]) == ("createInvoice", "generic", "ok")


async def test_many_requests_at_once_do_not_mix(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.get("/things/1", headers={"X-Request-Id": f"r{n}"}) for n in range(20)))
    assert [answer.json()["request_id"] for answer in answers] == [f"r{n}" for n in range(20)]


async def test_what_is_no_request_passes_through() -> None:
    seen = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    await Observed(inner)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == [{"type": "lifespan"}]


async def test_a_request_that_breaks_off_is_told_too() -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await Observed(inner)(scope, None, None)  # type: ignore[arg-type]
    assert [line["status"] for line in logs] == [None]


SECRETS = [
    "client_secret",
    "phone",
    "cardNumber",
    "token",
    "Authorization",
    "api_key",
    "x-api-key",
    "password",
    "cookie",
    "signature",
]


@pytest.mark.parametrize("name", SECRETS)
def test_nothing_is_told_under_a_secrets_name(name: str) -> None:
    event = {"event": "a", name: "hidden", "in": {name: "hidden", "on": [{name: ["hidden"]}]}}
    assert "hidden" not in rendered(None, "", redacted(None, "", event)).decode()


def test_the_rest_is_told_as_it_is() -> None:
    event = {"event": "a", "caller": "shop", "ms": 1.5, "none": None, "list": [1, "b"], "map": {"c": (True,)}}
    assert json.loads(rendered(None, "", redacted(None, "", event))) == {**event, "map": {"c": [True]}}


@pytest.mark.parametrize("text", ["a.reader+x@example.org", "to <a@example.org>, twice a@b", "mail=a@example.org"])
def test_no_e_mail_address_is_told(text: str) -> None:
    told = rendered(None, "", redacted(None, "", {"event": text, "deep": [{"x": text}]})).decode()
    assert "@" not in told
    assert "[email]" in told


PAID_WITH = f"inv_01m88revtweny9axwjjgsyggzv.{'3f' * 20}"
HIDDEN = {
    "4111111111111111": "[card]",
    "Paid with 4111 1111 1111 1111.": "Paid with [card].",
    "order-5555-5555-5555-4444": "order-[card]",
    "3782 822463 10005": "[card]",
    "card=6011111111111117&x=1": "card=[card]&x=1",
    "/pay/x?token=abc.def&y=1": "/pay/x?token=[redacted]&y=1",
    "https://a.example/?client_secret=abc&access_token=def#x": (
        "https://a.example/?client_secret=[redacted]&access_token=[redacted]#x"
    ),
    "postgresql://me:pa,ss@db.example:5432/x": "postgresql://[redacted]@db.example:5432/x",
    "Authorization: Bearer abc.def": "Authorization: Bearer [redacted]",
    "signed with whsec_c2VjcmV0": "signed with whsec_[redacted]",
    "https://a.example/?mail=a.b%40example.org&x=1": "https://a.example/?mail=[email]&x=1",
    "token: abc.def": "token: [redacted]",
    "api_key=sk_live_1": "api_key=[redacted]",
    "X-API-Key:sk_live_1 was refused": "X-API-Key:[redacted] was refused",
    "{'apiKey': 'sk_live_1', 'a': 1}": "{'apiKey': '[redacted]', 'a': 1}",
    r'{"said": "{\"password\":\"abc\"}"}': r'{"said": "{\"password\":\"[redacted]"}"}',
    "/x?sig=abc": "/x?sig=[redacted]",
    "BEARER abc.def": "BEARER [redacted]",
    "bearer\tabc.def": "bearer\t[redacted]",
    "key: Bearer abc.def": "key: [redacted] [redacted]",
    "with Basic dXNlcjpwYXNz,": "with Basic [redacted],",
    "authorization: basic dXNlcjpwYXNz": "authorization: basic [redacted]",
    "Authorization: sk_live_1 was refused": "Authorization: [redacted] was refused",
    f"https://pay.example/pay/{PAID_WITH}?x=1": f"https://pay.example/pay/{PAID_WITH[:31]}[redacted]?x=1",
    PAID_WITH.replace(".", "%2E"): f"{PAID_WITH[:30]}%2E[redacted]",
}


@pytest.mark.parametrize("text", HIDDEN)
def test_no_secret_is_told_in_a_text(text: str) -> None:
    assert cleared(text) == HIDDEN[text]


PLAIN = [
    "4111111111111112",  # its digits don't add up
    "1764028800123",  # a time in milliseconds
    "2026-11-25T12:00:00.123456Z",
    "x4111111111111111",  # part of a word
    "550e8400-1111-4111-1111-111111111111",
    "inv_01m88revtweny9axwjjgsyggzv",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "a=b?c=d",
    "the key is wrong: try another",
    "basic words, and design=3",
    "inv_01m88revtweny9axwjjgsyggzv.pdf",
]


@pytest.mark.parametrize("text", PLAIN)
def test_what_only_looks_like_a_secret_is_told(text: str) -> None:
    assert cleared(text) == text


def test_a_card_is_no_number_either() -> None:
    assert shown("", [4111111111111111, 4111111111111112, True, 7]) == ["[card]", 4111111111111112, True, 7]


def test_an_endless_text_costs_no_endless_time() -> None:
    """Ten times as long, it would cost a hundred times as much where it is read again for each of its characters."""
    assert seconds_of(10) < 30 * seconds_of(1)


def seconds_of(times: int) -> float:
    """Of the processor, for texts of many beginnings without an end; the fastest of three."""
    address = "@" + "a" * 2000 * times + "://" * 100 * times + "?" * 500 * times + "=" + "4" * 2000 * times
    quoted, words = "key" + "'" * 900 * times, "token: " * 30 * times + "basic " * 300 * times + "a" * 900 * times
    text = quoted + words + "inv_" * 300 * times + "bearer" + " " * 900 * times
    took = []
    for _ in range(3):
        began = time.process_time()
        cleared(address)
        cleared(text)
        took.append(time.process_time() - began)
    return min(took)


def test_an_object_is_told_by_its_type() -> None:
    told = rendered(None, "", redacted(None, "", {"event": "a", "one": SecretStr("hidden"), "two": object()}))
    assert json.loads(told) == {"event": "a", "one": "<SecretStr>", "two": "<object>"}


def test_a_line_cannot_be_forged() -> None:
    assert b"\n" not in rendered(None, "", {"event": 'a\n{"event": "forged"}'})


def test_a_library_is_told_like_our_own() -> None:
    record = logging.LogRecord("lib", logging.WARNING, "path", 1, "%s went wrong", ("It",), None)
    with capture_logs() as logs:
        Foreign().emit(record)
    assert logs == [{"event": "It went wrong", "logger": "lib", "exc_info": None, "log_level": "warning"}]


TELLS = """
import logging, structlog
from app.observe import configure_logging
configure_logging("info")
log = structlog.get_logger()
log.debug("unheard")
structlog.contextvars.bind_contextvars(request_id="mine")
log.info("heard", api_key="hidden", to="a@example.org")
logging.getLogger("httpx").info("GET https://example.org/?token=hidden")
logging.getLogger("lib").warning("warned")
logging.getLogger("uvicorn.error").info("started")
def fail(password):
    unsaid = "hidden"
    raise ValueError("for a@example.org")
try:
    fail("hidden")
except ValueError:
    log.exception("failed")
"""


def test_a_process_tells_json_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", TELLS], capture_output=True, text=True, timeout=30, check=True)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr == ""
    assert [(line["event"], line["level"]) for line in told] == [
        ("heard", "info"),
        ("warned", "warning"),
        ("started", "info"),
        ("failed", "error"),
    ]
    assert told[0] | {"timestamp": ""} == {
        "event": "heard",
        "level": "info",
        "timestamp": "",
        "request_id": "mine",
        "api_key": "[redacted]",
        "to": "[email]",
    }
    assert "hidden" not in done.stdout
    assert "@" not in done.stdout
    [failure] = told[3]["exception"]
    assert (failure["exc_type"], failure["exc_value"]) == ("ValueError", "for [email]")
    assert [frame["name"] for frame in failure["frames"]] == ["<module>", "fail"]


async def test_the_caller_is_in_every_line_of_a_request(app: FastAPI, client: httpx.AsyncClient) -> None:
    seen = {}

    def look(_logger: Any, _method: str, event: Any) -> Any:
        seen.update(get_contextvars())
        raise structlog.DropEvent

    with capture_logs() as logs:
        structlog.get_config()["processors"].insert(0, look)
        await client.get("/v1/invoices?limit=0", headers=bearer("write") | {"X-Request-Id": "mine"})
    assert not logs
    assert seen == {"request_id": "mine", "caller": "the write"}
