"""A request and its calls to providers as spans, in OpenTelemetry's words, that hang in the trace of our caller."""

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Receive, Scope, Send

from app.observe.lines import Line, traceparent, traceparent_of
from app.observe.redaction import shown
from app.observe.requests import QUIET

W3C = TraceContextTextMapPropagator()
TRACEPARENT = "traceparent"
# The text of an exception could hold anything.
UNSAID: Mapping[str, Any] = {"record_exception": False, "set_status_on_exception": False}


class Spanned:
    """Pure ASGI around what tells of a request: whatever is done for it is a part of its span.

    The span tells what the line in the log does, and no more. A sign of life is a part of nobody's trace.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self.app = app
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in QUIET:
            await self.app(scope, receive, send)
            return
        span = begun(self.tracer, scope)
        inner = {**scope, "headers": renamed(scope["headers"], span)}
        with trace.use_span(span, end_on_exit=True, **UNSAID):
            try:
                await self.app(inner, receive, send)
            finally:
                describe(span, inner)


def begun(tracer: Tracer, scope: Scope) -> Span:
    """In the trace of the caller, where it names one as it has to be named."""
    theirs = traceparent_of(scope["headers"])
    carrier = {TRACEPARENT: theirs} if theirs else {}
    return tracer.start_span(scope["method"], W3C.extract(carrier, Context()), SpanKind.SERVER)


def renamed(headers: list[tuple[bytes, bytes]], span: Span) -> list[tuple[bytes, bytes]]:
    ours = TRACEPARENT.encode(), name_of(span).encode()
    return [*(header for header in headers if header[0] != ours[0]), ours]


def name_of(span: Span) -> str:
    """As W3C Trace Context writes it."""
    found = span.get_span_context()
    return f"00-{trace.format_trace_id(found.trace_id)}-{trace.format_span_id(found.span_id)}-{found.trace_flags:02x}"


def describe(span: Span, scope: Scope) -> None:
    """What its line in the log says."""
    if not span.is_recording():
        return
    line: Line = scope["state"]["line"]
    route = getattr(scope.get("route"), "path_format", None)
    if route:
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.route", route)
    span.set_attribute("http.request.method", scope["method"])
    for name, fact in line.facts.items():
        if name != TRACEPARENT:
            span.set_attribute(f"gatehouse.{name}", str(shown(name, fact)))
    if line.status is not None:
        span.set_attribute("http.response.status_code", line.status)
    if line.status is None or line.status >= 500:
        span.set_status(StatusCode.ERROR, str(line.facts.get("code", "")))


def asked(tracer: Tracer | None, provider: str, operation: str, method: str, path: str) -> Span:
    """One call to a provider, `path` as a template; without a tracer a span of which nothing is told."""
    if tracer is None:
        return trace.INVALID_SPAN
    attributes = {
        "gatehouse.provider": provider,
        "gatehouse.operation": operation,
        "http.request.method": method,
        "url.template": path,
    }
    return tracer.start_span(f"{provider} {operation}", None, SpanKind.CLIENT, attributes, **UNSAID)


def answered(span: Span, status: int | None, outcome: str) -> None:
    """`outcome` is `ok` or the code of an error, `status` what the provider answered with, if it did."""
    if not span.is_recording():
        return
    span.set_attribute("gatehouse.outcome", outcome)
    if status is not None:
        span.set_attribute("http.response.status_code", status)
    if outcome != "ok":
        span.set_attribute("error.type", outcome)
        span.set_status(StatusCode.ERROR, outcome)


def passed_on(span: Span) -> list[tuple[str, str]]:
    """The header that lets a provider's logs be found by our caller's trace."""
    found = name_of(span) if span.get_span_context().is_valid else traceparent()
    return [(TRACEPARENT, found)] if found else []
