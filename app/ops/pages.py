"""How the operator's pages are made, and what a browser may do with them."""

import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from app.domain.errors import PaymentError
from app.domain.invoice import Status
from app.observe import shown
from app.ops.session import Session

HERE = Path(__file__).parent
WEB = re.compile(r"https?://[^\s\"'<>]+", re.IGNORECASE)

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    # Browsers that are to tell nobody of this page would not tell us of it either, and a form would come from nowhere.
    "Referrer-Policy": "same-origin",
}

TONES: Mapping[str, str] = {
    Status.UNKNOWN: "doubtful",
    Status.PENDING: "waiting",
    Status.PROCESSING: "waiting",
    Status.PARTIALLY_PAID: "waiting",
    Status.COMPLETED: "good",
    Status.EXPIRED: "plain",
    Status.CANCELED: "plain",
    Status.FAILED: "bad",
    Status.REFUNDED: "plain",
    Status.DISPUTED: "doubtful",
    "up": "good",
    "degraded": "doubtful",
    "down": "bad",
    "paused": "doubtful",
    "delivered": "good",
    "closed": "good",
    "half_open": "doubtful",
    "open": "bad",
}

DONE: Mapping[str, str] = {
    "paused": "The provider is paused: no creates and no checkouts go to it.",
    "resumed": "The provider is no longer paused.",
    "refreshed": "The provider was asked. This is what it says.",
    "canceled": "The invoice was canceled at its provider.",
    "resolved": "The invoice is no longer unknown.",
    "redelivered": "It is on its way again.",
}


class Pages:
    def __init__(self) -> None:
        self.templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters |= {
            "clock": clock,
            "words": words,
            "tone": tone,
            "json": pretty,
            "link": link,
            "told": told,
        }

    def sign_in(self, *, after: str, status: int = 200, refused: bool = False) -> Response:
        return self._answer("sign_in", status, session=None, after=after, refused=refused, problem=None, done=None)

    def page(
        self,
        name: str,
        session: Session,
        *,
        status: int = 200,
        problem: PaymentError | None = None,
        done: str | None = None,
        **given: object,
    ) -> Response:
        """`problem` is why what was asked for was not done; `done` is a key of DONE."""
        response = self._answer(name, status, session=session, problem=problem, done=DONE.get(done or ""), **given)
        if problem and problem.retry_after:
            response.headers["Retry-After"] = str(problem.retry_after)
        return response

    def fragment(self, html: str, digest: str, seen: str | None) -> Response:
        """204, where the page has it already."""
        return Response(status_code=204, headers=HEADERS) if seen == digest else HTMLResponse(html, headers=HEADERS)

    def live(self, name: str, path: str, *, beats: bool = True, **given: object) -> tuple[str, str]:
        """A part of a page that is asked for again and again at `path` while it `beats`; and its digest."""
        inner = self._made(f"live/{name}", given)
        digest = sha256(f"{beats}{inner}".encode()).hexdigest()[:16]
        return self._made("live", {"path": path, "beats": beats, "digest": digest, "inner": inner}), digest

    def _answer(self, name: str, status: int, **given: object) -> Response:
        return HTMLResponse(self._made(name, {"place": name, **given}), status, HEADERS)

    def _made(self, name: str, given: Mapping[str, Any]) -> str:
        return self.templates.get_template(f"{name}.html").render(given)


def clock(moment: str) -> str:
    """A time of ours as people read it, still in UTC."""
    return moment.replace("T", " ").removesuffix("Z")


def words(name: str) -> str:
    return name.replace("_", " ")


def tone(state: str) -> str:
    return TONES.get(state, "plain")


def pretty(body: object) -> str:
    return body if isinstance(body, str) else msgspec.json.format(msgspec.json.encode(body)).decode()


def link(url: str | None) -> str | None:
    """An address that may be opened, without any token in it; None for anything else."""
    return told(url) if url and WEB.fullmatch(url) else None


def told(text: str) -> str:
    """What strangers wrote, without what is nobody's business."""
    return str(shown("", text))
