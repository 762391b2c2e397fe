"""However often we are told, a provider is asked no more often than does good."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.invoice import Snapshot
from app.exchange import Exchange
from app.provider import Flow, Provider
from app.providers import build
from app.service.hints import Hints, Look, NotNow
from app.wire import Wire

pytestmark = pytest.mark.anyio

SHOP, OTHER = build(
    {name: {"kind": "generic", "api_key": "key"} for name in ("shop", "other")},
    timeout=1,
    clock=lambda: datetime.now(UTC),
).values()


@dataclass
class Told:
    """Someone who is told again and again, by a clock of their own."""

    hints: Hints = field(init=False)
    seconds: float = 1000.0
    asked: list[str] = field(default_factory=list)

    def ticks(self) -> float:
        return self.seconds

    def clock(self) -> datetime:
        return datetime(2026, 1, 2, tzinfo=UTC) + timedelta(seconds=self.seconds)

    async def look(self, key: str, provider: Provider = SHOP) -> Look:
        """Once more, since something was told just after the last look."""
        self.seconds += 0.00001
        return await self.hints.look(provider, key, self.clock(), self._flow(key))

    async def looks(self, key: str, times: int) -> int:
        """How many of so many were made."""
        before = len(self.asked)
        for _ in range(times):
            try:
                await self.look(key)
            except NotNow:
                continue
        return len(self.asked) - before

    def _flow(self, key: str) -> Flow[Snapshot]:
        """Nothing is sent: only whether it would be is of interest."""
        self.asked.append(key)
        yield from ()
        return Snapshot(reference=key, status=None)


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    told = Told()
    async with Wire() as wire:
        told.hints = Hints.of(Exchange(wire=wire, clock=told.ticks), told.clock)
        yield told


async def test_an_invoice_is_asked_about_three_times_and_then_once_in_a_while(told: Told) -> None:
    assert await told.looks("inv_1", 20) == 3
    assert await told.looks("inv_2", 20) == 3
    told.seconds += 1.7
    assert await told.looks("inv_1", 20) == 1
    told.seconds += 5
    assert await told.looks("inv_1", 20) == 3


async def test_a_provider_is_asked_so_often_whatever_it_is_about(told: Told) -> None:
    assert sum([await told.looks(f"inv_{number}", 1) for number in range(300)]) == 250
    with pytest.raises(NotNow):
        await told.look("inv_x")
    assert (await told.look("inv_y", OTHER)).first
    told.seconds += 5
    assert await told.looks("inv_x", 20) == 3, "what was refused counts for nothing"
    assert sum([await told.looks(f"inv_{number}", 1) for number in range(300)]) == 247


async def test_who_was_told_before_a_look_began_is_served_by_it(told: Told) -> None:
    look = await told.look("inv_1")
    for _ in range(20):
        again = await told.hints.look(SHOP, "inv_1", look.began, told._flow("inv_1"))
        assert (again.seen, again.first) == (look.seen, False)
    assert await told.looks("inv_1", 20) == 2
