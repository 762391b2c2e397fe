"""What a monitor reads, in Prometheus' words."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, get_args

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from app.api.context import services
from app.api.deps import Asks
from app.api.problems import AUTHENTICATED, documented
from app.api.schemas import Nothing
from app.domain.delivery import Backlog
from app.domain.errors import Overloaded
from app.lane import State
from app.observe import Figures
from app.service.keys import Role
from app.service.services import Services

router = APIRouter(tags=["service"])

METRICS = Asks(Role.READ, Nothing)


@dataclass(frozen=True, eq=False)
class Now(Collector):
    """Figures that are read when they are asked for."""

    metrics: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.metrics


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Figures for a monitor",
    response_class=PlainTextResponse,
    responses=documented(*AUTHENTICATED),
)
async def get_metrics(request: Request, _query: Annotated[Nothing, METRICS.required]) -> Response:
    """Requests, calls to providers and their health, and what waits: creates in doubt, notifications, deliveries.

    What waits is left out while the store is away.
    """
    figures: Figures = request.app.state.figures
    now = CollectorRegistry()
    now.register(Now([*of_this_process(services(request), figures), *await of_the_store(services(request))]))
    return Response(generate_latest(figures.registry) + generate_latest(now), media_type=CONTENT_TYPE_LATEST)


def of_this_process(offered: Services, figures: Figures) -> Iterator[Metric]:
    lanes = {name: offered.catalog.lane(name) for name in offered.catalog.providers}
    circuit = gauge("gatehouse_provider_circuit", "1 for the state that it is in", "provider", "state")
    in_flight = gauge("gatehouse_provider_in_flight", "Calls under way", "provider")
    for name, lane in lanes.items():
        figures.expect(name)
        in_flight.add_metric([name], lane.under_way)
        for state in get_args(State):
            circuit.add_metric([name, state], lane.circuit.state == state)
    yield circuit
    yield in_flight
    yield gauge("gatehouse_requests_in_flight", "Requests under way, this one too", value=figures.inside)
    yield gauge("gatehouse_traces_waiting", "Steps to be kept", value=len(offered.history.traces.waiting))


async def of_the_store(offered: Services) -> list[Metric]:
    """Whether it answers, and what waits in it."""
    try:
        kept = await waiting_in_it(offered)
    except Overloaded:
        return [store_up(0)]
    return [*kept, store_up(1)]


def store_up(value: int) -> Metric:
    return gauge("gatehouse_store_up", "Whether the store answers", value=value)


async def waiting_in_it(offered: Services) -> list[Metric]:
    """The same at whichever process is asked. Overloaded."""
    now = offered.clock()
    count = gauge("gatehouse_unresolved_creates", "Creates in doubt", "provider")
    age = gauge("gatehouse_unresolved_oldest_seconds", "Age of the oldest of them", "provider")
    for doubts in await offered.listing.doubts():
        count.add_metric([doubts.provider], doubts.count)
        age.add_metric([doubts.provider], seconds(now, doubts.oldest))
    inbox, deliveries = await offered.notifications.backlog(), await offered.deliveries.backlog()
    paused = await offered.deliveries.paused()
    return [
        count,
        age,
        *waiting("gatehouse_inbox", "open", "Notifications that are not settled", inbox, now),
        *waiting("gatehouse_deliveries", "pending", "Events that are to be delivered", deliveries, now),
        gauge("gatehouse_receivers_paused", "Receivers that are only probed", value=len(paused)),
    ]


def waiting(name: str, state: str, about: str, backlog: Backlog, now: datetime) -> Iterator[Metric]:
    yield gauge(f"{name}_{state}", about, value=backlog.count)
    yield gauge(f"{name}_oldest_seconds", "Age of the oldest of them; 0: none", value=seconds(now, backlog.oldest))


def seconds(now: datetime, since: datetime | None) -> float:
    return (now - since).total_seconds() if since else 0.0


def gauge(name: str, about: str, *labels: str, value: float | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, value, labels or None)
