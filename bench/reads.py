"""What a read and a create cost here beside what they cost in the service that anybody would write first.

`python -m bench.reads [rounds]` needs wrk. The rounds are interleaved, and what is told are ratios of medians: of
answers a second, or of the processor's time for each. The provider answers at once, so that all that counts is our own.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx

from bench import wrk
from tests.processes import free_port, log_of, spawn, up

SCRIPT = Path(__file__).with_suffix(".lua")
KEY = "reads-bench-admin-key"
ROUNDS = 5
SECONDS = 3
INVOICES = 2000
ORDER = json.dumps({"provider": "generic", "amount": "49.90", "currency": "EUR"})
TICKS = os.sysconf("SC_CLK_TCK")

OURS, OUR_CREATE, FRESH = "read-through get", "keyed create", "get from the store"
READY, OWN, STOCK = "FastAPI with a model", "… and a call on our transport", "… and a call by httpx"


@dataclass(frozen=True, slots=True)
class Figures:
    """Answers of 2xx a second, and microseconds of the processor for each; past what it can do it answers 503."""

    rate: float
    cpu: float


@dataclass
class Service:
    process: asyncio.subprocess.Process
    url: str
    folder: Path

    def paths(self, name: str, paths: list[str]) -> Path:
        file = self.folder / f"{name}.paths"
        file.write_text("\n".join(paths))
        return file

    def cpu(self) -> float:
        """Seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    async def asked(self, paths: Path, connections: int, method: str = "GET") -> Figures:
        before = self.cpu()
        words = (str(paths), KEY, method, *([ORDER] if method == "POST" else []))
        told = await wrk.asked(SCRIPT, self.url, connections, SECONDS, *words)
        if told["odd"] or not told["good"]:
            raise RuntimeError(f"{paths.name}: {told}")
        return Figures(told["good"] / told["seconds"], (self.cpu() - before) / told["good"] * 1e6)


@dataclass
class Bench:
    ours: Service
    plain: Service
    found: dict[tuple[str, int], list[Figures]] = field(default_factory=lambda: defaultdict(list))

    async def run(self, rounds: int) -> None:
        ids = await created(self.ours)
        through = self.ours.paths("through", [f"/v1/invoices/{id}?refresh=true" for id in ids])
        stored = self.ours.paths("stored", [f"/v1/invoices/{id}?refresh=false" for id in ids])
        orders = self.ours.paths("orders", ["/v1/invoices"])
        baselines = {
            READY: self.plain.paths("ready", ["/ready"]),
            OWN: self.plain.paths("own", [f"/own/{id}" for id in ids]),
            STOCK: self.plain.paths("stock", [f"/stock/{id}" for id in ids]),
        }
        for _ in range(rounds):
            for connections in (64, 32, 256, 1024):
                await self.note(OURS, self.ours, through, connections)
            await self.note(FRESH, self.ours, stored, 32)
            await self.note(OUR_CREATE, self.ours, orders, 32, "POST")
            for name, paths in baselines.items():
                await self.note(name, self.plain, paths, 32)
            await self.note(STOCK, self.plain, baselines[STOCK], 64)

    async def note(self, name: str, service: Service, paths: Path, connections: int, method: str = "GET") -> None:
        self.found[name, connections].append(await service.asked(paths, connections, method))

    def rate(self, name: str, connections: int) -> float:
        return median(figures.rate for figures in self.found[name, connections])

    def cpu(self, name: str, connections: int = 32) -> float:
        return median(figures.cpu for figures in self.found[name, connections])

    def told(self) -> bool:
        """The figures and the ratios as tables; whether all of them are within their budgets."""
        for name, connections in self.found:
            rate, cpu = self.rate(name, connections), self.cpu(name, connections)
            print(f"     {name:34} {connections:5} callers {rate:7.0f} a second {cpu:7.0f} µs each")  # noqa: T201
        rows = [
            ("processor: read-through ÷ a call on our transport", self.cpu(OURS) / self.cpu(OWN), "≤", 1.25),
            ("processor: from the store ÷ FastAPI with a model", self.cpu(FRESH) / self.cpu(READY), "≤", 2.0),
            ("processor: keyed create ÷ read-through", self.cpu(OUR_CREATE) / self.cpu(OURS), "≤", 2.5),
            ("rate at 64: read-through ÷ a call by httpx", self.rate(OURS, 64) / self.rate(STOCK, 64), "≥", 8.0),
            ("rate: read-through at 256 ÷ at 64", self.rate(OURS, 256) / self.rate(OURS, 64), "≥", 0.9),
            ("rate: read-through at 1,024 ÷ at 64", self.rate(OURS, 1024) / self.rate(OURS, 64), "≥", 0.6),
        ]
        good = True
        for name, ratio, sign, budget in rows:
            kept = ratio <= budget if sign == "≤" else ratio >= budget
            good = good and kept
            print(f"{'ok ' if kept else 'BAD'}  {name:52} {ratio:5.2f} {sign} {budget}")  # noqa: T201
        return good


async def created(service: Service) -> list[str]:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=service.url, headers=headers) as http:
        return [(await http.post("/v1/invoices", content=ORDER)).json()["id"] for _ in range(INVOICES)]


@asynccontextmanager
async def open_bench(folder: Path) -> AsyncIterator[Bench]:
    ports = {name: free_port() for name in ("upstream", "plain", "serve")}
    upstream = f"http://127.0.0.1:{ports['upstream']}"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running("upstream", ports["upstream"]))
        plain = await stack.enter_async_context(running("plain", ports["plain"], upstream))
        serve = ("serve", "--port", str(ports["serve"]))
        ours = await spawn(*serve, cwd=folder, environment=environment(folder, upstream))
        stack.push_async_callback(ended, ours)
        bench = Bench(
            ours=Service(ours, f"http://127.0.0.1:{ports['serve']}", folder),
            plain=Service(plain, f"http://127.0.0.1:{ports['plain']}", folder),
        )
        async with httpx.AsyncClient() as http:
            await up(http, f"{bench.ours.url}/readyz", ours, log_of(folder, "serve"))
            await up(http, f"{bench.plain.url}/ready", plain, log_of(folder, "serve"))
        yield bench


def environment(folder: Path, upstream: str) -> dict[str, str]:
    return {
        "GATEHOUSE_PROVIDERS__GENERIC__BASE_URL": upstream,
        "GATEHOUSE_PROVIDERS__GENERIC__API_KEY": "bench-provider-key",
        "GATEHOUSE_API_KEYS": f"bench:admin:{KEY}",
        "GATEHOUSE_SECRET_KEY": "k" * 32,
        "GATEHOUSE_DATABASE_URL": f"sqlite:///{folder}/bench.db",
        "GATEHOUSE_ALLOW_PRIVATE_NETWORKS": "on",
        "GATEHOUSE_RATE_LIMIT": "off",
        "GATEHOUSE_WORKER": "off",
    }


@asynccontextmanager
async def running(module: str, *words: object) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", f"bench.{module}", *map(str, words))
    try:
        yield process
    finally:
        await ended(process)


async def ended(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.wait()


async def main(rounds: int) -> int:
    if not wrk.is_here():
        return 1
    with tempfile.TemporaryDirectory() as folder:
        async with open_bench(Path(folder)) as bench:
            await bench.run(rounds)
            return 0 if bench.told() else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)))
