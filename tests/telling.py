"""Pay many invoices while workers on PostgreSQL tell two receivers, and count what each of them was told.

`python -m tests.telling [invoices] [kills]` runs it with real processes, and kills workers in the midst of it.
"""

import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.processes import address, caller, log_of, port_of, production, spawn, up
from tests.receiver import SECRET, Receiver, receiving
from tests.stores import postgres_server
from tests.world import ORDERS, played

WORKERS = 2
AT_ONCE = 16
IN_ORDER = ["invoice.created", "invoice.completed"]


@dataclass
class Telling:
    service: str
    sandbox: str
    environment: dict[str, str]
    folder: Path
    main: Receiver
    other: Receiver
    workers: list[asyncio.subprocess.Process] = field(default_factory=list)
    paid_at: dict[str, float] = field(default_factory=dict)

    async def run(self, invoices: int, kills: int) -> None:
        seats = asyncio.Semaphore(AT_ONCE)
        killing = asyncio.create_task(self.kill_some(kills))
        async with caller(self.service) as http, caller(self.sandbox) as sandbox:
            await asyncio.gather(*(self.pay(http, sandbox, seats, number) for number in range(invoices)))
        await killing
        expected = 2 * invoices
        async with asyncio.timeout(120):
            while len(self.told()) < expected:
                await asyncio.sleep(0.1)
        await asyncio.sleep(1)

    async def pay(self, http: httpx.AsyncClient, sandbox: httpx.AsyncClient, seats: Any, number: int) -> None:
        """Every tenth is told to the other receiver."""
        receiver = self.other if number % 10 == 0 else self.main
        async with seats:
            body = {"provider": "generic", **ORDERS["generic"], "callback_url": receiver.url}
            answer = await http.post("/v1/invoices", json=body)
            assert answer.status_code == 201, answer.text
            invoice = answer.json()
            order = {"reference": invoice["provider_invoice_id"], "outcome": "paid", "notify": "once"}
            self.paid_at[invoice["id"]] = time.monotonic()
            settled = await sandbox.post("/_control/generic/settle", json=order)
            assert settled.status_code == 200, settled.text

    async def kill_some(self, kills: int) -> None:
        chance = random.Random(kills)  # noqa: S311  # when to kill
        for number in range(kills):
            await asyncio.sleep(chance.uniform(0.2, 0.8))
            worker = self.workers[number % WORKERS]
            worker.send_signal(signal.SIGKILL)
            await worker.wait()
            self.workers[number % WORKERS] = await self.start_worker()

    async def start_worker(self) -> asyncio.subprocess.Process:
        return await spawn("worker", cwd=self.folder, environment=self.environment)

    def told(self) -> set[tuple[str, str]]:
        return {(event["data"]["id"], event["type"]) for event in (*self.main.received, *self.other.received)}

    @property
    def verdict(self) -> dict[str, Any]:
        """Every value must be empty, save `repeated` where workers were killed."""
        told = [*self.main.received, *self.other.received]
        firsts = list(dict.fromkeys((event["data"]["id"], event["type"]) for event in told))
        order: dict[str, list[str]] = {}
        for id, type_ in firsts:
            order.setdefault(id, []).append(type_)
        times = Counter(event["id"] for event in told)
        return {
            "not told": sorted(id for id in self.paid_at if "invoice.completed" not in order.get(id, [])),
            "out of order": sorted(id for id, types in order.items() if types != IN_ORDER),
            "repeated": sorted(id for id, count in times.items() if count > 1),
            "unsigned": self.main.unsigned + self.other.unsigned,
        }


@asynccontextmanager
async def open_telling(folder: Path, database_url: str) -> AsyncIterator[Telling]:
    service = address()
    async with played(service) as sandbox, receiving() as main, receiving() as other:
        environment = production(sandbox, database_url, "generic")
        environment |= {"GATEHOUSE_PUBLIC_URL": service, "GATEHOUSE_WEBHOOK_SECRET": SECRET}
        telling = Telling(service, sandbox, environment, folder, main, other)
        alone = {**environment, "GATEHOUSE_WORKER": "off"}
        serve = await spawn("serve", "--port", port_of(service), cwd=folder, environment=alone)
        try:
            telling.workers = [await telling.start_worker() for _ in range(WORKERS)]
            async with httpx.AsyncClient() as http:
                await up(http, f"{service}/readyz", serve, log_of(folder, "serve"))
            yield telling
        finally:
            for process in (serve, *telling.workers):
                process.kill()
                await process.wait()


async def main(invoices: int, kills: int) -> int:
    """1 where something went wrong; a worker that is killed may have told something that it will be told again."""
    with tempfile.TemporaryDirectory() as folder, postgres_server(Path(folder)) as postgres:
        async with open_telling(Path(folder), postgres.new_database()) as telling:
            began = time.monotonic()
            await telling.run(invoices, kills)
            found = {what: value for what, value in telling.verdict.items() if value}
            print(f"{invoices} invoices, {kills} kills, {time.monotonic() - began:.1f} s:", found or "all is well")  # noqa: T201
            return int(any(what != "repeated" or not kills for what in found))


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*(int(word) for word in sys.argv[1:] or (500, 10)))))
