"""Each request gets an id, each response safe headers, and both are told in one line and counted."""

import re
from secrets import token_hex
from time import perf_counter

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars

from app.observe.figures import Figures
from app.observe.lines import LINE, Line, traceparent_of

log = structlog.get_logger()

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)

QUIET = frozenset({"/livez", "/readyz"})
UNSTORED = (b"cache-control", b"no-store")
# A page that needs more says so itself, and is left alone.
SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
)


class Observed:
    """Pure ASGI: gives each request an id, dresses each response, tells of it in one line, and counts it."""

    def __init__(self, app: ASGIApp, figures: Figures | None = None) -> None:
        self.app = app
        self.figures = figures or Figures()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        line = scope.setdefault("state", {})["line"] = line_of(scope)
        identity = (b"x-request-id", line.request_id.encode())

        async def dressing(message: Message) -> None:
            if message["type"] == "http.response.start":
                line.status = message["status"]
                message["headers"] = dressed(scope["path"], [*message["headers"], identity, timing(line)])
            await send(message)

        mine = LINE.set(line)
        self.figures.inside += 1
        try:
            await self.app(scope, receive, dressing)
        finally:
            self.figures.inside -= 1
            LINE.reset(mine)
            self._tell(scope, line)

    def _tell(self, scope: Scope, line: Line) -> None:
        route = getattr(scope.get("route"), "path_format", None)
        seconds = perf_counter() - line.began
        self.figures.answered(route, scope["method"], line.status, seconds, line.facts.get("code"))
        tell(scope, route, line)


def line_of(scope: Scope) -> Line:
    """A new one, of which every line of the log that this request leads to will speak."""
    line = Line(request_id_of(scope), traceparent_of(scope["headers"]))
    known = {"request_id": line.request_id}
    if line.traceparent:
        known["traceparent"] = line.traceparent
    clear_contextvars()
    bind_contextvars(**known)
    line.facts.update(known)
    return line


def tell(scope: Scope, route: str | None, line: Line) -> None:
    provider_ms, own_ms = line.times()
    say = log.debug if route in QUIET and line.status == 200 else log.info
    outcome = {"code": "ok"} if line.status is not None and line.status < 400 else {}
    say(
        "request",
        method=scope["method"],
        route=route,
        operation=getattr(scope.get("route"), "operation_id", None),
        status=line.status,
        ms=round(provider_ms + own_ms, 2),
        provider_ms=round(provider_ms, 2),
        own_ms=round(own_ms, 2),
        **outcome | line.facts,
    )


def note(scope: Scope, **facts: object) -> None:
    """Add to the line about this request."""
    scope["state"]["line"].facts.update(facts)


def request_id(scope: Scope) -> str:
    line: Line = scope["state"]["line"]
    return line.request_id


def request_id_of(scope: Scope) -> str:
    """The caller's own, if it sent a sane one."""
    sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
    return sent if SANE_ID.fullmatch(sent) else token_hex(16)


def dressed(path: str, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    given = {name for name, _ in headers}
    wanted = (*SAFE, UNSTORED) if path.startswith("/v1/") else SAFE
    return headers + [header for header in wanted if header[0] not in given]


def timing(line: Line) -> tuple[bytes, bytes]:
    return b"server-timing", b"provider;dur=%.1f, own;dur=%.1f" % line.times()
