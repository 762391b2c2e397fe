"""The only sender to providers, and so the only place that says what a failure means.

What went wrong                        on a write           on a read
refused, DNS, TLS, no seat, 429        nothing happened     nothing happened: may be asked again
no answer, reset, 5xx, 3xx, 408,       OutcomeUnknown       one class each: TimedOut, Faulty, Unreadable
  an answer that makes no sense
401, 403                               Misconfigured        Misconfigured: our credentials, not the caller's fault
404                                    Rejected on create   ProviderNotFound
409 on a create                        AlreadyExists        AlreadyExists: it may be our own earlier try
other 4xx                              Rejected             Rejected: asking again won't help
anything, after a write in this flow   OutcomeUnknown       OutcomeUnknown: step one had happened
"""

import asyncio
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar, cast

import httpx
import msgspec
import structlog
from opentelemetry.trace import Span, Tracer
from pydantic import SecretStr

from app.aside import aside
from app.domain.errors import (
    AlreadyExists,
    Complaint,
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
from app.domain.invoice import Snapshot
from app.lane import Full, Lane, Resting
from app.observe import Figures, answered, asked, cleared, passed_on, upstream
from app.provider import Answer, Call, Flow, Provider, Started
from app.wire import MaybeSent, NotSent

log = structlog.get_logger()

T = TypeVar("T")
D = TypeVar("D", bound=int | None)

MOST_CALLS = 6
LONGEST_RETRY_AFTER = 60
STOPPED_BY_A_PAUSE = frozenset({"create", "checkout"})
PAUSED_SECONDS = 30
LONG_ANSWER = 256 * 1024
LONGEST_WORD = 60
MOST_WORDS = 5
SHORTEST_SECRET = 8

# No database keeps it in a text, and no money may hang on that.
NUL, INSTEAD_OF_NUL = rb"\u0000", rb"\ufffd"

# What a failed reading names: a place in the answer or a missing field, and never what was there.
PLACE = re.compile(r"`(\$[^`]*)`$")
MISSING = re.compile(r"missing required field `(\w+)`")
FIELD = re.compile(r"[A-Za-z]\w{0,39}", re.ASCII)

DOWN = (Unavailable, TimedOut, Faulty, OutcomeUnknown)

READ_STATUS: Mapping[int, type[ProviderError]] = {
    401: Misconfigured,
    403: Misconfigured,
    404: ProviderNotFound,
    408: TimedOut,
    429: Throttled,
}
WRITE_STATUS: Mapping[int, type[ProviderError]] = {**READ_STATUS, 408: OutcomeUnknown}
ON_CREATE: Mapping[int, type[ProviderError]] = {404: Rejected, 409: AlreadyExists}
READ_CLASS: Mapping[int, type[ProviderError]] = {4: Rejected, 5: Faulty}
WRITE_CLASS: Mapping[int, type[ProviderError]] = {4: Rejected}
READ_WIRE: Mapping[str, type[ProviderError]] = {"timeout": TimedOut, "closed": Faulty}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One call and what came of it: `path` is a template, `outcome` is `ok` or the code of the error."""

    about: str | None
    provider: str
    operation: str
    method: str
    path: str
    attempt: int
    status: int | None
    outcome: str
    ms: float
    request: bytes | None
    answer: bytes | None


@dataclass(slots=True, kw_only=True)
class Trip:
    """One flow under way: whose, to which end, until when, and whether one of its writes has been taken.

    `about` is the id of the invoice that it is about, if it is about one.
    """

    provider: Provider
    operation: str
    ends: float
    about: str | None = None
    wrote: bool = False
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Carries flows out over HTTP; whoever listens hears of every call, and `figures` count it."""

    wire: httpx.AsyncBaseTransport
    listener: Callable[[Heard], None] = lambda _: None
    figures: Figures = field(default_factory=Figures)
    tracer: Tracer | None = None
    clock: Callable[[], float] = time.monotonic
    lanes: dict[str, Lane] = field(default_factory=dict)

    def lane(self, provider: Provider) -> Lane:
        return self.lanes.setdefault(provider.name, Lane(self.clock))

    async def run(self, provider: Provider, operation: str, flow: Flow[T], about: str | None = None) -> T:
        """Send each call the flow yields, hand back each answer, return its result; ProviderError says why not."""
        trip = Trip(provider=provider, operation=operation, ends=self.clock() + provider.timeout, about=about)
        if operation in STOPPED_BY_A_PAUSE and self.lane(provider).paused:
            raise self._refused(trip, "is paused by an operator", PAUSED_SECONDS)
        try:
            return await self._flown(trip, flow)
        except ProviderError as error:
            error.complaint = sayable(provider, error.complaint)
            raise

    async def _flown(self, trip: Trip, flow: Flow[T]) -> T:
        answer: Answer | None = None
        for _ in range(MOST_CALLS + 1):
            try:
                call, result = await advanced(flow, answer)
            except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
                self._drifted(trip, [place_of(error)])
                raise self._unreadable(trip, f"gave an answer to {trip.operation} that makes no sense") from error
            if call is None:
                self._drifted(trip, list(strange_words(result)))
                return cast("T", result)
            with aside():
                answer = await self._ask(trip, call)
        raise RuntimeError(f"a flow may send {MOST_CALLS} calls, not more")

    async def _ask(self, trip: Trip, call: Call) -> Answer:
        """One call, and for a read one more try within the deadline and the lane's budget."""
        try:
            return await self._send(trip, call)
        except (Unavailable, TimedOut, Faulty) as error:
            pause = random.uniform(0.05, 0.25)  # noqa: S311  # jitter, no secret
            spare = trip.ends - self.clock() - pause
            refused = isinstance(error.__cause__, Full | Resting)
            if call.writes or trip.wrote or refused or spare <= 0 or not self.lane(trip.provider).may_retry():
                raise
        await asyncio.sleep(pause)
        trip.attempt += 1
        return await self._send(trip, call)

    async def _send(self, trip: Trip, call: Call) -> Answer:
        lane, began = self.lane(trip.provider), self.clock()
        try:
            async with lane.seat(trip.ends - began):
                seated = self.clock()
                self.figures.waited(trip.provider.name, seated - began)
                with upstream(), asked(self.tracer, trip.provider.name, trip.operation, call.method, call.path) as span:
                    answer = await self._exchanged(trip, call, span)
                    answered(span, *outcome_of(answer))
                took = (self.clock() - seated) * 1000
                if isinstance(answer, DOWN):
                    lane.failed(took, answer.code)
                else:
                    lane.succeeded(took, refused=isinstance(answer, Misconfigured))
        except Resting as error:
            raise self._refused(trip, "has been failing and is given a rest", int(error.seconds + 1)) from error
        except Full as error:
            self.figures.waited(trip.provider.name, self.clock() - began)
            raise self._refused(trip, "has as many calls under way as it may have", 1) from error
        self._tell(trip, call, answer, took)
        if isinstance(answer, ProviderError):
            raise answer
        trip.wrote = trip.wrote or call.writes
        return answer

    async def _exchanged(self, trip: Trip, call: Call, span: Span) -> Answer | ProviderError:
        """The answer, or the error that names what happened instead of a usable one."""
        extensions = {"seconds": max(trip.ends - self.clock(), 0.001), "cap": call.cap}
        headers = [*call.headers.items(), *call.credentials.items(), *passed_on(span)]
        request = httpx.Request(call.method, call.url, headers=headers, content=call.body, extensions=extensions)
        try:
            response = await self.wire.handle_async_request(request)
        except NotSent as error:
            return caused(self._not_sent(trip, error.why), error)
        except MaybeSent as error:
            return caused(self._no_answer(trip, call, error.why), error)
        body = response.content.replace(NUL, INSTEAD_OF_NUL)
        answer = Answer(status=response.status_code, headers=response.headers, body=body)
        if answer.status // 100 == 2 or answer.status in call.accepts:
            return answer
        return self._failure(trip, call, answer)

    def _not_sent(self, trip: Trip, why: str) -> ProviderError:
        if trip.wrote:
            return self._unknown(trip, f"could not be reached for the second step ({why})")
        return self._refused(trip, f"could not be reached ({why})", 1)

    def _no_answer(self, trip: Trip, call: Call, why: str) -> ProviderError:
        if call.writes or trip.wrote:
            return self._unknown(trip, f"gave no usable answer to {trip.operation} ({why})")
        error = READ_WIRE.get(why, Unreadable)
        return error(f"{trip.provider.name} gave no usable answer ({why}).", provider=trip.provider.name)

    def _failure(self, trip: Trip, call: Call, answer: Answer) -> ProviderError:
        complaint = complaint_of(trip.provider, answer)
        if answer.body and complaint == Complaint(http_status=answer.status) and speaks(trip.provider):
            self._drifted(trip, [f"error {answer.status}"])
        by_status, by_class = (WRITE_STATUS, WRITE_CLASS) if call.writes else (READ_STATUS, READ_CLASS)
        if trip.operation == "create":
            by_status = {**by_status, **ON_CREATE}
        odd = OutcomeUnknown if call.writes else Unreadable
        error = by_status.get(answer.status) or by_class.get(answer.status // 100, odd)
        if trip.wrote:
            error = OutcomeUnknown
        return error(
            f"{trip.provider.name} answered {answer.status} to {trip.operation}.",
            provider=trip.provider.name,
            complaint=complaint,
            retry_after=seconds_of(answer.headers.get("retry-after"), default=1 if error.retryable else None),
        )

    def _unreadable(self, trip: Trip, what: str) -> ProviderError:
        if trip.wrote:
            return self._unknown(trip, what)
        return Unreadable(f"{trip.provider.name} {what}.", provider=trip.provider.name)

    def _unknown(self, trip: Trip, what: str) -> ProviderError:
        return OutcomeUnknown(f"{trip.provider.name} {what}.", provider=trip.provider.name, retry_after=1)

    def _refused(self, trip: Trip, what: str, retry_after: int) -> ProviderError:
        return Unavailable(f"{trip.provider.name} {what}.", provider=trip.provider.name, retry_after=retry_after)

    def _tell(self, trip: Trip, call: Call, answer: Answer | ProviderError, ms: float) -> None:
        status, outcome = outcome_of(answer)
        heard = Heard(
            about=trip.about,
            provider=trip.provider.name,
            operation=trip.operation,
            method=call.method,
            path=call.path,
            attempt=trip.attempt,
            status=status,
            outcome=outcome,
            ms=round(ms, 1),
            request=call.body,
            answer=None if isinstance(answer, ProviderError) else masked(trip.provider, answer.body),
        )
        self.listener(heard)
        self.figures.called(heard.provider, heard.operation, heard.outcome, ms / 1000)
        log.info(
            "provider.answered",
            invoice_id=heard.about,
            provider=heard.provider,
            operation=heard.operation,
            method=heard.method,
            path=heard.path,
            attempt=heard.attempt,
            status=heard.status,
            outcome=heard.outcome,
            ms=heard.ms,
        )

    def _drifted(self, trip: Trip, found: Sequence[str]) -> None:
        """A provider has said what we don't know: each is a status word, a place in an answer, or a failed status."""
        if found:
            name = trip.provider.name
            self.lane(trip.provider).drift += len(found)
            self.figures.drifted(name, len(found))
            log.warning(
                "provider.drifted", provider=name, operation=trip.operation, what=sorted(set(found))[:MOST_WORDS]
            )


async def advanced(flow: Flow[T], answer: Answer | None) -> tuple[Call | None, T | None]:
    """The next call of the flow, or its result; what is long to read is read beside the loop."""
    if answer is not None and len(answer.body) > LONG_ANSWER:
        return await asyncio.to_thread(step, flow, answer)
    return step(flow, answer)


def step(flow: Flow[T], answer: Answer | None) -> tuple[Call | None, T | None]:
    try:
        return flow.send(answer), None  # type: ignore[arg-type]  # None starts a generator
    except StopIteration as done:
        return None, done.value


def strange_words(result: object) -> Iterator[str]:
    """The status words in what a flow found that are none that we know."""
    match result:
        case Snapshot(status=None, word=str(word)):
            yield word[:LONGEST_WORD]
        case Started(snapshot=snapshot):
            yield from strange_words(snapshot)
        case list() | tuple():
            for each in result:
                yield from strange_words(each)


def place_of(error: Exception) -> str:
    """Where in an answer something is missing or of another type; else, the kind of the error."""
    match error:
        case msgspec.ValidationError():
            text = str(error)
            place, missing = PLACE.search(text), MISSING.search(text)
            return ".".join([place[1] if place else "$", *(missing.groups() if missing else ())])
        case KeyError(args=(str(name),)) if FIELD.fullmatch(name):
            return f"$.{name}"
    return type(error).__name__


def outcome_of(answer: Answer | ProviderError) -> tuple[int | None, str]:
    """The status that the provider answered with, if it did, and what that is told as."""
    if isinstance(answer, ProviderError):
        return answer.complaint.http_status, answer.code
    return answer.status, "ok"


def caused(error: ProviderError, cause: Exception) -> ProviderError:
    error.__cause__ = cause
    return error


def complaint_of(provider: Provider, answer: Answer) -> Complaint:
    try:
        return provider.complaint(answer)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return Complaint(http_status=answer.status)


def speaks(provider: Provider) -> bool:
    """Whether the form of its errors is known at all."""
    return type(provider).complaint is not Provider.complaint


def sayable(provider: Provider, said: Complaint) -> Complaint:
    """As our callers may be told it."""
    code, message = (
        None if text is None else cleared(masked(provider, text.encode(errors="replace")).decode())
        for text in (said.code, said.message)
    )
    return replace(said, code=code, message=message)


def masked(provider: Provider, body: bytes) -> bytes:
    """Without our own credentials, which a provider may repeat."""
    for secret in secrets_of(provider):
        body = body.replace(secret.encode(), b"[redacted]")
    return body


def secrets_of(provider: Provider) -> Iterator[str]:
    """Those that are long enough to be told from an ordinary word."""
    for _, held in provider:
        for each in held if isinstance(held, tuple) else (held,):
            if isinstance(each, SecretStr) and len(each) >= SHORTEST_SECRET:
                yield each.get_secret_value()


def seconds_of(retry_after: str | None, *, default: D, longest: int = LONGEST_RETRY_AFTER) -> int | D:
    """Retry-After in whole seconds, from either of its forms, not too many; the default where it makes no sense."""
    if retry_after is None:
        return default
    if retry_after.isascii() and retry_after.isdigit():
        return min(int(retry_after[:6]), longest)
    try:
        wait = parsedate_to_datetime(retry_after) - datetime.now(UTC)
    except (TypeError, ValueError, OverflowError):
        return default
    return min(max(int(wait.total_seconds()), 1), longest)
