"""What is seen of the service: structured logs, one line a request, and the headers that every response has."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from secrets import token_hex
from time import perf_counter
from typing import BinaryIO

import msgspec
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars, merge_contextvars
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, WrappedLogger

log = structlog.get_logger()

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
SECRET_NAME = re.compile(r"secret|token|authorization|password|cookie|signature|credential|key", re.IGNORECASE)
EMAIL = re.compile(r"[^\s@\"'<>()\[\]{},;:=]+@[^\s@\"'<>()\[\]{},;:=]+")

TOKEN = re.compile(r"([?&;]token=)[^&#\s\"'<>]+", re.IGNORECASE)

QUIET = frozenset({"/livez", "/readyz"})
UNSTORED = (b"cache-control", b"no-store")
# A page that needs more says so itself, and is left alone.
SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
)


@dataclass(slots=True)
class Line:
    """What becomes the one line about a request; `facts` are what the rooms behind found out."""

    request_id: str
    status: int | None = None
    facts: dict[str, object] = field(default_factory=dict)


class Observed:
    """Pure ASGI: gives each request an id, dresses each response, and tells of it in one line."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        line = scope.setdefault("state", {})["line"] = Line(request_id_of(scope))
        identity = (b"x-request-id", line.request_id.encode())
        clear_contextvars()
        bind_contextvars(request_id=line.request_id)

        async def dressing(message: Message) -> None:
            if message["type"] == "http.response.start":
                line.status = message["status"]
                message["headers"] = dressed(scope["path"], [*message["headers"], identity])
            await send(message)

        began = perf_counter()
        try:
            await self.app(scope, receive, dressing)
        finally:
            tell(scope, line, perf_counter() - began)


def tell(scope: Scope, line: Line, seconds: float) -> None:
    route = getattr(scope.get("route"), "path_format", None)
    say = log.debug if route in QUIET and line.status == 200 else log.info
    say(
        "request",
        method=scope["method"],
        route=route,
        status=line.status,
        ms=round(seconds * 1000, 2),
        request_id=line.request_id,
        **line.facts,
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


class Foreign(logging.Handler):
    """Libraries that know nothing but the standard logging are told like our own."""

    def emit(self, record: logging.LogRecord) -> None:
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


def configure_logging(level: str, to: BinaryIO | None = None) -> None:
    """One line of JSON an event, to standard output or elsewhere; libraries are heard from warnings on."""
    structlog.configure(
        processors=[
            merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            redacted,
            rendered,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(to),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[Foreign()], level=logging.WARNING, force=True)
    logging.getLogger("uvicorn.error").setLevel(level.upper())


def redacted(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: shown(name, value) for name, value in event.items()}


def shown(name: str, value: object) -> object:
    """What may be said: nothing under a secret's name, no e-mail address anywhere."""
    if is_secret(name):
        return "[redacted]"
    if isinstance(value, str):
        return TOKEN.sub(r"\1[redacted]", EMAIL.sub("[email]", value))
    if isinstance(value, Mapping):
        return {key: shown(str(key), held) for key, held in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(name, held) for held in value]
    return value


@lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    return SECRET_NAME.search(name) is not None


def rendered(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    return ENCODER.encode(event)


def unknown(value: object) -> str:
    """An object that has no form in JSON is told by its type: its text could hold anything."""
    return f"<{type(value).__name__}>"


ENCODER = msgspec.json.Encoder(enc_hook=unknown)
