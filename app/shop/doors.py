"""The shop's doors: what a shopper's browser may ask of it, and what the payment service may tell it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from secrets import token_hex
from typing import cast

import msgspec
from standardwebhooks import Webhook, WebhookVerificationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from app.shop.forms import MINE, Wish, body_of, keeping, kept, left, revision_of
from app.shop.goods import richest
from app.shop.orders import Order
from app.shop.pages import UNSTORED, Pages
from app.shop.payments import Event, Problem, Sheet, Trouble
from app.shop.till import Till

EVENT_LIMIT = 1024 * 1024
SHOPPER = "shopper@example.org"

# A problem's status is passed on, but a mistake of the shop's own is not the shopper's.
PASSED_ON = frozenset({409, 422, 502, 503, 504})

REFUSALS: Mapping[int, tuple[str, str]] = {
    404: ("Not here", "There is no such page in this shop, or not any more."),
    405: ("Not like this", "This page can't be used in that way."),
    413: ("Too much", "That is more than this shop can take in."),
    422: ("That can't be ordered", "Please go back to the shop and choose again."),
}
OTHERWISE = ("That did not work", "Please go back to the shop and try again.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    till: Till
    pages: Pages
    webhook: Webhook

    async def front(self, request: Request) -> Response:
        sheets = await self.till.sheets()
        chosen = chosen_of(sheets, request.query_params.get("provider"))
        return self.pages.page(
            "front",
            sheets=sheets,
            chosen=chosen,
            products=await self.till.products(chosen) if chosen else [],
            form_id=token_hex(8),
            email=SHOPPER,
            mine=[order for id in kept(request) if (order := self.till.orders.find(id))],
        )

    async def buy(self, request: Request) -> Response:
        order = await self.till.order(await Wish.of(request))
        response = await self._paid(order)
        response.set_cookie(
            MINE,
            keeping(request, order.id),
            path=f"{self.pages.base}/",
            secure=self.till.url.startswith("https:"),
            httponly=True,
            samesite="lax",
        )
        return response

    async def pay(self, request: Request) -> Response:
        return await self._paid(self._known(request))

    async def show(self, request: Request) -> Response:
        order = self._known(request)
        try:
            await self.till.look(order)
        except Trouble as trouble:
            return self.pages.order(order, shown_status(trouble.problem), trouble.problem)
        return self.pages.order(order)

    async def state(self, request: Request) -> Response:
        """As soon as there is more to see than at `version`, or else after a while."""
        order = self._known(request)
        await self.till.wait(order, revision_of(request), left(request))
        return JSONResponse({"version": order.revision, "parts": self.pages.parts(order)}, headers=UNSTORED)

    async def hook(self, request: Request) -> Response:
        """An event, which is taken in even where its order isn't ours or is forgotten."""
        body = await body_of(request, EVENT_LIMIT)
        try:
            self.webhook.verify(body, dict(request.headers), json_parse=False)
        except (WebhookVerificationError, ValueError):
            return Response(status_code=401)
        try:
            event = msgspec.json.decode(body, type=Event)
        except msgspec.DecodeError:
            return Response(status_code=400)
        if order := self.till.orders.find(event.data.order_id):
            order.receive(request.headers["webhook-id"], event)
        return Response(status_code=204)

    async def refused(self, _: Request, error: Exception) -> Response:
        refusal = cast("HTTPException", error)
        title, text = REFUSALS.get(refusal.status_code, OTHERWISE)
        own = refusal.detail != HTTPStatus(refusal.status_code).phrase
        page = self.pages.page("message", refusal.status_code, title=title, text=refusal.detail if own else text)
        page.headers.update(refusal.headers or {})
        return page

    async def not_sold(self, _: Request, _error: Exception) -> Response:
        title, text = REFUSALS[422]
        return self.pages.page("message", 422, title=title, text=text)

    async def closed(self, _: Request, error: Exception) -> Response:
        """The service came to be needed before there was an order."""
        problem = cast("Trouble", error).problem
        text = f"{problem.title}. {problem.detail}"
        return self.pages.page("message", shown_status(problem), title="The shop is closed just now", text=text)

    async def gone(self, _: Request, _error: Exception) -> Response:
        """Nobody is left to read this."""
        return Response(status_code=400)

    def _known(self, request: Request) -> Order:
        order = self.till.orders.find(request.path_params["id"])
        if order is None:
            raise HTTPException(404, "There is no such order, or it was too long ago.")
        return order

    async def _paid(self, order: Order) -> Response:
        """Off to where it is paid; to its own page where nothing is owed, or nothing any more."""
        here = f"{self.till.url}/orders/{order.id}"
        try:
            return RedirectResponse(await self.till.pay(order) or here, 303)
        except Trouble as trouble:
            problem = trouble.problem
        if problem.code == "invoice_finished":
            return RedirectResponse(here, 303)
        return self.pages.page("trouble", shown_status(problem), order=order, problem=problem)


def chosen_of(sheets: Sequence[Sheet], name: str | None) -> Sheet | None:
    """The way to pay of that name; without one, the best there is, if any."""
    if name is None:
        return richest(sheets)
    chosen = next((sheet for sheet in sheets if sheet.name == name), None)
    if chosen is None:
        raise HTTPException(404, "There is no such way to pay.")
    return chosen


def shown_status(problem: Problem) -> int:
    return problem.status if problem.status in PASSED_ON else 502
