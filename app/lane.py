"""One provider's lane: how many calls it takes at once, whether it is worth asking, and how it has been doing."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil
from typing import Literal

from app.domain.errors import Misconfigured

State = Literal["closed", "open", "half_open"]

AT_ONCE = 32
WAIT_SECONDS = 0.25
FAILURES_IN_A_ROW = 10
RATE_OVER_CALLS = 20
RATE_WINDOW_SECONDS = 30.0
FIRST_REST_SECONDS = 5.0
LONGEST_REST_SECONDS = 60.0
REMEMBERED_CALLS = 200
RETRY_TOKENS = 100.0
RETRY_PRICE = 10.0


class Full(Exception):
    """As many calls as the lane takes are under way, and none ended in time."""


class Resting(Exception):
    """The circuit is open: the provider has been failing. `seconds` until the next probe."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"next probe in {seconds:.1f} s")
        self.seconds = seconds


@dataclass(slots=True)
class Circuit:
    """Opens on failures in a row or on a failure rate; then lets one probe through after each rest, which doubles."""

    clock: Callable[[], float]
    failures: int = 0
    rest: float = FIRST_REST_SECONDS
    opens_until: float | None = None
    probing: bool = False
    recent: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=REMEMBERED_CALLS))

    @property
    def state(self) -> State:
        if self.opens_until is None:
            return "closed"
        return "open" if self.clock() < self.opens_until and not self.probing else "half_open"

    def enter(self) -> bool:
        """Whether this call is the probe of an open circuit; Resting where it may not be made."""
        if self.opens_until is None:
            return False
        wait = self.opens_until - self.clock()
        if wait > 0 or self.probing:
            raise Resting(max(wait, 1.0))
        self.probing = True
        return True

    def succeeded(self) -> None:
        if self.opens_until is not None:
            self.recent.clear()
        self.failures, self.rest, self.opens_until, self.probing = 0, FIRST_REST_SECONDS, None, False
        self.recent.append((self.clock(), True))

    def failed(self) -> None:
        self.failures += 1
        self.recent.append((self.clock(), False))
        if self.probing:
            self.rest = min(self.rest * 2, LONGEST_REST_SECONDS)
        if self.probing or (self.opens_until is None and self._failing()):
            self.opens_until = self.clock() + self.rest * random.uniform(0.75, 1.0)  # noqa: S311  # jitter, no secret
        self.probing = False

    def left(self, *, probe: bool) -> None:
        """A call ended; if it was the probe and told nothing (it was cancelled), another may be."""
        if probe:
            self.probing = False

    def _failing(self) -> bool:
        since = self.clock() - RATE_WINDOW_SECONDS
        window = [good for at, good in self.recent if at >= since]
        return self.failures >= FAILURES_IN_A_ROW or (len(window) >= RATE_OVER_CALLS and sum(window) < len(window) / 2)


@dataclass(slots=True)
class Lane:
    """What one provider's calls go through; it outlives every call and is the source of its health in the sheet."""

    clock: Callable[[], float]
    circuit: Circuit = field(init=False)
    seats: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    calls: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=REMEMBERED_CALLS))
    retry_tokens: float = RETRY_TOKENS
    last_success_at: datetime | None = None
    last_error: str | None = None
    drift: int = 0
    under_way: int = 0
    paused: bool = False

    @property
    def serves(self) -> bool:
        """Whether creates and checkouts go to it just now."""
        return not self.paused and self.circuit.state != "open"

    def __post_init__(self) -> None:
        self.circuit = Circuit(self.clock)

    @asynccontextmanager
    async def seat(self, seconds: float) -> AsyncIterator[None]:
        """A place among the calls under way; Resting or Full where there is none."""
        probe = self.circuit.enter()
        try:
            await self._sit(seconds)
            self.under_way += 1
            try:
                yield
            finally:
                self.under_way -= 1
                self.seats.release()
        finally:
            self.circuit.left(probe=probe)

    async def _sit(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(min(WAIT_SECONDS, seconds)):
                await self.seats.acquire()
        except TimeoutError:
            raise Full from None

    def succeeded(self, ms: float, *, refused: bool = False) -> None:
        """It is there; `refused`: it does not take our credentials, until it does."""
        if refused:
            self.last_error = Misconfigured.code
        elif self.last_error == Misconfigured.code:
            self.last_error = None
        self.circuit.succeeded()
        self.calls.append((ms, True))
        self.retry_tokens = min(self.retry_tokens + 1, RETRY_TOKENS)
        self.last_success_at = datetime.now(UTC)

    def failed(self, ms: float, code: str) -> None:
        self.circuit.failed()
        self.calls.append((ms, False))
        self.last_error = code

    def may_retry(self) -> bool:
        """Spend from the budget that keeps retries from doubling the load of a provider in trouble."""
        if self.retry_tokens < RETRY_PRICE or self.circuit.state != "closed":
            return False
        self.retry_tokens -= RETRY_PRICE
        return True

    def percentile(self, share: float) -> float | None:
        times = sorted(ms for ms, _ in self.calls)
        return round(times[min(ceil(share * len(times)), len(times)) - 1], 1) if times else None

    @property
    def error_rate(self) -> float | None:
        return round(sum(not good for _, good in self.calls) / len(self.calls), 4) if self.calls else None
