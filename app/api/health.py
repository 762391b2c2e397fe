"""Routes for whoever keeps the service running."""

from fastapi import APIRouter, Request, Response
from typing_extensions import TypedDict

from app.api.answers import answer
from app.api.context import services
from app.api.problems import documented
from app.domain.errors import Overloaded
from app.service.views import described

router = APIRouter(tags=["service"])


@described
class HealthyOut(TypedDict):
    status: str


@router.get("/livez", operation_id="isAlive", summary="It runs", response_model=HealthyOut, responses=documented())
async def is_alive() -> Response:
    """Touches nothing: a store that is away is no reason to start this process again."""
    return answer({"status": "alive"})


@router.get(
    "/readyz",
    operation_id="isReady",
    summary="It can take calls",
    response_model=HealthyOut,
    responses=documented(Overloaded),
)
async def is_ready(request: Request) -> Response:
    """The store is there and its schema is current, and no shutdown has begun; providers have no say in it."""
    if services(request).watch.draining:
        raise Overloaded("This process is about to end.", retry_after=1)
    await services(request).store.ping()
    return answer({"status": "ready"})
