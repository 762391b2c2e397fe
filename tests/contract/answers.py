"""Providers' answers, spoilt and sent through the exchange: each comes to a name, or to what was really said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import get_args

import httpx

from app.connection import Doubt
from app.domain.errors import (
    AlreadyExists,
    Faulty,
    Misconfigured,
    OutcomeUnknown,
    ProviderError,
    ProviderNotFound,
    Rejected,
    Throttled,
    TimedOut,
    Unavailable,
    Unreadable,
)
from app.exchange import Exchange
from app.provider import Provider
from app.wire import MaybeSent, NotSent, Reason
from tests.contract.mutations import spoilt
from tests.contract.tally import Tally, chances
from tests.contract.truths import untruths
from tests.test_cases import CASES, FLOWS, Case, provider_for, snapshots_in
from tests.test_cases import read as read_case

# fmt: off
STATUSES = (
    100, 101, 199, 200, 201, 202, 203, 204, 206, 226, 299, 300, 301, 302, 304, 307, 399, 400, 401, 402, 403, 404, 405,
    406, 408, 409, 410, 413, 415, 418, 422, 425, 429, 451, 499, 500, 501, 502, 503, 504, 520, 599, 600, 999,
)
HEADERS: tuple[tuple[str, str], ...] = (
    ("content-type", "text/html"), ("content-type", "application/json; charset=utf-16"), ("content-type", ""),
    ("content-type", "\xff"), ("location", "https://elsewhere.example/"),
    ("set-cookie", "a=b"), ("x-request-id", "\xe9\xff"), *(("retry-after", text) for text in (
        "0", "-1", "7", "9" * 5000, "1e9", "NaN", "\xb2", "soon", "", "Wed, 21 Oct 2015 07:28:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359", "Wed, 21 Oct 20155555555 07:28:00 GMT",
    )),
)
# fmt: on
DOUBTS: Mapping[str, type[ProviderError]] = {"timeout": TimedOut, "closed": Faulty}
CLASSES: Mapping[int, type[ProviderError]] = {4: Rejected, 5: Faulty}
CLIENT_ERRORS: dict[int, type[ProviderError]] = {
    401: Misconfigured,
    403: Misconfigured,
    404: ProviderNotFound,
    408: TimedOut,
    429: Throttled,
}
ON_CREATE: dict[int, type[ProviderError]] = {404: Rejected, 409: AlreadyExists}


@dataclass(frozen=True, slots=True)
class Saying:
    """What came over the wire: a whole response, or the failure instead of one."""

    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    failure: NotSent | MaybeSent | None = None


@dataclass
class Told(httpx.AsyncBaseTransport):
    """A wire on which these things are said in turn, the last again and again; `heard` are the requests."""

    sayings: list[Saying]
    heard: list[httpx.Request] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.heard.append(request)
        saying = self.last
        if saying.failure:
            raise saying.failure
        response = httpx.Response(saying.status, headers=saying.headers, stream=httpx.ByteStream(saying.body))
        await response.aread()
        return response

    @property
    def last(self) -> Saying:
        return self.sayings[min(len(self.heard), len(self.sayings)) - 1]


@dataclass(frozen=True)
class Conversation:
    kind: str
    name: str
    case: Case

    def sayings(self) -> list[Saying]:
        answers = [turn.response.answer() for turn in self.case.exchange]
        return [Saying(answer.status, body=answer.body) for answer in answers]

    def provider(self) -> Provider:
        return account(self.kind, self.name)


@cache
def conversations() -> tuple[Conversation, ...]:
    """Every recorded one in which something is asked."""
    read = [Conversation(path.parent.name, path.stem, read_case(path)) for path in CASES]
    return tuple(one for one in read if one.case.call in FLOWS and one.case.exchange)


@cache
def account(kind: str, name: str) -> Provider:
    case = read_case(Path(__file__).parent.parent / "cases" / kind / f"{name}.json")
    return provider_for(kind, case.settings, case.now)


def misspoken(chance: Random, saying: Saying) -> Saying:
    """Other words mostly; sometimes no answer at all."""
    if chance.random() < 0.03:
        return Saying(failure=NotSent(chance.choice(get_args(Reason))))
    if chance.random() < 0.03:
        return Saying(failure=MaybeSent(chance.choice(get_args(Doubt))))
    return reworded(chance, saying, STATUSES)


def reworded(chance: Random, saying: Saying, statuses: Sequence[int]) -> Saying:
    """Another body mostly; sometimes another status, or headers that nobody asked for."""
    status = chance.choice(statuses) if chance.random() < 0.2 else saying.status
    added = chance.sample(HEADERS, chance.choice((0, 1, 2)))
    headers = [(name.encode(), text.encode("latin-1")) for name, text in added]
    return Saying(status, headers, spoilt(chance, saying.body) if chance.random() < 0.9 else saying.body)


async def outcome(conversation: Conversation, told: Told) -> object:
    """What the flow came to, without a second try of a read."""
    exchange, provider, case = Exchange(wire=told), conversation.provider(), conversation.case
    exchange.lane(provider).retry_tokens = float("-inf")
    return await exchange.run(provider, case.call, FLOWS[case.call](provider, case))


async def tried(conversation: Conversation, sayings: list[Saying]) -> tuple[str, str | None]:
    """The name of what came of it, and what is wrong with that, if anything is."""
    told = Told(sayings)
    try:
        result = await outcome(conversation, told)
    except ProviderError as error:
        return error.code, misnamed(conversation.case.call, told, type(error))
    except Exception as error:  # noqa: BLE001  # it is what is looked for
        return "raised", f"{type(error).__name__}: {error}"
    found = [one for seen in snapshots_in(result) for one in untruths(conversation.kind, seen)]
    return "ok", "; ".join(found) or None


def misnamed(call: str, told: Told, error: type[ProviderError]) -> str | None:
    wrote = any(request.method != "GET" for request in told.heard[:-1])
    writes = told.heard[-1].method != "GET"
    promised = OutcomeUnknown if wrote else after_write(call, told.last) if writes else after_read(told.last)
    refused = call == "cancel" and told.last.status == 409 and error is Rejected
    return None if error is promised or refused else f"{error.__name__} instead of {promised.__name__}"


def after_write(call: str, saying: Saying) -> type[ProviderError]:
    """What a write without a usable answer is called, as it was promised."""
    if isinstance(saying.failure, NotSent):
        return Unavailable
    if saying.failure or saying.status // 100 != 4 or saying.status == 408:
        return OutcomeUnknown
    promised = CLIENT_ERRORS | ON_CREATE if call == "create" else CLIENT_ERRORS
    return promised.get(saying.status, Rejected)


def after_read(saying: Saying) -> type[ProviderError]:
    if isinstance(saying.failure, NotSent):
        return Unavailable
    if saying.failure:
        return DOUBTS.get(saying.failure.why, Unreadable)
    return CLIENT_ERRORS.get(saying.status) or CLASSES.get(saying.status // 100, Unreadable)


async def try_many(count: int, seed: int) -> Tally:
    tally = Tally()
    for name, chance in chances(count, seed):
        await try_one(tally, chance, name)
    return tally


async def try_one(tally: Tally, chance: Random, name: str) -> None:
    conversation = chance.choice(conversations())
    sayings = conversation.sayings()
    at = chance.randrange(len(sayings))
    sayings[at] = misspoken(chance, sayings[at])
    came, wrong = await tried(conversation, sayings)
    tally.outcomes[came] += 1
    if wrong:
        tally.findings.append(f"{name} {conversation.kind} {conversation.name}: {wrong}; {shortened(sayings[at])}")


def shortened(saying: Saying) -> str:
    return f"{saying.status} {saying.failure!r} {saying.body[:2000]!r}"
