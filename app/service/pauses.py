"""Stop creates and checkouts at a provider, over every replica, and start them again."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from app.domain.errors import NotFound, Overloaded
from app.domain.trace import Pause
from app.exchange import Exchange
from app.provider import Provider
from app.service.clock import Clock
from app.storage.journal import Journal

log = structlog.get_logger()

LOOK_EVERY_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """What is kept in the store is obeyed by each replica within a second."""

    journal: Journal
    exchange: Exchange
    providers: Mapping[str, Provider]
    clock: Clock

    async def pause(self, name: str, *, by: str, reason: str) -> None:
        provider = self._provider(name)
        await self.journal.pause(Pause(provider=name, since=self.clock(), by=by, reason=reason))
        self.exchange.lane(provider).paused = True
        log.warning("operator.paused", provider=name, by=by, reason=reason)

    async def resume(self, name: str, *, by: str, reason: str) -> None:
        provider = self._provider(name)
        await self.journal.resume(name)
        self.exchange.lane(provider).paused = False
        log.warning("operator.resumed", provider=name, by=by, reason=reason)

    async def look(self) -> None:
        """Once."""
        paused = {pause.provider for pause in await self.journal.pauses()}
        for name, provider in self.providers.items():
            self.exchange.lane(provider).paused = name in paused

    async def obey(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            try:
                await self.look()
            except Overloaded:
                log.info("pauses.unseen")

    def _provider(self, name: str) -> Provider:
        if name not in self.providers:
            raise NotFound("There is no such provider.")
        return self.providers[name]
