"""More is asked than can be done: a burst waits its turn, and what stays too long is told to come back."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api.admission import Admission
from app.aside import aside
from app.observe import Line
from app.service.flights import Flights

pytestmark = pytest.mark.anyio


@dataclass
class House:
    """An application in which each call stays until it is let go; `served` are their paths, in order."""

    door: Admission = field(init=False)
    flights: Flights = field(default_factory=Flights)
    served: list[str] = field(default_factory=list)
    going: dict[str, asyncio.Event] = field(default_factory=dict)
    answers: dict[str, list[Message]] = field(default_factory=dict)
    calls: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)

    async def app(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        path = scope["path"]
        self.served.append(path)
        if path.startswith("/ask"):
            with aside():
                await self.event(f"{path} answered").wait()
        if path.startswith("/join"):
            await self.flights.join("shared", self.event("shared").wait)
        await self.event(path).wait()

    def event(self, name: str) -> asyncio.Event:
        return self.going.setdefault(name, asyncio.Event())

    async def come(self, *paths: str) -> None:
        for path in paths:
            state = {"line": Line(path)}
            application = SimpleNamespace(state=SimpleNamespace(public_url="https://pay.example"))
            scope = {"type": "http", "path": path, "method": "GET", "headers": [], "state": state, "app": application}
            said = self.answers[path] = []
            self.calls[path] = asyncio.create_task(self.door(scope, nothing, keeping(said)))
        await settled()

    async def go(self, *names: str) -> None:
        for name in names:
            self.event(name).set()
        await settled()

    def status(self, path: str) -> int | None:
        return self.answers[path][0]["status"] if self.answers[path] else None


async def nothing() -> Message:
    raise AssertionError("nobody reads")


def keeping(said: list[Message]) -> Send:
    async def keep(message: Message) -> None:
        said.append(message)

    return keep


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def house(**limits: float) -> House:
    house = House()
    house.door = Admission(house.app, **limits)  # type: ignore[arg-type]  # each has its own kind of number
    return house


async def test_whoever_came_first_is_served_first() -> None:
    full = house(at_work=1)
    await full.come("/1", "/2", "/3")
    assert full.served == ["/1"]
    await full.go("/1")
    assert full.served == ["/1", "/2"]
    await full.go("/2", "/3")
    assert full.served == ["/1", "/2", "/3"]
    assert (full.door.inside, full.door.working, len(full.door.line)) == (0, 0, 0)


async def test_waiting_for_a_provider_lets_another_work() -> None:
    full = house(at_work=1)
    await full.come("/ask", "/2")
    assert full.served == ["/ask", "/2"]
    await full.go("/ask answered")
    assert (full.door.inside, full.door.working) == (2, 2), "whoever comes back from there need not stand in line"
    await full.come("/3")
    await full.go("/ask")
    assert "/3" not in full.served
    await full.go("/2")
    assert "/3" in full.served


async def test_whoever_waits_for_what_another_has_begun_lets_others_work() -> None:
    full = house(at_work=2)
    await full.come("/join1", "/join2", "/3")
    assert full.served == ["/join1", "/join2", "/3"]
    assert (full.door.inside, full.door.working) == (3, 2)
    await full.go("shared", "/join1", "/join2", "/3")
    assert (full.door.inside, full.door.working) == (0, 0)


async def test_only_so_many_wait_for_providers() -> None:
    full = house(at_work=1, at_once=2)
    await full.come("/ask1", "/ask2", "/ask3")
    assert full.served == ["/ask1", "/ask2"]
    await full.go("/ask1 answered", "/ask1")
    assert full.served == ["/ask1", "/ask2", "/ask3"]


async def test_a_burst_is_waited_for_longer_than_what_comes_to_a_line_that_stands() -> None:
    full = house(at_work=1, burst_seconds=0.2, patience_seconds=0.01)
    await full.come("/1", "/burst")
    await asyncio.sleep(0.05)
    assert full.status("/burst") is None
    await asyncio.sleep(0.1)
    await full.come("/keeps the line")
    await asyncio.sleep(0.08)
    assert full.status("/burst") == 503
    await full.come("/late")
    await asyncio.sleep(0.03)
    assert full.status("/late") == 503, "it came last and is told first"
    assert full.status("/keeps the line") is None
    await full.go("/1")
    assert full.served == ["/1", "/keeps the line"]


async def test_a_refusal_says_when_to_come_back() -> None:
    full = house(at_work=1, in_line=0)
    await full.come("/1", "/2")
    start, body = full.answers["/2"]
    headers = dict(start["headers"])
    assert (start["status"], headers[b"retry-after"]) == (503, b"1")
    assert headers[b"content-type"] == b"application/problem+json"
    assert b'"code":"overloaded"' in body["body"]
    assert full.served == ["/1"]


async def test_whoever_is_cut_off_in_line_takes_no_place() -> None:
    full = house(at_work=1)
    await full.come("/1", "/2", "/3")
    full.calls["/2"].cancel()
    await full.go("/1")
    assert full.served == ["/1", "/3"]


async def test_whoever_is_cut_off_as_its_turn_comes_gives_its_place_back() -> None:
    full = house(at_work=1)
    await full.come("/1", "/2", "/3")
    full.event("/1").set()
    while full.door.inside == 1 and len(full.door.line) == 2:
        await asyncio.sleep(0)
    full.calls["/2"].cancel()
    await settled()
    assert full.served == ["/1", "/3"]
    await full.go("/3")
    assert (full.door.inside, full.door.working) == (0, 0)


async def test_a_turn_that_comes_as_somebody_leaves_the_line_is_anothers() -> None:
    full = house(at_work=1)
    await full.come("/1", "/2", "/3")
    full.door.at_work = 2
    full.calls["/2"].cancel()
    full.door.move(0, 0)
    await settled()
    assert full.served == ["/1", "/3"]
    assert (full.door.inside, full.door.working, len(full.door.line)) == (2, 2, 0)


async def test_what_tells_how_it_is_never_stands_in_line() -> None:
    full = house(at_work=1)
    await full.come("/1", "/livez", "/readyz", "/metrics")
    assert full.served == ["/1", "/livez", "/readyz", "/metrics"]
