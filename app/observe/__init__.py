"""What is seen of the service: its logs, its figures, and one line about each request."""

from app.observe.figures import Figures
from app.observe.lines import LINE, Line, upstream
from app.observe.logs import Foreign, configure_logging, hush, redacted, rendered
from app.observe.redaction import cleared, shown
from app.observe.requests import Observed, dressed, note, request_id
from app.observe.spans import Spanned, answered, asked, passed_on
from app.observe.tracing import tracer_of

__all__ = [
    "LINE",
    "Figures",
    "Foreign",
    "Line",
    "Observed",
    "Spanned",
    "answered",
    "asked",
    "cleared",
    "configure_logging",
    "dressed",
    "hush",
    "note",
    "passed_on",
    "redacted",
    "rendered",
    "request_id",
    "shown",
    "tracer_of",
    "upstream",
]
