"""Stop creates and checkouts at a provider, over every replica, and start them again."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from app.domain.errors import NotFound
from app.domain.trace import Pause
from app.exchange import Exchange
from app.provider import Provider
from app.service.clock import Clock
from app.storage.journal import Journal

log = structlog.get_logger()

OBEY_EVERY_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """What is kept in the store is obeyed by each replica within a second."""

    journal: Journal
    exchange: Exchange
    providers: Mapping[str, Provider]
    clock: Clock
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def pause(self, name: str, *, by: str, reason: str) -> None:
        provider = self._provider(name)
        async with self.turn:
            await self.journal.pause(Pause(provider=name, since=self.clock(), by=by, reason=reason))
            self.exchange.lane(provider).paused = True
        log.warning("operator.paused", provider=name, by=by, reason=reason)

    async def resume(self, name: str, *, by: str, reason: str) -> None:
        provider = self._provider(name)
        async with self.turn:
            await self.journal.resume(name)
            self.exchange.lane(provider).paused = False
        log.warning("operator.resumed", provider=name, by=by, reason=reason)

    async def all(self) -> list[Pause]:
        return await self.journal.pauses()

    async def look(self) -> None:
        """Obey what is kept."""
        async with self.turn:
            paused = {pause.provider for pause in await self.journal.pauses()}
            for name, provider in self.providers.items():
                self.exchange.lane(provider).paused = name in paused

    def _provider(self, name: str) -> Provider:
        if name not in self.providers:
            raise NotFound("There is no such provider.")
        return self.providers[name]
