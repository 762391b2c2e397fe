"""What is left of the service when many times as many callers ask as it takes to keep it busy.

`python -m bench.overload [seconds]` needs wrk. Each caller asks again as soon as it has its answer, whatever that was.
The peak is found first, and again between the heavier runs, since no machine is as quick at all times.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median
from typing import cast

import httpx

from bench import wrk
from tests.crash import KINDS, Crash, open_crash
from tests.processes import KEY, address, caller, log_of, port_of, spawn, up
from tests.world import ORDERS

SCRIPT = Path(__file__).with_suffix(".lua")
SECONDS = 300.0
PEAK_SECONDS = 10
CALLERS = 64  # as many as it takes to keep the service busy
TIMES = 5
CROWD = 1000
CROWD_SECONDS = 20
LEAST_GOODPUT = 0.8
LONGEST_TO_BE_ALIVE = 1.0
MOST_MEBIBYTES_A_MINUTE = 2.0
WARM_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The answers to so many callers: `good` 2xx, `shed` 503, of which `unsaid` without Retry-After, and `odd` ones."""

    good: int
    shed: int
    unsaid: int
    odd: int
    broken: int
    seconds: float
    p50: float
    p99: float

    @property
    def goodput(self) -> float:
        return self.good / self.seconds

    @property
    def sound(self) -> bool:
        return not (self.unsaid or self.odd or self.broken)

    def told(self, peak: float) -> str:
        share = f"{self.goodput:.0f} good a second, {self.goodput / peak:.0%} of the peak"
        return f"{share}; {self.shed / self.seconds:.0f} shed; p50 {self.p50:.3f} s, p99 {self.p99:.3f} s"


@dataclass
class Bench:
    crash: Crash
    folder: Path
    peaks: list[float] = field(default_factory=list)
    failed: bool = False

    async def load(self, callers: int, seconds: float) -> Load:
        words = (str(self.folder / "ids"), str(self.folder / "orders"), KEY)
        return Load(**await wrk.asked(SCRIPT, self.crash.service, callers, seconds, *words))

    async def peak(self) -> None:
        self.peaks.append((await self.load(CALLERS, PEAK_SECONDS)).goodput)

    def say(self, name: str, figure: str, *, good: bool = True) -> None:
        self.failed = self.failed or not good
        print(f"{'ok ' if good else 'BAD'}  {name:34} {figure}", flush=True)  # noqa: T201

    async def begin(self) -> None:
        async with caller(self.crash.service) as http:
            await self.crash.start(http)
            ids = [(await self.crash.create(http, f"generic-{number}")).json()["id"] for number in range(50)]
        orders = [json.dumps({"provider": kind, **ORDERS[kind]}) for kind in KINDS]
        for name, lines in (("ids", ids), ("orders", orders)):
            (self.folder / name).write_text("\n".join(lines))

    async def run(self, seconds: float) -> None:
        await self.load(CALLERS, 3)
        await self.peak()
        crowd = await self.load(CROWD, CROWD_SECONDS)
        await self.peak()
        watch = Watch()
        watching = asyncio.create_task(watch.look(self.crash))
        over = await self.load(TIMES * CALLERS, seconds)
        watching.cancel()
        await self.peak()
        peak = median(self.peaks)
        self.say(f"{CALLERS} callers", f"{peak:.0f} good a second: " + ", ".join(f"{one:.0f}" for one in self.peaks))
        self.say(
            f"{TIMES * CALLERS} callers", over.told(peak), good=over.sound and over.goodput >= LEAST_GOODPUT * peak
        )
        self.say(f"{CROWD} callers", crowd.told(peak), good=crowd.sound)
        self.say(
            "memory at the end, growth a minute",
            f"{watch.memory[-1][1]:.0f}, {watch.growth():.2f} MiB",
            good=watch.growth() <= MOST_MEBIBYTES_A_MINUTE,
        )
        slowest = max(watch.alive)
        figure = f"{median(watch.alive):.3f}, {slowest:.3f} s"
        self.say("/livez: p50, slowest", figure, good=slowest <= LONGEST_TO_BE_ALIVE)


@dataclass
class Watch:
    """What somebody sees who only looks: the memory of the service, and how long it takes to say that it lives."""

    memory: list[tuple[float, float]] = field(default_factory=list)
    alive: list[float] = field(default_factory=list)

    async def look(self, crash: Crash) -> None:
        process = cast("asyncio.subprocess.Process", crash.process)
        began = time.monotonic()
        while True:
            await asyncio.sleep(0.5)
            self.memory.append((time.monotonic() - began, mebibytes(process.pid)))
            asked_at = time.monotonic()
            try:
                async with httpx.AsyncClient(timeout=10) as http:
                    (await http.get(f"{crash.service}/livez")).raise_for_status()
                self.alive.append(time.monotonic() - asked_at)
            except httpx.HTTPError:
                self.alive.append(float("inf"))

    def growth(self) -> float:
        """Mebibytes a minute, after the first minute or, where it is shorter, in the second half."""
        last = self.memory[-1][0]
        late = [(at, size) for at, size in self.memory if at >= min(WARM_SECONDS, last / 2)]
        return linear_regression(*zip(*late, strict=True)).slope * 60


def mebibytes(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@asynccontextmanager
async def playing(folder: Path) -> AsyncIterator[str]:
    """The address of the providers, in a process of their own: this one watches."""
    sandbox = address()
    process = await spawn("sandbox", "--port", port_of(sandbox), cwd=folder, environment={})
    try:
        async with httpx.AsyncClient() as http:
            await up(http, f"{sandbox}/", process, log_of(folder, "sandbox"))
        yield sandbox
    finally:
        process.kill()
        await process.wait()


async def main(seconds: float) -> int:
    if not wrk.is_here():
        return 1
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/bench.db"
        async with playing(Path(folder)) as sandbox, open_crash(Path(folder), url, sandbox) as crash:
            crash.environment |= {"GATEHOUSE_PROVIDER_TIMEOUT": "10", "GATEHOUSE_LOG_LEVEL": "info"}
            bench = Bench(crash, Path(folder))
            await bench.begin()
            await bench.run(seconds)
            return int(bench.failed)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)))
