"""What a monitor reads, in Prometheus' words."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from app.api.deps import Asks, services
from app.api.keys import Role
from app.api.problems import BY_KEY, documented
from app.api.schemas import Nothing
from app.domain.errors import Overloaded

router = APIRouter(tags=["service"])

METRICS = Asks(Role.READ, Nothing)


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Figures for a monitor",
    response_class=PlainTextResponse,
    responses=documented(*BY_KEY, Overloaded),
)
async def get_metrics(request: Request, _query: Annotated[Nothing, METRICS.required]) -> Response:
    """How many creates are in doubt at each provider, and how long the oldest has been."""
    registry, offered = CollectorRegistry(), services(request)
    count = Gauge("gatehouse_unresolved_creates", "Creates in doubt", ["provider"], registry=registry)
    age = Gauge("gatehouse_unresolved_oldest_seconds", "Age of the oldest of them", ["provider"], registry=registry)
    now = offered.clock()
    for doubts in await offered.store.doubts():
        count.labels(doubts.provider).set(doubts.count)
        age.labels(doubts.provider).set((now - doubts.oldest).total_seconds())
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
