"""The sandbox on a real socket, a shop that keeps what it is told, and one caller who knows every provider's wire."""

import asyncio
import hashlib
import hmac
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.simulator import create_sandbox
from tests.serving import serving

SELLAPP = {"Authorization": "Bearer sandbox-sellapp-key", "X-STORE": "sandbox"}
BLUETAPE = {"X-BlueTape-Key": "sandbox-bluetape-key", "X-Integration-AccountId": "sandbox-account"}
TURINPAY = {"X-API-Key": "sandbox-turinpay-key"}
GENERIC = {"api-key": "sandbox-generic-key"}

CART = {"customer_email": "a@example.org", "payment_method": "STRIPE", "product_variants": {"1001": {"quantity": 2}}}
BOARDS = {
    "id": "inv-1001",
    "invoiceNumber": "INV/1001",
    "invoiceDate": "2026-03-01",
    "dueDate": "2026-03-31T00:00:00.000Z",
    "expirationDate": "2026-03-31",
    "subTotal": 200,
    "taxAmount": 20,
    "totalAmount": 220,
    "amountDue": 220,
    "sourceModifiedDate": "2026-03-01T08:00:00.000Z",
    "lines": [{"description": "Boards", "unitAmount": 100, "quantity": 2}],
    "payersInfo": [{"firstName": "A.", "emailAddress": "a@example.org"}],
}


@dataclass
class Clock:
    now: datetime = field(default_factory=lambda: datetime(2026, 11, 22, 8, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def pass_time(self, **time: float) -> None:
        self.now += timedelta(**time)


@dataclass
class Told:
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Shop:
    """`statuses` are answered in turn, then 200."""

    url: str = ""
    told: list[Told] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def hear(self, request: Request) -> Response:
        told = Told(request.url.path, dict(request.query_params), dict(request.headers), await request.body())
        self.told.append(told)
        self.heard.set()
        return Response(status_code=self.statuses.pop(0) if self.statuses else 200)


@dataclass
class Sandbox:
    """`http` speaks to the sandbox, on a new connection each time."""

    url: str
    http: httpx.AsyncClient
    shop: Shop
    clock: Clock

    async def control(self, method: str, call: str, **said: Any) -> httpx.Response:
        return await self.http.request(method, f"/_control/{call}", json=said or None)

    async def arm(self, provider: str, operation: str, fault: str, **more: Any) -> None:
        answer = await self.control("POST", f"{provider}/faults", operation=operation, fault=fault, **more)
        assert answer.status_code == 201, answer.text

    async def settle(self, provider: str, reference: Any, outcome: str, notify: str = "once") -> dict[str, Any]:
        said = {"reference": reference, "outcome": outcome, "notify": notify}
        answer = await self.control("POST", f"{provider}/settle", **said)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def say(self, provider: str, reference: Any, word: str, notify: str = "none") -> dict[str, Any]:
        said = {"reference": reference, "word": word, "notify": notify}
        answer = await self.control("POST", f"{provider}/settle", **said)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def switch(self, provider: str, **switches: Any) -> None:
        answer = await self.control("PUT", f"{provider}/switches", **switches)
        assert answer.status_code == 200, answer.text

    async def requests(self, provider: str) -> list[dict[str, Any]]:
        return (await self.control("GET", f"{provider}/requests")).json()["data"]

    async def sellapp(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.http.request(method, f"/sellapp/api/v2/invoices{path}", **{"headers": SELLAPP, **more})

    async def bluetape(self, method: str, path: str, **more: Any) -> httpx.Response:
        address = f"/bluetape/genericBthubService/integration/invoice/{path}"
        return await self.http.request(method, address, **{"headers": BLUETAPE, **more})

    async def turinpay(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.http.request(method, f"/turinpay{path}", **{"headers": TURINPAY, **more})

    async def generic(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.http.request(method, f"/generic/v1/invoice{path}", **{"headers": GENERIC, **more})

    async def sold(self, **more: Any) -> dict[str, Any]:
        answer = await self.sellapp("POST", "", json={**CART, **more})
        assert answer.status_code == 201, answer.text
        return answer.json()["data"]

    async def intended(self, price: Any = 23, **more: Any) -> str:
        answer = await self.turinpay("POST", "/intents", json={"price": price, "currency": "EUR", **more})
        assert answer.status_code == 201, answer.text
        return answer.json()["checkoutId"]

    async def invoiced(self, **more: Any) -> dict[str, Any]:
        answer = await self.generic("POST", "", json={"asset": "EUR", "amount": "49.90", **more})
        assert answer.status_code == 201, answer.text
        return answer.json()["data"]


def mac(key: str, message: bytes, digest: str) -> str:
    return hmac.new(key.encode(), message, getattr(hashlib, digest)).hexdigest()


@asynccontextmanager
async def open_sandbox() -> AsyncIterator[Sandbox]:
    async with AsyncExitStack() as stack:
        here, there = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2))
        shop, clock = Shop(url=address(there)), Clock()
        door = Starlette(routes=[Route("/{path:path}", shop.hear, methods=["POST"])])
        phone = await stack.enter_async_context(client())
        stage = create_sandbox(address(here), notify=shop.url, http=phone, clock=clock)
        await stack.enter_async_context(serving(stage, here))
        await stack.enter_async_context(serving(door, there))
        http = await stack.enter_async_context(client(base_url=address(here)))
        yield Sandbox(url=address(here), http=http, shop=shop, clock=clock)


def client(**more: Any) -> httpx.AsyncClient:
    """On a new connection each time; it knows no authorities, for reading them takes longer than most tests."""
    lonely = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(limits=lonely, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False, **more)


def address(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"
