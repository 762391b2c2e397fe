"""How much is taken in at once: past that a caller stands in line for a moment, then is told to come back.

Nothing is begun for whoever stands in line. A line that soon ends was a burst; one that stays is overload, and whoever
joins it then is told so sooner, since an answer that comes late helps nobody.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from time import monotonic
from typing import cast

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import problem
from app.aside import SEAT
from app.domain.errors import Overloaded

AT_WORK = 32
AT_ONCE = 256
IN_LINE = 1024
BURST_SECONDS = 2.0
PATIENCE_SECONDS = 0.5
MOST_BYTES_COMING_IN = 64 * 1024 * 1024
MOST_BYTES_OF_STRANGERS = MOST_BYTES_COMING_IN // 4
LONGEST_SECONDS = 10
ALWAYS = frozenset({"/livez", "/readyz", "/metrics"})
FILES = ("/docs/static/", "/ops/static/")


class Admission:
    """Pure ASGI, beneath what gives each request its id.

    `inside` are the calls under way, and `working` those of them that don't just wait for a provider; `coming_in` the
    bytes of bodies that are not whole yet, `of_strangers` those of them whose senders have proved nothing, and a body
    may take so long.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        at_work: int = AT_WORK,
        at_once: int = AT_ONCE,
        in_line: int = IN_LINE,
        burst_seconds: float = BURST_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        most_coming_in: int = MOST_BYTES_COMING_IN,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        self.app = app
        self.at_work = at_work
        self.at_once = at_once
        self.in_line = in_line
        self.burst_seconds = burst_seconds
        self.patience_seconds = patience_seconds
        self.most_coming_in = most_coming_in
        self.longest_seconds = longest_seconds
        self.working = 0
        self.inside = 0
        self.coming_in = 0
        self.of_strangers = 0
        self.line: deque[asyncio.Future[None]] = deque()
        self.line_since = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ALWAYS or scope["path"].startswith(FILES):
            await self.app(scope, receive, send)
            return
        seat = Seat(self)
        try:
            await seat.take()
        except Overloaded as error:
            await problem(Request(scope), error)(scope, receive, send)
            return
        mine = SEAT.set(seat)
        try:
            await self.app(scope, receive, send)
        finally:
            SEAT.reset(mine)
            seat.leave()

    async def enter(self, *, again: bool = False) -> None:
        """Take a place, in turn; Overloaded where that would take, or has taken, too long.

        `again`: whoever has been inside goes first.
        """
        if self.free and (again or not self.line):
            self.move(1, 1)
        elif len(self.line) < self.in_line or again:
            await self._stand_in_line(self.line.appendleft if again else self.line.append)
        else:
            raise Overloaded("More calls are waiting than can be served soon.", retry_after=1)

    @property
    def free(self) -> bool:
        return self.working < self.at_work and self.inside < self.at_once

    def move(self, inside: int, working: int) -> None:
        """So many more, or fewer, are inside and at work; whoever has stood in line longest is next."""
        self.inside += inside
        self.working += working
        while self.line and self.free:
            turn = self.line.popleft()
            if not turn.done():
                self.inside += 1
                self.working += 1
                turn.set_result(None)

    async def _stand_in_line(self, join: Callable[["asyncio.Future[None]"], None]) -> None:
        """Until there is a place, which then is taken."""
        turn = asyncio.get_running_loop().create_future()
        now = monotonic()
        self.line_since = self.line_since if self.line else now
        join(turn)
        stands = now - self.line_since >= self.burst_seconds
        patience = self.patience_seconds if stands else self.burst_seconds
        going = turn.get_loop().call_later(patience, self._go, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):
                    self.line.remove(turn)
            elif turn.exception() is None:
                self.move(-1, -1)
            raise
        finally:
            going.cancel()

    def _go(self, turn: "asyncio.Future[None]") -> None:
        if not turn.done():
            self.line.remove(turn)
            turn.set_exception(Overloaded("As many calls as can be taken are under way.", retry_after=1))


class Seat(AbstractContextManager[None]):
    """One call's place among those under way; entered for as long as the call waits for a provider."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.taken = False
        self.waits = 0
        self.bytes = 0
        self.of_stranger = 0

    async def take(self, *, again: bool = False) -> None:
        await self.admission.enter(again=again)
        self.taken = True

    def leave(self) -> None:
        if self.taken:
            self.taken = False
            self.admission.move(-1, 0 if self.waits else -1)

    def __enter__(self) -> None:
        self.waits += 1
        if self.taken and self.waits == 1:
            self.admission.move(0, -1)

    def __exit__(self, *_: object) -> None:
        self.waits -= 1
        if self.taken and not self.waits:
            self.admission.move(0, 1)

    def hold(self, bytes: int, *, proved: bool) -> None:
        """So much more of the body has come in; strangers leave room for whoever has proved something."""
        door, strange = self.admission, 0 if proved else bytes
        if door.coming_in + bytes > door.most_coming_in or door.of_strangers + strange > MOST_BYTES_OF_STRANGERS:
            raise Overloaded("As much as can be taken is coming in.", retry_after=1)
        self.bytes += bytes
        self.of_stranger += strange
        door.coming_in += bytes
        door.of_strangers += strange

    def drop(self) -> None:
        self.admission.coming_in -= self.bytes
        self.admission.of_strangers -= self.of_stranger
        self.bytes = self.of_stranger = 0


def seat() -> Seat:
    return cast("Seat", SEAT.get())


def leave() -> None:
    """A call that is to wait for something to happen counts no longer among those that are under way."""
    seat().leave()


@asynccontextmanager
async def coming_in() -> AsyncIterator[Seat]:
    """While its body is on the way a call has no place: whoever sends slowly keeps nobody else out."""
    mine = seat()
    mine.leave()
    try:
        yield mine
    finally:
        mine.drop()
    await mine.take(again=True)
