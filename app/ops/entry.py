"""Who is let in to the operator's page, and what is told to who isn't."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from structlog.contextvars import bind_contextvars
from typing_extensions import override

from app.domain.errors import PaymentError
from app.domain.invoice import ID
from app.observe import note
from app.ops.forms import Form, Read, form_of, require_token
from app.ops.pages import HEADERS, Pages
from app.ops.session import COOKIE, LASTS, Session, Sessions
from app.service.services import Services

PLACE = re.compile(rf"/ops(/invoices(/{ID.pattern})?)?", re.ASCII)
FRONT = "/ops"

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request of an operator; `form` is what came with it."""

    request: Request
    session: Session
    form: Form

    @property
    def services(self) -> Services:
        found: Services = self.request.app.state.services
        return found

    @property
    def seen(self) -> str | None:
        """The digest of the part that is on the page already."""
        return self.request.query_params.get("seen")


Visited: TypeAlias = Callable[[Visit], Awaitable[Response]]


class Door(Route):
    """A route under whose path the request is logged."""

    @override
    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in (self.methods or ()):
            scope["route"] = self
        await super().handle(scope, receive, send)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    sessions: Sessions
    pages: Pages
    read: Read
    status_of: Callable[[type[PaymentError]], int]
    secure: bool

    def front(self, visited: Visited) -> Endpoint:
        """What anybody may open: who is not signed in finds the form for it."""
        return self._guarded(visited, refusal=200)

    def shown(self, visited: Visited) -> Endpoint:
        return self._guarded(visited, refusal=401)

    def done(self, visited: Visited) -> Endpoint:
        """An action, of which nothing is done unless the form is this session's own."""

        async def proved(visit: Visit) -> Response:
            form = await form_of(visit.request, self.read)
            require_token(form, visit.session)
            return await visited(Visit(request=visit.request, session=visit.session, form=form))

        return self._guarded(proved, refusal=401)

    async def sign_in(self, request: Request) -> Response:
        try:
            form = await form_of(request, self.read)
        except PaymentError as error:
            note(request.scope, code=error.code)
            return self.pages.sign_in(after=FRONT, status=self.status_of(type(error)), refused=not error.retryable)
        after = place_of(form.get("after", ""))
        cookie = self.sessions.begin(form.get("key", ""))
        if cookie is None:
            return self.pages.sign_in(after=after, status=401, refused=True)
        response = RedirectResponse(after, 303, HEADERS)
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=int(LASTS.total_seconds()),
            path=FRONT,
            secure=self.secure,
            httponly=True,
            samesite="strict",
        )
        return response

    async def sign_out(self, _visit: Visit) -> Response:
        response = RedirectResponse(FRONT, 303, HEADERS)
        response.delete_cookie(COOKIE, path=FRONT, secure=self.secure, httponly=True, samesite="strict")
        return response

    def _guarded(self, visited: Visited, refusal: int) -> Endpoint:
        async def guarded(request: Request) -> Response:
            session = self.sessions.find(request.cookies.get(COOKIE, ""))
            if session is None:
                return self._closed(request, refusal)
            note(request.scope, caller=session.name)
            bind_contextvars(caller=session.name)
            try:
                return await visited(Visit(request=request, session=session, form={}))
            except PaymentError as error:
                note(request.scope, code=error.code)
                return self.pages.page("problem", session, status=self.status_of(type(error)), problem=error)

        return guarded

    def _closed(self, request: Request, refusal: int) -> Response:
        """A page that is open while its session ends is loaded again, and so comes to the form."""
        response = self.pages.sign_in(after=place_of(request.url.path), status=refusal)
        if "hx-request" in request.headers:
            response.headers["HX-Refresh"] = "true"
        return response


def place_of(path: str) -> str:
    """A page that one may go on to after signing in."""
    return path if PLACE.fullmatch(path) else FRONT
