"""How often something may happen by one name: counted here, or over all replicas."""

from asyncio import timeout
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from time import monotonic, time
from typing import Protocol

import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError

from app.domain.errors import RateLimited

log = structlog.get_logger()

MOST_NAMES = 10_000
SLACK = 1e-9  # seconds: what adding many intervals may be off by
PATIENCE_SECONDS = 0.25
REST_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Policy:
    """`per_second` in the long run, `burst` at once."""

    name: str
    per_second: int
    burst: int

    @property
    def seconds(self) -> int:
        """How long it takes at most until all may come again."""
        return ceil(self.burst / self.per_second)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is `left`; `wait` is 0 where one more was let in. Both times are in seconds; after `full`, all are back."""

    policy: Policy
    left: int
    wait: float
    full: float

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """As draft-ietf-httpapi-ratelimit-headers-10 writes them."""
        policy, name = self.policy, self.policy.name.encode()
        return [
            (b"ratelimit", b'"%b";r=%d;t=%d' % (name, self.left, ceil(self.full))),
            (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (name, policy.burst, policy.seconds)),
        ]

    @property
    def refusal(self) -> RateLimited:
        return RateLimited("Come back after the seconds in Retry-After.", retry_after=max(1, ceil(self.wait)))


class Meter(Protocol):
    """Takes one more by a name, if there is one left."""

    async def take(self, name: str) -> Standing: ...


class Buckets:
    """A bucket of tokens for each name, kept as the time at which it is full again; a full one is forgotten.

    Of more than `most` names, those that came the longest ago are forgotten.
    """

    def __init__(self, policy: Policy, clock: Callable[[], float] = monotonic, most: int = MOST_NAMES) -> None:
        self.policy = policy
        self.clock = clock
        self.most = most
        self.interval = 1 / policy.per_second
        self.depth = policy.burst / policy.per_second
        self.full_at: OrderedDict[str, float] = OrderedDict()

    async def take(self, name: str) -> Standing:
        return self.taken(name)

    def taken(self, name: str) -> Standing:
        now = self.clock()
        spent = max(self.full_at.get(name, now) - now, 0.0) + self.interval
        if spent > self.depth + SLACK:
            return self.look(name)
        self.full_at[name] = now + spent
        self.full_at.move_to_end(name)
        while len(self.full_at) > self.most or next(iter(self.full_at.values())) <= now:
            self.full_at.popitem(last=False)
        return Standing(self.policy, self._left(spent), 0.0, spent)

    def look(self, name: str) -> Standing:
        """Nothing is taken; `wait` is 0 where one could be."""
        now = self.clock()
        spent = max(self.full_at.get(name, now) - now, 0.0)
        left = self._left(spent)
        return Standing(self.policy, left, 0.0 if left else spent + self.interval - self.depth, spent)

    def _left(self, spent: float) -> int:
        return int((self.depth - spent + SLACK) / self.interval)


class Shared:
    """One count over all replicas, of the burst in the seconds that it takes to come back; `alone` while it is away."""

    def __init__(self, storage: Storage, alone: Buckets) -> None:
        self.alone = alone
        self.policy = alone.policy
        self.windows = MovingWindowRateLimiter(storage)
        self.item = RateLimitItemPerSecond(self.policy.burst, self.policy.seconds, namespace="gatehouse")
        self.rests_until = 0.0

    async def take(self, name: str) -> Standing:
        if self.alone.clock() < self.rests_until:
            return self.alone.taken(name)
        try:
            async with timeout(PATIENCE_SECONDS):
                return await self._taken(name)
        except (StorageError, TimeoutError):
            log.warning("limits.unshared")
            self.rests_until = self.alone.clock() + REST_SECONDS
            return self.alone.taken(name)

    async def _taken(self, name: str) -> Standing:
        let_in = await self.windows.hit(self.item, name)
        seen = await self.windows.get_window_stats(self.item, name)
        full = max(seen.reset_time - time(), 0.0)
        return Standing(self.policy, seen.remaining if let_in else 0, 0.0 if let_in else max(full, SLACK), full)
