"""Kill the service at random moments of a stream of keyed creates, again and again, and count what became of each key.

`python -m tests.crash [kills]` runs it on SQLite and on PostgreSQL; the suite runs it with fewer kills.
"""

import asyncio
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.processes import address, caller, log_of, port_of, production, spawn, up
from tests.stores import postgres_server
from tests.world import ORDERS, played

KINDS = ("generic", "bluetape")
CLIENTS = 8


@dataclass
class Tally:
    """What was answered to each key, and what the providers have."""

    kills: int = 0
    sent: list[str] = field(default_factory=list)
    answered: dict[str, str] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    upstream: Counter[str] = field(default_factory=Counter)
    logged: dict[str, str] = field(default_factory=dict)

    def note(self, key: str, id: str) -> None:
        if self.answered.setdefault(key, id) != id:
            self.contradictions.append(key)

    @property
    def verdict(self) -> dict[str, list[str]]:
        """Every value must be empty."""
        return {
            "never answered": sorted(set(self.sent) - self.answered.keys()),
            "answered with two ids": self.contradictions,
            "lost": self.lost,
            "doubled": sorted(key for key, count in self.upstream.items() if count > 1),
            "missing upstream": sorted(set(self.answered) - self.upstream.keys()),
        }


@dataclass
class Crash:
    service: str
    sandbox: str
    environment: dict[str, str]
    folder: Path
    tally: Tally = field(default_factory=Tally)
    process: asyncio.subprocess.Process | None = None

    async def run(self, kills: int, seed: int) -> Tally:
        chance = random.Random(seed)  # noqa: S311  # when to kill
        async with caller(self.service) as http:
            for round_ in range(kills):
                await self.start(http)
                clients = [asyncio.create_task(self.stream(http, f"{round_}-{one}")) for one in range(CLIENTS)]
                await asyncio.sleep(chance.uniform(0.02, 0.5))
                await self.kill()
                for client in clients:
                    client.cancel()
                await asyncio.wait(clients)
                await self.look_at_log()
            await self.start(http)
            await asyncio.gather(*(self.insist(http, key) for key in self.tally.sent))
            await self.look_at_log()
            await self.count(http)
            await self.kill()
        return self.tally

    async def start(self, http: httpx.AsyncClient, *words: str) -> None:
        listening = ("serve", "--port", port_of(self.service))
        self.process = await spawn(*listening, *words, cwd=self.folder, environment=self.environment)
        await self.up(http)

    async def up(self, http: httpx.AsyncClient) -> None:
        assert self.process is not None
        await up(http, "/readyz", self.process, log_of(self.folder, "serve"))

    async def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        self.tally.kills += 1

    async def stream(self, http: httpx.AsyncClient, name: str) -> None:
        for number in range(1000):
            key = f"{KINDS[number % len(KINDS)]}-{name}-{number}"
            self.tally.sent.append(key)
            try:
                answer = await self.create(http, key)
            except httpx.TransportError:
                return
            if answer.status_code == 201:
                self.tally.note(key, answer.json()["id"])

    async def create(self, http: httpx.AsyncClient, key: str) -> httpx.Response:
        kind = key.partition("-")[0]
        body = {"provider": kind, **ORDERS[kind], "order_id": key}
        return await http.post("/v1/invoices", json=body, headers={"Idempotency-Key": key})

    async def insist(self, http: httpx.AsyncClient, key: str) -> None:
        """Until there is an answer, as a careful shop does."""
        for _ in range(100):
            with suppress(httpx.TransportError):
                answer = await self.create(http, key)
                if answer.status_code == 201:
                    self.tally.note(key, answer.json()["id"])
                    return
            await asyncio.sleep(0.3)

    async def count(self, http: httpx.AsyncClient) -> None:
        for key, id in self.tally.answered.items():
            if (await http.get(f"/v1/invoices/{id}", params={"refresh": "true"})).json().get("status") != "pending":
                self.tally.lost.append(key)
        async with httpx.AsyncClient(base_url=self.sandbox) as sandbox:
            self.tally.upstream.update([order async for order in listed(sandbox)])
        self.tally.upstream.update(self.tally.logged.values())

    async def look_at_log(self) -> None:
        """What has no list is seen in the log, which forgets its oldest lines."""
        async with httpx.AsyncClient(base_url=self.sandbox) as sandbox:
            for request in (await sandbox.get("/_control/bluetape/requests")).json()["data"]:
                if request["method"] == "POST" and request["status"] == 201:
                    self.tally.logged[request["body"]["id"]] = request["body"]["invoiceNumber"]


async def listed(sandbox: httpx.AsyncClient) -> AsyncIterator[str]:
    """The order id of everything that the provider with a list has."""
    for skip in range(0, 100_000, 100):
        query = {"take": 100, "skip": skip}
        page = await sandbox.get("/generic/v1/invoice", params=query, headers={"api-key": "sandbox-generic-key"})
        found = page.json()["data"]
        for invoice in found:
            yield invoice["externalOrderId"]
        if len(found) < 100:
            break


@asynccontextmanager
async def open_crash(folder: Path, database_url: str, sandbox: str) -> AsyncIterator[Crash]:
    """A service that is not started yet, before the providers at `sandbox`."""
    environment = production(sandbox, database_url, *KINDS)
    environment |= {"GATEHOUSE_PROVIDER_TIMEOUT": "1", "GATEHOUSE_SETTLE": "1"}
    crash = Crash(address(), sandbox, environment, folder)
    try:
        yield crash
    finally:
        if crash.process is not None and crash.process.returncode is None:
            await crash.kill()


async def main(kills: int) -> int:
    """How many databases something went wrong on."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder, postgres_server(Path(folder)) as postgres:
        for url in (f"sqlite:///{folder}/crash.db", postgres.new_database()):
            async with played() as sandbox, open_crash(Path(folder), url, sandbox) as crash:
                tally = await crash.run(kills, seed=kills)
                bad = {what: keys[:20] for what, keys in tally.verdict.items() if keys}
                print(url.partition(":")[0], tally.kills, "kills", len(tally.sent), "keys", bad or "all is well")  # noqa: T201
                failed += bool(bad)
    return failed


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)))
