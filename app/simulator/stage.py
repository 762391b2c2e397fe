"""The front of one fake provider: its API, and the pages where a person pays."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.simulator.desk import Order
from app.simulator.faults import Scene, misbehave
from app.simulator.pages import BUTTONS, Bill, missing_page, pay_page
from app.simulator.player import Operation, Player, iso
from app.simulator.wire import Ask, Malformed, Reply, load

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}

Endpoint = Callable[[Request], Awaitable[ASGIApp]]


def html(page: str, status: int = 200) -> Response:
    return HTMLResponse(page, status, PAGE_HEADERS)


def stage(player: Player) -> ASGIApp:
    """Everything under the provider's own address, every request of it logged."""
    api = [
        Route(player.base + operation.path, _api(player, operation), methods=[operation.method])
        for operation in player.operations()
    ]
    pages = [Route(path, _pay_page(player), methods=["GET", "POST"]) for path in player.pages]
    return _Logged(Router([*api, *pages], redirect_slashes=False), player)


def _api(player: Player, operation: Operation) -> Endpoint:
    async def answer(request: Request) -> ASGIApp:
        ask = await Ask.of(request, request.scope["root_path"] + player.base)

        def act() -> Reply:
            return player.answer(operation, ask)

        fault = player.desk.faults.take(operation.serves | {operation.name})
        return act() if fault is None else misbehave(Scene(fault=fault, victim=player, act=act))

    return answer


def _pay_page(player: Player) -> Endpoint:
    """GET shows the bill; POST does what its button says: `outcome=paid|partial|failed|expired`."""

    async def page(request: Request) -> ASGIApp:
        order = player.find(request.path_params["reference"])
        if order is None:
            return html(missing_page(player.title), 404)
        if request.method == "POST":
            form = dict(parse_qsl((await request.body()).decode(errors="replace")))
            return await _pressed(player, order, form.get("outcome", ""), request.url.path)
        if request.method == "GET":
            player.visit(order)
        return html(pay_page(_bill(player, order)))

    return page


async def _pressed(player: Player, order: Order, button: str, path: str) -> Response:
    """Pressed twice, as in a double click, it is done once and leads to the same place."""
    bill = _bill(player, order)
    if button in bill.outcomes:
        await player.settle(order, player.word(button), "once")
    elif button not in BUTTONS or button not in player.outcomes or order.word != player.word(button):
        return html(pay_page(bill), 409)
    back = bill.back_url if button == "paid" else None
    return RedirectResponse(back or path, 303)


def _bill(player: Player, order: Order) -> Bill:
    outcomes = [name for name in BUTTONS if name in player.outcomes] if player.is_payable(order) else []
    return replace(player.bill(order), outcomes=outcomes)


class _Logged:
    """Writes down what a provider was asked, and the status that it answered once it has."""

    def __init__(self, app: ASGIApp, player: Player) -> None:
        self.app = app
        self.player = player

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        unread = [await request.body()]
        entry = self._entry(request, unread[0])
        self.player.desk.requests.append(entry)

        async def replay() -> Message:
            return {"type": "http.request", "body": unread.pop()} if unread else await receive()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
            await send(message)

        try:
            await self.app(scope, replay, noted)
        except HTTPException as refused:
            await self.player.refuse(refused.status_code, f"{refused.detail}.")(scope, replay, noted)

    def _entry(self, request: Request, body: bytes) -> dict[str, Any]:
        return {
            "at": iso(self.player.desk.clock()),
            "method": request.method,
            "path": request.scope["path"],
            "query": request.scope["query_string"].decode("latin-1"),
            "headers": dict(request.headers),
            "body": _shown(body),
            "status": None,
        }


def _shown(body: bytes) -> Any:
    try:
        return load(body) if body else None
    except Malformed:
        return body.decode(errors="replace")
