"""Find what is wrong with a deployment: its settings, its store, its accounts at the providers; and say what to do."""

import asyncio
from collections.abc import AsyncIterator

from app.configured import destinations_of, wire
from app.doctor import accounts, settings, store
from app.doctor.finding import Finding
from app.exchange import Exchange
from app.settings import read

__all__ = ["Finding", "examine"]


async def examine() -> AsyncIterator[Finding]:
    """One finding after the other; nothing is changed anywhere."""
    given, unknown, wrong = read()
    faults = [*map(settings.meant, unknown), *wrong]
    if given is None:
        for fault in faults:
            yield Finding("settings", "wrong", fault)
        return
    providers, wrong = settings.built(given)
    faults = list(dict.fromkeys([*faults, *wrong, *settings.contradictions(given, providers)]))
    for fault in faults:
        yield Finding("settings", "wrong", fault)
    if not faults:
        yield Finding("settings", "good", "complete")
    for finding in (*settings.borrowed(given), *settings.doubts(given), await store.standing(given)):
        yield finding
    async with wire(given, destinations_of(given)) as carrier:
        dated = accounts.Dated(carrier)
        exchange = Exchange(wire=dated)
        for finding in await asyncio.gather(*(accounts.account(exchange, provider) for provider in providers.values())):
            yield finding
        for finding in accounts.clocks(dated, providers.values()):
            yield finding
