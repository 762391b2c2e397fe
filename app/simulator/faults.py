"""How a fake provider misbehaves: every fault, and what it does to one answer."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any, Protocol

from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.simulator.wire import PATIENCE, Reply, connection, left, reset, silence

OPERATIONS = ("create", "checkout", "get", "list", "cancel", "assets", "questionnaire")
HUGE = 50 * 1024 * 1024
CHUNK = b" " * 65536
PROXY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
UNHEARD_OF = "SOMETHING_NEW"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`seconds`: how long `slow` waits, `drip` takes, `late_accept` hesitates; what `retry_after` says."""

    operation: str
    fault: str
    times: int = 1
    seconds: float = 5


class Faults:
    """The faults that wait for their operation, first armed, first used."""

    def __init__(self) -> None:
        self._armed: list[Fault] = []

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._armed)

    def arm(self, fault: Fault) -> None:
        self._armed.append(fault)

    def take(self, operations: AbstractSet[str | None]) -> Fault | None:
        for place, fault in enumerate(self._armed):
            if fault.operation in operations:
                self._armed[place : place + 1] = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                return fault
        return None

    def clear(self) -> None:
        self._armed.clear()


class Victim(Protocol):
    """What a fault needs of the provider that it befalls."""

    @property
    def amounts(self) -> frozenset[str]: ...
    @property
    def faults(self) -> Faults: ...
    def refuse(self, status: int, message: str) -> Reply: ...
    def later(self, errand: Coroutine[Any, Any, None]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One operation about to go wrong; `act` carries it out."""

    fault: Fault
    victim: Victim
    act: Callable[[], Reply]

    def done(self, then: ASGIApp) -> ASGIApp:
        self.act()
        return then


def is_fault(name: str) -> bool:
    kind, _, code = name.partition(":")
    if kind == "status":
        return code.isascii() and code.isdigit() and 200 <= int(code[:4]) <= 599
    return name in TRICKS


def misbehave(scene: Scene) -> ASGIApp:
    """What the client gets instead of the answer. A fault that damages a 2xx answer lets the operation happen."""
    kind, _, code = scene.fault.fault.partition(":")
    return refused(scene, int(code)) if kind == "status" else TRICKS[kind](scene)


def refused(scene: Scene, status: int) -> Reply:
    reply = scene.victim.refuse(status, "A fault that was asked for.")
    return replace(reply, headers={**reply.headers, "Location": "/"}) if 300 <= status <= 399 else reply


def retry_after(scene: Scene) -> Reply:
    reply = refused(scene, 429)
    return replace(reply, headers={**reply.headers, "Retry-After": str(math.ceil(scene.fault.seconds))})


def late_accept(scene: Scene) -> ASGIApp:
    async def errand() -> None:
        await asyncio.sleep(scene.fault.seconds)
        scene.act()

    scene.victim.later(errand())
    return silence


def slow(scene: Scene) -> ASGIApp:
    return partial(_slow, scene.act(), scene.fault.seconds)


async def _slow(reply: Reply, seconds: float, scope: Scope, receive: Receive, send: Send) -> None:
    if not await left(receive, seconds):
        await reply(scope, receive, send)


def drip(scene: Scene) -> ASGIApp:
    return partial(_drip, scene.act(), scene.fault.seconds)


async def _drip(reply: Reply, seconds: float, _scope: Scope, receive: Receive, send: Send) -> None:
    body = reply.body
    await send(_head(reply))
    for place in range(len(body)):
        if await left(receive, seconds / len(body)):
            return
        await send(_part(body[place : place + 1], more=True))
    await send(_part(b"", more=False))


def truncated(scene: Scene) -> ASGIApp:
    return partial(_truncated, scene.act())


async def _truncated(reply: Reply, scope: Scope, receive: Receive, send: Send) -> None:
    await send(_head(reply))
    await send(_part(reply.body[: len(reply.body) // 2], more=True))
    connection(scope).close()
    await left(receive, PATIENCE)


def huge(scene: Scene) -> ASGIApp:
    """50 MB of white space before the answer, unannounced: readable by whoever reads it all."""
    reply = scene.act()
    return StreamingResponse(_padded(reply.body), reply.status, media_type="application/json")


async def _padded(body: bytes) -> AsyncIterator[bytes]:
    for _ in range(HUGE // len(CHUNK)):
        yield CHUNK
    yield body


def altered(scene: Scene, change: Callable[[str, Any], Any]) -> Reply:
    """The real answer, changed; a create with nothing to change in it leaves the fault to the next read."""
    reply = scene.act()
    other = replace(reply, content=rewritten(reply.content, change))
    if scene.fault.operation == "create" and reply.is_success and other == reply:
        scene.victim.faults.arm(replace(scene.fault, operation="get", times=1))
    return other


def wrong_amount(scene: Scene) -> Reply:
    return altered(scene, lambda key, value: _raised(value) if key in scene.victim.amounts else value)


def unknown_status(scene: Scene) -> Reply:
    return altered(scene, lambda key, value: UNHEARD_OF if key == "status" and isinstance(value, str) else value)


def extra_fields(scene: Scene) -> Reply:
    reply = scene.act()
    return replace(reply, content=widened(reply.content))


def rewritten(value: Any, change: Callable[[str, Any], Any]) -> Any:
    match value:
        case dict():
            return {key: change(key, rewritten(item, change)) for key, item in value.items()}
        case list():
            return [rewritten(item, change) for item in value]
        case _:
            return value


def widened(value: Any) -> Any:
    match value:
        case dict():
            return {**{key: widened(item) for key, item in value.items()}, "somethingNew": {"nested": [1, None, "x"]}}
        case list():
            return [widened(item) for item in value]
        case _:
            return value


def _raised(amount: Any) -> Any:
    return str(Decimal(amount) + 1) if isinstance(amount, str) else amount + 1


def _head(reply: Reply) -> dict[str, Any]:
    headers = {"content-type": "application/json", "content-length": str(len(reply.body)), **reply.headers}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": reply.status, "headers": pairs}


def _part(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


TRICKS: dict[str, Callable[[Scene], ASGIApp]] = {
    "timeout": lambda _: silence,
    "timeout_after_accept": lambda scene: scene.done(silence),
    "late_accept": late_accept,
    "reset": lambda _: reset,
    "reset_after_accept": lambda scene: scene.done(reset),
    "slow": slow,
    "drip": drip,
    "garbage": lambda scene: scene.done(Response(b"}{ not JSON", 200, media_type="application/json")),
    "html": lambda _: HTMLResponse(PROXY_PAGE, 502),
    "truncated": truncated,
    "empty": lambda scene: Response(b"", scene.act().status, media_type="application/json"),
    "huge": huge,
    "wrong_amount": wrong_amount,
    "unknown_status": unknown_status,
    "extra_fields": extra_fields,
    "retry_after": retry_after,
}
