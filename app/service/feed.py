"""Events in the order in which they were committed, for whoever catches up or follows."""

import asyncio
from dataclasses import dataclass, field

from app.domain.errors import NotFound
from app.domain.invoice import Event, id_pattern
from app.service.flights import Flights
from app.service.watch import FEED, Watch
from app.storage.feed import EventLog

EVENT_ID = id_pattern("evt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """`after` is the number of the last event seen, 0 before the first."""

    after: int = 0
    limit: int
    type: str | None = None
    invoice_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    events: list[Event]
    last: int
    more: bool


@dataclass(slots=True, kw_only=True)
class Feed:
    """`flights` share the numbering among all who follow; `newest` is the last number that they have been told of."""

    log: EventLog
    watch: Watch
    flights: Flights = field(default_factory=Flights)
    newest: int = 0

    async def page(self, wanted: Wanted, wait: float = 0) -> Page:
        """The next events; where there are none yet, as soon as there are, at most after `wait` seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        with self.watch.over(FEED) as bell:
            while True:
                page = await self._now(wanted)
                left = until - loop.time()
                if page.events or left <= 0 or self.watch.draining:
                    return page
                await bell.wait(left)

    async def event(self, id: str) -> Event:
        found = await self.log.one(id) if EVENT_ID.fullmatch(id) else None
        if found is None:
            raise NotFound("There is no such event.")
        return found

    async def look(self) -> None:
        """Ring for events that other processes have made: a query or two for all who follow."""
        if FEED in self.watch.bells:
            await self._numbered()
            newest = await self.log.newest()
            if newest > self.newest:
                self.newest = newest
                self.watch.ring(())

    async def _now(self, wanted: Wanted) -> Page:
        await self._numbered()
        found = await self.log.after(wanted.after, wanted.limit + 1, type=wanted.type, invoice_id=wanted.invoice_id)
        shown = found[: wanted.limit]
        return Page(
            events=[event for _, event in shown],
            last=shown[-1][0] if shown else wanted.after,
            more=len(found) > wanted.limit,
        )

    async def _numbered(self) -> None:
        await self.flights.join("number", self.log.number)
