"""Bells for whoever waits: for one invoice to change, or for the next event."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from app.storage.store import Store

FEED = "feed"
# How soon a change that another process made is seen here.
LOOK_EVERY_SECONDS = 0.2


@dataclass(slots=True, eq=False)
class Bell:
    """Rung when there may be news. `version` is the one of the invoice that its holder knows."""

    version: int | None = None
    rung: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, seconds: float) -> None:
        """Until it is rung, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # wait_for would swallow a cancellation that comes with the ring
                await self.rung.wait()
        self.rung.clear()


@dataclass(slots=True)
class Watch:
    """A change rings here at once where this process made it; `look` finds those of others.

    Once `draining`, nobody is to wait any longer.
    """

    bells: dict[str, set[Bell]] = field(default_factory=dict)
    draining: bool = False

    def ring(self, ids: Collection[str]) -> None:
        """These invoices have changed, or have events that nobody has seen."""
        for id in (*ids, FEED):
            for bell in self.bells.get(id, ()):
                bell.rung.set()

    def drain(self) -> None:
        self.draining = True
        self.ring(self.bells)

    @contextmanager
    def over(self, key: str) -> Iterator[Bell]:
        """A bell for an invoice's id, or FEED; from now on no news is missed."""
        bell = Bell()
        self.bells.setdefault(key, set()).add(bell)
        try:
            yield bell
        finally:
            self.bells[key].discard(bell)
            if not self.bells[key]:
                del self.bells[key]

    async def look(self, store: Store) -> None:
        """Ring for invoices that other processes have changed: one query for all who wait."""
        if waiting := [id for id in self.bells if id != FEED]:
            self._compare(await store.versions(waiting))

    def _compare(self, versions: dict[str, int]) -> None:
        for id, version in versions.items():
            for bell in self.bells.get(id, ()):
                if bell.version is not None and version > bell.version:
                    bell.rung.set()
