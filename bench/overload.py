"""What is left of the service when five times as much is asked of it as it can do, for as long as one likes.

Reads and creates are mixed, over connections that stay open; who asks is another process than who answers, and so are
the providers. The capacity is what is answered to callers who wait for each answer before they ask again.
"""

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from statistics import linear_regression
from typing import cast

import httpx

from tests.crash import KEY, KINDS, Crash, open_crash
from tests.world import ORDERS

TIMES = 5
SECONDS = 300
CAPACITY_SECONDS = 10
PATIENT = 32
IMPATIENT = 1000
READ_INVOICES = 50
CREATES_OF_TEN = 2
IN_TIME_SECONDS = 1.0
LEAST_GOODPUT = 0.8
MOST_MEBIBYTES_A_MINUTE = 2.0


@dataclass(slots=True)
class Load:
    """What came of one stretch: answers by what they were and by second, and how long each kind took, in seconds."""

    seconds: float = 0
    offered: int = 0
    unasked: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    good: Counter[int] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        """Answers of 2xx in time, a second."""
        return self.good.total() / self.seconds

    def note(self, began: float, took: float, status: int, head: bytes, body: bytes) -> None:
        code = "" if status < 400 else f" {json.loads(body).get('code')}"
        told = "" if status != 503 or b"\r\nretry-after:" in head.lower() else " without Retry-After"
        self.answers[f"{status}{code}{told}"] += 1
        if status < 300:
            self.took.append(took)
            self.good[int(began)] += took <= IN_TIME_SECONDS
        elif status == 503:
            self.refused.append(took)


class Line(asyncio.Protocol):
    """A connection on which one request at a time is asked; it is answered with a length, or closed."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[tuple[int, bytes, bytes]] | None = None
        self.transport: asyncio.Transport
        self.come = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    async def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answer

    def data_received(self, data: bytes) -> None:
        self.come += data
        head, end, body = self.come.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if end and len(body) >= length and self.answer and not self.answer.done():
            self.come = b""
            self.answer.set_result((int(head[9:12]), head, body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer and not self.answer.done():
            self.answer.set_exception(exc or ConnectionResetError())


@dataclass
class Crowd:
    """So many connections, which together ask `rate` times a second, or as soon as each has its answer."""

    port: int
    ids: list[str]
    rate: float | None
    load: Load = field(default_factory=Load)
    turns: Iterator[int] = field(default_factory=count)

    async def ask(self, connections: int, seconds: float) -> Load:
        self.began = time.monotonic()
        self.ends = self.began + seconds
        await asyncio.gather(*(self.caller() for _ in range(connections)))
        self.load.seconds = seconds
        self.load.unasked = ceil(seconds * self.rate) - self.load.offered if self.rate else 0
        return self.load

    async def caller(self) -> None:
        """One connection after the other, until the time is over."""
        while time.monotonic() < self.ends:
            with suppress(OSError):
                _, line = await asyncio.get_running_loop().create_connection(Line, "127.0.0.1", self.port)
                try:
                    await self.calls(line)
                except OSError:
                    self.load.answers["broken"] += 1
                finally:
                    line.transport.abort()

    async def calls(self, line: Line) -> None:
        while True:
            turn = next(self.turns)
            due = self.began + turn / self.rate if self.rate else time.monotonic()
            if max(due, time.monotonic()) >= self.ends:
                return
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            self.load.offered += 1
            began = time.monotonic()
            status, head, body = await line.ask(self.request(turn))
            self.load.note(began - self.began, time.monotonic() - began, status, head, body)

    def request(self, turn: int) -> bytes:
        if turn % 10 >= CREATES_OF_TEN:
            return message("GET", f"/v1/invoices/{self.ids[turn % len(self.ids)]}")
        kind = KINDS[turn // 10 % len(KINDS)]
        return message("POST", "/v1/invoices", json.dumps({"provider": kind, **ORDERS[kind]}).encode())


def message(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: gatehouse\r\nAuthorization: Bearer {KEY}\r\n"
    typed = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{head}{typed}\r\n".encode() + body


def asked(port: int, ids: list[str], rate: float | None, connections: int, seconds: float) -> Load:
    """In a process of its own."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return asyncio.run(Crowd(port, ids, rate).ask(connections, seconds))


@dataclass
class Watched:
    """What somebody sees who only looks: the memory of the service, and how long it takes to say that it lives."""

    memory: list[tuple[float, float]] = field(default_factory=list)
    alive: list[float] = field(default_factory=list)

    async def look(self, url: str, process: int) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(0.5)
            self.memory.append((time.monotonic() - began, mebibytes(process)))
            asked_at = time.monotonic()
            try:
                async with httpx.AsyncClient(timeout=10) as http:
                    (await http.get(f"{url}/livez")).raise_for_status()
                self.alive.append(time.monotonic() - asked_at)
            except httpx.HTTPError:
                self.alive.append(float("inf"))

    def growth(self) -> float:
        """Mebibytes a minute, after the first minute or, where it is shorter, in the second half."""
        last = self.memory[-1][0]
        late = [(at, size) for at, size in self.memory if at >= min(60, last / 2)]
        return linear_regression(*zip(*late, strict=True)).slope * 60


def mebibytes(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def percentile(times: list[float], share: float) -> float:
    ordered = sorted(times) or [0.0]
    return ordered[min(ceil(share * len(ordered)), len(ordered)) - 1]


async def measured(crash: Crash, seconds: float) -> tuple[Load, Load, Watched]:
    loop, watched = asyncio.get_running_loop(), Watched()
    port = int(crash.service.rpartition(":")[2])
    async with crash.client(crash.service) as http:
        await crash.start(http)
        ids = [(await crash.create(http, f"generic-{number}")).json()["id"] for number in range(READ_INVOICES)]
    service = cast("asyncio.subprocess.Process", crash.process)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as elsewhere:
        await loop.run_in_executor(elsewhere, asked, port, ids, None, PATIENT, 2.0)
        peak = await loop.run_in_executor(elsewhere, asked, port, ids, None, PATIENT, float(CAPACITY_SECONDS))
        looking = asyncio.create_task(watched.look(crash.service, service.pid))
        rate = TIMES * peak.goodput
        over = await loop.run_in_executor(elsewhere, asked, port, ids, rate, IMPATIENT, seconds)
        looking.cancel()
    return peak, over, watched


def told(peak: Load, over: Load, watched: Watched) -> bool:
    """The figures as a table; whether all of them are as they must be."""
    refusals = {name for name in over.answers if name.startswith("5")} - {"503 overloaded", "503 provider_unavailable"}
    rows: list[tuple[str, str, bool]] = [
        ("capacity, answers of 2xx a second", f"{peak.goodput:.0f}", True),
        (
            "offered a second, and how many for want of a connection not",
            f"{over.offered / over.seconds:.0f}, {over.unasked}",
            True,
        ),
        ("goodput a second (2xx within 1 s)", f"{over.goodput:.0f}", over.goodput >= LEAST_GOODPUT * peak.goodput),
        ("goodput in the worst second", f"{min(over.good[at] for at in range(int(over.seconds)))}", True),
        ("2xx: p50, p99", f"{percentile(over.took, 0.5):.3f}, {percentile(over.took, 0.99):.3f} s", True),
        (
            "503: p50, p99",
            f"{percentile(over.refused, 0.5):.3f}, {percentile(over.refused, 0.99):.3f} s",
            percentile(over.refused, 0.99) <= IN_TIME_SECONDS,
        ),
        ("answers", json.dumps(over.answers), not refusals),
        (
            "memory at the end, growth a minute",
            f"{watched.memory[-1][1]:.0f}, {watched.growth():.2f} MiB",
            watched.growth() <= MOST_MEBIBYTES_A_MINUTE,
        ),
        (
            "/livez: p50, slowest",
            f"{percentile(watched.alive, 0.5):.3f}, {max(watched.alive):.3f} s",
            max(watched.alive) <= IN_TIME_SECONDS,
        ),
    ]
    for name, figure, good in rows:
        print(f"{'ok ' if good else 'BAD'}  {name:62} {figure}")  # noqa: T201
    return all(good for _, _, good in rows)


async def main(seconds: float) -> int:
    with tempfile.TemporaryDirectory() as folder:
        async with open_crash(Path(folder), f"sqlite:///{folder}/bench.db") as crash:
            crash.environment |= {"GATEHOUSE_PROVIDER_TIMEOUT": "10"}
            return 0 if told(*await measured(crash, seconds)) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)))
