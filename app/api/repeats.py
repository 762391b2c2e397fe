"""Calls that may be made again under one key, and answers that may have been given before."""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import Request, Response

from app.api.answers import ENCODER, answer
from app.api.deps import keyed, services
from app.api.schemas import Sent
from app.service.idempotency import Told

Act = Callable[[], Awaitable[object]]
Show = Callable[[Request, bytes], object]


async def by_key(
    request: Request, id: str, sent: Sent, act: Act, *, status: int = 200, show: Show | None = None
) -> Response:
    """The answer to a call about `id`, which is made once where it came with an idempotency key; `act` gives a view.

    `show` makes of the view, as it is kept, what this caller may see.
    """

    async def made() -> bytes:
        return ENCODER.encode(await act())

    told = await services(request).idempotency.again(keyed(request, sent.model_dump()), id, made)
    return given(told, show(request, told.body) if show else told.body, status)


def given(told: Told, view: object, status: int = 200, headers: Mapping[str, str] = {}) -> Response:
    replayed = {"Idempotency-Replayed": "true"} if told.replayed else {}
    return answer(view, status, {**headers, **replayed})
