"""How often a caller may call: counted here, or over all replicas."""

from asyncio import timeout
from time import time
from typing import Protocol

import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError

from app.service.buckets import SLACK, Standing, TokenBuckets

log = structlog.get_logger()

PATIENCE_SECONDS = 0.25
REST_SECONDS = 1


class RateLimiter(Protocol):
    """Takes one more by a name, if there is one left."""

    async def take(self, name: str) -> Standing: ...


class Shared:
    """One count over all replicas, of the burst in the seconds that it takes to come back; `alone` while it is away."""

    def __init__(self, storage: Storage, alone: TokenBuckets) -> None:
        self.alone = alone
        self.policy = alone.policy
        self.windows = MovingWindowRateLimiter(storage)
        self.item = RateLimitItemPerSecond(self.policy.burst, self.policy.seconds, namespace="gatehouse")
        self.rests_until = 0.0

    async def take(self, name: str) -> Standing:
        if self.alone.clock() < self.rests_until:
            return self.alone.hit(name)
        try:
            async with timeout(PATIENCE_SECONDS):
                return await self._hit(name)
        except (StorageError, TimeoutError):
            log.warning("limits.unshared")
            self.rests_until = self.alone.clock() + REST_SECONDS
            return self.alone.hit(name)

    async def _hit(self, name: str) -> Standing:
        let_in = await self.windows.hit(self.item, name)
        seen = await self.windows.get_window_stats(self.item, name)
        full = max(seen.reset_time - time(), 0.0)
        return Standing(self.policy, seen.remaining if let_in else 0, 0.0 if let_in else max(full, SLACK), full)
