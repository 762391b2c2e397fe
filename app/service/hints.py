"""Ask a provider because it told us to, no more often than does it good."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self
from weakref import WeakValueDictionary

from app.domain.invoice import Snapshot
from app.exchange import Exchange
from app.provider import Flow, Provider
from app.service.buckets import Policy, TokenBuckets
from app.service.clock import Clock

# So many asks at once, and as many again in five seconds, are enough, however often we are told.
OF_ONE_INVOICE = Policy("invoice", per_second=0.6, burst=3)
OF_ONE_PROVIDER = Policy("provider", per_second=50, burst=250)
REMEMBERED_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Look:
    """What a provider said of an invoice, and when it was asked; `first` for the one who asked."""

    began: datetime
    seen: Snapshot
    first: bool = True


class NotNow(Exception):
    """It has been asked about as often as does good: later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """One look at a time per invoice; whoever was told something before it began, is served by it.

    `invoices` and `providers` hold how often each may be asked about, or asked.
    """

    exchange: Exchange
    clock: Clock
    invoices: TokenBuckets
    providers: TokenBuckets
    turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    looks: dict[str, Look] = field(default_factory=dict)

    @classmethod
    def of(cls, exchange: Exchange, clock: Clock) -> Self:
        invoices, providers = (TokenBuckets(policy, exchange.clock) for policy in (OF_ONE_INVOICE, OF_ONE_PROVIDER))
        return cls(exchange=exchange, clock=clock, invoices=invoices, providers=providers)

    async def look(
        self, provider: Provider, key: str, told_at: datetime, flow: Flow[Snapshot], about: str | None = None
    ) -> Look:
        """What the provider says since `told_at`, or NotNow.

        `key` names what is asked for, and `about` the invoice of ours that it is about, if it is known.
        """
        turn = self.turns.setdefault(key, asyncio.Lock())
        async with turn:
            known = self.looks.get(key)
            if known and known.began >= told_at:
                return replace(known, first=False)
            if self.providers.peek(provider.name).wait or self.invoices.hit(about or key).wait:
                raise NotNow
            self.providers.hit(provider.name)
            began = self.clock()
            look = Look(began, await self.exchange.run(provider, "get", flow, about))
            self.looks[key] = look
            asyncio.get_running_loop().call_later(REMEMBERED_SECONDS, self._forget, key, look)
            return look

    def _forget(self, key: str, look: Look) -> None:
        if self.looks.get(key) is look:
            del self.looks[key]
