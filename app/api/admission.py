"""How many calls are taken at once: past that, a caller is told at once to come back, and nothing is begun."""

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain.errors import Overloaded

AT_ONCE = 256
ALWAYS = frozenset({"/livez", "/readyz", "/metrics"})


class Admission:
    """Pure ASGI, beneath what gives each request its id and turns an error into a problem."""

    def __init__(self, app: ASGIApp, at_once: int = AT_ONCE) -> None:
        self.app = app
        self.at_once = at_once
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ALWAYS:
            await self.app(scope, receive, send)
            return
        if self.inside >= self.at_once:
            raise Overloaded("As many calls as can be taken are under way.", retry_after=1)
        seat = scope.setdefault("state", {})["seat"] = Seat(self)
        try:
            await self.app(scope, receive, send)
        finally:
            seat.leave()


class Seat:
    """One call's place among those under way."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.taken = True
        admission.inside += 1

    def leave(self) -> None:
        self.admission.inside -= self.taken
        self.taken = False


def leave(request: Request) -> None:
    """A call that is to wait counts no longer among those that are under way."""
    request.scope["state"]["seat"].leave()
