"""Structured logs: one line of JSON an event, and nothing secret in it."""

import logging
from typing import BinaryIO

import msgspec
import structlog
from structlog.contextvars import merge_contextvars
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, WrappedLogger

from app.observe.redaction import shown

log = structlog.get_logger()


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


def hush() -> None:
    """Nothing is logged: for a command that says itself what it finds."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))


def redacted(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: shown(name, value) for name, value in event.items()}


def rendered(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    return ENCODER.encode(event)


def unknown(value: object) -> str:
    """An object that has no form in JSON is told by its type: its text could hold anything."""
    return f"<{type(value).__name__}>"


ENCODER = msgspec.json.Encoder(enc_hook=unknown)
