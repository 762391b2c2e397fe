"""What browsers send to the shop: read within limits, and judged."""

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

FORM_LIMIT = 16 * 1024
MOST_FIELDS = 20

FORM_ID = re.compile(r"[a-z0-9]{8,64}", re.ASCII)
EMAIL = re.compile(r"[^@\s\0-\x1f\x7f]{1,64}@[^@\s\0-\x1f\x7f]{1,189}")
REVISION = re.compile(r"[0-9]{1,9}", re.ASCII)

# The cookie in which a browser keeps its own orders: some providers send nobody back.
MINE = "orders"
MOST_KEPT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A filled-in order form; `form_id` is in no other one."""

    form_id: str
    product: str
    provider: str
    email: str

    @classmethod
    async def of(cls, request: Request) -> Self:
        """HTTPException where it is too large, or not as the form was."""
        form = await fields_of(request)
        wish = cls(
            form_id=form.get("form_id", ""),
            product=form.get("product", ""),
            provider=form.get("provider", ""),
            email=form.get("email", "").strip(),
        )
        if not FORM_ID.fullmatch(wish.form_id):
            raise HTTPException(422, "The form was not whole. Please go back to the shop and choose again.")
        if not EMAIL.fullmatch(wish.email):
            raise HTTPException(422, "We need your e-mail address. Please go back and correct it.")
        return wish


async def fields_of(request: Request) -> dict[str, str]:
    text = (await body_of(request, FORM_LIMIT)).decode(errors="replace")
    try:
        return dict(parse_qsl(text, max_num_fields=MOST_FIELDS))
    except ValueError as error:
        raise HTTPException(422) from error


async def body_of(request: Request, limit: int) -> bytes:
    """HTTPException where it is larger than `limit` bytes."""
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > limit:
            raise HTTPException(413)
    return bytes(read)


async def left(request: Request) -> None:
    """Until nobody waits for its answer any longer."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def revision_of(request: Request) -> int:
    text = request.query_params.get("version", "0")
    if not REVISION.fullmatch(text):
        raise HTTPException(422, "The version must be a number.")
    return int(text)


def kept(request: Request) -> list[str]:
    """The ids of this browser's own orders, the newest first."""
    return request.cookies.get(MINE, "").split(".")[:MOST_KEPT]


def keeping(request: Request, id: str) -> str:
    """The cookie's value with one more."""
    return ".".join([id, *(other for other in kept(request) if other not in {id, ""})][:MOST_KEPT])
