"""What is seen of the service: its logs, its figures, and one line about each request."""

from app.observe.figures import Figures
from app.observe.lines import LINE, Line, traceparent, upstream
from app.observe.logs import Foreign, configure_logging, hush, redacted, rendered
from app.observe.redaction import cleared, shown
from app.observe.requests import Observed, dressed, note, request_id

__all__ = [
    "LINE",
    "Figures",
    "Foreign",
    "Line",
    "Observed",
    "cleared",
    "configure_logging",
    "dressed",
    "hush",
    "note",
    "redacted",
    "rendered",
    "request_id",
    "shown",
    "traceparent",
    "upstream",
]
