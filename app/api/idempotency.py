"""Calls that may be made again under one key, and answers that may have been given before."""

import re
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from fastapi import Request, Response

from app.api.answers import ENCODER, answer
from app.api.context import caller, services
from app.api.schemas import Sent
from app.domain.errors import Fault
from app.service.idempotency import Told, fingerprint
from app.storage.idempotency import IdempotencyKey

KEY = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key and request are one call: its first answer is given again, for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}

Act = Callable[[], Awaitable[object]]
Show = Callable[[Request, bytes], object]


async def idempotent(
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


def keyed(request: Request, asked: object) -> IdempotencyKey | None:
    """The caller's idempotency key, if one was sent, for what was asked: the path and the body as it was understood."""
    value = request.headers.get("idempotency-key")
    if value is None:
        return None
    canonical = msgspec.json.encode(asked, order="deterministic")
    return IdempotencyKey(
        caller=caller(request).name, value=value, fingerprint=fingerprint(request.url.path, canonical)
    )


def key_faults(request: Request) -> list[Fault]:
    sent = request.headers.getlist("idempotency-key")
    if len(sent) <= 1 and all(KEY.fullmatch(value) for value in sent):
        return []
    return [Fault("header:idempotency-key", "must be 1 to 255 printable ASCII characters, sent once")]
