"""Secrets and people's data that are easily recognised go down every road, and turn up only where they are meant to."""

import asyncio
import json
import re
import sqlite3
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import structlog
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.responses import Response

from app.exchange import Exchange
from app.observe import configure_logging
from app.provider import Flow, Provider, Secret
from app.settings import SANDBOX_KEY
from app.simulator import credentials
from app.simulator.faults import TRICKS
from app.wire import Wire
from tests.callers import bare, behind_doors, knocking
from tests.logs import logging_kept
from tests.peer import Peer, open_peer
from tests.processes import free_port, ran
from tests.receiver import SECRET, receiving
from tests.terminal import ended
from tests.world import SECRET_KEY, World, open_world

pytestmark = pytest.mark.anyio

KINDS = ["sellapp", "bluetape", "turinpay", "generic"]
FAULTS = [*TRICKS, *(f"status:{status}" for status in (301, 400, 401, 403, 404, 409, 422, 500))]

# People's data, and secrets of our callers, of our own, of our receivers and of providers.
CARD, SPACED, EMAIL, PHONE = "4111111111111111", "5555 5555 5555 4444", "canary.person@people.example", "+15550100199"
CALLER, GUESS, PARAMETER = "canary-caller-key-0001", "canary-guessed-key-0002", "canary-parameter-0003"
PASSWORD, RECEIVERS, ECHOED = "canary-db-password-0004", "canary-receiver-token-0005", "canary-provider-key-0006"
SIGNATURE, COOKIE = "canary-signature-0007", "canary-cookie-0008"
ACCOUNTS = credentials("http://127.0.0.1:1")
SIGN_INS = {
    value
    for account in ACCOUNTS.values()
    for name, value in account.items()
    if name.endswith(("key", "secret", "account_id"))
}
SECRETS = {
    *SIGN_INS,
    *(CALLER, GUESS, PARAMETER, PASSWORD, ECHOED, SIGNATURE, COOKIE),
    *(SANDBOX_KEY, SECRET_KEY, SECRET, SECRET.removeprefix("whsec_")),
}
PERSONAL = {CARD, SPACED, EMAIL, PHONE}

# Where it is meant to be kept: what people wrote, what providers and we say of an invoice, and where that is told.
MEANT_FOR = {
    "invoices": {"customer", "metadata", "description", "order_id", "items", "options", "raw", "callback_url"},
    "events": {"data"},
    "inbox": {"body"},
    "deliveries": {"url"},
    "idempotency_keys": {"answer", "value"},
}
ORDER: dict[str, Any] = {
    "description": f"Card {SPACED}, for {EMAIL}",
    "metadata": {"card": CARD, "mail": EMAIL},
    "order_id": f"order-{CARD}",
    "customer": {"email": EMAIL, "name": "Canary Person", "phone": PHONE},
}


@dataclass
class Heard:
    """What came out: the log, the answers with a problem, the traces, and the figures. `made` are secrets of ours."""

    log: BytesIO
    problems: list[str] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    made: set[str] = field(default_factory=set)

    async def answered(self, answer: httpx.Response) -> None:
        await answer.aread()
        if answer.status_code >= 400:
            self.problems.append(f"{answer.status_code} {dict(answer.headers)} {answer.text}")

    @property
    def lines(self) -> list[str]:
        return self.log.getvalue().decode().splitlines()

    def leaks(self) -> list[str]:
        told = {"log": self.lines, "problems": self.problems, "traces": self.traces, "figures": self.figures}
        return [
            f"{canary!r} in {place}: {text[:600]}"
            for place, texts in told.items()
            for text in texts
            for canary in (*found(text, SECRETS | PERSONAL | {RECEIVERS}), *(one for one in self.made if one in text))
        ]


def found(text: str, canaries: Iterable[str]) -> list[str]:
    return [canary for canary in canaries if any(form in text for form in FORMS[canary])]


def forms(canary: str) -> set[str]:
    """As it is, in a URL, in JSON, in hexadecimal digits, in base64 wherever it begins, and by halves."""
    raw, half = canary.encode(), len(canary) // 2
    coded = {b64encode(b"\0" * shift + raw)[4 * bool(shift) : -4].decode() for shift in range(3)}
    halves = {canary[:half], canary[half:]} if half >= 12 else set()
    return {canary, quote(canary, safe=""), json.dumps(canary)[1:-1], raw.hex(), *coded, *halves}


FORMS = {canary: forms(canary) for canary in SECRETS | PERSONAL | {RECEIVERS}}


@pytest.fixture
def heard() -> Iterator[Heard]:
    """The log as it is in service at its most talkative; afterwards all is as it was."""
    with logging_kept():
        heard = Heard(BytesIO())
        configure_logging("debug", heard.log)
        structlog.configure(**structlog.get_config() | {"cache_logger_on_first_use": False})
        yield heard


@asynccontextmanager
async def overheard(heard: Heard, folder: Path, name: str = "one", **options: Any) -> AsyncIterator[World]:
    """A world whose every problem is heard, and whose traces and figures are in the end."""
    keys = f"admin:admin:{SANDBOX_KEY},shop:write:{CALLER}"
    url = f"sqlite:///{folder}/{name}.db"
    async with open_world(url, api_keys=keys, provider_timeout=0.3, webhook_secret=SECRET, **options) as world:
        world.http.event_hooks["response"].append(heard.answered)
        yield world
        listed = (await world.http.get("/v1/invoices", params={"limit": 100})).json()["data"]
        for id in {invoice["id"] for invoice in listed}:
            trace = await world.http.get(f"/v1/invoices/{id}/trace")
            heard.traces += [json.dumps(step, ensure_ascii=False) for step in trace.json()["data"]]
        heard.figures.append((await world.http.get("/metrics")).text)


def stray(file: Path) -> list[str]:
    """What is in the file where it is not meant to be; of secrets, whatever is in it at all."""
    with closing(sqlite3.connect(file)) as connection:
        connection.text_factory = lambda raw: raw.decode(errors="replace")
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [
            f"{canary!r} in {table}.{column}: {str(value)[:300]}"
            for table in tables
            for column, value in cells(connection, table)
            for canary in found(value, SECRETS if column in MEANT_FOR.get(table, ()) else SECRETS | PERSONAL)
        ]


def cells(connection: sqlite3.Connection, table: str) -> Iterator[tuple[str, str]]:
    rows = connection.execute(f"SELECT * FROM {table}")  # noqa: S608  # a name of the schema
    columns = [column[0] for column in rows.description]
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            yield column, value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def test_a_canary_is_found_in_every_form() -> None:
    base64 = b64encode(b"ab" + CALLER.encode()).decode()
    for text in (f"x{CALLER}y", quote(EMAIL), CALLER.encode().hex(), base64, SECRET_KEY[:19]):
        assert found(text, [CALLER, EMAIL, SECRET_KEY]), text
    assert not found("canary", [CALLER, EMAIL])


# Roads


async def test_what_goes_well_tells_no_secret(heard: Heard, tmp_path: Path) -> None:
    async with receiving() as receiver:
        told: dict[str, Any] = {"webhook_url": receiver.url, "worker": True, "delivery_schedule": (0.1, 0.1)}
        async with overheard(heard, tmp_path, **told) as world:
            for kind in KINDS:
                key = {"Authorization": f"Bearer {CALLER}", "Idempotency-Key": f"order of {EMAIL}"}
                address = f"{receiver.url}?token={RECEIVERS}"
                created = await world.created(kind, **ORDER, callback_url=address)
                heard.made |= {created["client_secret"], *await tokens(world, kind)}
                assert (await world.http.get("/v1/invoices", headers=key)).status_code == 200
                await world.http.get(f"/pay/{created['client_secret']}")
                await world.read(created["id"], refresh="true")
                await world.checkout(created["id"])
                await world.settle(kind, reference(created), "paid", notify="twice")
                await world.settle(kind, reference(created), "paid", notify="forged")
            await world.http.get("/v1/events")
            await receiver.has(len(KINDS) + 1)
    assert heard.leaks() == []
    assert stray(tmp_path / "one.db") == []
    assert len(heard.made) > len(KINDS)
    assert "provider.answered" in str(heard.lines)
    assert "[card]" in str(heard.traces)
    assert "[email]" in str(heard.traces)
    assert "token=[redacted]" in str(heard.traces)


async def tokens(world: World, kind: str) -> set[str]:
    """Of the addresses that the provider was given."""
    return set(re.findall(r"[?&]token=([\w.-]+)", json.dumps(await world.requests(kind))))


def reference(invoice: dict[str, Any]) -> str:
    return str(invoice["provider_invoice_id"] or invoice["id"])


@pytest.mark.parametrize("kind", KINDS)
async def test_no_fault_of_a_provider_tells_a_secret(kind: str, heard: Heard, tmp_path: Path) -> None:
    async with overheard(heard, tmp_path) as world:
        created = await world.created(kind, **ORDER)
        for fault in FAULTS:
            await world.sandbox.delete(f"/_control/{kind}/faults")
            for operation in ("create", "get", "checkout"):
                await world.arm(kind, operation, fault, times=2, seconds=0.1)
            await asyncio.gather(
                world.create(kind, **ORDER),
                world.http.get(f"/v1/invoices/{created['id']}", params={"refresh": "true"}),
                world.checkout(created["id"]),
            )
            world.clock.pass_time(seconds=90)
    assert heard.leaks() == []
    assert stray(tmp_path / "one.db") == []
    assert len(heard.problems) > 20


async def test_a_provider_that_repeats_what_it_was_told_gives_nothing_away(heard: Heard, tmp_path: Path) -> None:
    said = f"Card {CARD} or {SPACED} of {EMAIL}, key {ECHOED}, see https://x.example/?token={PARAMETER}"
    error = json.dumps({"errors": [{"code": f"E {ECHOED}", "message": said}]}).encode()
    strange = {"id": f"r-{CARD}", "echo": {"said": said, "headers": {"api-key": ECHOED}}, "card": int(CARD)}
    async with open_peer() as peer:
        accounts = {"echo": {"kind": "generic", "api_key": ECHOED, "base_url": peer.url}}
        async with overheard(heard, tmp_path, accounts=accounts) as world:
            order = {**ORDER, "provider": "echo", "amount": "1.00", "currency": "EUR"}
            peer.answers(200, json.dumps(strange).encode())
            peer.answers(200, json.dumps({"id": f"r-{CARD}", "status": f"{EMAIL} {CARD}"}).encode())
            created = (await world.http.post("/v1/invoices", json=order)).json()
            await world.http.get(f"/v1/invoices/{created['id']}", params={"refresh": "true"})
            for status in (400, 401, 403, 404, 409, 422, 429):
                peer.answers(status, error)
                peer.answers(status, error)
                peer.answers(200, b"[]")
                await world.http.post("/v1/invoices", json={**order, "order_id": f"{status} {EMAIL}"})
                peer.manners.clear()
            for _ in range(9):
                peer.answers(200, b"[]")
    assert heard.leaks() == []
    assert "[card]" in str(heard.problems)
    assert "[redacted]" in str(heard.traces)


async def test_neither_an_echo_nor_an_operators_reason_tells_one(world: World) -> None:
    traces = world.app.state.services.history.traces
    traces.echo("inv_1", f"PAID {CARD}", "pending")
    traces.operator("inv_1", by="admin", action="noted", reason=f"asked by {EMAIL}")
    echo, operator = traces.waiting
    assert (echo.facts["provider_status"], operator.facts["reason"]) == ("PAID [card]", "asked by [email]")


async def test_forged_and_odd_notifications_tell_no_secret(heard: Heard, tmp_path: Path) -> None:
    body = json.dumps({"event": "invoice.paid", "data": {"id": 1, "email": EMAIL, "card": CARD}}).encode()
    names = ("signature", "kun-signature", "webhook-signature", "authorization", "cookie")
    async with overheard(heard, tmp_path) as world:
        created = await world.created("turinpay")
        for kind in [*KINDS, "nobody"]:
            for content in (body, b"card " + CARD.encode(), b"\xff" + EMAIL.encode(), b""):
                address, headers = f"/webhooks/{kind}", dict.fromkeys(names, SIGNATURE)
                await world.http.post(address, content=content, headers=headers)
                await world.http.post(f"{address}/{created['id']}?token={PARAMETER}", content=content, headers=headers)
    assert heard.leaks() == []
    assert stray(tmp_path / "one.db") == []
    assert len(heard.problems) == 40


async def test_a_delivery_that_fails_tells_no_secret(heard: Heard, tmp_path: Path) -> None:
    def answers(_event: dict[str, Any]) -> Response:
        return Response(f"{CARD} {EMAIL} {SECRET}", 500, headers={"Set-Cookie": f"a={COOKIE}"})

    async with receiving(answers=answers) as receiver:
        told: dict[str, Any] = {"webhook_url": receiver.url, "worker": True, "delivery_schedule": (0.05, 0.05)}
        async with overheard(heard, tmp_path, **told) as world:
            refusing = f"http://127.0.0.1:{free_port()}/hooks?token={RECEIVERS}"
            for address in (f"{receiver.url}?token={RECEIVERS}", refusing):
                await world.created("generic", **ORDER, callback_url=address)
            async with asyncio.timeout(10):
                while len(failed := await deliveries(world)) < 2:
                    await asyncio.sleep(0.05)
            await world.http.post(f"/v1/deliveries/{failed[0]['id']}/redeliver", json={})
    assert heard.leaks() == []
    assert stray(tmp_path / "one.db") == []
    assert "delivery.attempted" in str(heard.lines)


async def deliveries(world: World) -> list[dict[str, Any]]:
    found = await world.http.get("/v1/deliveries", params={"state": "failed"})
    listed: list[dict[str, Any]] = found.json()["data"]
    return listed


ODD_BODIES = [
    {"provider": "generic", "amount": f"{CARD}.123", "currency": EMAIL, "card": CARD},
    {"provider": EMAIL, "amount": CARD, "currency": "EUR"},
    {"provider": "generic", "amount": "1.00", "currency": "EUR", "customer": {"email": f"{EMAIL} {CARD}"}},
    {"provider": "generic", "amount": "1.00", "currency": "EUR", "metadata": {"a": {"b": CARD}}},
    {"provider": "generic", "amount": "1.00", "currency": "EUR", "redirect_url": f"javascript:{PARAMETER}"},
    {"provider": "generic", "amount": "1.00", "currency": "EUR", "callback_url": f"ftp://{EMAIL}/{PARAMETER}"},
    {"provider": "sellapp", **ORDER, "items": [{"variant_id": CARD}], "provider_options": {"coupon": [PARAMETER]}},
]


async def test_what_a_caller_gets_wrong_is_not_repeated(heard: Heard, tmp_path: Path) -> None:
    async with overheard(heard, tmp_path) as world:
        for body in ODD_BODIES:
            await world.http.post("/v1/invoices", json=body)
        await world.http.post("/v1/invoices", content=f'{{"a": "{CARD}", "a": "{EMAIL}"'.encode())
        for address in (
            f"/v1/invoices?token={PARAMETER}&limit={CARD}",
            f"/v1/invoices?order_id={CARD}&cursor={PARAMETER}",
            f"/v1/invoices/{CARD}",
            f"/v1/providers/{EMAIL}",
            f"/pay/{PARAMETER}",
            f"/nowhere/{PARAMETER}/{EMAIL}?key={CALLER}",
        ):
            headers = {"Cookie": f"session={COOKIE}", "traceparent": PARAMETER, "X-Request-Id": f"a {PARAMETER}"}
            await world.http.get(address, headers=headers)
            await world.http.get(address, headers={**headers, "Authorization": f"Bearer {GUESS}"})
            await world.http.get(address, headers={**headers, "Authorization": f"Basic {GUESS}"})
    assert heard.leaks() == []
    assert stray(tmp_path / "one.db") == []
    assert len(heard.problems) > 20


class Broken(Provider):
    """A provider that exists in this file only, and has a mistake in it."""

    create_recovery = "by_reference"
    api_key: Secret

    def break_down(self) -> Flow[None]:
        key = self.api_key.get_secret_value()
        yield self.call("POST", "/pay", json={"card": CARD, "key": key})
        raise RuntimeError(f"{EMAIL} with {CARD} or {SPACED} at https://x.example/?token={PARAMETER}, Bearer {key}")


async def test_a_crash_tells_no_secret(heard: Heard, tmp_path: Path) -> None:
    """Of a flow, and of the store."""
    hooks = {"response": [heard.answered]}
    async with open_peer() as peer, Wire() as carrier, knocking(broken(peer, carrier), event_hooks=hooks) as client:
        assert (await client.get("/breaks")).status_code == 500
    async with overheard(heard, tmp_path) as world:
        with closing(sqlite3.connect(tmp_path / "one.db")) as connection:
            connection.execute("ALTER TABLE idempotency_keys RENAME COLUMN fingerprint TO lost")
            connection.commit()
        answer = await world.http.post(
            "/v1/invoices",
            json={"provider": "generic", "amount": "1.00", "currency": "EUR", **ORDER},
            headers={"Idempotency-Key": f"{CARD} {EMAIL}"},
        )
        assert answer.status_code == 500
    assert heard.leaks() == []
    assert str(heard.lines).count('"request.failed"') == 2
    assert "RuntimeError" in str(heard.lines)


def broken(peer: Peer, carrier: Wire) -> FastAPI:
    exchange = Exchange(wire=carrier)
    app, provider = bare(), Broken(name="broken", base_url=peer.url, api_key=SecretStr(ECHOED))
    peer.answers(200)

    @app.get("/breaks")
    async def breaks() -> None:
        await exchange.run(provider, "create", provider.break_down(), "inv_1")

    return behind_doors(app)


PRODUCTION = {
    "GATEHOUSE_PROVIDERS__TURINPAY__API_KEY": ECHOED,
    "GATEHOUSE_API_KEYS": f"shop:write:{CALLER}",
    "GATEHOUSE_SECRET_KEY": SECRET_KEY,
    "GATEHOUSE_LOG_LEVEL": "debug",
}
WRONG = {
    "another kind of store": {"GATEHOUSE_DATABASE_URL": f"oracle://me:{PASSWORD}@db.example/pay"},
    "keys without roles": {"GATEHOUSE_API_KEYS": f"{CALLER},{GUESS}"},
    "a webhook secret that is none": {"GATEHOUSE_WEBHOOK_SECRET": PARAMETER},
    "a proxy that is none": {"GATEHOUSE_EGRESS_PROXY": f"me:{PASSWORD}@proxy.example"},
    "limits that are shared nowhere": {"GATEHOUSE_REDIS_URL": f"memcached://me:{PASSWORD}@cache.example"},
}


def test_a_start_whose_store_nobody_serves_tells_no_secret(tmp_path: Path) -> None:
    away = {**PRODUCTION, "GATEHOUSE_DATABASE_URL": f"postgresql://me:{PASSWORD}@127.0.0.1:9/pay"}
    run = ran(tmp_path, "serve", **away)
    assert run.returncode == 78
    assert "The store" in run.stderr
    assert found(run.stdout + run.stderr, SECRETS) == []


@pytest.mark.parametrize("case", WRONG)
def test_a_start_that_fails_tells_no_secret(case: str, tmp_path: Path) -> None:
    code, said = ended(tmp_path, "serve", **(PRODUCTION | WRONG[case]))
    assert code == 78
    assert re.search(r"\w+ \w+", said)
    assert found(said, SECRETS) == []
