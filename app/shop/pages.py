"""How the shop's pages are made, and what a browser may do with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.shop.orders import Order
from app.shop.payments import Problem
from app.shop.words import outlook

HERE = Path(__file__).parent
PARTS = ("status", "actions", "events")
UNSTORED = {"Cache-Control": "no-store"}

# Browsers judge where a form's answer redirects to as well: to a pay page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self' {pay_pages}; frame-ancestors 'none'; base-uri 'none'"
)


class Pages:
    """`url` is the shop's own address; every link is written under its path."""

    def __init__(self, url: str) -> None:
        self.base = urlsplit(url).path
        self.templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.globals["base"] = self.base

    def page(self, name: str, status: int = 200, **shown: object) -> Response:
        return HTMLResponse(self._made(name, shown), status, UNSTORED)

    def order(self, order: Order, status: int = 200, problem: Problem | None = None) -> Response:
        """With the problem that kept the service from being asked, if there was one."""
        return self.page("order", status, order=order, parts=self.parts(order), problem=problem)

    def parts(self, order: Order) -> Mapping[str, str]:
        """What may change on an order's page: HTML, by the id of its place."""
        shown = {"order": order, "outlook": outlook(order)}
        return {name: self._made(f"parts/{name}", shown) for name in PARTS}

    def _made(self, name: str, shown: Mapping[str, Any]) -> str:
        return self.templates.get_template(f"{name}.html").render(shown)


class Guarded:
    """Pure ASGI: every answer says what a browser may do with it. `pay_pages` are origins."""

    def __init__(self, app: ASGIApp, pay_pages: str) -> None:
        self.app = app
        self.headers = {
            "Content-Security-Policy": POLICY.format(pay_pages=pay_pages),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        await self.app(scope, receive, guarded)
