"""What each provider can do, and how it is doing: the sheet is derived from the class and the lane."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.errors import NotFound
from app.exchange import Exchange
from app.lane import Lane
from app.provider import Provider
from app.service.views import AssetOut, HealthOut, QuestionOut, SheetOut, instant, sheet_view

DEGRADED_RATE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    exchange: Exchange
    providers: Mapping[str, Provider]

    def sheets(self) -> list[SheetOut]:
        return [self._sheet(provider) for provider in self.providers.values()]

    def sheet(self, name: str) -> SheetOut:
        return self._sheet(self._provider(name))

    def lane(self, name: str) -> Lane:
        return self.exchange.lane(self._provider(name))

    async def assets(self, name: str) -> list[AssetOut]:
        provider = self._able(name, "assets")
        found = await self.exchange.run(provider, "assets", provider.list_assets())
        return [{"code": one.code, "name": one.name, "type": one.type, "precision": one.precision} for one in found]

    async def questions(self, name: str) -> list[QuestionOut]:
        provider = self._able(name, "questionnaire")
        return [
            {"name": name} for name in await self.exchange.run(provider, "questionnaire", provider.list_questions())
        ]

    def _sheet(self, provider: Provider) -> SheetOut:
        return sheet_view(provider, health_view(self.exchange.lane(provider)))

    def _able(self, name: str, operation: str) -> Provider:
        provider = self._provider(name)
        provider.require(operation)
        return provider

    def _provider(self, name: str) -> Provider:
        if name not in self.providers:
            raise NotFound("There is no such provider.")
        return self.providers[name]


def health_view(lane: Lane) -> HealthOut:
    circuit, rate = lane.circuit.state, lane.error_rate
    degraded = circuit == "half_open" or (rate or 0) > DEGRADED_RATE
    return {
        "state": "paused" if lane.paused else "down" if circuit == "open" else "degraded" if degraded else "up",
        "circuit": circuit,
        "last_success_at": instant(lane.last_success_at),
        "last_error": lane.last_error,
        "p50_ms": lane.percentile(0.5),
        "p99_ms": lane.percentile(0.99),
        "error_rate": rate,
        "drift": lane.drift,
    }
