"""The service behind one client, the simulated providers on sockets, and a clock for tests to move."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from fastapi import FastAPI
from opentelemetry.trace import Tracer

from app.configured import sandbox_keys
from app.main import create_app
from app.settings import SANDBOX_KEY, Settings
from app.simulator import create_sandbox, credentials
from tests.at_head import begin
from tests.serving import serving

SERVICE = "http://gatehouse.test"
SECRET_KEY = "a-key-that-every-replica-of-a-test-has"
# The simulators are on this machine, and tests are in a hurry.
OPEN: dict[str, Any] = {"allow_private_networks": True, "rate_limit": "off"}
# It knows no authorities: nothing here speaks TLS, and reading them takes longer than most tests.
UNTRUSTING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SHOPPER = {"email": "a@example.org", "name": "A. Reader"}

# A create that each kind of provider accepts.
ORDERS: dict[str, dict[str, Any]] = {
    "sellapp": {"customer": SHOPPER, "items": [{"variant_id": "1001", "quantity": 1}]},
    "bluetape": {"amount": "120.50", "currency": "USD", "customer": SHOPPER, "description": "Boards"},
    "turinpay": {"amount": "23.00", "currency": "EUR"},
    "generic": {"amount": "49.90", "currency": "EUR"},
}


@dataclass
class MovableClock:
    """A clock that tests can move forward; it ticks with the real one in between."""

    ahead: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def ticks(self) -> float:
        return time.monotonic() + self.ahead.total_seconds()

    def pass_time(self, **time: float) -> None:
        self.ahead += timedelta(**time)


@dataclass
class World:
    http: httpx.AsyncClient
    sandbox: httpx.AsyncClient
    app: FastAPI
    clock: MovableClock

    async def create(self, provider: str, **fields: Any) -> httpx.Response:
        return await self.http.post("/v1/invoices", json={"provider": provider, **ORDERS[provider], **fields})

    async def created(self, provider: str, **fields: Any) -> dict[str, Any]:
        answer = await self.create(provider, **fields)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def read(self, id: str, **query: Any) -> dict[str, Any]:
        answer = await self.http.get(f"/v1/invoices/{id}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def checkout(self, id: str, **fields: Any) -> httpx.Response:
        return await self.http.post(f"/v1/invoices/{id}/checkout", json=fields)

    async def settle(self, provider: str, reference: str, outcome: str, notify: str = "none") -> None:
        answer = await self.sandbox.post(
            f"/_control/{provider}/settle", json={"reference": reference, "outcome": outcome, "notify": notify}
        )
        assert answer.status_code == 200, answer.text

    async def arm(self, provider: str, operation: str, fault: str, **more: Any) -> None:
        answer = await self.sandbox.post(
            f"/_control/{provider}/faults", json={"operation": operation, "fault": fault, **more}
        )
        assert answer.status_code < 300, answer.text

    async def requests(self, provider: str) -> list[dict[str, Any]]:
        return (await self.sandbox.get(f"/_control/{provider}/requests")).json()["data"]


@asynccontextmanager
async def open_world(
    database_url: str,
    *,
    beside: World | None = None,
    accounts: Mapping[str, Mapping[str, str]] | None = None,
    tracer: Tracer | None = None,
    **settings: Any,
) -> AsyncIterator[World]:
    """`beside`: a replica that shares another's sandbox. `accounts` are other providers than the simulated ones."""
    await asyncio.to_thread(begin, database_url)
    clock = MovableClock()
    async with AsyncExitStack() as stack:
        door: list[FastAPI] = []
        inside = httpx.ASGITransport(lambda *asgi: door[0](*asgi), raise_app_exceptions=False)  # noqa: PLW0108  # it is empty yet
        knock = await stack.enter_async_context(httpx.AsyncClient(transport=inside, base_url=SERVICE))
        url = str(beside.sandbox.base_url) if beside else await stack.enter_async_context(played(http=knock))
        chosen = {"provider_timeout": 2, "worker": False, "secret_key": SECRET_KEY, **OPEN, **settings}
        given = Settings(_env_file=None, database_url=database_url, **chosen)
        app = create_app(
            given,
            provider_settings=accounts or credentials(url.rstrip("/")),
            keys=sandbox_keys(given, "127.0.0.1"),
            public_url=SERVICE,
            clock=clock,
            ticks=clock.ticks,
            tracer=tracer,
        )
        door.append(app)
        await stack.enter_async_context(app.router.lifespan_context(app))
        key = {"Authorization": f"Bearer {SANDBOX_KEY}"}
        http = await stack.enter_async_context(httpx.AsyncClient(transport=inside, base_url=SERVICE, headers=key))
        sandbox = await stack.enter_async_context(httpx.AsyncClient(base_url=url, verify=UNTRUSTING))
        yield World(http=http, sandbox=sandbox, app=app, clock=clock)


@asynccontextmanager
async def played(notify: str = SERVICE, http: httpx.AsyncClient | None = None) -> AsyncIterator[str]:
    """The address of a sandbox in this loop; `notify` is the service that it tells of payments."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with serving(create_sandbox(url, notify=notify, http=http), listener):
            yield url
