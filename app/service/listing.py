"""List every provider's invoices from our index, after asking the providers what they know that we don't."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from app.domain.errors import Overloaded, ProviderError
from app.domain.invoice import Event, Invoice, Snapshot, Status
from app.exchange import Exchange
from app.provider import Provider
from app.service.changes import adopted, apply
from app.service.clock import Clock
from app.service.flights import Flights
from app.service.views import SourceOut, instant
from app.storage.pages import Query
from app.storage.store import Doubts, Store

WAIT_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    invoices: list[Invoice]
    more: bool
    sources: list[SourceOut]

    @property
    def partial(self) -> bool:
        return any(source["state"] == "failed" for source in self.sources)


@dataclass(slots=True)
class Asked:
    """When a provider's list was last asked for, last had, and what went wrong the last time."""

    at: datetime | None = None
    had: datetime | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    store: Store
    exchange: Exchange
    providers: Mapping[str, Provider]
    clock: Clock
    max_age: timedelta
    flights: Flights = field(default_factory=Flights)
    asked: dict[str, Asked] = field(default_factory=dict)

    async def page(self, query: Query) -> Page:
        """One page, newest first. The providers are asked before the first page only."""
        names = [name for name in self.providers if query.provider in (None, name)]
        sources = await asyncio.gather(*(self._source(name, fresh=query.after is None) for name in names))
        found = await self.store.page(replace(query, limit=query.limit + 1), self.clock())
        return Page(invoices=found[: query.limit], more=len(found) > query.limit, sources=sources)

    async def by_email(self, email: str, limit: int) -> list[Invoice]:
        """The newest of a customer, of those that we know."""
        return await self.store.by_email(email, limit, self.clock())

    async def unknown(self, limit: int) -> list[Invoice]:
        """The newest of those that a person may have to settle; no provider is asked."""
        return await self.store.page(Query(limit=limit, status=Status.UNKNOWN), self.clock())

    async def doubts(self) -> list[Doubts]:
        """How many creates are in doubt at each provider, and since when."""
        return await self.store.doubts()

    async def _source(self, name: str, *, fresh: bool) -> SourceOut:
        provider, asked = self.providers[name], self.asked.setdefault(name, Asked())
        if not provider.can("list") or not fresh:
            return {"provider": name, "state": "stored", "as_of": instant(asked.had), "code": None}
        code = await self._refreshed(provider, asked)
        return {"provider": name, "state": "failed" if code else "live", "as_of": instant(asked.had), "code": code}

    async def _refreshed(self, provider: Provider, asked: Asked) -> str | None:
        """The code of what went wrong, if anything did; waited for only so long, though the flight goes on."""
        if not self._due(provider, asked) and provider.name not in self.flights.under_way:
            return asked.code
        flight = self.flights.start(provider.name, lambda: self._read(provider, asked))
        done, _ = await asyncio.wait({flight}, timeout=WAIT_SECONDS)
        return flight.result() if done else "provider_timeout"

    async def _read(self, provider: Provider, asked: Asked) -> str | None:
        asked.at = self.clock()
        try:
            seen = await self.exchange.run(provider, "list", provider.list_invoices())
        except ProviderError as error:
            asked.code = error.code
            return asked.code
        try:
            await self._take_in(provider.name, seen)
        except Overloaded:
            asked.at = None
            raise
        asked.had, asked.code = self.clock(), None
        return None

    async def _take_in(self, provider: str, seen: Sequence[Snapshot]) -> None:
        at = self.clock()

        def decide(invoice: Invoice, snapshot: Snapshot) -> tuple[Invoice, list[Event]]:
            now, events = apply(invoice, snapshot, at)
            return (now, events) if events else (invoice, [])

        await self.store.adopt(provider, seen, lambda snapshot: adopted(provider, snapshot, at), decide)

    def _due(self, provider: Provider, asked: Asked) -> bool:
        """A list that failed is asked for again as soon as any other, even where a good one would be kept for long."""
        least = self.max_age if asked.code else max(self.max_age, timedelta(seconds=provider.list_every))
        return asked.at is None or self.clock() - asked.at > least
