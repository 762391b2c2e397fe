"""Routes that say what each provider can do, and how it is doing."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.api.answers import answer
from app.api.context import caller, services
from app.api.deps import Asks, Sends
from app.api.idempotency import idempotent
from app.api.problems import AUTHENTICATED, READING, WITH_BODY, documented
from app.api.schemas import NewReason, Nothing
from app.domain import errors
from app.observe import note
from app.service.keys import Role
from app.service.views import AssetsOut, QuestionsOut, SheetOut, SheetsOut

router = APIRouter(prefix="/v1/providers", tags=["providers"])

ANY = Asks(Role.READ, Nothing)
ONE = (*AUTHENTICATED, errors.NotFound)
BECAUSE = Sends(Role.ADMIN, NewReason)
CHANGED = (*ONE, *WITH_BODY, errors.Overloaded, errors.IdempotencyInProgress, errors.IdempotencyMismatch)
ASKED = (*ONE, errors.UnsupportedOperation, *READING)

Name = Annotated[str, Path(description="What callers call this account")]
NoQuery = Annotated[Nothing, ANY.required]


@router.get(
    "",
    operation_id="listProviders",
    summary="Every provider's capability sheet",
    response_model=SheetsOut,
    responses=documented(*AUTHENTICATED),
    openapi_extra=ANY.docs,
)
async def list_providers(request: Request, _query: NoQuery) -> Response:
    view: SheetsOut = {"data": services(request).catalog.sheets()}
    return answer(view)


@router.get(
    "/{name}",
    operation_id="getProvider",
    summary="One provider's capability sheet",
    response_model=SheetOut,
    responses=documented(*ONE),
    openapi_extra=ANY.docs,
)
async def get_provider(request: Request, name: Name, _query: NoQuery) -> Response:
    """What it can do, what a create needs, how its notifications are known to be its own, and its health."""
    return answer(services(request).catalog.sheet(name))


@router.get(
    "/{name}/assets",
    operation_id="listAssets",
    summary="The currencies it can invoice in",
    response_model=AssetsOut,
    responses=documented(*ASKED),
    openapi_extra=ANY.docs,
)
async def list_assets(request: Request, name: Name, _query: NoQuery) -> Response:
    view: AssetsOut = {"data": await services(request).catalog.assets(name)}
    note(request.scope, provider=name)
    return answer(view)


@router.get(
    "/{name}/questionnaire",
    operation_id="listQuestions",
    summary="What it can ask a buyer",
    response_model=QuestionsOut,
    responses=documented(*ASKED),
    openapi_extra=ANY.docs,
)
async def list_questions(request: Request, name: Name, _query: NoQuery) -> Response:
    view: QuestionsOut = {"data": await services(request).catalog.questions(name)}
    note(request.scope, provider=name)
    return answer(view)


@router.post(
    "/{name}/pause",
    operation_id="pauseProvider",
    summary="Stop creates and checkouts at a provider",
    response_model=SheetOut,
    responses=documented(*CHANGED),
    openapi_extra=BECAUSE.docs,
)
async def pause_provider(request: Request, name: Name, new: Annotated[NewReason, BECAUSE.required]) -> Response:
    """Reads go on. Every replica obeys within a second, until somebody resumes it."""
    return await changed(request, name, new, services(request).pauses.pause)


@router.post(
    "/{name}/resume",
    operation_id="resumeProvider",
    summary="Start them again",
    response_model=SheetOut,
    responses=documented(*CHANGED),
    openapi_extra=BECAUSE.docs,
)
async def resume_provider(request: Request, name: Name, new: Annotated[NewReason, BECAUSE.required]) -> Response:
    return await changed(request, name, new, services(request).pauses.resume)


async def changed(request: Request, name: str, new: NewReason, change: Callable[..., Awaitable[None]]) -> Response:
    by = caller(request).name

    async def made() -> SheetOut:
        await change(name, by=by, reason=new.reason)
        return services(request).catalog.sheet(name)

    note(request.scope, provider=name)
    return await idempotent(request, name, new, made)
