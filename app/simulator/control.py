"""Behind the stage: how tests and people direct one fake provider."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from app.simulator.faults import OPERATIONS, TRICKS, Fault, is_fault
from app.simulator.player import Player
from app.simulator.rules import Rule, broken, number, one_of, optional, unknown, whole
from app.simulator.wire import Malformed, Reply, load

FAULT = {
    "operation": one_of(*OPERATIONS),
    "fault": Rule(
        hint=f"one of status:<200-599>, {', '.join(TRICKS)}",
        allows=lambda value: isinstance(value, str) and is_fault(value),
    ),
    "times": whole(1, 10_000, default=1),
    "seconds": number(0, 600, default=5),
}


class Invalid(ValueError):
    """A control call that does nothing; `errors` says why, by the member's name."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name} {message}" for name, message in errors.items()))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Control:
    """The calls below /_control/{provider}."""

    player: Player

    def routes(self) -> Sequence[Route]:
        return [
            Route("/faults", self.armed),
            Route("/faults", self.arm, methods=["POST"]),
            Route("/faults", self.disarm, methods=["DELETE"]),
            Route("/settle", self.settle, methods=["POST"]),
            Route("/requests", self.requests),
            Route("/requests", self.forget_requests, methods=["DELETE"]),
            Route("/switches", self.switches),
            Route("/switches", self.switch, methods=["PUT"]),
            Route("/state", self.forget, methods=["DELETE"]),
        ]

    async def arm(self, request: Request) -> Reply:
        said = read(await request.body(), FAULT)
        fault = Fault(**{**said, "seconds": float(said.get("seconds", FAULT["seconds"].default))})
        self.player.desk.faults.arm(fault)
        return Reply(201, {"data": asdict(fault)})

    async def armed(self, _: Request) -> Reply:
        return Reply(200, {"data": [asdict(fault) for fault in self.player.desk.faults]})

    async def disarm(self, _: Request) -> Reply:
        self.player.desk.faults.clear()
        return Reply(204, None)

    async def settle(self, request: Request) -> Reply:
        said = read(await request.body(), settlement(self.player.outcomes, self.player.words))
        if (said.get("outcome") is None) == (said.get("word") is None):
            raise Invalid({"outcome": "must be given, or a word instead"})
        word = said.get("word") or self.player.word(said["outcome"])
        reference = str(said["reference"])
        order = self.player.find(reference)
        if order is None:
            return Reply(404, {"errors": [{"pointer": "/reference", "message": "names nothing on this desk"}]})
        notified = await self.player.settle(order, word, said.get("notify", "once"))
        return Reply(200, {"data": {"reference": reference, "status": order.word, "notified": notified}})

    async def requests(self, _: Request) -> Reply:
        return Reply(200, {"data": list(self.player.desk.requests)})

    async def forget_requests(self, _: Request) -> Reply:
        self.player.desk.requests.clear()
        return Reply(204, None)

    async def switches(self, _: Request) -> Reply:
        return Reply(200, {"data": self.player.desk.switches})

    async def switch(self, request: Request) -> Reply:
        self.player.desk.switches |= read(await request.body(), self.player.switches)
        return await self.switches(request)

    async def forget(self, _: Request) -> Reply:
        self.player.forget()
        return Reply(204, None)


def settlement(outcomes: Iterable[str], words: Iterable[str]) -> dict[str, Rule]:
    """An outcome that this provider has, or instead one of its own words."""
    return {
        "reference": Rule(hint="the id that the create's answer gave", allows=lambda value: type(value) in {str, int}),
        "outcome": optional(one_of(*outcomes)),
        "word": optional(one_of(*sorted(words))),
        "notify": one_of("once", "twice", "reordered", "forged", "none", default="once"),
    }


def read(body: bytes, rules: Mapping[str, Rule]) -> dict[str, Any]:
    """A body that says nothing but what the rules allow. Raises Invalid."""
    try:
        said = load(body)
    except Malformed:
        said = None
    if not isinstance(said, dict):
        raise Invalid({"": "must be a JSON object"})
    if errors := unknown(said, rules) | broken(said, rules):
        raise Invalid(errors)
    return said
