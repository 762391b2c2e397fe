"""How much is taken in at once: past that, a caller is told at once to come back, and nothing is begun."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain.errors import Overloaded

AT_ONCE = 256
MOST_BYTES_COMING_IN = 64 * 1024 * 1024
LONGEST_SECONDS = 10
ALWAYS = frozenset({"/livez", "/readyz", "/metrics"})


class Admission:
    """Pure ASGI, beneath what gives each request its id and turns an error into a problem.

    `inside` are the calls under way, `coming_in` the bytes of bodies that are not whole yet; a body may take so long.
    """

    def __init__(
        self,
        app: ASGIApp,
        at_once: int = AT_ONCE,
        most_coming_in: int = MOST_BYTES_COMING_IN,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        self.app = app
        self.at_once = at_once
        self.most_coming_in = most_coming_in
        self.longest_seconds = longest_seconds
        self.inside = 0
        self.coming_in = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ALWAYS:
            await self.app(scope, receive, send)
            return
        seat = scope.setdefault("state", {})["seat"] = Seat(self)
        try:
            await self.app(scope, receive, send)
        finally:
            seat.leave()


class Seat:
    """One call's place among those under way; Overloaded where none is free."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.taken = False
        self.bytes = 0
        self.take()

    def take(self) -> None:
        if self.admission.inside >= self.admission.at_once:
            raise Overloaded("As many calls as can be taken are under way.", retry_after=1)
        self.taken = True
        self.admission.inside += 1

    def leave(self) -> None:
        self.admission.inside -= self.taken
        self.taken = False

    def hold(self, bytes: int) -> None:
        """So much more of the body has come in."""
        if self.admission.coming_in + bytes > self.admission.most_coming_in:
            raise Overloaded("As much as can be taken is coming in.", retry_after=1)
        self.bytes += bytes
        self.admission.coming_in += bytes

    def drop(self) -> None:
        self.admission.coming_in -= self.bytes
        self.bytes = 0


def leave(request: Request) -> None:
    """A call that is to wait counts no longer among those that are under way."""
    request.scope["state"]["seat"].leave()


@contextmanager
def coming_in(request: Request) -> Iterator[Seat]:
    """While its body is on the way a call has no place: whoever sends slowly keeps nobody else out."""
    seat: Seat = request.scope["state"]["seat"]
    seat.leave()
    try:
        yield seat
    finally:
        seat.drop()
    seat.take()
