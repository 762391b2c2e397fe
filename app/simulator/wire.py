"""The wire of a fake provider: what it hears, what it answers, and the connection beneath."""

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NoReturn

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CONNECTION = "gatehouse.transport"
PATIENCE = 120.0


class Malformed(ValueError):
    """A body that is not the JSON object it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a fake provider hears: the target is path and query below its base address, exactly as sent."""

    target: str
    named: Mapping[str, str]
    query: QueryParams
    headers: Headers
    body: bytes

    @classmethod
    async def of(cls, request: Request, base: str) -> "Ask":
        path = request.scope.get("raw_path", request.scope["path"].encode()).decode("latin-1")
        return cls(
            target=path.removeprefix(base) + (f"?{request.url.query}" if request.url.query else ""),
            named=request.path_params,
            query=request.query_params,
            headers=request.headers,
            body=await request.body(),
        )

    @property
    def fields(self) -> dict[str, Any]:
        """The body's JSON object, empty where there is no body. Raises Malformed."""
        found = load(self.body) if self.body.strip() else {}
        if not isinstance(found, dict):
            raise Malformed("The body is not a JSON object.")
        return found


@dataclass(frozen=True, slots=True)
class Reply:
    """What a fake provider answers, as long as nothing goes wrong: JSON."""

    status: int
    content: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        return b"" if self.status in {204, 304} else dump(self.content)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status <= 299

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Response(self.body, self.status, self.headers, "application/json")(scope, receive, send)


def load(body: bytes) -> Any:
    """JSON with its numbers as they were written. Raises Malformed."""
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Malformed("The body is not JSON.") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def dump(value: Any) -> bytes:
    """Compact JSON as JavaScript writes it, except that a Decimal keeps its digits (`220.0`)."""
    return _written(value).encode(errors="replace")


def _written(value: Any) -> str:
    match value:
        case Decimal():
            return str(value)
        case dict():
            return "{" + ",".join(f"{_written(str(key))}:{_written(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_written, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)


class SandboxProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, with the connection within reach of the faults that break it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: {"transport": self.transport}}

    def shutdown(self) -> None:
        """Drop what is unanswered: a fault that never answers would hold the shutdown for minutes."""
        super().shutdown()
        if not self.transport.is_closing():
            self.transport.abort()


async def reset(scope: Scope, receive: Receive, _send: Send) -> None:
    """Break the connection so that the client sees a reset, not an end."""
    line = connection(scope)
    line.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.abort()
    await left(receive, PATIENCE)


async def silence(scope: Scope, receive: Receive, send: Send) -> None:
    """Never answer: wait until the client hangs up, then a little too long."""
    if not await left(receive, PATIENCE):
        await reset(scope, receive, send)


async def left(receive: Receive, seconds: float) -> bool:
    """Wait; say whether the client hung up meanwhile."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


def connection(scope: Scope) -> asyncio.Transport:
    found = scope.get("extensions", {}).get(CONNECTION)
    if found is None:
        raise RuntimeError("This fault needs a connection: serve the sandbox with http=SandboxProtocol.")
    transport: asyncio.Transport = found["transport"]
    return transport
