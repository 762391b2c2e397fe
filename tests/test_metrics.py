"""A monitor reads what happened, how providers do, and what waits; dashboards and alerts name what there is."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from app.api.admission import Admission
from app.domain.errors import ProviderError
from app.domain.invoice import Invoice, Status
from app.exchange import Exchange
from app.observe import Figures, Observed
from app.provider import Provider
from app.providers import build
from tests.peer import Peer
from tests.receiver import receiving
from tests.world import ORDERS, World, open_world

pytestmark = pytest.mark.anyio

DEPLOY = Path(__file__).parent.parent / "deploy"
ALERTS = DEPLOY / "prometheus/alerts.yml"
DASHBOARD = DEPLOY / "grafana/gatehouse.json"
Labels = Mapping[str, str]


class Scrape:
    """Every sample by its name."""

    def __init__(self, text: str) -> None:
        self.samples: dict[str, list[tuple[Labels, float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of those with these labels."""
        return sum(value for held, value in self.samples[name] if labels.items() <= held.items())

    def of(self, name: str, label: str) -> set[str]:
        return {labels[label] for labels, _ in self.samples[name]}


async def scraped(world: World) -> Scrape:
    answer = await world.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Scrape(answer.text)


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[World]:
    """No provider gets much time."""
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db", provider_timeout=0.6) as world:
        yield world


# Requests


async def test_requests_are_counted_by_the_template_of_their_route(world: World) -> None:
    for id in ("inv_1", "inv_2"):
        await world.http.get(f"/v1/invoices/{id}")
    await world.http.get("/nowhere/1")
    await world.http.request("SECRET", "/v1/invoices")
    seen = await scraped(world)
    assert seen("gatehouse_requests_total", route="/v1/invoices/{id}", method="GET", status="404") == 2
    assert seen("gatehouse_requests_total", route="none", status="404") == 1
    assert seen("gatehouse_requests_total", method="other", status="405") == 1
    assert seen("gatehouse_request_seconds_count", route="/v1/invoices/{id}") == 2
    assert seen.of("gatehouse_requests_total", "route") <= {"/v1/invoices/{id}", "/v1/invoices", "none", "/metrics"}


async def test_requests_under_way_are_counted_while_they_are(world: World) -> None:
    await world.arm("generic", "create", "slow", seconds=1)
    waiting = asyncio.create_task(world.create("generic"))
    seen = await scraped(world)
    while not seen("gatehouse_provider_in_flight", provider="generic"):
        seen = await scraped(world)
    assert seen("gatehouse_requests_in_flight") == 2
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    seen = await scraped(world)
    assert (seen("gatehouse_requests_in_flight"), seen("gatehouse_provider_in_flight")) == (1, 0)
    assert seen("gatehouse_requests_total", route="/v1/invoices", status="none") == 1


async def test_who_came_too_soon_is_counted(tmp_path: Path) -> None:
    async with open_world(f"sqlite:///{tmp_path}/gatehouse.db", rate_limit=1) as world:
        answers = [await world.http.get("/v1/providers") for _ in range(4)]
        late = sum(answer.status_code == 429 for answer in answers)
        assert late > 0
        assert (await scraped(world))("gatehouse_rate_limited_total") == late


async def test_a_fault_of_ours_is_counted(world: World) -> None:
    async def breaks() -> None:
        raise RuntimeError("no")

    world.app.add_api_route("/breaks", breaks)
    assert (await scraped(world))("gatehouse_internal_errors_total") == 0
    for _ in range(2):
        assert (await world.http.get("/breaks")).status_code == 500
    assert (await scraped(world))("gatehouse_internal_errors_total") == 2


async def test_who_finds_no_room_is_counted_even_where_no_route_was_looked_for(world: World) -> None:
    figures = Figures()
    full = Observed(Admission(world.app, at_work=0, in_line=0), figures)
    assert figures.registry.get_sample_value("gatehouse_overloaded_total") == 0
    transport = httpx.ASGITransport(with_app(full, world.app))
    async with httpx.AsyncClient(transport=transport, base_url="http://gatehouse.test") as http:
        assert {(await http.get(path)).status_code for path in ("/nowhere", "/v1/invoices")} == {503}
    assert figures.registry.get_sample_value("gatehouse_overloaded_total") == 2


def with_app(door: ASGIApp, app: FastAPI) -> ASGIApp:
    """As it is asked within the application."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        await door({**scope, "app": app}, receive, send)

    return asked


async def test_a_provider_that_wants_us_to_slow_down_is_no_want_of_room(world: World) -> None:
    await world.arm("generic", "create", "status:429", times=9)
    assert (await world.create("generic")).status_code == 503
    seen = await scraped(world)
    assert seen("gatehouse_requests_total", status="503") == 1
    assert seen("gatehouse_overloaded_total") == 0


async def test_two_applications_count_for_themselves(world: World, tmp_path: Path) -> None:
    await world.http.get("/v1/invoices/inv_1")
    async with open_world(f"sqlite:///{tmp_path}/other.db", beside=world) as other:
        seen = await scraped(other)
    assert seen.samples.get("gatehouse_requests_total", []) == []


# Providers


async def test_calls_are_counted_by_what_came_of_them(world: World) -> None:
    created = await world.created("generic")
    await world.arm("generic", "get", "status:422")
    await world.http.get(f"/v1/invoices/{created['id']}", params={"refresh": "true"})
    seen = await scraped(world)
    assert seen("gatehouse_provider_calls_total", provider="generic", operation="create", outcome="ok") == 1
    assert seen("gatehouse_provider_calls_total", operation="get", outcome="provider_rejected") == 1
    assert seen("gatehouse_provider_call_seconds_count", provider="generic", operation="get") == 1
    assert seen("gatehouse_provider_wait_seconds_count", provider="generic") == 2


async def test_credentials_that_are_refused_are_counted(world: World) -> None:
    seen = await scraped(world)
    assert seen.of("gatehouse_provider_auth_failures_total", "provider") == set(ORDERS)
    assert seen("gatehouse_provider_auth_failures_total") == 0
    await world.arm("generic", "create", "status:401")
    assert (await world.create("generic")).json()["code"] == "provider_auth_failed"
    seen = await scraped(world)
    assert seen("gatehouse_provider_auth_failures_total", provider="generic") == 1
    assert seen("gatehouse_provider_auth_failures_total") == 1


async def test_an_open_circuit_is_seen(world: World) -> None:
    for _ in range(11):
        await world.arm("generic", "create", "status:500")
        await world.create("generic")
    seen = await scraped(world)
    assert seen("gatehouse_provider_circuit", provider="generic", state="open") == 1
    assert seen("gatehouse_provider_circuit", provider="generic", state="closed") == 0
    assert seen("gatehouse_provider_circuit", provider="sellapp", state="closed") == 1


async def test_a_call_that_finds_no_place_has_waited_too(hasty: World) -> None:
    await hasty.arm("generic", "create", "timeout", times=33)
    await asyncio.gather(*(hasty.create("generic", order_id=f"order-{number}") for number in range(33)))
    seen = await scraped(hasty)
    placed = seen("gatehouse_provider_wait_seconds_bucket", provider="generic", le="0.1")
    assert seen("gatehouse_provider_wait_seconds_count", provider="generic") > placed >= 32


# Drift


def at(url: str) -> Provider:
    settings = {"kind": "generic", "api_key": "a-key-that-nobody-may-see", "base_url": url}
    return build({"shop": settings}, timeout=2, clock=lambda: datetime.now(UTC))["shop"]


def an_invoice() -> Invoice:
    now = datetime.now(UTC)
    return Invoice(id="inv_1", provider="shop", status=Status.PENDING, created_at=now, updated_at=now, reference="r1")


async def looked(exchange: Exchange, provider: Provider) -> list[Mapping[str, Any]]:
    """The lines about a strange answer, after one look at an invoice."""
    with capture_logs() as logs, suppress(ProviderError):
        await exchange.run(provider, "get", provider.fetch_invoice(an_invoice()))
    return [line for line in logs if line["event"] == "provider.drifted"]


STRANGE = {
    "an unknown word": (200, b'{"id": "r1", "status": "HALF_PAID"}', "HALF_PAID"),
    "a missing field": (200, b'{"id": "r1"}', "$.status"),
    "a retyped field": (200, b'{"id": "r1", "status": "PAID", "invoiceAmount": {"hidden": 1}}', "$.invoiceAmount"),
    "a deeper one": (200, b'{"id": "r1", "status": "PAID", "transactions": [{"id": 7}]}', "$.transactions[0].id"),
    "no JSON": (200, b"<p>hidden</p>", "DecodeError"),
    "a page for an error": (400, b"<p>hidden</p>", "error 400"),
    "another form of error": (422, b'{"problem": "hidden"}', "error 422"),
}


@pytest.mark.parametrize("case", STRANGE)
async def test_what_is_strange_is_counted_and_named_without_its_value(
    case: str, exchange: Exchange, peer: Peer
) -> None:
    status, body, what = STRANGE[case]
    peer.answers(status, body)
    provider = at(peer.url)
    [line] = await looked(exchange, provider)
    assert (line["provider"], line["operation"], line["what"]) == ("shop", "get", [what])
    assert "hidden" not in str(line)
    assert exchange.lane(provider).drift == 1


FAMILIAR = {
    "a word that we know": (200, b'{"id": "r1", "status": "PAID"}'),
    "fields that we don't need": (200, b'{"id": "r1", "status": "PAID", "new": {"deep": [1, null]}}'),
    "its own form of error": (400, b'{"errors": [{"code": "LIMIT", "message": "Too much."}]}'),
    "an error without a body": (400, b""),
}


@pytest.mark.parametrize("case", FAMILIAR)
async def test_what_is_familiar_is_not_counted(case: str, exchange: Exchange, peer: Peer) -> None:
    status, body = FAMILIAR[case]
    peer.answers(status, body)
    provider = at(peer.url)
    assert await looked(exchange, provider) == []
    assert exchange.lane(provider).drift == 0


async def test_drift_is_in_the_sheet_and_in_the_figures(world: World) -> None:
    assert (await scraped(world))("gatehouse_provider_drift_total", provider="generic") == 0
    created = await world.created("generic")
    await world.arm("generic", "get", "unknown_status")
    await world.read(created["id"], refresh="true")
    await world.arm("generic", "get", "html", times=2)
    await world.read(created["id"])
    sheet = (await world.http.get("/v1/providers/generic")).json()
    assert (await scraped(world))("gatehouse_provider_drift_total", provider="generic") == sheet["health"]["drift"] > 0


async def test_a_message_never_repeats_our_credentials(exchange: Exchange, peer: Peer) -> None:
    peer.answers(403, b'{"errors": [{"code": "E", "message": "Bad key a-key-that-nobody-may-see of a@example.org."}]}')
    provider = at(peer.url)
    with pytest.raises(ProviderError) as caught:
        await exchange.run(provider, "get", provider.fetch_invoice(an_invoice()))
    assert caught.value.complaint.message == "Bad key [redacted] of [email]"


# What waits


async def test_what_waits_is_told_with_its_age(tmp_path: Path) -> None:
    async with (
        receiving() as receiver,
        open_world(f"sqlite:///{tmp_path}/gatehouse.db", webhook_url=receiver.url, provider_timeout=0.3) as world,
    ):
        empty = await scraped(world)
        created = await world.created("generic")
        await world.arm("generic", "create", "timeout")
        await world.create("generic")
        await world.arm("generic", "get", "timeout", times=2)
        await world.settle("generic", created["provider_invoice_id"], "paid", notify="once")
        world.clock.pass_time(seconds=100)
        pending = (await world.http.get("/v1/deliveries", params={"state": "pending"})).json()["data"]
        seen = await scraped(world)
    assert seen("gatehouse_store_up") == 1
    for name in ("inbox_open", "inbox_oldest_seconds", "deliveries_pending", "deliveries_oldest_seconds"):
        assert empty(f"gatehouse_{name}") == 0
    assert seen("gatehouse_unresolved_creates", provider="generic") == 1
    assert seen("gatehouse_unresolved_oldest_seconds", provider="generic") >= 100
    assert seen("gatehouse_inbox_open") == 1
    assert seen("gatehouse_inbox_oldest_seconds") >= 100
    assert seen("gatehouse_deliveries_pending") == len(pending) > 0
    assert seen("gatehouse_deliveries_oldest_seconds") >= 100
    assert seen("gatehouse_receivers_paused") == 0


def test_to_count_is_cheap() -> None:
    figures = Figures()
    for _ in range(3):
        figures.answered("/v1/invoices/{id}", "GET", 200, 0.01)
        figures.called("shop", "get", "ok", 0.01)
    assert len(figures._requests) == len(figures._calls) == 1


# Dashboards and alerts


def expressions() -> Iterator[str]:
    board = json.loads(DASHBOARD.read_text())
    yield from (target["expr"] for panel in board["panels"] for target in panel.get("targets", ()))
    yield from (variable["query"] for variable in board["templating"]["list"])
    yield from (rule["expr"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"])


@pytest.fixture
async def worked(hasty: World) -> World:
    """It has done some of everything."""
    await hasty.created("generic")
    await hasty.http.get("/v1/invoices")
    await hasty.arm("generic", "create", "timeout")
    await hasty.create("generic")
    return hasty


async def test_dashboards_and_alerts_name_what_there_is(worked: World) -> None:
    seen = await scraped(worked)
    named = {name for text in expressions() for name in re.findall(r"gatehouse_\w+", text)}
    assert len(named) > 15
    assert named - seen.samples.keys() == set()


async def test_every_label_in_them_exists(worked: World) -> None:
    seen = await scraped(worked)
    for text in expressions():
        for name, selector in re.findall(r"(gatehouse_\w+)\{([^}]*)\}", text):
            chosen = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector))
            assert all(chosen <= labels.keys() for labels, _ in seen.samples[name]), text


async def test_what_an_alert_hears_rise_from_nothing_is_there_before_it_does(world: World) -> None:
    """To Prometheus a series that begins at 1 has not risen."""
    seen = await scraped(world)
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    risen = re.compile(r"(?:rate|increase)\((\w+)(?:\{[^}]*\})?\[\w+\]\)\)? > 0$")
    heard = {found[1] for rule in rules if (found := risen.search(rule["expr"]))}
    assert len(heard) == 3
    assert all(seen.samples.get(name) and seen(name) == 0 for name in heard)


def test_the_rules_have_the_form_of_rules() -> None:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert all(group.keys() == {"name", "rules"} for group in groups)
    for rule in rules:
        assert (
            {"alert", "expr", "labels", "annotations"}
            <= rule.keys()
            <= {"alert", "expr", "for", "labels", "annotations"}
        )
        assert re.fullmatch(r"Gatehouse[A-Z][A-Za-z]+", rule["alert"])
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"].keys() == {"summary", "description"}
        assert all(rule["expr"].count(a) == rule["expr"].count(b) for a, b in ("()", "[]", "{}"))
    assert len({rule["alert"] for rule in rules}) == len(rules)


PROMTOOL = shutil.which("promtool") or ""


@pytest.mark.skipif(not PROMTOOL, reason="there is no promtool here")
def test_promtool_takes_the_rules() -> None:
    done = subprocess.run([PROMTOOL, "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_has_the_form_of_one() -> None:
    board = json.loads(DASHBOARD.read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["type"] == "row" or all(target["expr"] for target in panel["targets"])
