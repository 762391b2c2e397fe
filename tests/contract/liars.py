"""The whole service in front of simulators whose answers are spoilt: whatever they say, it keeps its own promise."""

import asyncio
import hmac
import json
import socket
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from random import Random
from typing import Any

import httpx
import structlog
from jsonschema import Draft202012Validator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.openapi import document
from app.simulator import create_sandbox, credentials
from tests.contract.answers import STATUSES, Saying, reworded
from tests.contract.mutations import spoilt
from tests.contract.tally import Tally
from tests.contract.truths import READERS, exactly
from tests.serving import serving
from tests.world import ORDERS, SERVICE, World, open_world

CALLERS = 4
WITH_BODY = [status for status in STATUSES if 200 <= status <= 599 and status not in (204, 304)]
FAILURES = {"request.failed", "notification.failed", "worker.failed"}
VOID = ("unknown", "canceled", "failed", "expired")
NOBODYS = "inv_01jd0000000000000000000001"
SECRETS = {
    "sellapp": ("Signature", "sha256", "sandbox-sellapp-webhook-secret-0001"),
    "generic": ("kun-signature", "sha384", "sandbox-generic-private"),
}


@dataclass
class Liar:
    """A sandbox that misspeaks when chance has it; `told` are its last words."""

    app: ASGIApp
    chance: Random
    share: float = 0.6
    told: deque[Saying] = field(default_factory=lambda: deque(maxlen=CALLERS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.chance.random() > self.share:
            await self.app(scope, receive, send)
            return
        sent: list[Message] = []

        async def keep(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, keep)
        body = b"".join(message.get("body", b"") for message in sent)
        worse = reworded(self.chance, Saying(sent[0]["status"], body=body), WITH_BODY)
        self.told.append(worse)
        headers = [*worse.headers, (b"content-length", b"%d" % len(worse.body))]
        await send({"type": "http.response.start", "status": worse.status, "headers": headers})
        await send({"type": "http.response.body", "body": worse.body})


@dataclass
class Caller:
    """One who calls at random, and compares each answer with what the document promises."""

    world: World
    liar: Liar
    chance: Random
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    async def call(self, count: int) -> None:
        for _ in range(count):
            [way] = self.chance.choices([*self.ways], [*self.ways.values()])
            await way()
            self.world.clock.pass_time(seconds=self.chance.choice((0, 1, 3, 60)))

    @property
    def ways(self) -> dict[Callable[[], Awaitable[None]], int]:
        """What may be asked, and how often each."""
        return {
            self.create: 6,
            self.read: 6,
            self.checkout: 3,
            self.notify: 2,
            **dict.fromkeys((self.cancel, self.trace, self.list, self.assets, self.questions, self.resolve), 1),
            self.events: 1,
        }

    async def create(self) -> None:
        kind = self.chance.choice(list(ORDERS))
        price = {"amount": "19.99", "currency": "USD"} if kind == "sellapp" and self.chance.random() < 0.5 else {}
        order = {"provider": kind, **ORDERS[kind], **price}
        answer = await self.say("createInvoice", "POST", "/v1/invoices", json=order)
        id = answer.json().get("id", answer.json().get("invoice_id"))
        if id:
            self.asked[id] = order

    async def read(self) -> None:
        query = self.chance.choice(({}, {"refresh": "true"}, {"refresh": "false"}, {"include": "provider_data"}))
        id = self.some()
        answer = await self.say("getInvoice", "GET", f"/v1/invoices/{id}", params=query)
        if answer.status_code != 200 and query != {"refresh": "true"} and id in self.asked:
            self.tally.findings.append(f"a read failed: {answer.text}")
        if answer.status_code == 200 and "include" in query:
            self.weigh(exactly(answer.text))

    async def checkout(self) -> None:
        await self.say("startCheckout", "POST", f"/v1/invoices/{self.some()}/checkout")

    async def cancel(self) -> None:
        await self.say("cancelInvoice", "POST", f"/v1/invoices/{self.some()}/cancel")

    async def trace(self) -> None:
        await self.say("traceInvoice", "GET", f"/v1/invoices/{self.some()}/trace")

    async def list(self) -> None:
        answer = await self.say("listInvoices", "GET", "/v1/invoices", params={"limit": "50"})
        for invoice in answer.json()["data"]:
            self.compare(invoice)

    async def assets(self) -> None:
        await self.say("listAssets", "GET", "/v1/providers/generic/assets")

    async def questions(self) -> None:
        await self.say("listQuestions", "GET", "/v1/providers/generic/questionnaire")

    async def resolve(self) -> None:
        found = self.chance.choice(({"not_created": True}, {"provider_invoice_id": self.chance.choice(("1", "x"))}))
        await self.say(
            "resolveInvoice", "POST", f"/v1/invoices/{self.some()}/resolve", json={"reason": "why not", **found}
        )

    async def events(self) -> None:
        await self.say("listEvents", "GET", "/v1/events", params={"limit": "100"})
        await self.say("listInvoiceEvents", "GET", f"/v1/invoices/{self.some()}/events")

    async def notify(self) -> None:
        """Signed, and mostly about something that there is."""
        kind = self.chance.choice(list(SECRETS))
        header, method, secret = SECRETS[kind]
        reference = (await self.world.http.get(f"/v1/invoices/{self.some()}")).json().get("provider_invoice_id") or "1"
        id = int(reference) if reference.isdecimal() else reference
        body = json.dumps({"event": "order.completed", "data": {"id": id, "amount": "1", "asset": "EUR"}}).encode()
        body = spoilt(self.chance, body) if self.chance.random() < 0.5 else body
        headers = {header: hmac.digest(secret.encode(), body, method).hex()}
        await self.say("takeNotification", "POST", f"/webhooks/{kind}", content=body, headers=headers)

    def some(self) -> str:
        """An invoice that was created, mostly."""
        return self.chance.choice([*self.asked, NOBODYS])

    async def say(self, operation: str, method: str, path: str, **sent: Any) -> httpx.Response:
        answer = await self.world.http.request(method, path, **sent)
        self.tally.outcomes[f"{operation} {answer.status_code}"] += 1
        for wrong in self.promise.breaches(operation, answer):
            self.tally.findings.append(f"{operation}: {wrong}; {answer.text[:1000]}; told {[*self.liar.told]!r:.3000}")
        if operation in ("createInvoice", "getInvoice", "cancelInvoice", "resolveInvoice") and answer.status_code < 300:
            self.compare(answer.json())
        return answer

    @cached_property
    def promise(self) -> "Promise":
        return Promise(document(self.world.app))

    def compare(self, invoice: dict[str, Any]) -> None:
        """Whatever its provider says, nobody is ever told that another sum is owed than was asked."""
        order = self.asked.get(invoice["id"], {})
        told = {name: invoice[name] for name in ("amount", "currency") if name in order}
        if told != {name: order[name] for name in told} or (order and invoice["provider"] != order["provider"]):
            self.tally.findings.append(f"asked was {order}, told is {invoice}")

    def weigh(self, invoice: dict[str, Any]) -> None:
        """What is owed by the provider's own last word is what is told, unless it is told to be unknown or void."""
        kind, raw = invoice["provider"], invoice["provider_data"]
        if raw is None or "status" not in raw or invoice["status"] in VOID:
            return
        said = READERS[kind](raw).amount
        if said and None not in said and said != (Decimal(invoice["amount"]), invoice["currency"]):
            self.tally.findings.append(f"asked was {self.asked[invoice['id']]}, owed is {said}, told is {invoice}")


@dataclass
class Promise:
    """What the OpenAPI document says of each operation's answers."""

    openapi: dict[str, Any]
    validators: dict[tuple[str, int], Draft202012Validator | None] = field(default_factory=dict)

    @cached_property
    def responses(self) -> dict[str, dict[str, Any]]:
        paths = self.openapi["paths"].values()
        return {one["operationId"]: one["responses"] for path in paths for one in path.values()}

    def breaches(self, operation: str, answer: httpx.Response) -> Iterator[str]:
        promised = self.responses[operation].get(str(answer.status_code), {})
        if answer.status_code == 500 or not promised:
            yield f"status {answer.status_code}"
            return
        try:
            said: Any = json.loads(answer.content.decode()) if answer.content else None
        except ValueError as error:
            yield f"no JSON: {error}"
            return
        validator = self.validator(operation, answer.status_code, promised)
        if validator and (fault := next(validator.iter_errors(said), None)):
            yield f"another shape: {fault.message:.300} at {fault.json_path}"
        if answer.status_code >= 400 and f"`{said['code']}`" not in promised["description"]:
            yield f"code {said['code']} with {answer.status_code}"

    def validator(self, operation: str, status: int, promised: dict[str, Any]) -> Draft202012Validator | None:
        if (operation, status) not in self.validators:
            content = next(iter(promised.get("content", {}).values()), None)
            schema = content and {**content["schema"], "components": self.openapi["components"]}
            self.validators[operation, status] = Draft202012Validator(schema) if schema else None
        return self.validators[operation, status]


@asynccontextmanager
async def open_liar(database_url: str, chance: Random) -> AsyncIterator[Caller]:
    """The service, and between it and the simulators somebody who misspeaks."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient() as nobody:
            liar = Liar(create_sandbox(url, notify=SERVICE, http=nobody), chance)
            async with (
                serving(liar, listener),
                open_world(database_url, accounts=credentials(url), max_age=1, settle=1) as world,
            ):
                yield Caller(world, liar, chance)


async def try_many(count: int, seed: int) -> Tally:
    """All callers are one person, who does several things at once."""
    chance = Random(seed)  # noqa: S311  # no secret hangs on it
    with tempfile.TemporaryDirectory() as folder, structlog.testing.capture_logs() as logged:
        async with open_liar(f"sqlite:///{folder}/gatehouse.db", chance) as caller:
            await asyncio.gather(*(caller.call(count // CALLERS) for _ in range(CALLERS)))
    failed = [line for line in logged if line["event"] in FAILURES]
    caller.tally.findings += [f"{line['event']}: {line.get('exc_info')!r}" for line in failed]
    return caller.tally
