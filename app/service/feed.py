"""Events in the order in which they were committed, for whoever catches up or follows."""

import asyncio
from dataclasses import dataclass

from app.domain.invoice import Event
from app.service.watch import FEED, LOOK_EVERY_SECONDS, Watch
from app.storage.feed import EventLog


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    log: EventLog
    watch: Watch

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
                await bell.wait(min(left, LOOK_EVERY_SECONDS))

    async def _now(self, wanted: Wanted) -> Page:
        await self.log.number()
        found = await self.log.after(wanted.after, wanted.limit + 1, type=wanted.type, invoice_id=wanted.invoice_id)
        shown = found[: wanted.limit]
        return Page(
            events=[event for _, event in shown],
            last=shown[-1][0] if shown else wanted.after,
            more=len(found) > wanted.limit,
        )
