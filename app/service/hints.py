"""Ask a provider because it told us to, no more often than does it good."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from weakref import WeakValueDictionary

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from app.domain.invoice import Snapshot
from app.exchange import Exchange
from app.provider import Flow, Provider
from app.service.clock import Clock

# So many asks in so many seconds are enough, however often we are told.
OF_ONE_INVOICE = RateLimitItemPerSecond(3, 5)
OF_ONE_PROVIDER = RateLimitItemPerSecond(250, 5)
REMEMBERED_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Look:
    """What a provider said of an invoice, and when it was asked."""

    began: datetime
    seen: Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """One look at a time per invoice; whoever was told something before it began, is served by it."""

    exchange: Exchange
    clock: Clock
    turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    looks: dict[str, Look] = field(default_factory=dict)
    limiter: MovingWindowRateLimiter = field(default_factory=lambda: MovingWindowRateLimiter(MemoryStorage()))

    async def look(self, provider: Provider, key: str, told_at: datetime, flow: Flow[Snapshot]) -> Look | None:
        """What the provider says since `told_at`; None: it may not be asked just now. `key` names what is asked for."""
        turn = self.turns.setdefault(key, asyncio.Lock())
        async with turn:
            known = self.looks.get(key)
            if known and known.began >= told_at:
                return known
            if not await self._may_ask(provider, key):
                return None
            return await self._look(provider, key, flow)

    async def _may_ask(self, provider: Provider, key: str) -> bool:
        return await self.limiter.hit(OF_ONE_INVOICE, key) and await self.limiter.hit(OF_ONE_PROVIDER, provider.name)

    async def _look(self, provider: Provider, key: str, flow: Flow[Snapshot]) -> Look:
        began = self.clock()
        look = Look(began, await self.exchange.run(provider, "get", flow, key))
        self.looks[key] = look
        asyncio.get_running_loop().call_later(REMEMBERED_SECONDS, self._forget, key, look)
        return look

    def _forget(self, key: str, look: Look) -> None:
        if self.looks.get(key) is look:
            del self.looks[key]
